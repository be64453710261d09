//! The collector is away: what would vanish is spooled, what is lost is told.

use std::fs;
use std::time::{Duration, Instant};

use super::world::{STDOUT, World};

/// The texts that have come, without those that tell of a gap.
fn lines(w: &World) -> Vec<String> {
    w.fake.with(|k| k.lines.iter().map(|l| l.text.clone()).collect())
}

#[tokio::test]
async fn what_is_removed_meanwhile_comes_later() {
    let mut w = World::new().await;
    w.with_spool(1 << 20);
    w.write("0.log", STDOUT, &["a"]);
    w.start();
    w.fake.until("the first line", |k| k.lines.len() == 1).await;
    w.fake.set_down(true);
    w.write("0.log", STDOUT, &["b"]);
    w.rename("0.log", "0.log.20261120-000001");
    w.write("0.log", STDOUT, &["c", "d"]);
    w.until_read(&["0.log.20261120-000001"]).await;
    w.until_spool("b is spooled", |s| s.frames > 0 && s.away).await;
    // As after SIGKILL: what is not on disk is gone.
    w.kill().await;
    fs::remove_file(w.path("0.log.20261120-000001")).unwrap();
    w.start();
    w.until_spool("it is found again", |s| s.frames > 0).await;
    w.rename("0.log", "0.log.20261120-000002");
    w.write("0.log", STDOUT, &["e"]);
    w.until_read(&["0.log.20261120-000002"]).await;
    fs::remove_file(w.path("0.log.20261120-000002")).unwrap();
    w.fake.set_down(false);
    w.expect(&["a", "b", "c", "d", "e"]).await;
    w.until_spool("it is empty", |s| s.frames == 0 && !s.away).await;
    w.write("0.log", STDOUT, &["f"]);
    w.expect(&["a", "b", "c", "d", "e", "f"]).await;
    w.stop().await;
}

#[tokio::test]
async fn an_agent_that_never_saw_the_collector_loses_nothing() {
    let mut w = World::new().await;
    w.with_spool(1 << 20);
    w.fake.set_down(true);
    w.write("0.log.20261120-000001", STDOUT, &["a"]);
    w.write("0.log", STDOUT, &["b"]);
    w.start();
    w.until_read(&["0.log.20261120-000001"]).await;
    w.write("0.log", STDOUT, &["c"]);
    let begin = Instant::now();
    w.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    fs::remove_dir_all(w.folder.path().join("pods/ns_pod_uid")).unwrap();
    w.start();
    w.fake.set_down(false);
    w.expect(&["a", "b", "c"]).await;
    assert_eq!(w.counter("taffrail_tail_lost_bytes_total"), 0);
    w.stop().await;
}

#[tokio::test]
async fn what_the_collector_had_already_does_not_come_twice() {
    let mut w = World::new().await;
    w.with_spool(1 << 20);
    w.write("0.log", STDOUT, &["a", "b"]);
    w.start();
    w.fake.until("two lines", |k| k.lines.len() == 2).await;
    w.kill().await;
    w.fake.set_down(true);
    w.write("0.log", STDOUT, &["c"]);
    w.rename("0.log", "0.log.20261120-000001");
    w.write("0.log", STDOUT, &["d"]);
    // It knows nothing of what is committed, and reads from the begin.
    w.start();
    w.until_read(&["0.log.20261120-000001"]).await;
    w.until_spool("three lines", |s| s.frames > 0).await;
    fs::remove_file(w.path("0.log.20261120-000001")).unwrap();
    w.fake.set_down(false);
    w.expect(&["a", "b", "c", "d"]).await;
    w.settled().await;
    w.stop().await;
}

#[tokio::test]
async fn a_line_across_a_rotation_is_whole() {
    let mut w = World::new().await;
    w.with_spool(1 << 20);
    w.start();
    w.fake.set_down(true);
    w.write("0.log", "stdout P", &["be"]);
    w.rename("0.log", "0.log.20261120-000001");
    w.write("0.log", STDOUT, &["gin", "next"]);
    w.until_read(&["0.log.20261120-000001"]).await;
    w.kill().await;
    fs::remove_file(w.path("0.log.20261120-000001")).unwrap();
    w.start();
    w.fake.set_down(false);
    w.expect(&["begin", "next"]).await;
    w.stop().await;
}

#[tokio::test]
async fn loss_is_exactly_what_the_records_say() {
    let mut w = World::new().await;
    w.with_spool(256 << 10);
    w.config.grace = Duration::from_secs(2);
    w.fake.set_down(true);
    let mut random = 9_u64;
    let mut noise = || {
        let word = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{random:016x}")
        };
        std::iter::repeat_with(word).take(60).collect::<String>()
    };
    w.start();
    let mut written = Vec::new();
    for file in 0..8 {
        let texts: Vec<String> = (0..120).map(|_| noise()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        w.write("0.log", STDOUT, &texts);
        w.rename("0.log", &format!("0.log.20261120-{file:06}"));
        written.extend(texts.into_iter().map(str::to_owned));
    }
    w.write("0.log", STDOUT, &["last"]);
    w.until_spool("it is full", |s| s.problem.is_some()).await;
    w.until_known(9).await;
    for file in 0..8 {
        fs::remove_file(w.path(&format!("0.log.20261120-{file:06}"))).unwrap();
    }
    let line = fs::metadata(w.path("0.log")).unwrap().len() - 4 + 960;
    w.stop().await;
    w.start();
    w.fake.set_down(false);
    w.fake.until("the last line", |k| k.lines.iter().any(|l| l.text == "last")).await;
    w.settled().await;
    w.fake.until("what is lost", |k| k.lines.iter().any(|l| l.text.contains("lost"))).await;
    let told: u64 = lines(&w)
        .iter()
        .filter_map(|l| l.strip_prefix("taffrail: ")?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(told, w.counter("taffrail_tail_lost_bytes_total"));
    let came: Vec<String> =
        lines(&w).into_iter().filter(|l| !l.starts_with("taffrail") && l != "last").collect();
    assert!(came.len() < written.len(), "the bound was too wide for this test");
    assert_eq!(came[..], written[..came.len()]);
    assert_eq!(told, (written.len() - came.len()) as u64 * line);
    w.stop().await;
}

#[tokio::test]
async fn without_room_files_are_held_and_nothing_is_lost() {
    let mut w = World::new().await;
    w.with_spool(256 << 10);
    // As a disk that cannot be written.
    fs::write(w.folder.path().join("spool"), "in the way").unwrap();
    w.start();
    w.fake.set_down(true);
    w.write("0.log", STDOUT, &["a"]);
    w.rename("0.log", "0.log.20261120-000001");
    w.write("0.log", STDOUT, &["b"]);
    w.until_spool("a problem", |s| s.problem.is_some() && s.away).await;
    w.until_known(2).await;
    fs::remove_file(w.path("0.log.20261120-000001")).unwrap();
    w.fake.set_down(false);
    w.expect(&["a", "b"]).await;
    // There is room again.
    fs::remove_file(w.folder.path().join("spool")).unwrap();
    w.fake.set_down(true);
    w.write("0.log", STDOUT, &["c"]);
    w.rename("0.log", "0.log.20261120-000002");
    w.write("0.log", STDOUT, &["d"]);
    w.until_read(&["0.log.20261120-000002"]).await;
    w.until_spool("c is spooled", |s| s.frames > 0 && s.problem.is_none()).await;
    w.fake.set_down(false);
    w.expect(&["a", "b", "c", "d"]).await;
    w.stop().await;
}
