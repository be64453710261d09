//! From memtable to segments: freeze, write, name, swap.
//!
//! The order is what makes it safe: (1) the active memtable is frozen and a new one takes its place;
//! (2) its rows become one segment for each UTC day (neighbouring days share
//! one when there are very many), synced; (3) new streams are appended to the
//! table of streams, synced; (4) the manifest names all that, with the positions as of the last
//! frozen frame; (5) readers get the segments in place of the frozen memtable. A failure before (4)
//! leaves everything as it was: the frozen memtable stays readable and is tried again, and what was
//! written is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use taffrail_model::time::utc_day;

use super::manifest::{self, Manifest};
use super::memtable::{Chunk, Memtable, is_full};
use super::meta::{FlushNote, Origin};
use super::rows::Rows;
use super::segment::Segment;
use super::segment_writer::{self, SegmentWriter};
use super::{Error, Frozen, Keeper, LogStore, files};

/// Fast, and within a quarter of the best; compaction does better.
const ZSTD_LEVEL: i32 = 1;

/// Most segments of one flush. Each costs an index and an open file, and clients can write any date.
const SEGMENTS_MAX: usize = 64;

impl LogStore {
    /// Writes the memtable to segments now and waits until they are durable. For the end of the
    /// process, and tests.
    ///
    /// # Errors
    /// When a file cannot be written. Nothing is lost: the lines stay in memory and in the
    /// write-ahead log, and the next call tries again.
    pub fn flush(&self) -> Result<(), Error> {
        let mut keeper = self.keeper();
        // What an earlier attempt could not write, then what has come since.
        self.write_frozen(&mut keeper)?;
        self.freeze();
        self.write_frozen(&mut keeper)
    }

    /// Writes the memtable if it is big or old enough, and removes segments that are too old
    /// or too many.
    /// To be called every second or so, on a thread that may block. Whether anything was done.
    ///
    /// # Errors
    /// As [`LogStore::flush`].
    pub fn tick(&self) -> Result<bool, Error> {
        let due = {
            let state = self.state();
            let old =
                state.active.since().is_some_and(|at| at.elapsed() >= self.config.flush_after);
            state.frozen.is_some() || old || state.active.bytes() >= self.config.memtable_bytes
        };
        if due {
            self.flush()?;
        }
        let expired = self.expire(taffrail_kit::clock::unix_nanos())?;
        Ok(due || expired)
    }

    /// Puts an empty memtable in place of the active one, unless there is nothing to write or one is
    /// frozen already.
    pub(super) fn freeze(&self) {
        let mut state = self.state();
        if state.frozen.is_some() || state.active.first_seq().is_none() {
            return;
        }
        let empty = Memtable::new(self.config.block_bytes);
        let table = std::mem::replace(&mut state.active, empty);
        state.frozen = Some(Arc::new(Frozen { table, end_seq: state.next_seq }));
    }

    pub(super) fn write_frozen(&self, keeper: &mut Keeper) -> Result<(), Error> {
        let Some(frozen) = self.state().frozen.clone() else { return Ok(()) };
        let written = self.write_segments(keeper, &frozen).and_then(|new| {
            match self.name_segments(keeper, &frozen, &new) {
                Ok(()) => Ok(new),
                Err(error) => {
                    self.remove_unnamed(&new);
                    Err(error)
                }
            }
        });
        let new = written.inspect_err(|_| {
            self.counters.flush_failures.fetch_add(1, Relaxed);
        })?;
        keeper.flushed = Instant::now();
        let mut state = self.state();
        let mut segments = state.segments.to_vec();
        segments.extend(new.into_iter().map(Arc::new));
        state.segments = Arc::new(segments);
        state.durable.extend(frozen.table.positions().clone());
        state.frozen = None;
        drop(state);
        self.counters.flushes.fetch_add(1, Relaxed);
        self.room.notify_all();
        Ok(())
    }

    /// Removes segments that a failed attempt has left. One whose name may have come into the manifest
    /// on disk stays.
    pub(super) fn remove_unnamed(&self, new: &[Segment]) {
        if let Ok(Some(manifest)) = manifest::read(&self.config.dir) {
            let unnamed = |s: &&Segment| manifest.segments.iter().all(|name| name != s.name());
            new.iter().filter(unnamed).for_each(remove);
        }
    }

    /// One segment for each day or group of days, synced. After an error nothing is left of them.
    pub(super) fn write_segments(
        &self,
        keeper: &mut Keeper,
        frozen: &Frozen,
    ) -> Result<Vec<Segment>, Error> {
        let table = &frozen.table;
        let sorted: Vec<Sorted<'_>> =
            table.streams().into_iter().map(|s| Sorted::new(s, table.chunks(s))).collect();
        let days: BTreeSet<i32> = sorted.iter().flat_map(Sorted::days).collect();
        let mut segments = Vec::new();
        let write_all = || {
            let groups = grouped(&Vec::from_iter(days));
            for (part, days) in (0..).zip(&groups) {
                let note = FlushNote {
                    part,
                    parts: groups.len() as u32,
                    end_seq: frozen.end_seq,
                    positions: match part {
                        0 => table.positions().clone(),
                        _ => BTreeMap::new(),
                    },
                };
                segments.push(self.write_segment(keeper, &sorted, days, note)?);
            }
            files::sync_dir(&self.segments_dir())
        };
        match write_all() {
            Ok(()) => Ok(segments),
            Err(error) => {
                segments.iter().for_each(remove);
                Err(error)
            }
        }
    }

    fn write_segment(
        &self,
        keeper: &mut Keeper,
        sorted: &[Sorted<'_>],
        days: &RangeInclusive<i32>,
        note: FlushNote,
    ) -> Result<Segment, Error> {
        let (day, number) = (*days.end(), keeper.take_number());
        let dir = self.segments_dir().join(segment_writer::name(day, number));
        let mut writer =
            SegmentWriter::create(dir, day, number, ZSTD_LEVEL, self.config.memtable_bytes)?;
        for stream in sorted {
            stream.write_days(days, self.config.block_bytes, &mut writer)?;
        }
        writer.finish(Origin::Flush(note))
    }

    /// Makes the new segments count.
    pub(super) fn name_segments(
        &self,
        keeper: &mut Keeper,
        frozen: &Frozen,
        new: &[Segment],
    ) -> Result<(), Error> {
        let unsaved = {
            let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
            streams.starting_at(keeper.streams.count())
        };
        let (streams_bytes, streams_count) = keeper.streams.append(&unsaved)?;
        let mut manifest = keeper.manifest.clone();
        manifest.streams_bytes = streams_bytes;
        manifest.streams_count = streams_count;
        manifest.replay_from = frozen.end_seq;
        manifest.segments.extend(new.iter().map(|segment| segment.name().to_owned()));
        manifest.positions.extend(frozen.table.positions().clone());
        self.write_manifest(keeper, manifest)
    }

    /// Replaces the manifest on disk and, when that has worked, in memory.
    pub(super) fn write_manifest(
        &self,
        keeper: &mut Keeper,
        mut manifest: Manifest,
    ) -> Result<(), Error> {
        manifest.next_segment = keeper.next_segment;
        manifest::write(&self.config.dir, &manifest)?;
        keeper.manifest = manifest;
        Ok(())
    }

    /// Makes these segments all that count. The keeper is held since they were chosen.
    pub(super) fn replace_segments(
        &self,
        keeper: &mut Keeper,
        segments: Vec<Arc<Segment>>,
    ) -> Result<(), Error> {
        let mut manifest = keeper.manifest.clone();
        manifest.segments = segments.iter().map(|segment| segment.name().to_owned()).collect();
        self.write_manifest(keeper, manifest)?;
        self.known.keep_only(&segments);
        self.state().segments = Arc::new(segments);
        Ok(())
    }
}

impl Keeper {
    /// A number for a new segment.
    pub(super) fn take_number(&mut self) -> u64 {
        let number = self.next_segment;
        self.next_segment += 1;
        number
    }
}

/// Removes the folder of a segment that counts no more. Readers that still have it open go on; what
/// cannot be removed now is removed as an orphan when the store is opened next.
pub(super) fn remove(segment: &Segment) {
    if let Err(error) = std::fs::remove_dir_all(segment.dir()) {
        let dir = segment.dir().display();
        tracing::warn!(%dir, %error, "segment is not removed, the next start tries again");
    }
}

/// Days, ascending, as [`SEGMENTS_MAX`] groups of neighbours at the most.
fn grouped(days: &[i32]) -> Vec<RangeInclusive<i32>> {
    let together = days.len().div_ceil(SEGMENTS_MAX).max(1);
    let groups = days.chunks(together);
    groups.filter_map(|group| Some(*group.first()?..=*group.last()?)).collect()
}

/// The rows of one stream in the order of (time, arrival).
struct Sorted<'t> {
    stream: u32,
    chunks: &'t [Arc<Chunk>],
    /// Chunk and row of each.
    order: Vec<(u32, u32)>,
    /// Whether that is the order of arrival.
    is_in_order: bool,
    /// Day -> its rows in the order.
    days: BTreeMap<i32, Range<usize>>,
}

impl<'t> Sorted<'t> {
    fn new(stream: u32, chunks: &'t [Arc<Chunk>]) -> Self {
        let mut order = Vec::with_capacity(chunks.iter().map(|c| c.rows.len()).sum());
        for (number, chunk) in chunks.iter().enumerate() {
            order.extend((0..chunk.rows.len()).map(|row| (number as u32, row as u32)));
        }
        let ts = |&(chunk, row): &(u32, u32)| chunks[chunk as usize].rows.ts[row as usize];
        let is_in_order = order.is_sorted_by_key(ts);
        if !is_in_order {
            order.sort_by_key(ts);
        }
        let mut days: BTreeMap<i32, Range<usize>> = BTreeMap::new();
        let mut start = 0;
        while let Some(day) = order.get(start).map(|at| utc_day(ts(at))) {
            let count = order[start..].partition_point(|at| utc_day(ts(at)) == day);
            days.insert(day, start..start + count);
            start += count;
        }
        Self { stream, chunks, order, is_in_order, days }
    }

    fn days(&self) -> impl Iterator<Item = i32> {
        self.days.keys().copied()
    }

    /// Cuts the rows of some days into blocks.
    fn write_days(
        &self,
        days: &RangeInclusive<i32>,
        block_bytes: usize,
        writer: &mut SegmentWriter,
    ) -> Result<(), Error> {
        let mut ranges = self.days.range(days.clone()).map(|(_, range)| range);
        let Some(first) = ranges.next() else { return Ok(()) };
        let range = first.start..ranges.next_back().unwrap_or(first).end;
        if self.is_in_order && range.len() == self.order.len() {
            return self.write_chunks(block_bytes, writer);
        }
        let mut block = Rows::default();
        for &(chunk, row) in &self.order[range] {
            let rows = &self.chunks[chunk as usize].rows;
            let row = row as usize;
            if is_full(&block, rows.line(row).len(), block_bytes) {
                writer.add(self.stream, &block)?;
                block.clear();
            }
            block.push_from(rows, row);
        }
        if block.len() > 0 { writer.add(self.stream, &block) } else { Ok(()) }
    }

    /// Writes chunks as they are, which spares a copy; only small neighbours are put together.
    fn write_chunks(&self, block_bytes: usize, writer: &mut SegmentWriter) -> Result<(), Error> {
        let mut block = Rows::default();
        for rows in self.chunks.iter().map(|chunk| &chunk.rows) {
            if is_full(&block, rows.text.len(), block_bytes) {
                writer.add(self.stream, &block)?;
                block.clear();
            }
            if block.len() == 0 && rows.text.len() * 2 > block_bytes {
                writer.add(self.stream, rows)?;
            } else {
                (0..rows.len()).for_each(|row| block.push_from(rows, row));
            }
        }
        if block.len() > 0 { writer.add(self.stream, &block) } else { Ok(()) }
    }
}
