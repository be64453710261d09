//! What the values of one window come to.

use super::super::ast::RangeOp;

/// An unwrapped value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) ts: i64,
    pub(super) value: f64,
}

/// The number of a window that is not empty: `samples`, in order of time, of the window `(start, end]`, in nanoseconds.
pub(super) fn over_window(
    op: RangeOp,
    param: Option<f64>,
    samples: &[Sample],
    (start, end): (i64, i64),
) -> f64 {
    let seconds = end.abs_diff(start) as f64 / 1e9;
    let values = samples.iter().map(|sample| sample.value);
    match op {
        RangeOp::SumOverTime => values.sum(),
        RangeOp::Rate => values.sum::<f64>() / seconds,
        RangeOp::RateCounter => rate_counter(samples, start, end),
        RangeOp::AvgOverTime => mean(values),
        RangeOp::MinOverTime => least(values),
        RangeOp::MaxOverTime => -least(values.map(|value| -value)),
        RangeOp::StdvarOverTime => variance(values),
        RangeOp::StddevOverTime => variance(values).sqrt(),
        RangeOp::QuantileOverTime => {
            let mut sorted: Vec<f64> = values.collect();
            quantile(param.unwrap_or(f64::NAN), &mut sorted)
        }
        RangeOp::FirstOverTime => samples.first().map_or(f64::NAN, |sample| sample.value),
        RangeOp::LastOverTime => samples.last().map_or(f64::NAN, |sample| sample.value),
        // Operations that take no values; the parser refuses them with `unwrap`.
        RangeOp::CountOverTime
        | RangeOp::BytesOverTime
        | RangeOp::BytesRate
        | RangeOp::AbsentOverTime => samples.len() as f64,
    }
}

/// The least value; NaN only when there is nothing else.
pub(super) fn least(values: impl Iterator<Item = f64>) -> f64 {
    let mut least = f64::NAN;
    for value in values {
        if value < least || least.is_nan() {
            least = value;
        }
    }
    least
}

/// The mean, without overflow as long as the values are finite.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut count) = (0.0_f64, 0.0);
    for value in values {
        count += 1.0;
        if mean.is_infinite() {
            // Infinity stays, unless its opposite or NaN comes.
            mean += if value.is_infinite() || value.is_nan() { value } else { 0.0 };
        } else {
            mean += value / count - mean / count;
        }
    }
    mean
}

/// The variance of all values (not of a sample of them).
pub(super) fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut sum) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        sum += delta * (value - mean);
    }
    sum / count
}

/// The quantile between the two nearest values, as Prometheus has it.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    // NaN sorts first.
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let rank = q * (values.len() - 1) as f64;
    let lower = values[rank.floor() as usize];
    let upper = values[(rank.ceil() as usize).min(values.len() - 1)];
    let weight = rank - rank.floor();
    lower * (1.0 - weight) + upper * weight
}

/// Increase of a counter a second, with resets taken into account and extrapolated to both ends of
/// the window as Prometheus does; 0 for a single sample.
fn rate_counter(samples: &[Sample], start: i64, end: i64) -> f64 {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return 0.0;
    };
    let sampled = last.ts.abs_diff(first.ts) as f64 / 1e9;
    if samples.len() < 2 || sampled == 0.0 {
        return 0.0;
    }
    let mut increase = last.value - first.value;
    for pair in samples.windows(2) {
        if pair[1].value < pair[0].value {
            increase += pair[0].value;
        }
    }
    let between = sampled / (samples.len() - 1) as f64;
    let mut to_start = first.ts.abs_diff(start) as f64 / 1e9;
    let to_end = end.abs_diff(last.ts) as f64 / 1e9;
    if increase > 0.0 && first.value >= 0.0 {
        // A counter was not below zero: it began later than that.
        to_start = to_start.min(sampled * (first.value / increase));
    }
    // An end that is near is taken to be covered; of one that is far, half a gap.
    let reach = |gap: f64| if gap < between * 1.1 { gap } else { between / 2.0 };
    let extended = sampled + reach(to_start) + reach(to_end);
    increase * (extended / sampled) / (end.abs_diff(start) as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let cases = [
            (0.5, vec![3.0, 1.0, 2.0], 2.0),
            (0.25, vec![1.0, 2.0, 3.0, 4.0, 5.0], 2.0),
            (0.5, vec![1.0, 2.0], 1.5),
            (1.5, vec![1.0], f64::INFINITY),
            (-1.0, vec![1.0], f64::NEG_INFINITY),
        ];
        for (q, mut values, expected) in cases {
            assert_eq!(quantile(q, &mut values), expected);
        }
    }

    #[test]
    fn means_and_variances() {
        let huge = [f64::MAX, f64::MAX];
        assert_eq!(mean(huge.into_iter()), f64::MAX);
        assert_eq!(variance([2.0, 4.0].into_iter()), 1.0);
        assert!(mean([f64::INFINITY, f64::NEG_INFINITY].into_iter()).is_nan());
        assert_eq!(least([f64::NAN, 2.0, 1.0].into_iter()), 1.0);
    }
}
