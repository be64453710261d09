//! The log store: lines by label, time and text, durable with the positions they were read up to.
//!
//! ```text
//! WAL frame ─> memtable ── flush ──> segment ── compaction ──> segment
//!                 │ scan                │ scan      blocks of one stream's lines, zstd;
//!                 ▼                     ▼           words in tantivy, ids in fingerprint postings
//!               LogSource: merged by (time, stream, position), filtered exactly
//!
//! <dir>/manifest.json   what counts: segments, streams, positions, replay_from   (`manifest`)
//!       manifest.prev   the one before, should it be damaged                     (`recover`)
//!       streams         labels, once per stream                                  (`streams`)
//!       segments/…      immutable, per UTC day                                   (`segment`)
//!       deletions/…     requests to delete lines                                 (`deletions`)
//!       quarantine/…    segments that were found damaged when opened
//!       LOCK            held by the process that has the store open
//! ```
//!
//! Invariants:
//! - A row is in exactly one place: the active memtable, the frozen one, or a segment that the
//!   manifest names. A reader's snapshot sees each row once.
//! - Lines and positions of a frame become visible in one step and durable in one step.
//! - The manifest names only what is synced, and [`LogStore::durable_seq`] moves after the manifest.
//! - The index may only prune what cannot match: answers equal a look at every line.
//! - What a deletion request hides is in no answer, from before the request is answered until its
//!   lines are gone, whatever happens meanwhile.
//! - Damage never stops the store: what is damaged is set aside, counted and reported.
//!
//! A block keeps what its lines have in common (`templates`) apart from what differs (`variables`), so a
//! search looks at templates first (`judge`) and a count never puts lines together (`count`). tantivy is
//! known to `words` alone.

mod block;
mod block_set;
mod compact;
mod count;
mod crew;
mod deletions;
mod erase;
mod files;
mod filter;
mod flush;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod header;
mod hidden;
mod judge;
mod known;
mod manifest;
mod memtable;
mod merge;
mod meta;
mod metadata;
mod need;
mod needle;
mod open;
mod opened;
mod passing;
mod positions;
mod prints;
mod recover;
mod retain;
mod rows;
mod scan;
mod segment;
mod segment_writer;
mod split;
mod stats;
mod streams;
mod templates;
mod terms;
mod times;
mod token;
mod unit;
mod variables;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use taffrail_model::{SourceRange, StreamEntries};
use taffrail_query::source::Cancel;
use tokio::sync::broadcast;

use deletions::Deletions;
use hidden::Hide;
use manifest::Manifest;
use memtable::{Committed, Memtable};
use retain::Retaining;
pub use retain::{Retention, RetentionRule};
use segment::Segment;
pub use stats::LogStoreStats;
use streams::{Streams, StreamsFile};

/// Version of the files that are written: manifest, segments and what is in them.
const FORMAT: u32 = 2;
/// The oldest version that is read.
const FORMAT_OLDEST: u32 = 1;

/// Frames that a live tail may fall behind. Each holds a whole batch, so not many.
const LIVE_FRAMES: usize = 64;

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct LogStoreConfig {
    /// Folder of the store; made when it is not there.
    pub dir: PathBuf,
    /// The memtable is written to a segment when it takes so much memory. Twice as much is used
    /// while one is being written.
    pub memtable_bytes: usize,
    /// The memtable is written when its oldest line is in it for so long.
    pub flush_after: Duration,
    /// Text of one block before compression, at most (unless one line is longer). Kept between 64
    /// bytes and 16 MiB.
    pub block_bytes: usize,
    /// What is kept.
    pub retention: Retention,
    /// How long the lines of a deletion request are only hidden, and it may be cancelled, before they
    /// are erased.
    pub delete_after: Duration,
}

impl LogStoreConfig {
    /// The defaults, in a folder.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            memtable_bytes: 64 << 20,
            flush_after: Duration::from_secs(300),
            block_bytes: 256 << 10,
            retention: Retention::default(),
            delete_after: Duration::from_secs(86_400),
        }
    }
}

/// Why the store cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The folder belongs to another version of the program. Nothing was changed.
    #[error(
        "{} has format {found}, this program reads format {known}: run the version that wrote it, \
         or start with another folder", path.display()
    )]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The format that this program reads.
        known: u32,
    },
    /// A file that the store cannot do without is not what was written.
    #[error("{} is damaged ({what}): restore it from a backup, or start with another folder", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// There are segments, but nothing says which of them count. Nothing was changed.
    #[error(
        "{} has segments but no manifest: restore manifest.json from a backup, or start with \
         another folder", dir.display()
    )]
    NoManifest {
        /// The folder of the store.
        dir: PathBuf,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The folder of the store.
        dir: PathBuf,
    },
    /// The word index could not be written.
    #[error("cannot write the word index {}: {source}", path.display())]
    Index {
        /// Its folder.
        path: PathBuf,
        /// What tantivy said.
        source: tantivy::TantivyError,
    },
}

impl Error {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }

    fn index(path: &Path) -> impl FnOnce(tantivy::TantivyError) -> Self {
        let path = path.to_owned();
        move |source| Self::Index { path, source }
    }
}

/// A store that was opened, and where the write-ahead log has to be replayed from.
pub struct Opened {
    /// The store.
    pub store: Arc<LogStore>,
    /// Sequence number of the first frame that is not in segments.
    pub replay_from: u64,
}

/// The log store. See the module for what holds.
pub struct LogStore {
    config: LogStoreConfig,
    streams: RwLock<Streams>,
    state: Mutex<State>,
    /// Signalled when a frozen memtable has become segments.
    room: Condvar,
    /// What is written to disk, by one at a time.
    keeper: Mutex<Keeper>,
    /// Deletion requests.
    deletions: Mutex<Deletions>,
    retaining: Retaining,
    /// Held while segments are merged or erased from; the keeper is free meanwhile.
    compacting: Mutex<()>,
    /// Ends merging.
    ending: Cancel,
    /// Looks at blocks for queries.
    crew: crew::Crew,
    /// What queries have found before.
    known: known::Known,
    live: broadcast::Sender<Arc<Vec<StreamEntries>>>,
    counters: Counters,
    /// Keeps other processes out for as long as it is open.
    _lock: File,
}

/// What readers and the one writer of frames share. Locked for a few microseconds at a time.
struct State {
    active: Memtable,
    frozen: Option<Arc<Frozen>>,
    /// In the order of arrival.
    segments: Arc<Vec<Arc<Segment>>>,
    /// What deletion requests hide.
    hides: Arc<Vec<Arc<Hide>>>,
    /// Positions as the manifest has them.
    durable: BTreeMap<String, Committed>,
    /// Frames below are applied.
    next_seq: u64,
}

/// A memtable on its way to disk.
struct Frozen {
    table: Memtable,
    /// Frames below are in it or in segments.
    end_seq: u64,
}

/// What the writer of segments and manifest knows.
struct Keeper {
    /// As last written.
    manifest: Manifest,
    /// Never used twice by this process, not even after a failure: a manifest that was renamed but
    /// whose rename was not synced may name the segment.
    next_segment: u64,
    /// When a memtable was written last, or the store was opened.
    flushed: Instant,
    streams: StreamsFile,
}

#[derive(Default)]
struct Counters {
    flushes: AtomicU64,
    flush_failures: AtomicU64,
    compactions: AtomicU64,
    rewritten: AtomicU64,
    expired: AtomicU64,
    quarantined: AtomicU64,
}

impl LogStore {
    /// Applies one frame of the write-ahead log: its lines can be read and its positions count when
    /// this returns, and live tails get them. Frames come in ascending order from one caller at a
    /// time; a frame that was applied before is left out.
    pub fn apply(&self, seq: u64, mut streams: Vec<StreamEntries>, ranges: &[SourceRange]) {
        let numbers = self.numbers(&streams);
        let hides = {
            let mut state = self.state();
            if seq < state.next_seq {
                tracing::debug!(seq, "frame is applied already");
                return;
            }
            for (entries, number) in streams.iter().zip(numbers) {
                state.active.push(seq, number, &entries.entries);
            }
            state.active.advance(seq, ranges);
            state.next_seq = seq.saturating_add(1);
            Arc::clone(&state.hides)
        };
        if self.live.receiver_count() > 0 && !streams.is_empty() {
            hidden::take_out(&hides, &mut streams);
            // An error means that the last receiver has just gone.
            self.live.send(Arc::new(streams)).ok();
        }
    }

    /// The numbers of the batch's streams; new streams get one.
    fn numbers(&self, batch: &[StreamEntries]) -> Vec<u32> {
        let known = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let found: Option<Vec<u32>> = batch.iter().map(|s| known.number(&s.labels)).collect();
        drop(known);
        found.unwrap_or_else(|| {
            let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
            batch.iter().map(|s| streams.insert(&s.labels)).collect()
        })
    }

    /// First sequence number of the write-ahead log that is still needed: all frames below are in
    /// segments, or had nothing for this store.
    pub fn durable_seq(&self) -> u64 {
        let state = self.state();
        let frozen = state.frozen.as_ref().and_then(|frozen| frozen.table.first_seq());
        frozen.or_else(|| state.active.first_seq()).unwrap_or(state.next_seq)
    }

    /// Whether no more frames should be taken in: the memtable is full and the one before it is
    /// still being written (or cannot be). Ask before making a batch durable; answer 429.
    pub fn is_full(&self) -> bool {
        self.is_full_in(&self.state())
    }

    fn is_full_in(&self, state: &State) -> bool {
        let bytes = state.active.bytes();
        let limit = self.config.memtable_bytes;
        bytes >= limit.saturating_mul(2) || (bytes >= limit && state.frozen.is_some())
    }

    /// Waits until there is room, at most for `timeout`; whether there is. Blocks the thread.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let waited = self.room.wait_timeout_while(self.state(), timeout, |s| self.is_full_in(s));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !self.is_full_in(&state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segments_dir(&self) -> PathBuf {
        self.config.dir.join(open::SEGMENTS)
    }
}
