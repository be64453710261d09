//! What is in files: odd lines, labels that come late, volumes, settings.

use super::world::{STDOUT, World, append, cri, plain_labels};
use crate::tail::{Labeling, RuleKind, VolumeRule};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test]
async fn both_outputs_and_odd_lines() {
    let mut w = World::new().await;
    w.config.line_bytes_max = 50;
    w.write("0.log", "stderr F", &["ERROR boom"]);
    append(&w.path("0.log"), "no header\n");
    append(
        &w.path("0.log"),
        "{\"log\":\"docker\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00Z\"}\n",
    );
    w.write("0.log", STDOUT, &["a\0b", &"x".repeat(60)]);
    w.start();
    let long = "x".repeat(50);
    w.fake.until("lines", |k| k.lines.len() == 5).await;
    let mut lines = w.fake.with(|k| k.lines.clone());
    // Streams are apart within a batch; each is in order.
    lines.sort_by_key(|l| l.labels[1].1.clone());
    let rows: Vec<(&str, &str, &[String])> =
        lines.iter().map(|l| (l.labels[1].1.as_str(), l.text.as_str(), &l.marks[..])).collect();
    let raw = ["taffrail_raw".to_owned()];
    let cut = ["taffrail_cut".to_owned()];
    let expected: [(&str, &str, &[String]); 5] = [
        ("Stderr", "ERROR boom", &[]),
        ("Stdout", "no header", &raw),
        ("Stdout", "docker", &[]),
        ("Stdout", "a\0b", &[]),
        ("Stdout", &long, &cut),
    ];
    assert_eq!(rows, expected);
    assert_eq!(w.counter("taffrail_tail_marked_lines_total"), 2);
    assert_eq!(w.counter("taffrail_tail_lines_total"), 5);
}

#[tokio::test]
async fn a_file_waits_for_its_labels_and_is_not_lost() {
    let mut w = World::new().await;
    let known = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicBool::new(false));
    let (labels_known, labels_asked) = (known.clone(), asked.clone());
    w.labeler = Arc::new(move |kind, stream| {
        labels_asked.store(true, Ordering::SeqCst);
        if labels_known.load(Ordering::SeqCst) {
            Labeling::Ready(plain_labels(kind, stream))
        } else {
            Labeling::Wait
        }
    });
    w.write("0.log", STDOUT, &["1"]);
    w.start();
    while !asked.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        w.status().status().await[0].error.as_deref(),
        Some("waits for the labels of its pod")
    );
    fs::remove_dir_all(w.folder.path().join("pods/ns_pod_uid")).unwrap();
    known.store(true, Ordering::SeqCst);
    w.expect(&["1"]).await;
}

#[tokio::test]
async fn volumes_with_rules() {
    let mut w = World::new().await;
    let root = w.folder.path().join("volume");
    fs::create_dir_all(root.join("deep")).unwrap();
    let kind = RuleKind::Volume {
        namespace: "n".into(),
        pod: "p".into(),
        uid: "u".into(),
        volume: "v".into(),
    };
    *w.rules.lock().unwrap() =
        vec![VolumeRule { root: root.clone(), glob: "**/*.log".into(), kind }];
    append(&root.join("deep/a.log"), "one\ntw");
    append(&root.join("other.txt"), "no\n");
    w.start();
    w.expect(&["one"]).await;
    assert_eq!(
        w.fake.with(|k| k.lines[0].labels.clone()),
        [("name".to_owned(), "deep/a.log".to_owned()), ("stream".to_owned(), "File".to_owned()),]
    );
    append(&root.join("deep/a.log"), "o\n");
    w.expect(&["one", "two"]).await;
    // logrotate renames it out of the pattern: the rest is read, and the new file too.
    append(&root.join("deep/a.log"), "three\n");
    fs::rename(root.join("deep/a.log"), root.join("deep/a.log.1")).unwrap();
    append(&root.join("deep/a.log"), "four\n");
    w.fake.until("all", |k| k.lines.len() == 4).await;
    append(&root.join("deep/a.log.1"), "late\n");
    w.fake.until("late", |k| k.texts().contains(&"late")).await;
    // The volume goes: its files are closed, so that it can be unmounted.
    w.rules.lock().unwrap().clear();
    let status = w.status();
    while status.status().await.iter().any(|f| f.path.starts_with(&root)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_tried_again() {
    let mut w = World::new().await;
    w.write("0.log", STDOUT, &["1"]);
    w.config.open_files_max = 1;
    let other = w.folder.path().join("pods/ns_other_uid/app");
    fs::create_dir_all(&other).unwrap();
    append(&other.join("0.log"), &cri(STDOUT, "2"));
    w.start();
    w.fake.until("one", |k| k.lines.len() == 1).await;
    let status = w.status();
    while !status
        .status()
        .await
        .iter()
        .any(|f| f.error.as_deref() == Some("more than 1 files are open"))
    {
        tokio::task::yield_now().await;
    }
    let first = w.fake.with(|k| k.lines[0].text.clone());
    let gone = if first == "1" { "ns_pod_uid" } else { "ns_other_uid" };
    fs::remove_dir_all(w.folder.path().join("pods").join(gone)).unwrap();
    w.fake.until("the other", |k| k.lines.len() == 2).await;
}

#[tokio::test]
async fn stopping_delivers_what_is_read() {
    let mut w = World::new().await;
    // Nothing is sent before the end.
    w.config.batch_age = std::time::Duration::from_secs(3600);
    w.config.batch_bytes = 1 << 20;
    w.start();
    w.write("0.log", STDOUT, &["1", "2"]);
    let status = w.status();
    let size = fs::metadata(w.path("0.log")).unwrap().len();
    while status.status().await.iter().all(|f| f.position < size) {
        tokio::task::yield_now().await;
    }
    assert!(w.fake.with(|k| k.lines.is_empty()));
    w.stop().await;
    w.expect(&["1", "2"]).await;
}
