//! What a scan has to look at: chunks and blocks, the segments of the blocks, and a count of what was
//! looked at.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use taffrail_model::Nanos;
use taffrail_query::source::ScanStats;

use super::block_set::BlockSet;
use super::hidden::{Hiding, MayHide};
use super::known::{self, OfFilters, OfSegment};
use super::memtable::Chunk;
use super::need::Need;
use super::segment::Segment;

/// Order of the frozen memtable among segments.
pub(super) const FROZEN: u64 = u64::MAX - 1;
/// Order of the active memtable among segments.
pub(super) const ACTIVE: u64 = u64::MAX;

/// A chunk or a block that may have rows for a scan.
pub(super) struct Unit {
    /// Which of the selected streams.
    pub(super) stream: usize,
    /// The stream's place among rows of the same time.
    pub(super) fingerprint: u128,
    /// Earliest time.
    pub(super) first: Nanos,
    /// Latest time.
    pub(super) last: Nanos,
    /// Order of the segment or memtable.
    pub(super) order: u64,
    /// Number of the chunk or block in it.
    pub(super) number: u32,
    /// Where the rows are.
    pub(super) place: Place,
    /// Which deletion requests may hide some of them, by their place in `Reader::hiding` of the merge.
    pub(super) hidden_by: Vec<u32>,
}

/// Where the rows of a unit are.
pub(super) enum Place {
    /// In memory.
    Memory(Arc<Chunk>),
    /// In this segment of the scan.
    Disk(usize),
}

/// A segment of a scan, pruned when its first unit comes up.
pub(super) struct PrunedSegment {
    /// The segment.
    pub(super) segment: Arc<Segment>,
    /// Which blocks deletion requests may hide something of.
    pub(super) may_hide: MayHide,
    /// What is known of its blocks.
    pub(super) known: Option<Arc<OfSegment>>,
    candidates: OnceLock<BlockSet>,
}

impl PrunedSegment {
    /// A segment that is not looked at yet.
    pub(super) fn new(segment: Arc<Segment>, hiding: &Hiding, known: Option<&OfFilters>) -> Self {
        Self {
            may_hide: MayHide::new(hiding),
            known: known.and_then(|known| known.of(&segment)),
            candidates: OnceLock::new(),
            segment,
        }
    }

    /// The passing rows of a block, whatever their time, if they are known.
    pub(super) fn known(&self, block: u32) -> Option<&known::Rows> {
        self.known.as_ref()?.get(block)
    }

    /// Whether a block can satisfy a need.
    pub(super) fn may_have(&self, need: &Need, block: u32) -> bool {
        if let Some(known) = self.known(block) {
            return !known.is_empty();
        }
        self.candidates.get_or_init(|| self.segment.candidates(need)).contains(block)
    }
}

/// What was looked at, counted by several threads.
#[derive(Default)]
pub(super) struct LookedAt {
    blocks: AtomicU64,
    bytes: AtomicU64,
    lines: AtomicU64,
}

impl LookedAt {
    /// Counts one block or chunk.
    pub(super) fn add(&self, lines: usize, bytes: usize) {
        self.blocks.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.lines.fetch_add(lines as u64, Relaxed);
    }

    /// The figures so far.
    pub(super) fn stats(&self) -> ScanStats {
        ScanStats {
            blocks_scanned: self.blocks.load(Relaxed),
            bytes_scanned: self.bytes.load(Relaxed),
            lines_scanned: self.lines.load(Relaxed),
            ..ScanStats::default()
        }
    }
}
