//! The one place that turns problems of this API into statuses: Prometheus' error types.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::run::RunError;
use super::json;
use crate::promql;
use crate::source::SourceError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The request is wrong.
    #[error("{0}")]
    BadData(String),
    /// The query is right, but cannot be answered over the data or within the limits.
    #[error("{0}")]
    Execution(String),
    /// The deadline passed.
    #[error("{0}")]
    Timeout(String),
    /// The query was stopped.
    #[error("{0}")]
    Canceled(String),
    /// We are at fault.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// A parameter whose value is wrong.
    pub(super) fn parameter(name: &str, problem: &str) -> Self {
        Self::BadData(format!("invalid parameter {name:?}: {problem}"))
    }

    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadData(_) => (StatusCode::BAD_REQUEST, "bad_data"),
            Self::Execution(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            Self::Timeout(_) => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            Self::Canceled(_) => (StatusCode::SERVICE_UNAVAILABLE, "canceled"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Timeout(_) => Self::Timeout(error.to_string()),
            RunError::Panicked(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<promql::Error> for ApiError {
    fn from(error: promql::Error) -> Self {
        match error {
            promql::Error::Parse(error) => Self::BadData(error.to_string()),
            promql::Error::Execution(message) => Self::Execution(message),
            promql::Error::TooManySamples(_) => Self::Execution(error.to_string()),
            promql::Error::Source(error) => error.into(),
        }
    }
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Cancelled(_) => Self::Canceled(error.to_string()),
            SourceError::TooMuch(message) => Self::Execution(message),
            SourceError::Storage(_) => Self::Internal(error.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind) = self.kind();
        let body = json::error(kind, &self.to_string());
        (status, [(header::CONTENT_TYPE, json::CONTENT_TYPE)], body).into_response()
    }
}
