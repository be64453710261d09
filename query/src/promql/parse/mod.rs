//! PromQL text to a checked syntax tree: a precedence climber over tokens. This file has the
//! expressions; `selector` has selectors and what follows them, `span` lengths of time.
//!
//! Holds for every text: no panic, no recursion deeper than [`DEPTH_MAX`], no tree higher than
//! [`HEIGHT_MAX`] (evaluating a tree recurses as deep as it is high).

mod selector;
mod span;
#[cfg(test)]
mod tests;

use taffrail_model::Matcher;
use taffrail_model::limits::QUERY_BYTES_MAX;

use crate::promql::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, Expr, Kind, Matching, ValueType,
};
use crate::promql::check;
use crate::promql::error::ParseError;
use crate::promql::functions::{Function, Id};
use crate::promql::lex::{self, Spanned, Token};

/// Deepest recursion of the parser. A pair of parentheses or a call takes two levels.
const DEPTH_MAX: usize = 128;

/// Highest tree: nesting and chains of operators together.
const HEIGHT_MAX: usize = 160;

/// Most matchers of one query.
const MATCHERS_MAX: usize = 200;

/// Reads a query.
///
/// # Errors
/// [`ParseError`] with the place of the first thing that is wrong.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_checked(text).map_err(|error| error.within(text))
}

/// Reads a series selector as `match[]` has it: a name, braces, or both.
///
/// # Errors
/// As [`parse`]; also when the text is a query of another form.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let expr = parse(text)?;
    match expr.kind {
        Kind::Selector(selector)
            if selector.range.is_none()
                && selector.shift.offset.is_none()
                && selector.shift.at.is_none() =>
        {
            Ok(selector.matchers)
        }
        _ => Err(ParseError::new(expr.at, "expected a series selector").within(text)),
    }
}

fn parse_checked(text: &str) -> Result<Expr, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        let message = format!("the query has {} bytes; at most {QUERY_BYTES_MAX}", text.len());
        return Err(ParseError::new(0, message));
    }
    let tokens = lex::tokens(text)?;
    let mut parser = Parser {
        tokens,
        next: 0,
        depth: 0,
        data_labels: false,
        matchers: 0,
        regexes: 0,
        span_operators: 0,
    };
    if *parser.peek() == Token::End {
        return Err(ParseError::new(0, "no expression found in input"));
    }
    let (expr, _) = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("after the expression")),
    }
}

/// An expression and the height of its tree.
type Built = (Expr, usize);

struct Parser {
    tokens: Vec<Spanned>,
    next: usize,
    depth: usize,
    /// Whether the selector at hand names data labels for `info`, and may match anything.
    data_labels: bool,
    /// Matchers so far.
    matchers: usize,
    /// Regular expressions among them.
    regexes: usize,
    /// Operators in durations so far.
    span_operators: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].token
    }

    fn peek_second(&self) -> &Token {
        &self.tokens[(self.next + 1).min(self.tokens.len() - 1)].token
    }

    fn place(&self) -> usize {
        self.tokens[self.next].start
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn unexpected(&self, context: &str) -> ParseError {
        ParseError::new(self.place(), format!("unexpected {} {context}", self.peek().describe()))
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &str, context: &str) -> Result<(), ParseError> {
        if self.takes(symbol) {
            return Ok(());
        }
        Err(self.unexpected(&format!("{context}, expected {symbol:?}")))
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word));
        if found {
            self.advance();
        }
        found
    }

    fn build(&self, kind: Kind, at: usize, height: usize) -> Result<Built, ParseError> {
        if height >= HEIGHT_MAX {
            let message = format!("the expression is nested more than {HEIGHT_MAX} levels deep");
            return Err(ParseError::new(at, message));
        }
        let expr = Expr { kind, at };
        check::node(&expr, self.data_labels)?;
        Ok((expr, height + 1))
    }

    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth == DEPTH_MAX {
            let message =
                format!("parentheses and calls nest more than {} levels deep", DEPTH_MAX / 2);
            return Err(ParseError::new(self.place(), message));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn binary_operator(&self) -> Option<BinaryOp> {
        match self.peek() {
            Token::Symbol(symbol) => BinaryOp::from_name(symbol),
            Token::Word(word) => BinaryOp::from_name(word),
            _ => None,
        }
    }

    fn expression(&mut self, precedence_min: u8) -> Result<Built, ParseError> {
        let (mut lhs, mut height) = self.deeper(Self::unary)?;
        while let Some(op) = self.binary_operator() {
            if op.precedence() < precedence_min {
                break;
            }
            self.advance();
            let bool_result = self.takes_word("bool");
            let matching = self.matching()?;
            // `^` binds to the right, all others to the left.
            let next_min = op.precedence() + u8::from(op != BinaryOp::Pow);
            let (rhs, rhs_height) = self.deeper(|parser| parser.expression(next_min))?;
            let at = lhs.at;
            let binary = Binary { op, lhs, rhs, bool_result, matching };
            let higher = height.max(rhs_height);
            (lhs, height) = self.build(Kind::Binary(Box::new(binary)), at, higher)?;
        }
        Ok((lhs, height))
    }

    fn matching(&mut self) -> Result<Matching, ParseError> {
        let mut matching = Matching::default();
        let on = self.takes_word("on");
        if on || self.takes_word("ignoring") {
            matching.on = on;
            matching.labels = self.label_list()?;
            for (word, cardinality) in
                [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)]
            {
                if self.takes_word(word) {
                    matching.cardinality = cardinality;
                    if *self.peek() == Token::Symbol("(") {
                        matching.include = self.label_list()?;
                    }
                    break;
                }
            }
        }
        loop {
            if !matches!(self.peek_second(), Token::Symbol("(")) {
                return Ok(matching);
            }
            if self.takes_word("fill") {
                let value = self.fill_value()?;
                (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
            } else if self.takes_word("fill_left") {
                matching.fill_left = Some(self.fill_value()?);
            } else if self.takes_word("fill_right") {
                matching.fill_right = Some(self.fill_value()?);
            } else {
                return Ok(matching);
            }
        }
    }

    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.expect("(", "in fill modifier")?;
        let value = self.signed_number("in fill modifier")?;
        self.expect(")", "in fill modifier")?;
        Ok(value)
    }

    fn signed_number(&mut self, context: &str) -> Result<f64, ParseError> {
        let negative = self.takes("-");
        if !negative {
            self.takes("+");
        }
        let value = match self.peek() {
            Token::Number(number) => Some(*number),
            Token::Word(word) => lex::parse_number(word),
            _ => None,
        };
        let Some(value) = value else {
            return Err(self.unexpected(&format!("{context}, expected number")));
        };
        self.advance();
        Ok(if negative { -value } else { value })
    }

    fn unary(&mut self) -> Result<Built, ParseError> {
        let at = self.place();
        if self.takes("+") {
            let (expr, height) = self.signed_operand(at, "+")?;
            return Ok((Expr { kind: expr.kind, at }, height));
        }
        if self.takes("-") {
            let (expr, height) = self.signed_operand(at, "-")?;
            return match expr.kind {
                Kind::Number(number) => self.build(Kind::Number(-number), at, 0),
                _ => self.build(Kind::Negate(Box::new(expr)), at, height),
            };
        }
        let primary = self.primary()?;
        self.postfix(primary)
    }

    /// The operand of a sign: binds looser than `^`, tighter than `*`.
    fn signed_operand(&mut self, at: usize, sign: &str) -> Result<Built, ParseError> {
        let (expr, height) = self.deeper(|parser| parser.expression(BinaryOp::Pow.precedence()))?;
        match expr.value_type() {
            ValueType::Scalar | ValueType::Vector => Ok((expr, height)),
            other => {
                let message = format!(
                    "unary expression {sign:?} only allowed on expressions of type scalar or \
                     instant vector, got {:?}",
                    other.describe()
                );
                Err(ParseError::new(at, message))
            }
        }
    }

    fn primary(&mut self) -> Result<Built, ParseError> {
        let at = self.place();
        match self.peek().clone() {
            Token::Number(number) => {
                self.advance();
                self.build(Kind::Number(number), at, 0)
            }
            Token::Text(text) => {
                self.advance();
                self.build(Kind::Text(text), at, 0)
            }
            Token::Symbol("(") => {
                self.advance();
                let (inner, height) = self.deeper(|parser| parser.expression(0))?;
                self.expect(")", "in parenthesized expression")?;
                self.build(Kind::Paren(Box::new(inner)), at, height)
            }
            Token::Symbol("{") => self.selector(None),
            Token::Word(word) => self.word(word),
            _ => Err(self.unexpected("where an expression is expected")),
        }
    }

    fn word(&mut self, word: String) -> Result<Built, ParseError> {
        let at = self.place();
        let opens = matches!(self.peek_second(), Token::Symbol("("));
        let grouped = matches!(self.peek_second(),
            Token::Word(w) if w.eq_ignore_ascii_case("by") || w.eq_ignore_ascii_case("without"));
        if let Some(op) = AggregateOp::from_name(&word).filter(|_| opens || grouped) {
            self.advance();
            return self.aggregate(op, at);
        }
        if opens {
            self.advance();
            return self.call(&word, at);
        }
        let braces = matches!(self.peek_second(), Token::Symbol("{"));
        if !braces && let Some(number) = lex::parse_number(&word) {
            self.advance();
            return self.build(Kind::Number(number), at, 0);
        }
        self.advance();
        self.selector(Some((word, at)))
    }

    fn aggregate(&mut self, op: AggregateOp, at: usize) -> Result<Built, ParseError> {
        let mut grouping = self.grouping()?;
        let mut args = self.arguments(false)?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let (labels, without) = grouping.unwrap_or_default();
        let expected = 1 + usize::from(op.parameter().is_some());
        if args.len() != expected {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, \
                 got {}",
                args.len()
            );
            return Err(ParseError::new(at, message));
        }
        let height = args.iter().map(|(_, height)| *height).max().unwrap_or(0);
        let (expr, _) = args.pop().expect("at least one argument was counted");
        let parameter = args.pop().map(|(expr, _)| expr);
        let aggregate = Aggregate { op, parameter, expr, labels, without };
        self.build(Kind::Aggregate(Box::new(aggregate)), at, height)
    }

    fn grouping(&mut self) -> Result<Option<(Vec<String>, bool)>, ParseError> {
        let without = self.takes_word("without");
        if without || self.takes_word("by") {
            return Ok(Some((self.label_list()?, without)));
        }
        Ok(None)
    }

    fn call(&mut self, name: &str, at: usize) -> Result<Built, ParseError> {
        let found = Function::find(name).or_else(|| {
            // Prometheus reads these words in any case, as they are keywords as well.
            let lower = name.to_ascii_lowercase();
            let keyword = ["start", "end", "step", "range"].contains(&lower.as_str());
            Function::find(&lower).filter(|_| keyword)
        });
        let Some(function) = found else {
            let message = if Function::is_refused(name) {
                format!(
                    "function {name:?} is not supported: it needs native histograms or \
                         experimental features that this engine does not have"
                )
            } else {
                format!("unknown function with name {name:?}")
            };
            return Err(ParseError::new(at, message));
        };
        let args = self.arguments(function.id == Id::Info)?;
        let height = args.iter().map(|(_, height)| *height).max().unwrap_or(0);
        let args = args.into_iter().map(|(expr, _)| expr).collect();
        self.build(Kind::Call(function, args), at, height)
    }

    fn arguments(&mut self, of_info: bool) -> Result<Vec<Built>, ParseError> {
        self.expect("(", "in function call")?;
        let mut args = Vec::new();
        if self.takes(")") {
            return Ok(args);
        }
        loop {
            let data_labels = of_info && args.len() == 1;
            let outer = std::mem::replace(&mut self.data_labels, data_labels);
            let arg = self.deeper(|parser| parser.expression(0));
            self.data_labels = outer;
            args.push(arg?);
            if self.takes(")") {
                return Ok(args);
            }
            self.expect(",", "in function call args")?;
            if *self.peek() == Token::Symbol(")") {
                let message = "trailing commas not allowed in function call args";
                return Err(ParseError::new(self.place(), message));
            }
        }
    }
}
