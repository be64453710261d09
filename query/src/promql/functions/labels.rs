//! Functions that change labels: `label_replace`, `label_join`.

use std::collections::HashMap;

use regex::Regex;
use taffrail_model::Labels;
use taffrail_model::sample::METRIC_NAME;

use crate::promql::ast::Expr;
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid, Series, is_present};

pub(super) fn replace(
    evaluator: &mut Evaluator<'_>,
    args: &[Expr],
    grid: Grid,
) -> Result<Frame, Error> {
    let target = evaluator.text(&args[1], grid)?;
    let template = evaluator.text(&args[2], grid)?;
    let source = evaluator.text(&args[3], grid)?;
    let pattern = evaluator.text(&args[4], grid)?;
    let regex = regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(10 << 20)
        .build()
        .map_err(|_| {
            Error::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
        })?;
    check_name(&target, "invalid destination label name in label_replace()")?;
    let frame = evaluator.vector(&args[0], grid)?;
    relabel(evaluator, frame, &target, |labels| {
        replaced(&regex, labels.get(&source).unwrap_or(""), &template)
    })
}

/// The new value, when the expression matches.
fn replaced(regex: &Regex, value: &str, template: &str) -> Option<String> {
    let captures = regex.captures(value)?;
    let mut text = String::new();
    captures.expand(template, &mut text);
    Some(text)
}

pub(super) fn join(
    evaluator: &mut Evaluator<'_>,
    args: &[Expr],
    grid: Grid,
) -> Result<Frame, Error> {
    let target = evaluator.text(&args[1], grid)?;
    let separator = evaluator.text(&args[2], grid)?;
    let mut sources = Vec::new();
    for arg in &args[3..] {
        let source = evaluator.text(arg, grid)?;
        check_name(&source, "invalid source label name in label_join()")?;
        sources.push(source);
    }
    check_name(&target, "invalid destination label name in label_join()")?;
    let frame = evaluator.vector(&args[0], grid)?;
    relabel(evaluator, frame, &target, |labels| {
        let values: Vec<&str> = sources.iter().map(|s| labels.get(s).unwrap_or("")).collect();
        Some(values.join(&separator))
    })
}

fn check_name(name: &str, problem: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Execution(format!("{problem}: {name}")));
    }
    Ok(())
}

fn relabel(
    evaluator: &Evaluator<'_>,
    mut frame: Frame,
    target: &str,
    value: impl Fn(&Labels) -> Option<String>,
) -> Result<Frame, Error> {
    for series in &mut frame.series {
        if let Some(value) = value(&series.labels) {
            series.labels = series.labels.with(target, &value);
            if target == METRIC_NAME {
                series.drop_name = false;
            }
        }
    }
    merge_same(evaluator, &frame)
}

/// Joins rows that have come to have the same labels. At no step may two of them be present.
fn merge_same(evaluator: &Evaluator<'_>, frame: &Frame) -> Result<Frame, Error> {
    let mut rows: HashMap<Labels, usize> = HashMap::with_capacity(frame.len());
    let mut merged = evaluator.frame(frame.grid);
    for (series, row) in frame.rows() {
        if let Some(target) = rows.get(&series.labels) {
            for (point, value) in merged.row_mut(*target).iter_mut().zip(row) {
                if !is_present(*value) {
                    continue;
                }
                if is_present(*point) {
                    return Err(Error::execution(
                        "vector cannot contain metrics with the same labelset",
                    ));
                }
                *point = *value;
            }
            continue;
        }
        rows.insert(series.labels.clone(), merged.len());
        let series = Series { labels: series.labels.clone(), drop_name: series.drop_name };
        merged.push(series)?.copy_from_slice(row);
    }
    Ok(merged)
}
