//! Quantiles of plain values.

use crate::promql::eval::Evaluator;
use crate::promql::print::number_text;

/// Warns when a quantile's level is not between 0 and 1.
pub(in crate::promql) fn check_level(evaluator: &mut Evaluator<'_>, level: f64, at: usize) {
    if !(0.0..=1.0).contains(&level) {
        let message =
            format!("quantile value should be between 0 and 1, got {}", number_text(level));
        evaluator.warn(&message, at);
    }
}

/// The quantile of values, which it sorts; between two values it interpolates.
pub(in crate::promql) fn of_values(level: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || level.is_nan() {
        return f64::NAN;
    }
    if level < 0.0 {
        return f64::NEG_INFINITY;
    }
    if level > 1.0 {
        return f64::INFINITY;
    }
    // NaN sorts first, as it does in Prometheus.
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let rank = level * (values.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= rank < len")]
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolates() {
        let cases = [
            (0.0, vec![3.0, 1.0, 2.0], 1.0),
            (0.5, vec![3.0, 1.0, 2.0], 2.0),
            (0.75, vec![1.0, 2.0], 1.75),
            (1.0, vec![1.0, 2.0], 2.0),
            (-1.0, vec![1.0], f64::NEG_INFINITY),
            (2.0, vec![1.0], f64::INFINITY),
        ];
        for (level, mut values, expected) in cases {
            assert_eq!(of_values(level, &mut values), expected, "{level}");
        }
        assert!(of_values(0.5, &mut []).is_nan());
    }
}
