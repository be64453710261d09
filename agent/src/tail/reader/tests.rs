use super::*;
use crate::tail::Labeling;
use std::sync::atomic::AtomicUsize;

/// A reader that nobody runs, and how often it has asked for the rules.
fn reader(root: PathBuf, poll_min: Duration) -> (Reader, Arc<AtomicUsize>) {
    let config = Config { pods_root: Some(root), poll_min, ..Config::new("n") };
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
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
