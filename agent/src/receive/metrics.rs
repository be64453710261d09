//! Counters of what pods send: `taffrail_receive_…`.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// The counters.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    requests: IntCounterVec,
    bytes: IntCounterVec,
    pub(super) turned_away: IntCounter,
    pub(super) strangers: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let by = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let one = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            requests: by(
                "taffrail_receive_requests_total",
                "OTLP requests of pods, by the collector's answer.",
                &["signal", "status"],
            )?,
            bytes: by(
                "taffrail_receive_bytes_total",
                "Bytes of OTLP requests that the collector has taken, before compression.",
                &["signal"],
            )?,
            turned_away: one(
                "taffrail_receive_turned_away_total",
                "OTLP requests that found no room and were told to come again.",
            )?,
            strangers: one(
                "taffrail_receive_strangers_total",
                "OTLP requests from addresses that are no pod's of this node.",
            )?,
        })
    }

    pub(super) fn answered(&self, signal: &str, status: u16, bytes: usize) {
        self.requests.with_label_values(&[signal, &status.to_string()]).inc();
        if (200..300).contains(&status) {
            self.bytes.with_label_values(&[signal]).inc_by(bytes as u64);
        }
    }
}
