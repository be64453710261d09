//! An append-only, segmented, checksummed log with group commit.
//!
//! A journal is a directory of segment files. [`Journal::append`] writes a frame into the page cache
//! and gives it a number; numbers rise by one. One thread makes frames durable ([`Journal::durable`]
//! waits for it): frames that come while it syncs share the next sync, so one frame alone waits for
//! one sync and many frames wait for two at the most. [`Journal::truncate_before`] removes whole
//! segments once their frames are needed no more.
//!
//! What must always hold:
//! - A number that was reported durable is read again after any crash, unless the disk itself damages
//!   its frame, and then the loss is reported by [`Journal::open`].
//! - Frames are read in the order in which they were appended; a number is given out once.
//! - After a failed sync the journal takes nothing more ([`Error::Poisoned`]); it never pretends.
//! - A frame that did not fit on the disk leaves nothing behind, and the journal goes on when there
//!   is space again.
//!
//! # Format, version 1
//!
//! All numbers are little-endian. The file name is the number of the first frame, twenty digits,
//! and `.seg`.
//!
//! ```text
//! segment  ┌──────────┬─────────┬──────────┬───────────┬─────────┬───────┬───────┬──
//!          │ TFRLJRNL │ version │ reserved │ first seq │ crc32   │ frame │ frame │ …
//!          │ 8 bytes  │ u32     │ u32 = 0  │ u64       │ of 0-24 │       │       │
//!          └──────────┴─────────┴──────────┴───────────┴─────────┴───────┴───────┴──
//! frame    ┌───────────────┬────────────────────────────┬─────┬─────────┐
//!          │ payload bytes │ crc32 of length, number    │ seq │ payload │
//!          │ u32           │ and payload, u32           │ u64 │         │
//!          └───────────────┴────────────────────────────┴─────┴─────────┘
//! ```
//!
//! The first 28 bytes keep this layout in every version, so that another version is told from
//! damage. What damage means is in `recover.rs`.

pub mod disk;
mod frame;
mod reader;
mod recover;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use reader::{Frame, Reader};
pub use recover::{Quarantined, Recovery};

use disk::{Disk, Files};
use writer::Writer;

/// How a journal behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the sync thread.
    pub name: String,
    /// A segment that would grow beyond this is followed by a new one.
    pub segment_bytes: u64,
    /// Longest payload of one frame.
    pub frame_bytes_max: u32,
    /// How long the sync thread waits for company before it syncs; at most a second. Zero: it never
    /// waits, and only appends during a sync share the next one.
    pub gather: Duration,
    /// The next frame gets this number or a higher one. For a journal whose reader has durably seen
    /// more than the disk still holds.
    pub next_seq_min: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "journal".into(),
            segment_bytes: 64 << 20,
            frame_bytes_max: 64 << 20,
            gather: Duration::ZERO,
            next_seq_min: 1,
        }
    }
}

/// Why the journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused. After an append nothing of the frame is left, and a later append may
    /// succeed.
    #[error("{action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said. Part of the message, and so not the error's source.
        cause: io::Error,
    },
    /// A sync failed. Nothing more is taken until the process starts again and reads what is there.
    #[error("the journal takes nothing more until a restart: {0}")]
    Poisoned(Arc<str>),
    /// The payload is longer than the options allow.
    #[error("a frame of {bytes} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Length of the payload.
        bytes: usize,
        /// The limit.
        limit: u32,
    },
    /// A segment was written by another version of the program. Nothing was changed.
    #[error(
        "{} has journal format {found}, this program reads format {expected}: start the version \
         that wrote it, or move the directory away",
        path.display()
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// Version in its header.
        found: u32,
        /// Version of this code.
        expected: u32,
    },
    /// Bytes that were good at open are not a frame any more.
    #[error("{} is damaged at byte {offset}", path.display())]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), cause }
    }

    /// Whether the disk, or the quota on it, is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if matches!(
            cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ))
    }
}

/// How much a journal holds, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Segment files.
    pub segments: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Number that the next frame gets.
    pub next_seq: u64,
    /// All frames up to this number are durable.
    pub durable_seq: u64,
}

/// An open journal. Dropping it makes durable what was appended and ends its thread.
pub struct Journal {
    writer: Arc<Writer>,
    frame_bytes_max: u32,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the journal of a directory, or begins one. The caller sees to it that no other process
    /// has it open.
    ///
    /// # Errors
    /// When a segment is of another version or the system refuses. Torn and damaged frames are no
    /// error but in [`Recovery`].
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), Error> {
        Self::open_on(Arc::new(Files), dir, options)
    }

    /// As [`Journal::open`], on any disk.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
    ) -> Result<(Self, Recovery), Error> {
        let frame_bytes_max = options.frame_bytes_max;
        let recovered = recover::recover(&*disk, dir, frame_bytes_max)?;
        let recovery = recovered.recovery.clone();
        let name = options.name.clone();
        let writer = Arc::new(Writer::new(disk, dir.into(), options, recovered)?);
        let sync = writer.clone();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || sync.sync_loop())
            .map_err(|source| Error::io("start the sync thread of", dir, source))?;
        Ok((Self { writer, frame_bytes_max, thread: Some(thread) }, recovery))
    }

    /// Appends one frame, the parts one after the other, and returns its number. It is readable at
    /// once and durable soon: see [`Journal::durable`].
    ///
    /// # Errors
    /// When the frame is too large, the disk is full or the journal is poisoned. Nothing was
    /// appended then.
    pub fn append(&self, parts: &[&[u8]]) -> Result<u64, Error> {
        self.writer.append(parts)
    }

    /// Waits until a frame and all before it survive a power cut.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when they never will.
    pub async fn durable(&self, seq: u64) -> Result<(), Error> {
        let mut durable = self.writer.subscribe();
        let reached = durable.wait_for(|now| now.seq >= seq || now.poisoned.is_some()).await;
        let now = reached.expect("the journal holds the sender").clone();
        match now.poisoned {
            Some(reason) if now.seq < seq => Err(Error::Poisoned(reason)),
            _ => Ok(()),
        }
    }

    /// As [`Journal::durable`], blocking the thread.
    ///
    /// # Errors
    /// As [`Journal::durable`].
    pub fn durable_blocking(&self, seq: u64) -> Result<(), Error> {
        self.writer.wait(seq)
    }

    /// Number of the frame that was appended last; 0 when there never was one.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.writer.lock().next_seq - 1
    }

    /// The frames with numbers from `seq` on that are in the journal now.
    #[must_use]
    pub fn read_from(&self, seq: u64) -> Reader {
        let mut segments = self.writer.lock().segments.clone();
        while segments.get(1).is_some_and(|next| next.first_seq <= seq) {
            segments.pop_front();
        }
        Reader::new(self.writer.disk.clone(), segments, seq, self.frame_bytes_max)
    }

    /// Removes the segments whose frames all have numbers below `seq` and returns how many bytes
    /// that made free. One caller at a time. The newest segment stays while it is
    /// small. Numbers go on where they were, also when no frame is left.
    ///
    /// # Errors
    /// When the system refuses; what could be removed is gone.
    pub fn truncate_before(&self, seq: u64) -> Result<u64, Error> {
        self.writer.truncate_before(seq)
    }

    /// Begins a new segment, unless the newest one is empty, and gives the number of its first frame. So
    /// what was appended before lies in segments that [`Journal::truncate_before`] removes as a whole,
    /// however small they are.
    ///
    /// # Errors
    /// When the system refuses, or after a failed sync.
    pub fn turn_over(&self) -> Result<u64, Error> {
        self.writer.turn_over()
    }

    /// No frame below this number is on disk.
    #[must_use]
    pub fn oldest_seq(&self) -> u64 {
        self.writer.lock().segments.front().map_or(0, |segment| segment.first_seq)
    }

    /// Whether [`Journal::truncate_before`] would remove a segment that is complete.
    #[must_use]
    pub fn is_disposable_before(&self, seq: u64) -> bool {
        self.writer.lock().segments.get(1).is_some_and(|next| next.first_seq <= seq)
    }

    /// Why the journal takes nothing more, if so. Never waits, also not for a disk that hangs: health
    /// checks ask.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.writer.subscribe().borrow().poisoned.clone()
    }

    /// How much there is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let durable_seq = self.writer.subscribe().borrow().seq;
        let state = self.writer.lock();
        Stats {
            segments: state.segments.len(),
            bytes: state.segments.iter().map(|segment| segment.bytes).sum(),
            next_seq: state.next_seq,
            durable_seq,
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.writer.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nobody to hand it to.
            let _ = thread.join();
        }
    }
}
