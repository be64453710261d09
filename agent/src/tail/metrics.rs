//! What the log path counts of itself: `taffrail_tail_…`.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::batch::{Loss, Taken};

/// Counters and gauges of the reader.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Lines put into batches.
    pub lines: IntCounter,
    /// Bytes of text put into batches.
    pub bytes: IntCounter,
    /// Lines with a mark: cut, partial, raw.
    pub marked: IntCounterVec,
    /// Files held open.
    pub files_open: IntGauge,
    /// Files known, open or done with.
    pub files: IntGauge,
    /// Bytes that are in files and not yet in the store.
    pub lag_bytes: IntGauge,
    /// The same of the file that has most of them.
    pub lag_bytes_max: IntGauge,
    /// How long the oldest of these bytes has waited.
    pub lag_seconds: Gauge,
    /// Files whose content began anew.
    pub truncations: IntCounter,
    /// Files that could not be opened or read.
    pub read_errors: IntCounter,
    /// Network file systems that do not answer.
    pub volumes_hanging: IntGauge,
    /// Times that reading went back to what was committed.
    pub rewinds: IntCounter,
    /// Bytes that were not delivered and are not to be had any more.
    lost_bytes: IntCounterVec,
}

impl Metrics {
    /// Makes them known to a registry.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("taffrail_tail_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("taffrail_tail_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let lag_seconds = Gauge::new(
            "taffrail_tail_lag_seconds",
            "How long the oldest byte that is not yet in the store has waited, over all files.",
        )?;
        registry.register(Box::new(lag_seconds.clone()))?;
        let marked = IntCounterVec::new(
            Opts::new(
                "taffrail_tail_marked_lines_total",
                "Lines that were cut, partial or not in the format of their file.",
            ),
            &["mark"],
        )?;
        registry.register(Box::new(marked.clone()))?;
        let lost_bytes = IntCounterVec::new(
            Opts::new(
                "taffrail_tail_lost_bytes_total",
                "Bytes of log files that went before they were delivered.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(lost_bytes.clone()))?;
        for loss in Loss::ALL {
            lost_bytes.with_label_values(&[loss.name()]);
        }
        Ok(Self {
            lines: counter("lines_total", "Log lines read.")?,
            bytes: counter("bytes_total", "Bytes of text of the log lines read.")?,
            marked,
            files_open: gauge("files_open", "Log files held open.")?,
            files: gauge("files", "Log files known.")?,
            lag_bytes: gauge("lag_bytes", "Bytes in log files that are not yet in the store.")?,
            lag_bytes_max: gauge(
                "lag_bytes_max",
                "Bytes that are not yet in the store of the file that has most of them.",
            )?,
            lag_seconds,
            truncations: counter("truncations_total", "Log files whose content began anew.")?,
            read_errors: counter(
                "read_errors_total",
                "Log files that could not be opened or read.",
            )?,
            volumes_hanging: gauge(
                "volumes_hanging",
                "Network file systems with log files that do not answer.",
            )?,
            rewinds: counter(
                "rewinds_total",
                "Times that reading went back to what was committed.",
            )?,
            lost_bytes,
        })
    }

    /// Counts bytes that are not to be had any more.
    pub fn lost(&self, loss: Loss, bytes: u64) {
        self.lost_bytes.with_label_values(&[loss.name()]).inc_by(bytes);
    }

    /// Adds what a builder took in between two looks.
    pub fn took(&self, before: Taken, now: Taken) {
        self.lines.inc_by(now.lines - before.lines);
        self.bytes.inc_by(now.bytes - before.bytes);
        let marks = [
            ("cut", now.cut - before.cut),
            ("partial", now.partial - before.partial),
            ("raw", now.raw - before.raw),
        ];
        for (mark, count) in marks.into_iter().filter(|(_, count)| *count > 0) {
            self.marked.with_label_values(&[mark]).inc_by(count);
        }
    }
}
