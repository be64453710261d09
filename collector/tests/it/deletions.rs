//! Lines that are deleted: gone from every answer at once, through a kill, and then from the disk.

use std::path::Path;

use prost::Message;
use serde_json::Value;
use taffrail_collector::config::Config;

use crate::harness::{PROTOBUF, Running, batch, lines_in};

const DELETE: &str = "/loki/api/v1/delete";

async fn list(running: &Running) -> Value {
    let answer = running.client.get(DELETE, &[]).await.unwrap();
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.text()).unwrap()
}

/// Lines that a query finds; the batches' times are the first nanoseconds there were.
async fn found(running: &Running) -> usize {
    let path = "/api/v1/logs/query?query=%7B%7D&limit=0&start=00000000000&end=00000009999";
    running.client.get(path, &[]).await.unwrap().text().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_lines_are_hidden_before_the_answer_and_stay_so_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let lines = ["user=7 said a", "user=8 said b", "user=7 said c"];
    assert_eq!(running.ship(&batch("n/1", 0..10, &lines)).await.status, 200);
    assert_eq!(found(&running).await, 3);
    let ask = format!("{DELETE}?query=%7Bapp%3D%22web%22%7D%20%7C%3D%20%22user%3D7%22&start=0");
    assert_eq!(running.post(&ask, &[], "").await.status, 204);
    assert_eq!(found(&running).await, 1);
    assert_eq!(list(&running).await[0]["status"], "received");
    assert_eq!(lines_in(running.as_killed().path()).len(), 1);
    assert_eq!(running.stop().await.len(), 1);
}

/// Whether some file below a folder has this text.
fn is_on_disk(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_on_disk(&path, text);
        }
        // A file may have been removed since the folder was listed.
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// Waits until the first request has a status.
async fn wait_for(running: &Running, status: &str) {
    let reached = async {
        while list(running).await[0]["status"] != status {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), reached).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_while_nothing_of_them_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let lines = ["a secret", "user=8 said b", "a secret and more"];
    // Not compressed, so that it can be found in the write-ahead log as it is.
    let body = batch("n/1", 0..10, &lines).encode_to_vec();
    assert_eq!(running.post("/v1/logs", &[PROTOBUF], body).await.status, 200);
    assert!(is_on_disk(&dir.path().join("wal/logs"), "a secret"));
    let ask = format!("{DELETE}?query=%7Bapp%3D%22web%22%7D%20%7C%3D%20%22a%20secret%22&start=0");
    assert_eq!(running.post(&ask, &[], "").await.status, 204);
    running.stop().await;
    // Upkeep begins with what is due when it starts; what it has begun, it ends at the next turn, here
    // after another start.
    let at_once = |config: &mut Config| config.logs.delete_after = std::time::Duration::ZERO;
    let running = Running::start_with(dir.path(), at_once).await;
    let begun = async {
        while list(&running).await[0]["status"] == "received" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), begun).await.unwrap();
    assert_eq!(running.stop().await.len(), 1);
    let running = Running::start_with(dir.path(), at_once).await;
    wait_for(&running, "processed").await;
    assert!(!is_on_disk(&dir.path().join("wal"), "a secret"));
    assert!(!is_on_disk(&dir.path().join("logs/segments"), "a secret"));
    let record = &list(&running).await[0];
    assert_eq!((&record["lines"], &record["bytes"]), (&2.into(), &25.into()));
    assert!(record["completed_at"].is_number());
    assert_eq!(found(&running).await, 1);
    assert_eq!(running.stop().await.len(), 1);
}
