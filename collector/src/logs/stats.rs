//! The figures of the store, gathered.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::memtable::Memtable;
use super::{LogStore, LogStoreStats};

impl LogStore {
    /// Figures for the metrics.
    pub fn stats(&self) -> LogStoreStats {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner).count();
        let state = self.state();
        let frozen = state.frozen.as_ref().map(|frozen| &frozen.table);
        let mut stats = LogStoreStats {
            streams: u64::from(streams),
            sources: state.durable.len() as u64,
            segments: state.segments.len() as u64,
            memory_lines: state.active.rows() + frozen.map_or(0, Memtable::rows),
            memory_bytes: (state.active.bytes() + frozen.map_or(0, Memtable::bytes)) as u64,
            memory_bytes_max: self.config.memtable_bytes as u64,
            flushes: self.counters.flushes.load(Relaxed),
            flush_failures: self.counters.flush_failures.load(Relaxed),
            segments_rewritten: self.counters.rewritten.load(Relaxed),
            deletions: state.hides.len() as u64,
            compactions: self.counters.compactions.load(Relaxed),
            segments_expired: self.counters.expired.load(Relaxed),
            quarantined: self.counters.quarantined.load(Relaxed),
            subscribers: self.live.receiver_count() as u64,
            ..LogStoreStats::default()
        };
        let segments = Arc::clone(&state.segments);
        drop(state);
        for segment in segments.iter() {
            stats.blocks += segment.headers().len() as u64;
            stats.lines += segment.meta().rows;
            stats.text_bytes += segment.meta().text_bytes;
            stats.disk_bytes += segment.disk_bytes();
            stats.segments_damaged += u64::from(segment.is_damaged());
        }
        stats
    }
}
