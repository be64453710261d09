//! The agent's folder, held by one agent at a time.
//!
//! Two agents with one folder would ship each line twice as fast and half as right. The lock is the
//! kernel's: it ends with the process, however that ends.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

/// How often it is tried whether the other agent has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Name of the locked file; it holds the number of the process for people to read.
const LOCK: &str = "lock";

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made or written.
    #[error("state folder {path}: {source}", path = path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent uses it.
    #[error(
        "state folder {path} is in use by process {process}: stop that agent or give this one \
         another --state-dir",
        path = path.display()
    )]
    Held {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, or "unknown".
        process: String,
    },
}

/// Holds the folder until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    _lock: File,
}

impl StateDir {
    /// Takes the folder, waiting for an agent that holds it: in an update the new one may start before
    /// the old one has ended.
    ///
    /// # Errors
    /// As [`StateDir::take`]; another agent must hold it for as long as `patience`.
    pub async fn wait(path: &Path, patience: Duration) -> Result<Self, Error> {
        let start = Instant::now();
        loop {
            let error = match Self::take(path) {
                Err(error @ Error::Held { .. }) => error,
                taken => return taken,
            };
            if start.elapsed() >= patience {
                return Err(error);
            }
            if start.elapsed() < LOOK_EVERY {
                tracing::warn!(%error, ?patience, "waiting for the other agent to end");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes the folder if need be and takes it.
    ///
    /// # Errors
    /// When it cannot be written or another agent holds it.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(io)?;
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK)).map_err(io)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The text is for people only; without it they still learn which folder.
                let _length = (&lock).take(32).read_to_string(&mut holder).unwrap_or(0);
                let holder = holder.trim();
                let process = if holder.is_empty() { "unknown" } else { holder }.to_owned();
                return Err(Error::Held { path: path.to_owned(), process });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        lock.set_len(0).map_err(io)?;
        lock.rewind().map_err(io)?;
        writeln!(lock, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_a_folder() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("new/state");
        let first = StateDir::take(&path).expect("free");
        let error = StateDir::take(&path).expect_err("held");
        let me = std::process::id().to_string();
        assert!(matches!(&error, Error::Held { process, .. } if *process == me), "{error}");
        drop(first);
        StateDir::take(&path).expect("free again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_agent_waits_for_the_one_before() {
        const PATIENCE: Duration = Duration::from_secs(10);
        let folder = tempfile::tempdir().expect("folder");
        let first = StateDir::take(folder.path()).expect("free");
        let start = Instant::now();
        let error = StateDir::wait(folder.path(), PATIENCE).await.expect_err("held");
        assert!(matches!(error, Error::Held { .. }) && start.elapsed() >= PATIENCE, "{error}");
        let second = StateDir::wait(folder.path(), PATIENCE);
        let ends = async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(first);
        };
        tokio::join!(second, ends).0.expect("free again");
    }

    #[test]
    fn a_folder_that_cannot_be_is_told() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let error = StateDir::take(&file.path().join("below")).expect_err("not a folder");
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
