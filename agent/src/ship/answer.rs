//! What the collector's answers mean, and how long to wait after a failure.
//!
//! Pure, but for the random part of a pause.

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use taffrail_kit::clock;
use taffrail_kit::http::Response;
use taffrail_model::record::Position;

use crate::refusal;

/// First pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two attempts. Short, because the kubelet goes on removing rotated logs while
/// a collector that is back waits to be noticed.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Longest pause that a collector may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How much of a refusal's text is logged.
const REASON_CHARS_MAX: usize = 300;

/// What came of one request, when it is not to be repeated.
pub(super) enum Answer {
    Accepted,
    Conflict(Vec<Position>),
    /// The content is refused, with this status and text.
    Refused(StatusCode, String),
}

/// Why a request is to be repeated.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) text: String,
    pub(super) wait: Option<Duration>,
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

impl Failure {
    pub(super) fn new(reason: &'static str, text: &str) -> Self {
        Self { reason, text: shorten(text), wait: None }
    }

    pub(super) fn of(answer: &Response) -> Self {
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

/// What an answer means for the request.
pub(super) fn judge(answer: &Response) -> Result<Answer, Failure> {
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

/// The positions in the body of an answer.
pub(super) fn parse_positions(body: &[u8]) -> Option<Vec<Position>> {
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
pub(super) fn pause(attempt: u32) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << attempt.min(12)).min(PAUSE_MAX);
    let random = xxhash_rust::xxh3::xxh3_64(&clock::unix_nanos().to_le_bytes());
    whole.mul_f64(0.5 + (random % 1024) as f64 / 2048.0)
}

fn shorten(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}

/// A byte in a query string.
pub(super) fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}
