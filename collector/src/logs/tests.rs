//! The store as a whole, against a plain list of rows that is the oracle: any corpus, any query, rows
//! in every state (active, frozen, segment, merged, opened again).

mod borders;
mod crash;
mod deletions;
mod format_1;
mod retention;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use taffrail_model::{
    Labels, Level, LogEntry, MatchOp, Matcher, Nanos, SourceRange, StreamEntries, TimeRange,
    time::NANOS_PER_DAY,
};
use taffrail_query::source::{
    Cancel, Counted, Direction, LineFilter, LogCount, LogScan, LogSource, SourceError,
};

use super::filter::tests::filters;
use super::{LogStore, LogStoreConfig, Opened};

/// One row as a scan gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    labels: Labels,
    entry: LogEntry,
}

/// The rows in the order of arrival.
#[derive(Clone, Default)]
struct Oracle(Vec<Row>);

impl Oracle {
    fn add(&mut self, streams: &[StreamEntries]) {
        for stream in streams {
            let labels = &stream.labels;
            let rows = stream.entries.iter();
            self.0.extend(rows.map(|entry| Row { labels: labels.clone(), entry: entry.clone() }));
        }
    }

    fn scan(&self, scan: &LogScan) -> Vec<Row> {
        let wanted = |row: &&Row| {
            scan.range.contains(row.entry.ts)
                && scan.matchers.iter().all(|m| m.matches_labels(&row.labels))
                && scan.filters.iter().all(|f| f.passes(&row.entry.line))
        };
        let mut rows: Vec<Row> = self.0.iter().filter(wanted).cloned().collect();
        // A stable sort keeps the order of arrival, which is the position.
        rows.sort_by_key(|row| (row.entry.ts, row.labels.fingerprint()));
        if scan.order == Some(Direction::Backward) {
            rows.reverse();
        }
        rows
    }

    fn count(&self, ask: &LogCount) -> Vec<Counted> {
        let ranges = &ask.ranges;
        let mut counted: BTreeMap<(Labels, Option<Level>), Counted> = BTreeMap::new();
        let wanted = |row: &&Row| {
            ask.matchers.iter().all(|m| m.matches_labels(&row.labels))
                && ask.filters.iter().all(|f| f.passes(&row.entry.line))
        };
        for row in self.0.iter().filter(wanted) {
            for (index, _) in ranges.iter().enumerate().filter(|(_, r)| r.contains(row.entry.ts)) {
                let (labels, level) = (&row.labels, ask.by_level.then_some(row.entry.level));
                let counted = counted.entry((labels.clone(), level)).or_insert_with(|| Counted {
                    labels: labels.clone(),
                    level,
                    lines: vec![0; ranges.len()],
                    bytes: vec![0; if ask.bytes { ranges.len() } else { 0 }],
                });
                counted.lines[index] += 1;
                if let Some(bytes) = counted.bytes.get_mut(index) {
                    *bytes += row.entry.line.len() as u64;
                }
            }
        }
        counted.into_values().collect()
    }
}

fn open(dir: &Path) -> Opened {
    open_with(dir, 64)
}

fn open_with(dir: &Path, block_bytes: usize) -> Opened {
    let config =
        LogStoreConfig { block_bytes, flush_after: Duration::ZERO, ..LogStoreConfig::new(dir) };
    LogStore::open(config).unwrap()
}

fn scan_all() -> LogScan {
    LogScan {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        filters: Vec::new(),
        order: Some(Direction::Forward),
        limit: None,
        cancel: Cancel::new(),
    }
}

fn rows(store: &LogStore, scan: &LogScan, take: usize) -> Vec<Row> {
    let mut found = Vec::new();
    let mut sink = |labels: &Labels, row: taffrail_query::source::LogRow<'_>| {
        found.push(Row {
            labels: labels.clone(),
            entry: LogEntry {
                ts: row.ts,
                line: row.line.into(),
                level: row.level,
                metadata: row.metadata.iter().map(|&(n, v)| (n.into(), v.into())).collect(),
            },
        });
        if found.len() < take { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    store.scan(scan, &mut sink).unwrap();
    found
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let of = |row: &Row| (row.entry.ts, row.labels.clone(), row.entry.line.clone());
        of(a).cmp(&of(b)).then(a.entry.metadata.cmp(&b.entry.metadata))
    });
    rows
}

fn stream(name: &str, lines: &[(Nanos, &str)]) -> StreamEntries {
    let to_entry = |&(ts, line): &(Nanos, &str)| LogEntry {
        ts,
        line: line.into(),
        level: Level::Info,
        metadata: Vec::new(),
    };
    StreamEntries {
        labels: Labels::from_pairs([("app", name)]),
        entries: lines.iter().map(to_entry).collect(),
    }
}

fn range(source: &str, begin: u64, end: u64) -> SourceRange {
    SourceRange { source: source.into(), begin, end, origin: 0, check: end * 7 }
}

/// What happens to a store, one after the other.
#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<StreamEntries>),
    Freeze,
    Flush,
    Compact,
    Reopen,
}

fn lines() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[abAB1 \n]{0,8}",
        3 => proptest::collection::vec(
            prop::sample::select(vec![
                "error", "Error", "connect", "disconnected", "a1b2c3d4", "4bf92f3577b34da6a3ce929d0e0e4736",
                "00f067aa0ba902b7", "x4bf92f3577b34da6a3ce929d0e0e4736y", "blk_-1608999687919862906", "grün",
                "ſhort", "10.0.0.1", "handler=fooSub7", "1234567",
            ]), 0..5).prop_map(|words| words.join(" ")),
        1 => "(error|abc|[0-9a-f]{16}|[ =/]){100,140}",
        // One token, too long for its inside to be indexed.
        1 => "(connect|error|00f067aa0ba902b7|[g-z]{16}){10,14}",
    ]
}

fn batches() -> impl Strategy<Value = Vec<StreamEntries>> {
    let metadata = proptest::collection::btree_map("[tu]", "[x-z]{0,2}", 0..2);
    let day = prop_oneof![8 => Just(0), 1 => -1_i64..2];
    let entry = ((0_i64..12, day), lines(), 0_usize..8, metadata);
    let to_entry = |((ts, day), line, level, metadata): ((i64, i64), String, usize, _)| LogEntry {
        ts: ts + day * NANOS_PER_DAY,
        line,
        level: Level::ALL[level],
        metadata: BTreeMap::into_iter(metadata).collect(),
    };
    let entries = proptest::collection::vec(entry.prop_map(to_entry), 0..12);
    let labels = ("[ab]", "[xy]?").prop_map(|(a, b)| Labels::from_pairs([("a", a), ("b", b)]));
    let stream = (labels, entries).prop_map(|(labels, entries)| StreamEntries { labels, entries });
    proptest::collection::vec(stream, 0..4)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => batches().prop_map(Step::Apply),
        1 => Just(Step::Freeze),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..16)
}

fn word_filters() -> impl Strategy<Value = Vec<LineFilter>> {
    let texts = prop::sample::select(vec![
        "error",
        " error ",
        "rror",
        "onnect",
        " con",
        "a1b2c3d4",
        " a1b2c3d4 ",
        "1b2c",
        "E",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "92f3577b34da6a3ce929d0",
        "00f067aa0ba902b7",
        "grün",
        "rü",
        "blk_-16089",
        "-1608999687919862906",
        "10.0.0.1",
        ".0.0.",
        "error 1234567 e",
        "\n",
        "",
        "nowhere",
        "nowhere4bf92f3577b34da6",
    ]);
    let patterns = prop::sample::select(vec![
        "(?i)error",
        "(?i)SHORT",
        "e(rr)or|connect",
        r"handler=[a-z]+Sub\w",
        "^error",
        r"\berror\b",
        "[0-9a-f]{16}",
        "con+ect",
        "(error )+",
        "error[ =]a1b2c3d4",
        ".",
        "nowhere|never",
    ]);
    let filter = prop_oneof![
        4 => proptest::collection::vec(texts.clone().prop_map(String::from), 1..3)
            .prop_map(LineFilter::Contains),
        1 => proptest::collection::vec(texts.prop_map(String::from), 1..3)
            .prop_map(LineFilter::NotContains),
        3 => proptest::collection::vec(patterns.clone().prop_map(|p| regex::Regex::new(p).unwrap()), 1..3)
            .prop_map(LineFilter::Matches),
        1 => proptest::collection::vec(patterns.prop_map(|p| regex::Regex::new(p).unwrap()), 1..2)
            .prop_map(LineFilter::NotMatches),
    ];
    proptest::collection::vec(filter, 0..3)
}

fn scans() -> impl Strategy<Value = (LogScan, usize)> {
    let ops = prop::sample::select(vec![
        ("a", MatchOp::Equal, "a"),
        ("b", MatchOp::NotEqual, "x"),
        ("b", MatchOp::Regex, "x|y"),
        ("b", MatchOp::Equal, ""),
        ("a", MatchOp::NotRegex, "b"),
        ("c", MatchOp::Regex, ".+"),
    ]);
    let matcher = ops.prop_map(|(name, op, value)| Matcher::new(name, op, value, false).unwrap());
    let order = prop::sample::select(vec![
        None,
        Some(Direction::Forward),
        Some(Direction::Backward),
        Some(Direction::Backward),
    ]);
    let range = prop_oneof![
        2 => Just(TimeRange::ALL),
        2 => (-1_i64..12, 0_i64..8).prop_map(|(start, len)| TimeRange::new(start, start + len)),
        1 => (-1_i64..2).prop_map(|d| TimeRange::new(d * NANOS_PER_DAY, (d + 1) * NANOS_PER_DAY)),
    ];
    let limit = prop::option::of(0_usize..6);
    let matchers = proptest::collection::vec(matcher, 0..2);
    let filters = prop_oneof![filters(), word_filters()];
    (matchers, range, filters, order, limit, 1_usize..60).prop_map(
        |(matchers, range, filters, order, limit, take)| {
            let cancel = Cancel::new();
            (LogScan { matchers, range, filters, order, limit, cancel }, take)
        },
    )
}

/// Takes a store through the steps; a reopened one gets the frames again that it asks for.
fn run(steps: Vec<Step>, dir: &Path, block_bytes: usize) -> (Arc<LogStore>, Oracle) {
    let mut store = open_with(dir, block_bytes).store;
    let mut oracle = Oracle::default();
    let mut frames: Vec<Vec<StreamEntries>> = Vec::new();
    for step in steps {
        match step {
            Step::Apply(batch) => {
                oracle.add(&batch);
                store.apply(frames.len() as u64, batch.clone(), &[]);
                frames.push(batch);
            }
            Step::Freeze => store.freeze(),
            Step::Flush => store.flush().unwrap(),
            Step::Compact => {
                store.compact_all().unwrap();
            }
            Step::Reopen => {
                drop(store);
                let opened = open_with(dir, block_bytes);
                store = opened.store;
                for (seq, batch) in (0..).zip(&frames).skip(opened.replay_from as usize) {
                    store.apply(seq, batch.clone(), &[]);
                }
            }
        }
    }
    (store, oracle)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn answers_equal_a_look_at_every_line(
        steps in steps(), scans in proptest::collection::vec(scans(), 12),
        cuts in proptest::collection::btree_set(-2_i64..14, 2..6),
        counted_filters in proptest::collection::vec(prop_oneof![filters(), word_filters()], 2),
        block_bytes in prop::sample::select(vec![64, 64, 4096]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (store, oracle) = run(steps, dir.path(), block_bytes);
        // The second time the store knows what it found the first time.
        for (scan, take) in scans.iter().chain(&scans) {
            let (scan, take) = (scan, *take);
            let expected = oracle.scan(scan);
            if scan.order.is_none() {
                prop_assert_eq!(sorted(rows(&store, scan, usize::MAX)), sorted(expected));
                continue;
            }
            let wanted = &expected[..expected.len().min(take)];
            prop_assert_eq!(rows(&store, scan, take), wanted, "{:?}", scan);
        }
        let cuts: Vec<i64> = cuts.into_iter().collect();
        let ranges: Vec<TimeRange> = cuts.windows(2).map(|w| TimeRange::new(w[0], w[1])).collect();
        for ((matchers, filters), (by_level, bytes)) in [vec![], vec![Matcher::equal("a", "a")]]
            .into_iter()
            .zip(counted_filters)
            .zip([(false, false), (true, true), (false, true)])
        {
            let mut ask = LogCount {
                matchers, filters, ranges: ranges.clone(), by_level, bytes, only_plain: false,
                cancel: Cancel::new(),
            };
            for _ in 0..2 {
                let mut counted = store.count(&ask).unwrap().unwrap();
                counted.sort_by(|a, b| (&a.labels, a.level).cmp(&(&b.labels, b.level)));
                prop_assert_eq!(counted, oracle.count(&ask), "{:?}", ask);
            }
            ask.ranges = vec![TimeRange::new(0, 12)];
            let found = store.streams(&ask.matchers, TimeRange::new(0, 12)).unwrap();
            prop_assert!(oracle.count(&ask).iter().all(|counted| found.contains(&counted.labels)));
            prop_assert!(found.is_sorted());
            ask.only_plain = true;
            let has_metadata = oracle.0.iter().any(|row| !row.entry.metadata.is_empty());
            prop_assert!(store.count(&ask).unwrap().is_some() || has_metadata);
        }
    }
}

#[test]
fn the_index_prunes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let noise: Vec<String> =
        (0..200).map(|n| format!("request {n} served {:032x}", n * 77)).collect();
    let mut lines: Vec<(Nanos, &str)> = (0..).zip(noise.iter().map(String::as_str)).collect();
    lines.push((300, "lost trace=4bf92f3577b34da6a3ce929d0e0e4736 connection"));
    store.apply(0, vec![stream("web", &lines)], &[]);
    store.flush().unwrap();
    let cases =
        ["4bf92f3577b34da6a3ce929d0e0e4736", "577b34da6a3ce929d", "onnect", " lost ", "lost tr"];
    for text in cases {
        let filters = vec![LineFilter::Contains(vec![text.into()])];
        let scan = LogScan { filters, ..scan_all() };
        let mut found = 0;
        let stats = store
            .scan(&scan, &mut |_, _| {
                found += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(found, usize::from(text != " lost "), "{text}");
        assert!(stats.blocks > 50 && stats.blocks_scanned <= 3, "{text}: {stats:?}");
    }
}

#[test]
fn a_limited_scan_opens_few_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let lines: Vec<(Nanos, &str)> = (0..1000).map(|ts| (ts, "some line of a log")).collect();
    store.apply(0, vec![stream("a", &lines), stream("b", &lines)], &[]);
    store.flush().unwrap();
    for direction in [Direction::Forward, Direction::Backward] {
        let scan = LogScan { order: Some(direction), limit: Some(10), ..scan_all() };
        let mut left = 10;
        let stats = store.scan(&scan, &mut |_, _| {
            left -= 1;
            if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let stats = stats.unwrap();
        assert!(stats.blocks > 500 && stats.blocks_scanned < 10, "{stats:?}");
    }
}

#[test]
fn a_cancelled_scan_stops() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let lines: Vec<(Nanos, &str)> = (0..100).map(|ts| (ts, "some line of a log")).collect();
    store.apply(0, vec![stream("a", &lines)], &[]);
    let scan = scan_all();
    let result = store.scan(&scan, &mut |_, _| {
        scan.cancel.cancel();
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(SourceError::Cancelled(_))), "{result:?}");
}

#[test]
fn live_tails_get_what_was_applied() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    store.apply(0, vec![stream("a", &[(1, "before")])], &[]);
    let mut receiver = store.subscribe();
    let batch = vec![stream("a", &[(2, "after")])];
    store.apply(1, batch.clone(), &[]);
    assert_eq!(*receiver.try_recv().unwrap(), batch);
    assert!(receiver.try_recv().is_err());
    assert_eq!(store.stats().subscribers, 1);
}

#[test]
fn positions_and_sequence_numbers_through_flush_and_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let store = opened.store;
    assert_eq!((opened.replay_from, store.durable_seq()), (0, 0));
    store.apply(3, vec![stream("a", &[(1, "x")])], &[range("n1/a", 0, 10), range("n1/b", 0, 5)]);
    store.apply(4, vec![], &[range("n1/a", 10, 20)]);
    assert_eq!(store.position("n1/a").map(|p| (p.committed, p.check)), Some((20, 140)));
    assert_eq!(store.durable_seq(), 3);
    store.freeze();
    store.apply(5, vec![], &[range("n1/b", 5, 9), range("n2/a", 0, 1)]);
    assert_eq!(store.durable_seq(), 3);
    let of = |prefix: &str| -> Vec<(String, u64)> {
        store.positions(prefix).into_iter().map(|p| (p.source, p.committed)).collect()
    };
    assert_eq!(of("n1/"), [("n1/a".into(), 20), ("n1/b".into(), 9)]);
    assert_eq!(of("n2"), [("n2/a".into(), 1)]);
    assert_eq!(store.position("n3"), None);
    assert_eq!(store.durable_seq(), 3);
    // Only the frozen memtable's positions become durable with it.
    store.write_frozen(&mut store.keeper()).unwrap();
    assert_eq!(store.durable_seq(), 5);
    drop(store);
    let opened = open(dir.path());
    assert_eq!(opened.replay_from, 5);
    assert_eq!(opened.store.position("n1/b").map(|p| p.committed), Some(5));
    opened.store.apply(4, vec![stream("a", &[(9, "again")])], &[range("n1/a", 10, 20)]);
    assert_eq!(opened.store.stats().memory_lines, 0, "a frame below replay_from is left out");
    // An empty frame needs no replay.
    opened.store.apply(8, vec![], &[]);
    assert_eq!(opened.store.durable_seq(), 9);
}

#[test]
fn back_pressure_until_the_frozen_memtable_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogStoreConfig { memtable_bytes: 1500, ..LogStoreConfig::new(dir.path()) };
    let store = LogStore::open(config).unwrap().store;
    let line = "a line of which two take more than there is room for ".repeat(12);
    let batch = || vec![stream("a", &[(1, line.as_str())])];
    store.apply(0, batch(), &[]);
    assert!(!store.is_full());
    store.apply(1, batch(), &[]);
    store.freeze();
    assert!(!store.is_full());
    store.apply(2, batch(), &[]);
    store.apply(3, batch(), &[]);
    assert!(store.is_full() && !store.wait_for_room(Duration::ZERO));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| store.wait_for_room(Duration::from_secs(60)));
        assert!(store.tick().unwrap());
        assert!(waiter.join().unwrap());
    });
    assert!(!store.tick().unwrap());
    assert_eq!(store.stats().memory_lines, 0);
    assert_eq!(store.stats().lines, 4);
}

#[test]
fn a_scan_goes_on_over_segments_that_are_removed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    for seq in 0..4 {
        store.apply(seq, vec![stream("a", &[(1, "a word of it"), (2, "another")])], &[]);
        store.flush().unwrap();
    }
    let scan = LogScan { filters: vec![LineFilter::Contains(vec![" word ".into()])], ..scan_all() };
    let mut found = 0;
    let stats = store.scan(&scan, &mut |_, _| {
        if found == 0 {
            store.compact_all().unwrap();
        }
        found += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((found, stats.unwrap().streams), (4, 1));
    assert_eq!((store.stats().segments, store.stats().segments_damaged), (1, 0));
    assert_eq!(rows(&store, &scan, usize::MAX).len(), 4);
}
