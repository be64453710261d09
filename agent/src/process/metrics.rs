//! What processing counts of itself: `taffrail_process_…`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Why lines did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Their container is excluded.
    Excluded,
    /// Their stream is not wanted.
    Stream,
    /// They are not in the sample.
    Sample,
    /// There were too many.
    Rate,
    /// They held what must not leave the node.
    Redaction,
}

impl Reason {
    const ALL: [Self; 5] =
        [Self::Excluded, Self::Stream, Self::Sample, Self::Rate, Self::Redaction];
    /// Those that are told in the stream.
    pub(super) const TOLD: [Self; 3] = [Self::Sample, Self::Rate, Self::Redaction];

    fn name(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Stream => "stream",
            Self::Sample => "sample",
            Self::Rate => "rate_limit",
            Self::Redaction => "redaction",
        }
    }
}

/// Counters of processing.
#[derive(Clone, Debug)]
pub struct Metrics {
    dropped: [IntCounter; 5],
    /// Lines that became a part of a record of another line.
    pub(super) joined: IntCounter,
    /// Things taken out of records.
    pub(super) redacted: IntCounter,
    /// Annotations that cannot be used.
    pub(super) bad_annotations: IntGauge,
    vec: IntCounterVec,
}

impl Metrics {
    /// Counters that nobody reads yet.
    ///
    /// # Errors
    /// Never: the names are good.
    fn new() -> prometheus::Result<Self> {
        let vec = IntCounterVec::new(
            Opts::new(
                "taffrail_process_dropped_lines_total",
                "Lines that were read and not kept, as settings or annotations say.",
            ),
            &["reason"],
        )?;
        Ok(Self {
            dropped: Reason::ALL.map(|reason| vec.with_label_values(&[reason.name()])),
            joined: IntCounter::new(
                "taffrail_process_joined_lines_total",
                "Lines that were joined to the record of an earlier line.",
            )?,
            redacted: IntCounter::new(
                "taffrail_process_redactions_total",
                "Things that were taken out of records.",
            )?,
            bad_annotations: IntGauge::new(
                "taffrail_process_bad_annotations",
                "Annotations of pods that cannot be used.",
            )?,
            vec,
        })
    }

    /// Makes them known to a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::new()?;
        registry.register(Box::new(metrics.vec.clone()))?;
        registry.register(Box::new(metrics.joined.clone()))?;
        registry.register(Box::new(metrics.redacted.clone()))?;
        registry.register(Box::new(metrics.bad_annotations.clone()))?;
        Ok(metrics)
    }

    /// Counts lines that were dropped.
    pub(super) fn dropped(&self, reason: Reason, lines: u64) {
        self.dropped[reason as usize].inc_by(lines);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new().expect("the names are good")
    }
}
