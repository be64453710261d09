//! What happens to files: rotation, truncation, removal, compression, and restarts in between.

use super::world::{STDOUT, World, append, compress, cri};
use crate::ship::fake::Fault;
use std::fs;

const T1: &str = "0.log.20261120-101112";
const T2: &str = "0.log.20261120-101122";
const T3: &str = "0.log.20261120-101132";

#[tokio::test]
async fn rotation_in_the_middle_of_a_line() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["1", "2"]);
    w.write("0.log", "stdout P", &["half "]);
    w.write("0.log", "stderr F", &["other"]);
    w.fake.until("first lines", |k| k.lines.len() == 2).await;
    w.rename("0.log", T1);
    w.write("0.log", STDOUT, &["done", "3"]);
    w.expect(&["1", "2", "other", "half done", "3"]).await;
    w.stop().await;
    assert_eq!(w.fake.with(|k| k.conflicts), 0);
}

#[tokio::test]
async fn two_rotations_between_two_looks() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["1"]);
    w.expect(&["1"]).await;
    w.write("0.log", STDOUT, &["2"]);
    w.rename("0.log", T1);
    w.write("0.log", STDOUT, &["3"]);
    w.rename("0.log", T2);
    w.write("0.log", STDOUT, &["4"]);
    w.expect(&["1", "2", "3", "4"]).await;
}

#[tokio::test]
async fn the_writer_stays_with_the_renamed_file() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["1"]);
    w.expect(&["1"]).await;
    w.rename("0.log", T1);
    w.write(T1, STDOUT, &["2"]);
    w.expect(&["1", "2"]).await;
    w.rename(T1, "0.log");
    w.write("0.log", STDOUT, &["3"]);
    w.expect(&["1", "2", "3"]).await;
    // A late line in the old file after the new one has been begun.
    w.rename("0.log", T1);
    w.write("0.log", STDOUT, &["5"]);
    w.expect(&["1", "2", "3", "5"]).await;
    w.write(T1, STDOUT, &["4"]);
    w.expect(&["1", "2", "3", "5", "4"]).await;
}

#[tokio::test]
async fn removed_while_unread() {
    let mut w = World::new().await;
    w.fake.faults(|n| if n <= 3 { Fault::Unavailable } else { Fault::None });
    let texts: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    w.write("0.log", STDOUT, &texts);
    w.start();
    w.fake.until("first attempt", |k| k.requests > 0).await;
    fs::remove_dir_all(w.folder.path().join("pods/ns_pod_uid")).unwrap();
    w.expect(&texts).await;
    // The file is let go once all of it is in the store.
    let status = w.status();
    while !status.status().await.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn removed_unread_one_after_the_other() {
    let mut w = World::new().await;
    let away = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_away = away.clone();
    w.fake.faults(move |_| {
        if is_away.load(std::sync::atomic::Ordering::SeqCst) {
            Fault::Unavailable
        } else {
            Fault::None
        }
    });
    // So many batches that no more is read.
    let long: Vec<String> = (0..8).map(|n| format!("{n} {}", "x".repeat(5000))).collect();
    let mut texts: Vec<&str> = long.iter().map(String::as_str).collect();
    w.write("0.log", STDOUT, &texts);
    w.start();
    w.fake.until("an attempt", |k| k.requests > 0).await;
    let status = w.status();
    let seen = async |files: usize, name: &str| loop {
        let all = status.status().await;
        if all.len() == files && all.iter().any(|f| f.path.ends_with(name)) {
            return;
        }
        tokio::task::yield_now().await;
    };
    // The first is seen under its new name, the second never is.
    w.rename("0.log", T1);
    seen(1, T1).await;
    w.write("0.log", STDOUT, &["second"]);
    seen(2, "0.log").await;
    fs::remove_file(w.path(T1)).unwrap();
    fs::remove_file(w.path("0.log")).unwrap();
    w.write("0.log", STDOUT, &["third"]);
    seen(3, "0.log").await;
    away.store(false, std::sync::atomic::Ordering::SeqCst);
    texts.extend(["second", "third"]);
    w.expect(&texts).await;
}

#[tokio::test]
async fn a_pod_that_lives_shortly() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["first"]);
    w.expect(&["first"]).await;
    let folder = w.folder.path().join("pods/ns_short_uid2/app");
    fs::create_dir_all(&folder).unwrap();
    append(&folder.join("0.log"), &cri("stdout F", "a"));
    append(&folder.join("0.log"), &cri("stdout P", "last words"));
    w.fake.until("a", |k| k.lines.len() == 2).await;
    fs::remove_dir_all(w.folder.path().join("pods/ns_short_uid2")).unwrap();
    w.expect(&["first", "a", "last words"]).await;
    assert_eq!(w.fake.with(|k| k.lines[2].marks.clone()), ["taffrail_partial"]);
}

#[tokio::test]
async fn truncated_and_written_anew() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["1", "2"]);
    w.expect(&["1", "2"]).await;
    fs::File::options().write(true).open(w.path("0.log")).unwrap().set_len(0).unwrap();
    w.write("0.log", STDOUT, &["3", "4", "5", "6"]);
    w.expect(&["1", "2", "3", "4", "5", "6"]).await;
    w.settled().await;
    let sources: Vec<String> = w.fake.with(|k| k.positions.keys().cloned().collect());
    assert_eq!(sources.len(), 2, "{sources:?}");
    w.stop().await;
    // The second generation is known again after a restart, the first is not mistaken for it.
    w.write("0.log", STDOUT, &["7"]);
    w.start();
    w.expect(&["1", "2", "3", "4", "5", "6", "7"]).await;
}

#[tokio::test]
async fn truncated_while_the_agent_is_down() {
    let mut w = World::new().await;
    w.write("0.log", STDOUT, &["1", "2"]);
    w.start();
    w.expect(&["1", "2"]).await;
    w.stop().await;
    fs::File::options().write(true).open(w.path("0.log")).unwrap().set_len(0).unwrap();
    w.write("0.log", STDOUT, &["3", "4", "5"]);
    w.start();
    w.expect(&["1", "2", "3", "4", "5"]).await;
}

#[tokio::test]
async fn removed_and_made_again_under_the_same_inode() {
    let mut w = World::new().await;
    w.write("0.log", STDOUT, &["1", "2"]);
    w.start();
    w.expect(&["1", "2"]).await;
    w.stop().await;
    fs::remove_file(w.path("0.log")).unwrap();
    w.write("0.log", STDOUT, &["3", "4", "5"]);
    w.start();
    w.expect(&["1", "2", "3", "4", "5"]).await;
    fs::remove_file(w.path("0.log")).unwrap();
    w.write("0.log", STDOUT, &["6"]);
    w.expect(&["1", "2", "3", "4", "5", "6"]).await;
}

#[tokio::test]
async fn down_during_rotations_and_compression() {
    let mut w = World::new().await;
    w.write("0.log", STDOUT, &["1", "2", "with enough text to be told apart from all the others"]);
    w.start();
    w.fake.until("3 lines", |k| k.lines.len() == 3).await;
    w.stop().await;
    w.write("0.log", STDOUT, &["3"]);
    w.write("0.log", "stdout P", &["4 "]);
    w.rename("0.log", T1);
    w.write("0.log", STDOUT, &["four", "5"]);
    w.compress(T1);
    w.rename("0.log", T2);
    w.write("0.log", STDOUT, &["6"]);
    w.start();
    let long = "with enough text to be told apart from all the others";
    w.expect(&["1", "2", long, "3", "4 four", "5", "6"]).await;
    w.settled().await;
    w.stop().await;
    // What was read out of the compressed file is not read again, nor what is compressed later.
    w.compress(T2);
    w.start();
    w.write("0.log", STDOUT, &["7"]);
    w.expect(&["1", "2", long, "3", "4 four", "5", "6", "7"]).await;
    w.settled().await;
    w.kill().await;
    w.start();
    w.write("0.log", STDOUT, &["8"]);
    w.expect(&["1", "2", long, "3", "4 four", "5", "6", "7", "8"]).await;
}

#[tokio::test]
async fn containers_whose_lines_all_end_alike_are_told_apart() {
    let mut w = World::new().await;
    let end =
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Safari/537.36";
    let text = |name: &str, n: usize| format!("{name}{n} {end}");
    let folders = ["a", "b"].map(|name| {
        let folder = w.folder.path().join(format!("pods/ns_{name}_uid/app"));
        fs::create_dir_all(&folder).unwrap();
        folder
    });
    let write = |at: usize, name: &str, numbers: std::ops::Range<usize>| {
        let lines: String = numbers.map(|n| cri(STDOUT, &text(name, n))).collect();
        append(&folders[at].join("0.log"), &lines);
    };
    write(0, "a", 0..1);
    write(1, "b", 0..3);
    w.start();
    w.fake.until("what is there", |k| k.lines.len() == 4).await;
    w.stop().await;
    write(0, "a", 1..5);
    write(1, "b", 3..5);
    for folder in &folders {
        let rotated = folder.join(T1);
        fs::rename(folder.join("0.log"), &rotated).unwrap();
        compress(&rotated);
    }
    w.start();
    w.fake.until("all", |k| k.lines.len() >= 10).await;
    w.settled().await;
    let mut found: Vec<String> = w.fake.with(|k| k.lines.iter().map(|l| l.text.clone()).collect());
    found.sort();
    let expected: Vec<String> =
        ["a", "b"].iter().flat_map(|name| (0..5).map(|n| text(name, n))).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn compressed_while_being_tailed() {
    let mut w = World::new().await;
    w.start();
    for (n, time) in [T1, T2, T3].into_iter().enumerate() {
        w.write("0.log", STDOUT, &[&format!("line {n}")]);
        w.rename("0.log", time);
        w.write("0.log", STDOUT, &[&format!("new {n}")]);
        w.fake.until("both", |k| k.lines.len() == 2 * n + 2).await;
        w.compress(time);
    }
    w.write("0.log", STDOUT, &["end"]);
    let all = ["line 0", "new 0", "line 1", "new 1", "line 2", "new 2", "end"];
    w.expect(&all).await;
    w.settled().await;
    w.stop().await;
    w.start();
    w.write("0.log", STDOUT, &["after"]);
    w.fake.until("after", |k| k.lines.len() > all.len()).await;
    assert_eq!(w.fake.with(|k| k.lines[all.len()].text.clone()), "after");
}

#[tokio::test]
async fn a_file_that_was_compressed_before_the_first_start() {
    let mut w = World::new().await;
    w.write(T1, STDOUT, &["1", "2"]);
    w.compress(T1);
    w.write("0.log", STDOUT, &["3"]);
    w.start();
    w.expect(&["1", "2", "3"]).await;
    w.settled().await;
    w.kill().await;
    w.write("0.log", STDOUT, &["4"]);
    w.start();
    w.expect(&["1", "2", "3", "4"]).await;
}

#[tokio::test]
async fn the_container_starts_again() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["1"]);
    w.write("0.log", "stdout P", &["cut off"]);
    w.expect(&["1"]).await;
    w.write("1.log", STDOUT, &["2"]);
    w.expect(&["1", "cut off", "2"]).await;
    let names: Vec<String> =
        w.fake.with(|k| k.lines.iter().map(|l| l.labels[0].1.clone()).collect());
    assert_eq!(names, ["app-0", "app-0", "app-1"]);
}

#[tokio::test]
async fn a_link_that_leads_to_another_file() {
    // Docker keeps and rotates the files elsewhere; the kubelet's folder holds links.
    let mut w = World::new().await;
    let target = w.folder.path().join("container-json.log");
    std::os::unix::fs::symlink(&target, w.path("0.log")).unwrap();
    append(&target, &cri(STDOUT, "1"));
    w.start();
    w.expect(&["1"]).await;
    append(&target, &cri("stdout P", "2 "));
    fs::rename(&target, w.folder.path().join("container-json.log.1")).unwrap();
    append(&target, &cri(STDOUT, "two"));
    w.expect(&["1", "2 two"]).await;
}

#[tokio::test]
async fn a_second_name_for_a_file() {
    let mut w = World::new().await;
    let other = w.folder.path().join("pods/ns_other_uid/app");
    fs::create_dir_all(&other).unwrap();
    w.write("0.log", STDOUT, &["1"]);
    fs::hard_link(w.path("0.log"), other.join("0.log")).unwrap();
    w.start();
    w.expect(&["1"]).await;
    w.write("0.log", STDOUT, &["2"]);
    w.expect(&["1", "2"]).await;
    // The name under which it is read goes: the other takes over, at the same place.
    fs::remove_dir_all(w.folder.path().join("pods/ns_pod_uid")).unwrap();
    append(&other.join("0.log"), &cri(STDOUT, "3"));
    w.expect(&["1", "2", "3"]).await;
    assert!(w.fake.with(|k| k.conflicts) <= 1);
}

#[tokio::test]
async fn an_open_line_waits_across_an_empty_file() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["1"]);
    w.write("0.log", "stdout P", &["half"]);
    w.rename("0.log", T1);
    w.write("0.log", STDOUT, &[]);
    w.expect(&["1"]).await;
    let status = w.status();
    while status.status().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    fs::remove_dir_all(w.folder.path().join("pods/ns_pod_uid")).unwrap();
    w.expect(&["1", "half"]).await;
}

#[tokio::test]
async fn a_rotated_file_that_grows_when_it_was_done_with() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["1"]);
    w.expect(&["1"]).await;
    w.rename("0.log", T1);
    w.write("0.log", STDOUT, &["2"]);
    w.expect(&["1", "2"]).await;
    w.until_file("it is done with", |f| f.path.ends_with(T1) && !f.open).await;
    w.write(T1, STDOUT, &["3"]);
    w.rename("0.log", T2);
    w.write("0.log", STDOUT, &["4"]);
    w.fake.until("all", |k| k.lines.len() == 4).await;
    w.settled().await;
    assert_eq!(w.fake.with(|k| (k.lines.len(), k.conflicts)), (4, 0));
}

#[tokio::test]
async fn let_go_of_then_rotated_compressed_and_removed_between_two_looks() {
    let mut w = World::new().await;
    w.config.open_files_max = 1;
    w.write("0.log", STDOUT, &["1"]);
    w.start();
    w.expect(&["1"]).await;
    let other = w.folder.path().join("pods/ns_other_uid/app");
    fs::create_dir_all(&other).unwrap();
    append(&other.join("0.log"), &cri(STDOUT, "other"));
    w.expect(&["1", "other"]).await;
    let held = || {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).any(|p| p == w.path("0.log"))
    };
    while held() {
        append(&other.join("0.log"), "");
        tokio::task::yield_now().await;
    }
    // What the kubelet does in a second is done by the next look.
    let aside = w.folder.path().join("aside");
    fs::copy(w.path("0.log"), &aside).unwrap();
    append(&aside, &(cri(STDOUT, "2") + &cri(STDOUT, "3")));
    compress(&aside);
    fs::remove_file(w.path("0.log")).unwrap();
    fs::rename(aside.with_added_extension("gz"), w.path(&format!("{T1}.gz"))).unwrap();
    w.write("0.log", STDOUT, &["4"]);
    w.expect(&["1", "other", "2", "3", "4"]).await;
    w.settled().await;
    assert_eq!(w.fake.with(|k| (k.lines.len(), k.conflicts)), (5, 0));
}
