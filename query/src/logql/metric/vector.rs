//! Aggregations over series: `sum by (app) (…)`, `topk(3, …)`, `sort(…)`.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::super::ast::{Grouping, MetricExpr, RangeOp, VectorAgg, VectorOp};
use super::super::error::QueryError;
use super::window::{least, mean, variance};
use super::{Run, Series, SeriesLabels};

impl Run<'_> {
    pub(super) fn vector(&mut self, agg: &VectorAgg) -> Result<Vec<Series>, QueryError> {
        if agg.op == VectorOp::ApproxTopk && !self.params.instant {
            return Err(QueryError::Invalid(
                "approx_topk is only supported on instant queries".into(),
            ));
        }
        let nothing = Grouping::default();
        let grouping = agg.grouping.as_ref().unwrap_or(&nothing);
        let series = match (&*agg.inner, agg.op) {
            // A sum of sums: the inner series need not exist one by one.
            (MetricExpr::Range(range), VectorOp::Sum) if is_sum(range.op) => {
                self.range(range, Some(grouping))?
            }
            (inner, _) => self.series(inner)?,
        };
        let steps = self.params.steps.count();
        Ok(match agg.op {
            VectorOp::Sort => sorted(series, compare),
            VectorOp::SortDesc => sorted(series, |a, b| compare(b, a)),
            VectorOp::Topk | VectorOp::ApproxTopk => {
                let picked = pick(series, grouping, agg.param.unwrap_or(1), steps, |a, b| {
                    least_last(*b, *a, f64::NEG_INFINITY)
                });
                sorted(picked, |a, b| compare(b, a))
            }
            VectorOp::Bottomk => {
                let picked = pick(series, grouping, agg.param.unwrap_or(1), steps, |a, b| {
                    least_last(*a, *b, f64::INFINITY)
                });
                sorted(picked, compare)
            }
            _ => joined(agg.op, series, grouping, steps),
        })
    }
}

fn is_sum(op: RangeOp) -> bool {
    matches!(
        op,
        RangeOp::CountOverTime
            | RangeOp::Rate
            | RangeOp::BytesOverTime
            | RangeOp::BytesRate
            | RangeOp::SumOverTime
    )
}

/// The labels that a grouping keeps.
pub(super) fn grouped(labels: &SeriesLabels, grouping: &Grouping) -> SeriesLabels {
    labels.filtered(|name| grouping.labels.iter().any(|l| l == name) != grouping.without)
}

/// Groups in order of appearance, with the numbers of their series.
fn groups(series: &[Series], grouping: &Grouping) -> Vec<(SeriesLabels, Vec<usize>)> {
    let mut known: HashMap<SeriesLabels, usize> = HashMap::new();
    let mut groups: Vec<(SeriesLabels, Vec<usize>)> = Vec::new();
    for (at, one) in series.iter().enumerate() {
        let labels = grouped(&one.labels, grouping);
        let group = *known.entry(labels.clone()).or_insert_with(|| {
            groups.push((labels, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(at);
    }
    groups
}

fn joined(op: VectorOp, series: Vec<Series>, grouping: &Grouping, steps: usize) -> Vec<Series> {
    let mut joined = Vec::new();
    let mut present = Vec::new();
    for (labels, members) in groups(&series, grouping) {
        let mut values = Vec::with_capacity(steps);
        for step in 0..steps {
            present.clear();
            present.extend(members.iter().filter_map(|at| series[*at].values[step]));
            values.push((!present.is_empty()).then(|| join(op, &present)));
        }
        joined.push(Series { labels, values });
    }
    joined
}

fn join(op: VectorOp, values: &[f64]) -> f64 {
    let each = values.iter().copied();
    match op {
        VectorOp::Sum => each.sum(),
        VectorOp::Avg => mean(each),
        VectorOp::Min => least(each),
        VectorOp::Max => -least(each.map(|value| -value)),
        VectorOp::Stdvar => variance(each),
        VectorOp::Stddev => variance(each).sqrt(),
        // The others do not join; see `vector`.
        _ => values.len() as f64,
    }
}

/// Keeps, at each step, the `count` first values of each group in the order of `compare`.
fn pick(
    mut series: Vec<Series>,
    grouping: &Grouping,
    count: usize,
    steps: usize,
    compare: impl Fn(&f64, &f64) -> Ordering,
) -> Vec<Series> {
    let groups = groups(&series, grouping);
    for step in 0..steps {
        for (_, members) in &groups {
            let mut present: Vec<(usize, f64)> =
                members.iter().filter_map(|at| Some((*at, series[*at].values[step]?))).collect();
            // Stable: of equal values the series that came first.
            present.sort_by(|(_, a), (_, b)| compare(a, b));
            for (at, _) in present.iter().skip(count) {
                series[*at].values[step] = None;
            }
        }
    }
    series.retain(|one| one.values.iter().any(Option::is_some));
    series
}

/// Compares with NaN standing for the value that is wanted least.
fn least_last(a: f64, b: f64, nan: f64) -> Ordering {
    let number = |value: f64| if value.is_nan() { nan } else { value };
    number(a).total_cmp(&number(b)).then_with(|| {
        // A real infinity goes before a NaN that stands for it.
        let order = a.is_nan().cmp(&b.is_nan());
        if nan > 0.0 { order } else { order.reverse() }
    })
}

/// Orders by the value of the first step; NaN comes last in either direction of [`compare`]'s use.
fn sorted(mut series: Vec<Series>, order: impl Fn(f64, f64) -> Ordering) -> Vec<Series> {
    let value = |one: &Series| one.values.first().copied().flatten().unwrap_or(f64::NAN);
    series.sort_by(|a, b| {
        let (x, y) = (value(a), value(b));
        x.is_nan().cmp(&y.is_nan()).then_with(|| order(x, y)).then_with(|| a.labels.cmp(&b.labels))
    });
    series
}

fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}
