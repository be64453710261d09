//! Aggregations: rows of a vector fold into the rows of their groups, column by column.
//!
//! Operators that choose series (`topk`, `limitk`, …) are in [`super::choose`].

use std::collections::HashMap;

use taffrail_model::Labels;

use super::ast::{Aggregate, AggregateOp};
use super::check::is_metric_label;
use super::choose;
use super::error::Error;
use super::eval::Evaluator;
use super::frame::{Frame, Grid, Series, is_present};
use super::functions::quantile;
use super::kahan::{Kahan, Mean, Variance};
use super::print::number_text;

/// The groups of a vector: their names, and the group of each row.
pub(super) struct Groups {
    pub(super) series: Vec<Series>,
    pub(super) of_row: Vec<usize>,
}

/// The labels of the group of a series.
fn group_labels(aggregate: &Aggregate, labels: &Labels) -> Labels {
    let listed = |name: &str| aggregate.labels.iter().any(|label| label == name);
    if aggregate.without {
        labels.filtered(|name| !is_metric_label(name) && !listed(name))
    } else {
        labels.filtered(listed)
    }
}

pub(super) fn groups(aggregate: &Aggregate, frame: &Frame) -> Groups {
    let mut index: HashMap<Labels, usize> = HashMap::new();
    let mut groups = Groups { series: Vec::new(), of_row: Vec::with_capacity(frame.len()) };
    for series in &frame.series {
        let labels = group_labels(aggregate, &series.labels);
        let group = *index.entry(labels.clone()).or_insert_with(|| {
            groups.series.push(Series { labels, drop_name: false });
            groups.series.len() - 1
        });
        groups.series[group].drop_name |= series.drop_name;
        groups.of_row.push(group);
    }
    groups
}

/// Evaluates an aggregation.
pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    aggregate: &Aggregate,
    grid: Grid,
) -> Result<Frame, Error> {
    match aggregate.op {
        AggregateOp::CountValues => return count_values(evaluator, aggregate, grid),
        AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => return choose::evaluate(evaluator, aggregate, grid),
        _ => {}
    }
    let levels = match &aggregate.parameter {
        Some(parameter) => {
            let levels = evaluator.scalar(parameter, grid)?;
            for level in &levels {
                quantile::check_level(evaluator, *level, parameter.at);
            }
            levels
        }
        None => Vec::new(),
    };
    let frame = evaluator.vector(&aggregate.expr, grid)?;
    let groups = groups(aggregate, &frame);
    let mut result = evaluator.frame(grid);
    for series in &groups.series {
        result.push(series.clone())?;
    }
    if aggregate.op == AggregateOp::Quantile {
        quantiles(&frame, &groups, &levels, &mut result);
        return Ok(result);
    }
    let mut rows_of: Vec<Vec<usize>> = vec![Vec::new(); groups.series.len()];
    for (row, group) in groups.of_row.iter().enumerate() {
        rows_of[*group].push(row);
    }
    for (group, rows) in rows_of.iter().enumerate() {
        evaluator.cancel.check()?;
        fold(aggregate.op, &frame, rows, result.row_mut(group));
    }
    Ok(result)
}

fn fold(op: AggregateOp, frame: &Frame, rows: &[usize], into: &mut [f64]) {
    match op {
        AggregateOp::Sum => {
            fold_with(frame, rows, into, |s: &mut Kahan, v| s.add(v), |s| s.total());
        }
        AggregateOp::Avg => {
            fold_with(frame, rows, into, |s: &mut Mean, v| s.add(v), |s| s.mean());
        }
        AggregateOp::Count => {
            fold_with(frame, rows, into, |count: &mut f64, _| *count += 1.0, |count| *count);
        }
        AggregateOp::Min => {
            fold_with(
                frame,
                rows,
                into,
                |least: &mut Extreme, v| least.take(v, |a, b| a < b),
                Extreme::value,
            );
        }
        AggregateOp::Max => {
            fold_with(
                frame,
                rows,
                into,
                |most: &mut Extreme, v| most.take(v, |a, b| a > b),
                Extreme::value,
            );
        }
        AggregateOp::Stddev => {
            fold_with(frame, rows, into, |s: &mut Variance, v| s.add(v), |s| s.variance().sqrt());
        }
        AggregateOp::Stdvar => {
            fold_with(frame, rows, into, |s: &mut Variance, v| s.add(v), |s| s.variance());
        }
        // `group`; the others never come here.
        _ => fold_with(frame, rows, into, |(): &mut (), _| (), |()| 1.0),
    }
}

/// The least or greatest value; a NaN stands only where nothing else does.
#[derive(Clone, Copy, Default)]
struct Extreme(Option<f64>);

impl Extreme {
    fn take(&mut self, value: f64, better: impl Fn(f64, f64) -> bool) {
        if self.0.is_none_or(|best| best.is_nan() || better(value, best)) {
            self.0 = Some(value);
        }
    }

    fn value(&self) -> f64 {
        self.0.unwrap_or(f64::NAN)
    }
}

/// Adds the present values of each step to a state, and writes what the state says.
fn fold_with<S: Clone + Default>(
    frame: &Frame,
    rows: &[usize],
    into: &mut [f64],
    mut add: impl FnMut(&mut S, f64),
    finish: impl Fn(&S) -> f64,
) {
    let mut states: Vec<Option<S>> = vec![None; into.len()];
    for row in rows {
        for (state, value) in states.iter_mut().zip(frame.row(*row)) {
            if is_present(*value) {
                add(state.get_or_insert_with(S::default), *value);
            }
        }
    }
    for (point, state) in into.iter_mut().zip(&states) {
        if let Some(state) = state {
            *point = finish(state);
        }
    }
}

fn quantiles(frame: &Frame, groups: &Groups, levels: &[f64], result: &mut Frame) {
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); groups.series.len()];
    for (step, level) in levels.iter().enumerate() {
        for (row, group) in groups.of_row.iter().enumerate() {
            let value = frame.value(row, step);
            if is_present(value) {
                values[*group].push(value);
            }
        }
        for (group, values) in values.iter_mut().enumerate() {
            if !values.is_empty() {
                result.row_mut(group)[step] = quantile::of_values(*level, values);
                values.clear();
            }
        }
    }
}

/// `count_values`: a series for each value that occurs.
fn count_values(
    evaluator: &mut Evaluator<'_>,
    aggregate: &Aggregate,
    grid: Grid,
) -> Result<Frame, Error> {
    let label = match &aggregate.parameter {
        Some(parameter) => evaluator.text(parameter, grid)?,
        None => String::new(),
    };
    let frame = evaluator.vector(&aggregate.expr, grid)?;
    let groups = groups(aggregate, &frame);
    let mut result = evaluator.frame(grid);
    let mut rows: HashMap<(usize, u64), usize> = HashMap::new();
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    for (row, group) in groups.of_row.iter().enumerate() {
        for (step, value) in frame.row(row).iter().enumerate() {
            if !is_present(*value) {
                continue;
            }
            let target = match rows.get(&(*group, value.to_bits())) {
                Some(target) => *target,
                None => {
                    let of_group = &groups.series[*group];
                    let labels = of_group.labels.with(&label, &number_text(*value));
                    let target = match by_labels.get(&labels) {
                        Some(target) => *target,
                        None => {
                            let drop_name = of_group.drop_name;
                            result.push(Series { labels: labels.clone(), drop_name })?;
                            by_labels.insert(labels, result.len() - 1);
                            result.len() - 1
                        }
                    };
                    rows.insert((*group, value.to_bits()), target);
                    target
                }
            };
            let point = &mut result.row_mut(target)[step];
            *point = if is_present(*point) { *point + 1.0 } else { 1.0 };
        }
    }
    Ok(result)
}
