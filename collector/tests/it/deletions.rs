//! Lines that are deleted: gone from every answer at once, through a kill, and then from the disk.

use serde_json::Value;

use crate::harness::{Running, batch, lines_in};

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

#[tokio::test(flavor = "multi_thread")]
async fn after_a_while_nothing_of_them_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let lines = ["user=7 said a", "user=8 said b", "user=7 said c"];
    assert_eq!(running.ship(&batch("n/1", 0..10, &lines)).await.status, 200);
    let ask = format!("{DELETE}?query=%7Bapp%3D%22web%22%7D%20%7C%3D%20%22user%3D7%22&start=0");
    assert_eq!(running.post(&ask, &[], "").await.status, 204);
    running.stop().await;
    // Upkeep begins with what is due.
    let running = Running::start_with(dir.path(), |config| {
        config.logs.delete_after = std::time::Duration::ZERO;
    })
    .await;
    let done = async {
        while list(&running).await[0]["status"] != "processed" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), done).await.unwrap();
    let record = &list(&running).await[0];
    assert_eq!((&record["lines"], &record["bytes"]), (&2.into(), &26.into()));
    assert!(record["completed_at"].is_number());
    assert_eq!(found(&running).await, 1);
    assert_eq!(running.stop().await.len(), 1);
}
