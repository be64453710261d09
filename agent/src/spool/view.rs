//! How the spool is, told to whoever asks while it works.

use std::sync::{Arc, Mutex, PoisonError};

use taffrail_model::Nanos;

/// How the spool is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Whether the collector is away, or what was kept meanwhile is still being sent.
    pub away: bool,
    /// Batches that wait.
    pub frames: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Most bytes on disk; 0: there is no spool.
    pub bytes_max: u64,
    /// When the oldest batch that waits was written, in nanoseconds since the epoch.
    pub oldest: Option<Nanos>,
    /// Why it takes nothing.
    pub problem: Option<String>,
}

/// The last word on how the spool is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<Mutex<Overview>>);

impl View {
    /// How it is now.
    #[must_use]
    pub fn now(&self) -> Overview {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is told.
    pub fn update(&self, change: impl FnOnce(&mut Overview)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
