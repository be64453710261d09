//! A store of format 1, as the version before wrote it (`format-1/` beside this file): read, searched
//! and merged into format 2.

use std::fs;
use std::path::Path;

use regex::Regex;
use taffrail_model::{Nanos, TimeRange};
use taffrail_query::source::{Cancel, LineFilter, LogCount, LogScan, LogSource};

use super::{LogStore, LogStoreConfig, rows, scan_all};

const BEGIN: Nanos = 1_795_208_400_000_000_000;

fn line(n: u64) -> String {
    match n % 5 {
        0 => {
            let id = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            format!("took {}ms id={id:016x} by web-{}", n * 7 % 1000, n % 3)
        }
        1 => format!("10.0.{}.{} \"GET /p/{n}\" rt=0.{n:03}", n % 4, n * 37 % 256),
        2 => format!("Error {n} in grün: lost order 4bf92f35-77b3-4da6-a3ce-{n:012x}"),
        3 => format!("two\nrows {n}"),
        _ => "nothing varies here".to_owned(),
    }
}

/// (time, line, metadata) of what was written.
fn written() -> Vec<(Nanos, String, usize)> {
    let web = (0_u32..200).map(|n| (BEGIN + i64::from(n) * 100_000_000, line(n.into()), 0));
    let db = (0_u32..40).map(|n| (BEGIN + i64::from(n) * 1_000_000_000 + 7, line(n.into()), 1));
    let mut all: Vec<_> = web.chain(db).collect();
    all.sort_by_key(|row| row.0);
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

fn check(store: &LogStore) {
    let contains = |text: &str| vec![LineFilter::Contains(vec![text.to_owned()])];
    let matches = |pattern: &str| vec![LineFilter::Matches(vec![Regex::new(pattern).unwrap()])];
    let filters = [
        Vec::new(),
        contains("lost"),
        contains("4bf92f35-77b3-4da6-a3ce-000000000007"),
        contains("-77b3-4da6-"),
        contains("9e3779b97f4a7c15"),
        contains(" 12 "),
        contains("nowhere"),
        matches("(?i)ERROR [0-9]+ in"),
        vec![LineFilter::NotContains(vec!["a".into()])],
    ];
    for filters in filters {
        let range = TimeRange::new(BEGIN + 2_000_000_000, BEGIN + 31_000_000_000);
        let scan = LogScan { filters: filters.clone(), range, ..scan_all() };
        let found: Vec<_> = (rows(store, &scan, usize::MAX).into_iter())
            .map(|row| (row.entry.ts, row.entry.line, row.entry.metadata.len()))
            .collect();
        let passes = |row: &(Nanos, String, usize)| {
            range.contains(row.0) && filters.iter().all(|filter| filter.passes(&row.1))
        };
        let expected: Vec<_> = written().into_iter().filter(passes).collect();
        assert_eq!(found, expected, "{filters:?}");
        let count = LogCount {
            matchers: Vec::new(),
            filters,
            ranges: vec![range],
            by_level: true,
            bytes: true,
            only_plain: false,
            cancel: Cancel::new(),
        };
        let counted = store.count(&count).unwrap().unwrap();
        let lines: u64 = counted.iter().map(|counted| counted.lines[0]).sum();
        let bytes: u64 = counted.iter().map(|counted| counted.bytes[0]).sum();
        assert_eq!(lines, expected.len() as u64);
        assert_eq!(bytes, expected.iter().map(|row| row.1.len() as u64).sum::<u64>());
    }
}

#[test]
fn the_format_before_is_read_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/logs/tests/format-1"), dir.path());
    let open = || LogStore::open(LogStoreConfig::new(dir.path())).unwrap();
    let opened = open();
    assert_eq!((opened.replay_from, opened.store.stats().quarantined), (3, 0));
    check(&opened.store);
    let format = || opened.store.state().segments[0].meta().format;
    assert_eq!(format(), 1);
    opened.store.compact_all().unwrap();
    assert_eq!(format(), 2);
    check(&opened.store);
    drop(opened);
    check(&open().store);
}
