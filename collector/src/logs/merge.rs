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
use taffrail_query::source::{Cancel, Direction, SourceError};

use super::block::Decoder;
use super::crew::Crew;
use super::filter::Filter;
use super::hidden::Hiding;
use super::memtable::Chunk;
use super::need::Need;
use super::rows::Rows;
use super::unit::{LookedAt, Place, PrunedSegment, Unit};

/// Most memory that opened units of one scan may take, in bytes.
const OPEN_BYTES_MAX: usize = 512 << 20;
/// Rows an opened unit keeps when the caller has said nothing.
const ROWS_UNLIMITED: usize = usize::MAX;

/// Receives one row: which of the selected streams, its rows, its number in them.
pub(super) type EachRow<'e> = dyn FnMut(usize, &Rows, usize) -> ControlFlow<()> + 'e;

/// Opens units, in order or not.
pub(super) struct Reader<'a> {
    /// The segments of the units.
    pub(super) segments: Vec<PrunedSegment>,
    /// What a block must have.
    pub(super) need: Need,
    /// What a row must pass.
    pub(super) filter: Filter,
    /// What a row must not be hidden by.
    pub(super) hiding: Hiding,
    /// The time wanted.
    pub(super) range: TimeRange,
    /// Looked at before each unit.
    pub(super) cancel: &'a Cancel,
    /// What the scan has cost so far.
    pub(super) looked_at: LookedAt,
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
    /// Gives the passing rows of all units, unit by unit; units are opened side by side.
    pub(super) fn in_any_order(
        &self,
        units: &[Unit],
        crew: &Crew,
        each: &mut EachRow<'_>,
    ) -> Result<(), SourceError> {
        let all = Pick { direction: Direction::Forward, skip: 0, limit: ROWS_UNLIMITED };
        let open = |unit: &Unit, decoder: &mut Decoder| {
            Ok(self.open(unit, all, decoder)?.map(|taken| (unit.stream, taken)))
        };
        crew.gather(units, self.cancel, decoder, open, |(stream, taken)| {
            taken.rows.iter().try_for_each(|&(row, _)| each(stream, taken.from.get(), row as usize))
        })
    }

    /// Gives the passing rows of all units, merged. `limit` is how many the caller will take, about.
    pub(super) fn in_order(
        &self,
        units: &[Unit],
        direction: Direction,
        limit: Option<usize>,
        each: &mut EachRow<'_>,
    ) -> Result<(), SourceError> {
        let limit = limit.map_or(ROWS_UNLIMITED, |limit| limit.max(1));
        let heap = BinaryHeap::new();
        let mut merge = Merge { units, direction, limit, decoder: decoder()?, open_bytes: 0, heap };
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

    /// Rows of a unit that pass, as many as are wanted; none when there are none.
    fn open(
        &self,
        unit: &Unit,
        pick: Pick,
        decoder: &mut Decoder,
    ) -> Result<Option<Taken>, SourceError> {
        self.cancel.check()?;
        let taken = match &unit.place {
            Place::Memory(chunk) => {
                self.looked_at.add(chunk.rows.len(), chunk.rows.text.len());
                Some(self.take_from_memory(chunk, &unit.hidden_by, pick))
            }
            Place::Disk(place) => {
                let Some(pruned) = self.segments.get(*place) else { return Ok(None) };
                if !pruned.may_have(&self.need, unit.number) {
                    return Ok(None);
                }
                let number = unit.number as usize;
                if let Some(header) = pruned.segment.headers().get(number) {
                    self.looked_at.add(header.rows as usize, header.text_bytes as usize);
                }
                let filter = &self.filter;
                pruned.segment.look(number, decoder, |block, decoder| {
                    let known = pruned.known.as_deref().map(|known| (known, unit.number));
                    let mut passing = block.passing_known(filter, known, decoder)?.into_numbers();
                    let place = (&*pruned.segment, unit.number);
                    let (by, may_hide) = (&unit.hidden_by, &pruned.may_hide);
                    self.hiding.sift_block(by, may_hide, place, &mut passing, (block, decoder))?;
                    let (numbers, resume_at) = pick.of(passing);
                    let rows = (0..).zip(numbers.iter().copied()).collect();
                    let from = match numbers.is_empty() {
                        true => Rows::default(),
                        false => block.rows(&numbers, decoder)?,
                    };
                    Ok(Taken { from: OpenRows::Disk(from), rows, resume_at })
                })
            }
        };
        Ok(taken.filter(|taken| !taken.rows.is_empty()))
    }

    fn take_from_memory(&self, chunk: &Arc<Chunk>, hidden_by: &[u32], pick: Pick) -> Taken {
        let mut passing = self.filter.passing(&chunk.rows);
        self.hiding.sift_chunk(hidden_by, &chunk.rows, &mut passing);
        if !chunk.rows.is_sorted() {
            passing.sort_by_key(|&row| (chunk.rows.ts[row as usize], row));
        }
        let (numbers, resume_at) = pick.of(passing);
        let rows = numbers.into_iter().map(|number| (number, number)).collect();
        Taken { from: OpenRows::Memory(Arc::clone(chunk)), rows, resume_at }
    }
}

/// What a thread keeps from block to block.
pub(super) fn decoder() -> Result<Decoder, SourceError> {
    Decoder::new().map_err(|error| SourceError::Storage(error.to_string()))
}

/// Which of the passing rows of a unit are wanted.
#[derive(Clone, Copy)]
struct Pick {
    direction: Direction,
    /// So many are given already.
    skip: usize,
    limit: usize,
}

impl Pick {
    /// The rows in their order, and how many come before the first one that is left out, if any.
    fn of(self, mut passing: Vec<u32>) -> (Vec<u32>, Option<usize>) {
        if self.direction == Direction::Backward {
            passing.reverse();
        }
        let end = self.skip.saturating_add(self.limit).min(passing.len());
        let resume_at = (end < passing.len()).then_some(end);
        passing.truncate(end);
        passing.drain(..self.skip.min(end));
        (passing, resume_at)
    }
}

/// Passing rows of an opened unit.
struct Taken {
    from: OpenRows,
    /// In order: number in `from`, and in the unit.
    rows: Vec<(u32, u32)>,
    /// How many passing rows of the unit come before the first one that is not here, if any.
    resume_at: Option<usize>,
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

impl Cursor {
    fn new(unit: usize, taken: Taken) -> Self {
        let bytes = match &taken.from {
            OpenRows::Memory(_) => 0,
            OpenRows::Disk(rows) => rows.bytes(),
        };
        let left = taken.rows.into_iter().rev().collect();
        Self { unit, rows: taken.from, left, resume_at: taken.resume_at, bytes }
    }
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
    decoder: Decoder,
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
    fn open(&mut self, reader: &Reader<'_>, index: usize, skip: usize) -> Result<(), SourceError> {
        let unit = &self.units[index];
        let pick = Pick { direction: self.direction, skip, limit: self.limit };
        let Some(taken) = reader.open(unit, pick, &mut self.decoder)? else { return Ok(()) };
        let cursor = Cursor::new(index, taken);
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
