//! OTLP over gRPC: the services' `Export` for logs and metrics.
//!
//! Messages are taken as bytes, not decoded by the framework: the write-ahead log holds what came,
//! and decoding happens where it does for every door.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Buf, Bytes};
use prost::Message;
use taffrail_model::limits::WIRE_BYTES_MAX;
use tonic::Status;
use tonic::codec::{
    BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder,
};

use super::Doors;
use super::otlp_http::{metrics_answer, positions_json};
use super::refusal::Refusal;
use crate::wal::{Encoding, Kind};

/// Share of the budget of bytes that one call takes: what other servers take at the most, so clients
/// send less. A message may have up to [`WIRE_BYTES_MAX`] all the same.
const MESSAGE_BYTES: usize = 4 << 20;
/// For a call, from its head to its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The routes of the gRPC port.
pub fn router(doors: Arc<Doors>) -> Router {
    let service = "/opentelemetry.proto.collector";
    Router::new()
        .route(&format!("{service}.logs.v1.LogsService/Export"), post(logs))
        .route(&format!("{service}.metrics.v1.MetricsService/Export"), post(metrics))
        .fallback(async || {
            Status::unimplemented("only OTLP logs and metrics are taken").into_http::<Body>()
        })
        .with_state(doors)
}

async fn logs(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    export(doors, Kind::OtlpLogs, request).await
}

async fn metrics(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    export(doors, Kind::OtlpMetrics, request).await
}

async fn export(doors: Arc<Doors>, kind: Kind, request: Request) -> Response {
    // A message's size is not known before it is read.
    let share = match doors.admission.share(MESSAGE_BYTES).await {
        Ok(share) => share,
        Err(refusal) => return status(&refusal).into_http::<Body>(),
    };
    let mut share = Some(share);
    let service = tower::service_fn(move |request: tonic::Request<Bytes>| {
        let (doors, share) = (doors.clone(), share.take());
        async move {
            let take = async {
                let share = share.ok_or_else(|| Refusal::Content("a second message".into()))?;
                doors.take(kind, Encoding::Identity, share.of(request.into_inner())).await
            };
            let stored = doors.counted("otlp_grpc", take).await.map_err(|r| status(&r))?;
            // An answer without fields is empty; only metrics have a partial success.
            let answer = metrics_answer(stored).encode_to_vec();
            Ok::<_, Status>(tonic::Response::new(Bytes::from(answer)))
        }
    });
    let mut grpc = tonic::server::Grpc::new(Raw)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(WIRE_BYTES_MAX);
    match tokio::time::timeout(CALL_TIMEOUT, grpc.unary(service, request)).await {
        Ok(response) => response.into_response(),
        Err(_) => Status::deadline_exceeded("the call took too long").into_http::<Body>(),
    }
}

/// Clients repeat after `UNAVAILABLE`; after `RESOURCE_EXHAUSTED` without details they do not.
fn status(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Form(_) | Refusal::Content(_) => Status::invalid_argument(text),
        Refusal::TooLarge { .. } => Status::resource_exhausted(text),
        Refusal::Conflict(positions) => Status::failed_precondition(positions_json(positions)),
        Refusal::Slow(_) => Status::deadline_exceeded(text),
        Refusal::Full(_) | Refusal::Unavailable(_) => Status::unavailable(text),
    }
}

/// Messages as the bytes they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(into, item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
