use super::*;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Sender, channel};

fn lane() -> Lane {
    lane_with(Arc::default())
}

fn lane_with(patience: Arc<Patience>) -> Lane {
    let mount = Mount { point: "/volume".into(), device: "0:1".into(), served: false };
    Lane::new(&mount, patience, true)
}

/// Has the lane do something that does not come back before it is told to.
fn block(lane: &Lane) -> Sender<()> {
    let (release, held) = channel::<()>();
    let (began, begun) = channel();
    let waiting = lane.start(move || {
        began.send(()).expect("somebody waits");
        let _released = held.recv().is_ok();
        Ok(())
    });
    begun.recv().expect("it begins");
    drop(waiting);
    release
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn an_answer_that_is_late_is_there_for_the_next_look() {
    let lane = lane();
    assert_eq!(lane.run(|| Ok(7)).expect("at once"), 7);
    let failed = lane.run(|| Err::<(), _>(io::ErrorKind::NotFound.into()));
    assert_eq!(failed.expect_err("as it says").kind(), io::ErrorKind::NotFound);

    let release = block(&lane);
    let runs = Arc::new(AtomicU32::new(0));
    let mut asked = Asked::default();
    let mut look = || {
        let runs = runs.clone();
        asked.get(&lane, move || Ok(runs.fetch_add(1, Ordering::Relaxed) + 1))
    };
    assert!(is_late(&look().expect_err("not yet")));
    assert!(is_absent(&look().expect_err("not yet")));
    release.send(()).expect("it waits");
    until("the answer", || look().is_ok_and(|count| count == 1));
    until("it is asked again", || look().is_ok_and(|count| count == 2));
}

#[test]
fn one_that_hangs_is_known_and_costs_nothing() {
    let lane = lane();
    let release = block(&lane);
    let mut asked = Asked::default();
    assert!(asked.get(&lane, || Ok(())).is_err());
    until("it hangs", || lane.hangs().is_some());
    let start = Instant::now();
    for _ in 0..1000 {
        let error = lane.run(|| Ok(())).expect_err("it hangs");
        assert!(is_absent(&error) && !is_late(&error));
        assert!(error.to_string().contains("/volume has not answered since 2"), "{error}");
        assert!(asked.get(&lane, || Ok(())).is_err());
    }
    assert!(start.elapsed() < PATIENCE * 5, "{:?}", start.elapsed());
    assert_eq!(lane.0.thread.as_ref().expect("has one").lock().queue.len(), 1, "nothing piles up");
    release.send(()).expect("it waits");
    until("it answers", || asked.get(&lane, || Ok(())).is_ok());
    assert_eq!(lane.hangs(), None);
}

#[test]
fn all_lanes_together_are_waited_for_no_longer_than_one() {
    let patience = Arc::<Patience>::default();
    let lanes: Vec<Lane> = (0..20).map(|_| lane_with(patience.clone())).collect();
    let _held: Vec<_> = lanes.iter().map(block).collect();
    let start = Instant::now();
    assert!(lanes.iter().all(|lane| lane.run(|| Ok(())).is_err()));
    // Twice, where the window happened to end meanwhile.
    assert!(start.elapsed() < PATIENCE * 8, "{:?}", start.elapsed());
}

#[test]
fn no_more_is_asked_than_may_be_answered() {
    let lane = lane();
    let release = block(&lane);
    let waiting: Vec<_> = (0..ASKED_MAX + 9).map(|n| lane.start(move || Ok(n))).collect();
    assert_eq!(waiting.iter().filter(|started| started.is_ok()).count(), ASKED_MAX);
    drop(waiting);
    release.send(()).expect("it waits");
    until("there is room again", || lane.run(|| Ok(())).is_ok());
}

#[test]
fn files_are_closed_by_the_lane_and_nobody_waits_for_that() {
    let lane = lane();
    let file = Arc::new(tempfile::tempfile().expect("file"));
    let left = Arc::downgrade(&file);
    let release = block(&lane);
    let held = Held::new(file, lane);
    drop(held.share());
    drop(held);
    assert!(left.upgrade().is_some(), "the lane has it");
    release.send(()).expect("it waits");
    until("it is closed", || left.upgrade().is_none());
}

#[test]
fn a_lane_ends_with_its_last_user_when_all_is_done() {
    let lane = lane();
    let thread = Arc::downgrade(lane.0.thread.as_ref().expect("has one"));
    let release = block(&lane);
    let file = Arc::new(tempfile::tempfile().expect("file"));
    let left = Arc::downgrade(&file);
    drop(Held::new(file, lane.clone()));
    drop(lane);
    assert!(thread.upgrade().is_some());
    release.send(()).expect("it waits");
    until("it ends", || thread.upgrade().is_none());
    assert!(left.upgrade().is_none());
}

#[test]
fn there_are_so_many_lanes_and_no_more() {
    let mut lanes = Lanes::default();
    let path = |n: usize| PathBuf::from(format!("/volumes/{n}"));
    (0..=LANES_MAX).for_each(|n| lanes.pretend(&path(n), false));
    for n in 0..LANES_MAX {
        let lane = lanes.of(&path(n).join("a.log")).expect("has one");
        assert_eq!(lane.run(move || Ok(n)).expect("works"), n);
    }
    let refused = lanes.of(&path(LANES_MAX)).expect("has one").run(|| Ok(()));
    let text = refused.expect_err("too many").to_string();
    assert_eq!(text, "more than 64 network file systems: /volumes/64 is not read");
    assert!(lanes.of(Path::new("/elsewhere")).is_none());
    lanes.refresh();
    assert!(lanes.of(&path(3)).is_some(), "what is mounted keeps its lane");
    assert_eq!(lanes.hanging().count(), 0);
}

#[test]
fn roots_are_known_while_they_hang_and_links_to_them_are_seen() {
    let folder = tempfile::tempdir().expect("folder");
    let (volume, link) = (folder.path().join("volume"), folder.path().join("link"));
    std::fs::create_dir(&volume).expect("create");
    std::os::unix::fs::symlink(&volume, &link).expect("link");
    let mut lanes = Lanes::default();
    lanes.pretend(&volume, false);
    lanes.refresh();
    assert!(lanes.of(&link.join("a.log")).is_none(), "nobody has said that it is a root");
    let id = lanes.folder(&link);
    assert!(id.is_some() && id == lanes.folder(&volume));
    let lane = lanes.of(&link.join("a.log")).expect("leads to it");
    assert_eq!(lane.point(), volume);
    assert!(!lanes.wait());
    let release = block(&lane);
    let asked = lane.start(|| Ok(()));
    assert!(lanes.wait());
    drop(asked);
    until("it hangs", || lane.hangs().is_some());
    assert!(lanes.wait());
    for _ in 0..3 {
        lanes.refresh();
        assert_eq!((lanes.folder(&link), lanes.folder(&volume)), (id, id));
    }
    assert_eq!(lanes.hanging().map(|(point, _)| point.to_owned()).collect::<Vec<_>>(), [volume]);
    drop(release);
}
