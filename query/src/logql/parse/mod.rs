//! Tokens to syntax tree, by recursive descent: the parser's hands and its entry. Pipelines are in
//! `log.rs`, metric expressions in `metric.rs`.
//!
//! Invariants: no text makes it panic or recurse deeper than [`DEPTH_MAX`]; a tree that comes out
//! is at most [`OPERATORS_MAX`] operators deep; everything that can be known wrong without data
//! (regular expressions, templates, groupings) is an error here.

mod log;
mod metric;

use taffrail_model::limits::{QUERY_BYTES_MAX, REGEXES_MAX};
use taffrail_model::{MatchOp, Matcher};

use super::ast::{Expr, LogExpr, MetricExpr};
use super::error::ParseError;
use super::go_regex::go_reason;
use super::lexer::{self, Kind, Token};

/// How deep parentheses and function calls may be nested.
pub const DEPTH_MAX: usize = 64;

/// How many binary operators a query may have.
pub const OPERATORS_MAX: usize = 256;

/// What is allowed beyond Loki's LogQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogqlOptions {
    /// A selector may match every stream (`{}`, `{app=~".*"}`) or be left out (`|= "error"`).
    pub allow_empty_selector: bool,
}

/// Reads a query.
///
/// # Errors
/// [`ParseError`] with the place and what was expected there.
pub fn parse(query: &str, options: LogqlOptions) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query, options)?;
    if parser.tokens.len() == 1 && !options.allow_empty_selector {
        return Err(ParseError::whole("syntax error: unexpected $end"));
    }
    let expr = if parser.tokens.len() == 1 {
        Expr::Log(LogExpr { matchers: Vec::new(), stages: Vec::new() })
    } else {
        parser.expression()?
    };
    parser.end()?;
    if !options.allow_empty_selector {
        check_selectors(&expr)?;
    }
    super::check::check(&expr)?;
    Ok(expr)
}

/// Reads a selector alone, as `labels` and `series` take it: it may match every stream.
///
/// # Errors
/// As [`parse`]; also when the text has stages.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text, LogqlOptions { allow_empty_selector: true })?;
    let matchers = parser.selector()?;
    parser.end()?;
    Ok(matchers)
}

fn check_selectors(expr: &Expr) -> Result<(), ParseError> {
    match expr {
        Expr::Log(log) => check_selector(log),
        Expr::Metric(metric) => check_metric_selectors(metric),
    }
}

fn check_metric_selectors(expr: &MetricExpr) -> Result<(), ParseError> {
    match expr {
        MetricExpr::Range(range) => check_selector(&range.log),
        MetricExpr::Vector(vector) => check_metric_selectors(&vector.inner),
        MetricExpr::LabelReplace { inner, .. } => check_metric_selectors(inner),
        MetricExpr::Binary(binary) => {
            check_metric_selectors(&binary.left)?;
            check_metric_selectors(&binary.right)
        }
        MetricExpr::Literal(_) | MetricExpr::VectorLiteral(_) => Ok(()),
    }
}

fn check_selector(log: &LogExpr) -> Result<(), ParseError> {
    if log.matchers.iter().all(Matcher::matches_empty) {
        let written = log.matchers.first().map_or_else(
            || ("app=~\".*\"".to_owned(), "app=~\".+\"".to_owned()),
            |m| (m.to_string(), format!("{}=~\".+\"", m.name)),
        );
        return Err(ParseError::whole(format!(
            "queries require at least one regexp or equality matcher that does not have an \
             empty-compatible value. For instance, {} does not meet this requirement, but {} will",
            written.0, written.1
        )));
    }
    Ok(())
}

/// Walks over the tokens of one query.
struct Parser<'q> {
    query: &'q str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    operators: usize,
    regexes: usize,
    options: LogqlOptions,
}

impl<'q> Parser<'q> {
    fn new(query: &'q str, options: LogqlOptions) -> Result<Self, ParseError> {
        if query.len() > QUERY_BYTES_MAX {
            let message = format!("the query is longer than {QUERY_BYTES_MAX} bytes");
            return Err(ParseError::whole(message));
        }
        let tokens = lexer::tokens(query)?;
        Ok(Self { query, tokens, at: 0, depth: 0, operators: 0, regexes: 0, options })
    }

    fn kind(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    fn kind_after(&self, count: usize) -> &Kind {
        self.tokens.get(self.at + count).map_or(&Kind::End, |token| &token.kind)
    }

    fn offset(&self) -> usize {
        self.tokens[self.at].offset
    }

    /// Goes past the token; never past the end.
    fn advance(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.kind(), Kind::Symbol(found) if *found == symbol)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.kind(), Kind::Ident(found) if found == word)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected(&[symbol])) }
    }

    fn ident(&mut self) -> Result<String, ParseError> {
        let Kind::Ident(name) = self.kind() else {
            return Err(self.unexpected(&["IDENTIFIER"]));
        };
        let name = name.clone();
        self.advance();
        Ok(name)
    }

    fn text(&mut self) -> Result<String, ParseError> {
        let Kind::Text(text) = self.kind() else {
            return Err(self.unexpected(&["STRING"]));
        };
        let text = text.clone();
        self.advance();
        Ok(text)
    }

    fn end(&self) -> Result<(), ParseError> {
        if *self.kind() == Kind::End { Ok(()) } else { Err(self.unexpected(&[])) }
    }

    /// `item {, item}`
    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = vec![item(self)?];
        while self.take(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.query, self.offset(), message)
    }

    fn unexpected(&self, expected: &[&str]) -> ParseError {
        let mut message = format!("syntax error: unexpected {}", self.found());
        if !expected.is_empty() {
            message.push_str(", expecting ");
            message.push_str(&expected.join(" or "));
        }
        self.error(message)
    }

    /// How Loki calls the token at hand.
    fn found(&self) -> String {
        let call = matches!(self.kind_after(1), Kind::Symbol("("));
        match self.kind() {
            Kind::Ident(name) if is_keyword(name) || (call && metric::is_function(name)) => {
                name.clone()
            }
            Kind::Ident(_) => "IDENTIFIER".into(),
            Kind::Text(_) => "STRING".into(),
            Kind::Number(_) => "NUMBER".into(),
            Kind::Duration(_) => "DURATION".into(),
            Kind::Bytes(_) => "BYTES".into(),
            Kind::Symbol(symbol) => (*symbol).into(),
            Kind::End => "$end".into(),
        }
    }

    /// Runs `inner` one level deeper.
    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(format!("the query is nested more than {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Notes that the query has so many expressions more.
    fn count_regexes(&mut self, more: usize) -> Result<(), ParseError> {
        self.regexes += more;
        if self.regexes > REGEXES_MAX {
            return Err(
                self.error(format!("more than {REGEXES_MAX} regular expressions in a query"))
            );
        }
        Ok(())
    }

    fn matcher(&mut self, name: &str, op: MatchOp, value: &str) -> Result<Matcher, ParseError> {
        self.count_regexes(usize::from(matches!(op, MatchOp::Regex | MatchOp::NotRegex)))?;
        new_matcher(name, op, value)
    }

    /// A template; its functions may hold expressions.
    fn template(&mut self) -> Result<String, ParseError> {
        let text = self.text()?;
        self.count_regexes(
            text.matches("regexReplaceAll").count() + text.matches("count").count(),
        )?;
        Ok(text)
    }

    /// The operator of a matcher, if there is one here.
    fn match_op(&mut self) -> Option<MatchOp> {
        let op = match self.kind() {
            Kind::Symbol("=") => MatchOp::Equal,
            Kind::Symbol("!=") => MatchOp::NotEqual,
            Kind::Symbol("=~") => MatchOp::Regex,
            Kind::Symbol("!~") => MatchOp::NotRegex,
            _ => return None,
        };
        self.advance();
        Some(op)
    }
}

/// Builds a matcher with Loki's dot, which is no newline.
fn new_matcher(name: &str, op: MatchOp, value: &str) -> Result<Matcher, ParseError> {
    Matcher::new(name, op, value, false).map_err(|bad| {
        let why = go_reason(&bad.reason);
        ParseError::whole(format!("error parsing regexp: {why}: `{}`", bad.pattern))
    })
}

fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 24] = [
        "and",
        "bool",
        "by",
        "decolorize",
        "drop",
        "group_left",
        "group_right",
        "ignoring",
        "ip",
        "json",
        "keep",
        "label_format",
        "line_format",
        "logfmt",
        "offset",
        "on",
        "or",
        "pattern",
        "regexp",
        "unless",
        "unpack",
        "unwrap",
        "without",
        "vector",
    ];
    KEYWORDS.contains(&word)
}

#[cfg(test)]
mod tests;
