//! `/loki/api/v1/tail`: lines as they come, over a websocket.
//!
//! ```text
//! store's broadcast -> pump: pipeline, frames -> (bounded) -> serve: socket, pings
//! ```
//! The last lines before now come first, as fast as the client takes them. After that the pump never
//! waits: what does not fit into the queue is named in the next frame, under `dropped_entries`. The
//! subscription begins before the store is read, so nothing is missed between, and what that has shown
//! is not shown again.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use taffrail_kit::clock;
use taffrail_kit::shutdown::Shutdown;
use taffrail_model::{Labels, LogEntry, Nanos, StreamEntries, TimeRange};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::logql::ast::Expr;
use crate::logql::labels::LineLabels;
use crate::logql::log::LogLine;
use crate::logql::plan::LogPlan;
use crate::logql::{LogqlOptions, parse};
use crate::source::{Cancel, Direction, LogRow, LogScan, LogSource, SourceError};

use super::super::ApiState;
use super::super::run::run;
use super::error::ApiError;
use super::frames::Frame;
use super::params::Params;
use super::query::wants_categories;
use super::tail::{OVERLAP, Seen, place};

/// Frames that wait for a slow client, and their bytes; what comes beyond is dropped and named.
const FRAMES_MAX: usize = 256;
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Bytes of the first lines: they are held to be turned around. Older ones are left out.
const FIRST_BYTES_MAX: usize = 32 << 20;
/// Batches that wait for `delay_for`; older ones go out earlier.
const DELAYED_MAX: usize = 4096;
/// Longest `delay_for`, in seconds.
const DELAY_MAX: u64 = 5;
/// How far back the first lines may lie when nothing says so.
const SINCE: Nanos = 3600 * 1_000_000_000;
/// Between two pings; what was dropped is said at least so often.
const PING: Duration = Duration::from_secs(1);
/// Longest message of a client: it has nothing to say.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Lines between two looks at other tasks.
const LINES_AT_ONCE: usize = 512;
/// Bytes of a reason to close: what a control frame holds.
const REASON_BYTES_MAX: usize = 120;

/// What is asked.
struct Wanted {
    plan: LogPlan,
    start: Nanos,
    limit: usize,
    delay: Duration,
    categorize: bool,
}

type Batch = Arc<Vec<StreamEntries>>;

enum Out {
    /// Holds its place in the queue until it is sent.
    Frame(String, Option<OwnedSemaphorePermit>),
    Close(String),
}

/// `GET /loki/api/v1/tail?query=&start=&limit=&delay_for=`
pub(super) async fn tail(State(state): State<ApiState>, request: Request) -> Response {
    match upgrade(state, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn upgrade(state: ApiState, request: Request) -> Result<Response, Response> {
    let refused = IntoResponse::into_response;
    let (mut parts, _) = request.into_parts();
    let params = Params::of(&parts.uri).map_err(refused)?;
    let wanted = wanted(&state, &params, &parts.headers).map_err(refused)?;
    let socket = WebSocketUpgrade::from_request_parts(&mut parts, &state).await;
    // Loki's words; the reason is of use to nobody who did not mean a websocket.
    let socket = socket.map_err(|_| refused(ApiError::bad_request("Bad Request\n")))?;
    let place = place().map_err(refused)?;
    let socket = socket.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(socket.on_upgrade(async move |socket| {
        let _place = place;
        run_tail(state, wanted, socket).await;
    }))
}

/// `None`: a query that gives numbers, which Loki says over the socket.
fn wanted(
    state: &ApiState,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Option<Wanted>, ApiError> {
    let query = params.query();
    let expr = parse(query, LogqlOptions::default()).map_err(|error| ApiError::parse(&error))?;
    let now = clock::unix_nanos();
    let start = params.start(now)?.unwrap_or_else(|| now.saturating_sub(SINCE));
    let limit = params.limit(state.config.lines_max)?;
    let delay = params.get("delay_for").unwrap_or("0");
    let delay: u64 = delay.parse().map_err(|_| {
        ApiError::bad_request(format!("could not parse 'delay_for' parameter: {delay:?}"))
    })?;
    if delay > DELAY_MAX {
        return Err(ApiError::bad_request(format!("delay_for can't be greater than {DELAY_MAX}")));
    }
    let Expr::Log(log) = expr else {
        return Ok(None);
    };
    let plan = LogPlan::new(&log).map_err(|error| ApiError::parse(&error))?;
    let (delay, categorize) = (Duration::from_secs(delay), wants_categories(headers));
    Ok(Some(Wanted { plan, start, limit, delay, categorize }))
}

async fn run_tail(state: ApiState, wanted: Option<Wanted>, socket: WebSocket) {
    let (sender, receiver) = mpsc::channel(FRAMES_MAX);
    let serve = serve(socket, receiver, state.stop.clone(), state.config.timeout);
    tokio::pin!(serve);
    let queue = Queue { sender, bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) };
    let pump = async move {
        let last = match wanted {
            Some(wanted) => pump(state, wanted, &queue).await,
            None => "only log selector is supported".into(),
        };
        let _gone = queue.sender.send(Out::Close(last)).await.is_err();
    };
    tokio::select! {
        () = &mut serve => {}
        () = pump => serve.await,
    }
}

/// The pump's end of the way to the client.
struct Queue {
    sender: mpsc::Sender<Out>,
    bytes: Arc<Semaphore>,
}

impl Queue {
    /// Whether a frame can go out now. Only the pump adds frames, so it stays true.
    fn has_room(&self) -> bool {
        self.sender.capacity() > 1 && self.bytes.available_permits() > 0
    }

    /// Waits until there is room, or nobody who would make it.
    async fn room(&self) {
        let _bytes = self.bytes.acquire().await;
        let _places = self.sender.reserve_many(2).await;
    }

    /// Sends the frame if there is room and it has anything.
    fn flush(&self, frame: &mut Frame) {
        if !self.has_room() {
            return;
        }
        if let Some(text) = frame.take() {
            let bytes = text.len().min(self.bytes.available_permits());
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let held = self.bytes.clone().try_acquire_many_owned(bytes).ok();
            let _gone = self.sender.try_send(Out::Frame(text, held)).is_err();
        }
    }

    /// Adds a line, or notes that it is dropped.
    fn add(&self, frame: &mut Frame, line: &LogLine<'_>) {
        if !frame.has_lines() && !self.has_room() {
            frame.drop_line(line);
            return;
        }
        frame.add(line);
        if frame.is_full() {
            self.flush(frame);
        }
    }
}

/// Writes frames and pings until the client goes, the pump ends, or the process does.
async fn serve(
    mut socket: WebSocket,
    mut frames: mpsc::Receiver<Out>,
    stop: Option<Shutdown>,
    patience: Duration,
) {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped = async {
        match stop {
            Some(mut stop) => stop.wait().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(stopped);
    loop {
        let mut place = None;
        let message = tokio::select! {
            () = &mut stopped => closing(close_code::AWAY, "the collector ends"),
            _ = ping.tick() => Message::Ping(Vec::new().into()),
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            out = frames.recv() => match out {
                Some(Out::Frame(text, held)) => {
                    place = held;
                    Message::Text(text.into())
                }
                Some(Out::Close(reason)) => closing(close_code::ERROR, &reason),
                None => return,
            },
        };
        let last = matches!(message, Message::Close(_));
        let sent = timeout(patience, socket.send(message)).await;
        drop(place);
        if last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

fn closing(code: u16, reason: &str) -> Message {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    Message::Close(Some(CloseFrame { code, reason: reason[..end].into() }))
}

/// Reads what is there, then what comes; returns why it ends.
async fn pump(state: ApiState, wanted: Wanted, queue: &Queue) -> String {
    let mut live = state.logs.subscribe();
    let wanted = Arc::new(wanted);
    let mut frame = Frame::new(wanted.categorize);
    let (logs, asked) = (state.logs.clone(), wanted.clone());
    let history = run(&state, move |cancel| history(&*logs, &asked, cancel)).await;
    // The store must be able to end while this tail waits.
    drop(state);
    let First { seen, rows, cut } = match history.map_err(ApiError::from).and_then(|read| Ok(read?))
    {
        Ok(read) => read,
        Err(error) => return error.message().to_owned(),
    };
    let mut lines = Lines { wanted, seen, labels: LineLabels::new() };
    if let Some(ts) = cut {
        frame.drop_unseen(ts, 1);
    }
    for (labels, entry) in &rows {
        if !queue.has_room() {
            queue.room().await;
        }
        lines.push(labels, entry, false, queue, &mut frame);
    }
    queue.room().await;
    queue.flush(&mut frame);
    drop(rows);
    follow(&mut live, &mut lines, queue, &mut frame).await;
    "the store ends".into()
}

async fn follow(
    live: &mut broadcast::Receiver<Batch>,
    lines: &mut Lines,
    queue: &Queue,
    frame: &mut Frame,
) {
    let forget_at = Instant::now() + OVERLAP;
    let mut delayed: VecDeque<(Instant, Batch)> = VecDeque::new();
    let mut tick = interval(PING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due_at = delayed.front().map(|(due, _)| *due);
        let due = async {
            match due_at {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = live.recv() => match received {
                Ok(batch) => delayed.push_back((Instant::now() + lines.wanted.delay, batch)),
                Err(RecvError::Lagged(missed)) => frame.drop_unseen(clock::unix_nanos(), missed),
                Err(RecvError::Closed) => return,
            },
            () = due => {}
            _ = tick.tick() => {}
        }
        let now = Instant::now();
        if now > forget_at {
            lines.seen = Seen::default();
        }
        let over = delayed.len().saturating_sub(DELAYED_MAX);
        let ripe = delayed.partition_point(|(due, _)| *due <= now).max(over);
        let ripe: Vec<Batch> = delayed.drain(..ripe).map(|(_, batch)| batch).collect();
        lines.push_batches(&ripe, queue, frame).await;
        queue.flush(frame);
    }
}

/// Sends lines through the pipeline into frames.
struct Lines {
    wanted: Arc<Wanted>,
    seen: Seen,
    labels: LineLabels,
}

impl Lines {
    /// All lines of the batches that the query lets through, in order of time.
    async fn push_batches(&mut self, batches: &[Batch], queue: &Queue, frame: &mut Frame) {
        let matchers = &self.wanted.plan.matchers;
        let streams = batches.iter().flat_map(|batch| batch.iter());
        let mut entries: Vec<(&Labels, &LogEntry)> = streams
            .filter(|stream| matchers.iter().all(|it| it.matches_labels(&stream.labels)))
            .flat_map(|stream| stream.entries.iter().map(|entry| (&stream.labels, entry)))
            .collect();
        entries.sort_by_key(|(_, entry)| entry.ts);
        for some in entries.chunks(LINES_AT_ONCE) {
            for (labels, entry) in some {
                self.push(labels, entry, true, queue, frame);
            }
            // A big batch must not keep a worker from its other tasks.
            tokio::task::yield_now().await;
        }
    }

    fn push(
        &mut self,
        stream: &Labels,
        entry: &LogEntry,
        is_live: bool,
        queue: &Queue,
        frame: &mut Frame,
    ) {
        let plan = &self.wanted.plan;
        if is_live {
            let passes = plan.filters.iter().all(|filter| filter.passes(&entry.line));
            if !passes || self.seen.take(stream, entry.ts, &entry.line) {
                return;
            }
        }
        let metadata: Vec<(&str, &str)> =
            entry.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let row =
            LogRow { ts: entry.ts, line: &entry.line, level: entry.level, metadata: &metadata };
        if let Some(line) = plan.admit(stream, &row, &mut self.labels) {
            queue.add(frame, &LogLine { ts: row.ts, line: &line, labels: &self.labels });
        }
    }
}

/// The first lines.
struct First {
    /// All that were looked at.
    seen: Seen,
    /// The last ones that the query lets through, oldest first.
    rows: Vec<(Labels, LogEntry)>,
    /// The time before which lines are left out, when they are too long.
    cut: Option<Nanos>,
}

fn history(logs: &dyn LogSource, wanted: &Wanted, cancel: Cancel) -> Result<First, SourceError> {
    let plan = &wanted.plan;
    let scan = LogScan {
        matchers: plan.matchers.clone(),
        range: TimeRange::new(wanted.start, Nanos::MAX),
        filters: plan.filters.clone(),
        order: Some(Direction::Backward),
        limit: plan.stages.is_empty().then_some(wanted.limit),
        cancel,
    };
    let mut labels = LineLabels::new();
    let mut first = First { seen: Seen::default(), rows: Vec::new(), cut: None };
    let mut bytes = 0;
    logs.scan(&scan, &mut |stream, row| {
        if bytes > FIRST_BYTES_MAX || !first.seen.is_small() {
            first.cut = Some(row.ts);
            return ControlFlow::Break(());
        }
        first.seen.add(stream, row.ts, row.line);
        if plan.admit(stream, &row, &mut labels).is_some() {
            let metadata = row.metadata.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
            let (ts, level, line) = (row.ts, row.level, row.line.into());
            bytes += row.line.len();
            first.rows.push((stream.clone(), LogEntry { ts, line, level, metadata }));
        }
        if first.rows.len() < wanted.limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    first.rows.reverse();
    Ok(first)
}
