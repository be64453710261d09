//! Batches of the journal to the collector: one at a time, each until there is a final answer.

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use prost::Message;
use serde::Deserialize;
use taffrail_kit::clock;
use taffrail_kit::http::{Client, Response};
use taffrail_kit::shutdown::Shutdown;
use taffrail_model::record::Position;
use taffrail_model::wire;

use super::batch::{Batch, is_id, source};
use crate::enrich::Place;
use crate::refusal;

/// First pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Level of zstd.
const ZSTD_LEVEL: i32 = 1;
/// How much of a refusal's text is logged.
const REASON_CHARS_MAX: usize = 300;

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the store, but for lines that were refused for good.
    Delivered { entries: u64, dropped: u64 },
    /// The collector has less than was thought: read again from what it has.
    Elsewhere,
    /// The agent ends before there was an answer.
    Stopped,
}

#[derive(Deserialize)]
struct Positions {
    positions: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    source: String,
    committed: u64,
    #[serde(default)]
    check: u64,
}

/// One answer.
enum Answer {
    Taken,
    At(u64),
    Refused,
    Stopped,
}

pub(super) struct Sender {
    client: Client,
    place: Place,
}

impl Sender {
    pub(super) fn new(client: Client, place: Place) -> Self {
        Self { client, place }
    }

    /// How far each of this node's journals is in the store, by its id. Asks until there is an
    /// answer; `None` at the end.
    pub(super) async fn positions(
        &self,
        shutdown: &mut Shutdown,
    ) -> Option<HashMap<String, Position>> {
        let prefix = source(&self.place.node, "");
        let escaped: String = prefix.bytes().map(escape).collect();
        let path = format!("{}?prefix={escaped}", wire::POSITIONS_PATH);
        let mut attempt = 0;
        loop {
            let failure = match self.client.get(&path, &[]).await {
                // A receiver of plain OTLP keeps no positions.
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => return Some(HashMap::new()),
                Ok(answer) if answer.status.is_success() => {
                    match serde_json::from_slice::<Positions>(&answer.body) {
                        Ok(told) => return Some(by_id(told, &prefix)),
                        Err(error) => error.to_string(),
                    }
                }
                Ok(answer) => describe(&answer),
                Err(error) => error.to_string(),
            };
            self.wait(&failure, attempt, shutdown).await?;
            attempt += 1;
        }
    }

    /// Delivers a batch, divided where the collector refuses it as it is.
    pub(super) async fn deliver(&self, batch: Batch, shutdown: &mut Shutdown) -> Outcome {
        let mut parts = vec![batch];
        let (mut entries, mut dropped) = (0, 0);
        while let Some(part) = parts.pop() {
            match self.post(&part, shutdown).await {
                Answer::Taken => entries += part.entries.len() as u64,
                Answer::Stopped => return Outcome::Stopped,
                Answer::At(committed) if committed >= part.end => {}
                Answer::At(committed) if committed > part.begin => {
                    parts.push(part.after(committed));
                }
                Answer::At(_) => return Outcome::Elsewhere,
                Answer::Refused => match part.divide() {
                    Some((first, second)) => parts.extend([second, first]),
                    None => {
                        dropped += part.entries.len() as u64;
                        let (entries, gaps) = (Vec::new(), Vec::new());
                        parts.push(Batch { entries, gaps, ..part });
                    }
                },
            }
        }
        Outcome::Delivered { entries, dropped }
    }

    async fn post(&self, batch: &Batch, shutdown: &mut Shutdown) -> Answer {
        let plain = batch.encode(&self.place, clock::unix_nanos()).encode_to_vec();
        let (body, encoding) = match zstd::bulk::compress(&plain, ZSTD_LEVEL) {
            Ok(packed) => (packed, "zstd"),
            Err(_) => (plain, "identity"),
        };
        let body = bytes::Bytes::from(body);
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
        // A batch without lines cannot be refused for its content.
        let hollow = batch.entries.is_empty() && batch.gaps.is_empty();
        let mut attempt = 0;
        loop {
            let failure = match self.client.post("/v1/logs", &headers, body.clone()).await {
                Ok(answer) if answer.status.is_success() => return Answer::Taken,
                Ok(answer) if answer.status == StatusCode::CONFLICT => {
                    match serde_json::from_slice::<Positions>(&answer.body) {
                        Ok(told) => {
                            let own = source(&self.place.node, &batch.id);
                            let own = told.positions.iter().find(|p| p.source == own);
                            return Answer::At(own.map_or(0, |p| p.committed));
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Ok(answer) if !hollow && is_refusal(answer.status) => {
                    tracing::warn!(text = describe(&answer), "journal entries are refused");
                    return Answer::Refused;
                }
                Ok(answer) => describe(&answer),
                Err(error) => error.to_string(),
            };
            if self.wait(&failure, attempt, shutdown).await.is_none() {
                return Answer::Stopped;
            }
            attempt += 1;
        }
    }

    /// `None` at the end.
    async fn wait(&self, failure: &str, attempt: u32, shutdown: &mut Shutdown) -> Option<()> {
        let wait = PAUSE_MIN.saturating_mul(1 << attempt.min(10)).min(PAUSE_MAX);
        if attempt == 0 || attempt.is_power_of_two() {
            tracing::warn!(
                failure,
                attempt,
                ?wait,
                "collector does not take the journal, trying again"
            );
        }
        tokio::select! {
            () = shutdown.wait() => None,
            () = tokio::time::sleep(wait) => Some(()),
        }
    }
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

fn by_id(told: Positions, prefix: &str) -> HashMap<String, Position> {
    let mut positions = HashMap::new();
    for Told { source, committed, check } in told.positions {
        if let Some(id) = source.strip_prefix(prefix).filter(|id| is_id(id)) {
            positions.insert(id.to_owned(), Position { source: source.clone(), committed, check });
        }
    }
    positions
}

fn describe(answer: &Response) -> String {
    format!("{} {}", answer.status, refusal::text(answer, REASON_CHARS_MAX))
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
