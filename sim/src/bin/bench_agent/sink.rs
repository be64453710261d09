//! A collector that only acknowledges: it notes which ranges of which files came, counts lines, and
//! keeps nothing. It runs in the bench, so its cost is not the agent's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use prost::Message;
use taffrail_model::wire;
use tokio::net::TcpListener;

/// Largest request that is taken, in bytes.
const BODY_BYTES_MAX: usize = 64 << 20;
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What of a request is looked at; everything else is skipped.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(uint64, tag = "3")]
    number: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
}

impl LogRecord {
    /// A stack trace is one record of many lines.
    fn lines(&self) -> usize {
        let newlines = |body: &AnyValue| body.text.bytes().filter(|b| *b == b'\n').count();
        1 + self.body.as_ref().map_or(0, newlines)
    }
}

/// What has come.
#[derive(Debug, Default)]
struct Seen {
    /// End of each file, by its identity.
    ends: HashMap<String, u64>,
    /// When the first line of each file came, in order.
    firsts: Vec<Instant>,
    bytes: u64,
    lines: u64,
    wire_bytes: u64,
    problem: Option<String>,
}

/// The sink, for who asks it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sink(Arc<Mutex<Seen>>);

impl Sink {
    /// Serves on loopback from now on; its base URL.
    pub(crate) async fn start() -> anyhow::Result<(Self, String)> {
        let sink = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = axum::Router::new()
            .route("/v1/logs", post(take))
            .route("/v1/metrics", post(|| async { StatusCode::OK }))
            .route(wire::POSITIONS_PATH, get(|| async { r#"{"positions":[]}"# }))
            .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(sink.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok((sink, url))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines so far.
    pub(crate) fn lines(&self) -> u64 {
        self.seen().lines
    }

    /// Bytes of requests so far, as they came.
    pub(crate) fn wire_bytes(&self) -> u64 {
        self.seen().wire_bytes
    }

    /// Times at which the first line of each file came, in order.
    pub(crate) fn firsts(&self) -> Vec<Instant> {
        self.seen().firsts.clone()
    }

    /// Waits until so many bytes of files have come; how many came when the patience ended is an
    /// error.
    pub(crate) async fn wait_for_bytes(
        &self,
        bytes: u64,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let (now, problem) = {
                let seen = self.seen();
                (seen.bytes, seen.problem.clone())
            };
            ensure!(problem.is_none(), "{}", problem.unwrap_or_default());
            if now == bytes {
                return Ok(());
            }
            ensure!(now < bytes, "{now} bytes came, only {bytes} were written");
            ensure!(Instant::now() < deadline, "{now} of {bytes} bytes came within {patience:?}");
        }
    }
}

async fn take(State(sink): State<Sink>, body: Bytes) -> StatusCode {
    match read(&sink, &body) {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            sink.seen().problem = Some(format!("{error:#}"));
            StatusCode::BAD_REQUEST
        }
    }
}

fn read(sink: &Sink, body: &Bytes) -> anyhow::Result<()> {
    let plain: Bytes = zstd::stream::decode_all(&body[..]).context("zstd")?.into();
    let request = Request::decode(plain).context("OTLP")?;
    let now = Instant::now();
    let mut seen = sink.seen();
    seen.wire_bytes += body.len() as u64;
    for logs in request.resource_logs {
        let records = logs.scope_logs.iter().flat_map(|scope| &scope.log_records);
        let lines: usize = records.map(LogRecord::lines).sum();
        seen.lines += lines as u64;
        let attributes = logs.resource.unwrap_or_default().attributes;
        let value =
            |name: &str| attributes.iter().find(|a| a.key == name).and_then(|a| a.value.clone());
        let source = value(wire::SOURCE).context("a source")?.text;
        let (begin, end) = (value(wire::BEGIN), value(wire::END));
        let begin = begin.context("a begin")?.number;
        let end = end.context("an end")?.number;
        let known = seen.ends.get(&source).copied();
        // Standard output and standard error of a file come as two streams with one range.
        if known == Some(end) {
            continue;
        }
        ensure!(known.unwrap_or(0) == begin, "{source}: {begin} after {known:?}");
        seen.bytes += end - begin;
        if known.is_none() && lines > 0 {
            seen.firsts.push(now);
        }
        seen.ends.insert(source, end);
    }
    Ok(())
}
