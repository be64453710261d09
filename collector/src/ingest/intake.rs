//! From a decoded request to an acknowledgement: the order of things that makes delivery exact.
//!
//! Under one lock a store: ranges are checked against the positions of everything applied so far, the
//! request is appended to the write-ahead log, and applied to the store. So frames, positions and
//! what readers see have one order. Outside the lock the request waits until its frame survives a
//! power cut, and only then is it answered. An answer that tells of committed positions, or that a
//! batch was there already, waits for the frames that it rests on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use taffrail_kit::journal::Journal;
use taffrail_model::record::Position;

use super::batch::{LogPart, admit, admit_again};
use super::decode;
use super::refusal::Refusal;
use crate::logs::{LogStore, LogStoreConfig};
use crate::metrics::{MetricStore, MetricStoreConfig};
use crate::wal::{self, FrameError, Received};

/// Frames of samples that are replayed between two looks whether the store is due.
const REPLAY_FRAMES: u64 = 64;

/// What waits for the disk: the frame to wait for, and what to answer then.
#[derive(Debug)]
pub struct Pending<T> {
    /// Number of the frame; all before it count too.
    pub seq: u64,
    /// The answer.
    pub answer: Result<T, Refusal>,
}

/// What was stored of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Lines or samples that are new.
    pub items: u64,
    /// Samples that were refused while the rest was stored.
    pub rejected: u64,
    /// Why they were refused.
    pub reason: String,
}

/// The log store and its write-ahead log.
pub struct LogIntake {
    /// The store.
    pub store: Arc<LogStore>,
    /// Its write-ahead log.
    pub wal: Journal,
    order: Mutex<()>,
}

impl LogIntake {
    /// Opens store and log, and applies to the store what only the log holds.
    ///
    /// # Errors
    /// When either cannot be opened.
    pub fn open(config: LogStoreConfig, wal_dir: &Path) -> anyhow::Result<Self> {
        let opened = LogStore::open(config).context("open the log store")?;
        let wal = wal::open(wal_dir, "logs", opened.replay_from)
            .context("open the write-ahead log of the log store")?;
        let intake = Self { store: opened.store, wal, order: Mutex::new(()) };
        intake.replay(opened.replay_from, wal_dir)?;
        Ok(intake)
    }

    fn replay(&self, from: u64, wal_dir: &Path) -> anyhow::Result<()> {
        let (mut frames, mut writable) = (0_u64, true);
        for frame in self.wal.read_from(from) {
            let Some((seq, payload)) = readable("logs", frame) else { continue };
            let parts = decoded(wal_dir, seq, &payload, decode::logs)?.unwrap_or_default();
            let (admitted, misfits) = admit_again(parts, |source| self.store.position(source));
            if misfits > 0 {
                tracing::error!(wal = "logs", seq, misfits, "a frame does not continue its files");
            }
            self.store.apply(seq, admitted.streams, &admitted.ranges);
            frames += 1;
            if writable && self.store.is_full() {
                writable = written("logs", &self.store.flush());
            }
        }
        tracing::info!(wal = "logs", from, frames, "replayed");
        Ok(())
    }

    fn in_order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what is new of a batch. Blocks for as long as a write into the page cache takes.
    ///
    /// # Errors
    /// When nothing could be stored; nothing has changed then.
    pub fn commit(
        &self,
        received: &Received<'_>,
        parts: Vec<LogPart>,
    ) -> Result<Pending<Stored>, Refusal> {
        let _order = self.in_order();
        let admitted = match admit(parts, |source| self.store.position(source)) {
            Ok(admitted) => admitted,
            Err(positions) => {
                let answer = Err(Refusal::Conflict(positions));
                return Ok(Pending { seq: self.wal.last_seq(), answer });
            }
        };
        if admitted.is_empty() {
            return Ok(Pending { seq: self.wal.last_seq(), answer: Ok(Stored::default()) });
        }
        let lines = admitted.streams.iter().map(|stream| stream.entries.len() as u64).sum();
        let seq = received.append_to(&self.wal)?;
        self.store.apply(seq, admitted.streams, &admitted.ranges);
        Ok(Pending { seq, answer: Ok(Stored { items: lines, ..Stored::default() }) })
    }

    /// The positions of all files whose identity begins with `prefix`.
    pub fn positions(&self, prefix: &str) -> Pending<Vec<Position>> {
        let _order = self.in_order();
        Pending { seq: self.wal.last_seq(), answer: Ok(self.store.positions(prefix)) }
    }
}

/// The metric store and its write-ahead log.
pub struct MetricIntake {
    /// The store.
    pub store: Arc<MetricStore>,
    /// Its write-ahead log.
    pub wal: Journal,
    order: Mutex<()>,
    /// Bytes of samples in memory from which on nothing is taken: the store cannot write them, or
    /// not fast enough.
    head_bytes_max: u64,
    full: AtomicBool,
}

impl MetricIntake {
    /// Opens store and log, and applies to the store what only the log holds.
    ///
    /// # Errors
    /// When either cannot be opened.
    pub fn open(config: MetricStoreConfig, wal_dir: &Path) -> anyhow::Result<Self> {
        let head_bytes_max = (config.head_bytes_max as u64).saturating_mul(3);
        let opened = MetricStore::open(config).context("open the metric store")?;
        let wal = wal::open(wal_dir, "metrics", opened.replay_from)
            .context("open the write-ahead log of the metric store")?;
        let intake = Self {
            store: opened.store,
            wal,
            order: Mutex::new(()),
            head_bytes_max,
            full: AtomicBool::new(false),
        };
        intake.replay(opened.replay_from, wal_dir)?;
        Ok(intake)
    }

    fn replay(&self, from: u64, wal_dir: &Path) -> anyhow::Result<()> {
        let (mut frames, mut writable) = (0_u64, true);
        for frame in self.wal.read_from(from) {
            let Some((seq, payload)) = readable("metrics", frame) else { continue };
            if let Some(decoded) = decoded(wal_dir, seq, &payload, decode::metrics)? {
                self.store.apply(seq, &decoded.series);
            }
            frames += 1;
            if writable && frames.is_multiple_of(REPLAY_FRAMES) {
                writable = written("metrics", &self.store.tick());
            }
        }
        tracing::info!(wal = "metrics", from, frames, "replayed");
        Ok(())
    }

    /// Looks whether there is room for more samples; called every second or so.
    pub fn look(&self) {
        let full = self.store.stats().head_bytes > self.head_bytes_max;
        self.full.store(full, Ordering::Relaxed);
    }

    /// Stores the samples of a request. Blocks for as long as a write into the page cache takes.
    ///
    /// # Errors
    /// When nothing could be stored; nothing has changed then.
    pub fn commit(&self, received: &Received<'_>) -> Result<Pending<Stored>, Refusal> {
        if self.full.load(Ordering::Relaxed) {
            return Err(Refusal::Full("the metric store is writing to disk".into()));
        }
        let decoded = decode::metrics(received)?;
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if decoded.series.is_empty() {
            let stored = Stored { items: 0, rejected: decoded.rejected, reason: decoded.reason };
            return Ok(Pending { seq: self.wal.last_seq(), answer: Ok(stored) });
        }
        let seq = received.append_to(&self.wal)?;
        let applied = self.store.apply(seq, &decoded.series);
        let mut reasons = Vec::from_iter((!decoded.reason.is_empty()).then_some(decoded.reason));
        let mut rejected = decoded.rejected;
        let refused = [
            (applied.too_old, "are too old"),
            (applied.too_new, "are ahead of the clock"),
            (applied.over_limit, "are of new series beyond the limit"),
        ];
        for (samples, why) in refused.into_iter().filter(|(samples, _)| *samples > 0) {
            rejected += samples;
            reasons.push(format!("{samples} samples {why}"));
        }
        let stored = Stored { items: applied.accepted, rejected, reason: reasons.join("; ") };
        Ok(Pending { seq, answer: Ok(stored) })
    }
}

type ReadFrame = Result<taffrail_kit::journal::Frame, taffrail_kit::journal::Error>;

/// A frame for replay; what cannot be read is reported and left out.
fn readable(wal: &str, frame: ReadFrame) -> Option<(u64, Vec<u8>)> {
    match frame {
        Ok(frame) => Some((frame.seq, frame.payload)),
        Err(error) => {
            tracing::error!(wal, %error, "acknowledged frames cannot be read");
            None
        }
    }
}

/// Whether a store could be written during replay. When not (the disk is full, most likely), all that
/// is replayed stays in memory, as it did before the process ended: a start that fails would only
/// be tried again, and nobody could read what is there.
fn written<T>(wal: &str, outcome: &Result<T, impl std::fmt::Display>) -> bool {
    if let Err(error) = outcome {
        tracing::error!(wal, %error, "cannot write the store during replay, going on in memory");
    }
    outcome.is_ok()
}

/// Decodes a replayed frame. One of another version stops the start: what was acknowledged is in it,
/// and the program that wrote it can read it. One that makes no sense is kept aside, so that the log
/// may be cut behind it and nothing is gone.
fn decoded<T>(
    wal_dir: &Path,
    seq: u64,
    payload: &[u8],
    decode: impl Fn(&Received<'_>) -> Result<T, Refusal>,
) -> anyhow::Result<Option<T>> {
    let decoded = match Received::parse(payload) {
        Err(error @ FrameError::Version(_)) => {
            let log = wal_dir.display();
            bail!("{log}, frame {seq}: {error}; run the version that wrote it");
        }
        Err(error) => Err(error.to_string()),
        Ok(received) => decode(&received).map_err(|refusal| refusal.to_string()),
    };
    match decoded {
        Ok(decoded) => Ok(Some(decoded)),
        Err(reason) => {
            let kept = wal::set_aside(wal_dir, seq, payload)?;
            tracing::error!(seq, reason, kept = %kept.display(), "a frame cannot be decoded");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens both in a folder, with these frames appended to the log of an earlier run.
    fn reopened(dir: &Path, frames: &[&[u8]]) -> anyhow::Result<LogIntake> {
        let open = || LogIntake::open(LogStoreConfig::new(dir.join("logs")), &dir.join("wal"));
        let first = open()?;
        for frame in frames {
            let seq = first.wal.append(&[frame])?;
            first.wal.durable_blocking(seq)?;
        }
        drop(first);
        open()
    }

    #[test]
    fn a_frame_of_another_version_stops_the_start() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = reopened(dir.path(), &[&[9; 40]]).err().expect("version 9 is not ours");
        let text = format!("{error:#}");
        assert!(text.contains("version 9") && text.contains("run the version"), "{text}");
    }

    #[test]
    fn a_frame_that_makes_no_sense_is_kept_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        let frames: [&[u8]; 2] = [&[1, 200], &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF]];
        reopened(dir.path(), &frames).expect("it starts");
        let mut kept: Vec<Vec<u8>> = std::fs::read_dir(dir.path().join("wal-undecodable"))
            .expect("the folder is there")
            .map(|entry| std::fs::read(entry.expect("readable").path()).expect("readable"))
            .collect();
        kept.sort();
        let mut expected = frames.map(<[u8]>::to_vec);
        expected.sort();
        assert_eq!(kept, expected);
    }
}
