//! The reader alone, with a shipper that takes nothing until it is asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::sync_channel;

use prometheus::Registry;
use taffrail_model::Labels;
use tokio::sync::oneshot;

use super::*;
use crate::tail::Labeling;

/// Ranges of the first file of each batch that comes, until one ends at `end`.
fn ranges_up_to(out: &mut mpsc::Receiver<Parcel>, end: u64) -> Vec<(u64, u64, u64)> {
    let mut ranges = Vec::new();
    while ranges.last().is_none_or(|(_, _, last)| *last < end) {
        if let Some(Parcel::Batch(Outgoing { epoch, batch, .. })) = out.blocking_recv() {
            let span = &batch.spans()[0];
            ranges.push((epoch, span.begin, span.end));
        }
    }
    ranges
}

#[test]
fn a_channel_full_of_void_batches_drops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let pod = folder.path().join("ns_pod_uid/app");
    std::fs::create_dir_all(&pod).unwrap();
    let line = "2026-11-20T10:00:00.000000000Z stdout F a line that fills a batch\n";
    std::fs::write(pod.join("0.log"), line.repeat(8)).unwrap();
    let config = Config {
        pods_root: Some(folder.path().into()),
        batch_bytes: 1,
        poll_min: Duration::from_millis(1),
        poll_max: Duration::from_millis(2),
        ..Config::new("node")
    };
    let labeler: Labeler = Arc::new(|_, _| Labeling::Ready(Labels::from_pairs([("app", "a")])));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let (sender, mut out) = mpsc::channel(1);
    let reader = Reader::new(config, labeler, Arc::new(|_| Vec::new()), metrics, sender).unwrap();
    let (events, told) = sync_channel(8);
    let thread = std::thread::spawn(move || reader.run(&told));
    events.send(Event::Positions { known: Vec::new(), firm: true, ledger: Vec::new() }).unwrap();
    let whole = (line.len() * 8) as u64;
    // All of it is in the channel now. The collector is elsewhere, and more is written: what is read
    // again has no room until the void batch is taken.
    while out.is_empty() {
        std::thread::yield_now();
    }
    events.send(Event::Conflict(Vec::new())).unwrap();
    let (asked, answer) = oneshot::channel();
    events.send(Event::Status(asked)).unwrap();
    assert_eq!(answer.blocking_recv().unwrap().len(), 1);
    let ranges = ranges_up_to(&mut out, whole);
    assert_eq!(ranges, [(0, 0, whole)]);
    assert_eq!(ranges_up_to(&mut out, whole), [(1, 0, whole)]);
    events.send(Event::Stop).unwrap();
    thread.join().unwrap();
}

/// A reader that nobody runs, and how often it has asked for the rules.
fn reader(root: PathBuf, poll_min: Duration) -> (Reader, Arc<AtomicUsize>) {
    let config = Config { pods_root: Some(root), poll_min, ..Config::new("n") };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let labeler: Labeler = Arc::new(|_, _| Labeling::Wait);
    let scans = Arc::<AtomicUsize>::default();
    let counted = scans.clone();
    let rules: VolumeRules = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    });
    let (out, _parcels) = mpsc::channel(1);
    (Reader::new(config, labeler, rules, metrics, out).unwrap(), scans)
}

#[test]
fn between_two_looks_there_is_a_pause_however_many_hints_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let (mut reader, scans) = reader(folder.path().into(), Duration::from_secs(3600));
    let hint = || Event::Hint(Arc::new(AtomicBool::new(true)));
    reader.handle(hint());
    reader.work();
    assert_eq!(scans.load(Ordering::Relaxed), 1, "the first is at once");
    for _ in 0..1000 {
        reader.handle(hint());
        reader.work();
    }
    assert!(reader.next_scan <= Instant::now() + HOT_INTERVAL, "none is put off");
    assert!(scans.load(Ordering::Relaxed) < 100, "{scans:?}");
    reader.config.poll_min = Duration::ZERO;
    let before = scans.load(Ordering::Relaxed);
    reader.handle(hint());
    reader.work();
    assert_eq!(scans.load(Ordering::Relaxed), before + 1, "it is the pause that is waited for");
}
