//! The agent's batches: once each, in order, or told where to go on.

use crate::harness::{Running, batch, lines_in};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_is_stored_once_and_a_gap_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let first = batch("n/1", 0..10, &["one", "two"]);
    assert_eq!(running.ship(&first).await.status, 200);
    assert_eq!(running.ship(&first).await.status, 200);

    let gap = running.ship(&batch("n/1", 20..30, &["four"])).await;
    assert_eq!((gap.status.as_u16(), gap.header("content-type")), (409, Some("application/json")));
    let positions = r#"{"positions":[{"source":"n/1","committed":10,"check":100}]}"#;
    assert_eq!(gap.text(), positions);
    let overlap = running.ship(&batch("n/1", 5..15, &["x"])).await;
    assert_eq!((overlap.status.as_u16(), overlap.text().as_str()), (409, positions));

    let mut both = batch("n/2", 0..5, &["other"]);
    both.resource_logs.extend(batch("n/1", 20..30, &["four"]).resource_logs);
    assert_eq!(running.ship(&both).await.status, 409, "all or nothing");

    assert_eq!(running.ship(&batch("n/1", 10..20, &["three"])).await.status, 200);
    let mut repeated = batch("n/1", 10..20, &["three"]);
    repeated.resource_logs.extend(batch("n/1", 20..30, &["four"]).resource_logs);
    assert_eq!(running.ship(&repeated).await.status, 409, "new in all its ranges or in none");
    assert_eq!(running.ship(&batch("n/1", 20..30, &["four"])).await.status, 200);

    let answer = running.client.get("/api/v1/agent/positions?prefix=n/", &[]).await.unwrap();
    assert_eq!(answer.text(), r#"{"positions":[{"source":"n/1","committed":30,"check":300}]}"#);
    let none = running.client.get("/api/v1/agent/positions?prefix=m", &[]).await.unwrap();
    assert_eq!(none.text(), r#"{"positions":[]}"#);

    let mut lines = running.stop().await;
    lines.sort();
    let stored = ["four", "one", "three", "two"].map(|line| format!("{{app=\"web\"}} {line}"));
    assert_eq!(lines, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_repeats_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for turn in 0..10 {
        let batch = batch("n/1", turn * 10..turn * 10 + 10, &["x"]);
        let (a, b, c) =
            tokio::join!(running.ship(&batch), running.ship(&batch), running.ship(&batch));
        assert_eq!([a.status, b.status, c.status].map(|s| s.as_u16()), [200; 3]);
    }
    let killed = running.as_killed();
    assert_eq!(running.stop().await.len(), 10);
    assert_eq!(lines_in(killed.path()).len(), 10);
}
