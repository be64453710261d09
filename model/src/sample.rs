//! Metric samples on their way from a scrape to the store.

use crate::Labels;
use crate::time::Millis;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";

/// The bits of the NaN that marks a series as stale (Prometheus `value.StaleNaN`): the series has
/// ended, look-back does not reach past it.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The NaN that marks a series as stale.
#[must_use]
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether a value is the staleness marker, and not any other NaN.
#[must_use]
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One point of a series.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Milliseconds since the epoch.
    pub ts: Millis,
    /// The value; may be NaN, infinite or the staleness marker.
    pub value: f64,
}

/// The type that a metric's exposition or OTLP data declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Not declared.
    #[default]
    Unknown,
    /// Only goes up, resets to zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets `_bucket{le=…}`, `_sum`, `_count`.
    Histogram,
    /// Quantiles `{quantile=…}`, `_sum`, `_count`.
    Summary,
    /// OpenMetrics info.
    Info,
    /// OpenMetrics state set.
    StateSet,
}

impl MetricKind {
    /// The word that Prometheus' exposition formats and metadata API use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// Reads the word of a `# TYPE` line (`untyped` is `unknown`). `None` for any other word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "unknown" | "untyped" => Self::Unknown,
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            _ => return None,
        })
    }
}

/// Samples of one series in order of time.
#[derive(Clone, Debug)]
pub struct SeriesSamples {
    /// All labels, the metric name under [`METRIC_NAME`] among them.
    pub labels: Labels,
    /// Declared type of the metric that the series belongs to.
    pub kind: MetricKind,
    /// The points.
    pub samples: Vec<Sample>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_nan_means_stale() {
        assert!(is_stale_nan(stale_nan()) && stale_nan().is_nan());
        assert!(!is_stale_nan(f64::NAN) && !is_stale_nan(0.0));
    }
}
