//! The spool on a real folder, and its frames against any bytes.

use std::path::Path;

use prometheus::Registry;
use proptest::prelude::*;
use taffrail_model::Labels;
use tempfile::TempDir;

use super::*;
use crate::batch::{Builder, FileMeta};
use crate::spool::ledger::Unread;
use crate::tail::join::{Marks, Record, Sink};
use crate::tail::{FileNumber, LogStream};

fn spool_of(dir: &Path, bytes_max: u64) -> Spool {
    let config = Config { dir: dir.into(), bytes_max, after: Duration::from_secs(2) };
    let mut spool =
        Spool::new(config, View::default(), Metrics::register(&Registry::new()).unwrap());
    spool.open();
    spool
}

/// A batch of one file from `begin` to `end`, with a line that says so.
fn batch(source: &str, begin: u64, end: u64) -> Batch {
    let mut builder = Builder::default();
    let number = FileNumber(7);
    let labels = [Labels::from_pairs([("app", source)]), Labels::default(), Labels::default()];
    let meta = FileMeta { source: source.into(), path: "/f".into(), labels, released: begin };
    builder.declare(number, meta);
    let text = format!("{begin}..{end}");
    let record =
        Record { stream: LogStream::Stdout, ts: 1, text: text.as_bytes(), marks: Marks::default() };
    builder.record(number, record);
    builder.cut(&[(number, end)]);
    builder.finish(|_, end| end + 1).unwrap()
}

fn entry(source: &str, safe: u64) -> Entry {
    let unread = Unread { size: 99, path: "/f".into(), labels: Labels::from_pairs([("a", "b")]) };
    Entry { source: source.into(), safe, check: 3, unread: Some(unread) }
}

fn ranges(spool: &mut Spool) -> Vec<(String, u64, u64)> {
    let mut all = Vec::new();
    while let Oldest::Batch(seq, batch) = spool.oldest() {
        let span = &batch.spans()[0];
        all.push((span.source.to_string(), span.begin, span.end));
        spool.delivered(seq);
    }
    all
}

fn position(source: &str, committed: u64, check: u64) -> Position {
    Position { source: source.into(), committed, check }
}

fn sorted(mut positions: Vec<Position>) -> Vec<Position> {
    positions.sort_by(|a, b| a.source.cmp(&b.source));
    positions
}

#[test]
fn batches_come_back_in_order_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut spool = spool_of(dir.path(), 1 << 20);
    assert!(spool.is_empty() && matches!(spool.oldest(), Oldest::Empty));
    spool.append(&batch("a", 0, 10), Use::Most).unwrap();
    spool.keep_ledger(vec![entry("b", 5), entry("a", 0)], Use::Reserve).unwrap();
    spool.append(&batch("a", 10, 20), Use::Most).unwrap();
    spool.append(&batch("c", 0, 7), Use::Most).unwrap();
    drop(spool);

    let mut spool = spool_of(dir.path(), 1 << 20);
    assert_eq!(spool.view.now().frames, 3);
    assert!(spool.view.now().oldest.is_some());
    let resumed = [position("a", 20, 21), position("b", 5, 3), position("c", 7, 8)];
    assert_eq!(sorted(spool.resume()), resumed);
    let told = vec![position("a", 30, 1), position("c", 2, 1)];
    assert_eq!(sorted(spool.overlay(told)), [position("a", 30, 1), position("c", 7, 8)]);
    let Oldest::Batch(_, first) = spool.oldest() else { panic!("a batch waits") };
    assert_eq!(first.lines(), 1);
    // New ones come while the old are sent.
    spool.append(&batch("a", 20, 25), Use::Most).unwrap();
    let expected =
        [("a", 0, 10), ("a", 10, 20), ("c", 0, 7), ("a", 20, 25)].map(|(s, b, e)| (s.into(), b, e));
    assert_eq!(ranges(&mut spool), expected);
    assert_eq!((spool.view.now().frames, spool.view.now().oldest), (0, None));
    drop(spool);

    // What is delivered does not come again; the ledger stays, and knows how far it went.
    let mut spool = spool_of(dir.path(), 1 << 20);
    assert!(spool.is_empty() && matches!(spool.oldest(), Oldest::Empty));
    let delivered = Entry { check: 26, ..entry("a", 25) };
    let of_c = Entry { source: "c".into(), safe: 7, check: 8, unread: None };
    assert_eq!(spool.ledger(), [entry("b", 5), delivered, of_c]);
}

#[test]
fn what_was_delivered_is_known_when_its_frames_are_gone() {
    let dir = TempDir::new().unwrap();
    let mut spool = spool_of(dir.path(), 1 << 20);
    spool.keep_ledger(vec![entry("old", 5), entry("older", 3)], Use::Reserve).unwrap();
    let frames = 1500;
    for n in 0..frames {
        spool.append(&batch("old", 5 + n, 6 + n), Use::Most).unwrap();
    }
    // A line that began in the one file and ended in the other was in one of the frames before.
    spool.append(&batch("new", 0, 9), Use::Most).unwrap();
    let bytes = spool.view.now().bytes;
    assert!(bytes > 2 * SEGMENT_BYTES_MIN, "{bytes}");
    while spool.pending.len() > 1 {
        let Oldest::Batch(seq, _) = spool.oldest() else { panic!("a batch waits") };
        spool.delivered(seq);
    }
    assert!(spool.view.now().bytes < bytes / 2, "frames were removed");
    drop(spool);
    let spool = spool_of(dir.path(), 1 << 20);
    let expected =
        [position("new", 9, 10), position("old", 5 + frames, 6 + frames), position("older", 3, 3)];
    assert_eq!(sorted(spool.resume()), expected);
}

#[test]
fn a_batch_comes_behind_a_ledger_that_knows_what_the_collector_took() {
    let dir = TempDir::new().unwrap();
    let mut spool = spool_of(dir.path(), 1 << 20);
    spool.keep_ledger(vec![entry("a", 10)], Use::Reserve).unwrap();
    // A line that began in `a` and ended in `b` was delivered; then the collector went away.
    spool.raise(vec![("a".into(), (20, 21)), ("b".into(), (5, 6))]);
    spool.append(&batch("b", 5, 30), Use::Most).unwrap();
    // A snapshot from before takes nothing back.
    spool.keep_ledger(vec![entry("a", 10)], Use::Reserve).unwrap();
    drop(spool);
    let spool = spool_of(dir.path(), 1 << 20);
    assert_eq!(sorted(spool.resume()), [position("a", 20, 21), position("b", 30, 31)]);
}

#[test]
fn a_disk_that_gives_nothing_now_is_waited_for_but_not_for_ever() {
    let dir = TempDir::new().unwrap();
    let mut spool = spool_of(dir.path(), 1 << 20);
    for begin in [0, 10] {
        spool.append(&batch("a", begin, begin + 10), Use::Most).unwrap();
    }
    let segment = segment_of(dir.path());
    let aside = dir.path().join("aside");
    std::fs::rename(&segment, &aside).unwrap();
    for _ in 0..3 {
        assert!(matches!(spool.oldest(), Oldest::Later));
        assert!(spool.view.now().problem.is_some());
    }
    assert_eq!(spool.view.now().frames, 2);
    std::fs::rename(&aside, &segment).unwrap();
    assert_eq!(ranges(&mut spool).len(), 2);
    assert_eq!(spool.view.now().problem, None);

    spool.append(&batch("b", 0, 10), Use::Most).unwrap();
    std::fs::rename(segment_of(dir.path()), &aside).unwrap();
    let tries = std::iter::repeat_with(|| matches!(spool.oldest(), Oldest::Later));
    let later = tries.take(1000).take_while(|later| *later).count();
    assert_eq!((later, spool.is_empty()), (300, true), "a sector that is gone for good");
}

fn segment_of(dir: &Path) -> PathBuf {
    let mut names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    names.find(|p| p.extension().is_some_and(|e| e == "seg")).unwrap()
}

#[test]
fn the_bound_is_kept_and_room_is_made() {
    let dir = TempDir::new().unwrap();
    let mut spool = spool_of(dir.path(), 300 << 10);
    let mut kept = 0;
    while spool.append(&batch("a", kept, kept + 1), Use::Most).is_ok() {
        kept += 1;
    }
    assert!(spool.view.now().problem.is_some_and(|p| p.contains("full")));
    assert!(spool.view.now().bytes <= 300 << 10);
    // For the end there is a little more.
    spool.append(&batch("a", kept, kept + 1), Use::Reserve).unwrap();
    spool.keep_ledger(vec![entry("b", 5)], Use::Reserve).unwrap();
    let Oldest::Batch(seq, _) = spool.oldest() else { panic!("a batch waits") };
    spool.delivered(seq + kept / 2);
    spool.append(&batch("a", kept + 1, kept + 2), Use::Most).unwrap();
    assert_eq!(spool.view.now().problem, None);
    assert_eq!(ranges(&mut spool).len() as u64, kept + 2 - kept / 2 - 1);
    assert!(spool.view.now().bytes < 64 << 10, "{:?}", spool.view.now());
}

#[test]
fn a_damaged_frame_is_left_out() {
    let dir = TempDir::new().unwrap();
    let mut spool = spool_of(dir.path(), 1 << 20);
    for begin in [0, 10, 20] {
        spool.append(&batch("a", begin, begin + 10), Use::Most).unwrap();
    }
    spool.append(&batch("b", 0, 10), Use::Most).unwrap();
    drop(spool);
    let segment = segment_of(dir.path());
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let mut spool = spool_of(dir.path(), 1 << 20);
    let left = ranges(&mut spool);
    assert!(left.len() < 4, "{left:?}");
    spool.append(&batch("c", 0, 10), Use::Most).unwrap();
    assert_eq!(ranges(&mut spool), [("c".into(), 0, 10)]);
}

#[test]
fn a_folder_that_cannot_be_is_told_and_tried_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("spool");
    std::fs::write(&path, "in the way").unwrap();
    let mut spool = spool_of(&path, 1 << 20);
    assert!(spool.view.now().problem.is_some());
    assert_eq!(spool.append(&batch("a", 0, 1), Use::Most).unwrap_err().reason(), "disk");
    assert!(spool.is_empty() && matches!(spool.oldest(), Oldest::Empty));
    std::fs::remove_file(&path).unwrap();
    spool.append(&batch("a", 0, 1), Use::Most).unwrap();
    assert_eq!(spool.view.now().problem, None);
    // Two at once would mix their frames.
    assert!(spool_of(&path, 1 << 20).view.now().problem.is_some());
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(kind in 0_u8..4, bytes: Vec<u8>) {
        let payload = [&[kind][..], &bytes].concat();
        let _any = (frame::decode(&payload).is_ok(), frame::decode_batch(&payload).is_ok());
        let good = frame::encode_batch(&batch("a", 0, 9), 5);
        for cut in 0..good.len() {
            prop_assert!(frame::decode_batch(&good[..cut]).is_err());
        }
    }
}
