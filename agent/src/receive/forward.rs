//! One request: who sent it is written into it, the collector gets it, and its answer goes back.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use prost::Message;
use taffrail_kit::http::Response;

use super::Shared;
use super::origin::Address;
use super::signal::{Export, Partial};
use crate::refusal;

/// Shorter requests are not worth compressing, in bytes.
const COMPRESS_FROM: usize = 1024;
/// Level of zstd.
const ZSTD_LEVEL: i32 = 1;
/// How much of a refusal's text goes back.
const REASON_CHARS_MAX: usize = 1000;
/// When to come again if the collector cannot be reached, in seconds.
const AWAY_RETRY_AFTER: &str = "5";

/// What a sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The collector has it, but for what it says.
    Taken(Option<Partial>),
    /// It has not.
    Refused(Refusal),
}

/// Why nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    /// As in the header of this name.
    pub(super) retry_after: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None }
    }

    /// Seconds after which to come again, if that was said as a number.
    pub(super) fn seconds(&self) -> Option<u32> {
        self.retry_after.as_deref()?.trim().parse().ok()
    }
}

impl Shared {
    /// Forwards what came from `peer`.
    pub(super) async fn forward<E: Export>(self: &Arc<Self>, peer: IpAddr, request: E) -> Answer {
        let answer = self.pass_on(peer, request).await;
        let (status, bytes) = match &answer {
            (Answer::Taken(_), bytes) => (StatusCode::OK, *bytes),
            (Answer::Refused(refusal), _) => (refusal.status, 0),
        };
        self.metrics.answered(E::SIGNAL, status.as_u16(), bytes);
        answer.0
    }

    async fn pass_on<E: Export>(self: &Arc<Self>, peer: IpAddr, mut request: E) -> (Answer, usize) {
        let address = self.origins.address(peer).await;
        if matches!(address, Address::Stranger) {
            self.metrics.strangers.inc();
        }
        let shared = self.clone();
        // Some milliseconds of work for a large request: not on a worker.
        let prepared = tokio::task::spawn_blocking(move || {
            shared.origins.write(&address, &mut request);
            request.redact(&shared.meaning);
            pack(request.encode_to_vec())
        });
        let Ok((body, encoding, bytes)) = prepared.await else {
            let text = "the agent is stopping";
            return (Answer::Refused(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)), 0);
        };
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
        let answer = match self.client.post(E::PATH, &headers, body).await {
            Ok(answer) => of_collector::<E>(&answer),
            Err(error) => Answer::Refused(Refusal {
                retry_after: Some(AWAY_RETRY_AFTER.into()),
                ..Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("the collector cannot be reached: {error}"),
                )
            }),
        };
        (answer, bytes)
    }
}

/// The body as it is sent, its encoding, and its length before.
fn pack(plain: Vec<u8>) -> (Bytes, &'static str, usize) {
    let bytes = plain.len();
    if bytes >= COMPRESS_FROM
        && let Ok(packed) = zstd::bulk::compress(&plain, ZSTD_LEVEL)
    {
        return (packed.into(), "zstd", bytes);
    }
    (plain.into(), "identity", bytes)
}

fn of_collector<E: Export>(answer: &Response) -> Answer {
    let status = answer.status;
    if !status.is_success() {
        let text = refusal::text(answer, REASON_CHARS_MAX);
        // Redirects and the like are between us and the collector.
        let known = status.is_client_error() || status.is_server_error();
        return Answer::Refused(Refusal {
            status: if known { status } else { StatusCode::BAD_GATEWAY },
            text,
            retry_after: answer.header("retry-after").map(str::to_owned),
        });
    }
    match E::Response::decode(&*answer.body) {
        Ok(response) => Answer::Taken(E::partial(response)),
        // It was taken; what else it had to say is not known.
        Err(_) => Answer::Taken(None),
    }
}
