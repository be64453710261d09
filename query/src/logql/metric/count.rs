//! Counting without reading lines, where the store's block headers are enough.
//!
//! That is so when nothing looks at the text and the series are made of stream labels alone. The
//! windows are cut into equal pieces that do not overlap; each window is a run of pieces.

use std::collections::BTreeMap;

use taffrail_model::TimeRange;

use super::super::ast::{Pick, RangeAgg, RangeOp};
use super::super::error::QueryError;
use super::super::labels::{ERROR_DETAILS_LABEL, ERROR_LABEL};
use super::super::plan::RangePlan;
use super::super::stage::Stage;
use super::group::{GroupKey, check_size};
use super::range::Windows;
use super::{Run, Series, SeriesLabels};

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
    let counts_lines = matches!(agg.op, RangeOp::CountOverTime | RangeOp::Rate);
    let neutral = plan.unwrap.is_none()
        && plan.log.filters.is_empty()
        && plan.log.stages.iter().all(is_neutral);
    let (true, true, Some(names)) = (counts_lines, neutral, key.only()) else {
        return Ok(None);
    };
    let Some(pieces) = Pieces::of(windows) else {
        return Ok(None);
    };
    let matchers = &plan.log.matchers;
    if !names.is_empty() {
        // A label that a stream lacks may be metadata of its lines, which only lines tell.
        let hull = TimeRange::new(pieces.start(0), pieces.start(pieces.count));
        let streams = run.source.streams(matchers, hull)?;
        if streams.iter().any(|labels| names.iter().any(|name| labels.get(name).is_none())) {
            return Ok(None);
        }
    }
    let ranges: Vec<TimeRange> = (0..pieces.count).map(|at| pieces.range(at)).collect();
    let counts = run.source.count(matchers, &ranges, &run.params.cancel)?;
    let mut groups: BTreeMap<SeriesLabels, Vec<u64>> = BTreeMap::new();
    for (labels, counts) in counts {
        if names.iter().any(|name| labels.get(name).is_none()) {
            // A stream that came meanwhile.
            return Ok(None);
        }
        let labels = labels.filtered(|name| names.iter().any(|n| n == name));
        let sums =
            groups.entry(SeriesLabels::from(&labels)).or_insert_with(|| vec![0; pieces.count]);
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    check_size(groups.len(), windows.steps.count())?;
    let seconds = agg.range as f64 / 1e9;
    let series = groups.into_iter().map(|(labels, counts)| Series {
        labels,
        values: pieces.windows(&counts, agg.op, seconds, windows.steps.count()),
    });
    Ok(Some(series.collect()))
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

    fn windows(&self, counts: &[u64], op: RangeOp, seconds: f64, steps: usize) -> Vec<Option<f64>> {
        let mut sums = Vec::with_capacity(counts.len() + 1);
        let mut sum = 0_u64;
        sums.push(0);
        for count in counts {
            sum += count;
            sums.push(sum);
        }
        (0..steps)
            .map(|step| {
                let from = step * self.per_step;
                let lines = sums[from + self.per_window] - sums[from];
                let lines = i64::try_from(lines).unwrap_or(i64::MAX);
                (lines > 0).then(|| number(op, lines, 0, seconds))
            })
            .collect()
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
