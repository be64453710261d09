//! Crashes, damage and strange folders. A crash at a point is a copy of the folder at that point.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::compact::Merged;
use super::super::{Error, files, manifest, segment};
use super::{
    LogStore, LogStoreConfig, Opened, Oracle, open, range, rows, scan_all, scans, sorted, stream,
};
use taffrail_model::{SourceRange, StreamEntries};

pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub(super) fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_dir(from, to.path());
    to
}

/// All files below a folder with their content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn frame(seq: u64) -> (Vec<StreamEntries>, Vec<SourceRange>) {
    let at = i64::try_from(seq).unwrap();
    let name = format!("app{}", seq % 3);
    let long = format!("line {seq} of {name} with trace={:032x} and more", seq * 0x9E37_79B9);
    let lines = [(at, "same"), (at / 2, long.as_str()), (at + 86_400_000_000_000, "tomorrow")];
    (vec![stream(&name, &lines)], vec![range(&format!("n/{name}"), seq * 10, seq * 10 + 10)])
}

fn apply(store: &LogStore, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        let (streams, ranges) = frame(seq);
        store.apply(seq, streams, &ranges);
    }
}

fn oracle(frames: u64) -> Oracle {
    let mut oracle = Oracle::default();
    (0..frames).for_each(|seq| oracle.add(&frame(seq).0));
    oracle
}

/// Opens what a crash has left, replays the log, and looks at everything.
fn check_recovery(dir: &Path, frames: u64) {
    let Opened { store, replay_from } = open(dir);
    apply(&store, replay_from..frames);
    assert_eq!(rows(&store, &scan_all(), usize::MAX), oracle(frames).scan(&scan_all()));
    for name in 0..frames.min(3) {
        let last = (0..frames).rev().find(|seq| seq % 3 == name).unwrap();
        let position = store.position(&format!("n/app{name}")).unwrap();
        assert_eq!(position.committed, last * 10 + 10);
    }
    let named = manifest::read(dir).unwrap().unwrap().segments.len();
    assert_eq!(fs::read_dir(dir.join("segments")).unwrap().count(), named, "orphans are removed");
    assert_eq!(store.stats().quarantined, 0);
    store.flush().unwrap();
    drop(store);
    let Opened { store, replay_from } = open(dir);
    assert_eq!(replay_from, frames);
    assert_eq!(rows(&store, &scan_all(), usize::MAX), oracle(frames).scan(&scan_all()));
}

#[test]
fn a_crash_at_any_step_of_a_flush_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let mut crashes = vec![copy(dir.path())];
    apply(&store, 0..4);
    store.flush().unwrap();
    apply(&store, 4..9);
    crashes.push(copy(dir.path()));
    store.freeze();
    let mut keeper = store.keeper();
    let frozen = store.state().frozen.clone().unwrap();
    let new = store.write_segments(&mut keeper, &frozen).unwrap();
    crashes.push(copy(dir.path()));
    // Half of a segment: the crash came before its description.
    let torn = copy(dir.path());
    fs::remove_file(torn.path().join("segments").join(new[0].name()).join(segment::META)).unwrap();
    crashes.push(torn);
    let unsaved = store.streams.read().unwrap().starting_at(keeper.streams.count());
    keeper.streams.append(&unsaved).unwrap();
    crashes.push(copy(dir.path()));
    store.name_segments(&mut keeper, &frozen, &new).unwrap();
    crashes.push(copy(dir.path()));
    drop(keeper);
    for crash in crashes {
        check_recovery(crash.path(), 9);
    }
}

#[test]
fn a_crash_at_any_step_of_a_compaction_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    for seq in 0..9 {
        apply(&store, seq..seq + 1);
        store.flush().unwrap();
    }
    let before = store.state().segments.to_vec();
    let group: Vec<_> = before.iter().filter(|s| s.meta().day == 0).take(8).cloned().collect();
    let Merged::Segment(merged) = store.merge(&group).unwrap() else { panic!("merged") };
    check_recovery(copy(dir.path()).path(), 9);
    fs::remove_dir_all(merged.dir()).unwrap();
    assert!(store.compact().unwrap() && store.compact().unwrap() && !store.compact().unwrap());
    assert_eq!(store.stats().segments, 4);
    assert_eq!(rows(&store, &scan_all(), usize::MAX), oracle(9).scan(&scan_all()));
    check_recovery(copy(dir.path()).path(), 9);
    // The crash came before the merged ones were removed.
    let late = copy(dir.path());
    copy_dir(
        &late.path().join("segments").join(before[16].name()),
        &late.path().join("segments/2000-01-01-00000001"),
    );
    check_recovery(late.path(), 9);
}

#[test]
fn a_failed_flush_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    apply(&store, 0..3);
    let segments = dir.path().join("segments");
    fs::remove_dir(&segments).unwrap();
    fs::write(&segments, "in the way").unwrap();
    store.flush().expect_err("no folder for segments");
    apply(&store, 3..5);
    store.flush().expect_err("still none");
    assert_eq!((store.durable_seq(), store.stats().flush_failures), (0, 2));
    assert_eq!(rows(&store, &scan_all(), usize::MAX), oracle(5).scan(&scan_all()));
    fs::remove_file(&segments).unwrap();
    fs::create_dir(&segments).unwrap();
    assert!(store.tick().unwrap());
    assert_eq!((store.durable_seq(), store.stats().memory_lines), (5, 0));
    assert_eq!(rows(&store, &scan_all(), usize::MAX), oracle(5).scan(&scan_all()));
    check_recovery(dir_of(store, dir).path(), 5);
}

/// Every attempt to write on a full disk must leave as much room as it found.
#[test]
fn a_failed_write_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    for seq in 0..9 {
        apply(&store, seq..seq + 1);
        store.flush().unwrap();
    }
    apply(&store, 9..12);
    let folders = || fs::read_dir(dir.path().join("segments")).unwrap().count();
    let before = folders();
    // The manifest cannot be written: something is where its new version would be.
    let in_the_way = dir.path().join("manifest.tmp");
    fs::create_dir(&in_the_way).unwrap();
    store.flush().expect_err("no manifest");
    store.flush().expect_err("no manifest");
    assert_eq!(folders(), before, "what was flushed");
    store.compact().expect_err("no manifest");
    assert_eq!(folders(), before, "what was merged");
    // The second of two segments cannot be written.
    let mut keeper = store.keeper();
    let next = keeper.next_segment + 1;
    let name = super::super::segment_writer::name(1, next);
    fs::write(dir.path().join("segments").join(&name), "in the way").unwrap();
    let frozen = store.state().frozen.clone().unwrap();
    assert!(store.write_segments(&mut keeper, &frozen).is_err());
    drop(keeper);
    fs::remove_file(dir.path().join("segments").join(&name)).unwrap();
    assert_eq!(folders(), before, "the first of two");
    fs::remove_dir(&in_the_way).unwrap();
    store.flush().unwrap();
    check_recovery(dir_of(store, dir).path(), 12);
}

#[test]
fn merging_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    for seq in 0..9 {
        apply(&store, seq..seq + 1);
        store.flush().unwrap();
    }
    let folders = fs::read_dir(dir.path().join("segments")).unwrap().count();
    store.stop_compacting();
    assert!(!store.compact().unwrap());
    assert_eq!(fs::read_dir(dir.path().join("segments")).unwrap().count(), folders);
    check_recovery(dir_of(store, dir).path(), 9);
}

#[test]
fn lines_of_very_many_days_make_few_segments() {
    const DAY: i64 = 86_400_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let mut oracle = Oracle::default();
    let texts: Vec<String> = (0..700).map(|n| format!("line {n}")).collect();
    for (seq, name) in (0..).zip(["a", "b"]) {
        let lines = texts.iter().enumerate().map(|(n, text)| {
            // Out of order, and each stream on days of its own.
            let day = (n as i64 * 31 % 700 - 350) * 3 + i64::try_from(seq).unwrap();
            (day * DAY + 5, text.as_str())
        });
        let streams = vec![stream(name, &lines.collect::<Vec<_>>())];
        oracle.add(&streams);
        store.apply(seq, streams, &[]);
    }
    store.flush().unwrap();
    let segments = store.stats().segments;
    assert!((2..=64).contains(&segments), "{segments}");
    assert_eq!(rows(&store, &scan_all(), usize::MAX), oracle.scan(&scan_all()));
    let mut scan = scan_all();
    scan.range = taffrail_model::TimeRange { start: -40 * DAY, end: 9 * DAY };
    assert_eq!(rows(&store, &scan, usize::MAX), oracle.scan(&scan));
}

/// Closes a store and gives its folder.
fn dir_of(store: std::sync::Arc<LogStore>, dir: TempDir) -> TempDir {
    drop(store);
    dir
}

fn flushed() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    apply(&store, 0..6);
    store.flush().unwrap();
    apply(&store, 6..12);
    store.flush().unwrap();
    dir_of(store, dir)
}

#[test]
fn a_damaged_segment_is_set_aside_and_the_rest_is_served() {
    let dir = flushed();
    let names = manifest::read(dir.path()).unwrap().unwrap().segments;
    let headers = dir.path().join("segments").join(&names[0]).join(segment::HEADERS);
    let mut bytes = fs::read(&headers).unwrap();
    bytes[5] ^= 1;
    fs::write(&headers, &bytes).unwrap();
    fs::remove_dir_all(dir.path().join("segments").join(&names[3])).unwrap();
    let store = open(dir.path()).store;
    assert_eq!((store.stats().segments, store.stats().quarantined), (2, 2));
    assert_eq!(
        fs::read(dir.path().join("quarantine").join(&names[0]).join("headers")).unwrap(),
        bytes
    );
    let found = rows(&store, &scan_all(), usize::MAX);
    assert_eq!(found.len(), 12 + 6);
    let all = oracle(12).scan(&scan_all());
    assert!(found.iter().all(|row| all.contains(row)));
    drop(store);
    assert_eq!(open(dir.path()).store.stats().quarantined, 0);
}

#[test]
fn a_missing_block_of_bytes_is_reported_and_left_out() {
    let dir = flushed();
    let store = open(dir.path()).store;
    let blocks = store.state().segments[0].dir().join(segment::BLOCKS);
    let mut bytes = fs::read(&blocks).unwrap();
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    fs::write(&blocks, &bytes).unwrap();
    let found = rows(&store, &scan_all(), usize::MAX).len();
    assert!((30..36).contains(&found), "{found}");
    assert_eq!(store.stats().segments_damaged, 1);
    assert!(!store.compact().unwrap(), "too few");
    store.compact_all().unwrap();
    assert_eq!(store.stats().segments, 3, "a damaged segment is not merged");
}

#[test]
fn strange_folders_are_refused_and_not_touched() {
    let refused = |dir: &Path| {
        let before = contents(dir);
        let Err(error) = LogStore::open(LogStoreConfig::new(dir)) else { panic!("opened") };
        assert_eq!(contents(dir), before);
        error
    };
    let other_format = flushed();
    let text = r#"{"format":3,"whatever":true}"#;
    files::replace_checked(&other_format.path().join(manifest::NAME), text).unwrap();
    assert!(matches!(refused(other_format.path()), Error::Format { found: 3, known: 2, .. }));

    let no_manifest = flushed();
    fs::remove_file(no_manifest.path().join(manifest::NAME)).unwrap();
    fs::remove_file(no_manifest.path().join(manifest::PREVIOUS)).unwrap();
    assert!(matches!(refused(no_manifest.path()), Error::NoManifest { .. }));

    let damaged = flushed();
    fs::remove_file(damaged.path().join(manifest::NAME)).unwrap();
    fs::write(damaged.path().join(manifest::NAME), "{}").unwrap();
    fs::remove_file(damaged.path().join(manifest::PREVIOUS)).unwrap();
    assert!(matches!(refused(damaged.path()), Error::Damaged { .. }));

    let in_use = flushed();
    let _store = open(in_use.path()).store;
    assert!(matches!(refused(in_use.path()), Error::Locked { .. }));
}

/// The manifest is lost; the write-ahead log holds the frames from `replay_from` on.
fn check_lost_manifest(dir: &Path, frames: u64, replay_from: u64) {
    for is_gone in [false, true] {
        let crash = copy(dir);
        let path = crash.path().join(manifest::NAME);
        if is_gone {
            fs::remove_file(&path).unwrap();
        } else {
            let mut bytes = fs::read(&path).unwrap();
            bytes[9] ^= 1;
            fs::write(&path, &bytes).unwrap();
        }
        let Opened { store, replay_from: found } = open(crash.path());
        assert!(found >= replay_from, "frames from {found}, cut up to {replay_from}");
        drop(store);
        check_recovery(crash.path(), frames);
    }
}

#[test]
fn a_lost_manifest_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    check_lost_manifest_of_nothing(dir.path());
    for seq in 0..8 {
        apply(&store, seq..seq + 1);
        store.flush().unwrap();
        check_lost_manifest(dir.path(), seq + 1, seq + 1);
    }
    // A flush that no manifest names yet.
    apply(&store, 8..10);
    store.freeze();
    let mut keeper = store.keeper();
    let frozen = store.state().frozen.clone().unwrap();
    let new = store.write_segments(&mut keeper, &frozen).unwrap();
    check_lost_manifest(dir.path(), 10, 8);
    // A part of it is missing.
    let part = copy(dir.path());
    fs::remove_dir_all(part.path().join("segments").join(new[1].name())).unwrap();
    check_lost_manifest(part.path(), 10, 8);
    let unsaved = store.streams.read().unwrap().starting_at(keeper.streams.count());
    keeper.streams.append(&unsaved).unwrap();
    check_lost_manifest(dir.path(), 10, 8);
    drop(keeper);
    store.flush().unwrap();
    check_lost_manifest(dir.path(), 10, 10);
    // A merge, before and after its inputs are removed.
    let before = copy(dir.path());
    assert!(store.compact().unwrap());
    check_lost_manifest(dir.path(), 10, 10);
    let late = copy(dir.path());
    for segment in fs::read_dir(before.path().join("segments")).unwrap() {
        let from = segment.unwrap().path();
        copy_dir(&from, &late.path().join("segments").join(from.file_name().unwrap()));
    }
    check_lost_manifest(late.path(), 10, 10);
    assert!(store.compact().unwrap());
    check_lost_manifest(dir.path(), 10, 10);
}

fn check_lost_manifest_of_nothing(dir: &Path) {
    let crash = copy(dir);
    fs::write(crash.path().join(manifest::NAME), "").unwrap();
    let Err(error) = LogStore::open(LogStoreConfig::new(crash.path())) else { panic!("opened") };
    assert!(matches!(error, Error::Damaged { .. }), "no manifest before it: {error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn damage_anywhere_gives_an_error_or_fewer_rows_but_never_wrong_ones(
        file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        bit in 0_u8..8, cut in any::<bool>(), scans in proptest::collection::vec(scans(), 4),
    ) {
        let dir = flushed();
        let files: Vec<PathBuf> = contents(dir.path()).into_keys().collect();
        let path = &files[file.index(files.len())];
        let mut bytes = fs::read(path).unwrap();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1_u8 << bit;
        }
        fs::write(path, &bytes).unwrap();
        let Ok(Opened { store, .. }) = LogStore::open(LogStoreConfig::new(dir.path())) else {
            // Only the manifest and the table of streams are missed so much.
            prop_assert!(path.parent() == Some(dir.path()));
            return Ok(());
        };
        let oracle = oracle(12);
        let in_words = path.to_string_lossy().contains("/words/") || path.ends_with("prints");
        for (scan, _) in scans {
            let (found, all) = (rows(&store, &scan, usize::MAX), oracle.scan(&scan));
            prop_assert!(found.iter().all(|row| all.contains(row)));
            if in_words {
                prop_assert_eq!(sorted(found), sorted(all), "a damaged index costs no lines");
            }
        }
    }
}
