//! Which rows of a block have passed which filters: kept for a while, since dashboards ask the same
//! again and again and blocks never change.
//!
//! Of each of the last [`QUERIES_MAX`] sets of filters, by segment and block: the passing rows, whatever
//! their time and whatever deletion requests hide. A block with none costs nothing the next time, and
//! one with some is counted by its times alone. All together stay about below [`BYTES_MAX`]: the filters
//! that were not asked for longest are forgotten first, and one set takes at most half.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use regex::Regex;
use taffrail_query::source::LineFilter;

use super::segment::Segment;

/// Most memory of all, in bytes.
const BYTES_MAX: usize = 16 << 20;
/// Most sets of filters.
const QUERIES_MAX: usize = 64;
/// Longest set of filters that is remembered, in bytes.
const KEY_BYTES_MAX: usize = 4 << 10;

/// The rows of one block that pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Every row.
    All,
    /// As bits.
    Bits(Box<[u64]>),
    /// Their numbers, ascending.
    Numbers(Box<[u32]>),
}

impl Rows {
    /// From ascending numbers, of a block with so many rows.
    pub(super) fn new(numbers: &[u32], rows: u32) -> Self {
        if numbers.len() == rows as usize {
            return Self::All;
        }
        let words = (rows as usize).div_ceil(64);
        if numbers.len() * 4 <= words * 8 {
            return Self::Numbers(numbers.into());
        }
        let mut bits = vec![0_u64; words];
        numbers.iter().for_each(|&row| bits[row as usize / 64] |= 1 << (row % 64));
        Self::Bits(bits.into())
    }

    /// The numbers, ascending, of a block with so many rows.
    pub(super) fn numbers(&self, rows: u32) -> Vec<u32> {
        match self {
            Self::All => (0..rows).collect(),
            Self::Numbers(numbers) => numbers.to_vec(),
            Self::Bits(bits) => {
                let mut numbers = Vec::new();
                for (at, &word) in (0_u32..).zip(bits) {
                    let mut word = word;
                    while word != 0 {
                        numbers.push(at * 64 + word.trailing_zeros());
                        word &= word - 1;
                    }
                }
                numbers
            }
        }
    }

    /// How many there are, of a block with so many rows.
    pub(super) fn count(&self, rows: u32) -> u64 {
        match self {
            Self::All => rows.into(),
            Self::Numbers(numbers) => numbers.len() as u64,
            Self::Bits(bits) => bits.iter().map(|word| u64::from(word.count_ones())).sum(),
        }
    }

    /// Whether there is none. A block has rows.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Numbers(numbers) if numbers.is_empty())
    }

    fn bytes(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Bits(bits) => size_of_val(&**bits),
            Self::Numbers(numbers) => size_of_val(&**numbers),
        }
    }
}

/// What is known of the blocks of a segment.
pub(super) struct OfSegment {
    blocks: Box<[OnceLock<Rows>]>,
    bytes: Arc<AtomicUsize>,
}

impl OfSegment {
    /// The passing rows of a block, if they are known.
    pub(super) fn get(&self, block: u32) -> Option<&Rows> {
        self.blocks.get(block as usize)?.get()
    }

    /// Remembers the passing rows of a block, if there is room.
    pub(super) fn put(&self, block: u32, rows: impl FnOnce() -> Rows) {
        if self.bytes.load(Relaxed) < BYTES_MAX / 2
            && let Some(place) = self.blocks.get(block as usize)
        {
            let rows = rows();
            let bytes = rows.bytes();
            if place.set(rows).is_ok() {
                self.bytes.fetch_add(bytes, Relaxed);
            }
        }
    }
}

/// What is known for one set of filters.
pub(super) struct OfFilters {
    segments: Mutex<HashMap<u64, Arc<OfSegment>>>,
    bytes: Arc<AtomicUsize>,
}

impl OfFilters {
    /// What is known of a segment; none when there is no room for it.
    pub(super) fn of(&self, segment: &Segment) -> Option<Arc<OfSegment>> {
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = segments.get(&segment.identity()) {
            return Some(Arc::clone(known));
        }
        let blocks: Box<[OnceLock<Rows>]> =
            std::iter::repeat_with(OnceLock::new).take(segment.headers().len()).collect();
        let bytes = size_of_val(&*blocks);
        if self.bytes.load(Relaxed) + bytes > BYTES_MAX / 2 {
            return None;
        }
        self.bytes.fetch_add(bytes, Relaxed);
        let known = Arc::new(OfSegment { blocks, bytes: Arc::clone(&self.bytes) });
        segments.insert(segment.identity(), Arc::clone(&known));
        Some(known)
    }
}

/// What is known for the last sets of filters.
#[derive(Default)]
pub(super) struct Known {
    /// The last one asked for is the last.
    queries: Mutex<Vec<(String, Arc<OfFilters>)>>,
}

impl Known {
    /// What is known for these filters, and will be; nothing is kept for none, or for very long ones.
    pub(super) fn of(&self, filters: &[LineFilter]) -> Option<Arc<OfFilters>> {
        let key = key(filters).filter(|key| key.len() <= KEY_BYTES_MAX && !filters.is_empty())?;
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match queries.iter().position(|(other, _)| *other == key) {
            Some(at) => queries.remove(at).1,
            None => {
                let segments = Mutex::new(HashMap::new());
                Arc::new(OfFilters { segments, bytes: Arc::new(AtomicUsize::new(0)) })
            }
        };
        let bytes = |queries: &[(String, Arc<OfFilters>)]| {
            queries.iter().map(|(_, known)| known.bytes.load(Relaxed)).sum::<usize>()
        };
        while queries.len() >= QUERIES_MAX
            || (!queries.is_empty() && bytes(&queries) + known.bytes.load(Relaxed) > BYTES_MAX)
        {
            queries.remove(0);
        }
        queries.push((key, Arc::clone(&known)));
        Some(known)
    }

    /// Forgets segments that are no more.
    pub(super) fn keep_only(&self, segments: &[Arc<Segment>]) {
        let left: HashSet<u64> = segments.iter().map(|segment| segment.identity()).collect();
        let queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, known) in queries.iter() {
            let mut of = known.segments.lock().unwrap_or_else(PoisonError::into_inner);
            of.retain(|number, _| left.contains(number));
            let bytes = of.values().flat_map(|known| &known.blocks);
            let bytes = bytes.map(|b| size_of_val(b) + b.get().map_or(0, Rows::bytes)).sum();
            known.bytes.store(bytes, Relaxed);
        }
    }
}

/// Filters as a text that differs when they do.
fn key(filters: &[LineFilter]) -> Option<String> {
    let mut key = String::new();
    for filter in filters {
        let (kind, texts): (_, Vec<&str>) = match filter {
            LineFilter::Contains(texts) => ("|=", texts.iter().map(String::as_str).collect()),
            LineFilter::NotContains(texts) => ("!=", texts.iter().map(String::as_str).collect()),
            LineFilter::Matches(all) => ("|~", all.iter().map(Regex::as_str).collect()),
            LineFilter::NotMatches(all) => ("!~", all.iter().map(Regex::as_str).collect()),
        };
        write!(key, "{kind}{}", texts.len()).ok()?;
        for text in texts {
            write!(key, ",{}:{text}", text.len()).ok()?;
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_back(
            rows in 1_u32..300, raw in proptest::collection::btree_set(0_u32..300, 0..300),
        ) {
            let numbers: Vec<u32> = raw.into_iter().filter(|&row| row < rows).collect();
            let kept = Rows::new(&numbers, rows);
            prop_assert_eq!(kept.count(rows), numbers.len() as u64);
            prop_assert_eq!(kept.is_empty(), numbers.is_empty());
            prop_assert_eq!(kept.numbers(rows), numbers);
            prop_assert!(kept.bytes() <= (rows as usize).div_ceil(64) * 8);
        }
    }

    #[test]
    fn other_filters_have_other_keys() {
        let texts = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        let expression = |text: &str| vec![Regex::new(text).unwrap()];
        let all = [
            vec![],
            vec![LineFilter::Contains(texts(&["a"]))],
            vec![LineFilter::NotContains(texts(&["a"]))],
            vec![LineFilter::Matches(expression("a"))],
            vec![LineFilter::NotMatches(expression("a"))],
            vec![LineFilter::Contains(texts(&["a", "b"]))],
            vec![LineFilter::Contains(texts(&["a,1:b"]))],
            vec![LineFilter::Contains(texts(&["a"])), LineFilter::Contains(texts(&["b"]))],
            vec![LineFilter::Contains(texts(&["a|=1,1:b"]))],
        ];
        let keys: std::collections::BTreeSet<_> = all.iter().map(|filters| key(filters)).collect();
        assert_eq!(keys.len(), all.len());
    }

    #[test]
    fn what_was_not_asked_for_longest_is_forgotten() {
        let known = Known::default();
        let of = |n: usize| known.of(&[LineFilter::Contains(vec![n.to_string()])]).unwrap();
        assert!(known.of(&[]).is_none());
        let first = of(0);
        for n in 1..QUERIES_MAX {
            of(n);
        }
        assert!(Arc::ptr_eq(&first, &of(0)), "asked again, it is the newest");
        for n in 1..QUERIES_MAX {
            of(n + QUERIES_MAX);
        }
        assert!(Arc::ptr_eq(&first, &of(0)));
        first.bytes.store(BYTES_MAX + 1, Relaxed);
        of(1);
        assert!(!Arc::ptr_eq(&first, &of(0)), "one that takes all goes");
    }
}
