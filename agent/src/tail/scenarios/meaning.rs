//! Stack traces over rotations, restarts and silence: one record, once.

use std::fs;
use std::time::Duration;

use super::world::{STDOUT, World};
use crate::process::trace::tests::samples;

const HEAD: &str = "java.lang.IllegalStateException: boom";
const FRAMES: [&str; 2] = ["\tat a.B.c(B.java:1)", "\tat a.B.d(B.java:2)"];

fn trace() -> String {
    format!("{HEAD}\n{}\n{}", FRAMES[0], FRAMES[1])
}

#[tokio::test]
async fn a_trace_over_a_rotation_is_one_record() {
    let mut w = World::new().await;
    // Longer than a head of a trace waits for its frames.
    w.config.settle = Duration::from_millis(600);
    w.write("0.log", STDOUT, &["before", HEAD]);
    w.start();
    w.fake.until("the line before", |k| k.lines.len() == 1).await;
    w.rename("0.log", "0.log.20261120-100000");
    w.write("0.log", STDOUT, &[FRAMES[0], FRAMES[1], "after"]);
    w.expect(&["before", &trace(), "after"]).await;
    w.settled().await;
}

/// The agent is killed while the trace is open, in each of the places where it can be.
#[tokio::test]
async fn a_trace_over_a_restart_is_one_record() {
    for at in 1..=2 {
        let mut w = World::new().await;
        w.write("0.log", STDOUT, &["before", HEAD]);
        w.write("0.log", STDOUT, &FRAMES[..at - 1]);
        w.start();
        w.fake.until("the line before", |k| k.lines.len() == 1).await;
        w.kill().await;
        if at == 2 {
            w.rename("0.log", "0.log.20261120-100000");
        }
        w.write("0.log", STDOUT, &FRAMES[at - 1..]);
        w.write("0.log", STDOUT, &["after"]);
        w.start();
        w.expect(&["before", &trace(), "after"]).await;
        w.settled().await;
        w.stop().await;
    }
}

#[tokio::test]
async fn a_trace_that_nothing_follows_comes_after_a_silence() {
    let mut w = World::new().await;
    w.start();
    w.write("0.log", STDOUT, &["ERROR and nothing more"]);
    w.expect(&["ERROR and nothing more"]).await;
    w.write("0.log", STDOUT, &[HEAD, FRAMES[0], FRAMES[1]]);
    w.expect(&["ERROR and nothing more", &trace()]).await;
    w.settled().await;
}

#[tokio::test]
async fn the_next_start_of_a_container_does_not_wait() {
    let mut w = World::new().await;
    w.write("0.log", STDOUT, &[HEAD, FRAMES[0], FRAMES[1]]);
    w.write("1.log", STDOUT, &[FRAMES[0]]);
    w.start();
    w.expect(&[&trace(), FRAMES[0]]).await;
    fs::remove_file(w.path("0.log")).unwrap();
    w.settled().await;
}

/// All samples through files, killed at random moments: each once, whole and in order.
#[tokio::test]
async fn all_traces_arrive_whole_whatever_dies() {
    let mut w = World::new().await;
    let mut expected = Vec::new();
    let mut rotations = 0;
    w.start();
    for (_, traces) in samples() {
        for trace in traces {
            for (number, line) in trace.lines().enumerate() {
                w.write("0.log", STDOUT, &[line]);
                if (number + expected.len()) % 11 == 5 {
                    rotations += 1;
                    w.rename("0.log", &format!("0.log.20261120-{rotations:06}"));
                }
            }
            w.write("0.log", STDOUT, &["served"]);
            expected.extend([trace, "served"]);
            if expected.len() % 6 == 0 {
                let some = expected.len() / 2;
                w.fake.until("some lines", |k| k.lines.len() >= some).await;
                w.kill().await;
                w.start();
            }
        }
    }
    w.expect(&expected).await;
    tokio::time::timeout(Duration::from_secs(30), w.settled()).await.unwrap();
}
