//! The store against a map: whatever is applied, flushed, merged, reopened and replayed, a query
//! gives what a brute-force scan gives.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use taffrail_model::sample::METRIC_NAME;
use taffrail_model::{Labels, MatchOp, Matcher, MetricKind, Sample, SeriesSamples};
use taffrail_query::source::{Cancel, SeriesSelect, SeriesSource, SourceError};

use super::{Applied, Error, MetricStore, MetricStoreConfig, Opened};

const NOW: i64 = 1_800_000_000_000;

type Rows = BTreeMap<Labels, Vec<(i64, u64)>>;

fn config(folder: &Path) -> MetricStoreConfig {
    let day = Duration::from_secs(86_400);
    MetricStoreConfig {
        out_of_order: day,
        retention: 2 * day,
        now: || NOW,
        ..MetricStoreConfig::new(folder.to_owned())
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn series(labels: &Labels, samples: &[(i64, f64)]) -> SeriesSamples {
    let samples = samples.iter().map(|(ts, value)| Sample { ts: *ts, value: *value }).collect();
    SeriesSamples { labels: labels.clone(), kind: MetricKind::Gauge, samples }
}

fn select(store: &MetricStore, matchers: &[Matcher], start: i64, end: i64) -> Rows {
    try_select(store, matchers, start, end).expect("the store is whole")
}

fn try_select(
    store: &MetricStore,
    matchers: &[Matcher],
    start: i64,
    end: i64,
) -> Result<Rows, SourceError> {
    let select = SeriesSelect { matchers: matchers.to_vec(), start, end, cancel: Cancel::new() };
    let mut rows = Rows::new();
    store.select(&select, &mut |labels, times, values| {
        let bits = values.iter().map(|v| v.to_bits());
        let row = times.iter().copied().zip(bits).collect();
        assert!(rows.insert(labels.clone(), row).is_none(), "each series comes once");
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<(usize, i64, f64)>),
    Flush,
    Tick,
    /// Replays what the store asks for.
    Reopen,
    /// Replays the whole WAL.
    ReopenAll,
}

fn any_step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![
        any::<f64>(),
        (0i32..1000).prop_map(f64::from),
        Just(taffrail_model::sample::stale_nan()),
    ];
    let samples = proptest::collection::vec((0usize..6, 0i64..400, value), 1..30);
    prop_oneof![
        5 => samples.prop_map(Step::Apply),
        2 => Just(Step::Flush),
        1 => Just(Step::Tick),
        1 => Just(Step::Reopen),
        1 => Just(Step::ReopenAll),
    ]
}

fn any_matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let ops = vec![MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let values = vec!["", "up", "a", "b", "a|b", ".*", ".+"];
    let one = (
        proptest::sample::select(vec![METRIC_NAME, "pod", "none"]),
        proptest::sample::select(ops),
        proptest::sample::select(values),
    );
    proptest::collection::vec(one, 0..3).prop_map(|all| {
        let matcher = |(name, op, value)| Matcher::new(name, op, value, true).expect("valid");
        all.into_iter().map(matcher).collect()
    })
}

fn six_series() -> Vec<Labels> {
    vec![
        labels(&[(METRIC_NAME, "up")]),
        labels(&[(METRIC_NAME, "up"), ("pod", "a")]),
        labels(&[(METRIC_NAME, "up"), ("pod", "b")]),
        labels(&[(METRIC_NAME, "down"), ("pod", "a")]),
        labels(&[("pod", "b")]),
        labels(&[]),
    ]
}

/// A store, the WAL that it would be replayed from, and the truth.
struct World {
    folder: tempfile::TempDir,
    store: Option<Arc<MetricStore>>,
    wal: Vec<Vec<SeriesSamples>>,
    truth: BTreeMap<Labels, BTreeMap<i64, u64>>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = MetricStore::open(config(folder.path())).unwrap().store;
        Self { folder, store: Some(store), wal: Vec::new(), truth: BTreeMap::new() }
    }

    fn store(&self) -> &MetricStore {
        self.store.as_ref().expect("only gone while it is reopened")
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Apply(samples) => self.apply(samples),
            Step::Flush => {
                self.store().flush().unwrap();
                assert_eq!(self.store().durable_seq(), self.wal.len() as u64);
            }
            Step::Tick => while self.store().tick().unwrap() {},
            Step::Reopen => self.reopen(false),
            Step::ReopenAll => self.reopen(true),
        }
    }

    fn reopen(&mut self, all: bool) {
        self.store = None;
        let Opened { store, replay_from } = MetricStore::open(config(self.folder.path())).unwrap();
        let from = if all { 0 } else { replay_from as usize };
        for (seq, batch) in self.wal.iter().enumerate().skip(from) {
            store.apply(seq as u64, batch);
        }
        self.store = Some(store);
    }

    fn apply(&mut self, samples: Vec<(usize, i64, f64)>) {
        let sets = six_series();
        let mut batch = Vec::new();
        for (which, second, value) in samples {
            let ts = NOW - second * 1000;
            batch.push(series(&sets[which], &[(ts, value)]));
            let row = self.truth.entry(sets[which].clone()).or_default();
            row.entry(ts).or_insert_with(|| value.to_bits());
        }
        let applied = self.store().apply(self.wal.len() as u64, &batch);
        assert_eq!(applied.accepted + applied.duplicates, batch.len() as u64, "{applied:?}");
        self.wal.push(batch);
    }

    fn expected(&self, matchers: &[Matcher], start: i64, end: i64) -> Rows {
        let selected =
            self.truth.iter().filter(|(l, _)| matchers.iter().all(|m| m.matches_labels(l)));
        let rows = selected.map(|(labels, row)| {
            (labels.clone(), row.range(start..=end).map(|(ts, bits)| (*ts, *bits)).collect())
        });
        rows.filter(|(_, row): &(Labels, Vec<_>)| !row.is_empty()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn answers_equal_a_brute_force_scan(
        steps in proptest::collection::vec(any_step(), 1..30),
        queries in proptest::collection::vec((any_matchers(), 0i64..400, 0i64..400), 1..6),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        for (matchers, from, span) in queries {
            let start = NOW - from * 1000;
            let end = start + span * 1000;
            let expected = world.expected(&matchers, start, end);
            let found = select(world.store(), &matchers, start, end);
            prop_assert_eq!(&found, &expected);
            let listed = world.store().series(&matchers, start, end).unwrap();
            prop_assert!(listed.is_sorted());
            for labels in expected.keys() {
                prop_assert!(listed.contains(labels));
            }
        }
    }
}

#[test]
fn four_flushes_become_one_block() {
    let mut world = World::new();
    for at in 0..4 {
        world.run(Step::Apply(vec![(1, 100 - at, 1.5), (2, 100 - at, 2.0)]));
        world.run(Step::Flush);
    }
    assert_eq!(world.store().stats().blocks, 4);
    world.run(Step::Tick);
    let stats = world.store().stats();
    assert_eq!((stats.blocks, stats.block_samples), (1, 8));
    assert_eq!(select(world.store(), &[], 0, NOW), world.expected(&[], 0, NOW));
    world.run(Step::Reopen);
    assert_eq!(select(world.store(), &[], 0, NOW), world.expected(&[], 0, NOW));
}

#[test]
fn a_long_series_is_cut_into_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let store = MetricStore::open(config(folder.path())).unwrap().store;
    let set = labels(&[(METRIC_NAME, "up")]);
    let samples: Vec<(i64, f64)> = (0..10_000).map(|at| (NOW - 100_000 + at, at as f64)).collect();
    store.apply(0, &[series(&set, &samples)]);
    store.flush().unwrap();
    let all = select(&store, &[], 0, NOW);
    let bits: Vec<(i64, u64)> = samples.iter().map(|(ts, v)| (*ts, v.to_bits())).collect();
    assert_eq!(all[&set], bits);
    let some = select(&store, &[], NOW - 95_500, NOW - 95_490);
    assert_eq!(some[&set], bits[4500..=4510]);
}

#[test]
fn what_is_refused_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let config = MetricStoreConfig { series_max: 1, ..config(folder.path()) };
    let store = MetricStore::open(config).unwrap().store;
    let (one, two) = (labels(&[("a", "1")]), labels(&[("a", "2")]));
    let day = 86_400_000;
    let batch = [
        series(&one, &[(NOW, 1.0), (NOW, 2.0), (NOW - day, 3.0), (NOW - day - 1, 4.0)]),
        series(&one, &[(NOW - 3 * day, 5.0), (NOW + day, 6.0)]),
        series(&two, &[(NOW, 1.0), (NOW + 1, 1.0)]),
    ];
    let applied = store.apply(0, &batch);
    let expected = Applied { accepted: 2, duplicates: 1, too_old: 2, too_new: 1, over_limit: 2 };
    assert_eq!(applied, expected);
    assert_eq!(store.stats().over_limit_samples, 2);
    assert_eq!(select(&store, &[], 0, NOW + day)[&one].len(), 2);
}

#[test]
fn a_damaged_block_is_set_aside_and_the_rest_is_served() {
    let mut world = World::new();
    world.run(Step::Apply(vec![(1, 100, 1.0)]));
    world.run(Step::Flush);
    world.run(Step::Apply(vec![(2, 50, 2.0)]));
    world.run(Step::Flush);
    world.store = None;
    let path = world.folder.path().join("000000000001.block");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 70]).unwrap();
    let Opened { store, replay_from } = MetricStore::open(config(world.folder.path())).unwrap();
    assert_eq!((replay_from, store.stats().damaged_blocks), (2, 1));
    let rows = select(&store, &[], 0, NOW);
    assert_eq!(rows.into_keys().collect::<Vec<_>>(), [six_series()[2].clone()]);
    assert!(!path.exists() && path.with_extension("damaged").exists());
}

#[test]
fn a_damaged_page_is_found_when_it_is_read() {
    let mut world = World::new();
    world.run(Step::Apply(vec![(1, 100, 1.0)]));
    world.run(Step::Flush);
    world.run(Step::Apply(vec![(2, 50, 2.0)]));
    world.run(Step::Flush);
    world.store = None;
    let path = world.folder.path().join("000000000001.block");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 0xFF;
    std::fs::write(&path, bytes).unwrap();
    world.run(Step::Reopen);
    let error = try_select(world.store(), &[], 0, NOW).unwrap_err().to_string();
    assert!(error.contains("set aside"), "{error}");
    assert_eq!(select(world.store(), &[], 0, NOW).len(), 1);
    assert_eq!(world.store().stats().damaged_blocks, 1);
}

#[test]
fn a_lost_manifest_is_rebuilt_and_leftovers_are_cleared() {
    let mut world = World::new();
    world.run(Step::Apply(vec![(1, 100, 1.0)]));
    world.run(Step::Flush);
    world.store = None;
    let leftover = world.folder.path().join("000000000009.block");
    std::fs::write(&leftover, "half").unwrap();
    std::fs::write(world.folder.path().join("000000000010.tmp"), "half").unwrap();
    world.run(Step::Reopen);
    assert!(!leftover.exists());
    world.store = None;
    std::fs::write(world.folder.path().join("manifest.json"), "{").unwrap();
    world.run(Step::Reopen);
    assert_eq!(world.store().durable_seq(), 1);
    assert_eq!(select(world.store(), &[], 0, NOW), world.expected(&[], 0, NOW));
}

#[test]
fn a_crash_before_the_manifest_leaves_the_old_store() {
    let mut world = World::new();
    world.run(Step::Apply(vec![(1, 100, 1.0)]));
    world.run(Step::Flush);
    let path = world.folder.path().join("manifest.json");
    let before = std::fs::read(&path).unwrap();
    world.run(Step::Apply(vec![(1, 90, 2.0), (2, 90, 3.0)]));
    world.run(Step::Flush);
    world.store = None;
    std::fs::write(&path, before).unwrap();
    world.run(Step::Reopen);
    assert_eq!((world.store().stats().blocks, world.store().durable_seq()), (1, 1));
    assert_eq!(select(world.store(), &[], 0, NOW), world.expected(&[], 0, NOW));
    world.run(Step::Flush);
    world.run(Step::Reopen);
    assert_eq!(world.store().stats().blocks, 2);
    assert_eq!(select(world.store(), &[], 0, NOW), world.expected(&[], 0, NOW));
}

#[test]
fn a_crash_after_a_merge_leaves_the_merged_block() {
    let mut world = World::new();
    for at in 0..4 {
        world.run(Step::Apply(vec![(1, 100 - at, 1.5)]));
        world.run(Step::Flush);
    }
    let path = world.folder.path().join("000000000001.block");
    let merged_away = std::fs::read(&path).unwrap();
    world.run(Step::Tick);
    assert!(!path.exists());
    world.store = None;
    std::fs::write(&path, merged_away).unwrap();
    world.run(Step::Reopen);
    assert!(!path.exists());
    assert_eq!(select(world.store(), &[], 0, NOW), world.expected(&[], 0, NOW));
}

#[test]
fn another_version_stops_the_start() {
    let mut world = World::new();
    world.run(Step::Apply(vec![(1, 100, 1.0)]));
    world.run(Step::Flush);
    world.store = None;
    let path = world.folder.path().join("000000000001.block");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    std::fs::write(&path, bytes).unwrap();
    let error = MetricStore::open(config(world.folder.path())).err().expect("refused");
    assert!(matches!(error, Error::Version { found: 9, .. }), "{error}");
}

#[test]
fn one_process_at_a_time() {
    let world = World::new();
    let error = MetricStore::open(config(world.folder.path())).err().expect("refused");
    assert!(matches!(error, Error::InUse { .. }), "{error}");
}

#[test]
fn old_blocks_and_their_series_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = MetricStore::open(config(folder.path())).unwrap().store;
    let (old, new) = (labels(&[("a", "old")]), labels(&[("a", "new")]));
    store.apply(0, &[series(&old, &[(NOW - 40 * 3_600_000, 1.0)])]);
    store.flush().unwrap();
    store.apply(1, &[series(&new, &[(NOW, 2.0)])]);
    store.flush().unwrap();
    drop(store);
    let day = Duration::from_secs(86_400);
    let shorter = MetricStoreConfig { retention: day, ..config(folder.path()) };
    let store = MetricStore::open(shorter).unwrap().store;
    assert!(store.tick().unwrap());
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.series), (1, 1));
    assert_eq!(
        select(&store, &[], 0, NOW).into_keys().collect::<Vec<_>>(),
        std::slice::from_ref(&new)
    );
    let applied = store.apply(2, &[series(&new, &[(NOW, 3.0), (NOW + 1, 4.0)])]);
    assert_eq!((applied.duplicates, applied.accepted), (1, 1));
    assert_eq!(select(&store, &[], 0, NOW + 1)[&new].len(), 2);
}

#[test]
fn a_running_query_keeps_the_numbers_of_its_series() {
    let folder = tempfile::tempdir().unwrap();
    let store = MetricStore::open(config(folder.path())).unwrap().store;
    let hour = 3_600_000;
    for (seq, name) in ["old", "older", "new"].into_iter().enumerate() {
        let ago = if name == "new" { 0 } else { 40 * hour };
        store.apply(seq as u64, &[series(&labels(&[("a", name)]), &[(NOW - ago, 1.0)])]);
        store.flush().unwrap();
    }
    drop(store);
    let day = Duration::from_secs(86_400);
    let shorter = MetricStoreConfig { retention: day, ..config(folder.path()) };
    let store = MetricStore::open(shorter).unwrap().store;
    let select = SeriesSelect { matchers: Vec::new(), start: 0, end: NOW, cancel: Cancel::new() };
    let each = &mut |_: &Labels, _: &[i64], _: &[f64]| {
        store.tick().unwrap();
        assert_eq!(store.stats().series, 3, "forgotten under a query");
        ControlFlow::Continue(())
    };
    store.select(&select, each).unwrap();
    store.tick().unwrap();
    assert_eq!(store.stats().series, 1, "forgotten after it");
}

#[test]
fn tick_flushes_when_memory_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let small = MetricStoreConfig { head_bytes_max: 1, ..config(folder.path()) };
    let store = MetricStore::open(small).unwrap().store;
    assert!(!store.tick().unwrap(), "nothing to do");
    store.apply(5, &[series(&labels(&[("a", "1")]), &[(NOW, 1.0)])]);
    assert_eq!(store.durable_seq(), 0);
    assert!(store.tick().unwrap());
    assert_eq!((store.durable_seq(), store.stats().blocks), (6, 1));
    assert!(!store.tick().unwrap(), "the state of a series is no reason to flush again");
    store.apply(6, &[]);
    store.flush().unwrap();
    assert_eq!((store.durable_seq(), store.stats().blocks), (7, 1));
}

#[test]
fn kinds_survive_a_restart() {
    let mut world = World::new();
    world.run(Step::Apply(vec![(1, 100, 1.0)]));
    world.run(Step::Flush);
    world.store = None;
    let opened = MetricStore::open(config(world.folder.path())).unwrap();
    let kinds: Vec<_> = opened.store.metadata().into_iter().collect();
    assert_eq!(kinds, [("up".to_owned(), MetricKind::Gauge)]);
}

#[test]
fn a_flush_that_fails_loses_nothing_and_is_tried_again() {
    let mut world = World::new();
    world.run(Step::Apply(vec![(1, 100, 1.0)]));
    let (folder, away) = (world.folder.path().to_owned(), world.folder.path().with_extension("x"));
    std::fs::rename(&folder, &away).unwrap();
    world.store().flush().expect_err("there is no folder");
    assert_eq!(world.store().durable_seq(), 0);
    world.run(Step::Apply(vec![(1, 50, 2.0)]));
    assert_eq!(select(world.store(), &[], 0, NOW), world.expected(&[], 0, NOW));
    std::fs::rename(&away, &folder).unwrap();
    world.run(Step::Flush);
    assert_eq!(world.store().stats().blocks, 2);
    assert_eq!(select(world.store(), &[], 0, NOW), world.expected(&[], 0, NOW));
}

/// Every attempt to write on a full disk must leave as much room as it found.
#[test]
fn a_failed_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = MetricStore::open(config(folder.path())).unwrap().store;
    let one = labels(&[("a", "b")]);
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    for at in 0..4 {
        store.apply(at, &[series(&one, &[(NOW + i64::try_from(at).unwrap(), 1.0)])]);
        if at < 3 {
            store.flush().unwrap();
        }
    }
    // The manifest cannot be written: something is where its new version would be.
    let in_the_way = folder.path().join("manifest.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    let before = files();
    store.flush().expect_err("no manifest");
    assert_eq!(files(), before, "what was flushed");
    std::fs::remove_dir(&in_the_way).unwrap();
    store.flush().unwrap();
    std::fs::create_dir(&in_the_way).unwrap();
    let before = files();
    store.tick().expect_err("no manifest");
    assert_eq!(files(), before, "what was merged");
    // A block that is given up half-way.
    drop(super::writer::Writer::create(folder.path(), 99).unwrap());
    assert_eq!(files(), before, "what was begun");
    std::fs::remove_dir(&in_the_way).unwrap();
    assert!(store.tick().unwrap());
    assert_eq!(select(&store, &[], 0, NOW + 9)[&one].len(), 4);
}

#[test]
fn readers_never_miss_a_sample_while_blocks_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = MetricStore::open(config(folder.path())).unwrap().store;
    let set = labels(&[(METRIC_NAME, "up")]);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let rows = select(&store, &[], 0, NOW);
                let count = rows.get(&set).map_or(0, Vec::len);
                assert!(count >= seen, "{count} samples after {seen}");
                seen = count;
            }
        });
        for at in 0..60 {
            store.apply(at, &[series(&set, &[(NOW - 1000 + at as i64, 1.0)])]);
            store.flush().unwrap();
            store.tick().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(select(&store, &[], 0, NOW)[&set].len(), 60);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_changed_byte_is_noticed_or_harmless(place in 0.0f64..1.0, change in 1u8..) {
        let mut world = World::new();
        world.run(Step::Apply((0..40).map(|at| (at % 6, 100 - at as i64, at as f64)).collect()));
        world.run(Step::Flush);
        world.store = None;
        let path = world.folder.path().join("000000000001.block");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = (place * bytes.len() as f64) as usize;
        bytes[at] ^= change;
        std::fs::write(&path, bytes).unwrap();
        let opened = match MetricStore::open(config(world.folder.path())) {
            Ok(opened) => opened,
            Err(Error::Version { .. }) => return Ok(()),
            Err(error) => panic!("{error}"),
        };
        let expected = world.expected(&[], 0, NOW);
        match try_select(&opened.store, &[], 0, NOW) {
            Ok(rows) if opened.store.stats().damaged_blocks == 1 => prop_assert!(rows.is_empty()),
            Ok(rows) => prop_assert_eq!(rows, expected),
            Err(_) => prop_assert_eq!(opened.store.stats().damaged_blocks, 1),
        }
    }
}
