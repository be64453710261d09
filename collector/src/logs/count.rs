//! Counts lines by stream, range of time and level without putting lines together.
//!
//! A block that lies wholly in one range is counted from its header, or with filters from its
//! templates; else the times of its rows are read. Blocks are looked at side by side.

use std::sync::{Mutex, PoisonError};

use taffrail_model::{Level, Nanos, TimeRange};
use taffrail_query::source::{Counted, LogCount, SourceError};

use super::LogStore;
use super::block::Decoder;
use super::filter::Filter;
use super::header::{Header, METADATA};
use super::hidden::Hiding;
use super::known;
use super::memtable::Chunk;
use super::merge::decoder;
use super::need::{self, Need};
use super::opened::Opened;
use super::passing::Passing;
use super::scan::{Selected, Wanted};
use super::unit::{Place, PrunedSegment, Unit};

/// Most counters that one count may ask for: streams times ranges.
const COUNTERS_MAX: usize = 1 << 25;

/// Lines and bytes of one level in one range.
struct Tally {
    range: usize,
    level: u8,
    lines: u64,
    bytes: u64,
}

/// What all threads of a count share.
struct Counting<'c> {
    ask: &'c LogCount,
    whole: TimeRange,
    need: Need,
    filter: Filter,
    hiding: Hiding,
    segments: Vec<PrunedSegment>,
}

impl LogStore {
    /// See [`taffrail_query::source::LogSource::count`].
    pub(super) fn count_lines(&self, ask: &LogCount) -> Result<Option<Vec<Counted>>, SourceError> {
        ask.cancel.check()?;
        let (Some(first), Some(last)) = (ask.ranges.first(), ask.ranges.last()) else {
            return Ok(Some(Vec::new()));
        };
        let whole = TimeRange::new(first.start, last.end);
        let selected = self.select(&ask.matchers);
        let snapshot = self.snapshot(&selected, whole);
        let known = self.known.of(&ask.filters);
        let Wanted { units, segments, hiding } = selected.wanted(snapshot, whole, known.as_deref());
        let need = need::of_filters(&ask.filters);
        let filter = Filter::new(&ask.filters, whole);
        let counting = Counting { ask, whole, need, filter, hiding, segments };
        if ask.only_plain && units.iter().any(|unit| counting.has_metadata(unit)) {
            return Ok(None);
        }
        let counters = Mutex::new(Counters::new(ask, selected.streams.len()));
        self.crew.each(&units, &ask.cancel, decoder, |unit, decoder| {
            let tallies = counting.unit(unit, decoder);
            let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
            tallies.into_iter().try_for_each(|tally| counters.add(unit.stream, &tally))
        })?;
        let counters = counters.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(counters.finish(selected)))
    }
}

impl Counting<'_> {
    fn header(&self, unit: &Unit) -> Option<&Header> {
        let Place::Disk(place) = unit.place else { return None };
        self.segments.get(place)?.segment.headers().get(unit.number as usize)
    }

    fn has_metadata(&self, unit: &Unit) -> bool {
        match &unit.place {
            Place::Memory(chunk) => !chunk.rows.metadata.ends.is_empty(),
            Place::Disk(_) => {
                self.header(unit).is_some_and(|header| header.columns[METADATA].bytes > 0)
            }
        }
    }

    fn unit(&self, unit: &Unit, decoder: &mut Decoder) -> Vec<Tally> {
        let place = match &unit.place {
            Place::Memory(chunk) => return self.chunk(chunk, &unit.hidden_by),
            Place::Disk(place) => *place,
        };
        let (Some(pruned), Some(header)) = (self.segments.get(place), self.header(unit)) else {
            return Vec::new();
        };
        let only = match Fall::of(&self.ask.ranges, header.first, header.last) {
            Fall::Nowhere => return Vec::new(),
            Fall::In(range) => Some(range),
            Fall::Apart => None,
        };
        let is_bare = unit.hidden_by.is_empty();
        if let Some(range) = only
            && is_bare
            && let Some(tally) = self.by_header(header, range)
        {
            return vec![tally];
        }
        if is_bare && self.ask.filters.is_empty() && !self.ask.by_level && !self.ask.bytes {
            let mut tallies = Tallies { ask: self.ask, found: Vec::new() };
            tallies.add_times(&pruned.segment.times(unit.number as usize).unwrap_or_default());
            return tallies.found;
        }
        if !pruned.may_have(&self.need, unit.number) {
            return Vec::new();
        }
        if is_bare
            && !self.ask.by_level
            && !self.ask.bytes
            && let Some(known) = pruned.known(unit.number)
        {
            return self.by_known(pruned, unit.number, only, known);
        }
        let tallies = pruned.segment.look(unit.number as usize, decoder, |block, decoder| {
            match only.filter(|_| is_bare && !self.ask.bytes) {
                Some(range) if !self.ask.by_level => {
                    let known = pruned.known.as_deref().map(|known| (known, unit.number));
                    let passing = block.passing_known(&self.filter, known, decoder)?;
                    let lines = passing.len() as u64;
                    let tally = Tally { range, level: 0, lines, bytes: 0 };
                    return Ok(Vec::from_iter((lines > 0).then_some(tally)));
                }
                Some(range) => {
                    if let Some(levels) = block.count_by_template(&self.filter) {
                        let tally = |(level, lines)| Tally { range, level, lines, bytes: 0 };
                        return Ok(levels.into_iter().map(tally).collect());
                    }
                }
                None => {}
            }
            self.rows((pruned, unit), block, decoder)
        });
        tallies.unwrap_or_default()
    }

    /// The count of a block that lies wholly in one range, when its header is enough.
    fn by_header(&self, header: &Header, range: usize) -> Option<Tally> {
        if !self.ask.filters.is_empty() {
            return None;
        }
        let level = if self.ask.by_level { header.level()? } else { 0 };
        let lines = u64::from(header.rows);
        let bytes = u64::from(header.text_bytes).saturating_sub(lines);
        Some(Tally { range, level, lines, bytes })
    }

    /// The count of a block whose passing rows are known.
    fn by_known(
        &self,
        pruned: &PrunedSegment,
        number: u32,
        only: Option<usize>,
        known: &known::Rows,
    ) -> Vec<Tally> {
        let rows = pruned.segment.headers().get(number as usize).map_or(0, |header| header.rows);
        if let Some(range) = only {
            return vec![Tally { range, level: 0, lines: known.count(rows), bytes: 0 }];
        }
        let mut tallies = Tallies { ask: self.ask, found: Vec::new() };
        let Some(times) = pruned.segment.times(number as usize) else { return Vec::new() };
        match known {
            known::Rows::All => tallies.add_times(&times),
            known => {
                let rows = known.numbers(rows).into_iter().map(|row| row as usize);
                tallies.add_rows(rows, &times, &[], &[]);
            }
        }
        tallies.found
    }

    fn rows(
        &self,
        (pruned, unit): (&PrunedSegment, &Unit),
        block: &mut Opened<'_>,
        decoder: &mut Decoder,
    ) -> std::io::Result<Vec<Tally>> {
        let known = pruned.known.as_deref().map(|known| (known, unit.number));
        let mut passing = block.passing_known(&self.filter, known, decoder)?;
        if !unit.hidden_by.is_empty() {
            let mut rows = passing.into_numbers();
            let place = (&*pruned.segment, unit.number);
            let (by, may_hide) = (&unit.hidden_by, &pruned.may_hide);
            self.hiding.sift_block(by, may_hide, place, &mut rows, (block, decoder))?;
            passing = Passing::Some(rows);
        }
        if passing.is_empty() {
            return Ok(Vec::new());
        }
        let levels = if self.ask.by_level { block.levels(decoder)? } else { Vec::new() };
        let bytes = if self.ask.bytes { block.lengths(decoder)? } else { Vec::new() };
        let mut tallies = Tallies { ask: self.ask, found: Vec::new() };
        let times = block.times()?;
        match passing {
            Passing::All(rows) if levels.is_empty() && bytes.is_empty() => {
                tallies.add_times(&times[rows]);
            }
            Passing::All(rows) => tallies.add_rows(rows, times, &levels, &bytes),
            Passing::Some(rows) => {
                let rows = rows.into_iter().map(|row| row as usize);
                tallies.add_rows(rows, times, &levels, &bytes);
            }
        }
        Ok(tallies.found)
    }

    fn chunk(&self, chunk: &Chunk, hidden_by: &[u32]) -> Vec<Tally> {
        if !self.whole.overlaps(chunk.first, chunk.last) {
            return Vec::new();
        }
        let rows = &chunk.rows;
        let bytes: Vec<u32> = match self.ask.bytes {
            true => (0..rows.len()).map(|row| rows.line(row).len() as u32).collect(),
            false => Vec::new(),
        };
        let levels = if self.ask.by_level { &rows.levels[..] } else { &[] };
        let mut tallies = Tallies { ask: self.ask, found: Vec::new() };
        let mut passing = self.filter.passing(rows);
        self.hiding.sift_chunk(hidden_by, rows, &mut passing);
        let passing = passing.into_iter().map(|row| row as usize);
        tallies.add_rows(passing, &rows.ts, levels, &bytes);
        tallies.found
    }
}

/// Where rows from a first to a last time fall.
enum Fall {
    Nowhere,
    In(usize),
    Apart,
}

impl Fall {
    fn of(ranges: &[TimeRange], first: Nanos, last: Nanos) -> Self {
        let from = ranges.partition_point(|range| range.end <= first);
        match ranges.get(from).filter(|range| range.start <= last) {
            None => Self::Nowhere,
            Some(range) if range.contains(first) && range.contains(last) => Self::In(from),
            Some(_) => Self::Apart,
        }
    }
}

/// The tallies of one block.
struct Tallies<'c> {
    ask: &'c LogCount,
    found: Vec<Tally>,
}

impl Tallies<'_> {
    /// Adds a row for each of these times, which ascend.
    fn add_times(&mut self, times: &[Nanos]) {
        let mut at = 0;
        while let Some(&ts) = times.get(at) {
            let range = self.ask.ranges.partition_point(|range| range.end <= ts);
            let Some(known) = self.ask.ranges.get(range) else { return };
            let from = at + times[at..].partition_point(|&ts| ts < known.start);
            let to = from + run(&times[from..], known.end);
            if to > from {
                let lines = (to - from) as u64;
                self.found.push(Tally { range, level: 0, lines, bytes: 0 });
            }
            at = to;
        }
    }

    /// Adds these rows; no levels or lengths when they are not asked for.
    fn add_rows(
        &mut self,
        rows: impl Iterator<Item = usize>,
        times: &[Nanos],
        levels: &[u8],
        bytes: &[u32],
    ) {
        let ranges = &self.ask.ranges;
        let mut range = 0;
        // Tallies of the range at hand, by level.
        let mut open: [Option<usize>; 8] = [None; 8];
        for row in rows {
            let ts = times[row];
            if !ranges.get(range).is_some_and(|range| range.contains(ts)) {
                range = ranges.partition_point(|range| range.end <= ts);
                open = [None; 8];
                if !ranges.get(range).is_some_and(|range| range.contains(ts)) {
                    continue;
                }
            }
            let level = levels.get(row).copied().unwrap_or_default() & 7;
            let at = *open[usize::from(level)].get_or_insert_with(|| {
                self.found.push(Tally { range, level, lines: 0, bytes: 0 });
                self.found.len() - 1
            });
            self.found[at].lines += 1;
            self.found[at].bytes += bytes.get(row).map_or(0, |&bytes| u64::from(bytes));
        }
    }
}

/// How many of the first times lie before `end`; looks far ahead by steps that grow.
fn run(times: &[Nanos], end: Nanos) -> usize {
    let mut reach = 1;
    while times.get(reach).is_some_and(|&ts| ts < end) {
        reach *= 2;
    }
    let from = reach / 2;
    let to = (reach + 1).min(times.len());
    from + times[from..to.max(from)].partition_point(|&ts| ts < end)
}

/// Lines counted by stream, level and range.
struct Counters<'c> {
    ask: &'c LogCount,
    /// Of each stream; most streams have one level or none.
    by_stream: Vec<Vec<Counter>>,
    counters: usize,
}

struct Counter {
    level: u8,
    lines: Vec<u64>,
    bytes: Vec<u64>,
}

impl<'c> Counters<'c> {
    fn new(ask: &'c LogCount, streams: usize) -> Self {
        Self {
            ask,
            by_stream: std::iter::repeat_with(Vec::new).take(streams).collect(),
            counters: 0,
        }
    }

    fn add(&mut self, stream: usize, tally: &Tally) -> Result<(), SourceError> {
        let ranges = self.ask.ranges.len();
        let counters = &mut self.by_stream[stream];
        let known = counters.iter().position(|counter| counter.level == tally.level);
        let at = match known {
            Some(at) => at,
            None => {
                self.counters += ranges * (1 + usize::from(self.ask.bytes));
                if self.counters > COUNTERS_MAX {
                    return Err(SourceError::TooMuch(format!(
                        "counting so many streams in {ranges} steps takes more than {COUNTERS_MAX} \
                         numbers: ask for fewer streams or longer steps"
                    )));
                }
                let bytes = vec![0; if self.ask.bytes { ranges } else { 0 }];
                counters.push(Counter { level: tally.level, lines: vec![0; ranges], bytes });
                counters.len() - 1
            }
        };
        counters[at].lines[tally.range] += tally.lines;
        if let Some(bytes) = counters[at].bytes.get_mut(tally.range) {
            *bytes += tally.bytes;
        }
        Ok(())
    }

    fn finish(self, selected: Selected) -> Vec<Counted> {
        let by_level = self.ask.by_level;
        let streams = selected.streams.into_iter().zip(self.by_stream);
        let counted = streams.flat_map(|(stream, counters)| {
            counters.into_iter().map(move |counter| Counted {
                labels: stream.labels.clone(),
                level: by_level.then(|| Level::from_number(counter.level)),
                lines: counter.lines,
                bytes: counter.bytes,
            })
        });
        counted.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_end_where_they_should(mut times in proptest::collection::vec(0_i64..40, 0..40), end in 0_i64..45) {
            times.sort_unstable();
            prop_assert_eq!(run(&times, end), times.partition_point(|&ts| ts < end));
        }
    }
}
