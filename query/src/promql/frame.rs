//! The value of an expression over all steps of a query: [`Frame`], series by steps.
//!
//! One contiguous block of numbers, a row a series; a point that is absent holds [`ABSENT`], a NaN
//! that no arithmetic gives (hardware makes every NaN it produces quiet, this one is signalling).
//! What a frame holds is charged to the query's budget while it lives.

use std::cell::Cell;
use std::rc::Rc;

use taffrail_model::Labels;

use super::check::is_metric_label;
use super::error::Error;

const ABSENT_BITS: u64 = 0x7ff4_0000_5461_6666;

/// Marks a point that is not there.
pub(super) const ABSENT: f64 = f64::from_bits(ABSENT_BITS);

/// Whether a point is there.
#[inline]
pub(super) fn is_present(value: f64) -> bool {
    value.to_bits() != ABSENT_BITS
}

/// A value from outside: a NaN that looks like our marker becomes a common NaN.
#[inline]
pub(super) fn from_store(value: f64) -> f64 {
    if is_present(value) { value } else { f64::NAN }
}

/// The times at which an expression is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) steps: usize,
}

impl Grid {
    pub(super) fn instant(at: i64) -> Self {
        Self { start: at, step: 1, steps: 1 }
    }

    /// The time of a step, in milliseconds.
    #[expect(clippy::cast_possible_wrap, reason = "the number of steps is bounded")]
    pub(super) fn time(&self, index: usize) -> i64 {
        self.start + self.step * index as i64
    }

    pub(super) fn end(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    pub(super) fn times(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.steps).map(|index| self.time(index))
    }
}

/// How many samples a query may hold at once, and how many it holds.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    held: Rc<Cell<usize>>,
    max: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self { held: Rc::new(Cell::new(0)), max }
    }

    /// Whether `count` samples would fit beside those that are held.
    pub(super) fn check(&self, count: usize) -> Result<(), Error> {
        if self.held.get().saturating_add(count) > self.max {
            return Err(Error::TooManySamples(self.max));
        }
        Ok(())
    }
}

/// Samples that count against the budget until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Budget,
    count: usize,
}

impl Charge {
    fn grow(&mut self, count: usize) -> Result<(), Error> {
        self.budget.check(count)?;
        self.budget.held.set(self.budget.held.get() + count);
        self.count += count;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.held.set(self.budget.held.get() - self.count);
    }
}

/// The name of a row.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) labels: Labels,
    /// The metric's name is to be dropped at the end of the query. Until then functions may still
    /// read it.
    pub(super) drop_name: bool,
}

impl Series {
    /// The labels as the answer shows them.
    pub(super) fn shown(&self) -> Labels {
        if self.drop_name { without_name(&self.labels) } else { self.labels.clone() }
    }
}

/// The labels without the metric's own.
pub(super) fn without_name(labels: &Labels) -> Labels {
    labels.filtered(|name| !is_metric_label(name))
}

/// Series by steps.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) grid: Grid,
    pub(super) series: Vec<Series>,
    values: Vec<f64>,
    charge: Charge,
}

impl Frame {
    pub(super) fn new(grid: Grid, budget: &Budget) -> Self {
        let charge = Charge { budget: budget.clone(), count: 0 };
        Self { grid, series: Vec::new(), values: Vec::new(), charge }
    }

    /// Adds a row of absent points and gives it to be filled.
    pub(super) fn push(&mut self, series: Series) -> Result<&mut [f64], Error> {
        self.charge.grow(self.grid.steps)?;
        let start = self.values.len();
        self.values.resize(start + self.grid.steps, ABSENT);
        self.series.push(series);
        Ok(&mut self.values[start..])
    }

    /// Takes the last row out again when it has no point.
    pub(super) fn pop_if_empty(&mut self) {
        let start = self.values.len() - self.grid.steps;
        if !self.values[start..].iter().copied().any(is_present) {
            self.values.truncate(start);
            self.series.pop();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.grid.steps..][..self.grid.steps]
    }

    pub(super) fn row_mut(&mut self, index: usize) -> &mut [f64] {
        &mut self.values[index * self.grid.steps..][..self.grid.steps]
    }

    pub(super) fn value(&self, row: usize, step: usize) -> f64 {
        self.values[row * self.grid.steps + step]
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&Series, &[f64])> {
        self.series.iter().zip(self.values.chunks_exact(self.grid.steps.max(1)))
    }

    /// Changes each present value, and marks the names to be dropped.
    pub(super) fn map(mut self, mut change: impl FnMut(f64, usize) -> f64) -> Self {
        let steps = self.grid.steps;
        for row in self.values.chunks_exact_mut(steps.max(1)) {
            for (step, value) in row.iter_mut().enumerate() {
                if is_present(*value) {
                    *value = change(*value, step);
                }
            }
        }
        self.drop_names();
        self
    }

    /// Marks all names to be dropped.
    pub(super) fn drop_names(&mut self) {
        for series in &mut self.series {
            series.drop_name = true;
        }
    }

    /// Puts the rows into another order: row `i` of the result is row `order[i]`. Rows that are not
    /// named are dropped.
    pub(super) fn reordered(mut self, order: &[usize]) -> Self {
        if order.len() == self.len() && order.iter().enumerate().all(|(at, row)| at == *row) {
            return self;
        }
        let mut values = Vec::with_capacity(order.len() * self.grid.steps);
        for row in order {
            values.extend_from_slice(self.row(*row));
        }
        self.series = order.iter().map(|row| self.series[*row].clone()).collect();
        self.values = values;
        self
    }

    /// Rows in the order of their labels.
    pub(super) fn sorted(self) -> Self {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|a, b| self.series[*a].labels.cmp(&self.series[*b].labels));
        self.reordered(&order)
    }

    /// The same single point at each step of `grid`.
    pub(super) fn broadcast(&self, grid: Grid, budget: &Budget) -> Result<Self, Error> {
        let mut wide = Self::new(grid, budget);
        for (series, row) in self.rows() {
            wide.push(series.clone())?.fill(row[0]);
        }
        Ok(wide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_arithmetic_gives_the_marker() {
        let results =
            [ABSENT + 1.0, -ABSENT * 2.0, ABSENT / 0.0, ABSENT.max(f64::NAN), ABSENT.sqrt()];
        for result in results {
            assert!(is_present(result), "{:x}", result.to_bits());
        }
        assert!(!is_present(ABSENT) && is_present(f64::NAN));
        assert!(is_present(from_store(ABSENT)));
    }

    #[test]
    fn the_budget_counts_what_lives() {
        let budget = Budget::new(10);
        let grid = Grid { start: 0, step: 1, steps: 6 };
        let series = Series { labels: Labels::default(), drop_name: false };
        let mut frame = Frame::new(grid, &budget);
        frame.push(series.clone()).expect("fits").fill(1.0);
        frame.push(series.clone()).expect_err("12 > 10");
        drop(frame);
        Frame::new(grid, &budget).push(series).expect("the first frame is gone");
    }
}
