//! Deletion of lines on demand: what may be asked, and the seam between the API that takes requests
//! and the store that carries them out ([`LogDeletion`]).
//!
//! A request hides its lines from every answer before it is accepted. Until the store begins to erase
//! them it may be cancelled; afterwards the lines are gone, and the request stays as a record of that.

use taffrail_model::{Matcher, Nanos};

use crate::logql::ast::Expr;
use crate::logql::plan::LogPlan;
use crate::logql::{LogqlOptions, ParseError, parse};
use crate::source::LineFilter;

/// Longest query of a request, in bytes: it is kept for as long as the request is.
const QUERY_BYTES_MAX: usize = 16 << 10;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// The query says no lines.
    #[error("invalid query expression: {0}")]
    Query(String),
    /// There are too many already.
    #[error("{0}")]
    TooMany(String),
    /// No request has this id.
    #[error("could not find delete request with given id")]
    Unknown,
    /// It is too late to cancel it.
    #[error("{0}")]
    TooLate(String),
    /// The store cannot make the request durable.
    #[error("storage: {0}")]
    Storage(String),
}

/// The lines that a query names: a selector and conditions on the text, nothing else.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Conditions on the stream.
    pub matchers: Vec<Matcher>,
    /// Conditions on the text.
    pub filters: Vec<LineFilter>,
}

impl Lines {
    /// Reads a query.
    ///
    /// # Errors
    /// When it is no log query, or has stages that look at more than stream and text: a line would have
    /// to be parsed anew in every answer.
    pub fn of_query(query: &str) -> Result<Self, DeletionError> {
        if query.len() > QUERY_BYTES_MAX {
            let message = format!("longer than {QUERY_BYTES_MAX} bytes");
            return Err(DeletionError::Query(message));
        }
        let unreadable = |error: ParseError| DeletionError::Query(error.render(query));
        let Expr::Log(log) = parse(query, LogqlOptions::default()).map_err(unreadable)? else {
            return Err(DeletionError::Query("it gives numbers, not lines".into()));
        };
        let plan = LogPlan::new(&log).map_err(unreadable)?;
        if !plan.stages.is_empty() {
            let message =
                "lines are deleted by stream and text: a selector, |= != |~ !~ and nothing else";
            return Err(DeletionError::Query(message.into()));
        }
        Ok(Self { matchers: plan.matchers, filters: plan.filters })
    }
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its lines are hidden; it may be cancelled.
    Received,
    /// Its lines are being erased.
    Erasing,
    /// Its lines are gone.
    Processed,
    /// It was cancelled: its lines are shown again.
    Cancelled,
}

/// What was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// When it began. Lines that came later are not touched.
    pub began: Nanos,
    /// Lines that the request covered then.
    pub lines: u64,
    /// Bytes of their text.
    pub bytes: u64,
    /// When none was left on disk.
    pub ended: Option<Nanos>,
    /// Why it does not get on.
    pub problem: Option<&'static str>,
}

/// A request, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its name.
    pub id: String,
    /// The query.
    pub query: String,
    /// Time of the first line.
    pub start: Nanos,
    /// Time of the last line, included.
    pub end: Nanos,
    /// When it was accepted.
    pub created: Nanos,
    /// How far it is.
    pub stage: Stage,
    /// What was erased, once that has begun.
    pub erasure: Option<Erasure>,
}

/// A store that deletes lines on demand. Its calls wait for the disk.
pub trait LogDeletion: Send + Sync {
    /// Hides the lines of a query from `start` to `end`, both included, from now on, durably; they are
    /// erased later. Gives the id of the request.
    ///
    /// # Errors
    /// When it is refused; nothing has changed then.
    fn request(&self, query: &str, start: Nanos, end: Nanos) -> Result<String, DeletionError>;

    /// All requests that are kept, in the order in which they came.
    fn list(&self) -> Vec<Deletion>;

    /// Shows the lines of a request again.
    ///
    /// # Errors
    /// When there is none of this id, or erasing has begun.
    fn cancel(&self, id: &str) -> Result<(), DeletionError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named_by_stream_and_text() {
        let lines = Lines::of_query(r#"{app="a", b!="c"} |= "x" or "y" !~ "z+""#).unwrap();
        assert_eq!((lines.matchers.len(), lines.filters.len()), (2, 2));
        let long = format!(r#"{{app="a"}} |= "{}""#, "x".repeat(QUERY_BYTES_MAX));
        let refused = [
            ("", "unexpected $end"),
            ("{", "parse error"),
            (r#"{app=~".*"}"#, "at least one"),
            (r#"rate({app="a"}[1m])"#, "gives numbers"),
            (r#"{app="a"} | json"#, "by stream and text"),
            (r#"{app="a"} | level="x""#, "by stream and text"),
            (r#"{app="a"} |= ip("10.0.0.0/8")"#, "by stream and text"),
            (&long, "longer than"),
        ];
        for (query, why) in refused {
            let error = Lines::of_query(query).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid query expression: ") && error.contains(why),
                "{error}"
            );
        }
    }
}
