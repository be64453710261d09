//! Quantiles and fractions of classic histograms: series that differ in `le` only.

use std::collections::{BTreeSet, HashMap};

use taffrail_model::Labels;

use crate::promql::ast::Expr;
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid, Series, is_present};
use crate::promql::lex::parse_number;
use crate::promql::matching::metric_name;
use crate::promql::print::number_text;

use super::{Id, quantile};

const BUCKET_LABEL: &str = "le";

/// Differences of counts below this share are noise of floating point.
const TOLERANCE: f64 = 1e-12;

/// One bucket at one step: what is at most `upper`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    upper: f64,
    count: f64,
}

/// The rows of one histogram with their upper bounds.
struct Histogram {
    series: Series,
    rows: Vec<(f64, usize)>,
}

pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    id: Id,
    args: &[Expr],
    grid: Grid,
) -> Result<Frame, Error> {
    match id {
        Id::HistogramFraction => {
            let lower = evaluator.scalar(&args[0], grid)?;
            let upper = evaluator.scalar(&args[1], grid)?;
            let frame = evaluator.vector(&args[2], grid)?;
            let histograms = histograms(evaluator, &frame, args[2].at);
            let mut result = evaluator.frame(grid);
            for histogram in &histograms {
                let row = result.push(histogram.series.clone())?;
                each_step(&frame, histogram, |step, buckets| {
                    row[step] = fraction(lower[step], upper[step], buckets);
                });
            }
            Ok(result)
        }
        Id::HistogramQuantile => {
            let levels = evaluator.scalar(&args[0], grid)?;
            let frame = evaluator.vector(&args[1], grid)?;
            let histograms = histograms(evaluator, &frame, args[1].at);
            let mut result = evaluator.frame(grid);
            let wanted =
                Wanted { levels, level_at: args[0].at, vector_at: args[1].at, named: None };
            quantiles(evaluator, &frame, &histograms, &wanted, &mut result)?;
            Ok(result)
        }
        _ => {
            let frame = evaluator.vector(&args[0], grid)?;
            let label = evaluator.text(&args[1], grid)?;
            let histograms = histograms(evaluator, &frame, args[0].at);
            let mut result = evaluator.frame(grid);
            for arg in &args[2..] {
                let levels = evaluator.scalar(arg, grid)?;
                let named = levels.first().map(|level| (label.as_str(), number_text(*level)));
                let wanted = Wanted { levels, level_at: arg.at, vector_at: args[0].at, named };
                quantiles(evaluator, &frame, &histograms, &wanted, &mut result)?;
            }
            Ok(result)
        }
    }
}

/// Finds the histograms in a vector.
fn histograms(evaluator: &mut Evaluator<'_>, frame: &Frame, at: usize) -> Vec<Histogram> {
    let mut index: HashMap<Labels, usize> = HashMap::new();
    let mut found: Vec<Histogram> = Vec::new();
    for (row, series) in frame.series.iter().enumerate() {
        let bound = series.labels.get(BUCKET_LABEL).unwrap_or("");
        let Some(upper) = parse_number(bound) else {
            let message = format!(
                "bucket label \"le\" is missing or has a malformed value of {bound:?} for metric \
                 name {:?}",
                metric_name(&series.labels)
            );
            evaluator.warn(&message, at);
            continue;
        };
        let labels = series.labels.filtered(|name| name != BUCKET_LABEL);
        let which = *index.entry(labels.clone()).or_insert_with(|| {
            found.push(Histogram { series: Series { labels, drop_name: true }, rows: Vec::new() });
            found.len() - 1
        });
        found[which].rows.push((upper, row));
    }
    for histogram in &mut found {
        histogram.rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    found
}

/// Gives the buckets of each step at which the histogram has any; equal bounds are added up.
fn each_step(frame: &Frame, histogram: &Histogram, mut each: impl FnMut(usize, &mut Vec<Bucket>)) {
    let mut buckets: Vec<Bucket> = Vec::with_capacity(histogram.rows.len());
    for step in 0..frame.grid.steps {
        buckets.clear();
        for (upper, row) in &histogram.rows {
            let count = frame.value(*row, step);
            if !is_present(count) {
                continue;
            }
            match buckets.last_mut() {
                Some(last) if last.upper == *upper => last.count += count,
                _ => buckets.push(Bucket { upper: *upper, count }),
            }
        }
        if !buckets.is_empty() {
            each(step, &mut buckets);
        }
    }
}

/// Which quantiles are asked for, and the places of the arguments.
struct Wanted<'a> {
    levels: Vec<f64>,
    level_at: usize,
    vector_at: usize,
    /// A label that tells quantiles apart, and its value.
    named: Option<(&'a str, String)>,
}

/// Adds a row of quantiles for each histogram.
fn quantiles(
    evaluator: &mut Evaluator<'_>,
    frame: &Frame,
    histograms: &[Histogram],
    wanted: &Wanted<'_>,
    result: &mut Frame,
) -> Result<(), Error> {
    for level in &wanted.levels {
        quantile::check_level(evaluator, *level, wanted.level_at);
    }
    let mut repaired = BTreeSet::new();
    for histogram in histograms {
        let mut series = histogram.series.clone();
        if let Some((label, value)) = &wanted.named {
            series.labels = series.labels.with(label, value);
        }
        let row = result.push(series)?;
        each_step(frame, histogram, |step, buckets| {
            let (value, forced) = quantile_of(wanted.levels[step], buckets);
            row[step] = value;
            if forced {
                repaired.insert(metric_name(&histogram.series.labels).to_owned());
            }
        });
        result.pop_if_empty();
    }
    for name in repaired {
        let message = format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) \
             for metric name {name:?}"
        );
        evaluator.inform(&message, wanted.vector_at);
    }
    Ok(())
}

/// The quantile, interpolated in its bucket, and whether counts had to be forced to rise.
fn quantile_of(level: f64, buckets: &mut [Bucket]) -> (f64, bool) {
    if level.is_nan() {
        return (f64::NAN, false);
    }
    if level < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if level > 1.0 {
        return (f64::INFINITY, false);
    }
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return (f64::NAN, false);
    }
    let forced = make_monotonic(buckets);
    let count = buckets.len();
    let observations = buckets[count - 1].count;
    if count < 2 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, forced);
    }
    let rank = level * observations;
    let found = buckets[..count - 1].partition_point(|bucket| bucket.count < rank);
    if found == count - 1 {
        return (buckets[count - 2].upper, forced);
    }
    let Bucket { upper, count } = buckets[found];
    if found == 0 {
        let value = if upper <= 0.0 { upper } else { upper * (rank / count) };
        return (value, forced);
    }
    let below = buckets[found - 1];
    let share = (rank - below.count) / (count - below.count);
    (below.upper + (upper - below.upper) * share, forced)
}

/// Buckets of different instances may be scraped a moment apart, so that sums of them fall where
/// they must rise. Says whether that was more than noise.
fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut forced = false;
    let Some(first) = buckets.first() else {
        return false;
    };
    let mut previous = first.count;
    for bucket in buckets.iter_mut().skip(1) {
        let size = previous.abs().min(bucket.count.abs()).max(f64::MIN_POSITIVE);
        let near = (bucket.count - previous).abs() / size < TOLERANCE;
        if bucket.count == previous {
            continue;
        }
        if near || bucket.count < previous {
            forced |= !near;
            bucket.count = previous;
            continue;
        }
        previous = bucket.count;
    }
    forced
}

/// The share of observations between two values, interpolated in the outer buckets.
fn fraction(lower: f64, upper: f64, buckets: &mut [Bucket]) -> f64 {
    let Some(last) = buckets.last().filter(|last| last.upper == f64::INFINITY) else {
        return f64::NAN;
    };
    let total = last.count;
    if total == 0.0 || total.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let upper_rank = rank_of(upper, buckets).unwrap_or(total).min(total);
    let lower_rank = rank_of(lower, buckets).unwrap_or(total).min(total);
    (upper_rank - lower_rank) / total
}

/// How many observations are at most `value`.
fn rank_of(value: f64, buckets: &[Bucket]) -> Option<f64> {
    let mut rank = 0.0;
    for (index, bucket) in buckets.iter().enumerate() {
        let low = match index {
            0 if bucket.upper > 0.0 => 0.0,
            0 => f64::NEG_INFINITY,
            _ => buckets[index - 1].upper,
        };
        if low >= value {
            return Some(rank);
        }
        if bucket.upper > value {
            // Nothing is known about where in an unbounded bucket an observation lies.
            if bucket.upper.is_infinite() {
                return Some(rank);
            }
            if low.is_infinite() {
                return Some(bucket.count);
            }
            return Some(rank + (bucket.count - rank) * (value - low) / (bucket.upper - low));
        }
        rank = bucket.count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(upper, count)| Bucket { upper: *upper, count: *count }).collect()
    }

    #[test]
    fn quantiles_interpolate() {
        let inf = f64::INFINITY;
        let cases = [
            (0.5, vec![(1.0, 10.0), (2.0, 20.0), (inf, 20.0)], 1.0),
            (0.75, vec![(1.0, 10.0), (2.0, 20.0), (inf, 20.0)], 1.5),
            (1.0, vec![(1.0, 10.0), (inf, 20.0)], 1.0),
            (0.5, vec![(-1.0, 10.0), (inf, 10.0)], -1.0),
        ];
        for (level, pairs, expected) in cases {
            assert_eq!(quantile_of(level, &mut buckets(&pairs)).0, expected, "{level} {pairs:?}");
        }
        assert!(quantile_of(0.5, &mut buckets(&[(1.0, 1.0)])).0.is_nan());
        assert!(quantile_of(0.5, &mut buckets(&[(1.0, 5.0), (2.0, 3.0), (inf, 9.0)])).1);
    }

    #[test]
    fn fractions_interpolate() {
        let mut histogram = buckets(&[(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 40.0)]);
        assert_eq!(fraction(0.0, 1.5, &mut histogram), 15.0 / 40.0);
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &mut histogram), 1.0);
        assert_eq!(fraction(2.0, 1.0, &mut histogram), 0.0);
    }
}
