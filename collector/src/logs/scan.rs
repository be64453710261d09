//! The store as the query engines see it: streams by label, units by time, rows by text.
//!
//! A scan takes a snapshot of memtables and segments under one short lock and works on that: rows
//! that come later are not in it, rows that move from memory to disk meanwhile are in it once.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use taffrail_model::{Labels, Matcher, StreamEntries, TimeRange};
use taffrail_query::source::{Cancel, LogScan, LogSource, RowSink, ScanStats, SourceError};
use tokio::sync::broadcast;

use super::block::Decoder;
use super::filter::Filter;
use super::memtable::{Chunk, Memtable};
use super::merge::{ACTIVE, FROZEN, Place, PrunedSegment, Reader, Unit};
use super::need;
use super::segment::Segment;
use super::streams::Stream;
use super::{Frozen, LogStore};

/// Most counters that one count may ask for: streams times ranges.
const COUNTERS_MAX: usize = 1 << 25;

/// The streams of a query, by number.
struct Selected {
    numbers: Vec<u32>,
    streams: Vec<Stream>,
    /// Whether these are all streams there are, so that nobody needs to ask.
    is_all: bool,
}

/// What a query sees of the store.
struct Snapshot {
    frozen: Option<Arc<Frozen>>,
    /// Stream (its place among the selected) and number of each chunk of the active memtable.
    active: Vec<(usize, u32, Arc<Chunk>)>,
    segments: Arc<Vec<Arc<Segment>>>,
}

impl LogStore {
    fn select(&self, matchers: &[Matcher]) -> Selected {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let numbers = streams.select(matchers);
        let is_all = numbers.len() == streams.count() as usize;
        let streams = numbers.iter().filter_map(|&number| streams.get(number).cloned()).collect();
        Selected { numbers, streams, is_all }
    }

    fn snapshot(&self, selected: &Selected, range: TimeRange) -> Snapshot {
        let state = self.state();
        Snapshot {
            frozen: state.frozen.clone(),
            active: chunks(&state.active, selected, range),
            segments: Arc::clone(&state.segments),
        }
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

    fn unit_of_chunk(&self, at: usize, order: u64, number: u32, chunk: Arc<Chunk>) -> Unit {
        Unit {
            stream: at,
            fingerprint: self.streams[at].fingerprint,
            first: chunk.first,
            last: chunk.last,
            order,
            number,
            place: Place::Memory(chunk),
        }
    }

    /// Everything in the snapshot that labels and time leave over, and the segments of it.
    fn units(&self, snapshot: Snapshot, range: TimeRange) -> (Vec<Unit>, Vec<PrunedSegment>) {
        let mut units = Vec::new();
        let mut segments = Vec::new();
        for segment in snapshot.segments.iter() {
            let place = segments.len();
            self.blocks(segment, range, |at, block| {
                let header = &segment.headers()[block];
                units.push(Unit {
                    stream: at,
                    fingerprint: self.streams[at].fingerprint,
                    first: header.first,
                    last: header.last,
                    order: segment.meta().order,
                    number: block as u32,
                    place: Place::Disk(place),
                });
            });
            segments.push(PrunedSegment::new(Arc::clone(segment)));
        }
        if let Some(frozen) = &snapshot.frozen {
            for (at, number, chunk) in chunks(&frozen.table, self, range) {
                units.push(self.unit_of_chunk(at, FROZEN, number, chunk));
            }
        }
        for (at, number, chunk) in snapshot.active {
            units.push(self.unit_of_chunk(at, ACTIVE, number, chunk));
        }
        (units, segments)
    }
}

impl LogSource for LogStore {
    fn scan(&self, scan: &LogScan, sink: &mut RowSink<'_>) -> Result<ScanStats, SourceError> {
        scan.cancel.check()?;
        let selected = self.select(&scan.matchers);
        let snapshot = self.snapshot(&selected, scan.range);
        let (units, segments) = selected.units(snapshot, scan.range);
        let mut reader = Reader {
            segments,
            need: need::of_filters(&scan.filters),
            filter: Filter::new(&scan.filters, scan.range),
            range: scan.range,
            cancel: &scan.cancel,
            decoder: Decoder::new().map_err(|e| SourceError::Storage(e.to_string()))?,
            stats: ScanStats {
                streams: selected.streams.len() as u64,
                blocks: units.len() as u64,
                ..ScanStats::default()
            },
        };
        let mut each = |stream: usize, rows: &super::rows::Rows, row: usize| {
            rows.with_row(row, |row| sink(&selected.streams[stream].labels, row))
        };
        match scan.order {
            None => reader.in_any_order(&units, &mut each)?,
            Some(direction) => reader.in_order(&units, direction, scan.limit, &mut each)?,
        }
        Ok(reader.stats)
    }

    fn count(
        &self,
        matchers: &[Matcher],
        ranges: &[TimeRange],
        cancel: &Cancel,
    ) -> Result<Vec<(Labels, Vec<u64>)>, SourceError> {
        cancel.check()?;
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
            return Ok(Vec::new());
        };
        let whole = TimeRange::new(first.start, last.end);
        let selected = self.select(matchers);
        let snapshot = self.snapshot(&selected, whole);
        let mut counts = Counts::new(ranges, selected.streams.len());
        for segment in snapshot.segments.iter() {
            let mut blocks = Vec::new();
            selected.blocks(segment, whole, |at, block| blocks.push((at, block)));
            for (at, block) in blocks {
                let header = &segment.headers()[block];
                if counts.add_whole(at, header.first, header.last, u64::from(header.rows))? {
                    continue;
                }
                cancel.check()?;
                counts.add_each(at, &segment.times(block).unwrap_or_default())?;
            }
        }
        let frozen = snapshot.frozen.iter().flat_map(|f| chunks(&f.table, &selected, whole));
        for (at, _, chunk) in frozen.chain(snapshot.active) {
            cancel.check()?;
            let rows = chunk.rows.len() as u64;
            if !counts.add_whole(at, chunk.first, chunk.last, rows)? {
                counts.add_each(at, &chunk.rows.ts)?;
            }
        }
        let labels = selected.streams.into_iter().map(|stream| stream.labels);
        let counted = labels.zip(counts.by_stream);
        Ok(counted.filter(|(_, counts)| !counts.is_empty()).collect())
    }

    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, SourceError> {
        let selected = self.select(matchers);
        let snapshot = self.snapshot(&selected, range);
        let mut found: BTreeSet<usize> = snapshot.active.iter().map(|chunk| chunk.0).collect();
        for segment in snapshot.segments.iter() {
            selected.blocks(segment, range, |at, _| {
                found.insert(at);
            });
        }
        if let Some(frozen) = &snapshot.frozen {
            found.extend(chunks(&frozen.table, &selected, range).iter().map(|chunk| chunk.0));
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

/// Lines counted by stream and range.
struct Counts<'r> {
    ranges: &'r [TimeRange],
    /// Empty for a stream without lines.
    by_stream: Vec<Vec<u64>>,
    counters: usize,
}

impl<'r> Counts<'r> {
    fn new(ranges: &'r [TimeRange], streams: usize) -> Self {
        Self { ranges, by_stream: vec![Vec::new(); streams], counters: 0 }
    }

    /// Adds rows that lie wholly in one range, or in none; whether they do.
    fn add_whole(
        &mut self,
        stream: usize,
        first: i64,
        last: i64,
        rows: u64,
    ) -> Result<bool, SourceError> {
        let from = self.ranges.partition_point(|range| range.end <= first);
        let Some(range) = self.ranges.get(from).filter(|range| range.start <= last) else {
            return Ok(true);
        };
        if !(range.contains(first) && range.contains(last)) {
            return Ok(false);
        }
        self.add(stream, from, rows)?;
        Ok(true)
    }

    fn add_each(&mut self, stream: usize, times: &[i64]) -> Result<(), SourceError> {
        let mut at = 0;
        while let Some(&ts) = times.get(at) {
            let index = self.ranges.partition_point(|range| range.end <= ts);
            let Some(range) = self.ranges.get(index) else {
                at += 1;
                continue;
            };
            // Times mostly ascend, so a range takes a run of them.
            let run = times[at..].iter().take_while(|&&ts| range.contains(ts)).count();
            if run > 0 {
                self.add(stream, index, run as u64)?;
            }
            at += run.max(1);
        }
        Ok(())
    }

    fn add(&mut self, stream: usize, range: usize, rows: u64) -> Result<(), SourceError> {
        let counts = &mut self.by_stream[stream];
        if counts.is_empty() {
            self.counters += self.ranges.len();
            if self.counters > COUNTERS_MAX {
                return Err(SourceError::TooMuch(format!(
                    "counting so many streams in {} steps takes more than {COUNTERS_MAX} numbers: \
                     ask for fewer streams or longer steps",
                    self.ranges.len()
                )));
            }
            counts.resize(self.ranges.len(), 0);
        }
        counts[range] += rows;
        Ok(())
    }
}
