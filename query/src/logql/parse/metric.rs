//! Metric expressions: functions, aggregations, operators.

use taffrail_model::{MatchOp, Matcher};

use super::super::ast::{
    Binary, BinaryOp, Cardinality, Conversion, Expr, Grouping, LogExpr, Matching, MetricExpr,
    RangeAgg, RangeOp, StageExpr, Unwrap, VectorAgg, VectorOp,
};
use super::super::error::ParseError;
use super::super::lexer::Kind;
use super::{OPERATORS_MAX, Parser, matcher};

/// Whether a word is a function when a parenthesis follows.
pub(super) fn is_function(word: &str) -> bool {
    RangeOp::ALL.iter().any(|op| op.name() == word)
        || VectorOp::ALL.iter().any(|op| op.name() == word)
        || matches!(word, "label_replace" | "vector" | "duration" | "duration_seconds" | "bytes")
}

/// A range expression while it is read: its parts come in several orders.
#[derive(Default)]
struct RangeParts {
    matchers: Vec<Matcher>,
    stages: Vec<StageExpr>,
    unwrap: Option<Unwrap>,
    range: Option<i64>,
    offset: Option<i64>,
}

impl Parser<'_> {
    /// A whole query: lines or numbers.
    pub(super) fn expression(&mut self) -> Result<Expr, ParseError> {
        self.binary(0)
    }

    fn metric(&mut self) -> Result<MetricExpr, ParseError> {
        let offset = self.offset();
        match self.binary(0)? {
            Expr::Metric(metric) => Ok(metric),
            Expr::Log(_) => Err(self.log_in_wrong_place(offset)),
        }
    }

    fn log_in_wrong_place(&self, offset: usize) -> ParseError {
        let message = "syntax error: unexpected log query, expecting a metric query such as \
                       count_over_time({…}[5m])";
        ParseError::at(self.query, offset, message)
    }

    /// Precedence climbing: operators that bind at least as tightly as `least`.
    fn binary(&mut self, least: u8) -> Result<Expr, ParseError> {
        let start = self.offset();
        let mut left = self.operand()?;
        loop {
            let symbol = match self.kind() {
                Kind::Symbol(symbol) => *symbol,
                Kind::Ident(word) => word.as_str(),
                _ => return Ok(left),
            };
            let Some(op) = BinaryOp::from_symbol(symbol).filter(|op| op.precedence() >= least)
            else {
                return Ok(left);
            };
            let Expr::Metric(left_metric) = left else {
                return Err(self.log_in_wrong_place(start));
            };
            self.operators += 1;
            if self.operators > OPERATORS_MAX {
                return Err(self.error(format!("more than {OPERATORS_MAX} operators in a query")));
            }
            self.advance();
            left = Expr::Metric(self.binary_tail(op, left_metric)?);
        }
    }

    fn binary_tail(&mut self, op: BinaryOp, left: MetricExpr) -> Result<MetricExpr, ParseError> {
        let returns_bool = self.take_word("bool");
        let matching = self.matching()?;
        // `^` binds to the right, everything else to the left.
        let least = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
        let start = self.offset();
        let Expr::Metric(right) = self.nested(|parser| parser.binary(least))? else {
            return Err(self.log_in_wrong_place(start));
        };
        Ok(MetricExpr::Binary(Box::new(Binary { op, returns_bool, matching, left, right })))
    }

    fn matching(&mut self) -> Result<Option<Matching>, ParseError> {
        let on = self.is_word("on");
        if !on && !self.is_word("ignoring") {
            return Ok(None);
        }
        self.advance();
        let labels = self.names()?;
        let cardinality = if self.take_word("group_left") {
            Cardinality::ManyToOne
        } else if self.take_word("group_right") {
            Cardinality::OneToMany
        } else {
            Cardinality::OneToOne
        };
        let grouped = cardinality != Cardinality::OneToOne;
        let include =
            if grouped && self.is("(") && self.is_name_list() { self.names()? } else { Vec::new() };
        Ok(Some(Matching { on, labels, cardinality, include }))
    }

    /// Whether `(a, b)` comes here and not a parenthesised expression.
    fn is_name_list(&self) -> bool {
        match (self.kind_after(1), self.kind_after(2)) {
            (Kind::Symbol(")"), _) => true,
            (Kind::Ident(_), after) => matches!(after, Kind::Symbol("," | ")")),
            _ => false,
        }
    }

    /// `(a, b)` or `()`
    fn names(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect("(")?;
        if self.take(")") {
            return Ok(Vec::new());
        }
        let names = self.list(Self::ident)?;
        self.expect(")")?;
        Ok(names)
    }

    fn operand(&mut self) -> Result<Expr, ParseError> {
        let starts_log = self.is("{")
            || (self.options.allow_empty_selector && (self.is("|") || self.line_op().is_some()));
        if starts_log {
            return self.log_expr().map(Expr::Log);
        }
        if self.take("(") {
            let inner = self.nested(Self::expression)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if let Some(value) = self.signed_number() {
            return Ok(Expr::Metric(MetricExpr::Literal(value)));
        }
        self.call().map(Expr::Metric)
    }

    /// `2`, `-2`, `+2`; nothing is read when no number comes.
    fn signed_number(&mut self) -> Option<f64> {
        let sign = match self.kind() {
            Kind::Symbol("-") => -1.0,
            Kind::Symbol("+") => 1.0,
            Kind::Number(value) => {
                let value = *value;
                self.advance();
                return Some(value);
            }
            _ => return None,
        };
        let Kind::Number(value) = *self.kind_after(1) else {
            return None;
        };
        self.advance();
        self.advance();
        Some(sign * value)
    }

    fn call(&mut self) -> Result<MetricExpr, ParseError> {
        let Kind::Ident(name) = self.kind().clone() else {
            return Err(self.unexpected(&[]));
        };
        if let Some(op) = RangeOp::ALL.into_iter().find(|op| op.name() == name) {
            return self.nested(|parser| parser.range_call(op)).map(MetricExpr::Range);
        }
        if let Some(op) = VectorOp::ALL.into_iter().find(|op| op.name() == name) {
            return self.nested(|parser| parser.vector_call(op)).map(MetricExpr::Vector);
        }
        match name.as_str() {
            "label_replace" => self.nested(Self::label_replace),
            "vector" => {
                self.advance();
                self.expect("(")?;
                let value = self.signed_number().ok_or_else(|| self.unexpected(&["NUMBER"]))?;
                self.expect(")")?;
                Ok(MetricExpr::VectorLiteral(value))
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    fn label_replace(&mut self) -> Result<MetricExpr, ParseError> {
        self.advance();
        self.expect("(")?;
        let inner = Box::new(self.metric()?);
        let mut texts = [const { String::new() }; 4];
        for text in &mut texts {
            self.expect(",")?;
            *text = self.text()?;
        }
        self.expect(")")?;
        let [dst, replacement, src, regex] = texts;
        // Compiled here to say at once that it is wrong.
        matcher(&src, MatchOp::Regex, &regex)?;
        Ok(MetricExpr::LabelReplace { inner, dst, replacement, src, regex })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let without = self.is_word("without");
        if !without && !self.is_word("by") {
            return Ok(None);
        }
        self.advance();
        Ok(Some(Grouping { without, labels: self.names()? }))
    }

    fn vector_call(&mut self, op: VectorOp) -> Result<VectorAgg, ParseError> {
        let start = self.offset();
        self.advance();
        let before = self.grouping()?;
        self.expect("(")?;
        let has_param = matches!(self.kind(), Kind::Number(_))
            && matches!(self.kind_after(1), Kind::Symbol(","));
        let param = if has_param { self.signed_number() } else { None };
        if has_param {
            self.expect(",")?;
        }
        let inner = Box::new(self.metric()?);
        self.expect(")")?;
        let after = self.grouping()?;
        if before.is_some() && after.is_some() {
            return Err(self.error("syntax error: a second grouping"));
        }
        let grouping = before.or(after);
        let param = vector_param(op, param, grouping.is_some())
            .map_err(|message| ParseError::at(self.query, start, message))?;
        Ok(VectorAgg { op, param, grouping, inner })
    }

    fn range_call(&mut self, op: RangeOp) -> Result<RangeAgg, ParseError> {
        self.advance();
        self.expect("(")?;
        let param = self.signed_number();
        if param.is_some() {
            self.expect(",")?;
        }
        let mut parts = RangeParts::default();
        self.range_body(&mut parts)?;
        let Some(range) = parts.range else {
            return Err(self.unexpected(&["["]));
        };
        self.expect(")")?;
        let grouping = self.grouping()?;
        let agg = RangeAgg {
            op,
            param,
            log: LogExpr { matchers: parts.matchers, stages: parts.stages },
            unwrap: parts.unwrap,
            range,
            offset: parts.offset.unwrap_or(0),
            grouping,
        };
        check_range(&agg).map_err(ParseError::whole)?;
        Ok(agg)
    }

    fn range_body(&mut self, parts: &mut RangeParts) -> Result<(), ParseError> {
        if self.take("(") {
            self.nested(|parser| parser.range_body(parts))?;
            self.expect(")")?;
        } else {
            parts.matchers = self.selector_or_none()?;
        }
        loop {
            if self.is("[") && parts.range.is_none() {
                parts.range = Some(self.window()?);
            } else if self.is_word("offset") && parts.range.is_some() && parts.offset.is_none() {
                self.advance();
                parts.offset = Some(self.signed_duration()?);
            } else if self.is("|") && parts.unwrap.is_none() && self.unwrap_follows() {
                self.advance();
                self.advance();
                parts.unwrap = Some(self.unwrap()?);
            } else {
                let start = self.offset();
                let Some(stage) = self.stage()? else {
                    return Ok(());
                };
                match (&mut parts.unwrap, stage) {
                    (None, stage) => parts.stages.push(stage),
                    (Some(unwrap), StageExpr::Labels(filter)) => unwrap.filters.push(filter),
                    (Some(_), _) => {
                        let message = "syntax error: only label filters may come after unwrap";
                        return Err(ParseError::at(self.query, start, message));
                    }
                }
            }
        }
    }

    fn unwrap_follows(&self) -> bool {
        matches!(self.kind_after(1), Kind::Ident(word) if word == "unwrap")
            && matches!(self.kind_after(2), Kind::Ident(_))
    }

    fn unwrap(&mut self) -> Result<Unwrap, ParseError> {
        let word = self.ident()?;
        if !self.take("(") {
            let conversion = Conversion::Number;
            return Ok(Unwrap { label: word, conversion, filters: Vec::new() });
        }
        let conversion = match word.as_str() {
            "bytes" => Conversion::Bytes,
            "duration" | "duration_seconds" => Conversion::Duration,
            _ => {
                let message = format!(
                    "unknown conversion {word}, expecting bytes, duration or duration_seconds"
                );
                return Err(self.error(message));
            }
        };
        let label = self.ident()?;
        self.expect(")")?;
        Ok(Unwrap { label, conversion, filters: Vec::new() })
    }

    /// `[5m]`
    fn window(&mut self) -> Result<i64, ParseError> {
        self.expect("[")?;
        let Kind::Duration(nanos) = *self.kind() else {
            return Err(self.unexpected(&["DURATION"]));
        };
        if nanos == 0 {
            return Err(self.error("the range must be longer than nothing"));
        }
        self.advance();
        self.expect("]")?;
        Ok(nanos)
    }

    fn signed_duration(&mut self) -> Result<i64, ParseError> {
        let negative = self.take("-");
        let Kind::Duration(nanos) = *self.kind() else {
            return Err(self.unexpected(&["DURATION"]));
        };
        self.advance();
        Ok(if negative { -nanos } else { nanos })
    }
}

fn vector_param(op: VectorOp, param: Option<f64>, grouped: bool) -> Result<Option<usize>, String> {
    let name = op.name();
    if grouped && matches!(op, VectorOp::Sort | VectorOp::SortDesc | VectorOp::ApproxTopk) {
        return Err(format!("grouping not allowed for {name} aggregation"));
    }
    match (op.takes_param(), param) {
        (false, None) => Ok(None),
        (false, Some(value)) => Err(format!("unsupported parameter for operation {name}({value},")),
        (true, None) => Err(format!("parameter required for operation {name}")),
        // Whole numbers from 1 up to where a float still counts one by one.
        (true, Some(value)) if value.fract() == 0.0 && (1.0..=1e9).contains(&value) => {
            Ok(Some(value as usize))
        }
        (true, Some(value)) if value.fract() == 0.0 && value < 1.0 => {
            Err(format!("invalid parameter (must be greater than 0) {name}({value},"))
        }
        (true, Some(value)) => Err(format!("invalid parameter {name}({value},")),
    }
}

/// What an operation allows: grouping, unwrapping, a parameter.
fn check_range(agg: &RangeAgg) -> Result<(), String> {
    let name = agg.op.name();
    let (groups, bare, unwrapped) = match agg.op {
        RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::BytesRate => {
            (false, true, false)
        }
        RangeOp::Rate | RangeOp::AbsentOverTime => (false, true, true),
        RangeOp::RateCounter | RangeOp::SumOverTime => (false, false, true),
        RangeOp::AvgOverTime
        | RangeOp::MinOverTime
        | RangeOp::MaxOverTime
        | RangeOp::StddevOverTime
        | RangeOp::StdvarOverTime
        | RangeOp::QuantileOverTime
        | RangeOp::FirstOverTime
        | RangeOp::LastOverTime => (true, false, true),
    };
    if agg.grouping.is_some() && !groups {
        return Err(format!("grouping not allowed for {name} aggregation"));
    }
    match (&agg.unwrap, bare, unwrapped) {
        (Some(_), _, false) => return Err(format!("invalid aggregation {name} with unwrap")),
        (None, false, _) => return Err(format!("invalid aggregation {name} without unwrap")),
        _ => {}
    }
    match (agg.op == RangeOp::QuantileOverTime, agg.param) {
        (true, None) => Err(format!("parameter required for operation {name}")),
        (false, Some(value)) => {
            Err(format!("parameter {value} not supported for operation {name}"))
        }
        _ => Ok(()),
    }
}
