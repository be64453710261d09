//! Lines that are in the write-ahead log but in no segment yet, scanned as they are.
//!
//! Rows of a stream lie in chunks in the order of arrival. The last chunk grows as long as nobody
//! reads it; a reader that takes a snapshot holds the chunks, and the writer begins a new one. So a
//! snapshot is a few reference counts, and neither waits for the other while rows are looked at.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use taffrail_model::{LogEntry, Nanos, SourceRange};

use super::rows::Rows;

/// How much a chunk or block may take with metadata and row overhead, in units of its text.
const BYTES_PER_TEXT: usize = 4;

/// What a stream and a chunk take beside their rows, in bytes, about.
const STREAM_BYTES: usize = 96;
const CHUNK_BYTES: usize = 256;

/// Rows of one stream in the order of arrival.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// The rows; their times may go back and forth.
    pub(super) rows: Rows,
    /// Earliest time.
    pub(super) first: Nanos,
    /// Latest time.
    pub(super) last: Nanos,
}

/// Committed position of a source and its check.
pub(super) type Committed = (u64, u64);

/// Rows and positions of consecutive frames.
pub(super) struct Memtable {
    streams: HashMap<u32, Vec<Arc<Chunk>>>,
    /// Positions that these frames moved.
    positions: BTreeMap<String, Committed>,
    chunk_bytes: usize,
    bytes: usize,
    rows: u64,
    began: Option<Began>,
}

/// When the first frame with content came.
#[derive(Clone, Copy)]
struct Began {
    seq: u64,
    at: Instant,
}

impl Memtable {
    /// An empty table whose chunks hold about so much text.
    pub(super) fn new(chunk_bytes: usize) -> Self {
        Self {
            streams: HashMap::new(),
            positions: BTreeMap::new(),
            chunk_bytes,
            bytes: 0,
            rows: 0,
            began: None,
        }
    }

    /// Adds rows of one stream that came with this frame.
    pub(super) fn push(&mut self, seq: u64, stream: u32, entries: &[LogEntry]) {
        if entries.is_empty() {
            return;
        }
        self.begin(seq);
        let chunks = self.streams.entry(stream).or_insert_with(|| {
            self.bytes += STREAM_BYTES;
            Vec::new()
        });
        let mut rest = entries;
        while !rest.is_empty() {
            let growing = chunks.last_mut().and_then(Arc::get_mut);
            let taken = growing.map_or(0, |chunk| {
                let before = chunk.rows.memory();
                let taken = chunk.take(rest, self.chunk_bytes);
                if taken < rest.len() {
                    chunk.rows.shrink();
                }
                self.bytes = self.bytes + chunk.rows.memory() - before;
                taken
            });
            if taken == 0 {
                let rows = match chunks.last() {
                    // A stream that has filled a chunk fills another.
                    Some(full) if full.rows.text.len() * 2 > self.chunk_bytes => {
                        full.rows.with_room_like(self.chunk_bytes)
                    }
                    _ => Rows::default(),
                };
                self.bytes += CHUNK_BYTES + rows.memory();
                chunks.push(Arc::new(Chunk { rows, first: Nanos::MAX, last: Nanos::MIN }));
            }
            rest = &rest[taken..];
        }
        self.rows += entries.len() as u64;
    }

    /// Moves the positions of ranges that came with this frame.
    pub(super) fn advance(&mut self, seq: u64, ranges: &[SourceRange]) {
        for range in ranges {
            self.begin(seq);
            self.bytes += range.source.len();
            self.positions.insert(range.source.clone(), (range.end, range.check));
        }
    }

    fn begin(&mut self, seq: u64) {
        self.began.get_or_insert_with(|| Began { seq, at: Instant::now() });
    }

    /// The chunks of one stream.
    pub(super) fn chunks(&self, stream: u32) -> &[Arc<Chunk>] {
        self.streams.get(&stream).map_or(&[], |chunks| chunks)
    }

    /// Numbers of all streams with rows, ascending.
    pub(super) fn streams(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.streams.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// Positions that were moved.
    pub(super) fn positions(&self) -> &BTreeMap<String, Committed> {
        &self.positions
    }

    /// Sequence number of the first frame with content; none while empty.
    pub(super) fn first_seq(&self) -> Option<u64> {
        self.began.map(|began| began.seq)
    }

    /// Since when there is content; none while empty.
    pub(super) fn since(&self) -> Option<Instant> {
        self.began.map(|began| began.at)
    }

    /// What the table takes in memory, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

impl Chunk {
    /// Takes as many entries as fit and returns how many; at least one if it is empty.
    fn take(&mut self, entries: &[LogEntry], chunk_bytes: usize) -> usize {
        for (taken, entry) in entries.iter().enumerate() {
            if is_full(&self.rows, entry.line.len(), chunk_bytes) {
                return taken;
            }
            self.rows.push_entry(entry);
            self.first = self.first.min(entry.ts);
            self.last = self.last.max(entry.ts);
        }
        entries.len()
    }
}

/// Whether rows should not take another line of this length.
pub(super) fn is_full(rows: &Rows, line_bytes: usize, text_bytes_max: usize) -> bool {
    rows.len() > 0
        && (rows.text.len() + line_bytes + 1 > text_bytes_max
            || rows.bytes() + line_bytes > text_bytes_max * BYTES_PER_TEXT)
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{entries, entry_of};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_snapshot_never_changes_and_nothing_is_lost(
            frames in proptest::collection::vec((entries(), any::<bool>()), 1..6), chunk_bytes in 16_usize..200,
        ) {
            let mut table = Memtable::new(chunk_bytes);
            let mut snapshots = Vec::new();
            let mut all = Vec::new();
            for (seq, (entries, snapshot)) in frames.into_iter().enumerate() {
                table.push(seq as u64, 3, &entries);
                all.extend(entries);
                if snapshot {
                    snapshots.push((all.len(), table.chunks(3).to_vec()));
                }
            }
            snapshots.push((all.len(), table.chunks(3).to_vec()));
            for (count, chunks) in snapshots {
                let found: Vec<LogEntry> = (chunks.iter())
                    .flat_map(|c| (0..c.rows.len()).map(|row| entry_of(&c.rows, row)))
                    .collect();
                prop_assert_eq!(&found, &all[..count]);
                for chunk in &chunks {
                    prop_assert_eq!(chunk.rows.ts.iter().min(), Some(&chunk.first));
                    prop_assert_eq!(chunk.rows.ts.iter().max(), Some(&chunk.last));
                    prop_assert!(chunk.rows.len() == 1 || chunk.rows.text.len() <= chunk_bytes);
                }
            }
            prop_assert_eq!(table.first_seq(), Some(0));
            prop_assert_eq!(table.rows(), all.len() as u64);
        }
    }
}
