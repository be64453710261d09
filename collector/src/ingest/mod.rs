//! Protocols in: one protocol a file, all of them through [`Doors::take`].
//!
//! ```text
//! otlp_http, otlp_grpc, loki_http     read a request within the limits of `admission`
//!        └─> take ─> decode (body, otlp_logs, otlp_metrics, loki_push; pure)
//!                └─> intake: ranges checked, WAL appended, store changed (in one order)
//!                        └─> durable on disk ─> acknowledged
//! ```
//!
//! What must always hold: a request that is refused has changed nothing; one that is acknowledged
//! survives a power cut; what is stored is a function of the frame in the write-ahead log and of
//! what was stored before, so that replay stores the same.

pub mod admission;
pub mod any_value;
pub mod batch;
pub mod body;
pub mod counters;
pub mod decode;
pub mod intake;
pub mod label_text;
pub mod level;
pub mod loki_http;
pub mod loki_push;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod otlp_logs;
pub mod otlp_metrics;
pub mod refusal;
mod weight;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use taffrail_kit::clock;
use taffrail_model::record::Position;
use taffrail_model::wire::POSITIONS_PATH;
use tokio::time::{sleep, timeout};

use admission::{Admission, Held};
use counters::Counters;
use intake::{LogIntake, MetricIntake, Pending, Stored};
use refusal::Refusal;

use crate::wal::{Encoding, Kind, Received};

/// How long a request waits for the log store to write a memtable before it is sent away.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it looks whether there is room.
const ROOM_EVERY: Duration = Duration::from_millis(20);

/// What every door works with.
pub struct Doors {
    /// Where logs go.
    pub logs: LogIntake,
    /// Where metrics go.
    pub metrics: MetricIntake,
    /// Who may come in.
    pub admission: Admission,
    /// What came in.
    pub counters: Counters,
}

/// The routes of the HTTP port by which data comes in.
pub fn router(doors: Arc<Doors>) -> Router {
    Router::new()
        .route("/v1/logs", post(otlp_http::logs))
        .route("/v1/metrics", post(otlp_http::metrics))
        // The base path that OTLP exporters for Loki and Prometheus are set to.
        .route("/otlp/v1/logs", post(otlp_http::logs))
        .route("/otlp/v1/metrics", post(otlp_http::metrics))
        .route("/loki/api/v1/push", post(loki_http::push))
        .route(POSITIONS_PATH, get(otlp_http::positions))
        .with_state(doors)
}

impl Doors {
    /// Decodes, stores and makes durable one request.
    ///
    /// # Errors
    /// When it was refused; nothing is stored then.
    pub async fn take(
        self: &Arc<Self>,
        kind: Kind,
        encoding: Encoding,
        held: Held,
    ) -> Result<Stored, Refusal> {
        if is_logs(kind) {
            self.room_for_logs().await?;
        }
        let worker = self.admission.worker().await?;
        self.counters.received(held.bytes.len());
        let doors = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            // Both are kept until the work is really done, also when the client has gone.
            let (_worker, held) = (worker, held);
            let body = &held.bytes;
            doors.commit(&Received { kind, encoding, at: clock::unix_nanos(), body })
        });
        let pending = work.await.map_err(|error| Refusal::Unavailable(error.to_string()))??;
        let wal = if is_logs(kind) { &self.logs.wal } else { &self.metrics.wal };
        wal.durable(pending.seq).await?;
        if let Ok(stored) = &pending.answer {
            self.counters.stored(is_logs(kind), stored);
        }
        pending.answer
    }

    /// The committed positions of all files whose identity begins with `prefix`.
    ///
    /// # Errors
    /// When the write-ahead log cannot make durable what they rest on.
    pub async fn positions(self: &Arc<Self>, prefix: String) -> Result<Vec<Position>, Refusal> {
        let doors = self.clone();
        let work = tokio::task::spawn_blocking(move || doors.logs.positions(&prefix));
        let pending = work.await.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        self.logs.wal.durable(pending.seq).await?;
        pending.answer
    }

    fn commit(&self, received: &Received<'_>) -> Result<Pending<Stored>, Refusal> {
        if !is_logs(received.kind) {
            return self.metrics.commit(received);
        }
        self.logs.commit(received, decode::logs(received)?)
    }

    /// Waits until the log store has room. No worker is held meanwhile: metrics go on.
    async fn room_for_logs(&self) -> Result<(), Refusal> {
        let freed = async {
            while self.logs.store.is_full() {
                sleep(ROOM_EVERY).await;
            }
        };
        let full = |_| Refusal::Full("the log store is writing to disk".into());
        timeout(ROOM_TIMEOUT, freed).await.map_err(full)
    }

    /// Counts how a request ended.
    async fn counted(
        &self,
        protocol: &str,
        request: impl Future<Output = Result<Stored, Refusal>>,
    ) -> Result<Stored, Refusal> {
        let outcome = request.await;
        let word = outcome.as_ref().map_or_else(Refusal::reason, |_| "stored");
        self.counters.ended(protocol, word);
        if let Err(refusal @ Refusal::Unavailable(_)) = &outcome {
            tracing::debug!(protocol, %refusal, "refused");
        }
        outcome
    }
}

fn is_logs(kind: Kind) -> bool {
    !matches!(kind, Kind::OtlpMetrics | Kind::OtlpMetricsJson)
}
