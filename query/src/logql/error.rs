//! What can be wrong with a query: its text ([`ParseError`]) or its run ([`QueryError`]).
//!
//! The texts begin as Loki's do, since people search for them and clients match on them.

use std::fmt;

use crate::source::SourceError;

/// A query text that is no LogQL. Knows the place, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Byte offset of the place in the query; `None` when the query as a whole is wrong.
    pub offset: Option<usize>,
    /// Line of the place, from 1; 0 without a place.
    pub line: usize,
    /// Column of the place in characters, from 1; 0 without a place.
    pub column: usize,
    /// What was found, and what was expected.
    pub message: String,
}

impl ParseError {
    /// An error at a byte offset of `query`.
    pub(super) fn at(query: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = query.get(..offset).unwrap_or(query);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            offset: Some(offset.min(query.len())),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    /// An error of the query as a whole.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self { offset: None, line: 0, column: 0, message: message.into() }
    }

    /// The error for a person: Loki's line, then the line of the query with a caret under the place.
    #[must_use]
    pub fn render(&self, query: &str) -> String {
        if self.offset.is_none() {
            return self.to_string();
        }
        let Some(text) = query.split('\n').nth(self.line - 1) else {
            return self.to_string();
        };
        // Tabs stay tabs, so that the caret stands under its character.
        let pad: String = text
            .chars()
            .take(self.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        format!("{self}\n{text}\n{pad}^")
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.offset.is_some() {
            let Self { line, column, message, .. } = self;
            write!(f, "parse error at line {line}, col {column}: {message}")
        } else {
            write!(f, "parse error : {}", self.message)
        }
    }
}

impl std::error::Error for ParseError {}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is wrong.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The query is well formed and cannot be answered with these data or in this way.
    #[error("{0}")]
    Invalid(String),
    /// A metric query met a line that one of its stages could not read.
    #[error(
        "pipeline error: '{error}' for series: '{series}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )]
    Pipeline {
        /// Name of the error, the value of `__error__`.
        error: String,
        /// All labels of the line, with `__error_details__`.
        series: String,
    },
    /// The answer has more series than a query may return.
    #[error(
        "maximum number of series ({0}) reached for a single query; consider reducing query \
         cardinality by adding more specific stream selectors, reducing the time range, or \
         aggregating results with functions like sum(), count() or topk()"
    )]
    TooManySeries(usize),
    /// The store did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let query = "{app=\"a\"}\n\t|= é foo";
        let at = query.find("foo").expect("is there");
        let error = ParseError::at(query, at, "syntax error: unexpected IDENTIFIER");
        assert_eq!(
            error.render(query),
            "parse error at line 2, col 7: syntax error: unexpected IDENTIFIER\n\t|= é foo\n\t     ^"
        );
        assert_eq!(ParseError::whole("x").render(query), "parse error : x");
    }
}
