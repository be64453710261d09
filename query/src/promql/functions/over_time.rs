//! Functions that fold the samples of a window into one value: `…_over_time`, `changes`, `resets`,
//! `deriv`, `predict_linear`, smoothing.

use crate::promql::ast::{Expr, WindowMode};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid};
use crate::promql::kahan::{Kahan, Mean, Variance};
use crate::promql::select::Window;

use super::{Id, borders, quantile, window_mode};

/// Whether the function belongs here.
pub(super) fn is_one(id: Id) -> bool {
    matches!(
        id,
        Id::AvgOverTime
            | Id::Changes
            | Id::CountOverTime
            | Id::Deriv
            | Id::DoubleExponentialSmoothing
            | Id::FirstOverTime
            | Id::LastOverTime
            | Id::MadOverTime
            | Id::MaxOverTime
            | Id::MinOverTime
            | Id::PredictLinear
            | Id::PresentOverTime
            | Id::QuantileOverTime
            | Id::Resets
            | Id::StddevOverTime
            | Id::StdvarOverTime
            | Id::SumOverTime
            | Id::TsOfFirstOverTime
            | Id::TsOfLastOverTime
            | Id::TsOfMaxOverTime
            | Id::TsOfMinOverTime
    )
}

pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    id: Id,
    args: &[Expr],
    grid: Grid,
) -> Result<Frame, Error> {
    let arg = if id == Id::QuantileOverTime { &args[1] } else { &args[0] };
    match id {
        Id::QuantileOverTime => {
            let levels = evaluator.scalar(&args[0], grid)?;
            let mut scratch = Vec::new();
            let mut used = vec![false; grid.steps];
            let frame = evaluator.fold_ranges(arg, grid, false, &mut |window, step| {
                scratch.clear();
                scratch.extend_from_slice(window.values);
                used[step] |= !scratch.is_empty();
                (!scratch.is_empty()).then(|| quantile::of_values(levels[step], &mut scratch))
            })?;
            for (level, _) in levels.iter().zip(&used).filter(|(_, used)| **used) {
                quantile::check_level(evaluator, *level, args[0].at);
            }
            Ok(frame)
        }
        Id::PredictLinear => {
            let ahead = evaluator.scalar(&args[1], grid)?;
            evaluator.fold_ranges(arg, grid, false, &mut |window, step| {
                let (slope, intercept) = regression(window, grid.time(step))?;
                Some(slope * ahead[step] + intercept)
            })
        }
        Id::DoubleExponentialSmoothing => {
            let smoothing = evaluator.scalar(&args[1], grid)?;
            let trend = evaluator.scalar(&args[2], grid)?;
            for (word, factors) in [("smoothing", &smoothing), ("trend", &trend)] {
                if let Some(bad) = factors.iter().find(|f| !(**f > 0.0 && **f < 1.0)) {
                    return Err(Error::Execution(format!(
                        "invalid {word} factor. Expected: 0 < factor < 1, got: {bad}"
                    )));
                }
            }
            evaluator.fold_ranges(arg, grid, false, &mut |window, step| {
                smooth(window.values, smoothing[step], trend[step])
            })
        }
        _ => {
            let anchored = window_mode(arg) == WindowMode::Anchored;
            let lookback = evaluator.options.lookback;
            let keep_name = matches!(id, Id::LastOverTime | Id::FirstOverTime);
            let mut scratch = Vec::new();
            evaluator.fold_ranges(arg, grid, keep_name, &mut |window, _| {
                if anchored {
                    let values = borders::anchored(window, lookback);
                    return fold(id, &Window { values, ..*window }, &mut scratch);
                }
                fold(id, window, &mut scratch)
            })
        }
    }
}

fn fold(id: Id, window: &Window<'_>, scratch: &mut Vec<f64>) -> Option<f64> {
    let values = window.values;
    let (first, last) = (*values.first()?, *values.last()?);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let count = values.len() as f64;
    Some(match id {
        Id::AvgOverTime => {
            let mut mean = Mean::default();
            values.iter().for_each(|value| mean.add(*value));
            mean.mean()
        }
        Id::SumOverTime => {
            let mut sum = Kahan::default();
            values.iter().for_each(|value| sum.add(*value));
            sum.total()
        }
        Id::CountOverTime => count,
        Id::PresentOverTime => 1.0,
        Id::FirstOverTime => first,
        Id::LastOverTime => last,
        Id::MaxOverTime => values[extreme(values, |a, b| a > b)],
        Id::MinOverTime => values[extreme(values, |a, b| a < b)],
        Id::TsOfMaxOverTime => seconds(window.times[extreme(values, |a, b| a >= b)]),
        Id::TsOfMinOverTime => seconds(window.times[extreme(values, |a, b| a <= b)]),
        Id::TsOfFirstOverTime => seconds(*window.times.first()?),
        Id::TsOfLastOverTime => seconds(*window.times.last()?),
        Id::StddevOverTime => variance(values).sqrt(),
        Id::StdvarOverTime => variance(values),
        Id::Changes => count_pairs(values, |a, b| a != b && !(a.is_nan() && b.is_nan())),
        Id::Resets => count_pairs(values, |a, b| b < a),
        Id::Deriv => {
            // Times relative to the first sample keep the squares small.
            let start = *window.times.first()?;
            (values.len() >= 2).then(|| regression(window, start)).flatten()?.0
        }
        Id::MadOverTime => {
            scratch.clear();
            scratch.extend_from_slice(values);
            let median = quantile::of_values(0.5, scratch);
            scratch.iter_mut().for_each(|value| *value = (*value - median).abs());
            quantile::of_values(0.5, scratch)
        }
        _ => return None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 ms")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// The index of the best value; a NaN is the best only among NaNs.
fn extreme(values: &[f64], better: impl Fn(f64, f64) -> bool) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if values[best].is_nan() || better(*value, values[best]) {
            best = index;
        }
    }
    best
}

fn variance(values: &[f64]) -> f64 {
    let mut variance = Variance::default();
    values.iter().for_each(|value| variance.add(*value));
    variance.variance()
}

fn count_pairs(values: &[f64], counts: impl Fn(f64, f64) -> bool) -> f64 {
    let count = values.windows(2).filter(|pair| counts(pair[0], pair[1])).count();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let count = count as f64;
    count
}

/// Slope by second and value at `at` of the line through the samples.
fn regression(window: &Window<'_>, at: i64) -> Option<(f64, f64)> {
    let first = *window.values.first()?;
    if window.values.len() < 2 {
        return None;
    }
    if window.values.iter().all(|value| *value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let (mut x_sum, mut y_sum) = (Kahan::default(), Kahan::default());
    let (mut xy_sum, mut xx_sum) = (Kahan::default(), Kahan::default());
    for (time, y) in window.times.iter().zip(window.values) {
        let x = seconds(*time - at);
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * *y);
        xx_sum.add(x * x);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let count = window.values.len() as f64;
    let (x, y) = (x_sum.total(), y_sum.total());
    let slope = (xy_sum.total() - x * y / count) / (xx_sum.total() - x * x / count);
    Some((slope, y / count - slope * x / count))
}

/// Holt's double exponential smoothing.
fn smooth(values: &[f64], smoothing: f64, trend_factor: f64) -> Option<f64> {
    let [first, second, ..] = *values else {
        return None;
    };
    let (mut before, mut level, mut trend) = (0.0, first, second - first);
    for (index, value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + trend);
        (before, level) = (level, next);
    }
    Some(level)
}
