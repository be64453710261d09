//! Volumes on network file systems: they hang, and nobody else notices.

use super::world::{STDOUT, World, append};
use crate::tail::{RuleKind, VolumeRule};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn of_pod(uid: &str) -> RuleKind {
    let text = |text: &str| text.to_owned();
    RuleKind::Volume { namespace: text("n"), pod: text("p"), uid: text(uid), volume: text("v") }
}

fn set(w: &World, rules: Vec<VolumeRule>) {
    *w.rules.lock().unwrap() = rules;
}

/// A volume with one line in one file, which has come.
async fn world() -> (World, PathBuf) {
    let mut w = World::new().await.on_network("volume", false);
    let root = w.folder.path().join("volume");
    fs::create_dir_all(root.join("deep")).unwrap();
    set(&w, vec![VolumeRule::new(&root, "**/*.log", of_pod("1"))]);
    append(&root.join("deep/a.log"), "1\n");
    w.start();
    w.expect(&["1"]).await;
    w.settled().await;
    (w, root)
}

fn sorted(w: &World) -> Vec<String> {
    let mut texts = w.fake.with(|k| k.lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>());
    texts.sort();
    texts
}

async fn until_error(w: &World, path: &Path) {
    let hangs = |error: &String| error.contains("has not answered since");
    w.until_file("it is said", |f| f.path == path && f.error.as_ref().is_some_and(hangs)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_go_on_while_a_volume_hangs() {
    let (mut w, root) = world().await;
    let held = w.hang().await;
    let log = root.join("deep/a.log");
    append(&log, "2\n3\n");
    append(&root.join("b.log"), "4\n");
    for line in 0..20 {
        let start = Instant::now();
        w.write("0.log", STDOUT, &[&format!("line {line:02}")]);
        w.fake.until("the line", |k| k.lines.len() == 2 + line).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    // Said of the file, and of the file system.
    until_error(&w, &log).await;
    until_error(&w, &root).await;
    while w.gauge("taffrail_tail_volumes_hanging") < 1.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(w.counter("taffrail_tail_read_errors_total"), 0);
    // Much may happen to the files meanwhile.
    fs::rename(&log, root.join("deep/a.log.1")).unwrap();
    append(&log, "5\n");
    drop(held);
    w.fake.until("all", |k| k.lines.len() == 25).await;
    w.until_file("it is well again", |f| f.path == log && f.error.is_none()).await;
    w.settled().await;
    assert_eq!(sorted(&w)[..5], ["1", "2", "3", "4", "5"]);
    assert_eq!(w.fake.with(|k| (k.lines.len(), k.conflicts)), (25, 0));
    while w.gauge("taffrail_tail_volumes_hanging") > 0.0 {
        tokio::task::yield_now().await;
    }
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_volume_that_hangs() {
    let (mut w, root) = world().await;
    let held = w.hang().await;
    append(&root.join("deep/a.log"), "2\n");
    w.write("0.log", STDOUT, &["last"]);
    w.fake.until("the other", |k| k.lines.len() == 2).await;
    let start = Instant::now();
    w.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(held);
    w.start();
    w.fake.until("all", |k| k.lines.len() == 3).await;
    w.settled().await;
    assert_eq!(sorted(&w), ["1", "2", "last"]);
    assert_eq!(w.fake.with(|k| k.conflicts), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_hangs_stays_what_it_was() {
    let (mut w, root) = world().await;
    append(&root.join("deep/a.log"), "2\nhalf ");
    w.write("0.log", STDOUT, &["first"]);
    w.fake.until("the next", |k| k.lines.len() == 3).await;
    // The collector has lost a line, so that everything goes back to what is committed.
    let held = w.hang().await;
    w.fake.with(|k| {
        let at = k.lines.iter().position(|line| line.text == "first").unwrap();
        let line = k.lines.remove(at);
        k.positions.insert(line.source, (0, 0));
    });
    w.write("0.log", STDOUT, &["other"]);
    w.fake.until("the other", |k| k.lines.len() == 4).await;
    assert_eq!(w.fake.with(|k| k.conflicts), 1);
    // Its pod is deleted and forgotten: what is unread is still read, some time.
    append(&root.join("deep/a.log"), "done\n");
    set(&w, Vec::new());
    w.write("0.log", STDOUT, &["another"]);
    w.fake.until("another", |k| k.lines.len() == 5).await;
    drop(held);
    w.fake.until("all", |k| k.lines.len() == 6).await;
    assert_eq!(sorted(&w), ["1", "2", "another", "first", "half done", "other"]);
    assert_eq!(w.fake.with(|k| k.conflicts), 1);
    assert_eq!(w.counter("taffrail_tail_lost_bytes_total"), 0);
    w.stop().await;
}
