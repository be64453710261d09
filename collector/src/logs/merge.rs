//! Units of rows (memtable chunks and blocks) merged in the order (time, stream, position).
//!
//! A heap holds units that are not yet opened, under the bound of their first possible row, and
//! cursors into opened ones, under their next row. A unit is opened only when its bound is the next
//! in order, so a scan that stops early opens only what could contribute.
//!
//! Position of a row: order of the segment (frozen and active memtable after all), block or chunk in
//! it, row in that. Rows of a stream with the same time come so in the order of arrival.
//!
//! Invariant: an opened unit keeps only its passing rows, and only as many as the caller said it will
//! take; should the caller go on, the unit is opened again. All opened units together stay below
//! [`OPEN_BYTES_MAX`].

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;

use taffrail_model::{Nanos, TimeRange};
use taffrail_query::source::{Cancel, Direction, ScanStats, SourceError};

use super::block::Decoder;
use super::block_set::BlockSet;
use super::filter::Filter;
use super::memtable::Chunk;
use super::need::Need;
use super::rows::Rows;
use super::segment::Segment;

/// Most memory that opened units of one scan may take, in bytes.
const OPEN_BYTES_MAX: usize = 512 << 20;
/// Rows an opened unit keeps when the caller has said nothing.
const ROWS_UNLIMITED: usize = usize::MAX;

/// Order of the frozen memtable among segments.
pub(super) const FROZEN: u64 = u64::MAX - 1;
/// Order of the active memtable among segments.
pub(super) const ACTIVE: u64 = u64::MAX;

/// A chunk or a block that may have rows for a scan.
pub(super) struct Unit {
    /// Which of the selected streams.
    pub(super) stream: usize,
    /// The stream's place among rows of the same time.
    pub(super) fingerprint: u128,
    /// Earliest time.
    pub(super) first: Nanos,
    /// Latest time.
    pub(super) last: Nanos,
    /// Order of the segment or memtable.
    pub(super) order: u64,
    /// Number of the chunk or block in it.
    pub(super) number: u32,
    /// Where the rows are.
    pub(super) place: Place,
}

/// Where the rows of a unit are.
pub(super) enum Place {
    /// In memory.
    Memory(Arc<Chunk>),
    /// In this segment of the scan.
    Disk(usize),
}

/// Receives one row: which of the selected streams, its rows, its number in them.
pub(super) type EachRow<'e> = dyn FnMut(usize, &Rows, usize) -> ControlFlow<()> + 'e;

/// A segment of a scan, pruned when its first unit comes up.
pub(super) struct PrunedSegment {
    segment: Arc<Segment>,
    candidates: Option<BlockSet>,
}

impl PrunedSegment {
    /// A segment that is not looked at yet.
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self { segment, candidates: None }
    }
}

/// Opens units, in order or not.
pub(super) struct Reader<'a> {
    /// The segments of the units.
    pub(super) segments: Vec<PrunedSegment>,
    /// What a block must have.
    pub(super) need: Need,
    /// What a row must pass.
    pub(super) filter: Filter,
    /// The time wanted.
    pub(super) range: TimeRange,
    /// Looked at before each unit.
    pub(super) cancel: &'a Cancel,
    /// Decompresses its blocks.
    pub(super) decoder: Decoder,
    /// What the scan has cost so far.
    pub(super) stats: ScanStats,
}

/// Rows of an opened unit.
enum OpenRows {
    Memory(Arc<Chunk>),
    Disk(Rows),
}

impl OpenRows {
    fn get(&self) -> &Rows {
        match self {
            Self::Memory(chunk) => &chunk.rows,
            Self::Disk(rows) => rows,
        }
    }
}

impl Reader<'_> {
    /// Gives the passing rows of all units, unit by unit.
    pub(super) fn in_any_order(
        &mut self,
        units: &[Unit],
        each: &mut EachRow<'_>,
    ) -> Result<(), SourceError> {
        for unit in units {
            let Some((rows, passing)) = self.open(unit)? else { continue };
            for row in passing {
                if each(unit.stream, rows.get(), row as usize).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Gives the passing rows of all units, merged. `limit` is how many the caller will take, about.
    pub(super) fn in_order(
        &mut self,
        units: &[Unit],
        direction: Direction,
        limit: Option<usize>,
        each: &mut EachRow<'_>,
    ) -> Result<(), SourceError> {
        let limit = limit.map_or(ROWS_UNLIMITED, |limit| limit.max(1));
        let mut merge = Merge { units, direction, limit, open_bytes: 0, heap: BinaryHeap::new() };
        merge.heap = (0..units.len()).map(|unit| merge.unopened(unit, self.range)).collect();
        while let Some(entry) = merge.heap.pop() {
            match entry.what {
                What::Unit { unit, skip } => merge.open(self, unit, skip)?,
                What::Cursor(cursor) => {
                    if merge.give(entry.key, cursor, each).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The rows of a unit and the numbers of those that pass; none when no row can.
    fn open(&mut self, unit: &Unit) -> Result<Option<(OpenRows, Vec<u32>)>, SourceError> {
        self.cancel.check()?;
        let rows = match &unit.place {
            Place::Memory(chunk) => OpenRows::Memory(Arc::clone(chunk)),
            Place::Disk(number) => {
                let Some(pruned) = self.segments.get_mut(*number) else { return Ok(None) };
                let segment = &pruned.segment;
                let candidates =
                    pruned.candidates.get_or_insert_with(|| segment.candidates(&self.need));
                if !candidates.contains(unit.number) {
                    return Ok(None);
                }
                let Some(rows) = segment.rows(unit.number as usize, &mut self.decoder) else {
                    return Ok(None);
                };
                OpenRows::Disk(rows)
            }
        };
        let looked_at = rows.get();
        self.stats.blocks_scanned += 1;
        self.stats.bytes_scanned += looked_at.text.len() as u64;
        self.stats.lines_scanned += looked_at.len() as u64;
        let passing = self.filter.passing(looked_at);
        Ok((!passing.is_empty()).then_some((rows, passing)))
    }
}

/// Place of a row in the order; forward is ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    ts: Nanos,
    fingerprint: u128,
    order: u64,
    number: u32,
    row: u32,
}

enum What {
    /// A unit that is not opened; its first passing rows are given already.
    Unit {
        unit: usize,
        skip: usize,
    },
    Cursor(Box<Cursor>),
}

/// The rest of an opened unit.
struct Cursor {
    unit: usize,
    rows: OpenRows,
    /// The rows to come: numbers in `rows`, and in the unit. The next one is the last.
    left: Vec<(u32, u32)>,
    /// How many passing rows of the unit come before the first one that is not here, if any.
    resume_at: Option<usize>,
    /// Counted as open.
    bytes: usize,
}

struct Entry {
    key: Key,
    direction: Direction,
    what: What,
}

impl Ord for Entry {
    /// The entry that comes next is the greatest, as `BinaryHeap` wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        match self.direction {
            Direction::Forward => other.key.cmp(&self.key),
            Direction::Backward => self.key.cmp(&other.key),
        }
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

struct Merge<'u> {
    units: &'u [Unit],
    direction: Direction,
    limit: usize,
    open_bytes: usize,
    heap: BinaryHeap<Entry>,
}

impl Merge<'_> {
    /// An entry for a unit under the first place that a row of it in the range could have.
    fn unopened(&self, index: usize, range: TimeRange) -> Entry {
        let unit = &self.units[index];
        let (ts, row) = match self.direction {
            Direction::Forward => (unit.first.max(range.start), 0),
            Direction::Backward => (unit.last.min(range.end.saturating_sub(1)), u32::MAX),
        };
        self.entry(key(unit, ts, row), What::Unit { unit: index, skip: 0 })
    }

    fn entry(&self, key: Key, what: What) -> Entry {
        Entry { key, direction: self.direction, what }
    }

    /// Opens a unit and puts a cursor in its place.
    fn open(
        &mut self,
        reader: &mut Reader<'_>,
        index: usize,
        skip: usize,
    ) -> Result<(), SourceError> {
        let unit = &self.units[index];
        let Some((rows, mut passing)) = reader.open(unit)? else { return Ok(()) };
        let ts = &rows.get().ts;
        if !rows.get().is_sorted() {
            passing.sort_by_key(|&row| (ts[row as usize], row));
        }
        if self.direction == Direction::Backward {
            passing.reverse();
        }
        let end = skip.saturating_add(self.limit).min(passing.len());
        let resume_at = (end < passing.len()).then_some(end);
        let kept = passing.get(skip..end).unwrap_or_default();
        let mut cursor = keep(index, rows, kept);
        cursor.resume_at = resume_at;
        self.open_bytes += cursor.bytes;
        if self.open_bytes > OPEN_BYTES_MAX {
            return Err(SourceError::TooMuch(format!(
                "sorting the lines of so many streams at once takes more than {} MiB: ask for fewer \
                 streams, a shorter time, or a limit",
                OPEN_BYTES_MAX >> 20
            )));
        }
        if let Some(key) = self.next_key(&cursor) {
            let entry = self.entry(key, What::Cursor(Box::new(cursor)));
            self.heap.push(entry);
        }
        Ok(())
    }

    /// Where the next row of a cursor stands.
    fn next_key(&self, cursor: &Cursor) -> Option<Key> {
        let &(row, number) = cursor.left.last()?;
        Some(key(&self.units[cursor.unit], cursor.rows.get().ts[row as usize], number))
    }

    /// Gives rows of a cursor for as long as they are next in order.
    fn give(
        &mut self,
        first: Key,
        mut cursor: Box<Cursor>,
        each: &mut EachRow<'_>,
    ) -> ControlFlow<()> {
        let mut given = first;
        while let Some((row, _)) = cursor.left.pop() {
            each(self.units[cursor.unit].stream, cursor.rows.get(), row as usize)?;
            let Some(next) = self.next_key(&cursor) else { break };
            given = next;
            let waits = self.heap.peek().is_some_and(|other| match self.direction {
                Direction::Forward => other.key < next,
                Direction::Backward => other.key > next,
            });
            if waits {
                let entry = self.entry(next, What::Cursor(cursor));
                self.heap.push(entry);
                return ControlFlow::Continue(());
            }
        }
        self.open_bytes -= cursor.bytes;
        if let Some(skip) = cursor.resume_at {
            // The caller takes more than it said. What is left comes after the row just given.
            let entry = self.entry(given, What::Unit { unit: cursor.unit, skip });
            self.heap.push(entry);
        }
        ControlFlow::Continue(())
    }
}

fn key(unit: &Unit, ts: Nanos, row: u32) -> Key {
    let Unit { fingerprint, order, number, .. } = *unit;
    Key { ts, fingerprint, order, number, row }
}

/// A cursor over these rows. When they are the lesser part of a block, the rest of it is let go.
fn keep(unit: usize, rows: OpenRows, kept: &[u32]) -> Cursor {
    let numbers = kept.iter().rev();
    match rows {
        OpenRows::Disk(all) if kept.len() * 2 < all.len() => {
            let mut few = Rows::default();
            let left: Vec<(u32, u32)> = (0..).zip(numbers.copied()).collect();
            left.iter().for_each(|&(_, row)| few.push_from(&all, row as usize));
            let bytes = few.bytes();
            Cursor { unit, rows: OpenRows::Disk(few), left, resume_at: None, bytes }
        }
        rows => {
            let bytes = match &rows {
                OpenRows::Memory(_) => 0,
                OpenRows::Disk(rows) => rows.bytes(),
            };
            let left = numbers.map(|&row| (row, row)).collect();
            Cursor { unit, rows, left, resume_at: None, bytes }
        }
    }
}
