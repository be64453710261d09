//! What comes out of the spool: the oldest batch, and at the start what an earlier process has left.
//!
//! Invariant: nothing is given up because the disk cannot be used now (no descriptor is free, the file
//! system is read-only): only what is damaged or gone, and what cannot be read again and again.

use taffrail_kit::journal::{self, Journal};

use super::frame::{self, Frame};
use super::{Error, Pending, Spool};
use crate::batch::Batch;

/// How often a batch that the disk refuses to read is tried before it counts as damaged: with one try a
/// second, five minutes. A sector that is gone for good must not hold up all that was read later.
const READS_MAX: u32 = 300;

/// What is next to be sent.
#[derive(Debug, Default)]
pub enum Oldest<T = Batch> {
    /// This batch, with its number.
    Batch(u64, T),
    /// Nothing waits.
    #[default]
    Empty,
    /// The disk does not give it now: to be asked again in a while.
    Later,
}

impl<T> Oldest<T> {
    /// The same with the batch as something else.
    pub fn map<U>(self, work: impl FnOnce(T) -> U) -> Oldest<U> {
        match self {
            Self::Batch(seq, batch) => Oldest::Batch(seq, work(batch)),
            Self::Empty => Oldest::Empty,
            Self::Later => Oldest::Later,
        }
    }
}

/// Whether an error is one of the bytes themselves, which will not go away by itself.
fn is_lasting(error: &Error) -> bool {
    let Error::Journal(journal::Error::Io { action, cause, .. }) = error else { return false };
    *action == "read" || cause.kind() == std::io::ErrorKind::NotFound
}

/// Why a batch is not to be had.
enum Unread {
    /// It never will be.
    Damaged(String),
    /// It may be later.
    Later(Error),
}

impl Spool {
    /// The oldest batch that waits. What is damaged is left out.
    pub fn oldest(&mut self) -> Oldest {
        while let Some(Pending { seq, .. }) = self.pending.front().copied() {
            match self.read(seq) {
                Ok(batch) => {
                    if std::mem::take(&mut self.failed_reads) > 0 && self.problem.is_none() {
                        self.view.update(|overview| overview.problem = None);
                    }
                    return Oldest::Batch(seq, batch);
                }
                Err(Unread::Later(error))
                    if !is_lasting(&error) || self.failed_reads < READS_MAX =>
                {
                    self.wait_for(seq, &error);
                    return Oldest::Later;
                }
                Err(Unread::Later(error)) => self.leave_out(seq, &error.to_string()),
                Err(Unread::Damaged(reason)) => self.leave_out(seq, &reason),
            }
        }
        Oldest::Empty
    }

    fn wait_for(&mut self, seq: u64, error: &Error) {
        if self.failed_reads == 0 {
            tracing::warn!(seq, %error, "a batch of the spool cannot be read now");
        }
        self.failed_reads += u32::from(is_lasting(error) || self.failed_reads == 0);
        self.metrics.failed(error.reason());
        self.view.update(|overview| overview.problem = Some(error.to_string()));
    }

    fn leave_out(&mut self, seq: u64, reason: &str) {
        tracing::error!(seq, reason, "a batch of the spool is damaged and left out");
        self.metrics.damaged();
        self.delivered(seq);
    }

    fn read(&mut self, seq: u64) -> Result<Batch, Unread> {
        let open = self.opened().map_err(Unread::Later)?;
        for _again in 0..2 {
            let reader = open.reader.get_or_insert_with(|| open.journal.read_from(seq));
            for frame in reader {
                match frame {
                    Ok(frame) if frame.seq < seq => {}
                    Ok(frame) if frame.seq == seq => {
                        let decoded = frame::decode_batch(&frame.payload);
                        return decoded.map_err(|e| Unread::Damaged(e.to_string()));
                    }
                    Ok(_) => break,
                    Err(error @ journal::Error::Io { .. }) => {
                        open.reader = None;
                        return Err(Unread::Later(error.into()));
                    }
                    Err(error) => tracing::error!(%error, "the spool is damaged"),
                }
            }
            // It tells of the frames that were there when it was made.
            open.reader = None;
        }
        Err(Unread::Damaged("it is not there".into()))
    }

    /// Learns what is in the journal. Nothing has changed when the disk does not give it.
    pub(super) fn index(&mut self, journal: &Journal) -> Result<(), Error> {
        let (mut pending, mut ends) = (std::collections::VecDeque::new(), Vec::new());
        let (mut delivered, mut ledger, mut damaged) = (self.delivered, None, 0);
        for frame in journal.read_from(0) {
            let decoded = match frame {
                Ok(frame) => frame::decode(&frame.payload)
                    .map(|decoded| (frame.seq, decoded))
                    .map_err(|e| e.to_string()),
                Err(error @ journal::Error::Io { .. }) => return Err(error.into()),
                Err(error) => Err(error.to_string()),
            };
            match decoded {
                Ok((seq, Frame::Batch { written, spans })) => {
                    pending.push_back(Pending { seq, written });
                    ends.extend(spans.into_iter().map(|s| (s.source, (s.end, s.check))));
                }
                Ok((_, Frame::Ledger { delivered: upto, entries })) => {
                    delivered = delivered.max(upto);
                    ledger = Some(entries);
                }
                Err(error) => {
                    tracing::error!(error, "a frame of the spool cannot be read");
                    damaged += 1;
                }
            }
        }
        (0..damaged).for_each(|_| self.metrics.damaged());
        while pending.front().is_some_and(|p| p.seq <= delivered) {
            pending.pop_front();
        }
        if pending.is_empty() {
            ends.clear();
        } else {
            tracing::info!(frames = pending.len(), "batches wait in the spool");
        }
        (self.pending, self.delivered) = (pending, delivered);
        self.ends = ends.into_iter().collect();
        if let Some(ledger) = ledger {
            self.ledger = ledger;
        }
        Ok(())
    }
}
