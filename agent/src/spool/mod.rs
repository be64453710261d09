//! Batches on disk, for as long as the collector is away.
//!
//! The file is the buffer: while the collector answers nothing is written here. When it is away, what
//! would vanish is kept here until it is back: batches in the order in which they were read, and a
//! [`ledger`] of what is known of the files.
//!
//! Invariants:
//! - What [`Spool::append`] has taken survives a power cut.
//! - Frames come out in the order in which they went in; one that is damaged is left out and counted,
//!   and the next frame of its files tells the gap (see `Batch::after`). One that the disk does not give
//!   now is waited for.
//! - Frames are removed only when they were dealt with, and never before a ledger knows of them.
//! - No more than the bytes of the settings are on disk; a part of them is kept for the end of the
//!   process.
//! - A disk that is full, read-only or broken is told, never a reason to stop: the same call may
//!   succeed later.
//!
//! A frame is a frame of `kit::journal`, whose payload begins with its kind:
//!
//! ```text
//! batch    1, time of writing (i64), length of the ranges (u32), ranges, content (zstd)
//! ledger   2, number of the last frame that is dealt with (u64), entries (zstd)
//! ```
//!
//! Blocks on the disk: not to be called on a worker of the runtime.

pub mod bytes;
mod error;
mod frame;
pub mod ledger;
mod limits;
mod metrics;
mod read;
mod view;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use taffrail_kit::clock;
use taffrail_kit::journal::{self, Journal, Options};
use taffrail_model::Nanos;
use taffrail_model::record::Position;

use crate::batch::Batch;
use ledger::Entry;

pub use error::Error;
pub use limits::Limits;
pub use metrics::Metrics;
pub use read::Oldest;
pub use view::{Overview, View};

/// Longest payload of a frame: a batch is far below.
const FRAME_BYTES_MAX: u32 = 64 << 20;
/// A segment holds this part of the spool, so that what is delivered makes room soon.
const SEGMENTS: u64 = 16;
/// Segments are no longer than this.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// Segments are no shorter than this.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// This part of the bytes is for ledgers and for the end of the process.
const RESERVE_FRACTION: u64 = 16;
/// This part is for the ledgers that must not fail: the last one, and those before a removal.
const LAST_FRACTION: u64 = 32;
/// Name of the file that is locked by who has the spool open.
const LOCK: &str = "lock";

/// Settings of the spool.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its folder.
    pub dir: PathBuf,
    /// Most bytes on disk.
    pub bytes_max: u64,
    /// How long the collector does not answer before it counts as away.
    pub after: Duration,
}

/// A frame that waits.
#[derive(Clone, Copy, Debug)]
struct Pending {
    seq: u64,
    written: Nanos,
}

/// How much of the bytes a frame may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A batch, while the process goes on.
    Most,
    /// A batch at the end of the process; a ledger that another one will follow.
    Reserve,
    /// A ledger that must not fail.
    All,
}

/// Batches on disk.
pub struct Spool {
    config: Config,
    limits: Limits,
    view: View,
    metrics: Metrics,
    open: Option<Open>,
    pending: VecDeque<Pending>,
    /// Where the files stand that have frames.
    ends: HashMap<Arc<str>, (u64, u64)>,
    ledger: Vec<Entry>,
    /// The number of the last frame that is dealt with.
    delivered: u64,
    /// Whether frames were removed and the ledger that knows of them is not on the disk: before the
    /// next batch it must be.
    owes_ledger: bool,
    /// How often the oldest batch could not be read.
    failed_reads: u32,
    problem: Option<&'static str>,
}

struct Open {
    journal: Journal,
    reader: Option<journal::Reader>,
    _lock: File,
}

impl Spool {
    /// A spool that has not looked at its folder yet: see [`Spool::open`].
    #[must_use]
    pub fn new(config: Config, view: View, metrics: Metrics) -> Self {
        Self {
            limits: Limits::new(&config, view.clone()),
            config,
            view,
            metrics,
            open: None,
            pending: VecDeque::new(),
            ends: HashMap::new(),
            ledger: Vec::new(),
            delivered: 0,
            owes_ledger: false,
            failed_reads: 0,
            problem: None,
        }
    }

    /// Its limits, as they are at any time.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads what an earlier process has left, and says whether that could be done. A failure is told;
    /// each later call tries again.
    pub fn open(&mut self) -> bool {
        let opened = self.opened().map(|_| ());
        self.note(&opened);
        opened.is_ok()
    }

    /// Whether what an earlier process has left was read.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether no batch waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// What is known of files from before: the ledger, and behind it the ends of the frames.
    #[must_use]
    pub fn resume(&self) -> Vec<Position> {
        let of_entry =
            |e: &Entry| Position { source: e.source.clone(), committed: e.safe, check: e.check };
        self.overlay(self.ledger.iter().map(of_entry).collect())
    }

    /// The collector's positions, and behind them the ends of the frames that wait.
    #[must_use]
    pub fn overlay(&self, positions: Vec<Position>) -> Vec<Position> {
        let mut all: HashMap<String, (u64, u64)> =
            positions.into_iter().map(|p| (p.source, (p.committed, p.check))).collect();
        for (source, end) in &self.ends {
            let known = all.entry(source.to_string()).or_insert(*end);
            if known.0 < end.0 {
                *known = *end;
            }
        }
        let position = |(source, (committed, check))| Position { source, committed, check };
        all.into_iter().map(position).collect()
    }

    /// The last ledger.
    #[must_use]
    pub fn ledger(&self) -> &[Entry] {
        &self.ledger
    }

    /// Keeps a batch and returns its number once it survives a power cut.
    ///
    /// # Errors
    /// When it is not kept.
    pub fn append(&mut self, batch: &Batch, share: Use) -> Result<u64, Error> {
        if self.owes_ledger {
            self.keep_ledger(self.ledger.clone(), share)?;
        }
        let written = clock::unix_nanos();
        let payload = frame::encode_batch(batch, written);
        let kept = self.write(&payload, share);
        self.note(&kept);
        let seq = kept?;
        self.pending.push_back(Pending { seq, written });
        for span in batch.spans() {
            self.ends.insert(span.source.clone(), (span.end, span.check));
        }
        self.metrics.kept(payload.len());
        self.tell();
        Ok(seq)
    }

    /// Keeps a ledger in the place of the one before.
    ///
    /// # Errors
    /// When it is not kept.
    pub fn keep_ledger(&mut self, entries: Vec<Entry>, share: Use) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.ledger, entries);
        self.ledger = self.raised(before.into_iter().map(|e| (e.source.into(), (e.safe, e.check))));
        let payload = frame::encode_ledger(self.delivered, &self.ledger);
        let kept = self.write(&payload, share).map(|_| ());
        if kept.is_err() {
            self.note(&kept);
        }
        self.owes_ledger = kept.is_err();
        self.tell();
        kept
    }

    /// Learns how far the collector is in files: before the next batch it is on the disk.
    pub fn raise(&mut self, ends: Vec<(Arc<str>, (u64, u64))>) {
        for (source, end) in ends {
            match self.ledger.iter_mut().find(|entry| *entry.source == *source) {
                Some(entry) if entry.safe < end.0 => (entry.safe, entry.check) = end,
                Some(_) => continue,
                None => self.ledger.push(Entry::safe(&source, end)),
            }
            self.owes_ledger = true;
        }
    }

    /// A batch is in the store: it and those before it are needed no more.
    pub fn delivered(&mut self, seq: u64) {
        self.delivered = self.delivered.max(seq);
        while self.pending.front().is_some_and(|p| p.seq <= seq) {
            self.pending.pop_front();
        }
        if self.pending.is_empty() {
            self.empty();
        } else {
            self.remove_before(seq + 1);
        }
        self.tell();
    }

    /// Says whether the collector is away.
    pub fn set_away(&self, away: bool) {
        self.metrics.away(away);
        self.view.update(|overview| overview.away = away);
    }

    /// Removes delivered frames from the disk, after a ledger that knows how far they go: else the next
    /// agent would be told an old place in one file, and in the next file of the same container that of
    /// a frame that is still here.
    fn remove_before(&mut self, seq: u64) {
        let Some(open) = &self.open else { return };
        let disposable = open.journal.is_disposable_before(seq);
        if disposable && self.keep_ledger(self.ledger_now(), Use::All).is_ok() {
            self.truncate_before(seq);
        }
    }

    /// Makes the files small again. The ledger goes before the removal, and once more behind it, since
    /// it may be removed itself.
    fn empty(&mut self) {
        let Some(open) = &self.open else { return };
        let next = open.journal.last_seq() + 1;
        let entries = self.ledger_now();
        self.ends.clear();
        if self.pending_segments() > 1 {
            // On a disk that is full it is the removal that makes room for the second one.
            let _kept = self.keep_ledger(entries.clone(), Use::All).is_ok();
        }
        self.truncate_before(next);
        self.owes_ledger = self.keep_ledger(entries, Use::All).is_err();
    }

    fn pending_segments(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.journal.stats().segments)
    }

    fn truncate_before(&mut self, seq: u64) {
        let Some(open) = &mut self.open else { return };
        open.reader = None;
        if let Err(error) = open.journal.truncate_before(seq) {
            tracing::warn!(%error, "cannot remove delivered batches from the spool");
        }
    }

    /// The last ledger, and behind it the ends of the frames.
    fn ledger_now(&self) -> Vec<Entry> {
        let mut known: HashSet<Arc<str>> =
            self.ledger.iter().map(|entry| entry.source.as_str().into()).collect();
        let mut entries = self.raised(std::iter::empty());
        let new = self.ends.iter().filter(|(source, _)| known.insert(Arc::clone(source)));
        entries.extend(new.map(|(source, end)| Entry::safe(source, *end)));
        entries
    }

    /// The ledger, each file where it is in it, in a frame, or in `also`: the farthest.
    fn raised(&self, also: impl Iterator<Item = (Arc<str>, (u64, u64))>) -> Vec<Entry> {
        let also: HashMap<Arc<str>, (u64, u64)> = also.collect();
        let mut entries = self.ledger.clone();
        for entry in &mut entries {
            for end in [also.get(&*entry.source), self.ends.get(&*entry.source)] {
                if let Some((safe, check)) = end.filter(|(safe, _)| entry.safe < *safe) {
                    (entry.safe, entry.check) = (*safe, *check);
                }
            }
        }
        entries
    }

    fn write(&mut self, payload: &[u8], share: Use) -> Result<u64, Error> {
        let bytes_max = self.limits.bytes_max();
        let limit = bytes_max
            - match share {
                Use::Most => bytes_max / RESERVE_FRACTION,
                Use::Reserve => bytes_max / LAST_FRACTION,
                Use::All => 0,
            };
        let journal = &self.opened()?.journal;
        let bytes = journal.stats().bytes;
        if bytes + payload.len() as u64 > limit {
            return Err(Error::Full { bytes, limit });
        }
        let kept = journal.append(&[payload]).and_then(|seq| {
            journal.durable_blocking(seq)?;
            Ok(seq)
        });
        if kept.is_err() && journal.poisoned().is_some() {
            // Only reading everything again tells what is there.
            self.open = None;
        }
        Ok(kept?)
    }

    fn opened(&mut self) -> Result<&mut Open, Error> {
        if self.open.is_none() {
            let open = self.take()?;
            self.index(&open.journal)?;
            self.open = Some(open);
            self.tell();
        }
        Ok(self.open.as_mut().expect("it was opened just now"))
    }

    fn take(&self) -> Result<Open, Error> {
        let path = &self.config.dir;
        let folder = |cause| Error::Folder { path: path.clone(), cause };
        std::fs::create_dir_all(path).map_err(folder)?;
        let mut options = File::options();
        let options_ = options.read(true).write(true).create(true).truncate(false);
        let lock = match options_.open(path.join(LOCK)) {
            Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                File::open(path.join(LOCK))
            }
            lock => lock,
        };
        let lock = lock.map_err(folder)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| folder(e.into()))?;
        let segment_bytes = self.limits.bytes_max() / SEGMENTS;
        let options = Options {
            name: "spool".into(),
            segment_bytes: segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            frame_bytes_max: FRAME_BYTES_MAX,
            ..Options::default()
        };
        let (journal, recovery) = Journal::open(path, options)?;
        if !recovery.quarantined.is_empty() {
            let parts = recovery.quarantined.len();
            tracing::error!(parts, missing = ?recovery.missing, "parts of the spool are damaged");
            self.metrics.damaged();
        }
        Ok(Open { journal, reader: None, _lock: lock })
    }

    /// Says once why nothing is taken, and once that it is again.
    fn note<T>(&mut self, outcome: &Result<T, Error>) {
        match outcome {
            Ok(_) => {
                if self.problem.take().is_some() {
                    tracing::info!("the spool takes batches again");
                    self.view.update(|overview| overview.problem = None);
                }
            }
            Err(error) => {
                self.metrics.failed(error.reason());
                if self.problem.replace(error.reason()) != Some(error.reason()) {
                    tracing::warn!(%error, "the spool takes nothing; log files are held open");
                }
                self.view.update(|overview| overview.problem = Some(error.to_string()));
            }
        }
    }

    fn tell(&self) {
        let frames = self.pending.len() as u64;
        let bytes = self.open.as_ref().map_or(0, |open| open.journal.stats().bytes);
        let oldest = self.pending.front().map(|p| p.written);
        self.metrics.hold(frames, bytes, oldest);
        self.view.update(|overview| {
            (overview.frames, overview.bytes, overview.oldest) = (frames, bytes, oldest);
        });
    }
}

#[cfg(test)]
mod tests;
