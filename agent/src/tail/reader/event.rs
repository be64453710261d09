//! What the reader is told, through one bounded channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use taffrail_model::record::Position;
use tokio::sync::oneshot;

use crate::spool::ledger::Entry;
use crate::tail::FileNumber;
use crate::tail::pipeline::FileStatus;

/// What the reader is told.
#[derive(Debug)]
pub enum Event {
    /// What is known of this node's files: reading begins.
    Positions {
        /// Up to where each is in the store or in the spool.
        known: Vec<Position>,
        /// Whether the collector has said so. If not, it is what was known before, and less may be
        /// known than is in the store.
        firm: bool,
        /// Files of before with bytes that were not safe.
        ledger: Vec<Entry>,
    },
    /// The collector has gone away or come back: the mode says which.
    Mode(Arc<Mode>),
    /// A batch has been dealt with: these files are in the store or in the spool up to there.
    Acknowledged(Vec<(FileNumber, u64)>),
    /// A batch did not continue what is committed: go back.
    Conflict(Vec<Position>),
    /// Something may be new in a folder. The flag is taken down before looking.
    Hint(Arc<AtomicBool>),
    /// Somebody wants to know.
    Status(oneshot::Sender<Vec<FileStatus>>),
    /// Read no more, hand over the open batch, end.
    Stop,
}

/// Whether the collector is away. However often that changes, one event at a time is under way: the
/// channel's room is for the answers.
#[derive(Debug, Default)]
pub struct Mode {
    away: AtomicBool,
    waiting: AtomicBool,
}

impl Mode {
    /// Changes it. Returns whether the reader is to be told.
    pub fn set(&self, away: bool) -> bool {
        self.away.store(away, Ordering::Release);
        !self.waiting.swap(true, Ordering::AcqRel)
    }

    /// What it is now; the next change is told again.
    #[must_use]
    pub fn take(&self) -> bool {
        self.waiting.store(false, Ordering::Release);
        self.away.load(Ordering::Acquire)
    }
}
