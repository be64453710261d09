//! The API over HTTP requests in memory, against a list of lines; against recorded answers of Loki
//! in `recorded.rs`.

mod delete;
mod recorded;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use futures_util::StreamExt as _;
use serde_json::Value;
use taffrail_model::time::Millis;
use taffrail_model::{Labels, Level, LogEntry, Matcher, MetricKind, StreamEntries, TimeRange};
use tower::ServiceExt as _;

use crate::api::{ApiConfig, ApiState};
use crate::logql::oracle::VecSource;
use crate::source::{
    Counted, LogCount, LogRow, LogScan, LogSource, RowSink, ScanStats, SeriesSelect, SeriesSink,
    SeriesSource, SourceError,
};

struct NoSeries;

impl SeriesSource for NoSeries {
    fn select(&self, _: &SeriesSelect, _: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        Ok(())
    }

    fn series(&self, _: &[Matcher], _: Millis, _: Millis) -> Result<Vec<Labels>, SourceError> {
        Ok(Vec::new())
    }

    fn metadata(&self) -> BTreeMap<String, MetricKind> {
        BTreeMap::new()
    }
}

fn api(source: Arc<VecSource>) -> axum::Router {
    super::router(ApiState::new(source, Arc::new(NoSeries), ApiConfig::default()))
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }
        })
        .collect()
}

fn uri(path: &str, params: &[(String, String)]) -> String {
    let pairs: Vec<_> =
        params.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
    format!("{path}?{}", pairs.join("&"))
}

fn owned(params: &[(&str, &str)]) -> Vec<(String, String)> {
    params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

async fn send(api: &axum::Router, request: Request<Body>) -> (StatusCode, String) {
    let response = api.clone().oneshot(request).await.expect("a router never fails");
    let status = response.status();
    let body = to_bytes(response.into_body(), 64 << 20).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

async fn get(api: &axum::Router, path: &str, params: &[(&str, &str)]) -> (StatusCode, String) {
    let request = Request::get(uri(path, &owned(params))).body(Body::empty()).expect("a request");
    send(api, request).await
}

fn entry(ts: i64, line: &str, level: Level) -> LogEntry {
    LogEntry { ts, line: line.into(), level, metadata: vec![("trace_id".into(), format!("t{ts}"))] }
}

fn batch(app: &str, entries: Vec<LogEntry>) -> StreamEntries {
    StreamEntries { labels: Labels::from_pairs([("app", app)]), entries }
}

fn small() -> Arc<VecSource> {
    let entries = (1..=3).map(|ts| entry(ts, &format!("line {ts} <x>"), Level::Info)).collect();
    Arc::new(VecSource::with(vec![
        batch("web", entries),
        batch("db", vec![entry(2, "other", Level::Unknown)]),
    ]))
}

#[tokio::test]
async fn lines_are_streamed_as_objects() {
    let api = api(small());
    let params = [
        ("start", "00000000001"),
        ("end", "00000000010"),
        ("query", "|= \"line\""),
        ("limit", "2"),
    ];
    let (status, body) = get(&api, "/api/v1/logs/query", &params).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body,
        "{\"ts\":\"3\",\"labels\":{\"app\":\"web\"},\"line\":\"line 3 <x>\",\"level\":\"info\",\"metadata\":{\"trace_id\":\"t3\"}}\n\
         {\"ts\":\"2\",\"labels\":{\"app\":\"web\"},\"line\":\"line 2 <x>\",\"level\":\"info\",\"metadata\":{\"trace_id\":\"t2\"}}\n"
    );
    let all = [
        ("start", "00000000001"),
        ("end", "00000000010"),
        ("query", "{}"),
        ("limit", "0"),
        ("direction", "forward"),
    ];
    assert_eq!(get(&api, "/api/v1/logs/query", &all).await.1.lines().count(), 4);
    for (query, wanted) in [
        ("{app=", "parse error at line 1, col 6"),
        ("rate({app=\"a\"}[1m])", "this endpoint gives lines"),
    ] {
        let (status, body) = get(&api, "/api/v1/logs/query", &[("query", query)]).await;
        assert!(status == StatusCode::BAD_REQUEST && body.starts_with(wanted), "{query}: {body}");
    }
}

#[tokio::test]
async fn a_tail_shows_history_then_what_comes_each_once() {
    let source = small();
    let api = api(source.clone());
    let params = owned(&[
        ("query", "{app=\"web\"} |= \"line\" | line_format \"<{{.app}}>\""),
        ("start", "00000000002"),
    ]);
    let request =
        Request::get(uri("/api/v1/logs/tail", &params)).body(Body::empty()).expect("a request");
    let response = api.clone().oneshot(request).await.expect("a router never fails");
    assert_eq!(response.status(), StatusCode::OK);
    // What was pushed before the subscription comes from history; after it, from both.
    source.push(vec![batch(
        "web",
        vec![entry(4, "line 4", Level::Error), entry(4, "line 4", Level::Error)],
    )]);
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while text.lines().count() < 4 {
        let chunk = tokio::time::timeout(Duration::from_secs(20), body.next()).await;
        text.push_str(&String::from_utf8_lossy(
            &chunk.expect("in time").expect("open").expect("bytes"),
        ));
    }
    source.push(vec![
        batch("db", vec![entry(5, "line", Level::Info)]),
        batch("web", vec![entry(6, "line 6", Level::Info)]),
    ]);
    while text.lines().count() < 5 {
        let chunk = tokio::time::timeout(Duration::from_secs(20), body.next()).await;
        text.push_str(&String::from_utf8_lossy(
            &chunk.expect("in time").expect("open").expect("bytes"),
        ));
    }
    let stamps: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("an object")["ts"]
                .as_str()
                .unwrap_or("")
                .to_owned()
        })
        .collect();
    assert_eq!(stamps, ["2", "3", "4", "4", "6"]);
    assert!(text.contains("\"line\":\"<web>\"") && text.contains("\"level\":\"error\""));
}

#[tokio::test]
async fn the_series_limit_is_said_as_loki_says_it() {
    let many =
        (0..501).map(|n| batch(&format!("a{n}"), vec![entry(1, "x", Level::Info)])).collect();
    let api = api(Arc::new(VecSource::with(many)));
    let params = [
        ("query", "sum by (app) (count_over_time({app=~\".+\"}[1m]))"),
        ("time", "0000000000.000000010"),
    ];
    let (status, body) = get(&api, "/loki/api/v1/query", &params).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body.starts_with("maximum number of series (500) reached for a single query"),
        "{body}"
    );
}

#[tokio::test]
async fn small_endpoints() {
    let api = api(small());
    let params = [("query", "{app=\"web\"}"), ("start", "00000000001"), ("end", "00000000010")];
    let (_, stats) = get(&api, "/loki/api/v1/index/stats", &params).await;
    assert_eq!(stats, "{\"streams\":1,\"chunks\":0,\"bytes\":30,\"entries\":3}\n");
    let (_, detected) = get(&api, "/loki/api/v1/detected_labels", &params[1..]).await;
    assert_eq!(detected, "{\"detectedLabels\":[{\"label\":\"app\",\"cardinality\":2}]}\n");
    let (_, build) = get(&api, "/loki/api/v1/status/buildinfo", &[]).await;
    assert!(build.contains("\"version\":\"3."), "{build}");
    let (_, health) = get(
        &api,
        "/loki/api/v1/query",
        &[("query", "vector(1)+vector(1)"), ("time", "4000000000")],
    )
    .await;
    assert!(
        health.contains(
            "\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[4000000000,\"2\"]}]"
        ),
        "{health}"
    );
}

#[tokio::test]
async fn volumes_and_fields() {
    let api = api(small());
    let params = |more: &[(&'static str, &'static str)]| {
        let mut all =
            vec![("query", "{app=~\".+\"}"), ("start", "00000000001"), ("end", "00000000010")];
        all.extend(more);
        all
    };
    let (_, body) = get(&api, "/loki/api/v1/index/volume", &params(&[])).await;
    let wanted = "\"result\":[{\"metric\":{\"app\":\"web\"},\"value\":[0,\"30\"]},\
                  {\"metric\":{\"app\":\"db\"},\"value\":[0,\"5\"]}]";
    assert!(body.contains(wanted), "{body}");
    let (_, body) =
        get(&api, "/loki/api/v1/index/volume", &params(&[("aggregateBy", "labels")])).await;
    assert!(body.contains("[{\"metric\":{\"app\":\"\"},\"value\":[0,\"35\"]}]"), "{body}");
    let ranged = params(&[("step", "0.000000005"), ("targetLabels", "app"), ("limit", "1")]);
    let (_, body) = get(&api, "/loki/api/v1/index/volume_range", &ranged).await;
    assert!(body.contains("\"resultType\":\"matrix\"") && body.contains("\"30\""), "{body}");
    let (_, body) = get(&api, "/loki/api/v1/detected_fields", &params(&[])).await;
    assert!(
        body.contains(
            "\"label\":\"trace_id\",\"type\":\"string\",\"cardinality\":3,\"parsers\":null"
        ),
        "{body}"
    );
    let (_, body) =
        get(&api, "/loki/api/v1/detected_field/detected_level/values", &params(&[])).await;
    assert_eq!(body, "{\"values\":[\"info\"],\"limit\":1000}\n");
}

#[tokio::test]
async fn patterns_are_counted_by_level_and_step() {
    let at = |second: i64| 1_795_187_400_000_000_000 + second * 1_000_000_000;
    let line = |n: i64| entry(at(n), &format!("user={n} took {n}ms"), Level::Info);
    let mut entries: Vec<_> = (0..70).map(line).collect();
    entries.push(entry(at(5), "user=5 failed", Level::Error));
    let api = api(Arc::new(VecSource::with(vec![batch("web", entries)])));
    let params = |query, step| {
        [("query", query), ("start", "1795187400"), ("end", "1795187500"), ("step", step)]
    };
    let (status, body) =
        get(&api, "/loki/api/v1/patterns", &params("{app=\"web\"} != \"user=3 \"", "60")).await;
    let info = "{\"pattern\":\"user=<_> took <_>\",\"level\":\"info\",\"samples\":[[1795187400,59],[1795187460,10]]}";
    let error = "{\"pattern\":\"user=5 failed\",\"level\":\"error\",\"samples\":[[1795187400,1]]}";
    assert_eq!(body, format!("{{\"status\":\"success\",\"data\":[{info},{error}]}}\n"));
    assert_eq!(status, StatusCode::OK);
    // Steps are at least ten seconds.
    let (_, body) = get(&api, "/loki/api/v1/patterns", &params("{app=\"web\"}", "1")).await;
    assert!(body.contains("[[1795187400,10],[1795187410,10],"), "{body}");
    for (query, why) in [("rate({app=\"web\"}[1m])", "only log selector"), ("{", "parse error")] {
        let (status, body) = get(&api, "/loki/api/v1/patterns", &params(query, "60")).await;
        assert!(status == StatusCode::BAD_REQUEST && body.starts_with(why), "{query}: {body}");
    }
}

#[tokio::test]
async fn a_form_is_as_good_as_a_query_string() {
    let api = api(small());
    let form =
        "query=%7Bapp%3D%22web%22%7D&start=00000000001&end=00000000010&direction=forward&limit=1";
    let request = Request::post("/loki/api/v1/query_range")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form))
        .expect("a request");
    let (status, body) = send(&api, request).await;
    assert_eq!(status, StatusCode::OK);
    let wanted = "\"result\":[{\"stream\":{\"app\":\"web\",\"detected_level\":\"info\",\"trace_id\":\"t1\"},\
                  \"values\":[[\"1\",\"line 1 <x>\"]]}]";
    assert!(body.contains(wanted), "{body}");
}

#[tokio::test]
async fn a_slow_tail_is_told_what_it_missed() {
    let source = small();
    let api = api(source.clone());
    let params = owned(&[("query", "{app=\"web\"}")]);
    let request =
        Request::get(uri("/api/v1/logs/tail", &params)).body(Body::empty()).expect("a request");
    let response = api.clone().oneshot(request).await.expect("a router never fails");
    // All of these come before the tail has its first turn: this runtime has one thread.
    for ts in 0..200 {
        source.push(vec![batch("web", vec![entry(ts, "x", Level::Info)])]);
    }
    let mut body = response.into_body().into_data_stream();
    let chunk = tokio::time::timeout(Duration::from_secs(20), body.next()).await;
    let text = chunk.expect("in time").expect("open").expect("bytes");
    assert_eq!(String::from_utf8_lossy(&text), "{\"lagged\":136}\n");
}

/// A store that never comes to an end by itself, and says when a scan has ended.
struct Endless {
    inner: VecSource,
    ended: tokio::sync::mpsc::Sender<()>,
}

impl LogSource for Endless {
    fn scan(&self, scan: &LogScan, sink: &mut RowSink<'_>) -> Result<ScanStats, SourceError> {
        let labels = Labels::from_pairs([("app", "web")]);
        let row = LogRow { ts: 1, line: "x", level: Level::Unknown, metadata: &[] };
        let result = loop {
            if let Err(error) = scan.cancel.check() {
                break Err(error);
            }
            if sink(&labels, row).is_break() {
                break Ok(ScanStats::default());
            }
        };
        let _ = self.ended.try_send(());
        result
    }

    fn count(&self, count: &LogCount) -> Result<Option<Vec<Counted>>, SourceError> {
        self.inner.count(count)
    }

    fn streams(&self, m: &[Matcher], r: TimeRange) -> Result<Vec<Labels>, SourceError> {
        self.inner.streams(m, r)
    }

    fn subscribe(&self) -> tokio::sync::broadcast::Receiver<Arc<Vec<StreamEntries>>> {
        self.inner.subscribe()
    }
}

fn endless(timeout: Duration) -> (axum::Router, tokio::sync::mpsc::Receiver<()>) {
    let (ended, scans) = tokio::sync::mpsc::channel(4);
    let source = Arc::new(Endless { inner: VecSource::new(), ended });
    let config = ApiConfig { timeout, ..ApiConfig::default() };
    (super::router(ApiState::new(source, Arc::new(NoSeries), config)), scans)
}

#[tokio::test]
async fn a_query_ends_when_its_client_goes() {
    for (path, query) in [
        ("/api/v1/logs/query", "{app=\"web\"}"),
        ("/api/v1/logs/query", "{app=\"web\"} | nope=\"x\""),
        ("/api/v1/logs/tail", "{app=\"web\"} | nope=\"x\""),
    ] {
        let (api, mut scans) = endless(Duration::from_secs(3600));
        let params = owned(&[("query", query), ("limit", "0"), ("start", "1")]);
        let request = Request::get(uri(path, &params)).body(Body::empty()).expect("a request");
        let response = api.oneshot(request).await.expect("a router never fails");
        assert_eq!(response.status(), StatusCode::OK);
        drop(response);
        let ended = tokio::time::timeout(Duration::from_secs(20), scans.recv()).await;
        // Nothing to receive: the scan had not begun, and nobody holds the store any more.
        assert!(ended.is_ok(), "{path} {query}: the scan goes on");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let (api, mut scans) = endless(Duration::from_millis(50));
    for path in ["/api/v1/logs/query", "/api/v1/logs/tail"] {
        let params = owned(&[("query", "{app=\"web\"}"), ("limit", "0"), ("start", "1")]);
        let request = Request::get(uri(path, &params)).body(Body::empty()).expect("a request");
        let stalled = api.clone().oneshot(request).await.expect("a router never fails");
        let ended = tokio::time::timeout(Duration::from_secs(20), scans.recv()).await;
        assert_eq!(ended, Ok(Some(())), "{path}");
        // What it takes after all must not look whole.
        let mut body = stalled.into_body().into_data_stream();
        let read_to_end = async {
            let mut last = None;
            while let Some(chunk) = body.next().await {
                last = Some(chunk);
            }
            last
        };
        let last = tokio::time::timeout(Duration::from_secs(20), read_to_end).await;
        assert!(matches!(last, Ok(Some(Err(_)))), "{path} ends as if it were whole");
    }
}

#[tokio::test]
async fn a_query_ends_at_its_deadline() {
    let (api, mut scans) = endless(Duration::from_millis(50));
    let query = ("query", "{app=\"web\"} | nope=\"x\"");
    let (status, body) = get(&api, "/loki/api/v1/query_range", &[query]).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert!(body.starts_with("request timed out"), "{body}");
    assert_eq!(scans.recv().await, Some(()));
    let (status, body) = get(&api, "/api/v1/logs/query", &[query]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.starts_with("{\"error\":\"the query was cancelled"), "{body}");
}

#[tokio::test]
async fn a_long_answer_is_refused_before_it_fills_the_memory() {
    use crate::api::loki::answer::LINES_BYTES_MAX;
    let long = "x".repeat(taffrail_model::limits::LINE_BYTES_MAX);
    let lines = i64::try_from(LINES_BYTES_MAX / long.len() + 1).expect("few");
    let entries = (1..=lines).map(|ts| entry(ts, &long, Level::Info)).collect();
    let api = api(Arc::new(VecSource::with(vec![batch("web", entries)])));
    let params = |limit| {
        let range = [("start", "00000000000"), ("end", "00000001000")];
        [&[("query", "{app=\"web\"}"), ("limit", limit)], &range[..]].concat()
    };
    let (status, body) = get(&api, "/loki/api/v1/query_range", &params("1000")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.starts_with("the answer has more than 64 MiB"), "{body}");
    let (status, _) = get(&api, "/loki/api/v1/query_range", &params("10")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn selectors_of_a_request_are_limited_together() {
    let api = api(small());
    let many = |count, text: &'static str| vec![("match[]", text); count];
    for (params, wanted) in [
        (many(101, "{app=\"web\"}"), "101 selectors; at most 100"),
        (many(65, "{app=~\"w.b\"}"), "more than 64 regular expressions"),
    ] {
        let (status, body) = get(&api, "/loki/api/v1/series", &params).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body.starts_with(wanted), "{body}");
    }
    let (status, _) = get(&api, "/loki/api/v1/series", &many(64, "{app=~\"w.b\"}")).await;
    assert_eq!(status, StatusCode::OK);
    let targets = vec!["a"; 101].join(",");
    let params = [("query", "{app=\"web\"}"), ("targetLabels", targets.as_str())];
    let (status, body) = get(&api, "/loki/api/v1/index/volume", &params).await;
    assert_eq!((status, body.as_str()), (StatusCode::BAD_REQUEST, "101 targetLabels; at most 100"));
}

#[tokio::test]
async fn volumes_of_all_time() {
    let first = i64::MIN.to_string();
    let last = i64::MAX.to_string();
    let params = [
        ("query", "{app=\"web\"}"),
        ("start", first.as_str()),
        ("end", last.as_str()),
        ("step", "3e9"),
    ];
    let source = VecSource::with(vec![batch(
        "web",
        vec![entry(-1, "ab", Level::Info), entry(i64::MAX - 1, "abc", Level::Info)],
    )]);
    let api = api(Arc::new(source));
    let (_, total) = get(&api, "/loki/api/v1/index/volume", &params).await;
    assert!(total.contains("\"value\":[9223372036.854,\"5\"]"), "{total}");
    let (_, ranged) = get(&api, "/loki/api/v1/index/volume_range", &params).await;
    let ranged: Value = serde_json::from_str(&ranged).expect("JSON");
    let values = ranged["data"]["result"][0]["values"].as_array().expect("points").clone();
    assert_eq!(values.len(), 2);
    assert_eq!((&values[0][1], &values[1][1]), (&"2".into(), &"3".into()));
    assert_eq!(values[1][0], 9_223_372_036.854);
}
