//! Our own form of log queries: newline-delimited JSON, sent while the store is read.
//!
//! One line of text is one object:
//! `{"ts":"<ns>","labels":{…},"line":"…","level":"…","metadata":{…}}`; labels that stages have made
//! are among `labels`. When the query fails after its first line, the last object is
//! `{"error":"…"}`.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use taffrail_kit::clock;
use taffrail_model::Level;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio_stream::wrappers::ReceiverStream;

use crate::logql::ast::Expr;
use crate::logql::labels::{Category, LEVEL_LABEL};
use crate::logql::log::{LogLine, LogParams, run_log};
use crate::logql::plan::LogPlan;
use crate::logql::{LogqlOptions, parse};
use crate::source::Cancel;

use super::super::ApiState;
use super::answer::{push_object, push_text};
use super::error::ApiError;
use super::params::Params;

/// Text is sent once so much of it is there.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks that wait for a slow client before the engine waits too.
const CHUNKS_MAX: usize = 8;

/// The sending end of such a body. A client that takes nothing for too long is given up: its body
/// then ends with an error, so that what it has got does not look whole.
#[derive(Clone)]
pub(super) struct Sender {
    chunks: mpsc::Sender<Bytes>,
    given_up: Arc<AtomicBool>,
    patience: Duration,
}

impl Sender {
    /// Sends a chunk; `Break` when nobody takes it.
    pub(super) async fn send(&self, chunk: impl Into<Bytes>) -> ControlFlow<()> {
        let chunk = chunk.into();
        if chunk.is_empty() {
            return ControlFlow::Continue(());
        }
        match self.chunks.send_timeout(chunk, self.patience).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                if matches!(error, SendTimeoutError::Timeout(_)) {
                    self.given_up.store(true, Ordering::Release);
                }
                ControlFlow::Break(())
            }
        }
    }

    /// Returns once the client has gone.
    pub(super) async fn closed(&self) {
        self.chunks.closed().await;
    }
}

/// A response whose body comes from a channel.
pub(super) fn streamed(patience: Duration) -> (Sender, Response) {
    let (chunks, receiver) = mpsc::channel(CHUNKS_MAX);
    let given_up = Arc::new(AtomicBool::new(false));
    let stalled = given_up.clone();
    // Asked when all chunks are sent.
    let end = futures_util::stream::once(async move { stalled.load(Ordering::Acquire) })
        .filter_map(|stalled| std::future::ready(stalled.then(|| Err(ErrorKind::TimedOut.into()))));
    let body = ReceiverStream::new(receiver).map(Ok::<_, std::io::Error>).chain(end);
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    let response = (headers, Body::from_stream(body)).into_response();
    (Sender { chunks, given_up, patience }, response)
}

/// The engine's end of such a channel: a stalled connection must not hold a permit and a thread for
/// ever.
pub(super) struct Outlet {
    sender: Sender,
    runtime: Handle,
}

impl Outlet {
    /// For use on a blocking thread of the runtime that this is called in.
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, runtime: Handle::current() }
    }

    /// Sends a chunk; `Break` when nobody takes it.
    pub(super) fn send(&self, chunk: impl Into<Bytes>) -> ControlFlow<()> {
        self.runtime.block_on(self.sender.send(chunk))
    }
}

/// The plan of a log query in which the selector may be left out.
pub(super) fn log_plan(query: &str) -> Result<LogPlan, ApiError> {
    let options = LogqlOptions { allow_empty_selector: true };
    match parse(query, options).map_err(|error| ApiError::parse_shown(&error, query))? {
        Expr::Log(log) => LogPlan::new(&log).map_err(|error| ApiError::parse_shown(&error, query)),
        Expr::Metric(_) => Err(ApiError::bad_request(
            "this endpoint gives lines and the query gives numbers; ask /loki/api/v1/query_range",
        )),
    }
}

/// Appends a line as one object.
pub(super) fn push_line(out: &mut String, line: &LogLine<'_>) {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut metadata: Vec<(&str, &str)> = Vec::new();
    line.labels.each(|name, value, category| match category {
        Category::Metadata if name == LEVEL_LABEL => {}
        Category::Metadata => metadata.push((name, value)),
        Category::Stream | Category::Parsed => labels.push((name, value)),
    });
    labels.sort_unstable();
    let _ = write!(out, "{{\"ts\":\"{}\",\"labels\":", line.ts);
    push_object(out, labels);
    out.push_str(",\"line\":");
    push_text(out, line.line);
    out.push_str(",\"level\":");
    let level = line.labels.get(LEVEL_LABEL);
    push_text(out, level.unwrap_or_else(|| Level::Unknown.name()));
    out.push_str(",\"metadata\":");
    push_object(out, metadata);
    out.push_str("}\n");
}

/// An object that says why the answer ends here.
pub(super) fn error_object(message: &str) -> Bytes {
    Bytes::from(format!("{}\n", serde_json::json!({ "error": message })))
}

/// `GET /api/v1/logs/query?query=&start=&end=&since=&limit=&direction=`; `limit=0` gives all lines.
pub(super) async fn query(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let plan = log_plan(params.query())?;
    let wanted = LogParams {
        range: params.range(clock::unix_nanos())?,
        direction: params.direction()?,
        limit: params.open_limit()?,
        interval: params.interval()?,
        cancel: Cancel::new(),
    };
    let (sender, response) = streamed(state.config.timeout);
    tokio::spawn(drive(state, plan, wanted, sender));
    Ok(response)
}

/// Runs the query on a blocking thread; stops it when its time is over or its client gone.
async fn drive(state: ApiState, plan: LogPlan, wanted: LogParams, sender: Sender) {
    let deadline = tokio::time::sleep(state.config.timeout);
    tokio::pin!(deadline);
    let permit = tokio::select! {
        permit = state.permits.clone().acquire_owned() => permit,
        () = sender.closed() => return,
        () = &mut deadline => {
            let _ = sender.send(error_object("timed out while waiting for other queries")).await;
            return;
        }
    };
    let (cancel, logs) = (wanted.cancel.clone(), state.logs);
    let outlet = Outlet::new(sender.clone());
    let mut engine = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut text = String::new();
        let result = run_log(&*logs, &plan, &wanted, &mut |line| {
            push_line(&mut text, &line);
            if text.len() < CHUNK_BYTES {
                return ControlFlow::Continue(());
            }
            outlet.send(std::mem::take(&mut text))
        });
        // Nobody to send to any more is fine.
        if outlet.send(text).is_continue()
            && let Err(error) = result
        {
            let _ = outlet.send(error_object(ApiError::from(error).message()));
        }
    });
    let joined = tokio::select! {
        joined = &mut engine => joined,
        () = async { tokio::select! { () = sender.closed() => {}, () = &mut deadline => {} } } => {
            // The engine sends its own last word.
            cancel.cancel();
            engine.await
        }
    };
    if joined.is_err() {
        let _ = sender.send(error_object("the query engine failed")).await;
    }
}
