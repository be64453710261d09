//! Which series there are: label sets interned once, and for each label value the series that have
//! it.
//!
//! A series is a number, counted from 0 without holes; its identity everywhere else is the
//! fingerprint of its labels. Texts are kept once ([`Symbols`]), a label is two numbers. The lists
//! of series are ascending because series are only ever appended; [`Index::retain`] builds a new
//! index when many have gone.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use taffrail_model::sample::METRIC_NAME;
use taffrail_model::{Labels, MatchOp, Matcher, MetricKind};

/// Number of a series in the index.
pub(super) type SeriesId = u32;

/// Every text that a label name or value has, once.
#[derive(Default)]
pub(super) struct Symbols {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Symbols {
    /// The number of a text, new if need be.
    pub(super) fn intern(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).expect("memory ends before 2^32 texts");
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    /// The number of a text that is known.
    pub(super) fn number(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The text of a number that [`Symbols::intern`] gave.
    pub(super) fn text(&self, number: u32) -> &Arc<str> {
        &self.texts[number as usize]
    }

    /// How many texts there are.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// A fingerprint is a hash already: the table takes its lower half as it is.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, half: u64) {
        self.0 ^= half;
    }
}

/// Two halves instead of one `u128`, which would align every slot of the table to 16 bytes.
type Halves = (u64, u64);

fn halves(fingerprint: u128) -> Halves {
    (fingerprint as u64, (fingerprint >> 64) as u64)
}

/// [`Labels::fingerprint`] over one run of bytes, which is three times as fast as piece by piece. The
/// buffer is only lent.
pub(super) fn fingerprint(labels: &Labels, buffer: &mut Vec<u8>) -> u128 {
    buffer.clear();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        buffer.extend_from_slice(text.as_bytes());
        buffer.push(0xFF);
    }
    xxhash_rust::xxh3::xxh3_128(buffer)
}

struct Series {
    fingerprint: Halves,
    /// Name and value of each label, in order of the names' texts.
    pairs: Box<[(u32, u32)]>,
}

/// All series and where to find them.
#[derive(Default)]
pub(super) struct Index {
    symbols: Symbols,
    series: Vec<Series>,
    numbers: HashMap<Halves, SeriesId, BuildHasherDefault<Taken>>,
    postings: HashMap<u32, HashMap<u32, Vec<SeriesId>>>,
    kinds: BTreeMap<String, MetricKind>,
}

impl Index {
    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// How many different label names and values there are.
    pub(super) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The series with this fingerprint.
    pub(super) fn find(&self, fingerprint: u128) -> Option<SeriesId> {
        self.numbers.get(&halves(fingerprint)).copied()
    }

    /// Adds a series that is not there yet.
    pub(super) fn insert<'l>(
        &mut self,
        fingerprint: u128,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
    ) -> SeriesId {
        let id = SeriesId::try_from(self.series.len()).expect("memory ends before 2^32 series");
        let pairs: Box<[(u32, u32)]> =
            labels.map(|(n, v)| (self.symbols.intern(n), self.symbols.intern(v))).collect();
        for (name, value) in &pairs {
            self.postings.entry(*name).or_default().entry(*value).or_default().push(id);
        }
        self.numbers.insert(halves(fingerprint), id);
        self.series.push(Series { fingerprint: halves(fingerprint), pairs });
        id
    }

    /// Keeps what a metric is declared to be, under the name of its family.
    pub(super) fn declare(&mut self, name: &str, kind: MetricKind) {
        if kind == MetricKind::Unknown {
            return;
        }
        let family = family(name, kind);
        if self.kinds.get(family) != Some(&kind) {
            self.kinds.insert(family.to_owned(), kind);
        }
    }

    /// The declared kinds by family.
    pub(super) fn kinds(&self) -> &BTreeMap<String, MetricKind> {
        &self.kinds
    }

    /// The declared kind of the metric that a series belongs to.
    pub(super) fn kind(&self, id: SeriesId) -> MetricKind {
        let name = self.value(id, METRIC_NAME);
        let candidates = [
            name,
            name.strip_suffix("_bucket").unwrap_or(name),
            name.strip_suffix("_count").unwrap_or(name),
            name.strip_suffix("_sum").unwrap_or(name),
        ];
        let known = candidates.iter().find_map(|family| self.kinds.get(*family));
        known.copied().unwrap_or_default()
    }

    /// The fingerprint of a series.
    pub(super) fn fingerprint(&self, id: SeriesId) -> u128 {
        let (low, high) = self.series[id as usize].fingerprint;
        u128::from(low) | (u128::from(high) << 64)
    }

    /// The labels of a series as numbers of [`Index::symbols`].
    pub(super) fn pairs(&self, id: SeriesId) -> &[(u32, u32)] {
        &self.series[id as usize].pairs
    }

    /// The labels of a series.
    pub(super) fn labels(&self, id: SeriesId) -> Labels {
        let text = |number: u32| self.symbols.text(number).clone();
        Labels::from_pairs(self.pairs(id).iter().map(|(n, v)| (text(*n), text(*v))))
    }

    /// By what series are ordered in a block: the name of the metric, then the number. Numbers are
    /// given as series are met, target by target, and at the start as they lie in the oldest block:
    /// so within each name the targets come in the same order, in every block.
    pub(super) fn order_keys(&self, ids: &[SeriesId]) -> Vec<(Arc<str>, SeriesId)> {
        let none: Arc<str> = "".into();
        let name = self.symbols.number(METRIC_NAME);
        let key = |id: &SeriesId| {
            let pair = self.pairs(*id).iter().find(|(n, _)| Some(*n) == name);
            let text = pair.map_or(&none, |(_, value)| self.symbols.text(*value));
            (text.clone(), *id)
        };
        ids.iter().map(key).collect()
    }

    /// The series that satisfy all matchers, ascending.
    pub(super) fn resolve(&self, matchers: &[Matcher]) -> Vec<SeriesId> {
        let mut ids = self.candidates(matchers);
        for matcher in matchers {
            let Some(name) = self.symbols.number(&matcher.name) else {
                if !matcher.matches_empty() {
                    return Vec::new();
                }
                continue;
            };
            let absent = matcher.matches_empty();
            // A value is looked at once, however many series have it.
            let mut seen: HashMap<u32, bool> = HashMap::new();
            ids.retain(|id| {
                let pair = self.pairs(*id).iter().find(|(n, _)| *n == name);
                pair.map_or(absent, |(_, value)| {
                    *seen
                        .entry(*value)
                        .or_insert_with(|| matcher.matches(self.symbols.text(*value)))
                })
            });
        }
        ids
    }

    /// A superset of the answer, as small as one look at each matcher makes it.
    fn candidates(&self, matchers: &[Matcher]) -> Vec<SeriesId> {
        let exact = matchers.iter().filter(|m| m.op == MatchOp::Equal && !m.value.is_empty());
        let mut shortest: Option<&[SeriesId]> = None;
        for matcher in exact {
            let list = self.posting(&matcher.name, &matcher.value);
            if shortest.is_none_or(|s| list.len() < s.len()) {
                shortest = Some(list);
            }
        }
        if let Some(list) = shortest {
            return list.to_vec();
        }
        match matchers.iter().find(|m| !m.matches_empty()) {
            Some(matcher) => self.union(matcher),
            None => (0..self.series.len() as SeriesId).collect(),
        }
    }

    fn posting(&self, name: &str, value: &str) -> &[SeriesId] {
        let numbers = self.symbols.number(name).zip(self.symbols.number(value));
        let list = numbers.and_then(|(name, value)| self.postings.get(&name)?.get(&value));
        list.map_or(&[], Vec::as_slice)
    }

    fn union(&self, matcher: &Matcher) -> Vec<SeriesId> {
        let name = self.symbols.number(&matcher.name);
        let Some(values) = name.and_then(|name| self.postings.get(&name)) else {
            return Vec::new();
        };
        let matching = values.iter().filter(|(v, _)| matcher.matches(self.symbols.text(**v)));
        let mut ids: Vec<SeriesId> = matching.flat_map(|(_, list)| list).copied().collect();
        ids.sort_unstable();
        ids
    }

    fn value(&self, id: SeriesId, name: &str) -> &str {
        let Some(name) = self.symbols.number(name) else { return "" };
        let pair = self.pairs(id).iter().find(|(n, _)| *n == name);
        pair.map_or("", |(_, value)| self.symbols.text(*value))
    }

    /// A new index of only the series that `keep` names, and the new number of each old one.
    pub(super) fn retain(&self, keep: impl Fn(SeriesId) -> bool) -> (Self, Vec<Option<SeriesId>>) {
        let mut kept = Self::default();
        let mut moved = vec![None; self.series.len()];
        for id in 0..self.series.len() as SeriesId {
            if !keep(id) {
                continue;
            }
            let text = |number: u32| &**self.symbols.text(number);
            let labels = self.pairs(id).iter().map(|(n, v)| (text(*n), text(*v)));
            moved[id as usize] = Some(kept.insert(self.fingerprint(id), labels));
            kept.declare(self.value(id, METRIC_NAME), self.kind(id));
        }
        (kept, moved)
    }
}

/// The name under which a metric's kind is declared.
fn family(name: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram => &["_bucket", "_sum", "_count"],
        MetricKind::Summary => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(sets: &[Labels]) -> Index {
        let mut index = Index::default();
        for labels in sets {
            if index.find(labels.fingerprint()).is_none() {
                index.insert(labels.fingerprint(), labels.iter());
            }
        }
        index
    }

    fn any_labels() -> impl Strategy<Value = Labels> {
        proptest::collection::btree_map("[abc]", "[xyz]{1,2}", 0..4).prop_map(Labels::from_pairs)
    }

    fn any_matcher() -> impl Strategy<Value = Matcher> {
        let ops = vec![MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        let values = vec!["", "x", "y|zz", ".*", ".+", "x.?", "(x|)", "nothing"];
        ("[abcd]", proptest::sample::select(ops), proptest::sample::select(values))
            .prop_map(|(name, op, value)| Matcher::new(&name, op, value, true).expect("valid"))
    }

    proptest! {
        #[test]
        fn matchers_select_what_a_scan_would(
            sets in proptest::collection::vec(any_labels(), 0..20),
            matchers in proptest::collection::vec(any_matcher(), 0..4),
        ) {
            let index = index(&sets);
            let mut found: Vec<Labels> =
                index.resolve(&matchers).into_iter().map(|id| index.labels(id)).collect();
            let mut expected: Vec<Labels> = sets.iter()
                .filter(|labels| matchers.iter().all(|m| m.matches_labels(labels))).cloned().collect();
            found.sort();
            expected.sort();
            expected.dedup();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn fingerprints_are_those_of_the_model(
            labels in proptest::collection::btree_map(".{0,9}", ".{0,200}", 0..9),
        ) {
            let labels = Labels::from_pairs(labels);
            prop_assert_eq!(fingerprint(&labels, &mut vec![7]), labels.fingerprint());
        }

        #[test]
        fn a_retained_index_answers_for_what_is_left(
            sets in proptest::collection::vec(any_labels(), 0..20), odd in any::<bool>(),
        ) {
            let old = index(&sets);
            let (new, moved) = old.retain(|id| (id % 2 == 1) == odd);
            for id in 0..old.len() as SeriesId {
                let there = new.find(old.fingerprint(id));
                prop_assert_eq!(there, moved[id as usize]);
                prop_assert_eq!(there.is_some(), (id % 2 == 1) == odd);
                if let Some(there) = there {
                    prop_assert_eq!(new.labels(there), old.labels(id));
                }
            }
        }
    }

    #[test]
    fn kinds_are_declared_for_families() {
        let mut index = Index::default();
        index.declare("http_seconds_bucket", MetricKind::Histogram);
        index.declare("rpc_sum", MetricKind::Summary);
        index.declare("requests_total", MetricKind::Counter);
        index.declare("queue_count", MetricKind::Gauge);
        index.declare("unknown", MetricKind::Unknown);
        let families: Vec<_> = index.kinds().keys().map(String::as_str).collect();
        assert_eq!(families, ["http_seconds", "queue_count", "requests_total", "rpc"]);
        let labels = Labels::from_pairs([(METRIC_NAME, "http_seconds_count")]);
        let id = index.insert(labels.fingerprint(), labels.iter());
        assert_eq!(index.kind(id), MetricKind::Histogram);
    }
}
