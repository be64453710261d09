//! Our own form of log queries: newline-delimited JSON, sent while the store is read.
//!
//! One line of text is one object:
//! `{"ts":"<ns>","labels":{…},"line":"…","level":"…","metadata":{…}}`; labels that stages have made
//! are among `labels`. When the query fails after its first line, the last object is
//! `{"error":"…"}`.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use taffrail_kit::clock;
use taffrail_model::Level;
use tokio::sync::mpsc;
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

/// A response whose body comes from a channel.
pub(super) fn streamed() -> (mpsc::Sender<Bytes>, Response) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let body =
        Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, std::convert::Infallible>));
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    (sender, (headers, body).into_response())
}

/// The plan of a log query in which the selector may be left out.
pub(super) fn log_plan(query: &str) -> Result<LogPlan, ApiError> {
    let options = LogqlOptions { allow_empty_selector: true };
    match parse(query, options).map_err(|error| ApiError::parse(&error, query))? {
        Expr::Log(log) => LogPlan::new(&log).map_err(|error| ApiError::parse(&error, query)),
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
    push_text(out, line.labels.get(LEVEL_LABEL).unwrap_or(Level::Unknown.name()));
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
    let (sender, response) = streamed();
    tokio::spawn(drive(state, plan, wanted, sender));
    Ok(response)
}

/// Runs the query on a blocking thread; stops it when its time is over or its client gone.
async fn drive(state: ApiState, plan: LogPlan, wanted: LogParams, sender: mpsc::Sender<Bytes>) {
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
    let (cancel, logs, chunks) = (wanted.cancel.clone(), state.logs, sender.clone());
    let mut engine = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut text = String::new();
        let result = run_log(&*logs, &plan, &wanted, &mut |line| {
            push_line(&mut text, &line);
            if text.len() < CHUNK_BYTES {
                return ControlFlow::Continue(());
            }
            match chunks.blocking_send(std::mem::take(&mut text).into()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        // Nobody to send to any more is fine.
        let _ = chunks.blocking_send(text.into());
        if let Err(error) = result {
            let _ = chunks.blocking_send(error_object(ApiError::from(error).message()));
        }
    });
    tokio::select! {
        _ = &mut engine => return,
        () = sender.closed() => {}
        () = &mut deadline => {}
    }
    cancel.cancel();
    // The engine sends its own last word; the channel closes when it is done.
}
