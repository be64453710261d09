//! Range expressions: lines in a window `(t - range, t]` become a number at `t`.
//!
//! Counts and bytes add one number where a line enters the windows and take it away where it leaves
//! them, so a line costs the same however many windows overlap; whole numbers make that exact.
//! Unwrapped values are kept, sorted by time, and each window is a slice of them.

use std::ops::ControlFlow;

use taffrail_model::{MatchOp, TimeRange};

use crate::source::{LogScan, SourceError};

use super::super::ast::{Grouping, RangeAgg, RangeOp};
use super::super::error::QueryError;
use super::super::labels::{ERROR_LABEL, LineLabels};
use super::super::plan::RangePlan;
use super::group::{GroupKey, Grouper};
use super::window::{Sample, over_window};
use super::{Run, SAMPLES_MAX, Series, SeriesLabels, Steps, count};

/// Windows of a range expression.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub(super) steps: Steps,
    pub(super) range: i64,
    pub(super) offset: i64,
}

impl Windows {
    /// Numbers of the steps whose windows hold `ts`.
    fn holding(&self, ts: i64) -> std::ops::Range<usize> {
        let moved = i128::from(ts) + i128::from(self.offset);
        self.steps.first_from(moved)..self.steps.first_from(moved + i128::from(self.range))
    }

    /// End of the window of a step; it is in the window.
    pub(super) fn end(&self, index: usize) -> i64 {
        self.steps.at(index).saturating_sub(self.offset)
    }

    /// All windows and what lies between them.
    fn hull(&self) -> TimeRange {
        let first = self.end(0).saturating_sub(self.range).saturating_add(1);
        TimeRange::new(first, self.end(self.steps.count() - 1).saturating_add(1))
    }

    fn seconds(&self) -> f64 {
        self.range as f64 / 1e9
    }
}

/// Differences from step to step, one more than there are steps.
struct Deltas {
    lines: Vec<i64>,
    bytes: Vec<i64>,
}

/// What the lines of each series have come to.
enum Sums {
    Deltas(Vec<Deltas>),
    Samples(Vec<Vec<Sample>>, usize),
}

impl Run<'_> {
    /// Evaluates a range expression. `outer` is the grouping of a sum around it, which may be applied
    /// at once where the operation is itself a sum.
    pub(super) fn range(
        &mut self,
        agg: &RangeAgg,
        outer: Option<&Grouping>,
    ) -> Result<Vec<Series>, QueryError> {
        let plan = RangePlan::new(agg)?;
        let windows = Windows { steps: self.params.steps, range: agg.range, offset: agg.offset };
        let unwrapped = plan.unwrap.as_ref().map(|unwrap| unwrap.label());
        let key = if agg.op == RangeOp::AbsentOverTime {
            GroupKey::new(Some(&Grouping::default()), None, None)
        } else {
            GroupKey::new(agg.grouping.as_ref(), outer, unwrapped)
        };
        if let Some(series) = count::from_blocks(self, agg, &plan, &key, windows)? {
            return Ok(series);
        }
        let (labels, sums) = self.scan_range(&plan, key, windows)?;
        Ok(match agg.op {
            RangeOp::AbsentOverTime => absent(agg, sums, windows),
            _ => finish(agg, labels, sums, windows),
        })
    }

    fn scan_range(
        &mut self,
        plan: &RangePlan,
        key: GroupKey,
        windows: Windows,
    ) -> Result<(Vec<SeriesLabels>, Sums), QueryError> {
        let scan = LogScan {
            matchers: plan.log.matchers.clone(),
            range: windows.hull(),
            filters: plan.log.filters.clone(),
            order: None,
            limit: None,
            cancel: self.params.cancel.clone(),
        };
        let steps = windows.steps.count();
        let mut grouper = Grouper::new(key, steps);
        let mut sums = match plan.unwrap {
            None => Sums::Deltas(Vec::new()),
            Some(_) => Sums::Samples(Vec::new(), 0),
        };
        let mut labels = LineLabels::new();
        let mut failure = None;
        let stats = self.source.scan(&scan, &mut |stream, row| {
            let held = windows.holding(row.ts);
            if held.is_empty() {
                return ControlFlow::Continue(());
            }
            let Some(line) = plan.log.admit(stream, &row, &mut labels) else {
                return ControlFlow::Continue(());
            };
            let value = match &plan.unwrap {
                None => 0.0,
                Some(unwrap) => match unwrap.value(&mut labels) {
                    Some(value) => value,
                    None => return ControlFlow::Continue(()),
                },
            };
            let added = no_error(&labels)
                .and_then(|()| grouper.series(&labels))
                .and_then(|at| sums.add(at, steps, held, line.len(), Sample { ts: row.ts, value }));
            match added {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        self.add_stats(stats);
        match failure {
            Some(error) => Err(error),
            None => Ok((grouper.into_labels(), sums)),
        }
    }
}

/// A line that a stage could not read makes the whole query fail: a number would be silently wrong.
fn no_error(labels: &LineLabels) -> Result<(), QueryError> {
    if labels.error().is_none() {
        return Ok(());
    }
    let error = labels.get(ERROR_LABEL).unwrap_or_default().to_owned();
    let mut pairs = Vec::new();
    labels.sorted(&mut pairs);
    Err(QueryError::Pipeline { error, series: SeriesLabels::from_pairs(pairs).to_string() })
}

impl Sums {
    fn add(
        &mut self,
        at: usize,
        steps: usize,
        held: std::ops::Range<usize>,
        bytes: usize,
        sample: Sample,
    ) -> Result<(), QueryError> {
        match self {
            Self::Deltas(series) => {
                while series.len() <= at {
                    series.push(Deltas { lines: vec![0; steps + 1], bytes: vec![0; steps + 1] });
                }
                // A line is far shorter than 2^63.
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                let deltas = &mut series[at];
                deltas.lines[held.start] += 1;
                deltas.lines[held.end] -= 1;
                deltas.bytes[held.start] += bytes;
                deltas.bytes[held.end] -= bytes;
            }
            Self::Samples(series, count) => {
                *count += 1;
                if *count > SAMPLES_MAX {
                    return Err(SourceError::TooMuch(format!(
                        "the query unwraps more than {SAMPLES_MAX} values; ask for a shorter range \
                         or add a filter"
                    ))
                    .into());
                }
                while series.len() <= at {
                    series.push(Vec::new());
                }
                series[at].push(sample);
            }
        }
        Ok(())
    }
}

fn finish(agg: &RangeAgg, labels: Vec<SeriesLabels>, sums: Sums, windows: Windows) -> Vec<Series> {
    match sums {
        Sums::Deltas(deltas) => labels
            .into_iter()
            .zip(deltas)
            .map(|(labels, deltas)| Series {
                labels,
                values: counted(agg.op, &deltas, windows.seconds()),
            })
            .collect(),
        Sums::Samples(samples, _) => labels
            .into_iter()
            .zip(samples)
            .map(|(labels, mut samples)| {
                samples.sort_by_key(|sample| sample.ts);
                Series { labels, values: unwrapped(agg, &samples, windows) }
            })
            .collect(),
    }
}

fn counted(op: RangeOp, deltas: &Deltas, seconds: f64) -> Vec<Option<f64>> {
    let (mut lines, mut bytes) = (0_i64, 0_i64);
    let steps = deltas.lines.len() - 1;
    let mut values = Vec::with_capacity(steps);
    for at in 0..steps {
        lines += deltas.lines[at];
        bytes += deltas.bytes[at];
        values.push((lines > 0).then(|| count::number(op, lines, bytes, seconds)));
    }
    values
}

/// Walks over the windows; both ends of the slice only move forward.
fn unwrapped(agg: &RangeAgg, samples: &[Sample], windows: Windows) -> Vec<Option<f64>> {
    let (mut from, mut to) = (0, 0);
    let mut values = Vec::with_capacity(windows.steps.count());
    for index in 0..windows.steps.count() {
        let end = windows.end(index);
        let start = end.saturating_sub(windows.range);
        while samples.get(to).is_some_and(|sample| sample.ts <= end) {
            to += 1;
        }
        while from < to && samples[from].ts <= start {
            from += 1;
        }
        let window = &samples[from..to];
        let value =
            (!window.is_empty()).then(|| over_window(agg.op, agg.param, window, (start, end)));
        values.push(value);
    }
    values
}

/// One series, with the labels that the selector fixes, where there was nothing.
fn absent(agg: &RangeAgg, sums: Sums, windows: Windows) -> Vec<Series> {
    let steps = windows.steps.count();
    let mut values = vec![Some(1.0); steps];
    match sums {
        Sums::Deltas(series) => {
            for deltas in series {
                let mut lines = 0;
                for (value, delta) in values.iter_mut().zip(&deltas.lines) {
                    lines += delta;
                    *value = value.filter(|_| lines == 0);
                }
            }
        }
        Sums::Samples(series, _) => {
            for sample in series.iter().flatten() {
                for value in &mut values[windows.holding(sample.ts)] {
                    *value = None;
                }
            }
        }
    }
    let matchers = &agg.log.matchers;
    let fixed = matchers.iter().filter(|matcher| {
        matcher.op == MatchOp::Equal
            && !matcher.value.is_empty()
            && matchers.iter().filter(|other| other.name == matcher.name).count() == 1
    });
    let labels = SeriesLabels::from_pairs(fixed.map(|m| (m.name.as_str(), m.value.as_str())));
    vec![Series { labels, values }]
}
