//! The store as the query engines see it: streams by label, units by time, rows by text.
//!
//! A scan takes a snapshot of memtables and segments under one short lock and works on that: rows
//! that come later are not in it, rows that move from memory to disk meanwhile are in it once.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use taffrail_model::{Labels, Matcher, Nanos, StreamEntries, TimeRange};
use taffrail_query::source::{
    Counted, LogCount, LogScan, LogSource, RowSink, ScanStats, SourceError,
};
use tokio::sync::broadcast;

use super::filter::Filter;
use super::hidden::{Hidden, Hiding};
use super::known::OfFilters;
use super::memtable::{Chunk, Memtable};
use super::merge::Reader;
use super::need;
use super::segment::Segment;
use super::streams::Stream;
use super::unit::{ACTIVE, FROZEN, LookedAt, Place, PrunedSegment, Unit};
use super::{Frozen, LogStore};

/// The streams of a query, by number.
pub(super) struct Selected {
    numbers: Vec<u32>,
    pub(super) streams: Vec<Stream>,
    /// Whether these are all streams there are, so that nobody needs to ask.
    is_all: bool,
}

/// What a query sees of the store.
pub(super) struct Snapshot {
    frozen: Option<Arc<Frozen>>,
    /// Stream (its place among the selected) and number of each chunk of the active memtable.
    active: Vec<(usize, u32, Arc<Chunk>)>,
    segments: Arc<Vec<Arc<Segment>>>,
    hiding: Hiding,
}

/// What a query has to look at.
pub(super) struct Wanted {
    /// Blocks and chunks.
    pub(super) units: Vec<Unit>,
    /// The segments of the blocks.
    pub(super) segments: Vec<PrunedSegment>,
    /// What is hidden of them.
    pub(super) hiding: Hiding,
}

impl LogStore {
    pub(super) fn select(&self, matchers: &[Matcher]) -> Selected {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let numbers = streams.select(matchers);
        let is_all = numbers.len() == streams.count() as usize;
        let streams = numbers.iter().filter_map(|&number| streams.get(number).cloned()).collect();
        Selected { numbers, streams, is_all }
    }

    pub(super) fn snapshot(&self, selected: &Selected, range: TimeRange) -> Snapshot {
        let state = self.state();
        let frozen = state.frozen.clone();
        let active = chunks(&state.active, selected, range);
        let (segments, hides) = (Arc::clone(&state.segments), Arc::clone(&state.hides));
        drop(state);
        let hiding = match hides.is_empty() {
            true => Hiding::default(),
            false => {
                let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
                Hiding::new(&hides, range, &streams)
            }
        };
        Snapshot { frozen, active, segments, hiding }
    }
}

/// The chunks of a memtable that are wanted.
fn chunks(
    table: &Memtable,
    selected: &Selected,
    range: TimeRange,
) -> Vec<(usize, u32, Arc<Chunk>)> {
    let mut found = Vec::new();
    for (at, &number) in selected.numbers.iter().enumerate() {
        for (index, chunk) in (0..).zip(table.chunks(number)) {
            if range.overlaps(chunk.first, chunk.last) {
                found.push((at, index, Arc::clone(chunk)));
            }
        }
    }
    found
}

impl Selected {
    /// Calls back with the place among the selected and the block, for each block of a segment that
    /// is wanted.
    fn blocks(&self, segment: &Segment, range: TimeRange, mut each: impl FnMut(usize, usize)) {
        let meta = segment.meta();
        if !range.overlaps(meta.first, meta.last) {
            return;
        }
        let headers = segment.headers();
        let mut visit = |at: usize, block: usize| {
            if range.overlaps(headers[block].first, headers[block].last) {
                each(at, block);
            }
        };
        if self.is_all {
            for (block, header) in headers.iter().enumerate() {
                if let Ok(at) = self.numbers.binary_search(&header.stream) {
                    visit(at, block);
                }
            }
            return;
        }
        for (at, &number) in self.numbers.iter().enumerate() {
            segment.blocks_of(number).for_each(|block| visit(at, block));
        }
    }

    /// Everything in the snapshot that labels, time and deletion requests leave over.
    /// `known` is of the query's filters.
    pub(super) fn wanted(
        &self,
        snapshot: Snapshot,
        range: TimeRange,
        known: Option<&OfFilters>,
    ) -> Wanted {
        let hiding = snapshot.hiding;
        let mut units = Vec::new();
        let mut segments = Vec::new();
        for segment in snapshot.segments.iter() {
            let (place, before) = (segments.len(), units.len());
            self.blocks(segment, range, |at, block| {
                let header = &segment.headers()[block];
                let times = (header.first, header.last);
                if let Hidden::By(hidden_by) = hiding.of(header.stream, times, Some(segment)) {
                    let at = (at, block as u32, Place::Disk(place));
                    units.push(self.unit(at, times, segment.meta().order, hidden_by));
                }
            });
            if units.len() > before {
                segments.push(PrunedSegment::new(Arc::clone(segment), &hiding, known));
            }
        }
        let frozen = snapshot.frozen.iter().flat_map(|frozen| chunks(&frozen.table, self, range));
        let frozen = frozen.map(|chunk| (FROZEN, chunk));
        let active = snapshot.active.into_iter().map(|chunk| (ACTIVE, chunk));
        for (order, (at, number, chunk)) in frozen.chain(active) {
            let times = (chunk.first, chunk.last);
            if let Hidden::By(hidden_by) = hiding.of(self.numbers[at], times, None) {
                let at = (at, number, Place::Memory(chunk));
                units.push(self.unit(at, times, order, hidden_by));
            }
        }
        Wanted { units, segments, hiding }
    }

    /// `at`: which of the selected streams, number in its place, place.
    fn unit(
        &self,
        (stream, number, place): (usize, u32, Place),
        (first, last): (Nanos, Nanos),
        order: u64,
        hidden_by: Vec<u32>,
    ) -> Unit {
        let fingerprint = self.streams[stream].fingerprint;
        Unit { stream, fingerprint, first, last, order, number, place, hidden_by }
    }
}

impl LogSource for LogStore {
    fn scan(&self, scan: &LogScan, sink: &mut RowSink<'_>) -> Result<ScanStats, SourceError> {
        scan.cancel.check()?;
        let selected = self.select(&scan.matchers);
        let snapshot = self.snapshot(&selected, scan.range);
        let known = self.known.of(&scan.filters);
        let Wanted { units, segments, hiding } =
            selected.wanted(snapshot, scan.range, known.as_deref());
        let reader = Reader {
            segments,
            need: need::of_filters(&scan.filters),
            filter: Filter::new(&scan.filters, scan.range),
            hiding,
            range: scan.range,
            cancel: &scan.cancel,
            looked_at: LookedAt::default(),
        };
        let blocks = units.len() as u64;
        let mut each = |stream: usize, rows: &super::rows::Rows, row: usize| {
            rows.with_row(row, |row| sink(&selected.streams[stream].labels, row))
        };
        match scan.order {
            None => reader.in_any_order(&units, &self.crew, &mut each)?,
            Some(direction) => reader.in_order(&units, direction, scan.limit, &mut each)?,
        }
        let streams = selected.streams.len() as u64;
        Ok(ScanStats { streams, blocks, ..reader.looked_at.stats() })
    }

    fn count(&self, count: &LogCount) -> Result<Option<Vec<Counted>>, SourceError> {
        self.count_lines(count)
    }

    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, SourceError> {
        let selected = self.select(matchers);
        let Snapshot { frozen, active, segments, hiding } = self.snapshot(&selected, range);
        let is_shown = |at: usize, times: (Nanos, Nanos), segment: Option<&Segment>| {
            !matches!(hiding.of(selected.numbers[at], times, segment), Hidden::All)
        };
        let mut found = BTreeSet::new();
        for segment in segments.iter() {
            selected.blocks(segment, range, |at, block| {
                let header = &segment.headers()[block];
                if is_shown(at, (header.first, header.last), Some(segment)) {
                    found.insert(at);
                }
            });
        }
        let frozen = frozen.iter().flat_map(|frozen| chunks(&frozen.table, &selected, range));
        for (at, _, chunk) in frozen.chain(active) {
            if is_shown(at, (chunk.first, chunk.last), None) {
                found.insert(at);
            }
        }
        let mut labels: Vec<Labels> =
            found.into_iter().map(|at| selected.streams[at].labels.clone()).collect();
        labels.sort_unstable();
        Ok(labels)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<StreamEntries>>> {
        self.live.subscribe()
    }
}
