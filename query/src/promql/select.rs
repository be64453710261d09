//! Reads selectors and subqueries.
//!
//! A selector is read once, over the whole time that the steps look at, and a series is folded into
//! its row while the source gives it: no copy of the samples is kept. Windows are left-open,
//! `(t - range, t]`, and move over a series with two indexes.

use std::ops::ControlFlow;

use taffrail_model::Labels;
use taffrail_model::sample::is_stale_nan;

use crate::source::SeriesSelect;

use super::ast::{Expr, Kind, Selector, Subquery, WindowMode};
use super::error::Error;
use super::eval::{Evaluator, Sight};
use super::frame::{ABSENT, Frame, Grid, Series, from_store, is_present};

/// The samples of one series in one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    /// Times of the samples, ascending, in milliseconds.
    pub(super) times: &'a [i64],
    pub(super) values: &'a [f64],
    /// The window is `(start, end]`.
    pub(super) start: i64,
    pub(super) end: i64,
    /// All samples of the series that were read: for windows that look past their borders.
    pub(super) all_times: &'a [i64],
    pub(super) all_values: &'a [f64],
}

/// What a function over ranges does with a window at a step.
pub(super) type Fold<'f> = dyn FnMut(&Window<'_>, usize) -> Option<f64> + 'f;

/// Takes one series: labels, times, values.
pub(super) type EachSeries<'e> = dyn FnMut(&Labels, &[i64], &[f64]) -> Result<(), Error> + 'e;

impl Evaluator<'_> {
    /// The value of an instant selector; with `times`, the times of its samples in seconds.
    pub(super) fn select_instant(
        &mut self,
        selector: &Selector,
        grid: Grid,
        times: bool,
    ) -> Result<Frame, Error> {
        let sight = self.sight(&selector.shift)?;
        let lookback = self.options.lookback;
        let mut frame = self.frame(grid);
        let smoothed = selector.mode == WindowMode::Smoothed;
        let (start, end) = reach(&sight, &grid, lookback, if smoothed { lookback } else { 0 });
        let give = match (times, smoothed) {
            (true, _) => Give::Time,
            (false, true) => Give::Between(lookback),
            (false, false) => Give::Last,
        };
        let mut each = |labels: &Labels, at: &[i64], values: &[f64]| {
            let row = frame.push(Series { labels: labels.clone(), drop_name: times })?;
            fill_instant(row, at, values, give, |step| {
                let look = sight.time(&grid, step);
                (look.saturating_sub(lookback), look)
            });
            frame.pop_if_empty();
            Ok(())
        };
        self.read(selector, start, end, &mut each)?;
        Ok(frame.sorted())
    }

    /// Folds each window of a range selector or subquery into a point. Names are marked to be
    /// dropped, unless `keep_name`.
    pub(super) fn fold_ranges(
        &mut self,
        expr: &Expr,
        grid: Grid,
        keep_name: bool,
        fold: &mut Fold<'_>,
    ) -> Result<Frame, Error> {
        match &expr.bare().kind {
            Kind::Selector(selector) => self.fold_selector(selector, grid, keep_name, fold),
            Kind::Subquery(subquery) => self.fold_subquery(subquery, grid, keep_name, fold),
            _ => Err(Error::execution("expected a range vector")),
        }
    }

    fn fold_selector(
        &mut self,
        selector: &Selector,
        grid: Grid,
        keep_name: bool,
        fold: &mut Fold<'_>,
    ) -> Result<Frame, Error> {
        let sight = self.sight(&selector.shift)?;
        let range = selector.range.as_ref().map_or(Ok(0), |range| self.positive_span(range))?;
        let lookback = self.options.lookback;
        let (before, after) = match selector.mode {
            WindowMode::Plain => (0, 0),
            WindowMode::Anchored => (lookback, 0),
            WindowMode::Smoothed => (lookback, lookback),
        };
        let mut frame = self.frame(grid);
        let (start, end) = reach(&sight, &grid, range.saturating_add(before), after);
        let mut live = Live::default();
        let mut each = |labels: &Labels, times: &[i64], values: &[f64]| {
            let (times, values) = live.of(times, values);
            let row = frame.push(Series { labels: labels.clone(), drop_name: !keep_name })?;
            fold_row(row, times, values, fold, |step| {
                let look = sight.time(&grid, step);
                (look.saturating_sub(range), look)
            });
            frame.pop_if_empty();
            Ok(())
        };
        self.read(selector, start, end, &mut each)?;
        Ok(frame.sorted())
    }

    fn fold_subquery(
        &mut self,
        subquery: &Subquery,
        grid: Grid,
        keep_name: bool,
        fold: &mut Fold<'_>,
    ) -> Result<Frame, Error> {
        let sight = self.sight(&subquery.shift)?;
        let range = self.positive_span(&subquery.range)?;
        let inner = self.subquery(subquery, &sight, range, grid)?;
        let mut frame = self.frame(grid);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (series, points) in inner.rows() {
            times.clear();
            values.clear();
            for (step, value) in points.iter().enumerate().filter(|(_, value)| is_present(**value))
            {
                times.push(inner.grid.time(step));
                values.push(*value);
            }
            let drop_name = series.drop_name || !keep_name;
            let row = frame.push(Series { labels: series.labels.clone(), drop_name })?;
            fold_row(row, &times, &values, fold, |step| {
                let look = sight.time(&grid, step);
                (look.saturating_sub(range), look)
            });
            frame.pop_if_empty();
        }
        Ok(frame)
    }

    /// Evaluates the inside of a subquery at multiples of its step.
    fn subquery(
        &mut self,
        subquery: &Subquery,
        sight: &Sight,
        range: i64,
        grid: Grid,
    ) -> Result<Frame, Error> {
        let step = match &subquery.step {
            Some(step) => self.positive_span(step)?,
            None => self.options.subquery_step,
        };
        let (after, end) = reach(sight, &grid, range, 0);
        let start = after - 1;
        let mut first = step * (start / step);
        if first <= start {
            first += step;
        }
        let steps = if end < first { 0 } else { (end - first) / step + 1 };
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        self.budget.check(steps)?;
        if steps == 0 {
            return Ok(self.frame(grid));
        }
        self.vector(&subquery.expr, Grid { start: first, step, steps })
    }

    /// The raw samples of a range vector at one time: the answer to `metric[5m]`.
    pub(super) fn raw(&mut self, expr: &Expr, at: i64) -> Result<Vec<RawSeries>, Error> {
        let grid = Grid::instant(at);
        let mut raw: Vec<RawSeries> = Vec::new();
        match &expr.bare().kind {
            Kind::Selector(selector) => {
                let sight = self.sight(&selector.shift)?;
                let range = selector.range.as_ref().map_or(Ok(0), |r| self.positive_span(r))?;
                let (start, end) = reach(&sight, &grid, range, 0);
                let budget = self.budget.clone();
                let mut held = 0;
                let mut live = Live::default();
                let mut each = |labels: &Labels, times: &[i64], values: &[f64]| {
                    let (times, values) = live.of(times, values);
                    held += times.len();
                    budget.check(held)?;
                    if !times.is_empty() {
                        let points = times.iter().copied().zip(values.iter().copied()).collect();
                        raw.push((Series { labels: labels.clone(), drop_name: false }, points));
                    }
                    Ok(())
                };
                self.read(selector, start, end, &mut each)?;
            }
            Kind::Subquery(subquery) => {
                let sight = self.sight(&subquery.shift)?;
                let range = self.positive_span(&subquery.range)?;
                let frame = self.subquery(subquery, &sight, range, grid)?;
                for (series, row) in frame.rows() {
                    let points: Vec<(i64, f64)> = frame
                        .grid
                        .times()
                        .zip(row.iter().copied())
                        .filter(|(_, value)| is_present(*value))
                        .collect();
                    if !points.is_empty() {
                        raw.push((series.clone(), points));
                    }
                }
            }
            _ => return Err(Error::execution("expected a range vector")),
        }
        Ok(raw)
    }

    /// Reads the series of a selector from `start` to `end`, both included.
    pub(super) fn read(
        &self,
        selector: &Selector,
        start: i64,
        end: i64,
        each: &mut EachSeries<'_>,
    ) -> Result<(), Error> {
        let select = SeriesSelect {
            matchers: selector.matchers.clone(),
            start,
            end,
            cancel: self.cancel.clone(),
        };
        let mut failure = None;
        self.source.select(
            &select,
            &mut |labels, times, values| match each(labels, times, values) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        failure.map_or(Ok(()), Err)
    }
}

/// A series and its points.
pub(super) type RawSeries = (Series, Vec<(i64, f64)>);

/// The first and last millisecond that the steps look at.
fn reach(sight: &Sight, grid: &Grid, before: i64, after: i64) -> (i64, i64) {
    let first = sight.time(grid, 0);
    let last = sight.time(grid, grid.steps.saturating_sub(1));
    let start = first.min(last).saturating_sub(before).saturating_add(1);
    (start, first.max(last).saturating_add(after))
}

/// Gives samples without staleness markers, copying only when there are some.
#[derive(Default)]
struct Live {
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Live {
    fn of<'a>(&'a mut self, times: &'a [i64], values: &'a [f64]) -> (&'a [i64], &'a [f64]) {
        if values.iter().all(|value| !is_stale_nan(*value) && is_present(*value)) {
            return (times, values);
        }
        self.times.clear();
        self.values.clear();
        for (time, value) in times.iter().zip(values).filter(|(_, value)| !is_stale_nan(**value)) {
            self.times.push(*time);
            self.values.push(from_store(*value));
        }
        (&self.times, &self.values)
    }
}

/// What an instant selector gives for a step.
#[derive(Clone, Copy)]
enum Give {
    /// The value of the last sample.
    Last,
    /// The time of the last sample.
    Time,
    /// The value on the line to the next sample, if that is near enough.
    Between(i64),
}

/// Fills a row from the last sample in `(after, look]` of each step, unless that is stale.
#[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 ms")]
fn fill_instant(
    row: &mut [f64],
    times: &[i64],
    values: &[f64],
    give: Give,
    look: impl Fn(usize) -> (i64, i64),
) {
    let mut next = 0;
    for (step, point) in row.iter_mut().enumerate() {
        let (after, until) = look(step);
        while times.get(next).is_some_and(|time| *time <= until) {
            next += 1;
        }
        let Some(last) = next.checked_sub(1) else {
            continue;
        };
        let (time, value) = (times[last], values[last]);
        if time <= after || is_stale_nan(value) {
            continue;
        }
        *point = match give {
            Give::Time => time as f64 / 1000.0,
            Give::Between(reach)
                if time < until
                    && next < times.len()
                    && times[next] - until <= reach
                    && !is_stale_nan(values[next]) =>
            {
                let share = (until - time) as f64 / (times[next] - time) as f64;
                value + (values[next] - value) * share
            }
            Give::Last | Give::Between(_) => from_store(value),
        };
    }
}

/// Folds the windows of one series. Windows never move back from step to step.
fn fold_row(
    row: &mut [f64],
    times: &[i64],
    values: &[f64],
    fold: &mut Fold<'_>,
    window: impl Fn(usize) -> (i64, i64),
) {
    let (mut from, mut to) = (0, 0);
    for (step, point) in row.iter_mut().enumerate() {
        let (start, end) = window(step);
        while times.get(from).is_some_and(|time| *time <= start) {
            from += 1;
        }
        to = to.max(from);
        while times.get(to).is_some_and(|time| *time <= end) {
            to += 1;
        }
        let window = Window {
            times: &times[from..to],
            values: &values[from..to],
            start,
            end,
            all_times: times,
            all_values: values,
        };
        *point = fold(&window, step).unwrap_or(ABSENT);
    }
}
