//! A collector for tests: keeps the rules of `taffrail_model::wire`, remembers each line, and fails
//! as it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use taffrail_kit::http::Client;
use taffrail_model::{limits, wire};
use tokio::sync::watch;

/// A line that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) source: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) ts: u64,
    pub(crate) marks: Vec<String>,
}

/// How the next request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not at all.
    None,
    /// 503, nothing is kept.
    Unavailable,
    /// 500, but everything is kept.
    AnswerLost,
    /// 429 with a pause of a second.
    Busy,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) lines: Vec<Line>,
    /// Committed end and check by source.
    pub(crate) positions: HashMap<String, (u64, u64)>,
    pub(crate) requests: usize,
    pub(crate) conflicts: usize,
}

impl Kept {
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.lines.iter().map(|l| l.text.as_str()).collect()
    }
}

type Faults = Box<dyn FnMut(usize) -> Fault + Send>;

struct Shared {
    kept: Mutex<Kept>,
    faults: Mutex<Faults>,
    /// Batches with this text are refused with 400.
    poison: Mutex<Option<String>>,
    /// Batches of more lines than this are refused with 413.
    lines_max: Mutex<usize>,
    /// Everything is answered with 503.
    down: AtomicBool,
    changed: watch::Sender<u64>,
    /// Counts the fences; requests of before are not kept.
    fences: AtomicU64,
}

#[derive(Clone)]
pub(crate) struct Fake {
    shared: Arc<Shared>,
    address: String,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            kept: Mutex::default(),
            faults: Mutex::new(Box::new(|_| Fault::None)),
            poison: Mutex::default(),
            lines_max: Mutex::new(usize::MAX),
            down: AtomicBool::new(false),
            changed: watch::Sender::new(0),
            fences: AtomicU64::new(0),
        });
        Self { address: serve(shared.clone(), 0).await, shared }
    }

    /// From now on nothing is kept of requests that are under way: as if a dead agent's last request
    /// had got lost.
    pub(crate) async fn fence(&mut self) {
        let fence = {
            let _kept = self.shared.kept.lock().unwrap();
            self.shared.fences.fetch_add(1, Ordering::SeqCst) + 1
        };
        self.address = serve(self.shared.clone(), fence).await;
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address).unwrap()
    }

    pub(crate) fn faults(&self, faults: impl FnMut(usize) -> Fault + Send + 'static) {
        *self.shared.faults.lock().unwrap() = Box::new(faults);
    }

    /// From now on nothing is kept and nothing told, or everything again.
    pub(crate) fn set_down(&self, down: bool) {
        // Under the lock: afterwards no request of before is kept any more.
        let _kept = self.shared.kept.lock().unwrap();
        self.shared.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn poison(&self, text: &str) {
        *self.shared.poison.lock().unwrap() = Some(text.to_owned());
    }

    pub(crate) fn lines_max(&self, lines: usize) {
        *self.shared.lines_max.lock().unwrap() = lines;
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.shared.kept.lock().unwrap())
    }

    /// Waits until something holds of what is kept.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Kept) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            while !self.with(|kept| holds(kept)) {
                changed.changed().await.unwrap();
            }
        };
        let timeout = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(timeout.is_ok(), "{what}: {:#?}", self.with(|k| k.texts().join("\n")));
    }
}

async fn serve(shared: Arc<Shared>, fence: u64) -> String {
    let app = Router::new()
        .route("/v1/logs", post(logs))
        .route(wire::POSITIONS_PATH, get(positions))
        .with_state((shared, fence));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn positions(
    State((shared, _)): State<(Arc<Shared>, u64)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let kept = shared.kept.lock().unwrap();
    if shared.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let found: Vec<_> = kept
        .positions
        .iter()
        .filter(|(source, _)| source.starts_with(&query["prefix"]))
        .map(|(source, (end, check))| position(source, *end, *check))
        .collect();
    axum::Json(serde_json::json!({ "positions": found })).into_response()
}

fn position(source: &str, end: u64, check: u64) -> serde_json::Value {
    serde_json::json!({ "source": source, "committed": end, "check": check })
}

async fn logs(
    State((shared, fence)): State<(Arc<Shared>, u64)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = match headers.get("content-encoding").and_then(|v| v.to_str().ok()) {
        Some("zstd") => zstd::stream::decode_all(&body[..]).unwrap(),
        _ => body.to_vec(),
    };
    let request = ExportLogsServiceRequest::decode(&body[..]).unwrap();
    let number = {
        let mut kept = shared.kept.lock().unwrap();
        kept.requests += 1;
        kept.requests
    };
    let fault = shared.faults.lock().unwrap()(number);
    let answer = match fault {
        Fault::Unavailable => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Fault::Busy => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        Fault::None => commit(&shared, fence, &request),
        Fault::AnswerLost => {
            commit(&shared, fence, &request);
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    shared.changed.send_modify(|n| *n += 1);
    answer
}

fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    match attributes.iter().find(|a| a.key == name)?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn int(attributes: &[KeyValue], name: &str) -> Option<u64> {
    match attributes.iter().find(|a| a.key == name)?.value.as_ref()?.value.as_ref()? {
        Value::IntValue(value) => Some(*value as u64),
        _ => None,
    }
}

fn commit(shared: &Shared, fence: u64, request: &ExportLogsServiceRequest) -> Response {
    let mut kept = shared.kept.lock().unwrap();
    if shared.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if shared.fences.load(Ordering::SeqCst) != fence {
        return StatusCode::GONE.into_response();
    }
    let mut lines = Vec::new();
    let mut ends: HashMap<String, (u64, u64, u64)> = HashMap::new();
    let mut told: HashMap<String, serde_json::Value> = HashMap::new();
    let (mut is_known, mut conflict) = (false, false);
    for resource in &request.resource_logs {
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let source = text(attributes, wire::SOURCE).unwrap();
        let (begin, end) =
            (int(attributes, wire::BEGIN).unwrap(), int(attributes, wire::END).unwrap());
        assert!(begin <= end, "{source}: {begin}..{end}");
        let check = int(attributes, wire::CHECK).unwrap_or(0);
        let origin = int(attributes, wire::ORIGIN).unwrap_or(0);
        let known = kept.positions.get(&source).copied();
        let committed = known.map_or(origin, |k| k.0);
        told.insert(source.clone(), position(&source, committed, known.map_or(0, |k| k.1)));
        if end <= committed && known.is_some() {
            is_known |= begin < committed;
            continue;
        }
        if begin != committed {
            conflict = true;
            continue;
        }
        let same = ends.insert(source.clone(), (begin, end, check));
        assert!(same.is_none_or(|s| s == (begin, end, check)), "two ranges of {source}");
        let labels = attributes
            .iter()
            .filter(|a| !a.key.starts_with("taffrail.") && !a.key.starts_with("log."));
        let labels: Vec<(String, String)> =
            labels.map(|a| (a.key.clone(), text(attributes, &a.key).unwrap())).collect();
        for scope in &resource.scope_logs {
            assert_eq!(scope.scope.as_ref().unwrap().name, wire::AGENT_SCOPE);
            for record in &scope.log_records {
                let body = record.body.as_ref().unwrap().value.as_ref();
                let Some(Value::StringValue(body)) = body else { panic!("no text") };
                lines.push(Line {
                    source: source.clone(),
                    labels: labels.clone(),
                    text: body.clone(),
                    ts: record.time_unix_nano,
                    marks: record.attributes.iter().map(|a| a.key.clone()).collect(),
                });
            }
        }
    }
    if conflict || (is_known && !ends.is_empty()) {
        kept.conflicts += 1;
        let body = serde_json::json!({ "positions": told.values().collect::<Vec<_>>() });
        return (StatusCode::CONFLICT, axum::Json(body)).into_response();
    }
    if lines.len() > *shared.lines_max.lock().unwrap() {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    if let Some(line) = lines.iter().find(|l| l.text.len() > limits::LINE_BYTES_MAX) {
        let reason = format!("a line has {} bytes", line.text.len());
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    if let Some(poison) = &*shared.poison.lock().unwrap()
        && lines.iter().any(|l| l.text.contains(poison))
    {
        return (StatusCode::BAD_REQUEST, "poison").into_response();
    }
    kept.lines.extend(lines);
    kept.positions.extend(ends.into_iter().map(|(source, (_, end, check))| (source, (end, check))));
    StatusCode::OK.into_response()
}
