//! Waits until the file of settings has changed.
//!
//! The content is read every few seconds and compared: no time of change can be trusted across the
//! swaps of links by which Kubernetes updates a volume, and a file of settings is small. A SIGHUP is a
//! wish to look at once. A file that cannot be read counts only when it cannot be read twice in a row:
//! editors remove and create.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use super::yaml::FILE_BYTES_MAX;

/// How often the file is looked at.
pub const INTERVAL: Duration = Duration::from_secs(3);

/// Reads a file of settings, and no more of it than is allowed.
///
/// # Errors
/// What the system says; also when it is no UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // One byte more shows that it is too long.
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// A file of settings that may change.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    seen: Seen,
    ticks: Interval,
    hangup: Signal,
}

/// What is known of the content. Pure.
#[derive(Debug)]
struct Seen {
    last: Result<String, String>,
    failed_before: bool,
}

impl Seen {
    /// The content, if it is news. `asked`: somebody wants to hear of it whether or not it is.
    fn news(
        &mut self,
        now: Result<String, String>,
        asked: bool,
    ) -> Option<&Result<String, String>> {
        let failed_before = std::mem::replace(&mut self.failed_before, now.is_err());
        if !asked && (now == self.last || (now.is_err() && !failed_before)) {
            return None;
        }
        self.last = now;
        Some(&self.last)
    }
}

impl FileWatch {
    /// Watches a file whose content was `text`. Must be called inside the runtime. From then on a
    /// SIGHUP does not end the process.
    ///
    /// # Errors
    /// When the signal cannot be heard.
    pub fn new(path: PathBuf, text: String) -> io::Result<Self> {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seen = Seen { last: Ok(text), failed_before: false };
        Ok(Self { path, seen, ticks, hangup: signal(SignalKind::hangup())? })
    }

    /// Returns what the file holds, or why it cannot be read, once that is news or a SIGHUP has come.
    /// Cancel safe: what was not told is told the next time.
    pub async fn changed(&mut self) -> Result<String, String> {
        loop {
            let asked = tokio::select! {
                _ = self.ticks.tick() => false,
                _ = self.hangup.recv() => true,
            };
            let now = read(&self.path).map_err(|error| error.to_string());
            if let Some(news) = self.seen.news(now, asked) {
                return news.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_told_once() {
        let mut seen = Seen { last: Ok("a".into()), failed_before: false };
        let bad = || Err("gone".to_owned());
        let good = |text: &str| Ok(text.to_owned());
        let steps = [
            (good("a"), false, None),
            (good("b"), false, Some(good("b"))),
            (good("b"), true, Some(good("b"))),
            (bad(), false, None),
            (good("b"), false, None),
            (bad(), false, None),
            (bad(), false, Some(bad())),
            (bad(), false, None),
            (bad(), true, Some(bad())),
            (good("b"), false, Some(good("b"))),
        ];
        for (at, (now, asked, news)) in steps.into_iter().enumerate() {
            assert_eq!(seen.news(now, asked).cloned(), news, "step {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_swapped_link_is_a_change() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "a"), ("..2", "b")] {
            std::fs::create_dir(path(version)).expect("create");
            std::fs::write(path(version).join("config.yaml"), text).expect("write");
        }
        std::os::unix::fs::symlink("..1", path("..data")).expect("link");
        std::os::unix::fs::symlink("..data/config.yaml", path("config.yaml")).expect("link");
        let text = read(&path("config.yaml")).expect("readable");
        let mut watch = FileWatch::new(path("config.yaml"), text).expect("signal");
        std::os::unix::fs::symlink("..2", path("..tmp")).expect("link");
        std::fs::rename(path("..tmp"), path("..data")).expect("swap");
        assert_eq!(watch.changed().await, Ok("b".into()));
    }
}
