//! PromQL text to a checked syntax tree: a precedence climber over the tokens of [`super::lex`].
//!
//! Holds for every text: no panic, no recursion deeper than [`DEPTH_MAX`], no tree higher than
//! [`HEIGHT_MAX`] (evaluating a tree recurses as deep as it is high).

use taffrail_model::labels::is_valid_name;
use taffrail_model::limits::QUERY_BYTES_MAX;
use taffrail_model::sample::METRIC_NAME;
use taffrail_model::{MatchOp, Matcher};

use super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, Expr, Kind, Matching, Selector,
    Shift, Span, Subquery, ValueType, WindowMode,
};
use super::check;
use super::error::ParseError;
use super::functions::Function;
use super::lex::{self, Spanned, Token};

/// Deepest recursion of the parser. A pair of parentheses or a call takes two levels.
const DEPTH_MAX: usize = 128;

/// Highest tree: nesting and chains of operators together.
const HEIGHT_MAX: usize = 160;

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
    let mut parser = Parser { tokens, next: 0, depth: 0, span_operators: 0 };
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
        check::node(&expr)?;
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

    fn label_list(&mut self) -> Result<Vec<String>, ParseError> {
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
        let mut args = self.arguments()?;
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
        let args = self.arguments()?;
        let height = args.iter().map(|(_, height)| *height).max().unwrap_or(0);
        let args = args.into_iter().map(|(expr, _)| expr).collect();
        self.build(Kind::Call(function, args), at, height)
    }

    fn arguments(&mut self) -> Result<Vec<Built>, ParseError> {
        self.expect("(", "in function call")?;
        let mut args = Vec::new();
        if self.takes(")") {
            return Ok(args);
        }
        loop {
            args.push(self.deeper(|parser| parser.expression(0))?);
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

    fn selector(&mut self, name: Option<(String, usize)>) -> Result<Built, ParseError> {
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

    fn postfix(&mut self, (mut expr, mut height): Built) -> Result<Built, ParseError> {
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

    /// A length of time between brackets: arithmetic with the usual precedence.
    fn span(&mut self, precedence_min: u8) -> Result<Span, ParseError> {
        let mut lhs = self.deeper(Self::span_operand)?;
        while let Some(op) = self.binary_operator() {
            if !(4..=6).contains(&op.precedence()) || op.precedence() < precedence_min {
                break;
            }
            self.advance();
            let next_min = op.precedence() + u8::from(op != BinaryOp::Pow);
            let rhs = self.deeper(|parser| parser.span(next_min))?;
            lhs = Span::Binary(op, Box::new(lhs), Box::new(rhs));
            self.span_operators += 1;
            if self.span_operators > HEIGHT_MAX {
                let message = format!("more than {HEIGHT_MAX} operators in duration expressions");
                return Err(ParseError::new(self.place(), message));
            }
        }
        Ok(lhs)
    }

    fn span_operand(&mut self) -> Result<Span, ParseError> {
        if self.takes("-") {
            let operand = self.deeper(|parser| parser.span(BinaryOp::Pow.precedence()))?;
            return Ok(Span::Negate(Box::new(operand)));
        }
        if self.takes("+") {
            return self.deeper(|parser| parser.span(BinaryOp::Pow.precedence()));
        }
        self.span_primary()
    }

    fn span_primary(&mut self) -> Result<Span, ParseError> {
        match self.peek().clone() {
            Token::Number(seconds) => {
                self.advance();
                Ok(Span::Seconds(seconds))
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.deeper(|parser| parser.span(0))?;
                self.expect(")", "in duration expression")?;
                Ok(inner)
            }
            Token::Word(word) => self.span_function(&word.to_ascii_lowercase()),
            _ => {
                Err(self.unexpected("in duration expression, expected number, duration, or step()"))
            }
        }
    }

    fn span_function(&mut self, word: &str) -> Result<Span, ParseError> {
        const CONTEXT: &str = "in duration expression";
        if !["step", "range", "min_of", "max_of"].contains(&word) {
            return Err(self.unexpected("in duration expression"));
        }
        self.advance();
        self.expect("(", CONTEXT)?;
        let span = match word {
            "step" => Span::Step,
            "range" => Span::Range,
            _ => {
                let first = self.deeper(|parser| parser.span(0))?;
                self.expect(",", CONTEXT)?;
                let second = self.deeper(|parser| parser.span(0))?;
                Span::Pick(word == "max_of", Box::new(first), Box::new(second))
            }
        };
        self.expect(")", CONTEXT)?;
        Ok(span)
    }

    /// What follows `offset`: one operand with a sign; longer arithmetic needs parentheses.
    fn offset(&mut self) -> Result<Span, ParseError> {
        let negative = self.takes("-");
        if !negative {
            self.takes("+");
        }
        let span = self.deeper(Self::span_primary)?;
        Ok(if negative { Span::Negate(Box::new(span)) } else { span })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_with_explicit_structure() {
        let cases = [
            ("1 + 2 * 3 ^ 2 ^ 2", "1 + 2 * 3 ^ 2 ^ 2"),
            ("-1 ^ 2", "-1 ^ 2"),
            ("sum(rate(a_b:c{x=~\"y\"}[5m])) by (z)", "sum by (z) (rate(a_b:c{x=~\"y\"}[5m]))"),
            ("a / on(b) group_left(c) d", "a / on (b) group_left (c) d"),
            (
                "{\"my metric\", a='b'}[1m:] offset -5s @ end()",
                "{\"my metric\",a=\"b\"}[1m:] @ end() offset -5s",
            ),
            ("sum", "sum"),
            ("topk(3, offset)", "topk(3, offset)"),
            ("a > bool 1m", "a > bool 60"),
        ];
        for (text, expected) in cases {
            let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(expr.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_what_and_where() {
        let cases = [
            ("", "1:1: parse error: no expression found in input"),
            ("a +", "1:4: parse error: unexpected end of input"),
            (
                "sum(a",
                "1:6: parse error: unexpected end of input in function call args, expected \",\"",
            ),
            ("foo{}{", "1:6: parse error: unexpected \"{\""),
            ("{}", "vector selector must contain at least one non-empty matcher"),
            ("1 and 2", "set operator \"and\" not allowed in binary scalar expression"),
            ("1 > 2", "comparisons between scalars must use BOOL modifier"),
            ("a + bool b", "bool modifier can only be used on comparison operators"),
            (
                "rate(a)",
                "expected type range vector in call to function \"rate\", got instant vector",
            ),
            ("rate(a[5m], 1)", "expected 1 argument(s) in call to \"rate\", got 2"),
            ("nope(a)", "unknown function with name \"nope\""),
            ("histogram_count(a)", "is not supported"),
            ("a{b=~\"(\"}", "invalid regular expression"),
            ("a[5m][5m]", "ranges only allowed for vector selectors"),
            ("(a) offset 5m", "offset modifier must be preceded by"),
            ("a @ inf", "timestamp out of bounds"),
            ("sum(a, b)", "wrong number of arguments"),
            ("a[0]", "duration must be greater than 0"),
            ("max_over_time(a[5m] smoothed)", "smoothed modifier can only be used with"),
        ];
        for (text, expected) in cases {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = [
            format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
            "-".repeat(100_000) + "1",
            "a or ".repeat(20_000) + "a",
            "1 ^ ".repeat(20_000) + "1",
            format!("a[{}1]", "1+".repeat(20_000)),
            format!("a{}", "[1m:1m]".repeat(10_000)),
        ];
        for text in deep {
            parse(&text).expect_err("too deep");
        }
        parse(&("a or ".repeat(100) + "a")).expect("a long chain is fine");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_prints_reads_back(words in proptest::collection::vec(prop_oneof![
            Just("a"), Just("b{c=\"d\"}"), Just("+"), Just("*"), Just("^"), Just("-"), Just("("), Just(")"),
            Just("sum"), Just("by (x)"), Just("rate("), Just("[5m]"), Just("[1h:5m]"), Just("offset 1m"),
            Just("@ 10"), Just("1"), Just("> bool"), Just("and"), Just("unless on(c)"), Just(","),
        ], 1..12)) {
            if let Ok(expr) = parse(&words.join(" ")) {
                let printed = expr.to_string();
                let again = parse(&printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
                prop_assert_eq!(again.to_string(), printed);
            }
        }
    }
}
