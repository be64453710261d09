//! Sends batches to the collector, oldest first, one at a time, until each is acknowledged.
//!
//! Invariants:
//! - A batch leaves here only as acknowledged, or void after a conflict. Failures of the network and
//!   of the collector are retried for ever, with growing pauses.
//! - A batch that the collector refuses for its content is split until the guilty group of lines is
//!   alone; that is counted, logged and left out, and its range is moved over.
//! - After a conflict nothing of an earlier epoch is sent: the reader goes back to what is committed.
//!
//! `tail::reader` fills the channel and is told what came of it.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use serde::Deserialize;
use taffrail_kit::clock;
use taffrail_kit::http::{Client, Response};
use taffrail_model::record::Position;
use taffrail_model::wire;
use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::refusal;
use crate::tail::reader::Event;

/// Where OTLP logs are posted.
const LOGS_PATH: &str = "/v1/logs";
/// First pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two attempts. Short, because the kubelet goes on removing rotated logs while
/// a collector that is back waits to be noticed.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Longest pause that a collector may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How much of a refusal's text is logged.
const REASON_CHARS_MAX: usize = 300;

/// A batch on its way.
#[derive(Debug)]
pub struct Outgoing {
    /// Counts the conflicts before it.
    pub epoch: u64,
    /// What is in it.
    pub batch: Batch,
    /// The request.
    pub body: Bytes,
    /// Whether the body is compressed.
    pub zstd: bool,
}

/// Counters of the shipper: `taffrail_ship_…`.
#[derive(Clone, Debug)]
pub struct Metrics {
    batches: IntCounterVec,
    retries: IntCounterVec,
    wire_bytes: IntCounter,
    lines: IntCounter,
    dropped_lines: IntCounterVec,
}

impl Metrics {
    /// Makes them known to a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let by = |name: &str, help: &str, label: &str| {
            let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let one = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            batches: by(
                "taffrail_ship_batches_total",
                "Batches sent, by what came of them.",
                "outcome",
            )?,
            retries: by(
                "taffrail_ship_retries_total",
                "Attempts that failed and were repeated.",
                "reason",
            )?,
            wire_bytes: one("taffrail_ship_wire_bytes_total", "Bytes of acknowledged requests.")?,
            lines: one("taffrail_ship_lines_total", "Lines acknowledged.")?,
            dropped_lines: by(
                "taffrail_ship_dropped_lines_total",
                "Lines left out for good.",
                "reason",
            )?,
        })
    }
}

/// Sends batches.
#[derive(Debug)]
pub struct Shipper {
    client: Client,
    node: String,
    reader: SyncSender<Event>,
    metrics: Metrics,
    /// Batches of earlier epochs are void.
    epoch: u64,
    /// Conflicts since the last acknowledgement.
    conflicts: u32,
}

/// What came of one request, when it is not to be repeated.
enum Answer {
    Accepted,
    Conflict(Vec<Position>),
    /// The content is refused, with this status and text.
    Refused(StatusCode, String),
}

/// Why a request is to be repeated.
struct Failure {
    reason: &'static str,
    text: String,
    wait: Option<Duration>,
}

#[derive(Deserialize)]
struct PositionsAnswer {
    positions: Vec<PositionAnswer>,
}

#[derive(Deserialize)]
struct PositionAnswer {
    source: String,
    committed: u64,
    #[serde(default)]
    check: u64,
}

impl Shipper {
    /// A shipper that tells `reader` what comes of its batches.
    #[must_use]
    pub fn new(client: Client, node: String, reader: SyncSender<Event>, metrics: Metrics) -> Self {
        Self { client, node, reader, metrics, epoch: 0, conflicts: 0 }
    }

    /// Asks for the committed positions, then sends what comes until the channel is closed and
    /// empty.
    pub async fn run(mut self, mut batches: mpsc::Receiver<Outgoing>) {
        let positions = self.positions().await;
        self.tell(Event::Positions(positions));
        while let Some(outgoing) = batches.recv().await {
            if outgoing.epoch < self.epoch {
                self.metrics.batches.with_label_values(&["void"]).inc();
                continue;
            }
            self.send(outgoing).await;
        }
    }

    /// What is committed of this node's files. Asks until there is an answer.
    async fn positions(&self) -> Vec<Position> {
        let prefix: String = format!("{}/", self.node).bytes().map(escape).collect();
        let path = format!("{}?prefix={prefix}", wire::POSITIONS_PATH);
        let mut attempt = 0;
        loop {
            let failure = match self.client.get(&path, &[]).await {
                Ok(answer) if answer.status.is_success() => match parse_positions(&answer.body) {
                    Some(positions) => return positions,
                    None => Failure::new("answer", "the positions cannot be read"),
                },
                // A receiver of plain OTLP knows nothing of positions.
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
                    tracing::warn!("the receiver keeps no positions: delivery is at least once");
                    return Vec::new();
                }
                Ok(answer) => Failure::of(&answer),
                Err(error) => Failure::new("connection", &error.to_string()),
            };
            self.wait(&failure, attempt).await;
            attempt += 1;
        }
    }

    async fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { epoch, batch, body, zstd } = outgoing;
        let mut parts = vec![(batch, body, zstd)];
        // Told at once for all parts: the channel to the reader is short.
        let mut ends = Vec::new();
        while let Some((batch, body, zstd)) = parts.pop() {
            let size = body.len() as u64;
            match self.deliver(body, zstd, batch.lines() == 0).await {
                Answer::Accepted => {
                    self.conflicts = 0;
                    self.metrics.batches.with_label_values(&["accepted"]).inc();
                    self.metrics.wire_bytes.inc_by(size);
                    self.metrics.lines.inc_by(batch.lines() as u64);
                    ends.extend(batch.spans().iter().map(|s| (s.file, s.end)));
                }
                Answer::Conflict(positions) => {
                    self.metrics.batches.with_label_values(&["conflict"]).inc();
                    self.tell(Event::Acknowledged(ends));
                    self.conflict(epoch, positions).await;
                    return;
                }
                Answer::Refused(status, text) => {
                    self.metrics.batches.with_label_values(&["refused"]).inc();
                    self.divide(batch, status, &text, &mut parts);
                }
            }
        }
        self.tell(Event::Acknowledged(ends));
    }

    /// Sends one request until there is an answer that is final. A request without lines cannot be
    /// refused for its content: then something else is wrong, and it is repeated.
    async fn deliver(&self, body: Bytes, zstd: bool, hollow: bool) -> Answer {
        let encoding = if zstd { "zstd" } else { "identity" };
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
        let mut attempt = 0;
        loop {
            let failure = match self.client.post(LOGS_PATH, &headers, body.clone()).await {
                Ok(answer) => match judge(&answer) {
                    Ok(Answer::Refused(_, text)) if hollow => Failure::new("refused", &text),
                    Ok(answer) => return answer,
                    Err(failure) => failure,
                },
                Err(error) => Failure::new("connection", &error.to_string()),
            };
            self.wait(&failure, attempt).await;
            attempt += 1;
        }
    }

    async fn conflict(&mut self, epoch: u64, positions: Vec<Position>) {
        let first = positions.first().map(|p| p.source.clone()).unwrap_or_default();
        tracing::info!(files = positions.len(), first, "collector is elsewhere, going there");
        self.epoch = epoch + 1;
        self.tell(Event::Conflict(positions));
        // Once is normal after a crash; again and again means that both sides disagree.
        if self.conflicts > 0 {
            tokio::time::sleep(pause(self.conflicts)).await;
        }
        self.conflicts = self.conflicts.saturating_add(1);
    }

    /// Halves a refused batch, or leaves the guilty lines out when it cannot be halved.
    fn divide(
        &self,
        batch: Batch,
        status: StatusCode,
        text: &str,
        parts: &mut Vec<(Batch, Bytes, bool)>,
    ) {
        match batch.split() {
            Ok((first, second)) => {
                for part in [second, first] {
                    let body = part.encode().into();
                    parts.push((part, body, false));
                }
            }
            Err(batch) => {
                let span = batch.spans().first();
                let path = span.map(|s| s.path.to_string()).unwrap_or_default();
                let range = span.map(|s| s.begin..s.end);
                let lines = batch.lines();
                tracing::warn!(%status, text, path, ?range, lines, "lines are refused and left out");
                let reason =
                    if status == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { "refused" };
                self.metrics.dropped_lines.with_label_values(&[reason]).inc_by(lines as u64);
                let hollow = batch.hollow();
                let body = hollow.encode().into();
                parts.push((hollow, body, false));
            }
        }
    }

    async fn wait(&self, failure: &Failure, attempt: u32) {
        self.metrics.retries.with_label_values(&[failure.reason]).inc();
        let wait = failure.wait.unwrap_or_else(|| pause(attempt));
        // Each failure once at first, then ever more rarely.
        if attempt.is_power_of_two() || attempt == 0 {
            let (reason, text) = (failure.reason, &failure.text);
            tracing::warn!(
                reason,
                text,
                attempt,
                ?wait,
                "collector does not take it, trying again"
            );
        }
        tokio::time::sleep(wait).await;
    }

    /// The channel has room for all answers that can be under way; an error means that the reader
    /// has ended.
    fn tell(&self, event: Event) {
        let _ended = self.reader.try_send(event).is_err();
    }
}

impl Failure {
    fn new(reason: &'static str, text: &str) -> Self {
        Self { reason, text: shorten(text), wait: None }
    }

    fn of(answer: &Response) -> Self {
        let reason = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => "busy",
            s if s.is_server_error() => "server",
            _ => "status",
        };
        let wait = answer.header("retry-after").and_then(|v| v.trim().parse().ok());
        let wait = wait.map(|s| Duration::from_secs(s).clamp(PAUSE_MIN, RETRY_AFTER_MAX));
        let said = refusal::text(answer, REASON_CHARS_MAX);
        Self { reason, text: shorten(&format!("{} {said}", answer.status)), wait }
    }
}

fn judge(answer: &Response) -> Result<Answer, Failure> {
    match answer.status {
        s if s.is_success() => Ok(Answer::Accepted),
        StatusCode::CONFLICT => parse_positions(&answer.body)
            .map(Answer::Conflict)
            .ok_or_else(|| Failure::new("answer", "the positions of a conflict cannot be read")),
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => {
            Ok(Answer::Refused(answer.status, refusal::text(answer, REASON_CHARS_MAX)))
        }
        _ => Err(Failure::of(answer)),
    }
}

fn parse_positions(body: &[u8]) -> Option<Vec<Position>> {
    let answer: PositionsAnswer = serde_json::from_slice(body).ok()?;
    // Should a source come twice, the farther position is the later one.
    let mut by_source: HashMap<String, Position> = HashMap::new();
    for PositionAnswer { source, committed, check } in answer.positions {
        let position = Position { source: source.clone(), committed, check };
        let known = by_source.entry(source).or_insert_with(|| position.clone());
        if known.committed < committed {
            *known = position;
        }
    }
    Some(by_source.into_values().collect())
}

/// The pause after the attempt of that number: doubling, and a random part so that the agents of a
/// cluster do not come back all at once.
fn pause(attempt: u32) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << attempt.min(12)).min(PAUSE_MAX);
    let random = xxhash_rust::xxh3::xxh3_64(&clock::unix_nanos().to_le_bytes());
    whole.mul_f64(0.5 + (random % 1024) as f64 / 2048.0)
}

fn shorten(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}

/// A byte in a query string.
fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
