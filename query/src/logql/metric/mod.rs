//! Metric queries: numbers over time, from counts and values of lines.
//!
//! An expression is evaluated bottom up, each part for all steps at once: `range.rs` turns lines into
//! series, `vector.rs` joins series, `binary.rs` combines two sides, `replace.rs` renames. A value
//! may be missing at a step; that is not the same as NaN.

mod binary;
mod count;
mod group;
mod range;
mod replace;
mod series;
mod vector;
mod window;

use crate::source::{Cancel, LogSource, ScanStats};

use super::ast::{MetricExpr, VectorOp};
use super::error::QueryError;

pub use series::{Series, SeriesLabels, Steps};

/// Most series that a part of an expression may have.
pub const SERIES_INNER_MAX: usize = 100_000;

/// Most values that a part of an expression may have: series times steps.
pub const VALUES_MAX: usize = 20_000_000;

/// Most unwrapped samples that a range expression may hold.
pub const SAMPLES_MAX: usize = 5_000_000;

/// What a metric query is evaluated for.
#[derive(Clone, Debug)]
pub struct MetricParams {
    /// The times.
    pub steps: Steps,
    /// One time only: series may be ordered by value.
    pub instant: bool,
    /// Most series in the answer.
    pub series_max: usize,
    /// Stops the query.
    pub cancel: Cancel,
}

/// What an expression gives.
#[derive(Clone, Debug)]
pub enum MetricValue {
    /// One number, the same at every step.
    Scalar(f64),
    /// Series, in their final order.
    Series(Vec<Series>),
}

/// The answer to a metric query.
#[derive(Clone, Debug)]
pub struct MetricAnswer {
    /// The numbers.
    pub value: MetricValue,
    /// What reading has cost.
    pub stats: ScanStats,
}

/// What all parts of an evaluation share.
struct Run<'a> {
    source: &'a dyn LogSource,
    params: &'a MetricParams,
    stats: ScanStats,
}

/// Runs a metric query.
///
/// # Errors
/// [`QueryError`] when lines could not be read, series do not match, or a limit is reached.
pub fn run_metric(
    source: &dyn LogSource,
    expr: &MetricExpr,
    params: &MetricParams,
) -> Result<MetricAnswer, QueryError> {
    let mut run = Run { source, params, stats: ScanStats::default() };
    let mut value = run.eval(expr)?;
    if let MetricValue::Series(series) = &mut value {
        series.retain(|series| series.values.iter().any(Option::is_some));
        if series.len() > params.series_max {
            return Err(QueryError::TooManySeries(params.series_max));
        }
        if !(params.instant && orders(expr)) {
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
    }
    Ok(MetricAnswer { value, stats: run.stats })
}

/// Whether the order of the series comes from the expression.
fn orders(expr: &MetricExpr) -> bool {
    match expr {
        MetricExpr::Vector(vector) => matches!(
            vector.op,
            VectorOp::Sort
                | VectorOp::SortDesc
                | VectorOp::Topk
                | VectorOp::Bottomk
                | VectorOp::ApproxTopk
        ),
        MetricExpr::Binary(binary) => orders(&binary.left) || orders(&binary.right),
        MetricExpr::LabelReplace { inner, .. } => orders(inner),
        MetricExpr::Range(_) | MetricExpr::Literal(_) | MetricExpr::VectorLiteral(_) => false,
    }
}

impl Run<'_> {
    fn eval(&mut self, expr: &MetricExpr) -> Result<MetricValue, QueryError> {
        self.params.cancel.check()?;
        Ok(match expr {
            MetricExpr::Literal(value) => MetricValue::Scalar(*value),
            MetricExpr::VectorLiteral(value) => {
                let values = vec![Some(*value); self.params.steps.count()];
                MetricValue::Series(vec![Series { labels: SeriesLabels::default(), values }])
            }
            MetricExpr::Range(agg) => MetricValue::Series(self.range(agg, None)?),
            MetricExpr::Vector(agg) => MetricValue::Series(self.vector(agg)?),
            MetricExpr::Binary(binary) => {
                let left = self.eval(&binary.left)?;
                let right = self.eval(&binary.right)?;
                binary::combine(binary, left, right, self.params.steps.count())?
            }
            MetricExpr::LabelReplace { inner, dst, replacement, src, regex } => {
                let series = self.series(inner)?;
                let rule = replace::Rule::new(dst, replacement, src, regex)?;
                MetricValue::Series(rule.apply(series)?)
            }
        })
    }

    /// Evaluates a part that must give series; a number becomes one without labels.
    fn series(&mut self, expr: &MetricExpr) -> Result<Vec<Series>, QueryError> {
        Ok(match self.eval(expr)? {
            MetricValue::Series(series) => series,
            MetricValue::Scalar(value) => {
                let values = vec![Some(value); self.params.steps.count()];
                vec![Series { labels: SeriesLabels::default(), values }]
            }
        })
    }

    fn add_stats(&mut self, more: ScanStats) {
        self.stats.streams += more.streams;
        self.stats.blocks += more.blocks;
        self.stats.blocks_scanned += more.blocks_scanned;
        self.stats.bytes_scanned += more.bytes_scanned;
        self.stats.lines_scanned += more.lines_scanned;
    }
}
