//! `|= "text"`, `|~ "regex"`, `|> "pattern"`, `|= ip("…")` and their opposites.

use regex::Regex;

use super::super::ast::{LineFilterExpr, LineOp, LineTerm};
use super::super::ip::IpSet;
use super::line_regex;
use super::pattern::LinePattern;

/// A condition on the text of a line.
#[derive(Debug)]
pub struct LineStage {
    terms: Vec<Term>,
    negative: bool,
}

#[derive(Debug)]
enum Term {
    Text(String),
    Regex(Regex),
    Pattern(LinePattern),
    Ip(IpSet),
}

impl LineStage {
    pub(super) fn compile(filter: &LineFilterExpr) -> Result<Self, String> {
        let mut terms = Vec::with_capacity(filter.terms.len());
        for term in &filter.terms {
            terms.push(match (term, filter.op) {
                (LineTerm::Text(text), LineOp::Contains | LineOp::NotContains) => {
                    Term::Text(text.clone())
                }
                (LineTerm::Text(text), LineOp::Matches | LineOp::NotMatches) => {
                    Term::Regex(line_regex(text)?)
                }
                (LineTerm::Text(text), LineOp::Pattern | LineOp::NotPattern) => {
                    Term::Pattern(LinePattern::compile(text)?)
                }
                (LineTerm::Ip(pattern), LineOp::Contains | LineOp::NotContains) => {
                    Term::Ip(IpSet::parse(pattern)?)
                }
                (LineTerm::Ip(_), op) => {
                    return Err(format!("ip: invalid operation: {}", op.symbol()));
                }
            });
        }
        Ok(Self { terms, negative: filter.op.is_negative() })
    }

    /// Whether a line goes on.
    #[must_use]
    pub fn passes(&self, line: &str) -> bool {
        let fits = self.terms.iter().any(|term| match term {
            Term::Text(text) => memchr::memmem::find(line.as_bytes(), text.as_bytes()).is_some(),
            Term::Regex(regex) => regex.is_match(line),
            Term::Pattern(pattern) => pattern.matches(line),
            Term::Ip(set) => set.found_in(line),
        });
        fits != self.negative
    }
}
