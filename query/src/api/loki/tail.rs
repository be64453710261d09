//! Lines as they come: newline-delimited JSON without end.
//!
//! The subscription begins before history is read, so nothing is missed; what history has shown is
//! remembered, as hashes, until it cannot come a second time. A client that is too slow is told how
//! many batches it missed: `{"lagged":3}`.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use taffrail_kit::clock;
use taffrail_model::{Labels, Nanos, StreamEntries, TimeRange};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use crate::logql::labels::LineLabels;
use crate::logql::log::LogLine;
use crate::logql::plan::LogPlan;
use crate::source::{Cancel, Direction, LogRow, LogScan, LogSource, SourceError};

use super::super::ApiState;
use super::error::ApiError;
use super::lines::{Outlet, Sender, error_object, log_plan, push_line, streamed};
use super::params::Params;

/// Tails at one time; each holds a subscription.
const TAILS_MAX: usize = 64;
/// Lines of history; each is remembered for a while.
const HISTORY_LINES_MAX: usize = 1_000_000;
/// A line that was visible to history is announced within this time, or never.
pub(super) const OVERLAP: Duration = Duration::from_secs(60);
/// Text is sent once so much of it is there.
const CHUNK_BYTES: usize = 32 << 10;

static TAILS: Semaphore = Semaphore::const_new(TAILS_MAX);

/// `GET /api/v1/logs/tail?query=&start=&since=`
pub(super) async fn tail(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let plan = Arc::new(log_plan(params.query())?);
    let start = params.start(clock::unix_nanos())?;
    let permit = place()?;
    let live = state.logs.subscribe();
    let (sender, response) = streamed(state.config.timeout);
    tokio::spawn(async move {
        let _permit = permit;
        let seen = match start {
            None => Seen::default(),
            Some(start) => match history(&state, plan.clone(), start, &sender).await {
                Ok(seen) => seen,
                Err(error) => {
                    let _ = sender.send(error_object(error.message())).await;
                    return;
                }
            },
        };
        follow(&plan, live, seen, &sender).await;
    });
    Ok(response)
}

/// A place among the tails that there may be, held for as long as one goes on.
pub(super) fn place() -> Result<SemaphorePermit<'static>, ApiError> {
    TAILS.try_acquire().map_err(|_| {
        ApiError::too_many(format!("{TAILS_MAX} tails are open already; try again later"))
    })
}

/// Lines that history has shown, each with how often.
#[derive(Default)]
pub(super) struct Seen(HashMap<u128, u32>);

impl Seen {
    fn hash(labels: &Labels, ts: Nanos, line: &str) -> u128 {
        let mut hash = Xxh3::new();
        hash.update(&labels.fingerprint().to_le_bytes());
        hash.update(&ts.to_le_bytes());
        hash.update(line.as_bytes());
        hash.digest128()
    }

    /// Whether more lines may be remembered.
    pub(super) fn is_small(&self) -> bool {
        self.0.len() < HISTORY_LINES_MAX
    }

    pub(super) fn add(&mut self, labels: &Labels, ts: Nanos, line: &str) {
        *self.0.entry(Self::hash(labels, ts, line)).or_default() += 1;
    }

    /// Whether the line was shown; it is taken out once.
    pub(super) fn take(&mut self, labels: &Labels, ts: Nanos, line: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        match self.0.get_mut(&Self::hash(labels, ts, line)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

/// Sends what is in the store from `start` on; stops when the client goes.
async fn history(
    state: &ApiState,
    plan: Arc<LogPlan>,
    start: Nanos,
    sender: &Sender,
) -> Result<Seen, ApiError> {
    let Ok(permit) = state.permits.clone().acquire_owned().await else {
        return Ok(Seen::default());
    };
    let cancel = Cancel::new();
    let (logs, stop) = (state.logs.clone(), cancel.clone());
    let outlet = Outlet::new(sender.clone());
    let mut engine = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        read_history(&*logs, &plan, start, stop, &outlet)
    });
    let joined = tokio::select! {
        joined = &mut engine => joined,
        () = sender.closed() => {
            cancel.cancel();
            engine.await
        }
    };
    let seen =
        joined.map_err(|error| ApiError::bad_request(format!("history failed: {error}")))??;
    Ok(seen)
}

fn read_history(
    logs: &dyn LogSource,
    plan: &LogPlan,
    start: Nanos,
    cancel: Cancel,
    outlet: &Outlet,
) -> Result<Seen, SourceError> {
    let scan = LogScan {
        matchers: plan.matchers.clone(),
        range: TimeRange::new(start, Nanos::MAX),
        filters: plan.filters.clone(),
        order: Some(Direction::Forward),
        limit: None,
        cancel,
    };
    let mut seen = Seen::default();
    let mut labels = LineLabels::new();
    let mut text = String::new();
    let mut lines = 0;
    let mut taken = ControlFlow::Continue(());
    logs.scan(&scan, &mut |stream, row| {
        lines += 1;
        if lines > HISTORY_LINES_MAX {
            return ControlFlow::Break(());
        }
        seen.add(stream, row.ts, row.line);
        if let Some(line) = plan.admit(stream, &row, &mut labels) {
            push_line(&mut text, &LogLine { ts: row.ts, line: &line, labels: &labels });
        }
        if text.len() < CHUNK_BYTES {
            return ControlFlow::Continue(());
        }
        taken = outlet.send(std::mem::take(&mut text));
        taken
    })?;
    if taken.is_break() {
        // Live lines after half a history would look like all of it.
        return Err(SourceError::Cancelled("the client took nothing for too long".into()));
    }
    if lines > HISTORY_LINES_MAX {
        return Err(SourceError::TooMuch(format!(
            "history has more than {HISTORY_LINES_MAX} lines; tail from a later start"
        )));
    }
    match outlet.send(text) {
        ControlFlow::Continue(()) => Ok(seen),
        ControlFlow::Break(()) => {
            Err(SourceError::Cancelled("the client took nothing for too long".into()))
        }
    }
}

async fn follow(
    plan: &LogPlan,
    mut live: broadcast::Receiver<Arc<Vec<StreamEntries>>>,
    mut seen: Seen,
    sender: &Sender,
) {
    let forget_at = Instant::now() + OVERLAP;
    let mut labels = LineLabels::new();
    loop {
        let received = tokio::select! {
            received = live.recv() => received,
            () = sender.closed() => return,
        };
        if Instant::now() > forget_at {
            seen = Seen::default();
        }
        let text = match received {
            Ok(batch) => {
                let mut text = String::new();
                for stream in batch.iter() {
                    // A big batch must not keep a worker from its other tasks.
                    tokio::task::yield_now().await;
                    push_stream(&mut text, plan, stream, &mut seen, &mut labels);
                    if text.len() >= CHUNK_BYTES
                        && sender.send(std::mem::take(&mut text)).await.is_break()
                    {
                        return;
                    }
                }
                text
            }
            Err(RecvError::Lagged(missed)) => format!("{{\"lagged\":{missed}}}\n"),
            Err(RecvError::Closed) => return,
        };
        if sender.send(text).await.is_break() {
            return;
        }
    }
}

/// Appends the lines of a stream that the query lets through and history has not shown.
fn push_stream(
    text: &mut String,
    plan: &LogPlan,
    stream: &StreamEntries,
    seen: &mut Seen,
    labels: &mut LineLabels,
) {
    if !plan.matchers.iter().all(|matcher| matcher.matches_labels(&stream.labels)) {
        return;
    }
    for entry in &stream.entries {
        let passes = plan.filters.iter().all(|filter| filter.passes(&entry.line));
        if !passes || seen.take(&stream.labels, entry.ts, &entry.line) {
            continue;
        }
        let metadata: Vec<(&str, &str)> =
            entry.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let row =
            LogRow { ts: entry.ts, line: &entry.line, level: entry.level, metadata: &metadata };
        if let Some(line) = plan.admit(&stream.labels, &row, labels) {
            push_line(text, &LogLine { ts: row.ts, line: &line, labels });
        }
    }
}
