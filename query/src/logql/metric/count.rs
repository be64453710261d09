//! Counting without reading lines, where the store's block headers are enough.
//!
//! That is so when nothing but line filters looks at the text and the series are made of stream labels
//! and the level alone. The windows are cut into equal pieces that do not overlap; each window is a run of pieces.

use std::collections::BTreeMap;

use taffrail_model::{Labels, Level, TimeRange};

use crate::source::{Counted, LogCount};

use super::super::ast::{Pick, RangeAgg, RangeOp};
use super::super::error::QueryError;
use super::super::labels::{ERROR_DETAILS_LABEL, ERROR_LABEL, LEVEL_LABEL};
use super::super::plan::RangePlan;
use super::super::stage::Stage;
use super::group::{GroupKey, check_size};
use super::range::Windows;
use super::{Run, Series, SeriesLabels, VALUES_MAX};

/// More pieces than this are not asked for: a scan is as good then.
const PIECES_MAX: usize = 20_000;

/// The number that lines and bytes of a window come to.
pub(super) fn number(op: RangeOp, lines: i64, bytes: i64, seconds: f64) -> f64 {
    match op {
        RangeOp::Rate => lines as f64 / seconds,
        RangeOp::BytesOverTime => bytes as f64,
        RangeOp::BytesRate => bytes as f64 / seconds,
        _ => lines as f64,
    }
}

/// The answer from counts of blocks; `None` when lines must be read.
pub(super) fn from_blocks(
    run: &mut Run<'_>,
    agg: &RangeAgg,
    plan: &RangePlan,
    key: &GroupKey,
    windows: Windows,
) -> Result<Option<Vec<Series>>, QueryError> {
    let counts = matches!(
        agg.op,
        RangeOp::CountOverTime | RangeOp::Rate | RangeOp::BytesOverTime | RangeOp::BytesRate
    );
    let neutral = plan.unwrap.is_none() && plan.log.stages.iter().all(is_neutral);
    let (true, true, Some(names)) = (counts, neutral, key.only()) else {
        return Ok(None);
    };
    let Some(pieces) = Pieces::of(windows) else {
        return Ok(None);
    };
    let hull = TimeRange::new(pieces.start(0), pieces.start(pieces.count));
    let streams = run.source.streams(&plan.log.matchers, hull)?;
    let by_level = names.iter().any(|name| name == LEVEL_LABEL);
    let levels = if by_level { Level::ALL.len() } else { 1 };
    let numbers = streams.len().saturating_mul(pieces.count).saturating_mul(levels);
    if numbers > VALUES_MAX {
        return Ok(None);
    }
    let count = LogCount {
        matchers: plan.log.matchers.clone(),
        filters: plan.log.filters.clone(),
        ranges: (0..pieces.count).map(|at| pieces.range(at)).collect(),
        by_level,
        bytes: matches!(agg.op, RangeOp::BytesOverTime | RangeOp::BytesRate),
        // A label that a stream lacks may be metadata of its lines, which only lines tell.
        only_plain: streams.iter().any(|labels| lacks(labels, names)),
        cancel: run.params.cancel.clone(),
    };
    let Some(counted) = run.source.count(&count)? else {
        return Ok(None);
    };
    let mut groups: BTreeMap<SeriesLabels, Sums> = BTreeMap::new();
    for counted in counted {
        // A stream that came meanwhile may lack a label, or have one of the level's name.
        let is_known = count.only_plain || !lacks(&counted.labels, names);
        if !is_known || (by_level && counted.labels.get(LEVEL_LABEL).is_some()) {
            return Ok(None);
        }
        let labels = counted.labels.filtered(|name| names.iter().any(|n| n == name));
        let level = counted.level.filter(|&level| level != Level::Unknown);
        let mut labels = SeriesLabels::from(&labels);
        if let Some(level) = level {
            labels = labels.with(LEVEL_LABEL, Some(level.name()));
        }
        groups.entry(labels).or_insert_with(|| Sums::new(pieces.count)).add(&counted);
    }
    check_size(groups.len(), windows.steps.count())?;
    let seconds = agg.range as f64 / 1e9;
    let series = groups.into_iter().map(|(labels, sums)| Series {
        labels,
        values: pieces.windows(&sums, agg.op, seconds, windows.steps.count()),
    });
    Ok(Some(series.collect()))
}

/// Whether a stream lacks a label that is asked for, but for the level, which is its lines'.
fn lacks(labels: &Labels, names: &[String]) -> bool {
    names.iter().any(|name| name != LEVEL_LABEL && labels.get(name).is_none())
}

/// What a group has in each piece.
struct Sums {
    lines: Vec<u64>,
    bytes: Vec<u64>,
}

impl Sums {
    fn new(pieces: usize) -> Self {
        Self { lines: vec![0; pieces], bytes: vec![0; pieces] }
    }

    fn add(&mut self, counted: &Counted) {
        for (sums, counts) in [(&mut self.lines, &counted.lines), (&mut self.bytes, &counted.bytes)]
        {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }
}

/// Stages that neither drop a line nor touch its labels: a line straight from the store has no error
/// that could be dropped.
fn is_neutral(stage: &Stage) -> bool {
    match stage {
        Stage::Drop(picks) => picks.iter().all(|pick| {
            let name = match pick {
                Pick::Name(name) => name,
                Pick::Matcher(matcher) => &matcher.name,
            };
            name == ERROR_LABEL || name == ERROR_DETAILS_LABEL
        }),
        _ => false,
    }
}

/// Equal pieces of time.
struct Pieces {
    first: i64,
    /// From the start of a piece to the start of the next.
    stride: i64,
    /// Length of a piece; shorter than the stride where windows leave gaps.
    len: i64,
    count: usize,
    /// Pieces from one window to the next.
    per_step: usize,
    /// Pieces in a window.
    per_window: usize,
}

impl Pieces {
    fn of(windows: Windows) -> Option<Self> {
        let (step, range, steps) = (windows.steps.step(), windows.range, windows.steps.count());
        let first = windows.end(0).checked_sub(range)?.checked_add(1)?;
        if steps == 1 || range <= step {
            (steps <= PIECES_MAX).then_some(())?;
            return Some(Self {
                first,
                stride: step,
                len: range,
                count: steps,
                per_step: 1,
                per_window: 1,
            });
        }
        let len = gcd(range, step);
        let per_step = usize::try_from(step / len).ok()?;
        let per_window = usize::try_from(range / len).ok()?;
        let count = (steps - 1).checked_mul(per_step)?.checked_add(per_window)?;
        (count <= PIECES_MAX).then_some(Self {
            first,
            stride: len,
            len,
            count,
            per_step,
            per_window,
        })
    }

    fn start(&self, at: usize) -> i64 {
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        self.first.saturating_add(self.stride.saturating_mul(at))
    }

    fn range(&self, at: usize) -> TimeRange {
        TimeRange::new(self.start(at), self.start(at).saturating_add(self.len))
    }

    fn windows(&self, sums: &Sums, op: RangeOp, seconds: f64, steps: usize) -> Vec<Option<f64>> {
        let (lines, bytes) = (running(&sums.lines), running(&sums.bytes));
        let window = |step: usize| {
            let (from, to) = (step * self.per_step, step * self.per_step + self.per_window);
            let lines = lines[to] - lines[from];
            (lines > 0).then(|| number(op, lines, bytes[to] - bytes[from], seconds))
        };
        (0..steps).map(window).collect()
    }
}

/// The sum of all before each place, one more than there are.
fn running(counts: &[u64]) -> Vec<i64> {
    let mut sum = 0_u64;
    let sums = counts.iter().map(|count| {
        sum = sum.saturating_add(*count);
        i64::try_from(sum).unwrap_or(i64::MAX)
    });
    std::iter::once(0).chain(sums).collect()
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
