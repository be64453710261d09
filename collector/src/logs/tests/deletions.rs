//! Deletion requests against the oracle without the deleted lines: in every state of rows, through
//! restarts and crashes, before, while and after they are erased.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use taffrail_model::time::NANOS_PER_DAY;
use taffrail_model::{Nanos, StreamEntries, TimeRange};
use taffrail_query::deletion::{DeletionError, Lines, LogDeletion, Stage};
use taffrail_query::source::{Cancel, LogCount, LogSource};

use super::super::compact::Merged;
use super::super::deletions::record::Step as Progress;
use super::crash::{copy, copy_dir};
use super::{
    LogStore, LogStoreConfig, Opened, Oracle, Row, batches, rows, scan_all, scans, sorted, stream,
};

/// Long after everything.
const LATER: Nanos = Nanos::MAX;

/// A request as the oracle knows it.
#[derive(Clone)]
struct Request {
    id: String,
    lines: Lines,
    range: TimeRange,
}

impl Request {
    fn covers(&self, row: &Row) -> bool {
        self.range.contains(row.entry.ts)
            && self.lines.matchers.iter().all(|m| m.matches_labels(&row.labels))
            && self.lines.filters.iter().all(|f| f.passes(&row.entry.line))
    }
}

/// All rows, and what is deleted of them.
#[derive(Clone, Default)]
struct Truth {
    all: Oracle,
    /// Received and not yet erased.
    active: Vec<Request>,
}

impl Truth {
    fn visible(&self) -> Oracle {
        let hidden = |row: &&Row| !self.active.iter().any(|request| request.covers(row));
        Oracle(self.all.0.iter().filter(hidden).cloned().collect())
    }

    /// Erasing begins: what is covered is gone, and what comes is not covered any more.
    fn erase(&mut self) {
        self.all = self.visible();
        self.active.clear();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<StreamEntries>),
    Freeze,
    Flush,
    Compact,
    Reopen,
    Delete(&'static str, Nanos, Nanos),
    Cancel,
    /// The cut is made, and then the process ends.
    EraseHalf,
    Erase,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let query = prop::sample::select(vec![
        r#"{a=~".+"}"#,
        r#"{a="a"}"#,
        r#"{a="b", b!="x"}"#,
        r#"{a="a"} |= "error""#,
        r#"{a=~"a|b"} |~ "(?i)ERROR|connect""#,
        r#"{a=~".+"} != "e""#,
        r#"{a=~".+"} |= "4bf92f3577b34da6a3ce929d0e0e4736""#,
        r#"{a=~".+"} |= "nowhere""#,
        r#"{b="y"} |= " " !~ "[0-9]{4}""#,
    ]);
    let times = prop_oneof![
        2 => (-1_i64..12, 0_i64..8).prop_map(|(start, len)| (start, start + len)),
        1 => Just((-NANOS_PER_DAY, 2 * NANOS_PER_DAY)),
        1 => Just((0, NANOS_PER_DAY)),
    ];
    let step = prop_oneof![
        6 => batches().prop_map(Step::Apply),
        1 => Just(Step::Freeze),
        3 => Just(Step::Flush),
        1 => Just(Step::Compact),
        2 => Just(Step::Reopen),
        4 => (query, times).prop_map(|(query, (start, end))| Step::Delete(query, start, end)),
        1 => Just(Step::Cancel),
        1 => Just(Step::EraseHalf),
        1 => Just(Step::Erase),
    ];
    proptest::collection::vec(step, 1..20)
}

fn open_with(dir: &Path, block_bytes: usize) -> Opened {
    let config = LogStoreConfig {
        block_bytes,
        flush_after: Duration::ZERO,
        delete_after: Duration::ZERO,
        ..LogStoreConfig::new(dir)
    };
    LogStore::open(config).unwrap()
}

/// A store that ends without a word, and starts again with the frames that it asks for.
fn reopen(
    store: Arc<LogStore>,
    dir: &Path,
    block_bytes: usize,
    frames: &[Vec<StreamEntries>],
) -> Arc<LogStore> {
    drop(store);
    let opened = open_with(dir, block_bytes);
    for (seq, batch) in (0..).zip(frames).skip(opened.replay_from as usize) {
        opened.store.apply(seq, batch.clone(), &[]);
    }
    opened.store
}

fn begin_all(store: &LogStore) {
    let mut decoder = super::super::block::Decoder::new().unwrap();
    let due = store.deletions().due(LATER);
    for record in due {
        store.begin_erasing(&record, (1, None), &mut decoder).unwrap();
    }
}

fn run(steps: Vec<Step>, dir: &Path, block_bytes: usize) -> (Arc<LogStore>, Truth) {
    let mut store = open_with(dir, block_bytes).store;
    let mut truth = Truth::default();
    let mut frames: Vec<Vec<StreamEntries>> = Vec::new();
    for step in steps {
        match step {
            Step::Apply(batch) => {
                truth.all.add(&batch);
                store.apply(frames.len() as u64, batch.clone(), &[]);
                frames.push(batch);
            }
            Step::Freeze => store.freeze(),
            Step::Flush => store.flush().unwrap(),
            Step::Compact => store.compact_all().unwrap(),
            Step::Reopen => store = reopen(store, dir, block_bytes, &frames),
            Step::Delete(query, start, end) => {
                let id = store.request(query, start, end).unwrap();
                let (lines, range) =
                    (Lines::of_query(query).unwrap(), TimeRange::new(start, end + 1));
                truth.active.push(Request { id, lines, range });
            }
            Step::Cancel => {
                if let Some(request) = truth.active.pop() {
                    store.cancel(&request.id).unwrap();
                }
            }
            Step::EraseHalf => {
                begin_all(&store);
                truth.erase();
                store = reopen(store, dir, block_bytes, &frames);
            }
            Step::Erase => {
                store.erase(LATER, None).unwrap();
                truth.erase();
                assert_eq!(store.stats().deletions, 0);
            }
        }
    }
    (store, truth)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn answers_equal_the_oracle_without_the_deleted_lines(
        steps in steps(), scans in proptest::collection::vec(scans(), 8),
        cuts in proptest::collection::btree_set(-2_i64..14, 2..6),
        block_bytes in prop::sample::select(vec![64, 64, 4096]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (store, truth) = run(steps, dir.path(), block_bytes);
        let oracle = truth.visible();
        let cuts: Vec<i64> = cuts.into_iter().collect();
        let ranges: Vec<TimeRange> = cuts.windows(2).map(|w| TimeRange::new(w[0], w[1])).collect();
        for (at, (scan, take)) in scans.iter().chain(&scans).cloned().enumerate() {
            let expected = oracle.scan(&scan);
            if scan.order.is_none() {
                prop_assert_eq!(sorted(rows(&store, &scan, usize::MAX)), sorted(expected));
            } else {
                let wanted = &expected[..expected.len().min(take)];
                prop_assert_eq!(rows(&store, &scan, take), wanted, "{:?}", scan);
            }
            let ask = LogCount {
                matchers: scan.matchers, filters: scan.filters, ranges: ranges.clone(),
                by_level: at % 2 == 0, bytes: at % 3 == 0, only_plain: false, cancel: Cancel::new(),
            };
            let mut counted = store.count(&ask).unwrap().unwrap();
            counted.sort_by(|a, b| (&a.labels, a.level).cmp(&(&b.labels, b.level)));
            prop_assert_eq!(counted, oracle.count(&ask), "{:?}", ask);
        }
        // Erased, nothing has to be hidden, and what is there is what is visible.
        store.erase(LATER, None).unwrap();
        let stats = store.stats();
        prop_assert_eq!((stats.deletions, stats.quarantined), (0, 0));
        prop_assert_eq!(stats.lines + stats.memory_lines, oracle.0.len() as u64);
        prop_assert_eq!(rows(&store, &scan_all(), usize::MAX), oracle.scan(&scan_all()));
        prop_assert!(store.list().iter().all(|d| matches!(d.stage, Stage::Processed | Stage::Cancelled)));
    }
}

const SECRET: &str = "card 4111111111111111 of somebody";

fn filled(dir: &Path) -> Arc<LogStore> {
    let store = open_with(dir, 64).store;
    for seq in 0..3 {
        let ts = i64::try_from(seq).unwrap();
        let lines = [(ts, "kept"), (ts, SECRET), (ts + 10, SECRET), (ts + 20, "kept too")];
        store.apply(seq, vec![stream("a", &lines), stream("b", &lines)], &[]);
        store.flush().unwrap();
    }
    store
}

fn texts(store: &LogStore) -> Vec<String> {
    rows(store, &scan_all(), usize::MAX).into_iter().map(|row| row.entry.line).collect()
}

#[test]
fn a_crash_between_any_two_steps_shows_nothing_and_is_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    // One that is cancelled, and one of all but the last line with a card of each stream.
    assert_eq!(store.request(r#"{app="a"} |= "card 4111""#, 0, 100).unwrap(), "00000001");
    assert_eq!(texts(&store).iter().filter(|line| *line == SECRET).count(), 6);
    store.cancel("00000001").unwrap();
    assert_eq!(texts(&store).len(), 24);
    store.request(r#"{app=~"a|b"} |= "card 4111""#, 0, 11).unwrap();
    let mut crashes = vec![copy(dir.path())];
    // Half of a step: only the first of the two files.
    let torn = copy(dir.path());
    fs::remove_file(torn.path().join("deletions/00000002.copy")).unwrap();
    crashes.push(torn);
    begin_all(&store);
    crashes.push(copy(dir.path()));
    let before = store.state().segments.to_vec();
    let Merged::Segment(merged) = store.merge(&before[..1]).unwrap() else {
        panic!("some are left")
    };
    crashes.push(copy(dir.path()));
    fs::remove_dir_all(merged.dir()).unwrap();
    assert!(store.compact_group(&before[..1]).unwrap());
    crashes.push(copy(dir.path()));
    // The manifest was written, the old segment is still there.
    let late = copy(dir.path());
    copy_dir(
        &crashes[0].path().join("segments").join(before[0].name()),
        &late.path().join("segments").join(before[0].name()),
    );
    crashes.push(late);
    // The manifest is damaged: made anew from the one before and the segments.
    let damaged = copy(dir.path());
    fs::write(damaged.path().join("manifest.json"), "nonsense").unwrap();
    crashes.push(damaged);
    store.erase(LATER, None).unwrap();
    // All is erased, but the record does not say so yet.
    let unsaid = copy(dir.path());
    copy_dir(&crashes[2].path().join("deletions"), &unsaid.path().join("deletions"));
    crashes.push(unsaid);
    for crash in crashes {
        // Of the two requests the first was cancelled.
        fs::remove_file(crash.path().join("deletions/00000001.json")).unwrap();
        fs::remove_file(crash.path().join("deletions/00000001.copy")).unwrap();
        let store = open_with(crash.path(), 64).store;
        let secrets = texts(&store).iter().filter(|line| *line == SECRET).count();
        drop(store);
        assert_eq!(secrets, 2);
        check_second(crash.path());
    }
}

fn check_second(dir: &Path) {
    let store = open_with(dir, 64).store;
    store.erase(LATER, None).unwrap();
    let list = store.list();
    assert_eq!((list.len(), list[0].stage), (1, Stage::Processed));
    let erasure = list[0].erasure.unwrap();
    assert_eq!((erasure.lines, erasure.bytes), (10, 10 * SECRET.len() as u64));
    assert!(erasure.ended.is_some() && erasure.problem.is_none());
    assert_eq!(store.stats().lines, 14);
    drop(store);
    let store = open_with(dir, 64).store;
    assert_eq!((store.stats().lines, store.stats().quarantined), (14, 0));
    let secrets = texts(&store).iter().filter(|line| *line == SECRET).count();
    assert_eq!(secrets, 2);
}

#[test]
fn lines_that_come_after_the_cut_are_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.request(r#"{app="a"}"#, 0, 100).unwrap();
    // Late, but before erasing begins: covered.
    store.apply(3, vec![stream("a", &[(5, "late")])], &[]);
    assert!(texts(&store).iter().all(|line| line != "late"));
    store.erase(LATER, None).unwrap();
    let erasure = store.list()[0].erasure.unwrap();
    assert_eq!(erasure.lines, 13);
    store.apply(4, vec![stream("a", &[(5, "later")])], &[]);
    assert_eq!(texts(&store).iter().filter(|line| *line == "later").count(), 1);
    assert_eq!(texts(&store).len(), 13);
}

#[test]
fn live_tails_do_not_get_hidden_lines() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), 64).store;
    store.request(r#"{app="a"} |= "secret""#, 0, 100).unwrap();
    let mut tail = store.subscribe();
    let lines = [(1, "a secret"), (2, "none"), (101, "another secret")];
    store.apply(0, vec![stream("a", &lines), stream("b", &lines[..1])], &[]);
    let got = tail.try_recv().unwrap();
    let of = |at: usize| got[at].entries.iter().map(|e| e.line.as_str()).collect::<Vec<_>>();
    assert_eq!((of(0), of(1)), (vec!["none", "another secret"], vec!["a secret"]));
}

#[test]
fn requests_wait_for_their_time_and_are_cancelled_only_before() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        LogStoreConfig { delete_after: Duration::from_secs(60), ..LogStoreConfig::new(dir.path()) };
    let store = LogStore::open(config).unwrap().store;
    store.apply(0, vec![stream("a", &[(1, "x")])], &[]);
    let id = store.request(r#"{app="a"}"#, 0, 9).unwrap();
    let created = store.list()[0].created;
    store.erase(created + 59_000_000_000, None).unwrap();
    assert_eq!(store.list()[0].stage, Stage::Received);
    store.erase(created + 60_000_000_000, None).unwrap();
    assert_eq!(store.list()[0].stage, Stage::Processed);
    assert_eq!(store.stats().segments, 0);
    assert!(matches!(store.cancel(&id), Err(DeletionError::TooLate(_))));
    for unknown in ["", "1", "00000002", "+0000001", "zzz"] {
        assert!(matches!(store.cancel(unknown), Err(DeletionError::Unknown)), "{unknown}");
    }
    assert!(matches!(store.request("{", 0, 1), Err(DeletionError::Query(_))));
    for _ in 0..100 {
        store.request(r#"{app="b"}"#, 0, 9).unwrap();
    }
    assert!(matches!(store.request(r#"{app="b"}"#, 0, 9), Err(DeletionError::TooMany(_))));
    assert_eq!(store.list().len(), 101);
}

#[test]
fn a_damaged_segment_keeps_its_lines_hidden_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let segment = Arc::clone(&store.state().segments[1]);
    let blocks = segment.dir().join("blocks");
    let mut bytes = fs::read(&blocks).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs::write(&blocks, bytes).unwrap();
    store.request(r#"{app=~"a|b"} |= "card""#, 0, 100).unwrap();
    store.erase(LATER, None).unwrap();
    let shown = &store.list()[0];
    assert_eq!(shown.stage, Stage::Erasing);
    assert!(shown.erasure.unwrap().problem.is_some_and(|problem| problem.contains("damaged")));
    assert!(texts(&store).iter().all(|line| line != SECRET));
    assert_eq!(store.counters.rewritten.load(Ordering::Relaxed), 2);
    let step = store.deletions().get(1).unwrap().step.clone();
    assert!(matches!(step, Progress::Erasing(_)));
}
