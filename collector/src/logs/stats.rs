//! The figures of the store, gathered.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::LogStore;
use super::memtable::Memtable;

/// Figures of the store, for its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStoreStats {
    /// Streams ever seen.
    pub streams: u64,
    /// Sources with a position.
    pub sources: u64,
    /// Segments.
    pub segments: u64,
    /// Blocks in segments.
    pub blocks: u64,
    /// Lines in segments.
    pub lines: u64,
    /// Text in segments before compression, in bytes.
    pub text_bytes: u64,
    /// All files of the segments, in bytes.
    pub disk_bytes: u64,
    /// Lines in memory.
    pub memory_lines: u64,
    /// What the memtables take, in bytes.
    pub memory_bytes: u64,
    /// The limit of one memtable, in bytes.
    pub memory_bytes_max: u64,
    /// Memtables written since the start.
    pub flushes: u64,
    /// Attempts to write that failed since the start.
    pub flush_failures: u64,
    /// Groups of segments merged since the start.
    pub compactions: u64,
    /// Segments written anew without lines that were to go, since the start.
    pub segments_rewritten: u64,
    /// Deletion requests that hide lines.
    pub deletions: u64,
    /// Segments removed for their age, or to make room, since the start.
    pub segments_expired: u64,
    /// Segments and streams found damaged when opening.
    pub quarantined: u64,
    /// Segments in which a block or the index was found damaged when reading.
    pub segments_damaged: u64,
    /// Live tails.
    pub subscribers: u64,
}

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
