//! `absent` and `absent_over_time`: 1 where nothing is.

use std::collections::BTreeMap;

use taffrail_model::sample::METRIC_NAME;
use taffrail_model::{Labels, MatchOp};

use crate::promql::ast::{Expr, Kind};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid, Series, is_present};

pub(super) fn absent(
    evaluator: &mut Evaluator<'_>,
    arg: &Expr,
    grid: Grid,
) -> Result<Frame, Error> {
    let frame = evaluator.vector(arg, grid)?;
    complement(evaluator, &frame, arg)
}

pub(super) fn absent_over_time(
    evaluator: &mut Evaluator<'_>,
    arg: &Expr,
    grid: Grid,
) -> Result<Frame, Error> {
    let frame = evaluator.fold_ranges(arg, grid, false, &mut |window, _| {
        (!window.values.is_empty()).then_some(1.0)
    })?;
    complement(evaluator, &frame, arg)
}

fn complement(evaluator: &Evaluator<'_>, frame: &Frame, arg: &Expr) -> Result<Frame, Error> {
    let mut result = evaluator.frame(frame.grid);
    let row = result.push(Series { labels: labels(arg), drop_name: false })?;
    for (step, point) in row.iter_mut().enumerate() {
        if !(0..frame.len()).any(|row| is_present(frame.value(row, step))) {
            *point = 1.0;
        }
    }
    result.pop_if_empty();
    Ok(result)
}

/// The labels that the absent series would surely have: those that a selector asks for by one
/// equality and nothing else.
fn labels(arg: &Expr) -> Labels {
    let Kind::Selector(selector) = &arg.bare().kind else {
        return Labels::default();
    };
    let mut found: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for matcher in selector.matchers.iter().filter(|m| m.name != METRIC_NAME) {
        let known = (matcher.op == MatchOp::Equal).then_some(matcher.value.as_str());
        found.entry(&matcher.name).and_modify(|value| *value = None).or_insert(known);
    }
    Labels::from_pairs(found.into_iter().filter_map(|(name, value)| Some((name, value?))))
}
