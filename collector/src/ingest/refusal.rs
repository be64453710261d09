//! Why a request is refused. Each door has its own clothes for these ([`super::otlp_http`],
//! [`super::otlp_grpc`], [`super::loki_push`]); what they mean is decided here.

use http::StatusCode;
use taffrail_kit::journal;
use taffrail_model::record::Position;

/// A request that changes nothing, and what its sender should do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Send it in another form: the type or compression of the body is not one we read.
    #[error("{0}")]
    Form(String),
    /// Send less at once.
    #[error("{what} is over the limit of {limit} bytes: send smaller batches")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Do not send it again: it cannot be read, or a limit forbids its content.
    #[error("{0}")]
    Content(String),
    /// Go to these positions first.
    #[error("the batch does not continue what is committed")]
    Conflict(Vec<Position>),
    /// The body did not come in time.
    #[error("the body did not arrive within {0} seconds")]
    Slow(u64),
    /// Send it again later: the store has no room now.
    #[error("{0}; try again later")]
    Full(String),
    /// Send it again later, to this collector or the next one.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    /// The status over HTTP.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Form(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Content(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Full(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Seconds after which another attempt makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Full(_) => Some(2),
            Self::Unavailable(_) => Some(5),
            _ => None,
        }
    }

    /// The word in the metric of refused requests.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Form(_) => "form",
            Self::TooLarge { .. } => "too_large",
            Self::Content(_) => "content",
            Self::Conflict(_) => "conflict",
            Self::Slow(_) => "slow",
            Self::Full(_) => "full",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<journal::Error> for Refusal {
    fn from(error: journal::Error) -> Self {
        if error.is_no_space() {
            return Self::Full(format!("the disk is full ({error})"));
        }
        Self::Unavailable(format!("the write-ahead log cannot be written: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_to_do() {
        let cases = [
            (Refusal::Form("x".into()), 415, None),
            (Refusal::TooLarge { what: "the body", limit: 1 }, 413, None),
            (Refusal::Content("x".into()), 400, None),
            (Refusal::Conflict(vec![]), 409, None),
            (Refusal::Slow(30), 408, None),
            (Refusal::Full("x".into()), 429, Some(2)),
            (Refusal::Unavailable("x".into()), 503, Some(5)),
        ];
        for (refusal, status, retry_after) in cases {
            assert_eq!(refusal.status(), status, "{refusal}");
            assert_eq!(refusal.retry_after(), retry_after, "{refusal}");
        }
    }

    #[test]
    fn only_a_full_disk_is_worth_another_attempt_here() {
        let full = |kind: std::io::ErrorKind| journal::Error::Io {
            action: "append to",
            path: "x".into(),
            cause: kind.into(),
        };
        let refusal = Refusal::from(full(std::io::ErrorKind::StorageFull));
        assert!(matches!(refusal, Refusal::Full(_)));
        let refusal = Refusal::from(full(std::io::ErrorKind::PermissionDenied));
        assert!(matches!(refusal, Refusal::Unavailable(_)));
        let refusal = Refusal::from(journal::Error::Poisoned("sync failed".into()));
        assert!(matches!(refusal, Refusal::Unavailable(_)));
    }
}
