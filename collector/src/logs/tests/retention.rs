//! What is kept: by age, by rules, by size, and as long as the disk has room.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use taffrail_model::time::{NANOS_PER_DAY, NANOS_PER_SEC};
use taffrail_model::{MatchOp, Matcher, Nanos};
use taffrail_query::source::LogSource;

use super::super::retain::{Retention, RetentionRule};
use super::{LogStore, LogStoreConfig, rows, scan_all, stream};

#[test]
fn old_segments_expire() {
    let dir = tempfile::tempdir().unwrap();
    let age = Some(Duration::from_secs(3600));
    let retention = Retention { age, ..Retention::default() };
    let config = LogStoreConfig { retention, ..LogStoreConfig::new(dir.path()) };
    let store = LogStore::open(config.clone()).unwrap().store;
    let now = taffrail_kit::clock::unix_nanos();
    store.apply(0, vec![stream("a", &[(now, "new"), (now - 2 * NANOS_PER_DAY, "old")])], &[]);
    store.flush().unwrap();
    assert_eq!(store.stats().segments, 2);
    assert!(store.tick().unwrap());
    assert_eq!((store.stats().segments, store.stats().segments_expired), (1, 1));
    assert_eq!(rows(&store, &scan_all(), 9).len(), 1);
    assert_eq!(std::fs::read_dir(store.segments_dir()).unwrap().count(), 1);
    drop(store);
    assert_eq!(LogStore::open(config).unwrap().store.stats().segments, 1);
}

fn store_with(dir: &Path, retention: Retention) -> Arc<LogStore> {
    LogStore::open(LogStoreConfig { retention, ..LogStoreConfig::new(dir) }).unwrap().store
}

fn texts(store: &LogStore) -> Vec<String> {
    rows(store, &scan_all(), usize::MAX).into_iter().map(|row| row.entry.line).collect()
}

/// One segment a second, each with a line that says when.
fn fill(store: &LogStore, count: u64) {
    for seq in 0..count {
        let ts = i64::try_from(seq).unwrap() * NANOS_PER_SEC;
        store.apply(seq, vec![stream("a", &[(ts, &format!("line {seq}"))])], &[]);
        store.flush().unwrap();
    }
}

#[test]
fn the_first_rule_that_fits_a_stream_counts_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let rule = |name: &str, seconds: u64| RetentionRule {
        matchers: vec![Matcher::new("app", MatchOp::Regex, name, false).unwrap()],
        age: Duration::from_secs(seconds),
    };
    let hour = Duration::from_secs(3600);
    let rules = vec![rule("debug", 60), rule("debug|prod", 48 * 3600)];
    let store =
        store_with(dir.path(), Retention { age: Some(hour), rules, ..Retention::default() });
    let now = taffrail_kit::clock::unix_nanos();
    let ago = |seconds: i64| now - seconds * NANOS_PER_SEC;
    let lines = [(ago(7200), "2 h"), (ago(600), "10 min"), (ago(5), "5 s")];
    let all = ["debug", "other", "prod"];
    // Together they are in one segment a day, so that no age removes a whole one.
    store.apply(0, all.map(|name| stream(name, &lines[..2])).to_vec(), &[]);
    store.flush().unwrap();
    store.apply(1, all.map(|name| stream(name, &lines[2..])).to_vec(), &[]);
    store.flush().unwrap();
    store.tick().unwrap();
    let before = store.stats().segments;
    store.retain(now).unwrap();
    assert_eq!(store.stats().segments, before);
    assert!(store.stats().segments_rewritten > 0);
    let of = |name: &str| {
        let matchers = vec![Matcher::equal("app", name)];
        let scan = taffrail_query::source::LogScan { matchers, ..scan_all() };
        let mut found = 0;
        let mut sink = |_: &taffrail_model::Labels, _: taffrail_query::source::LogRow<'_>| {
            found += 1;
            ControlFlow::Continue(())
        };
        store.scan(&scan, &mut sink).unwrap();
        found
    };
    assert_eq!((of("debug"), of("prod")), (1, 3));
    // Of a block whose newest line is young enough nothing is removed.
    assert!(of("other") >= 2);
    // Nothing more is to be done, so nothing is written again.
    let rewritten = store.stats().segments_rewritten;
    store.retain(now).unwrap();
    assert_eq!(store.stats().segments_rewritten, rewritten);
    // Much later all is gone but for what the longest age keeps.
    store.expire(now + 3 * NANOS_PER_DAY).unwrap();
    assert_eq!(store.stats().segments, 0);
}

#[test]
fn size_removes_the_oldest_and_leaves_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    fill(&store_with(dir.path(), Retention::default()), 5);
    let store = store_with(dir.path(), Retention::default());
    let all = store.stats().disk_bytes;
    let each = all / 5;
    drop(store);
    let store =
        store_with(dir.path(), Retention { bytes: Some(all - each / 2), ..Retention::default() });
    assert!(store.expire(0).unwrap());
    assert_eq!(texts(&store), ["line 1", "line 2", "line 3", "line 4"]);
    assert!(!store.expire(0).unwrap());
    drop(store);
    let store = store_with(dir.path(), Retention { bytes: Some(1), ..Retention::default() });
    assert!(store.expire(0).unwrap());
    assert_eq!(texts(&store), ["line 4"]);
    assert!(!store.expire(0).unwrap());
    assert_eq!(std::fs::read_dir(store.segments_dir()).unwrap().count(), 1);
}

#[test]
fn a_full_disk_removes_only_what_is_missing_also_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with(dir.path(), Retention::default());
    fill(&store, 5);
    let floor: u64 = 1 << 30;
    assert!(!store.make_room(floor, floor).unwrap());
    let mut seen = 0;
    store
        .scan(&scan_all(), &mut |_, _| {
            if seen == 0 {
                assert!(store.make_room(floor, floor - 1).unwrap());
                // Its files are still open: they are no reason to remove another.
                assert!(!store.make_room(floor, floor - 1).unwrap());
            }
            seen += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, 5, "a scan goes on over what is removed");
    assert_eq!(texts(&store).len(), 4);
    assert!(store.make_room(floor, 0).unwrap());
    assert_eq!(texts(&store), ["line 4"]);
    assert_eq!(Nanos::from(store.stats().segments_expired as u32), 4);
}
