//! What is in files: odd lines, labels that come late, volumes, settings.

use super::world::{STDOUT, World, append, cri, plain_labels};
use crate::tail::{Labeling, RuleKind, VolumeRule};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// One after the other, so that each is seen to leave the next as it is.
#[tokio::test]
async fn no_bytes_of_a_line_stop_those_after_it() {
    const MAX: usize = taffrail_model::limits::LINE_BYTES_MAX;
    let mut w = World::new().await;
    let replaced = |count: usize| "\u{FFFD}".repeat(count);
    let bytes: [(Vec<u8>, String); 8] = [
        (b"latin \xE9 end".into(), "latin \u{FFFD} end".into()),
        (b"half \xED\xA0\x80 pair".into(), format!("half {} pair", replaced(3))),
        (b"nul \0 inside".into(), "nul \0 inside".into()),
        (vec![0; 5000], "\0".repeat(5000)),
        (Vec::new(), String::new()),
        (vec![b'x'; MAX], "x".repeat(MAX)),
        (vec![b'y'; MAX + 1], "y".repeat(MAX)),
        // As text it is three times as long, which a collector would not take.
        (vec![0xFF; MAX], replaced(MAX / 3)),
    ];
    let mut content = Vec::new();
    let mut expected = Vec::new();
    for (bytes, text) in bytes {
        content.extend([b"2026-11-20T10:00:00Z stdout F ", &bytes[..], b"\n"].concat());
        content.extend_from_slice(cri(STDOUT, "next").as_bytes());
        expected.extend([text, "next".to_owned()]);
    }
    fs::write(w.path("0.log"), content).unwrap();
    w.start();
    w.fake.until("all lines", |k| k.lines.len() >= expected.len()).await;
    let lines = w.fake.with(|k| k.lines.clone());
    let short = |text: &str| (text.len(), text.chars().take(20).collect::<String>());
    let texts: Vec<_> = lines.iter().map(|l| short(&l.text)).collect();
    assert_eq!(texts, expected.iter().map(|t| short(t)).collect::<Vec<_>>());
    let cut: Vec<usize> = (0..lines.len()).filter(|at| !lines[*at].marks.is_empty()).collect();
    assert_eq!(cut, [12, 14], "only those that are cut say so");
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
    *w.rules.lock().unwrap() = vec![VolumeRule::new(&root, "**/*.log", kind)];
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
async fn more_files_than_may_be_open() {
    let mut w = World::new().await;
    w.config.open_files_max = 2;
    let files: Vec<_> = (0..6)
        .map(|n| {
            let folder = w.folder.path().join(format!("pods/ns_pod{n}_uid/app"));
            fs::create_dir_all(&folder).unwrap();
            folder.join("0.log")
        })
        .collect();
    w.start();
    for round in 1..=3 {
        for file in &files {
            append(file, &cri(STDOUT, "x"));
        }
        w.fake.until("a line of each", |k| k.lines.len() == 6 * round).await;
    }
    w.settled().await;
    let mut sources: Vec<String> =
        w.fake.with(|k| k.lines.iter().map(|l| l.source.clone()).collect());
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), 6);
    let held = || {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
            .filter(|p| files.contains(p))
            .count()
    };
    let few = async {
        while held() > w.config.open_files_max {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), few).await.unwrap();
}

#[tokio::test]
async fn two_agents_on_one_node() {
    // As in an update with surge: both read the same files until the old one ends.
    let mut w = World::new().await;
    w.start();
    let mut second = World::new().await;
    second.fake = w.fake.clone();
    second.config = w.config.clone();
    second.start();
    let texts: Vec<String> = (0..300).map(|n| format!("line {n}")).collect();
    for chunk in texts.chunks(10) {
        let lines: Vec<&str> = chunk.iter().map(String::as_str).collect();
        w.write("0.log", STDOUT, &lines);
        let last = chunk[9].clone();
        w.fake.until("the last line", |k| k.lines.iter().any(|l| l.text == last)).await;
    }
    w.stop().await;
    w.write("0.log", STDOUT, &["end"]);
    w.fake.until("end", |k| k.texts().contains(&"end")).await;
    let mut all: Vec<&str> = texts.iter().map(String::as_str).collect();
    all.push("end");
    assert_eq!(w.fake.with(|k| k.lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>()), all);
}

#[tokio::test]
async fn stopping_delivers_what_is_read() {
    let mut w = World::new().await;
    // Nothing is sent before the end.
    w.config.batch_age = Duration::from_secs(3600);
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
