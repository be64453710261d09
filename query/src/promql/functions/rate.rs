//! `rate`, `increase`, `delta` over a window, `irate`, `idelta` over its last two samples.

use std::collections::BTreeSet;

use crate::promql::ast::{Expr, Kind, WindowMode};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid};
use crate::promql::matching::metric_name;
use crate::promql::select::Window;

use super::{Id, borders, window_mode};

pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    id: Id,
    arg: &Expr,
    grid: Grid,
) -> Result<Frame, Error> {
    let mode = window_mode(arg);
    let lookback = evaluator.options.lookback;
    let frame = evaluator.fold_ranges(arg, grid, false, &mut |window, _| match (id, mode) {
        (Id::Irate | Id::Idelta, _) => instant(window, id == Id::Irate),
        (_, WindowMode::Plain) => extrapolated(window, id),
        _ => borders::change(window, id, mode, lookback),
    })?;
    if matches!(id, Id::Rate | Id::Increase) && matches!(arg.bare().kind, Kind::Selector(_)) {
        inform_about_gauges(evaluator, &frame, arg.at);
    }
    Ok(frame)
}

fn inform_about_gauges(evaluator: &mut Evaluator<'_>, frame: &Frame, at: usize) {
    let mut names = BTreeSet::new();
    for series in &frame.series {
        let name = metric_name(&series.labels);
        let kind = series.labels.get("__type__");
        let counter = match kind {
            Some(kind) => matches!(kind, "counter" | "histogram"),
            None => ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end)),
        };
        if !name.is_empty() && !counter {
            names.insert((name, kind));
        }
    }
    let messages: Vec<String> = names
        .into_iter()
        .map(|(name, kind)| match kind {
            Some(kind) => format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \
                 \"histogram\", got {kind:?}: {name:?}"
            ),
            None => format!(
                "metric might not be a counter, name does not end in \
                 _total/_sum/_count/_bucket: {name:?}"
            ),
        })
        .collect();
    for message in messages {
        evaluator.inform(&message, at);
    }
}

/// How much a counter has lost in resets.
pub(super) fn resets(first: f64, values: &[f64]) -> f64 {
    let (mut lost, mut previous) = (0.0, first);
    for value in values {
        if *value < previous {
            lost += previous;
        }
        previous = *value;
    }
    lost
}

#[expect(clippy::cast_precision_loss, reason = "times and counts are far below 2^53")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// The change over the window, extrapolated to its borders as Prometheus does: fully when the first
/// (last) sample is nearer to the border than 1.1 times the average distance of samples, else by
/// half that distance, and a counter never below zero.
fn extrapolated(window: &Window<'_>, id: Id) -> Option<f64> {
    let [first_time, .., last_time] = *window.times else {
        return None;
    };
    let [first, .., last] = *window.values else {
        return None;
    };
    let is_counter = id != Id::Delta;
    let mut change = last - first;
    if is_counter {
        change += resets(first, &window.values[1..]);
    }
    let mut to_start = seconds(first_time - window.start);
    let mut to_end = seconds(window.end - last_time);
    let sampled = seconds(last_time - first_time);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let distance = sampled / (window.times.len() - 1) as f64;
    let threshold = distance * 1.1;
    if to_start >= threshold {
        to_start = distance / 2.0;
    }
    if is_counter && change > 0.0 && first >= 0.0 {
        to_start = to_start.min(sampled * (first / change));
    }
    if to_end >= threshold {
        to_end = distance / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if id == Id::Rate {
        factor /= seconds(window.end - window.start);
    }
    Some(change * factor)
}

/// The change between the last two samples; for a counter, by second.
fn instant(window: &Window<'_>, is_rate: bool) -> Option<f64> {
    let [.., before, last] = *window.values else {
        return None;
    };
    let [.., time_before, time_last] = *window.times else {
        return None;
    };
    if !is_rate {
        return Some(last - before);
    }
    let change = if last < before { last } else { last - before };
    Some(change / seconds(time_last - time_before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<'a>(times: &'a [i64], values: &'a [f64], start: i64, end: i64) -> Window<'a> {
        Window { times, values, start, end, all_times: times, all_values: values }
    }

    #[test]
    fn extrapolates_to_the_borders() {
        let times = [60_000, 120_000, 180_000, 240_000, 300_000];
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        let w = window(&times, &values, 0, 300_000);
        assert_eq!(extrapolated(&w, Id::Increase), Some(5.0));
        assert_eq!(extrapolated(&w, Id::Rate), Some(5.0 / 300.0));
        assert_eq!(extrapolated(&window(&times[..1], &values[..1], 0, 300_000), Id::Rate), None);
    }

    #[test]
    fn a_reset_starts_from_zero() {
        assert_eq!(resets(5.0, &[7.0, 1.0, 2.0, 0.0]), 9.0);
        let w = window(&[0, 1000], &[9.0, 4.0], -1000, 1000);
        assert_eq!(instant(&w, true), Some(4.0));
        assert_eq!(instant(&w, false), Some(-5.0));
    }
}
