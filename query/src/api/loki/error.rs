//! Every way in which the Loki API says no, as a status and a line of text.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};

use crate::deletion::DeletionError;
use crate::logql::{ParseError, QueryError};
use crate::source::SourceError;

use super::super::run::RunError;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(super) fn too_many(message: impl Into<String>) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, message: message.into() }
    }

    /// A query text that is wrong, in one line as Loki says it: panels show no more.
    pub(super) fn parse(error: &ParseError) -> Self {
        Self::bad_request(error.to_string())
    }

    /// A query text that is wrong, shown with its place, for a terminal.
    pub(super) fn parse_shown(error: &ParseError, query: &str) -> Self {
        Self::bad_request(error.render(query))
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Source(error) => error.into(),
            QueryError::Parse(_)
            | QueryError::Invalid(_)
            | QueryError::Pipeline { .. }
            | QueryError::TooManySeries(_) => Self::bad_request(error.to_string()),
        }
    }
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        let status = match error {
            SourceError::Cancelled(_) => StatusCode::GATEWAY_TIMEOUT,
            SourceError::TooMuch(_) => StatusCode::BAD_REQUEST,
            SourceError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: error.to_string() }
    }
}

impl From<DeletionError> for ApiError {
    fn from(error: DeletionError) -> Self {
        let status = match error {
            DeletionError::Query(_) | DeletionError::TooLate(_) => StatusCode::BAD_REQUEST,
            DeletionError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            DeletionError::Unknown => StatusCode::NOT_FOUND,
            DeletionError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: error.to_string() }
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Timeout(_) => Self {
                status: StatusCode::GATEWAY_TIMEOUT,
                message: "request timed out, decrease the duration of the request or add more \
                          label matchers (prefer exact match over regex match) to reduce the \
                          amount of data processed"
                    .into(),
            },
            RunError::Panicked(_) => {
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: error.to_string() }
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let headers =
            [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
        (self.status, headers, self.message).into_response()
    }
}
