//! Files that programs write themselves: rotation by name, volumes that change hands or are about
//! to be unmounted, and what must not be opened.

use super::world::{World, append};
use crate::tail::{RuleKind, VolumeRule};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn of_pod(uid: &str) -> RuleKind {
    let text = |text: &str| text.to_owned();
    RuleKind::Volume { namespace: text("n"), pod: text("p"), uid: text(uid), volume: text("v") }
}

fn set(w: &World, rules: Vec<VolumeRule>) {
    *w.rules.lock().unwrap() = rules;
}

/// What this process holds open below a folder.
fn held(root: &Path) -> Vec<PathBuf> {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    open.filter(|path| path.starts_with(root)).collect()
}

async fn nothing_is_held(root: &Path) {
    let wait = async {
        while !held(root).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(20);
    assert!(tokio::time::timeout(patience, wait).await.is_ok(), "held: {:?}", held(root));
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_while_the_agent_is_down() {
    rotated_while_the_agent_is_down_in(World::new().await).await;
    for served in [false, true] {
        rotated_while_the_agent_is_down_in(World::new().await.on_network("log", served)).await;
    }
}

async fn rotated_while_the_agent_is_down_in(mut w: World) {
    let root = w.folder.path().join("log");
    fs::create_dir(&root).unwrap();
    let log = root.join("a.log");
    append(&root.join("a.log.1"), "long ago, not for us\n");
    append(&log, "1\n");
    set(&w, vec![VolumeRule::new(&root, "*.log", RuleKind::Plain)]);
    w.start();
    w.expect(&["1"]).await;
    w.stop().await;
    append(&log, "2\n");
    fs::remove_file(root.join("a.log.1")).unwrap();
    fs::rename(&log, root.join("a.log.1")).unwrap();
    append(&log, "3\n");
    w.start();
    w.fake.until("all", |k| k.lines.len() == 3).await;
    w.settled().await;
    let mut lines = w.fake.with(|k| k.lines.clone());
    lines.sort_by(|a, b| a.text.cmp(&b.text));
    assert_eq!(lines.iter().map(|l| &*l.text).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(lines[1].labels, lines[0].labels, "it is still the file that it was");
    assert_eq!(w.fake.with(|k| k.conflicts), 0);
    // What was rotated and is read does not come again.
    w.stop().await;
    w.start();
    append(&log, "4\n");
    w.fake.until("all", |k| k.lines.len() == 4).await;
    w.settled().await;
    assert_eq!(w.fake.with(|k| k.lines.len()), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_and_truncated() {
    copied_and_truncated_in(World::new().await).await;
    for served in [false, true] {
        copied_and_truncated_in(World::new().await.on_network("log", served)).await;
    }
}

async fn copied_and_truncated_in(mut w: World) {
    let root = w.folder.path().join("log");
    fs::create_dir(&root).unwrap();
    let log = root.join("a.log");
    set(&w, vec![VolumeRule::new(&root, "*.log", RuleKind::Plain)]);
    w.start();
    let mut expected = Vec::new();
    for round in 0..5 {
        for line in 0..20 {
            append(&log, &format!("{round}-{line}\n"));
            expected.push(format!("{round}-{line}"));
        }
        w.fake.until("the round", |k| k.lines.len() == expected.len()).await;
        w.settled().await;
        fs::copy(&log, root.join(format!("a.log.{round}"))).unwrap();
        fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    }
    append(&log, "end\n");
    expected.push("end".into());
    let texts: Vec<&str> = expected.iter().map(String::as_str).collect();
    w.expect(&texts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lent_volume_is_read_but_never_kept_busy() {
    a_lent_volume_is_read_but_never_kept_busy_in(World::new().await).await;
    for served in [false, true] {
        a_lent_volume_is_read_but_never_kept_busy_in(
            World::new().await.on_network("volume", served),
        )
        .await;
    }
}

async fn a_lent_volume_is_read_but_never_kept_busy_in(mut w: World) {
    let root = w.folder.path().join("volume");
    fs::create_dir(&root).unwrap();
    let rule = VolumeRule::new(&root, "*.log", of_pod("1"));
    set(&w, vec![rule.clone()]);
    w.start();
    append(&root.join("a.log"), "1\n");
    w.expect(&["1"]).await;
    w.settled().await;
    let holds = w.may_hold();
    assert_eq!(!held(&root).is_empty(), holds, "a volume that stays is held");
    set(&w, vec![VolumeRule { lent: true, ..rule.clone() }]);
    nothing_is_held(&root).await;
    append(&root.join("a.log"), "2\n3\nhalf ");
    append(&root.join("b.log"), "4\n");
    w.fake.until("what came late", |k| k.lines.len() == 4).await;
    w.settled_but(1).await;
    nothing_is_held(&root).await;
    append(&root.join("a.log"), "done\n");
    w.fake.until("the end of the line", |k| k.texts().contains(&"half done")).await;
    // Back to what it was: the pod has not been deleted after all.
    set(&w, vec![rule]);
    append(&root.join("a.log"), "5\n");
    w.fake.until("the last", |k| k.lines.len() == 6).await;
    assert_eq!(w.fake.with(|k| (k.lines.len(), k.conflicts)), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lent_volume_is_free_while_the_collector_is_away() {
    a_lent_volume_is_free_while_the_collector_is_away_in(World::new().await).await;
    for served in [false, true] {
        let w = World::new().await.on_network("volume", served);
        a_lent_volume_is_free_while_the_collector_is_away_in(w).await;
    }
}

async fn a_lent_volume_is_free_while_the_collector_is_away_in(mut w: World) {
    let root = w.folder.path().join("volume");
    fs::create_dir(&root).unwrap();
    let lines: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    append(&root.join("a.log"), &lines);
    w.fake.faults(|n| {
        let away = n < 5;
        if away { crate::ship::fake::Fault::Unavailable } else { crate::ship::fake::Fault::None }
    });
    set(&w, vec![VolumeRule { lent: true, ..VolumeRule::new(&root, "*.log", of_pod("1")) }]);
    w.start();
    w.fake.until("an attempt", |k| k.requests > 2).await;
    nothing_is_held(&root).await;
    w.fake.until("all of it", |k| k.lines.len() == 20_000).await;
    assert_eq!(w.fake.with(|k| k.conflicts), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_goes_over_to_the_next_pod() {
    a_volume_goes_over_to_the_next_pod_in(World::new().await).await;
    for served in [false, true] {
        a_volume_goes_over_to_the_next_pod_in(World::new().await.on_network("claim", served)).await;
    }
}

async fn a_volume_goes_over_to_the_next_pod_in(mut w: World) {
    let root = w.folder.path().join("claim");
    let (first, second) = (w.folder.path().join("pod-1"), w.folder.path().join("pod-2"));
    fs::create_dir(&root).unwrap();
    for path in [&first, &second] {
        std::os::unix::fs::symlink(&root, path).unwrap();
    }
    w.labeler = Arc::new(|kind, _| {
        let crate::tail::FileKind::Volume { uid, .. } = kind else { panic!("a pod's") };
        crate::tail::Labeling::Ready(taffrail_model::Labels::from_pairs([("pod", uid.as_str())]))
    });
    set(&w, vec![VolumeRule::new(&first, "*.log", of_pod("1"))]);
    append(&root.join("a.log"), "1\n");
    w.start();
    w.expect(&["1"]).await;
    // What the first pod wrote last, and nobody has read yet, is its own.
    append(&root.join("a.log"), "2\nha");
    set(&w, vec![VolumeRule::new(&second, "*.log", of_pod("2"))]);
    w.until_file("below the new path", |f| f.path.starts_with(&second)).await;
    append(&root.join("a.log"), "lf\n3\n");
    w.fake.until("all", |k| k.lines.len() == 4).await;
    let lines = w.fake.with(|k| k.lines.clone());
    let of = |text: &str| lines.iter().find(|l| l.text == text).unwrap().labels[0].1.clone();
    assert_eq!(["1", "2", "3"].map(of), ["1", "1", "2"], "{lines:?}");
    assert_eq!(w.fake.with(|k| k.conflicts), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_of_the_volume_is_not_opened() {
    what_is_no_file_of_the_volume_is_not_opened_in(World::new().await).await;
    for served in [false, true] {
        what_is_no_file_of_the_volume_is_not_opened_in(
            World::new().await.on_network("volume", served),
        )
        .await;
    }
}

async fn what_is_no_file_of_the_volume_is_not_opened_in(mut w: World) {
    let root = w.folder.path().join("volume");
    fs::create_dir_all(root.join("folder.log")).unwrap();
    let outside = w.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    append(&outside.join("secret.log"), "secret\n");
    std::os::unix::fs::symlink(outside.join("secret.log"), root.join("link.log")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("linked")).unwrap();
    std::os::unix::fs::symlink("/nowhere", root.join("dangling.log")).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket.log")).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe.log"), mode).unwrap();
    let odd = [" with spaces.log", "new\nline.log", "ü.log", &format!("{}.log", "x".repeat(251))];
    for name in odd {
        append(&root.join(name), "read\n");
    }
    use std::os::unix::ffi::OsStrExt;
    append(&root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe.log")), "read\n");
    set(&w, vec![VolumeRule::new(&root, "**/*.log", of_pod("1"))]);
    w.start();
    w.expect(&["read"; 5]).await;
    append(&root.join("ü.log"), "more\n");
    w.fake.until("more", |k| k.lines.len() == 6).await;
    assert!(!w.fake.with(|k| k.texts().contains(&"secret")));
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_live_for_a_moment() {
    let mut w = World::new().await;
    // What is not told by a watch would be found too late.
    w.config.scan_interval = std::time::Duration::from_secs(3600);
    w.config.linger = std::time::Duration::from_millis(10);
    w.start();
    w.write("0.log", super::world::STDOUT, &["first"]);
    w.fake.until("the first", |k| k.lines.len() == 1).await;
    for round in 0..5 {
        let pod = w.folder.path().join(format!("pods/ns_short{round}_uid{round}"));
        fs::create_dir_all(pod.join("app")).unwrap();
        let file = pod.join("app/0.log");
        append(&file, &super::world::cri("stdout F", "a"));
        w.until_file("it is found", |f| f.path == file && f.open).await;
        append(&file, &super::world::cri("stdout F", "last words"));
        fs::remove_dir_all(&pod).unwrap();
        w.fake.until("all of it", |k| k.lines.len() == 3 + 2 * round).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_comes_again_goes_on_where_it_was() {
    a_volume_that_comes_again_goes_on_where_it_was_in(World::new().await).await;
    for served in [false, true] {
        let w = World::new().await.on_network("claim", served);
        a_volume_that_comes_again_goes_on_where_it_was_in(w).await;
    }
}

async fn a_volume_that_comes_again_goes_on_where_it_was_in(mut w: World) {
    let root = w.folder.path().join("claim");
    let (first, second) = (w.folder.path().join("pod-1"), w.folder.path().join("pod-2"));
    fs::create_dir(&root).unwrap();
    for path in [&first, &second] {
        std::os::unix::fs::symlink(&root, path).unwrap();
    }
    set(&w, vec![VolumeRule::new(&first, "*.log", of_pod("1"))]);
    append(&root.join("a.log"), "1\n2\n");
    w.start();
    w.expect(&["1", "2"]).await;
    // One truncation, so that it is not the first content any more.
    w.settled().await;
    fs::write(root.join("a.log"), "3\n").unwrap();
    w.expect(&["1", "2", "3"]).await;
    w.settled().await;
    // The pod goes, and nobody looks for the file.
    set(&w, Vec::new());
    while w.status().status().await.iter().any(|f| !f.source.is_empty()) {
        tokio::task::yield_now().await;
    }
    append(&root.join("a.log"), "4\n");
    set(&w, vec![VolumeRule::new(&second, "*.log", of_pod("2"))]);
    w.expect(&["1", "2", "3", "4"]).await;
    assert_eq!(w.fake.with(|k| (k.lines.len(), k.conflicts)), (4, 0));
}
