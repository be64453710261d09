//! Erasing what deletion requests hide: segments are written anew without it.
//!
//! A request that is old enough begins to be erased: the memtable is written, so that all its lines are
//! in segments below a number, the **cut**, and the lines are counted for the record. Then each segment
//! below the cut is looked through; one with lines of it is merged with nothing but itself, which leaves
//! them out (as every merge does, see `compact`). When none is left, their files are gone, and the
//! write-ahead log has cut off what it had of them, the record says so and nothing needs to be hidden any
//! more.
//!
//! A crash at any point leaves the lines hidden: what is done is seen from the segments, which name the
//! requests they are rid of, and the rest is done again.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use taffrail_kit::journal::{self, Journal};
use taffrail_model::{Nanos, TimeRange};

use super::block::Decoder;
use super::deletions::record::{Begun, Record, Step};
use super::hidden::{Hidden, Hide, Hiding, MayHide};
use super::segment::Segment;
use super::{Error, LogStore, files, manifest, open};

/// Lines of a request, and bytes of their text.
type Found = (u64, u64);

impl LogStore {
    /// Erases what deletion requests have hidden for long enough. Rewrites segments, which takes seconds
    /// for each hundred megabytes: to be called now and then on a thread of its own. `wal` is the
    /// write-ahead log, if there is one; who cuts it does so beside this.
    ///
    /// # Errors
    /// When a file cannot be written. What is not erased stays hidden, and the next call goes on.
    pub fn erase(&self, now: Nanos, wal: Option<&Journal>) -> Result<(), Error> {
        let _one_at_a_time = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = i64::try_from(self.config.delete_after.as_nanos()).unwrap_or(i64::MAX);
        let due = self.deletions().due(now.saturating_sub(wait));
        let mut decoder = self.decoder()?;
        for record in due {
            self.begin_erasing(&record, (now, wal), &mut decoder)?;
        }
        let erasing = self.erasing();
        if erasing.is_empty() {
            return Ok(());
        }
        self.rewrite(&erasing, &mut decoder)?;
        if self.ending.check().is_ok() {
            self.end_erasing(&erasing, wal.map_or(u64::MAX, Journal::oldest_seq))?;
        }
        Ok(())
    }

    fn decoder(&self) -> Result<Decoder, Error> {
        Decoder::new().map_err(Error::io("decompress for", &self.config.dir))
    }

    /// The requests that are being erased.
    pub(super) fn erasing(&self) -> Vec<Arc<Hide>> {
        self.state().hides.iter().filter(|hide| hide.is_erasing()).cloned().collect()
    }

    fn hiding(&self, hides: &[Arc<Hide>]) -> Hiding {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        Hiding::new(hides, TimeRange::ALL, &streams)
    }

    /// Makes the cut and counts what will go. Segments that have nothing of it are marked.
    pub(super) fn begin_erasing(
        &self,
        record: &Record,
        (now, wal): (Nanos, Option<&Journal>),
        decoder: &mut Decoder,
    ) -> Result<(), Error> {
        let cut = {
            let mut keeper = self.keeper();
            self.write_frozen(&mut keeper)?;
            self.freeze();
            self.write_frozen(&mut keeper)?;
            keeper.next_segment
        };
        let wal = wal.map(Journal::turn_over).transpose().map_err(|error| self.no_turn(error))?;
        let hides = self.state().hides.to_vec();
        let Some(hide) = hides.into_iter().find(|hide| hide.id() == record.id) else {
            return Ok(());
        };
        let hiding = self.hiding(std::slice::from_ref(&hide));
        let (mut lines, mut bytes) = (0, 0);
        let segments = Arc::clone(&self.state().segments);
        for segment in segments.iter().filter(|segment| segment.meta().order < cut) {
            let found = self.count_hidden(&hiding, &hide, segment, decoder);
            // Not now: the count would be part of the truth.
            let Some(found) = found else { return Ok(()) };
            lines += found.0;
            bytes += found.1;
        }
        let step =
            Step::Erasing(Begun { at: now, cut, wal: wal.unwrap_or_default(), lines, bytes });
        let mut deletions = self.deletions();
        // It may have been cancelled meanwhile.
        if deletions.get(record.id).is_none_or(|record| record.step != Step::Received) {
            return Ok(());
        }
        deletions.advance(record.id, step)?;
        let advanced = deletions.get(record.id).map(|record| Arc::new(hide.advanced(record)));
        self.change_hides(|hides| {
            hides.retain(|hide| hide.id() != record.id);
            hides.extend(advanced);
        });
        tracing::info!(id = record.name(), lines, bytes, cut, "delete request: erasing begins");
        Ok(())
    }

    /// What a segment has of a request; one that has nothing is marked. None when it is time to stop.
    fn count_hidden(
        &self,
        hiding: &Hiding,
        hide: &Hide,
        segment: &Segment,
        decoder: &mut Decoder,
    ) -> Option<Found> {
        let (mut lines, mut bytes) = (0, 0);
        if !hide.concerns(Some(segment)) {
            return Some((0, 0));
        }
        let may_have = MayHide::new(hiding);
        for (number, header) in (0..).zip(segment.headers()) {
            self.ending.check().ok()?;
            match hiding.of(header.stream, (header.first, header.last), Some(segment)) {
                Hidden::All => {
                    lines += u64::from(header.rows);
                    bytes += u64::from(header.text_bytes.saturating_sub(header.rows));
                }
                Hidden::By(by) if by.is_empty() => {}
                Hidden::By(_) => {
                    let found = segment.look(number as usize, decoder, |block, decoder| {
                        hiding.count(0, &may_have, (segment, number), (block, decoder))
                    });
                    let found = found.unwrap_or_default();
                    lines += found.0;
                    bytes += found.1;
                }
            }
        }
        if lines == 0 && !segment.is_damaged() {
            segment.be_rid_of(hide.id());
        }
        Some((lines, bytes))
    }

    /// Writes the segments anew that have lines of these requests.
    fn rewrite(&self, erasing: &[Arc<Hide>], decoder: &mut Decoder) -> Result<(), Error> {
        let segments = Arc::clone(&self.state().segments);
        let hidings: Vec<Hiding> =
            erasing.iter().map(|hide| self.hiding(std::slice::from_ref(hide))).collect();
        for segment in segments.iter().filter(|segment| !segment.is_damaged()) {
            let mut lines = 0;
            let concerned = erasing.iter().zip(&hidings);
            for (hide, hiding) in concerned.filter(|(hide, _)| hide.concerns(Some(segment))) {
                let found = self.count_hidden(hiding, hide, segment, decoder);
                let Some(found) = found else { return Ok(()) };
                lines += found.0;
            }
            if lines > 0 && self.compact_group(std::slice::from_ref(segment))? {
                self.counters.rewritten.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    fn no_turn(&self, error: journal::Error) -> Error {
        let doing = "turn over the write-ahead log of";
        Error::io(doing, &self.config.dir)(std::io::Error::other(error))
    }

    /// Ends the requests of which no segment has anything, nor the write-ahead log, whose oldest frame
    /// is given.
    fn end_erasing(&self, erasing: &[Arc<Hide>], oldest: u64) -> Result<(), Error> {
        let segments = Arc::clone(&self.state().segments);
        let is_done = |hide: &&Arc<Hide>| !segments.iter().any(|s| hide.concerns(Some(s)));
        let done: Vec<_> = erasing.iter().filter(is_done).collect();
        if done.is_empty() {
            return Ok(());
        }
        // The segments that had them are gone for good before that is recorded.
        if !self.remove_left_over()? {
            return Ok(());
        }
        for hide in done {
            let mut deletions = self.deletions();
            let Some(begun) = deletions.get(hide.id()).and_then(Record::begun) else { continue };
            if oldest < begun.wal {
                continue;
            }
            let ended = taffrail_kit::clock::unix_nanos();
            deletions.advance(hide.id(), Step::Processed { begun, ended })?;
            self.change_hides(|hides| hides.retain(|other| other.id() != hide.id()));
            tracing::info!(id = hide.id(), lines = begun.lines, "delete request is carried out");
        }
        Ok(())
    }

    /// Removes what may be left of segments that count no more, durably. Not while a failed write has
    /// left it open which manifest a restart would find.
    fn remove_left_over(&self) -> Result<bool, Error> {
        let keeper = self.keeper();
        if manifest::read(&self.config.dir)?.as_ref() != Some(&keeper.manifest) {
            return Ok(false);
        }
        open::remove_orphans(&self.config.dir, &keeper.manifest)?;
        files::sync_dir(&self.segments_dir())?;
        Ok(true)
    }

    /// Whether damage keeps a request from being carried out.
    pub(super) fn is_stuck(&self, id: u64) -> bool {
        let state = self.state();
        let hide = state.hides.iter().find(|hide| hide.id() == id);
        hide.is_some_and(|hide| {
            state.segments.iter().any(|s| s.is_damaged() && hide.concerns(Some(s)))
        })
    }
}
