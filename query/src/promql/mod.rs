//! PromQL: text to syntax tree to answer, as Prometheus 3 answers.
//!
//! [`parse()`] gives a checked tree; [`instant`] and [`range`] evaluate it over a
//! [`SeriesSource`]. An expression is evaluated once for all steps of a query, a column of numbers a
//! series; each selector is read once.
//!
//! As in Prometheus with delayed name removal, a name that an operation drops is dropped at the end
//! of the query, so that `label_replace` can still read it. Native histograms and the functions on
//! them are refused.

mod aggregate;
pub mod ast;
mod binary;
mod check;
mod choose;
mod error;
mod eval;
mod frame;
mod functions;
mod kahan;
mod lex;
mod matching;
pub mod oracle;
mod parse;
mod print;
mod select;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use taffrail_model::Labels;

use crate::source::{Cancel, SeriesSource};

pub use ast::{Expr, ValueType};
pub use error::{Error, ParseError};
pub use eval::Options;
pub use functions::Function;
pub use lex::parse_duration;
pub use parse::{parse, parse_selector};
pub use print::number_text;

use eval::{Evaluator, Notes};
use frame::{Budget, Grid, Series as Row, is_present};

/// Most steps of a query that goes past the HTTP API, which has its own, lower limit.
const STEPS_MAX: i64 = 1_000_000;

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Times in milliseconds, ascending, and values.
    pub points: Vec<(i64, f64)>,
}

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number at a time.
    Scalar(i64, f64),
    /// A text at a time.
    Text(i64, String),
    /// Series with one value each, at one time. The order counts.
    Vector(i64, Vec<(Labels, f64)>),
    /// Series over time, in the order of their labels.
    Matrix(Vec<Series>),
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// What is probably wrong with the query or the data.
    pub warnings: Vec<String>,
    /// What may be of interest.
    pub infos: Vec<String>,
}

/// The times of a range query, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The first step.
    pub start: i64,
    /// No step is later.
    pub end: i64,
    /// The distance of the steps, above zero.
    pub step: i64,
}

/// A parsed query together with its text, which notes point into.
#[derive(Clone, Debug)]
pub struct Query {
    /// The text.
    pub text: String,
    /// The tree.
    pub expr: Expr,
}

impl Query {
    /// Parses a text.
    ///
    /// # Errors
    /// As [`parse()`].
    pub fn new(text: &str) -> Result<Self, ParseError> {
        Ok(Self { text: text.to_owned(), expr: parse(text)? })
    }
}

/// Evaluates a query at one time (milliseconds).
///
/// # Errors
/// See [`Error`].
pub fn instant(
    source: &dyn SeriesSource,
    query: &Query,
    at: i64,
    options: &Options,
    cancel: &Cancel,
) -> Result<Answer, Error> {
    let grid = Grid::instant(at);
    let mut evaluator = evaluator(source, query, grid, true, options, cancel);
    if query.expr.value_type() == ValueType::Matrix {
        let series = evaluator.raw(&query.expr, at)?;
        let value = Value::Matrix(merged(series)?);
        return Ok(answer(value, evaluator.notes));
    }
    let value = match evaluator.eval(&query.expr, grid)? {
        eval::Value::Scalar(values) => Value::Scalar(at, values[0]),
        eval::Value::Text(text) => Value::Text(at, text),
        eval::Value::Vector(frame) => {
            let mut seen = std::collections::HashSet::new();
            let mut samples = Vec::new();
            for (series, row) in frame.rows().filter(|(_, row)| is_present(row[0])) {
                let labels = series.shown();
                if !seen.insert(labels.clone()) {
                    return Err(same_labels());
                }
                samples.push((labels, row[0]));
            }
            Value::Vector(at, samples)
        }
    };
    Ok(answer(value, evaluator.notes))
}

/// Evaluates a query at each step.
///
/// # Errors
/// See [`Error`]; also for a query whose value is a range vector or a text.
pub fn range(
    source: &dyn SeriesSource,
    query: &Query,
    steps: Steps,
    options: &Options,
    cancel: &Cancel,
) -> Result<Answer, Error> {
    let kind = query.expr.value_type();
    if matches!(kind, ValueType::Matrix | ValueType::String) {
        return Err(Error::Execution(format!(
            "invalid expression type {:?} for range query, must be Scalar or instant Vector",
            kind.describe()
        )));
    }
    let Steps { start, end, step } = steps;
    let span = end.checked_sub(start).filter(|span| *span >= 0 && step > 0);
    let count = span.map(|span| span / step + 1).filter(|count| *count <= STEPS_MAX);
    let Some(count) = count.and_then(|count| usize::try_from(count).ok()) else {
        return Err(Error::Execution(format!(
            "a range query needs a step above 0, an end not before its start, and at most \
             {STEPS_MAX} steps"
        )));
    };
    let grid = Grid { start, step, steps: count };
    let mut evaluator = evaluator(source, query, grid, false, options, cancel);
    let rows: Vec<(Row, Vec<(i64, f64)>)> = match evaluator.eval(&query.expr, grid)? {
        eval::Value::Scalar(values) => {
            let series = Row { labels: Labels::default(), drop_name: false };
            vec![(series, grid.times().zip(values).collect())]
        }
        eval::Value::Text(_) => Vec::new(),
        eval::Value::Vector(frame) => frame
            .rows()
            .map(|(series, row)| {
                let points = grid.times().zip(row.iter().copied());
                (series.clone(), points.filter(|(_, value)| is_present(*value)).collect())
            })
            .collect(),
    };
    let value = Value::Matrix(merged(rows)?);
    Ok(answer(value, evaluator.notes))
}

fn evaluator<'q>(
    source: &'q dyn SeriesSource,
    query: &'q Query,
    grid: Grid,
    instant: bool,
    options: &Options,
    cancel: &'q Cancel,
) -> Evaluator<'q> {
    Evaluator {
        source,
        options: *options,
        cancel,
        text: &query.text,
        query: grid,
        instant,
        budget: Budget::new(options.samples_max),
        notes: Notes::default(),
    }
}

fn answer(value: Value, notes: Notes) -> Answer {
    Answer {
        value,
        warnings: notes.warnings.into_iter().collect(),
        infos: notes.infos.into_iter().collect(),
    }
}

fn same_labels() -> Error {
    Error::execution("vector cannot contain metrics with the same labelset")
}

/// Drops the names that are to be dropped, joins series that come to be the same, and sorts.
fn merged(rows: Vec<(Row, Vec<(i64, f64)>)>) -> Result<Vec<Series>, Error> {
    let mut index: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut result: Vec<Series> = Vec::with_capacity(rows.len());
    for (row, points) in rows {
        if points.is_empty() {
            continue;
        }
        let labels = row.shown();
        if let Some(at) = index.get(&labels) {
            let target = &mut result[*at].points;
            target.extend(points);
            target.sort_by_key(|(time, _)| *time);
            if target.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(same_labels());
            }
            continue;
        }
        index.insert(labels.clone(), result.len());
        result.push(Series { labels, points });
    }
    result.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(result)
}
