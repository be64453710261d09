//! Errors as Kubernetes' `Status` objects. Their message lands word for word in the events and
//! conditions of the autoscaler that asked, so it is written for the person who reads those.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

/// Content type of every answer.
pub(super) const JSON: &str = "application/json";

/// A request that is not answered with what it asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: StatusCode,
    pub(super) message: String,
}

impl Status {
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { code: StatusCode::NOT_FOUND, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { code: StatusCode::SERVICE_UNAVAILABLE, message: message.into() }
    }

    /// The word by which Kubernetes' clients tell errors apart.
    fn reason(&self) -> &'static str {
        match self.code {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            StatusCode::GATEWAY_TIMEOUT => "Timeout",
            _ => "InternalError",
        }
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason(),
            "code": self.code.as_u16(),
        });
        let body = format!("{body}\n");
        if self.code == StatusCode::SERVICE_UNAVAILABLE {
            let headers = [(header::CONTENT_TYPE, JSON), (header::RETRY_AFTER, "1")];
            return (self.code, headers, body).into_response();
        }
        (self.code, [(header::CONTENT_TYPE, JSON)], body).into_response()
    }
}
