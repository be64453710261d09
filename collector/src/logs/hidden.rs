//! What deletion requests hide from queries, from live tails, and from merges that erase it.
//!
//! A request covers streams, a range of time and, if it has filters, only some lines. A block or chunk
//! all of whose lines are covered is left out like one of another time; of one that may have such lines
//! the passing rows are found as for a query, less those that pass the request's filters too. So what is
//! hidden follows from the same code as what is found.
//!
//! Once erasing has begun a request covers only segments that were there then and were not rewritten
//! since: lines that came later are others.

use std::sync::{Arc, OnceLock};

use taffrail_model::{Labels, LogEntry, Matcher, Nanos, StreamEntries, TimeRange};
use taffrail_query::deletion::Lines;
use taffrail_query::source::LineFilter;

use super::block::Decoder;
use super::block_set::BlockSet;
use super::deletions::record::Record;
use super::filter::Filter;
use super::need::{self, Need};
use super::opened::Opened;
use super::rows::Rows;
use super::segment::Segment;
use super::streams::Streams;

/// A deletion request, ready to hide.
pub(super) struct Hide {
    id: u64,
    matchers: Vec<Matcher>,
    filters: Vec<LineFilter>,
    filter: Filter,
    need: Need,
    range: TimeRange,
    /// Once erasing has begun: only segments below this number.
    cut: Option<u64>,
}

impl Hide {
    /// What a request hides.
    pub(super) fn new(record: &Record, lines: Lines) -> Self {
        let Lines { matchers, filters } = lines;
        Self {
            id: record.id,
            filter: Filter::new(&filters, record.range()),
            need: need::of_filters(&filters),
            matchers,
            filters,
            range: record.range(),
            cut: record.begun().map(|begun| begun.cut),
        }
    }

    /// The same request one step on.
    pub(super) fn advanced(&self, record: &Record) -> Self {
        let (matchers, filters) = (self.matchers.clone(), self.filters.clone());
        Self::new(record, Lines { matchers, filters })
    }

    /// The number of the request.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Whether its lines are being erased.
    pub(super) fn is_erasing(&self) -> bool {
        self.cut.is_some()
    }

    /// Whether a segment, or memory, can have lines of it.
    pub(super) fn concerns(&self, segment: Option<&Segment>) -> bool {
        match segment {
            None => self.cut.is_none(),
            Some(segment) => {
                let meta = segment.meta();
                self.range.overlaps(meta.first, meta.last)
                    && self.cut.is_none_or(|cut| meta.order < cut)
                    && !segment.is_rid_of(self.id)
            }
        }
    }

    fn covers(&self, entry: &LogEntry) -> bool {
        self.range.contains(entry.ts) && self.filters.iter().all(|f| f.passes(&entry.line))
    }

    fn covers_stream(&self, labels: &Labels) -> bool {
        self.cut.is_none() && self.matchers.iter().all(|m| m.matches_labels(labels))
    }
}

/// Takes hidden lines out of a batch on its way to live tails.
pub(super) fn take_out(hides: &[Arc<Hide>], batch: &mut [StreamEntries]) {
    for stream in batch {
        for hide in hides.iter().filter(|hide| hide.covers_stream(&stream.labels)) {
            stream.entries.retain(|entry| !hide.covers(entry));
        }
    }
}

/// The requests that matter to one scan.
#[derive(Default)]
pub(super) struct Hiding(Vec<Cover>);

struct Cover {
    hide: Arc<Hide>,
    /// Ascending.
    streams: Vec<u32>,
}

/// What is hidden of a block or chunk.
pub(super) enum Hidden {
    /// All of it.
    All,
    /// What these requests hide, by their place; often none.
    By(Vec<u32>),
}

impl Hiding {
    /// Those of all requests that have to do with a range of time.
    pub(super) fn new(hides: &[Arc<Hide>], range: TimeRange, streams: &Streams) -> Self {
        let meets =
            |hide: &&Arc<Hide>| hide.range.start < range.end && range.start < hide.range.end;
        let cover = |hide: &Arc<Hide>| Cover {
            hide: Arc::clone(hide),
            streams: streams.select(&hide.matchers),
        };
        Self(hides.iter().filter(meets).map(cover).collect())
    }

    /// How many requests there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is hidden of the lines of a stream from a first to a last time, in a segment or in memory.
    pub(super) fn of(
        &self,
        stream: u32,
        (first, last): (Nanos, Nanos),
        segment: Option<&Segment>,
    ) -> Hidden {
        let mut by = Vec::new();
        for (at, cover) in (0..).zip(&self.0) {
            let hide = &cover.hide;
            if !hide.range.overlaps(first, last)
                || !hide.concerns(segment)
                || cover.streams.binary_search(&stream).is_err()
            {
                continue;
            }
            if hide.filters.is_empty() && hide.range.contains(first) && hide.range.contains(last) {
                return Hidden::All;
            }
            by.push(at);
        }
        Hidden::By(by)
    }

    /// Takes the hidden rows of a chunk out of some of its rows.
    pub(super) fn sift_chunk(&self, by: &[u32], rows: &Rows, passing: &mut Vec<u32>) {
        for cover in by.iter().filter_map(|&at| self.0.get(at as usize)) {
            subtract(passing, &cover.hide.filter.passing(rows));
        }
    }

    /// Takes the hidden rows of a block out of some of its rows.
    pub(super) fn sift_block(
        &self,
        by: &[u32],
        may_have: &MayHide,
        (segment, number): (&Segment, u32),
        passing: &mut Vec<u32>,
        (block, decoder): (&mut Opened<'_>, &mut Decoder),
    ) -> std::io::Result<()> {
        for &at in by {
            let Some(cover) = self.0.get(at as usize) else { continue };
            if passing.is_empty() {
                break;
            }
            if may_have.block(at, &cover.hide, segment, number) {
                let hidden = block.passing(&cover.hide.filter, decoder)?;
                subtract(passing, &hidden.into_numbers());
            }
        }
        Ok(())
    }

    /// How many rows of a block a request hides, and the bytes of their text.
    pub(super) fn count(
        &self,
        at: u32,
        may_have: &MayHide,
        (segment, number): (&Segment, u32),
        (block, decoder): (&mut Opened<'_>, &mut Decoder),
    ) -> std::io::Result<(u64, u64)> {
        let Some(cover) = self.0.get(at as usize) else { return Ok((0, 0)) };
        if !may_have.block(at, &cover.hide, segment, number) {
            return Ok((0, 0));
        }
        let rows = block.passing(&cover.hide.filter, decoder)?.into_numbers();
        if rows.is_empty() {
            return Ok((0, 0));
        }
        let lengths = block.lengths(decoder)?;
        let bytes = rows.iter().filter_map(|&row| lengths.get(row as usize));
        Ok((rows.len() as u64, bytes.map(|&bytes| u64::from(bytes)).sum()))
    }
}

/// Which blocks of a segment may have lines of each request; looked up when it is asked first.
pub(super) struct MayHide(Vec<OnceLock<BlockSet>>);

impl MayHide {
    /// Of a segment that was not looked at yet.
    pub(super) fn new(hiding: &Hiding) -> Self {
        Self(std::iter::repeat_with(OnceLock::new).take(hiding.len()).collect())
    }

    fn block(&self, at: u32, hide: &Hide, segment: &Segment, number: u32) -> bool {
        self.0.get(at as usize).is_none_or(|known| {
            known.get_or_init(|| segment.candidates(&hide.need)).contains(number)
        })
    }
}

/// Takes ascending numbers out of ascending numbers.
fn subtract(from: &mut Vec<u32>, what: &[u32]) {
    let mut what = what.iter().copied().peekable();
    from.retain(|&number| {
        while what.next_if(|&other| other < number).is_some() {}
        what.peek() != Some(&number)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn subtracts(
            from in proptest::collection::btree_set(0_u32..30, 0..20),
            what in proptest::collection::btree_set(0_u32..30, 0..20),
        ) {
            let mut left: Vec<u32> = from.iter().copied().collect();
            subtract(&mut left, &what.iter().copied().collect::<Vec<_>>());
            let expected: BTreeSet<u32> = from.difference(&what).copied().collect();
            prop_assert_eq!(left, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
