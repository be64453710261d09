//! Selectors: matchers in braces, and what follows an expression: a window, a subquery, `offset`,
//! `@`.

use taffrail_model::labels::is_valid_name;
use taffrail_model::limits::REGEXES_MAX;
use taffrail_model::sample::METRIC_NAME;
use taffrail_model::{MatchOp, Matcher};

use crate::promql::ast::{At, Expr, Kind, Selector, Shift, Subquery, WindowMode};
use crate::promql::check;
use crate::promql::error::ParseError;
use crate::promql::lex::Token;

use super::{Built, MATCHERS_MAX, Parser};

impl Parser {
    pub(super) fn selector(&mut self, name: Option<(String, usize)>) -> Result<Built, ParseError> {
        let at = name.as_ref().map_or_else(|| self.place(), |(_, at)| *at);
        let mut name = name.map(|(name, _)| name);
        let mut matchers = Vec::new();
        if self.takes("{") {
            while !self.takes("}") {
                if !matchers.is_empty() {
                    self.expect(",", "in label matching")?;
                    if self.takes("}") {
                        break;
                    }
                }
                matchers.push(self.matcher(&mut name)?);
            }
        }
        if let Some(name) = &name
            && !matchers.iter().any(|m| m.name == METRIC_NAME && m.value == *name)
        {
            matchers.push(Matcher::equal(METRIC_NAME, name));
        }
        let selector = Selector {
            name,
            matchers,
            range: None,
            shift: Shift::default(),
            mode: WindowMode::Plain,
        };
        self.build(Kind::Selector(Box::new(selector)), at, 0)
    }

    fn matcher(&mut self, metric: &mut Option<String>) -> Result<Matcher, ParseError> {
        let at = self.place();
        self.matchers += 1;
        if self.matchers > MATCHERS_MAX {
            let message = format!("the query has more than {MATCHERS_MAX} label matchers");
            return Err(ParseError::new(at, message));
        }
        let (label, quoted) = match self.peek().clone() {
            Token::Word(word) if is_valid_name(&word) => (word, false),
            Token::Text(text) => (text, true),
            _ => return Err(self.unexpected("in label matching, expected identifier or \"}\"")),
        };
        self.advance();
        let op = match self.peek() {
            Token::Symbol("=") => MatchOp::Equal,
            Token::Symbol("!=") => MatchOp::NotEqual,
            Token::Symbol("=~") => MatchOp::Regex,
            Token::Symbol("!~") => MatchOp::NotRegex,
            Token::Symbol("," | "}") if quoted => {
                if let Some(first) = metric.replace(label.clone()) {
                    let message =
                        format!("metric name must not be set twice: {first:?} or {label:?}");
                    return Err(ParseError::new(at, message));
                }
                return Ok(Matcher::equal(METRIC_NAME, &label));
            }
            _ => return Err(self.unexpected("in label matching, expected label matching operator")),
        };
        self.advance();
        self.regexes += usize::from(matches!(op, MatchOp::Regex | MatchOp::NotRegex));
        if self.regexes > REGEXES_MAX {
            let message = format!("the query has more than {REGEXES_MAX} regular expressions");
            return Err(ParseError::new(at, message));
        }
        let Token::Text(value) = self.peek().clone() else {
            return Err(self.unexpected("in label matching, expected string"));
        };
        self.advance();
        if label == METRIC_NAME
            && let Some(first) = metric
        {
            let message = format!("metric name must not be set twice: {first:?} or {value:?}");
            return Err(ParseError::new(at, message));
        }
        Matcher::new(&label, op, &value, true)
            .map_err(|error| ParseError::new(at, error.to_string()))
    }

    pub(super) fn postfix(&mut self, (mut expr, mut height): Built) -> Result<Built, ParseError> {
        loop {
            let at = expr.at;
            if self.takes("[") {
                (expr, height) = self.brackets(expr, height)?;
            } else if self.takes_word("offset") {
                let offset = self.offset()?;
                let shift = check::shifted(&mut expr, "offset")?;
                if shift.offset.replace(offset).is_some() {
                    let message = "offset may not be set multiple times";
                    return Err(ParseError::new(at, message));
                }
            } else if self.takes("@") {
                let time = self.at_time()?;
                let shift = check::shifted(&mut expr, "@")?;
                if shift.at.replace(time).is_some() {
                    let message = "@ <timestamp> may not be set multiple times";
                    return Err(ParseError::new(at, message));
                }
            } else if self.takes_word("anchored") {
                check::window_mode(&mut expr, WindowMode::Anchored)?;
            } else if self.takes_word("smoothed") {
                check::window_mode(&mut expr, WindowMode::Smoothed)?;
            } else {
                return Ok((expr, height));
            }
        }
    }

    fn brackets(&mut self, expr: Expr, height: usize) -> Result<Built, ParseError> {
        let at = expr.at;
        let range = self.span(0)?;
        if self.takes(":") {
            let step = match self.peek() {
                Token::Symbol("]") => None,
                _ => Some(self.span(0)?),
            };
            self.expect("]", "in subquery selector")?;
            let subquery = Subquery { expr, range, step, shift: Shift::default() };
            return self.build(Kind::Subquery(Box::new(subquery)), at, height);
        }
        self.expect("]", "in range selector")?;
        let Kind::Selector(mut selector) = expr.kind else {
            let message = "ranges only allowed for vector selectors";
            return Err(ParseError::new(at, message));
        };
        if selector.range.is_some() {
            return Err(ParseError::new(at, "ranges only allowed for vector selectors"));
        }
        if selector.shift.offset.is_some() || selector.shift.at.is_some() {
            let message = "no offset or @ modifiers allowed before range";
            return Err(ParseError::new(at, message));
        }
        selector.range = Some(range);
        self.build(Kind::Selector(selector), at, height)
    }

    fn at_time(&mut self) -> Result<At, ParseError> {
        for (word, time) in [("start", At::Start), ("end", At::End)] {
            if self.takes_word(word) {
                self.expect("(", "in @")?;
                self.expect(")", "in @")?;
                return Ok(time);
            }
        }
        let at = self.place();
        let seconds = self.signed_number("in @")?;
        let millis = (seconds * 1000.0).round();
        // Far beyond any real time, yet arithmetic with it cannot overflow.
        if millis.is_nan() || millis.abs() >= 9.0e15 {
            let message = format!("timestamp out of bounds for @ modifier: {seconds}");
            return Err(ParseError::new(at, message));
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
        Ok(At::Time(millis as i64))
    }

    pub(super) fn label_list(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect("(", "in grouping opts")?;
        let mut labels = Vec::new();
        while !self.takes(")") {
            if !labels.is_empty() {
                self.expect(",", "in grouping opts")?;
                if self.takes(")") {
                    break;
                }
            }
            match self.peek().clone() {
                Token::Word(word) if is_valid_name(&word) => labels.push(word),
                Token::Text(text) if !text.is_empty() => labels.push(text),
                _ => return Err(self.unexpected("in grouping opts, expected label")),
            }
            self.advance();
        }
        Ok(labels)
    }
}
