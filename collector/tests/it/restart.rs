//! What was acknowledged is there after a kill, and a second collector stays out.

use std::time::Duration;

use taffrail_collector::ingest::intake::MetricIntake;
use taffrail_collector::metrics::MetricStoreConfig;
use taffrail_model::record::Position;
use taffrail_model::{Labels, Level, LogEntry, StreamEntries};

use crate::harness::{JSON, PROTOBUF, Running, batch, build, config, foreign, intake, lines_in};
use prost::Message;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_lines_and_positions_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for turn in 0..20 {
        let line = format!("line {turn}");
        let batch = batch("n/1", turn * 10..turn * 10 + 10, &[&line]);
        assert_eq!(running.ship(&batch).await.status, 200);
        let killed = running.as_killed();
        assert_eq!(lines_in(killed.path()).len() as i64, turn + 1);
        let position = intake(killed.path()).store.position("n/1");
        let (committed, check) = ((turn as u64 + 1) * 10, (turn as u64 + 1) * 100);
        assert_eq!(position, Some(Position { source: "n/1".into(), committed, check }));
    }
    assert_eq!(running.stop().await.len(), 20);

    // Once more after a kind end: nothing is replayed twice, and the file goes on.
    let running = Running::start(dir.path()).await;
    assert_eq!(running.ship(&batch("n/1", 190..200, &["line 19"])).await.status, 200);
    assert_eq!(running.ship(&batch("n/1", 200..210, &["line 20"])).await.status, 200);
    assert_eq!(running.stop().await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_samples_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let now = taffrail_kit::clock::unix_millis();
    for turn in 0..5 {
        let json = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"depth","gauge":
            {{"dataPoints":[{{"timeUnixNano":"{}000000","asDouble":{turn}}}]}}}}]}}]}}]}}"#,
            now + turn
        );
        let answer = running.post("/v1/metrics", &[JSON], json).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "{}"));
        let killed = running.as_killed();
        assert_eq!(samples_in(killed.path()), turn + 1);
    }
    let old = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"depth","gauge":
        {"dataPoints":[{"timeUnixNano":"1000000","asDouble":1}]}}]}]}]}"#;
    let answer = running.post("/v1/metrics", &[JSON], old).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains(r#""rejectedDataPoints":"1""#), "{}", answer.text());
    assert!(answer.text().contains("too old"), "{}", answer.text());
    running.stop().await;
    assert_eq!(samples_in(dir.path()), 5);
}

fn samples_in(dir: &std::path::Path) -> i64 {
    let config = MetricStoreConfig::new(dir.join("metrics"));
    let intake = MetricIntake::open(config, &dir.join("wal/metrics")).unwrap();
    let stats = intake.store.stats();
    i64::try_from(stats.head_samples + stats.block_samples).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_write_ahead_log_loses_only_what_was_torn() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for turn in 0..3 {
        let batch = batch("n/1", turn * 10..turn * 10 + 10, &["x"]);
        assert_eq!(running.ship(&batch).await.status, 200);
    }
    let killed = running.as_killed();
    let wal = std::fs::read_dir(killed.path().join("wal/logs")).unwrap().next().unwrap().unwrap();
    let bytes = std::fs::read(wal.path()).unwrap();
    for cut in (0..bytes.len()).step_by(7) {
        let torn = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(torn.path().join("wal/logs")).unwrap();
        let file = torn.path().join("wal/logs").join(wal.file_name());
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let intake = intake(torn.path());
        let stats = intake.store.stats();
        let committed = intake.store.position("n/1").map_or(0, |p| p.committed);
        assert_eq!(committed, stats.memory_lines * 10, "lines and positions move together");
        assert!(stats.memory_lines < 3);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_segments_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let intake = intake(dir.path());
    for n in 0..8_i64 {
        let ts = 86_400_000_000_000 + n;
        let entry = LogEntry { ts, line: "x".into(), level: Level::Unknown, metadata: vec![] };
        let labels = Labels::from_pairs([("a", "b")]);
        let stream = StreamEntries { labels, entries: vec![entry] };
        intake.store.apply(n.unsigned_abs(), vec![stream], &[]);
        intake.store.flush().unwrap();
    }
    assert_eq!(intake.store.stats().segments, 8);
    drop(intake);
    let running = Running::start(dir.path()).await;
    let segments = || std::fs::read_dir(dir.path().join("logs/segments")).unwrap().count();
    let merged = async {
        while segments() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), merged).await.expect("nobody merges");
    assert_eq!(running.stop().await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_collector_stays_out() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let error = build(config(dir.path())).await.err().unwrap();
    let said = format!("{error:#}");
    assert!(said.contains("another taffrail-collector runs on"), "{said}");

    let other = tempfile::tempdir().unwrap();
    let mut taken = config(other.path());
    taken.http = running.http;
    let said = format!("{:#}", build(taken).await.err().unwrap());
    assert!(said.contains(&running.http.to_string()) && said.contains("in use"), "{said}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let body = foreign("s", &["x"]).encode_to_vec();
    assert_eq!(running.post("/v1/logs", &[PROTOBUF], body).await.status, 200);
    running.stop().await;
    let wal = std::fs::read_dir(dir.path().join("wal/logs")).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(wal.path()).unwrap();
    bytes[8] = 7;
    let check = crc32fast::hash(&bytes[..24]);
    bytes[24..28].copy_from_slice(&check.to_le_bytes());
    std::fs::write(wal.path(), &bytes).unwrap();

    let collector = build(config(dir.path())).await.unwrap();
    let (_trigger, stop) = taffrail_kit::shutdown::channel();
    let said = format!("{:#}", collector.run(stop).await.unwrap_err());
    assert!(said.contains("journal format 7") && !said.contains('\n'), "{said}");
    assert_eq!(std::fs::read(wal.path()).unwrap(), bytes);
}
