//! Attempts, and what follows from their outcomes.

use std::time::Duration;

use http::StatusCode;
use taffrail_kit::clock;
use taffrail_kit::http::Client;
use taffrail_model::record::Position;
use taffrail_model::wire;

use super::answer::{Answer, Failure, escape, judge, parse_positions, pause};
use super::{Current, Origin, Outcome, Part, Request, Shipper};
use crate::batch::{Batch, Loss};
use crate::tail::reader::Event;

/// Where OTLP logs are posted.
const LOGS_PATH: &str = "/v1/logs";

/// Asks once what is committed of this node's files.
pub(super) async fn ask(client: Client, node: String) -> Outcome {
    let prefix: String = format!("{node}/").bytes().map(escape).collect();
    let path = format!("{}?prefix={prefix}", wire::POSITIONS_PATH);
    Outcome::Positions(match client.get(&path, &[]).await {
        Ok(answer) if answer.status.is_success() => parse_positions(&answer.body)
            .ok_or_else(|| Failure::new("answer", "the positions cannot be read")),
        // A receiver of plain OTLP knows nothing of positions.
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
            tracing::warn!("the receiver keeps no positions: delivery is at least once");
            Ok(Vec::new())
        }
        Ok(answer) => Err(Failure::of(&answer)),
        Err(error) => Err(Failure::new("connection", &error.to_string())),
    })
}

/// Sends a request once. A request without lines cannot be refused for its content: then something
/// else is wrong, and it is to be repeated.
pub(super) async fn post(client: Client, request: Request, hollow: bool) -> Outcome {
    let encoding = if request.zstd { "zstd" } else { "identity" };
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
    Outcome::Sent(match client.post(LOGS_PATH, &headers, request.body).await {
        Ok(answer) => match judge(&answer) {
            Ok(Answer::Refused(_, text)) if hollow => Err(Failure::new("refused", &text)),
            judged => judged,
        },
        Err(error) => Err(Failure::new("connection", &error.to_string())),
    })
}

impl Shipper {
    /// Acts on an outcome; returns how long to wait before the next attempt.
    pub(super) async fn settle(&mut self, outcome: Outcome) -> Duration {
        let answer = match outcome {
            Outcome::Positions(Err(failure)) | Outcome::Sent(Err(failure)) => {
                return self.failed(&failure).await;
            }
            Outcome::Positions(Ok(positions)) => {
                self.answered();
                self.connect(positions);
                return Duration::ZERO;
            }
            Outcome::Sent(Ok(answer)) => answer,
        };
        self.answered();
        let Some(mut current) = self.current.take() else { return Duration::ZERO };
        let Some(part) = current.parts.pop() else { return Duration::ZERO };
        let mut wait = Duration::ZERO;
        match answer {
            Answer::Accepted => {
                self.conflicts = 0;
                self.metrics.batches.with_label_values(&["accepted"]).inc();
                self.metrics.wire_bytes.inc_by(part.request.body.len() as u64);
                self.metrics.lines.inc_by(part.batch.lines() as u64);
                current.ends.extend(ends(&part.batch));
                if current.origin == Origin::Reader && (self.away || self.ending.is_some()) {
                    let spans = part.batch.spans().iter();
                    let ends = spans.map(|s| (s.source.clone(), (s.end, s.check))).collect();
                    self.with_spool(move |spool| spool.raise(ends)).await;
                }
            }
            Answer::Refused(status, text) => {
                self.metrics.batches.with_label_values(&["refused"]).inc();
                self.divide(part.batch, status, &text, &mut current.parts);
            }
            Answer::Conflict(positions) => {
                self.metrics.batches.with_label_values(&["conflict"]).inc();
                // Once is normal after a crash; again and again means that both sides disagree.
                wait = if self.conflicts > 0 { pause(self.conflicts) } else { Duration::ZERO };
                self.conflicts = self.conflicts.saturating_add(1);
                match current.origin {
                    Origin::Reader => {
                        self.tell(Event::Acknowledged(current.ends));
                        self.go_back(positions);
                        return wait;
                    }
                    Origin::Spool(_) => current.parts.extend(self.cut(part, &positions)),
                }
            }
        }
        if current.parts.is_empty() {
            self.dealt_with(current).await;
        } else {
            self.current = Some(current);
        }
        wait
    }

    /// A batch has been dealt with, all its parts.
    async fn dealt_with(&mut self, current: Current) {
        match current.origin {
            // Told at once for all parts: the channel to the reader is short.
            Origin::Reader => self.tell(Event::Acknowledged(current.ends)),
            Origin::Spool(seq) => {
                self.with_spool(move |spool| spool.delivered(seq)).await;
                if !self.held.is_empty() && self.spool.as_ref().is_some_and(|s| !s.is_empty()) {
                    // It was full: now there is room.
                    self.keep().await;
                }
            }
        }
    }

    fn answered(&mut self) {
        self.waiting_since = None;
        self.failures = 0;
    }

    async fn failed(&mut self, failure: &Failure) -> Duration {
        self.metrics.retries.with_label_values(&[failure.reason]).inc();
        let wait = failure.wait.unwrap_or_else(|| pause(self.failures));
        let attempt = self.failures;
        self.failures = attempt.saturating_add(1);
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
        if self.ending.is_some() && !self.away {
            self.go_away().await;
        } else if self.away {
            // The spool may have room again.
            self.keep().await;
        }
        wait
    }

    /// Tells the reader to go back; what it has handed over is void.
    fn go_back(&mut self, positions: Vec<Position>) {
        let first = positions.first().map(|p| p.source.clone()).unwrap_or_default();
        tracing::info!(files = positions.len(), first, "collector is elsewhere, going there");
        self.epoch += 1;
        self.tell(Event::Conflict(positions));
    }

    /// What is left of a batch of the spool for a collector that stands elsewhere.
    fn cut(&self, part: Part, positions: &[Position]) -> Option<Part> {
        let lines = part.batch.lines();
        let rest = part.batch.after(positions, clock::unix_nanos());
        let left = rest.batch.as_ref().map_or(0, Batch::lines);
        tracing::info!(lines, left, lost = rest.lost, "collector has a part of a spooled batch");
        self.tail_metrics.lost(Loss::Spool, rest.lost);
        rest.batch.map(Part::plain)
    }

    /// Halves a refused batch, or leaves the guilty lines out when it cannot be halved.
    fn divide(&self, batch: Batch, status: StatusCode, text: &str, parts: &mut Vec<Part>) {
        match batch.split() {
            Ok((first, second)) => parts.extend([second, first].map(Part::plain)),
            Err(batch) => {
                let span = batch.spans().first();
                let path = span.map(|s| s.path.to_string()).unwrap_or_default();
                let range = span.map(|s| s.begin..s.end);
                let lines = batch.lines();
                tracing::warn!(%status, text, path, ?range, lines, "lines are refused and left out");
                let reason =
                    if status == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { "refused" };
                self.metrics.dropped_lines.with_label_values(&[reason]).inc_by(lines as u64);
                parts.push(Part::plain(batch.hollow()));
            }
        }
    }
}

/// Up to where a batch takes its files.
pub(super) fn ends(batch: &Batch) -> impl Iterator<Item = (crate::tail::FileNumber, u64)> {
    batch.spans().iter().map(|s| (s.file, s.end))
}
