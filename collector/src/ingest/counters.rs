//! What came in, for `/metrics`.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::intake::Stored;

/// Counters of all doors.
pub struct Counters {
    requests: IntCounterVec,
    bytes: IntCounter,
    lines: IntCounter,
    samples: IntCounter,
    rejected: IntCounter,
}

impl Counters {
    /// Registers the counters.
    ///
    /// # Errors
    /// When the registry has them already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests = Opts::new(
            "taffrail_ingest_requests_total",
            "Requests that brought data, by protocol and by how they ended.",
        );
        let requests = IntCounterVec::new(requests, &["protocol", "outcome"])?;
        registry.register(Box::new(requests.clone()))?;
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            requests,
            bytes: counter(
                "taffrail_ingest_bytes_total",
                "Bytes of bodies as they came over the wire.",
            )?,
            lines: counter("taffrail_ingest_lines_total", "Log lines stored.")?,
            samples: counter("taffrail_ingest_samples_total", "Metric samples stored.")?,
            rejected: counter(
                "taffrail_ingest_samples_rejected_total",
                "Metric samples refused from requests whose other samples were stored.",
            )?,
        })
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes.inc_by(bytes as u64);
    }

    pub(super) fn stored(&self, logs: bool, stored: &Stored) {
        let items = if logs { &self.lines } else { &self.samples };
        items.inc_by(stored.items);
        self.rejected.inc_by(stored.rejected);
    }

    pub(super) fn ended(&self, protocol: &str, outcome: &str) {
        self.requests.with_label_values(&[protocol, outcome]).inc();
    }
}
