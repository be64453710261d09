//! The door `/loki/api/v1/push`, with Loki's statuses: 204 when stored, plain text otherwise.
//!
//! Fluent Bit repeats a request for ever on any refusal but 400, so whatever is wrong with the
//! content or form of a request is 400 here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use super::Doors;
use super::body::encoding_of;
use super::intake::Stored;
use super::refusal::Refusal;
use crate::wal::{Encoding, Kind};

/// `POST /loki/api/v1/push`.
pub(super) async fn push(
    State(doors): State<Arc<Doors>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match doors.counted("loki", receive(&doors, &headers, body)).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refuse(&refusal),
    }
}

async fn receive(doors: &Arc<Doors>, headers: &HeaderMap, body: Body) -> Result<Stored, Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let json = text(CONTENT_TYPE).split(';').next().unwrap_or("").trim();
    let json = json.eq_ignore_ascii_case("application/json");
    let named = text(CONTENT_ENCODING);
    let unsupported = || Refusal::Form(format!("Content-Encoding {named:?} not supported"));
    let encoding = encoding_of(named).ok_or_else(unsupported)?;
    let (kind, encoding) = match (json, encoding) {
        (true, Encoding::Identity | Encoding::Gzip | Encoding::Deflate) => {
            (Kind::LokiPushJson, encoding)
        }
        // Whatever is not JSON is snappy-compressed protobuf, whether it says so or not.
        (false, Encoding::Identity | Encoding::Snappy) => (Kind::LokiPush, Encoding::Snappy),
        _ => return Err(unsupported()),
    };
    let held = doors.admission.read(headers, body).await?;
    doors.take(kind, encoding, held).await
}

fn refuse(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Form(_) | Refusal::Conflict(_) => StatusCode::BAD_REQUEST,
        other => other.status(),
    };
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let mut response = (status, headers, format!("{refusal}\n")).into_response();
    if let Some(seconds) = refusal.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
