//! Aggregations that choose series of each group and leave them as they are: `topk`, `bottomk`,
//! `limitk`, `limit_ratio`.

use std::cmp::Ordering;

use super::aggregate::groups;
use super::ast::{Aggregate, AggregateOp};
use super::error::Error;
use super::eval::Evaluator;
use super::frame::{ABSENT, Frame, Grid, is_present};
use super::print::number_text;

/// Evaluates the aggregation. For an instant query the rows of `topk` and `bottomk` come best
/// first, group by group.
pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    aggregate: &Aggregate,
    grid: Grid,
) -> Result<Frame, Error> {
    let (parameters, at) = match &aggregate.parameter {
        Some(parameter) => (evaluator.scalar(parameter, grid)?, parameter.at),
        None => (Vec::new(), 0),
    };
    let mut frame = evaluator.vector(&aggregate.expr, grid)?;
    let groups = groups(aggregate, &frame);
    let mut rows_of: Vec<Vec<usize>> = vec![Vec::new(); groups.series.len()];
    for (row, group) in groups.of_row.iter().enumerate() {
        rows_of[*group].push(row);
    }
    let mut chosen = Vec::new();
    for (step, parameter) in parameters.iter().enumerate() {
        let pick = Pick::new(evaluator, aggregate.op, *parameter, at)?;
        evaluator.cancel.check()?;
        for rows in &rows_of {
            pick.choose(&mut frame, rows, step, &mut chosen);
        }
    }
    if evaluator.instant && grid.steps == 1 {
        frame = frame.reordered(&chosen);
    }
    Ok(frame)
}

/// What to choose at a step.
enum Pick {
    Largest(usize),
    Smallest(usize),
    First(usize),
    Ratio(f64),
}

impl Pick {
    fn new(
        evaluator: &mut Evaluator<'_>,
        op: AggregateOp,
        parameter: f64,
        at: usize,
    ) -> Result<Self, Error> {
        if op == AggregateOp::LimitRatio {
            if parameter.is_nan() {
                return Err(Error::execution("Ratio value is NaN"));
            }
            let ratio = parameter.clamp(-1.0, 1.0);
            if ratio != parameter {
                let message = format!(
                    "ratio value should be between -1 and 1, got {}, capping to {}",
                    number_text(parameter),
                    number_text(ratio)
                );
                evaluator.warn(&message, at);
            }
            return Ok(Self::Ratio(ratio));
        }
        if parameter.is_nan() {
            return Err(Error::execution("Parameter value is NaN"));
        }
        // Beyond these a float does not fit a 64-bit integer.
        if !(-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&parameter) {
            let way = if parameter > 0.0 { "overflows" } else { "underflows" };
            return Err(Error::Execution(format!(
                "Scalar value {} {way} int64",
                number_text(parameter)
            )));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates: below 1 nothing is chosen"
        )]
        let count = parameter as usize;
        Ok(match op {
            AggregateOp::Topk => Self::Largest(count),
            AggregateOp::Bottomk => Self::Smallest(count),
            _ => Self::First(count),
        })
    }

    /// Makes absent, at one step, the rows of a group that are not chosen.
    fn choose(&self, frame: &mut Frame, rows: &[usize], step: usize, chosen: &mut Vec<usize>) {
        let mut present: Vec<usize> =
            rows.iter().copied().filter(|row| is_present(frame.value(*row, step))).collect();
        let better = |frame: &Frame, a: usize, b: usize, largest: bool| {
            let (a, b) = (frame.value(a, step), frame.value(b, step));
            match (a.is_nan(), b.is_nan()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) if largest => b.total_cmp(&a),
                (false, false) => a.total_cmp(&b),
            }
        };
        let keep = match self {
            Self::Largest(count) => {
                present.sort_by(|a, b| better(frame, *a, *b, true));
                *count
            }
            Self::Smallest(count) => {
                present.sort_by(|a, b| better(frame, *a, *b, false));
                *count
            }
            Self::First(count) => *count,
            Self::Ratio(ratio) => {
                present.sort_by_key(|row| !in_ratio(frame, *row, *ratio));
                present.partition_point(|row| in_ratio(frame, *row, *ratio))
            }
        }
        .min(present.len());
        for row in &present[keep..] {
            frame.row_mut(*row)[step] = ABSENT;
        }
        chosen.extend_from_slice(&present[..keep]);
    }
}

/// Whether a series belongs to a share of all series. The shares of `r` and `r - 1` complement each
/// other.
fn in_ratio(frame: &Frame, row: usize, ratio: f64) -> bool {
    let hash = (frame.series[row].labels.fingerprint() >> 64) as u64;
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
    let offset = hash as f64 / u64::MAX as f64;
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}
