//! Why a query was refused or could not be answered.
//!
//! A parse error knows its place and shows it: `1:10: parse error: …`, the line, and a caret under
//! the place.

use std::fmt;

use crate::source::SourceError;

/// The text is not PromQL, or is PromQL that this engine refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Byte offset of the place.
    pub at: usize,
    /// What is wrong, without the place.
    pub message: String,
    text: String,
}

impl ParseError {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), text: String::new() }
    }

    /// Attaches the query, so that the error can show the place in it.
    pub(super) fn within(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = place(&self.text, self.at);
        write!(f, "{line}:{column}: parse error: {}", self.message)?;
        let Some(shown) = self.text.lines().nth(line - 1) else {
            return Ok(());
        };
        // A caret is of use under a line that fits a screen.
        if shown.is_empty() || shown.len() > 400 {
            return Ok(());
        }
        let indent: String =
            shown.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "\n{shown}\n{indent}^")
    }
}

impl std::error::Error for ParseError {}

/// Line and column of a byte offset, both from 1, columns in characters.
#[must_use]
pub(super) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a query.
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// The query cannot be answered over the data: duplicate series, bad arguments.
    #[error("{0}")]
    Execution(String),
    /// The query needs more samples than its budget.
    #[error(
        "query processing would load too many samples into memory in query execution (limit {0}); \
         ask for a shorter range, a longer step or fewer series"
    )]
    TooManySamples(usize),
    /// The store could not answer, or the query was cancelled.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Error {
    pub(super) fn execution(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_line_and_caret() {
        let error = ParseError::new(7, "unexpected \")\"").within("sum(\nä)");
        let text = error.to_string();
        assert_eq!(text, "2:2: parse error: unexpected \")\"\nä)\n ^");
        let outside = ParseError::new(99, "x").within("abc").to_string();
        assert!(outside.starts_with("1:4: parse error: x"), "{outside}");
    }
}
