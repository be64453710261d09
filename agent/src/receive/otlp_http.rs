//! The door for OTLP over HTTP: `/v1/logs` and `/v1/metrics`, protobuf or JSON, plain, gzip or zstd.
//!
//! Answers are in the encoding of the request, errors are `google.rpc.Status`.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

use super::forward::{Answer, Refusal};
use super::signal::{Export, Partial};
use super::{BODY_TIMEOUT, REQUEST_BYTES_MAX, Shared, with_turns};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
/// Largest window of a zstd stream, as a power of two: a larger one asks for much memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

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

/// The two messages that say what was not taken have the same shape.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct Taken {
    #[prost(message, optional, tag = "1")]
    partial: Option<PartialSuccess>,
}

/// The routes of the HTTP port.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let door = Router::new()
        .route("/v1/logs", post(take::<ExportLogsServiceRequest>))
        .route("/v1/metrics", post(take::<ExportMetricsServiceRequest>))
        .with_state(shared.clone());
    let busy = || {
        let text = "too many requests at a time; try again later";
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, text);
        refuse(Form::Protobuf, &Refusal { retry_after: Some("1".into()), ..refusal })
    };
    with_turns(door, shared, busy).route(
        "/v1/traces",
        axum::routing::any(async |headers: HeaderMap| {
            let text = "traces are not supported: send logs to /v1/logs, metrics to /v1/metrics";
            let refusal = Refusal::new(StatusCode::NOT_IMPLEMENTED, text);
            refuse(form_of(&headers).unwrap_or(Form::Protobuf), &refusal)
        }),
    )
}

async fn take<E: Export>(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = form_of(&headers);
    let request = async { read::<E>(form.clone()?, &headers, body).await };
    let answer = match request.await {
        Ok(request) => shared.forward(peer.ip(), request).await,
        Err(refusal) => Answer::Refused(refusal),
    };
    let form = form.unwrap_or(Form::Protobuf);
    match answer {
        Answer::Taken(partial) => taken(form, partial),
        Answer::Refused(refusal) => refuse(form, &refusal),
    }
}

async fn read<E: Export>(form: Form, headers: &HeaderMap, body: Body) -> Result<E, Refusal> {
    let encoding = header(headers, &CONTENT_ENCODING).to_ascii_lowercase();
    if !matches!(&*encoding, "" | "identity" | "gzip" | "zstd") {
        let text = "the content encoding is not identity, gzip or zstd";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if header(headers, &CONTENT_LENGTH).parse().is_ok_and(|n: usize| n > REQUEST_BYTES_MAX) {
        return Err(too_large());
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, REQUEST_BYTES_MAX)).await;
    let slow = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    let body = body.map_err(slow)?.map_err(|error| {
        let limit =
            std::error::Error::source(&error).is_some_and(|e| e.to_string().contains("limit"));
        let broken =
            || Refusal::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"));
        if limit { too_large() } else { broken() }
    })?;
    // Unpacking and reading some megabytes takes a while: not on a worker.
    let read = tokio::task::spawn_blocking(move || {
        let plain = plain(&encoding, &body)?;
        parse(form, &plain)
    });
    let stopping = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping");
    read.await.map_err(stopping)?
}

fn parse<E: Export>(form: Form, plain: &[u8]) -> Result<E, Refusal> {
    let bad = |error: String| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not an OTLP request: {error}"))
    };
    match form {
        Form::Protobuf => E::decode(plain).map_err(|error| bad(error.to_string())),
        Form::Json => serde_json::from_slice(plain).map_err(|error| bad(error.to_string())),
    }
}

fn plain(encoding: &str, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let bad = |error: std::io::Error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not {encoding}: {error}"))
    };
    let decoder: Box<dyn Read + '_> = match encoding {
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        "zstd" => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(bad)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(bad)?;
            Box::new(decoder)
        }
        _ => Box::new(body),
    };
    let mut plain = Vec::new();
    decoder.take(REQUEST_BYTES_MAX as u64 + 1).read_to_end(&mut plain).map_err(bad)?;
    if plain.len() > REQUEST_BYTES_MAX { Err(too_large()) } else { Ok(plain) }
}

fn too_large() -> Refusal {
    let text = format!("the request is over {REQUEST_BYTES_MAX} bytes: send smaller batches");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap_or("?")).trim()
}

fn form_of(headers: &HeaderMap) -> Result<Form, Refusal> {
    let named = header(headers, &CONTENT_TYPE);
    let kind = named.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match &*kind {
        PROTOBUF | "application/protobuf" => Ok(Form::Protobuf),
        JSON => Ok(Form::Json),
        _ => {
            let text = format!("the content type {named:?} is not {PROTOBUF} or {JSON}");
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
        }
    }
}

fn taken(form: Form, partial: Option<Partial>) -> Response {
    if form == Form::Json {
        // 64-bit integers are texts in protobuf's JSON.
        let json = partial.map_or_else(
            || serde_json::json!({}),
            |p| {
                let said = serde_json::json!({
                    p.field: p.rejected.to_string(), "errorMessage": p.message,
                });
                serde_json::json!({ "partialSuccess": said })
            },
        );
        return ([(CONTENT_TYPE, JSON)], json.to_string()).into_response();
    }
    let partial = partial.map(|p| PartialSuccess { rejected: p.rejected, message: p.message });
    ([(CONTENT_TYPE, PROTOBUF)], Taken { partial }.encode_to_vec()).into_response()
}

fn refuse(form: Form, refusal: &Refusal) -> Response {
    let code = match refusal.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8,
        StatusCode::NOT_IMPLEMENTED => 12,
        StatusCode::REQUEST_TIMEOUT => 4,
        status if status.is_server_error() => 14,
        _ => 3,
    };
    let status = Status { code, message: refusal.text.clone() };
    let (kind, body) = match form {
        Form::Protobuf => (PROTOBUF, status.encode_to_vec()),
        Form::Json => {
            let json = serde_json::json!({"code": status.code, "message": status.message});
            (JSON, json.to_string().into_bytes())
        }
    };
    let mut response = (refusal.status, [(CONTENT_TYPE, kind)], body).into_response();
    if let Some(after) = refusal.retry_after.as_deref().and_then(|t| HeaderValue::from_str(t).ok())
    {
        response.headers_mut().insert(RETRY_AFTER, after);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bombs_are_defused() {
        let bomb = vec![0_u8; REQUEST_BYTES_MAX + 1];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &bomb).expect("packs");
        let cases = [
            ("gzip", gzip.finish().expect("packs")),
            ("zstd", zstd::bulk::compress(&bomb, 1).expect("packs")),
            ("", bomb),
        ];
        for (encoding, body) in cases {
            assert_eq!(plain(encoding, &body), Err(too_large()), "{encoding}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for encoding in ["", "gzip", "zstd"] {
                if let Ok(plain) = plain(encoding, &body) {
                    let _ = parse::<ExportLogsServiceRequest>(Form::Json, &plain);
                    let _ = parse::<ExportMetricsServiceRequest>(Form::Protobuf, &plain);
                }
            }
        }
    }
}
