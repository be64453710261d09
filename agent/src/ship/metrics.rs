//! What the shipper counts of itself: `taffrail_ship_…`.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters of the shipper: `taffrail_ship_…`.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) batches: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) wire_bytes: IntCounter,
    pub(super) lines: IntCounter,
    pub(super) dropped_lines: IntCounterVec,
}

impl Metrics {
    /// Makes them known to a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let by = |name: &str, help: &str, label: &str| {
            let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let one = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            batches: by(
                "taffrail_ship_batches_total",
                "Batches sent, by what came of them.",
                "outcome",
            )?,
            retries: by(
                "taffrail_ship_retries_total",
                "Attempts that failed and were repeated.",
                "reason",
            )?,
            wire_bytes: one("taffrail_ship_wire_bytes_total", "Bytes of acknowledged requests.")?,
            lines: one("taffrail_ship_lines_total", "Lines acknowledged.")?,
            dropped_lines: by(
                "taffrail_ship_dropped_lines_total",
                "Lines left out for good.",
                "reason",
            )?,
        })
    }
}
