//! Functions that order the answer to an instant query. Answers to range queries are ordered by
//! labels, whatever these say.

use std::cmp::Ordering;

use taffrail_model::Labels;

use crate::promql::ast::Expr;
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid, is_present};

use super::Id;

pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    id: Id,
    args: &[Expr],
    grid: Grid,
    at: usize,
) -> Result<Frame, Error> {
    let mut labels = Vec::new();
    for arg in &args[1..] {
        labels.push(evaluator.text(arg, grid)?);
    }
    let frame = evaluator.vector(&args[0], grid)?;
    if !evaluator.instant {
        let message =
            "sort is ineffective for range queries since results are always ordered by labels";
        evaluator.warn(message, at);
    }
    if !evaluator.instant || grid.steps != 1 {
        return Ok(frame);
    }
    let mut order: Vec<usize> =
        (0..frame.len()).filter(|r| is_present(frame.value(*r, 0))).collect();
    match id {
        Id::Sort => order.sort_by(|a, b| by_value(frame.value(*a, 0), frame.value(*b, 0), false)),
        Id::SortDesc => {
            order.sort_by(|a, b| by_value(frame.value(*a, 0), frame.value(*b, 0), true));
        }
        _ => order.sort_by(|a, b| {
            let (a, b) = (&frame.series[*a].labels, &frame.series[*b].labels);
            let order = by_labels(&labels, a, b);
            if id == Id::SortByLabelDesc { order.reverse() } else { order }
        }),
    }
    Ok(frame.reordered(&order))
}

/// NaN comes last in both directions.
fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ if descending => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        _ => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

fn by_labels(names: &[String], a: &Labels, b: &Labels) -> Ordering {
    names
        .iter()
        .map(|name| natural(a.get(name).unwrap_or(""), b.get(name).unwrap_or("")))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.cmp(b))
}

/// Compares texts so that runs of digits count as numbers: `a2` before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (a_run, a_rest) = run(a);
        let (b_run, b_rest) = run(b);
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(a_run) && digits(b_run) {
            let (x, y) = (a_run.trim_start_matches('0'), b_run.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y)).then_with(|| a_run.len().cmp(&b_run.len()))
        } else {
            a_run.cmp(b_run)
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    a.len().cmp(&b.len())
}

/// Splits off the leading run of digits, or of anything else.
fn run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count() {
        let cases = [("a2", "a10"), ("a", "a1"), ("1", "a"), ("v1.9", "v1.10"), ("", "x")];
        for (less, more) in cases {
            assert_eq!(natural(less, more), Ordering::Less, "{less} {more}");
            assert_eq!(natural(more, less), Ordering::Greater, "{less} {more}");
        }
        assert_eq!(natural("x7", "x7"), Ordering::Equal);
    }
}
