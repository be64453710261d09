//! A store that is nothing but a list: it answers by looking at every line. The engines and the
//! stores of the collector are compared with it in tests.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use taffrail_model::{Labels, LogEntry, Matcher, StreamEntries, TimeRange};
use tokio::sync::broadcast;

use crate::source::{
    Counted, Direction, LogCount, LogRow, LogScan, LogSource, RowSink, ScanStats, SourceError,
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

    fn count(&self, count: &LogCount) -> Result<Option<Vec<Counted>>, SourceError> {
        let mut counts: Vec<Counted> = Vec::new();
        for (at, range) in count.ranges.iter().enumerate() {
            count.cancel.check()?;
            for (labels, entry) in self.rows(&count.matchers, *range) {
                if count.only_plain && !entry.metadata.is_empty() {
                    return Ok(None);
                }
                if !count.filters.iter().all(|filter| filter.passes(&entry.line)) {
                    continue;
                }
                let level = count.by_level.then_some(entry.level);
                let is_of = |known: &Counted| known.labels == labels && known.level == level;
                let found = counts.iter().position(is_of).unwrap_or_else(|| {
                    let zeros = vec![0; count.ranges.len()];
                    let bytes = if count.bytes { zeros.clone() } else { Vec::new() };
                    counts.push(Counted { labels: labels.clone(), level, lines: zeros, bytes });
                    counts.len() - 1
                });
                counts[found].lines[at] += 1;
                if let Some(bytes) = counts[found].bytes.get_mut(at) {
                    *bytes += entry.line.len() as u64;
                }
            }
        }
        Ok(Some(counts))
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
