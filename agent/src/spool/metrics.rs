//! What the spool counts of itself: `taffrail_spool_…`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use taffrail_model::Nanos;

/// Counters and gauges of the spool.
#[derive(Clone, Debug)]
pub struct Metrics {
    frames: IntGauge,
    bytes: IntGauge,
    oldest: IntGauge,
    away: IntGauge,
    frames_total: IntCounter,
    bytes_total: IntCounter,
    damaged: IntCounter,
    failures: IntCounterVec,
}

impl Metrics {
    /// Makes them known to a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("taffrail_spool_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("taffrail_spool_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let failures = IntCounterVec::new(
            Opts::new("taffrail_spool_failures_total", "Times that the spool took nothing."),
            &["reason"],
        )?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Self {
            frames: gauge("frames", "Batches that wait in the spool.")?,
            bytes: gauge("bytes", "Bytes of the spool on disk.")?,
            oldest: gauge(
                "oldest_timestamp_seconds",
                "When the oldest batch that waits was written; 0: none waits.",
            )?,
            away: gauge(
                "away",
                "1 while the collector is away or what was kept meanwhile is sent.",
            )?,
            frames_total: counter("frames_total", "Batches written to the spool.")?,
            bytes_total: counter("bytes_total", "Bytes written to the spool.")?,
            damaged: counter("damaged_total", "Parts of the spool that could not be read.")?,
            failures,
        })
    }

    pub(super) fn kept(&self, bytes: usize) {
        self.frames_total.inc();
        self.bytes_total.inc_by(bytes as u64);
    }

    pub(super) fn failed(&self, reason: &str) {
        self.failures.with_label_values(&[reason]).inc();
    }

    pub(super) fn damaged(&self) {
        self.damaged.inc();
    }

    pub(super) fn away(&self, away: bool) {
        self.away.set(i64::from(away));
    }

    pub(super) fn hold(&self, frames: u64, bytes: u64, oldest: Option<Nanos>) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.frames.set(whole(frames));
        self.bytes.set(whole(bytes));
        self.oldest.set(oldest.unwrap_or(0) / 1_000_000_000);
    }
}
