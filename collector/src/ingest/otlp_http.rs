//! The doors `/v1/logs`, `/v1/metrics` (OTLP over HTTP, protobuf or JSON) and
//! `/api/v1/agent/positions`.
//!
//! Answers are in the encoding of the request, errors are `google.rpc.Status`. Only a batch of our
//! agent that does not continue what is committed gets another body, told apart by its status 409.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message;
use taffrail_model::record::Position;
use taffrail_model::wire::CONFLICT_CONTENT_TYPE;

use super::Doors;
use super::body::encoding_of;
use super::intake::Stored;
use super::refusal::Refusal;
use crate::wal::{Encoding, Kind};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// In which form a request came and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// `POST /v1/logs`.
pub(super) async fn logs(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = form_of(&headers);
    let kind = if form == Ok(Form::Json) { Kind::OtlpLogsJson } else { Kind::OtlpLogs };
    match receive(&doors, &headers, body, &form, kind).await {
        Ok(_) => answer(form.unwrap_or(Form::Protobuf), &ExportLogsServiceResponse::default()),
        Err(refusal) => refuse(form.unwrap_or(Form::Protobuf), &refusal),
    }
}

/// `POST /v1/metrics`.
pub(super) async fn metrics(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = form_of(&headers);
    let kind = if form == Ok(Form::Json) { Kind::OtlpMetricsJson } else { Kind::OtlpMetrics };
    match receive(&doors, &headers, body, &form, kind).await {
        Ok(stored) => answer(form.unwrap_or(Form::Protobuf), &metrics_answer(stored)),
        Err(refusal) => refuse(form.unwrap_or(Form::Protobuf), &refusal),
    }
}

/// The answer to a metrics request that was stored, wholly or but for some samples.
pub(super) fn metrics_answer(stored: Stored) -> ExportMetricsServiceResponse {
    let partial_success = (stored.rejected > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(stored.rejected).unwrap_or(i64::MAX),
        error_message: stored.reason,
    });
    ExportMetricsServiceResponse { partial_success }
}

async fn receive(
    doors: &Arc<Doors>,
    headers: &HeaderMap,
    body: Body,
    form: &Result<Form, Refusal>,
    kind: Kind,
) -> Result<Stored, Refusal> {
    doors.counted("otlp_http", receive_uncounted(doors, headers, body, form, kind)).await
}

async fn receive_uncounted(
    doors: &Arc<Doors>,
    headers: &HeaderMap,
    body: Body,
    form: &Result<Form, Refusal>,
    kind: Kind,
) -> Result<Stored, Refusal> {
    form.clone()?;
    let named = headers.get(CONTENT_ENCODING).map_or(Ok(""), HeaderValue::to_str);
    let encoding = encoding_of(named.unwrap_or("?"))
        .filter(|e| matches!(e, Encoding::Identity | Encoding::Gzip | Encoding::Zstd));
    let encoding = encoding.ok_or_else(|| {
        Refusal::Form("the content encoding is not identity, gzip or zstd".into())
    })?;
    let held = doors.admission.read(headers, body).await?;
    doors.take(kind, encoding, held).await
}

fn form_of(headers: &HeaderMap) -> Result<Form, Refusal> {
    let named = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let named = named.split(';').next().unwrap_or("").trim();
    match named.to_ascii_lowercase().as_str() {
        PROTOBUF | "application/protobuf" => Ok(Form::Protobuf),
        JSON => Ok(Form::Json),
        _ => Err(Refusal::Form(format!(
            "the content type {named:?} is not supported: send {PROTOBUF} or {JSON}"
        ))),
    }
}

fn answer<M: Message + serde::Serialize>(form: Form, message: &M) -> Response {
    match form {
        Form::Json => ([(CONTENT_TYPE, JSON)], json(message)).into_response(),
        Form::Protobuf => ([(CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response(),
    }
}

/// As protobuf's JSON has it, and serde does not: absent messages are left out, 64-bit integers (the
/// only numbers in these answers) are texts.
fn json<M: serde::Serialize>(message: &M) -> String {
    let mut value = serde_json::to_value(message).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        for field in object.values_mut().filter_map(|value| value.as_object_mut()) {
            for number in field.values_mut().filter(|value| value.is_number()) {
                *number = number.to_string().into();
            }
        }
    }
    value.to_string()
}

fn refuse(form: Form, refusal: &Refusal) -> Response {
    let status = refusal.status();
    if let Refusal::Conflict(positions) = refusal {
        return (status, [(CONTENT_TYPE, CONFLICT_CONTENT_TYPE)], positions_json(positions))
            .into_response();
    }
    let text = Status { code: rpc_code(status), message: refusal.to_string() };
    let mut response = match form {
        Form::Json => {
            let json = serde_json::json!({"code": text.code, "message": text.message});
            (status, [(CONTENT_TYPE, JSON)], json.to_string()).into_response()
        }
        Form::Protobuf => {
            (status, [(CONTENT_TYPE, PROTOBUF)], text.encode_to_vec()).into_response()
        }
    };
    if let Some(seconds) = refusal.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The number of `google.rpc.Code` for a status.
fn rpc_code(status: StatusCode) -> i32 {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        StatusCode::REQUEST_TIMEOUT => 4,
        _ => 3,
    }
}

#[derive(serde::Deserialize)]
pub(super) struct Prefix {
    #[serde(default)]
    prefix: String,
}

/// `GET /api/v1/agent/positions?prefix=P`.
pub(super) async fn positions(
    State(doors): State<Arc<Doors>>,
    Query(Prefix { prefix }): Query<Prefix>,
) -> Response {
    match doors.positions(prefix).await {
        Ok(positions) => {
            ([(CONTENT_TYPE, CONFLICT_CONTENT_TYPE)], positions_json(&positions)).into_response()
        }
        Err(refusal) => refuse(Form::Json, &refusal),
    }
}

/// `{"positions":[{"source":"…","committed":123,"check":456}]}`.
pub(super) fn positions_json(positions: &[Position]) -> String {
    let positions: Vec<_> = positions
        .iter()
        .map(
            |p| serde_json::json!({"source": p.source, "committed": p.committed, "check": p.check}),
        )
        .collect();
    serde_json::json!({ "positions": positions }).to_string()
}
