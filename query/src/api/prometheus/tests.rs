//! The API over HTTP messages, without a socket: shapes, statuses, limits.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use taffrail_model::{
    Labels, Matcher, MetricKind, Sample, SeriesSamples, StreamEntries, TimeRange,
};

use crate::api::{ApiConfig, ApiState, router};
use crate::promql::oracle::VecSource;
use crate::source::{
    Counted, LogCount, LogScan, LogSource, RowSink, ScanStats, SeriesSelect, SeriesSink,
    SeriesSource, SourceError,
};

struct NoLogs;

impl LogSource for NoLogs {
    fn scan(&self, _: &LogScan, _: &mut RowSink<'_>) -> Result<ScanStats, SourceError> {
        Ok(ScanStats::default())
    }

    fn count(&self, _: &LogCount) -> Result<Option<Vec<Counted>>, SourceError> {
        Ok(Some(Vec::new()))
    }

    fn streams(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, SourceError> {
        Ok(Vec::new())
    }

    fn subscribe(&self) -> tokio::sync::broadcast::Receiver<Arc<Vec<StreamEntries>>> {
        tokio::sync::broadcast::channel(1).1
    }
}

fn store() -> VecSource {
    let mut source = VecSource::new();
    source.extend(["a", "b"].map(|instance| SeriesSamples {
        labels: Labels::from_pairs([
            ("__name__", "requests_total"),
            ("job", "api"),
            ("instance", instance),
        ]),
        kind: MetricKind::Counter,
        samples: (0..=10).map(|i| Sample { ts: i * 60_000, value: i as f64 * 30.0 }).collect(),
    }));
    source
}

async fn ask_of(source: Arc<dyn SeriesSource>, request: Request<Body>) -> (StatusCode, Value) {
    use tower::ServiceExt as _;
    let state = ApiState::new(Arc::new(NoLogs), source, ApiConfig::default());
    let response = router(state).oneshot(request).await.expect("infallible");
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn get(path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    ask_of(Arc::new(store()), request).await
}

#[tokio::test]
async fn an_instant_query_gives_a_vector() {
    let (status, body) = get("/api/v1/query?query=requests_total{instance=%22a%22}&time=600").await;
    assert_eq!(status, StatusCode::OK);
    let metric = json!({"__name__": "requests_total", "instance": "a", "job": "api"});
    assert_eq!(
        body,
        json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": metric, "value": [600, "300"]}
        ]}})
    );
}

#[tokio::test]
async fn a_posted_range_query_gives_a_matrix() {
    let form = "query=sum(rate(requests_total[2m]))&start=300&end=420&step=1m";
    let request = Request::post("/api/v1/query_range")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form))
        .expect("a request");
    let (status, body) = ask_of(Arc::new(store()), request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let values = json!([[300, "1"], [360, "1"], [420, "1"]]);
    assert_eq!(
        body["data"],
        json!({"resultType": "matrix", "result": [{"metric": {}, "values": values}]})
    );
}

#[tokio::test]
async fn a_post_may_have_its_parameters_in_the_url() {
    let request = Request::post("/api/v1/query?query=1&time=2").body(Body::empty());
    let (status, body) = ask_of(Arc::new(store()), request.expect("a request")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["data"]["result"], json!([2, "1"]));
}

#[tokio::test]
async fn scalars_strings_and_notes() {
    let (_, body) = get("/api/v1/query?query=1%2B1&time=4").await;
    assert_eq!(body["data"], json!({"resultType": "scalar", "result": [4, "2"]}));
    let (_, body) = get("/api/v1/query?query=%22x%22&time=4").await;
    assert_eq!(body["data"], json!({"resultType": "string", "result": [4, "x"]}));
    let (_, body) = get("/api/v1/query?query=quantile(2,requests_total)&time=60").await;
    assert_eq!(
        body["warnings"],
        json!(["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"])
    );
    let (_, body) = get("/api/v1/query?query=requests_total&time=60&limit=1").await;
    assert_eq!(body["data"]["result"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["warnings"], json!(["results truncated due to limit"]));
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let cases = [
        (
            "query?query=sum(",
            "invalid parameter \"query\": 1:5: parse error: unexpected end of input",
        ),
        ("query", "invalid parameter \"query\": 1:1: parse error: no expression"),
        (
            "query?query=1&time=x",
            "invalid parameter \"time\": cannot parse \"x\" to a valid timestamp",
        ),
        ("query_range?query=1&start=5&end=1&step=1", "end timestamp must not be before start time"),
        ("query_range?query=1&start=0&end=1&step=0", "zero or negative query resolution"),
        ("query_range?query=1&start=0&end=1", "invalid parameter \"step\""),
        ("query_range?query=1&start=0&end=12000&step=1", "exceeded maximum resolution of 11,000"),
        ("query?query=1&limit=-1", "invalid parameter \"limit\""),
        ("query?query=1&timeout=x", "invalid parameter \"timeout\""),
        ("series", "no match[] parameter provided"),
        ("series?match[]={}", "invalid parameter \"match[]\""),
        ("series?match[]=rate(a[5m])", "expected a series selector"),
    ];
    for (path, expected) in cases {
        let (status, body) = get(&format!("/api/v1/{path}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(body["errorType"], "bad_data", "{path}");
        assert_eq!(body["status"], "error", "{path}");
        let error = body["error"].as_str().unwrap_or("");
        assert!(error.contains(expected), "{path}: {error}");
    }
}

#[tokio::test]
async fn what_cannot_be_executed_is_422() {
    let query = "requests_total%20*%20on(job)%20requests_total";
    let (status, body) = get(&format!("/api/v1/query?query={query}&time=60")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["errorType"], "execution");
    let error = body["error"].as_str().unwrap_or("");
    assert!(error.contains("many-to-many matching not allowed"), "{error}");
}

#[tokio::test]
async fn discovery() {
    let cases = [
        ("labels", json!(["__name__", "instance", "job"])),
        ("labels?match[]=nothing", json!([])),
        ("label/instance/values", json!(["a", "b"])),
        ("label/instance/values?match[]=requests_total{instance=\"b\"}", json!(["b"])),
        ("label/instance/values?start=1000000", json!([])),
        ("metadata", json!({"requests_total": [{"type": "counter", "unit": "", "help": ""}]})),
        ("metadata?metric=other", json!({})),
        ("format_query?query=sum(a)by(b)", json!("sum by (b) (a)")),
        (
            "series?match[]=requests_total&limit=1",
            json!([{"__name__": "requests_total", "instance": "a", "job": "api"}]),
        ),
    ];
    for (path, expected) in cases {
        let path = path.replace('"', "%22");
        let (status, body) = get(&format!("/api/v1/{path}")).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert_eq!(body["data"], expected, "{path}");
    }
    let (_, body) = get("/api/v1/status/buildinfo").await;
    assert_eq!(body["data"]["application"], "Taffrail");
}

#[tokio::test]
async fn selectors_of_a_request_are_limited_together() {
    for (count, selector, wanted) in [
        (101, "up", "101 selectors; at most 100"),
        (65, "up{a=~%22b%22}", "more than 64 regular expressions"),
    ] {
        let path = format!("/api/v1/labels?{}", format!("match[]={selector}&").repeat(count));
        let (status, body) = get(&path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body["error"].as_str().is_some_and(|text| text.ends_with(wanted)), "{body}");
    }
}

/// A store that answers only when it is told to stop.
struct Stuck;

impl SeriesSource for Stuck {
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        loop {
            select.cancel.check()?;
            if let ControlFlow::Break(()) = sink(&Labels::default(), &[], &[]) {
                return Ok(());
            }
            std::thread::yield_now();
        }
    }

    fn series(&self, _: &[Matcher], _: i64, _: i64) -> Result<Vec<Labels>, SourceError> {
        Err(SourceError::Storage("block 7 is corrupt".to_owned()))
    }

    fn metadata(&self) -> std::collections::BTreeMap<String, MetricKind> {
        std::collections::BTreeMap::new()
    }
}

#[tokio::test]
async fn a_query_ends_at_its_timeout() {
    let request =
        Request::get("/api/v1/query?query=up&timeout=20ms").body(Body::empty()).expect("a request");
    let (status, body) = ask_of(Arc::new(Stuck), request).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["errorType"], "timeout");
    let request = Request::get("/api/v1/labels").body(Body::empty()).expect("a request");
    let (status, body) = ask_of(Arc::new(Stuck), request).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body["errorType"], "internal");
}
