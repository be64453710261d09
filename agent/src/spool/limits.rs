//! The limits of the spool, which may change while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Config, View};

/// How much is kept, and from when on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: AtomicU64,
    after_millis: AtomicU64,
    view: View,
}

impl Limits {
    pub(super) fn new(config: &Config, view: View) -> Self {
        let (bytes_max, after_millis) = (AtomicU64::new(0), AtomicU64::new(0));
        let limits = Self(Arc::new(Inner { bytes_max, after_millis, view }));
        limits.set(config.bytes_max, config.after);
        limits
    }

    /// Changes them. What is on disk already stays there until it is delivered.
    pub fn set(&self, bytes_max: u64, after: Duration) {
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.0.bytes_max.store(bytes_max, Ordering::Relaxed);
        self.0.after_millis.store(millis, Ordering::Relaxed);
        self.0.view.update(|overview| overview.bytes_max = bytes_max);
    }

    /// Most bytes on disk.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.0.bytes_max.load(Ordering::Relaxed)
    }

    /// How long the collector does not answer before it counts as away.
    #[must_use]
    pub fn after(&self) -> Duration {
        Duration::from_millis(self.0.after_millis.load(Ordering::Relaxed))
    }
}
