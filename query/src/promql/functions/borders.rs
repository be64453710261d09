//! Windows that look past their borders: `anchored` takes the last sample before the window as its
//! first, `smoothed` interpolates the values at both borders.

use crate::promql::ast::WindowMode;
use crate::promql::select::Window;

use super::Id;
use super::rate::resets;

/// The samples that an anchored or smoothed window sees: its own, the last one at or before its
/// start, and for a smoothed one the first at or after its end; none farther than the look-back.
fn reached<'a>(window: &Window<'a>, mode: WindowMode, lookback: i64) -> (&'a [i64], &'a [f64]) {
    let times = window.all_times;
    let after = window.start.saturating_sub(lookback);
    let first = times.partition_point(|t| *t <= window.start);
    let first = if first > 0 && times[first - 1] > after { first - 1 } else { first };
    let mut last = times.partition_point(|t| *t <= window.end);
    if mode == WindowMode::Smoothed
        && times.get(last).is_some_and(|t| *t <= window.end.saturating_add(lookback))
        && (last == 0 || times[last - 1] < window.end)
    {
        last += 1;
    }
    (&times[first..last], &window.all_values[first..last])
}

/// The samples from the anchor on, for `changes` and `resets`.
pub(super) fn anchored<'a>(window: &Window<'a>, lookback: i64) -> &'a [f64] {
    let (times, values) = reached(window, WindowMode::Anchored, lookback);
    if times.last().is_none_or(|last| *last <= window.start) { &[] } else { values }
}

/// `rate`, `increase` or `delta` between the borders.
pub(super) fn change(window: &Window<'_>, id: Id, mode: WindowMode, lookback: i64) -> Option<f64> {
    let (times, values) = reached(window, mode, lookback);
    let (first, last) = (*times.first()?, *times.last()?);
    if last <= window.start || first > window.end {
        return None;
    }
    let is_counter = id != Id::Delta;
    let smoothed = mode == WindowMode::Smoothed;
    let count = times.len();
    let mut left = values[0];
    let mut right = values[count - 1];
    let mut inner = values;
    if smoothed && count >= 2 {
        if first < window.start {
            left = between(&times[..2], &values[..2], window.start, is_counter, true);
            inner = &inner[1..];
        }
        if last > window.end {
            let at = count - 2;
            right = between(&times[at..], &values[at..], window.end, is_counter, false);
            inner = &inner[..inner.len() - 1];
        }
    }
    let mut change = right - left;
    if is_counter {
        let through = inner.iter().copied().chain([right]);
        change += resets(left, &through.collect::<Vec<_>>());
    }
    if id == Id::Rate {
        #[expect(clippy::cast_precision_loss, reason = "a range is far below 2^53 ms")]
        let range = (window.end - window.start) as f64 / 1000.0;
        change /= range;
    }
    Some(change)
}

/// The value at `at` on the line between two samples. A counter that was reset between them starts
/// from zero: on the left border its old life does not count, on the right one it goes on.
fn between(times: &[i64], values: &[f64], at: i64, is_counter: bool, left: bool) -> f64 {
    let (mut y1, mut y2) = (values[0], values[1]);
    if is_counter && y2 < y1 {
        if left { y1 = 0.0 } else { y2 += y1 }
    }
    #[expect(clippy::cast_precision_loss, reason = "distances are far below 2^53 ms")]
    let share = (at - times[0]) as f64 / (times[1] - times[0]) as f64;
    y1 + (y2 - y1) * share
}
