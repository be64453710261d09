//! A store that is nothing but a list: it answers by looking at every line. The engines and the
//! stores of the collector are compared with it in tests.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use taffrail_model::{Labels, LogEntry, Matcher, StreamEntries, TimeRange};
use tokio::sync::broadcast;

use crate::source::{
    Cancel, Direction, LogRow, LogScan, LogSource, RowSink, ScanStats, SourceError,
};

/// Batches that a slow subscriber may fall behind.
const SUBSCRIBER_BATCHES: usize = 64;

/// A list of lines that is a [`LogSource`].
pub struct VecSource {
    streams: Mutex<Vec<StreamEntries>>,
    live: broadcast::Sender<Arc<Vec<StreamEntries>>>,
}

impl Default for VecSource {
    fn default() -> Self {
        Self::new()
    }
}

impl VecSource {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        let (live, _) = broadcast::channel(SUBSCRIBER_BATCHES);
        Self { streams: Mutex::default(), live }
    }

    /// A store with these lines.
    #[must_use]
    pub fn with(batches: Vec<StreamEntries>) -> Self {
        let source = Self::new();
        source.push(batches);
        source
    }

    /// Adds lines and tells subscribers.
    pub fn push(&self, batches: Vec<StreamEntries>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in &batches {
            match streams.iter_mut().find(|stream| stream.labels == batch.labels) {
                Some(stream) => stream.entries.extend(batch.entries.iter().cloned()),
                None => streams.push(batch.clone()),
            }
        }
        // Nobody listening is fine.
        let _ = self.live.send(Arc::new(batches));
    }

    /// Everything that the labels select, in the order of [`Direction::Forward`].
    fn rows(&self, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, LogEntry)> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<(Labels, LogEntry)> = Vec::new();
        for stream in
            streams.iter().filter(|s| matchers.iter().all(|m| m.matches_labels(&s.labels)))
        {
            let wanted = stream.entries.iter().filter(|entry| range.contains(entry.ts));
            rows.extend(wanted.map(|entry| (stream.labels.clone(), entry.clone())));
        }
        rows.sort_by_cached_key(|(labels, entry)| (entry.ts, labels.fingerprint()));
        rows
    }
}

impl LogSource for VecSource {
    fn scan(&self, scan: &LogScan, sink: &mut RowSink<'_>) -> Result<ScanStats, SourceError> {
        let mut rows = self.rows(&scan.matchers, scan.range);
        if scan.order == Some(Direction::Backward) {
            rows.reverse();
        }
        let mut stats = ScanStats::default();
        for (labels, entry) in &rows {
            scan.cancel.check()?;
            stats.lines_scanned += 1;
            stats.bytes_scanned += entry.line.len() as u64;
            if !scan.filters.iter().all(|filter| filter.passes(&entry.line)) {
                continue;
            }
            let metadata: Vec<(&str, &str)> =
                entry.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let row =
                LogRow { ts: entry.ts, line: &entry.line, level: entry.level, metadata: &metadata };
            if let ControlFlow::Break(()) = sink(labels, row) {
                break;
            }
        }
        Ok(stats)
    }

    fn count(
        &self,
        matchers: &[Matcher],
        ranges: &[TimeRange],
        cancel: &Cancel,
    ) -> Result<Vec<(Labels, Vec<u64>)>, SourceError> {
        let mut counts: Vec<(Labels, Vec<u64>)> = Vec::new();
        for (at, range) in ranges.iter().enumerate() {
            cancel.check()?;
            for (labels, _) in self.rows(matchers, *range) {
                let found = counts.iter().position(|(known, _)| *known == labels);
                let index = found.unwrap_or_else(|| {
                    counts.push((labels, vec![0; ranges.len()]));
                    counts.len() - 1
                });
                counts[index].1[at] += 1;
            }
        }
        Ok(counts)
    }

    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, SourceError> {
        let mut labels: Vec<Labels> =
            self.rows(matchers, range).into_iter().map(|(labels, _)| labels).collect();
        labels.sort();
        labels.dedup();
        Ok(labels)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<StreamEntries>>> {
        self.live.subscribe()
    }
}
