//! Log queries: lines in order of time, through the pipeline, up to a limit.

use std::ops::ControlFlow;

use taffrail_model::{Nanos, TimeRange};

use crate::source::{Cancel, Direction, LogScan, LogSource, ScanStats};

use super::error::QueryError;
use super::labels::LineLabels;
use super::plan::LogPlan;

/// Which lines of a pipeline are wanted.
#[derive(Clone, Debug)]
pub struct LogParams {
    /// Time of the lines, half-open.
    pub range: TimeRange,
    /// The order.
    pub direction: Direction,
    /// How many lines at the most; `None`: all.
    pub limit: Option<usize>,
    /// Least time between two lines; 0: every line.
    pub interval: Nanos,
    /// Stops the query.
    pub cancel: Cancel,
}

/// A line that came out of a pipeline.
pub struct LogLine<'a> {
    /// Its time.
    pub ts: Nanos,
    /// Its text.
    pub line: &'a str,
    /// Its labels.
    pub labels: &'a LineLabels,
}

/// Runs a log query: gives each line to `sink`, which may stop it.
///
/// # Errors
/// When the store cannot answer.
pub fn run_log(
    source: &dyn LogSource,
    plan: &LogPlan,
    params: &LogParams,
    sink: &mut dyn FnMut(LogLine<'_>) -> ControlFlow<()>,
) -> Result<ScanStats, QueryError> {
    if params.limit == Some(0) {
        return Ok(ScanStats::default());
    }
    // With stages, more rows may be needed than come out: no hint then.
    let hint = params.limit.filter(|_| plan.stages.is_empty() && params.interval == 0);
    let scan = LogScan {
        matchers: plan.matchers.clone(),
        range: params.range,
        filters: plan.filters.clone(),
        order: Some(params.direction),
        limit: hint,
        cancel: params.cancel.clone(),
    };
    let mut labels = LineLabels::new();
    let mut left = params.limit.unwrap_or(usize::MAX);
    let mut last: Option<Nanos> = None;
    let stats = source.scan(&scan, &mut |stream, row| {
        let Some(line) = plan.admit(stream, &row, &mut labels) else {
            return ControlFlow::Continue(());
        };
        if last.is_some_and(|last| last.abs_diff(row.ts) < params.interval.unsigned_abs()) {
            return ControlFlow::Continue(());
        }
        last = Some(row.ts);
        left -= 1;
        sink(LogLine { ts: row.ts, line: &line, labels: &labels })?;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(stats)
}
