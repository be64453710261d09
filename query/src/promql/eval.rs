//! Evaluates a tree, a node at a time over all steps of the query.
//!
//! A node is visited once, however many steps there are; what does not depend on the step (`@`) is
//! computed for one step and spread. Recursion is as deep as the tree, which the parser bounds.

use std::collections::BTreeSet;

use taffrail_model::Labels;

use crate::source::{Cancel, SeriesSource};

use super::aggregate;
use super::ast::{At, BinaryOp, Expr, Kind, Shift, Span};
use super::binary;
use super::error::{Error, place};
use super::frame::{Budget, Frame, Grid, Series};
use super::functions;

/// What the engine assumes and how much it may use.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How far an instant selector looks back, in milliseconds.
    pub lookback: i64,
    /// Most samples that the query may hold at once.
    pub samples_max: usize,
    /// The step of a subquery that names none, in milliseconds.
    pub subquery_step: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { lookback: 300_000, samples_max: 50_000_000, subquery_step: 60_000 }
    }
}

/// What the user should know beside the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    pub(super) warnings: BTreeSet<String>,
    pub(super) infos: BTreeSet<String>,
}

/// Most notes of each kind; further ones say nothing new.
const NOTES_MAX: usize = 20;

/// The value of a node.
#[derive(Debug)]
pub(super) enum Value {
    /// One number a step.
    Scalar(Vec<f64>),
    /// Series by steps.
    Vector(Frame),
    /// A text.
    Text(String),
}

/// One query on its way.
pub(super) struct Evaluator<'q> {
    pub(super) source: &'q dyn SeriesSource,
    pub(super) options: Options,
    pub(super) cancel: &'q Cancel,
    /// The query's text, for the places in notes.
    pub(super) text: &'q str,
    /// The steps of the whole query, which subqueries do not change.
    pub(super) query: Grid,
    /// Whether the query asked for one time only.
    pub(super) instant: bool,
    pub(super) budget: Budget,
    pub(super) notes: Notes,
}

/// A window of a range selector or subquery, or the point of an instant selector, at each step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    offset: i64,
    fixed: Option<i64>,
}

impl Sight {
    /// The time that a step looks at.
    pub(super) fn time(&self, grid: &Grid, step: usize) -> i64 {
        self.fixed.unwrap_or_else(|| grid.time(step)).saturating_sub(self.offset)
    }
}

impl Evaluator<'_> {
    pub(super) fn eval(&mut self, expr: &Expr, grid: Grid) -> Result<Value, Error> {
        self.cancel.check()?;
        if grid.steps > 1 && !matches!(expr.kind, Kind::Number(_) | Kind::Text(_)) && fixed(expr) {
            let one = Grid { steps: 1, ..grid };
            return match self.eval_node(expr, one)? {
                Value::Scalar(values) => Ok(Value::Scalar(self.spread(values[0], grid)?)),
                Value::Vector(frame) => Ok(Value::Vector(frame.broadcast(grid, &self.budget)?)),
                text @ Value::Text(_) => Ok(text),
            };
        }
        self.eval_node(expr, grid)
    }

    fn spread(&self, value: f64, grid: Grid) -> Result<Vec<f64>, Error> {
        self.budget.check(grid.steps)?;
        Ok(vec![value; grid.steps])
    }

    fn eval_node(&mut self, expr: &Expr, grid: Grid) -> Result<Value, Error> {
        match &expr.kind {
            Kind::Number(number) => Ok(Value::Scalar(self.spread(*number, grid)?)),
            Kind::Text(text) => Ok(Value::Text(text.clone())),
            Kind::Paren(inner) => self.eval(inner, grid),
            Kind::Negate(inner) => Ok(match self.eval(inner, grid)? {
                Value::Scalar(values) => Value::Scalar(values.into_iter().map(|v| -v).collect()),
                Value::Vector(frame) => Value::Vector(frame.map(|value, _| -value)),
                text @ Value::Text(_) => text,
            }),
            Kind::Selector(selector) => {
                self.select_instant(selector, grid, false).map(Value::Vector)
            }
            Kind::Subquery(_) => Err(Error::execution("a range vector has no value of its own")),
            Kind::Call(function, args) => functions::call(self, function, args, grid, expr.at),
            Kind::Aggregate(aggregate) => {
                aggregate::evaluate(self, aggregate, grid).map(Value::Vector)
            }
            Kind::Binary(binary) => binary::evaluate(self, binary, grid),
        }
    }

    /// Evaluates an expression that the parser has checked to be a vector.
    pub(super) fn vector(&mut self, expr: &Expr, grid: Grid) -> Result<Frame, Error> {
        match self.eval(expr, grid)? {
            Value::Vector(frame) => Ok(frame),
            Value::Scalar(_) | Value::Text(_) => {
                Err(Error::execution("expected an instant vector"))
            }
        }
    }

    /// Evaluates an expression that the parser has checked to be a scalar.
    pub(super) fn scalar(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<f64>, Error> {
        match self.eval(expr, grid)? {
            Value::Scalar(values) => Ok(values),
            Value::Vector(_) | Value::Text(_) => Err(Error::execution("expected a scalar")),
        }
    }

    /// Evaluates an expression that the parser has checked to be a text.
    pub(super) fn text(&mut self, expr: &Expr, grid: Grid) -> Result<String, Error> {
        match self.eval(expr, grid)? {
            Value::Text(text) => Ok(text),
            Value::Scalar(_) | Value::Vector(_) => Err(Error::execution("expected a string")),
        }
    }

    pub(super) fn frame(&self, grid: Grid) -> Frame {
        Frame::new(grid, &self.budget)
    }

    /// A frame of one series without labels, from one number a step.
    pub(super) fn frame_of(&self, values: &[f64], grid: Grid) -> Result<Frame, Error> {
        let mut frame = self.frame(grid);
        let series = Series { labels: Labels::default(), drop_name: false };
        frame.push(series)?.copy_from_slice(values);
        Ok(frame)
    }

    /// A length of time in milliseconds.
    pub(super) fn span(&self, span: &Span) -> Result<i64, Error> {
        let seconds = self.span_seconds(span)?;
        let millis = (seconds * 1000.0).round();
        if millis.is_nan() || millis.abs() > 9.0e12 {
            return Err(Error::execution(format!("duration out of range: {seconds} seconds")));
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
        Ok(millis as i64)
    }

    /// A length of time that must be positive.
    pub(super) fn positive_span(&self, span: &Span) -> Result<i64, Error> {
        let millis = self.span(span)?;
        if millis <= 0 {
            return Err(Error::execution("duration must be greater than 0"));
        }
        Ok(millis)
    }

    #[expect(clippy::cast_precision_loss, reason = "steps and ranges are far below 2^53 ms")]
    fn span_seconds(&self, span: &Span) -> Result<f64, Error> {
        Ok(match span {
            Span::Seconds(seconds) => *seconds,
            Span::Step if self.instant => 0.0,
            Span::Step => self.query.step as f64 / 1000.0,
            Span::Range => (self.query.end() - self.query.start) as f64 / 1000.0,
            Span::Negate(inner) => -self.span_seconds(inner)?,
            Span::Pick(largest, a, b) => {
                let (a, b) = (self.span_seconds(a)?, self.span_seconds(b)?);
                if *largest { a.max(b) } else { a.min(b) }
            }
            Span::Binary(op, a, b) => {
                let (a, b) = (self.span_seconds(a)?, self.span_seconds(b)?);
                if b == 0.0 && matches!(op, BinaryOp::Div | BinaryOp::Mod) {
                    return Err(Error::execution("division by zero in duration expression"));
                }
                binary::arithmetic(*op, a, b)
            }
        })
    }

    pub(super) fn sight(&self, shift: &Shift) -> Result<Sight, Error> {
        let offset = shift.offset.as_ref().map_or(Ok(0), |span| self.span(span))?;
        let fixed = shift.at.map(|at| match at {
            At::Start => self.query.start,
            At::End => self.query.end(),
            At::Time(millis) => millis,
        });
        Ok(Sight { offset, fixed })
    }

    /// Adds a warning about the expression that starts at `at`.
    pub(super) fn warn(&mut self, message: &str, at: usize) {
        let note = note("PromQL warning", message, self.text, at);
        if self.notes.warnings.len() < NOTES_MAX {
            self.notes.warnings.insert(note);
        }
    }

    /// Adds an information about the expression that starts at `at`.
    pub(super) fn inform(&mut self, message: &str, at: usize) {
        let note = note("PromQL info", message, self.text, at);
        if self.notes.infos.len() < NOTES_MAX {
            self.notes.infos.insert(note);
        }
    }
}

fn note(kind: &str, message: &str, text: &str, at: usize) -> String {
    let (line, column) = place(text, at);
    format!("{kind}: {message} ({line}:{column})")
}

/// Whether an expression has the same value at each step.
fn fixed(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Number(_) | Kind::Text(_) => true,
        Kind::Paren(inner) | Kind::Negate(inner) => fixed(inner),
        Kind::Selector(selector) => selector.shift.at.is_some(),
        Kind::Subquery(subquery) => subquery.shift.at.is_some(),
        Kind::Call(function, args) => {
            !functions::reads_step(function, args) && args.iter().all(fixed)
        }
        Kind::Aggregate(aggregate) => {
            fixed(&aggregate.expr) && aggregate.parameter.as_ref().is_none_or(fixed)
        }
        Kind::Binary(binary) => fixed(&binary.lhs) && fixed(&binary.rhs),
    }
}
