//! The metric store: samples of series, in memory and in sealed blocks, answered as a
//! [`taffrail_query::source::SeriesSource`].
//!
//! What must always hold:
//!
//! - The store is durable through the WAL of its caller: [`MetricStore::apply`] only changes memory,
//!   and everything from [`MetricStore::durable_seq`] on must be applied again after a crash.
//!   Everything before it is in a block that has been synced.
//! - A sample is answered once, whatever was applied twice: of several values for one time of one
//!   series the first stays.
//! - A block never changes. A damaged one is set aside (`.damaged`), counted, and the rest is served;
//!   one of another format version stops the start, because it was not damaged but misunderstood.
//!
//! The rooms: [`index`] (which series there are), [`head`] (samples in memory, packed by [`chunk`]),
//! [`block`] and [`writer`] (sealed files, columns packed by [`mod@column`]), [`manifest`] (which blocks
//! count), [`select`] (matchers and range to samples), [`maintain`] (flush, merge, retention).

mod block;
mod chunk;
mod codec;
mod column;
mod head;
mod index;
mod maintain;
mod manifest;
mod merge;
mod open;
mod select;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use taffrail_model::sample::METRIC_NAME;
use taffrail_model::time::Millis;
use taffrail_model::{MetricKind, SeriesSamples};

use block::Block;
use head::{Head, Pushed, Samples};
use index::{Index, SeriesId};

/// Series that are applied under one hold of the lock, so that a big batch does not keep queries
/// waiting.
const APPLY_SERIES: usize = 1024;

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct MetricStoreConfig {
    /// Folder of the blocks; made if it is not there.
    pub dir: PathBuf,
    /// Samples in memory are sealed when they span so much time.
    pub block_span: Duration,
    /// Samples in memory are sealed at the latest so long after the first of them came.
    pub flush_after: Duration,
    /// Samples in memory are sealed when they take so many bytes (the state of their series, which
    /// stays, comes on top: about 350 bytes each).
    pub head_bytes_max: usize,
    /// How far behind the newest sample of its series a sample may lie.
    pub out_of_order: Duration,
    /// How far ahead of the clock a sample may lie.
    pub ahead: Duration,
    /// Samples older than this are refused and removed.
    pub retention: Duration,
    /// Most series at a time, those that only old blocks hold included. At most 8 million.
    pub series_max: usize,
    /// The clock, in milliseconds since the epoch.
    pub now: fn() -> Millis,
}

impl MetricStoreConfig {
    /// The usual settings for a folder.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            block_span: Duration::from_secs(2 * 3600),
            flush_after: Duration::from_secs(30 * 60),
            head_bytes_max: 64 << 20,
            out_of_order: Duration::from_secs(3600),
            ahead: Duration::from_secs(600),
            retention: Duration::from_secs(15 * 86_400),
            series_max: 1_000_000,
            now: taffrail_kit::clock::unix_millis,
        }
    }
}

/// Why the store could not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk said no.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is whole but of another version of its format.
    #[error("{} has format version {found}, this build knows version {known}: use the build that wrote it, or move it away", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that this build reads.
        known: u32,
    },
    /// A file is not as it was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Another process has the folder open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// A store that was opened.
pub struct Opened {
    /// The store.
    pub store: Arc<MetricStore>,
    /// First sequence number that must be applied again.
    pub replay_from: u64,
}

/// What became of the samples of one [`MetricStore::apply`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Samples that are new.
    pub accepted: u64,
    /// Samples whose series has one for the time already.
    pub duplicates: u64,
    /// Samples behind the out-of-order window or the retention.
    pub too_old: u64,
    /// Samples too far ahead of the clock.
    pub too_new: u64,
    /// Samples of new series beyond the limit.
    pub over_limit: u64,
}

/// Figures of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series known, those that only old blocks hold included.
    pub series: u64,
    /// The limit on them.
    pub series_max: u64,
    /// Series written to lately.
    pub active_series: u64,
    /// Different label names and values.
    pub symbols: u64,
    /// Samples in memory.
    pub head_samples: u64,
    /// Bytes of memory behind them and the state of their series, the index excluded.
    pub head_bytes: u64,
    /// Sealed blocks.
    pub blocks: u64,
    /// Bytes of them on disk.
    pub block_bytes: u64,
    /// Samples in them.
    pub block_samples: u64,
    /// Blocks set aside because they were damaged.
    pub damaged_blocks: u64,
    /// Samples refused because of the limit on series, since the start.
    pub over_limit_samples: u64,
    /// First sequence number that is in no block.
    pub durable_seq: u64,
}

/// The store. One caller at a time applies; any number read, flush and tick beside it.
pub struct MetricStore {
    config: MetricStoreConfig,
    inner: RwLock<Inner>,
    /// Held while blocks are written, merged or removed.
    maintenance: Mutex<Numbers>,
    /// Read by a query while it holds on to numbers of series; only ever tried for writing.
    numbering: RwLock<()>,
    damaged: AtomicU64,
    over_limit: AtomicU64,
    _lock: File,
}

/// What only maintenance needs.
struct Numbers {
    next_block: u64,
    /// Whether blocks were removed since series were last forgotten.
    forget: bool,
}

#[derive(Default)]
struct Inner {
    index: Index,
    head: Head,
    /// Samples on their way into a block, still answered from memory.
    sealing: Option<Arc<Sealing>>,
    /// Oldest first, in the order in which they were written.
    blocks: Vec<Arc<Block>>,
    /// The sequence number after the last one applied.
    next_seq: u64,
    durable_seq: u64,
    /// When the first sample came after the last flush.
    dirty_since: Option<Instant>,
    /// Room for taking fingerprints.
    buffer: Vec<u8>,
}

/// Samples taken out of the head, in order of the series' numbers.
struct Sealing {
    series: Vec<(SeriesId, Samples)>,
    next_seq: u64,
}

impl Sealing {
    fn get(&self, id: SeriesId) -> Option<&Samples> {
        let at = self.series.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.series[at].1)
    }
}

impl MetricStore {
    /// Opens the store in the folder of the settings, or makes an empty one.
    ///
    /// # Errors
    /// When the folder cannot be used or a file in it has another format version. Damaged blocks
    /// are no error; [`Stats::damaged_blocks`] counts them.
    pub fn open(config: MetricStoreConfig) -> Result<Opened, Error> {
        open::open(config)
    }

    /// Applies what the WAL holds under one sequence number; visible on return. Calls come in order
    /// of the WAL, each number once per start. Applying again what is there already changes nothing.
    pub fn apply(&self, seq: u64, series: &[SeriesSamples]) -> Applied {
        let now = (self.config.now)();
        let bounds = (
            now.saturating_sub(millis(self.config.retention)),
            now.saturating_add(millis(self.config.ahead)),
        );
        let mut applied = Applied::default();
        for part in series.chunks(APPLY_SERIES) {
            let mut inner = self.write();
            for one in part {
                inner.apply(one, &self.config, bounds, &mut applied);
            }
            if applied.accepted > 0 && inner.dirty_since.is_none() {
                inner.dirty_since = Some(Instant::now());
            }
        }
        // Only now: a flush in between must not take the whole for durable.
        let mut inner = self.write();
        inner.next_seq = inner.next_seq.max(seq.saturating_add(1));
        drop(inner);
        self.over_limit.fetch_add(applied.over_limit, Ordering::Relaxed);
        applied
    }

    /// First sequence number that the WAL must still keep.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.read().durable_seq
    }

    /// Figures for telemetry.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let inner = self.read();
        let files = || inner.blocks.iter().map(|block| &block.file);
        Stats {
            series: inner.index.len() as u64,
            series_max: self.config.series_max as u64,
            active_series: inner.head.active() as u64,
            symbols: inner.index.symbols().len() as u64,
            head_samples: inner.head.samples(),
            head_bytes: inner.head.size() as u64,
            blocks: inner.blocks.len() as u64,
            block_bytes: files().map(|file| file.size).sum(),
            block_samples: files().map(|file| file.meta.samples).sum(),
            damaged_blocks: self.damaged.load(Ordering::Relaxed),
            over_limit_samples: self.over_limit.load(Ordering::Relaxed),
            durable_seq: inner.durable_seq,
        }
    }

    // A panic while the lock is held aborts the process in release builds; in tests the next caller
    // goes on with what is there.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn apply(
        &mut self,
        one: &SeriesSamples,
        config: &MetricStoreConfig,
        (oldest, newest): (Millis, Millis),
        applied: &mut Applied,
    ) {
        let in_bounds = |ts: Millis| ts >= oldest && ts <= newest;
        if !one.samples.iter().any(|s| in_bounds(s.ts)) {
            applied.too_old += one.samples.iter().filter(|s| s.ts < oldest).count() as u64;
            applied.too_new += one.samples.iter().filter(|s| s.ts > newest).count() as u64;
            return;
        }
        let Some(id) = self.number(one, config.series_max) else {
            applied.over_limit += one.samples.len() as u64;
            return;
        };
        let Self { head, blocks, .. } = self;
        let last = || blocks.iter().filter_map(|block| block.last(id)).max();
        let mut writer = head.writer(id, millis(config.out_of_order), last);
        for sample in &one.samples {
            if sample.ts < oldest {
                applied.too_old += 1;
            } else if sample.ts > newest {
                applied.too_new += 1;
            } else {
                match writer.push(*sample) {
                    Pushed::Accepted => applied.accepted += 1,
                    Pushed::Duplicate => applied.duplicates += 1,
                    Pushed::TooOld => applied.too_old += 1,
                }
            }
        }
    }

    /// The number of a series, a new one if the limit allows.
    fn number(&mut self, one: &SeriesSamples, series_max: usize) -> Option<SeriesId> {
        let fingerprint = index::fingerprint(&one.labels, &mut self.buffer);
        if let Some(id) = self.index.find(fingerprint) {
            if !self.head.is_active(id) {
                self.declare(one);
            }
            return Some(id);
        }
        if self.index.len() >= series_max {
            return None;
        }
        self.declare(one);
        Some(self.index.insert(fingerprint, one.labels.iter()))
    }

    fn declare(&mut self, one: &SeriesSamples) {
        if one.kind != MetricKind::Unknown {
            self.index.declare(one.labels.get(METRIC_NAME).unwrap_or_default(), one.kind);
        }
    }
}

/// A duration as the unit of samples.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
