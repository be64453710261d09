//! Who may come in now: limits on the bytes and requests in flight, the reserve of the disk, and the
//! end of the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use taffrail_model::limits::WIRE_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;

/// How long a request waits for its turn before it is sent away.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Unit of the budget of bytes: what the smallest request counts for, so that it bounds their number
/// too.
const UNIT_BYTES: usize = 16 << 10;

/// The limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of bodies, as they come over the wire, that are held at once.
    pub inflight_bytes: usize,
    /// Requests that are decompressed, decoded and stored at once.
    pub workers: usize,
    /// Requests are refused when the file system has less free than this, or than a tenth of its
    /// size if that is less.
    pub disk_reserve: u64,
    /// A path on that file system.
    pub data_dir: PathBuf,
}

/// Lets requests in, or not.
pub struct Admission {
    bytes: Arc<Semaphore>,
    budget: usize,
    workers: Arc<Semaphore>,
    disk_reserve: u64,
    data_dir: PathBuf,
    disk_full: AtomicBool,
    stopping: AtomicBool,
}

/// A body that was read, and its share of the budget.
pub struct Held {
    /// The body.
    pub bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// A share of the budget, before there is a body.
pub struct Share {
    permit: OwnedSemaphorePermit,
}

impl Share {
    /// The share with its body.
    #[must_use]
    pub fn of(self, bytes: Bytes) -> Held {
        Held { bytes, _permit: self.permit }
    }
}

impl Admission {
    /// Nothing is in flight.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        // A budget below the largest body would never let it in.
        let budget = limits.inflight_bytes.max(WIRE_BYTES_MAX) / UNIT_BYTES;
        let admission = Self {
            bytes: Arc::new(Semaphore::new(budget)),
            budget,
            workers: Arc::new(Semaphore::new(limits.workers.max(1))),
            disk_reserve: limits.disk_reserve,
            data_dir: limits.data_dir,
            disk_full: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        };
        admission.look_at_disk();
        admission
    }

    /// Reads a body within the limits.
    ///
    /// # Errors
    /// When it is too large, too slow, or there is no room for it.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Held, Refusal> {
        self.check()?;
        let too_large = Refusal::TooLarge { what: "the body", limit: WIRE_BYTES_MAX };
        let announced = headers.get(http::header::CONTENT_LENGTH);
        let announced = announced.and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let expected = announced.unwrap_or(WIRE_BYTES_MAX);
        if expected > WIRE_BYTES_MAX {
            return Err(too_large);
        }
        let permit = self.budget_for(expected).await?;
        let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, WIRE_BYTES_MAX).collect());
        let collected = read.await.map_err(|_| Refusal::Slow(BODY_TIMEOUT.as_secs()))?;
        match collected {
            Ok(collected) => Ok(Held { bytes: collected.to_bytes(), _permit: permit }),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large),
            Err(error) => Err(Refusal::Content(format!("the body broke off: {error}"))),
        }
    }

    /// Takes a share of the budget for a body that will be read.
    ///
    /// # Errors
    /// As [`Admission::read`].
    pub async fn share(&self, bytes: usize) -> Result<Share, Refusal> {
        self.check()?;
        Ok(Share { permit: self.budget_for(bytes).await? })
    }

    async fn budget_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = bytes.div_ceil(UNIT_BYTES).clamp(1, self.budget);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let turn =
            tokio::time::timeout(QUEUE_TIMEOUT, self.bytes.clone().acquire_many_owned(units));
        let permit =
            turn.await.map_err(|_| Refusal::Full("too many bytes are in flight".into()))?;
        Ok(permit.expect("the semaphore is never closed"))
    }

    /// Waits for a worker.
    ///
    /// # Errors
    /// When none is free for some seconds.
    pub async fn worker(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let turn = tokio::time::timeout(QUEUE_TIMEOUT, self.workers.clone().acquire_owned());
        let permit =
            turn.await.map_err(|_| Refusal::Full("too many requests are in flight".into()))?;
        Ok(permit.expect("the semaphore is never closed"))
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Refusal::Unavailable("the collector is stopping".into()));
        }
        if self.disk_full.load(Ordering::Relaxed) {
            return Err(Refusal::Full("the disk is nearly full".into()));
        }
        Ok(())
    }

    /// From now on nothing is let in.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Looks whether the disk has room; called every second or so. Returns whether it has.
    pub fn look_at_disk(&self) -> bool {
        let full = free_below(&self.data_dir, self.disk_reserve);
        if full && !self.disk_full.swap(full, Ordering::Relaxed) {
            tracing::warn!(reserve = self.disk_reserve, "the disk is nearly full, refusing data");
        } else if !full && self.disk_full.swap(full, Ordering::Relaxed) {
            tracing::info!("the disk has room again");
        }
        !full
    }
}

fn free_below(path: &Path, reserve: u64) -> bool {
    match rustix::fs::statvfs(path) {
        Ok(stat) => {
            let reserve = reserve.min(stat.f_blocks.saturating_mul(stat.f_frsize) / 10);
            stat.f_bavail.saturating_mul(stat.f_frsize) < reserve
        }
        // What cannot be told is no reason to refuse; a full disk still shows when writing.
        Err(error) => {
            tracing::debug!(%error, "cannot tell the free space of the disk");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        let data_dir = std::env::temp_dir();
        Admission::new(Limits { inflight_bytes: 0, workers: 1, disk_reserve: 0, data_dir })
    }

    #[tokio::test]
    async fn bodies_are_read_within_the_limit() {
        let admission = admission();
        let headers = HeaderMap::new();
        let held = admission.read(&headers, Body::from("body")).await.unwrap();
        assert_eq!(&held.bytes[..], b"body");
        drop(held);
        let long = Body::from(vec![0; WIRE_BYTES_MAX + 1]);
        let refused = admission.read(&headers, long).await.err();
        assert!(matches!(refused, Some(Refusal::TooLarge { .. })), "{refused:?}");
        let mut announced = HeaderMap::new();
        announced.insert(http::header::CONTENT_LENGTH, (WIRE_BYTES_MAX + 1).into());
        let refused = admission.read(&announced, Body::empty()).await.err();
        assert!(matches!(refused, Some(Refusal::TooLarge { .. })), "{refused:?}");
        let share = admission.share(WIRE_BYTES_MAX).await;
        assert!(share.is_ok(), "the whole budget is free again");
    }

    #[tokio::test]
    async fn nothing_comes_in_when_stopping() {
        let admission = admission();
        admission.stop();
        let refused = admission.read(&HeaderMap::new(), Body::from("body")).await.err();
        assert!(matches!(refused, Some(Refusal::Unavailable(_))), "{refused:?}");
    }

    #[test]
    fn a_reserve_is_at_most_a_tenth_of_the_disk() {
        assert!(!free_below(&std::env::temp_dir(), 0));
        assert!(!free_below(Path::new("/does/not/exist"), u64::MAX), "not known is not full");
    }
}
