//! inotify as a hint to look sooner. Looking at the folders in turn is the truth: when there are no
//! watches to be had, or events were dropped, nothing but a little time is lost.
//!
//! Watched are the folder of all pods, and the folders of each pod and container: an event for each
//! one that comes or goes and for each file that is made or renamed. The kernel is asked for no
//! events of writing ([`Config::with_event_kinds`]): each line of each container would be one.
//! Folders of volumes are not watched: what programs do there is not bounded by anything.
//!
//! [`Watches`] belongs to the reader, which adds what it finds.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use notify::{Config, ErrorKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher};

use super::reader::Event;

/// Most folders that are watched: some 5,000 containers. A watch costs the kernel about 1 KiB.
const WATCHES_MAX: usize = 15_000;

/// The folders that are watched. The reader is told for as long as this is kept.
#[derive(Debug)]
pub(super) struct Watches {
    watcher: RecommendedWatcher,
    folders: HashSet<PathBuf>,
    max: usize,
    full: bool,
}

/// Begins to watch; `None` when the system gives no inotify.
pub(super) fn watch(events: SyncSender<Event>) -> Option<Watches> {
    let waiting = Arc::new(AtomicBool::new(false));
    // Whatever comes, errors and dropped events too: the next look will tell what it was.
    let tell = move |_: notify::Result<notify::Event>| {
        // One hint at a time: the channel's room is for the shipper's answers.
        if !waiting.swap(true, Ordering::AcqRel)
            && events.try_send(Event::Hint(waiting.clone())).is_err()
        {
            waiting.store(false, Ordering::Release);
        }
    };
    let kinds = EventKindMask::CREATE | EventKindMask::REMOVE | EventKindMask::MODIFY_NAME;
    let config = Config::default().with_event_kinds(kinds).with_follow_symlinks(false);
    let watcher = RecommendedWatcher::new(tell, config);
    let watcher =
        watcher.inspect_err(|error| tracing::warn!(%error, "no inotify, looking in turn only"));
    Some(Watches { watcher: watcher.ok()?, folders: HashSet::new(), max: WATCHES_MAX, full: false })
}

impl Watches {
    /// Watches folders; those that are watched already cost nothing.
    pub(super) fn add(&mut self, folders: &[PathBuf]) {
        for folder in folders {
            // One of the same name may have been made anew: it is watched again, which costs little.
            let room = self.folders.len() < self.max || self.folders.contains(folder);
            let added = room.then(|| self.watcher.watch(folder, RecursiveMode::NonRecursive));
            match added {
                Some(Ok(())) => {
                    self.folders.insert(folder.clone());
                }
                Some(Err(error)) if !matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                    // It has gone, or may not be watched: the next look will tell.
                }
                Some(Err(_)) | None => {
                    if !std::mem::replace(&mut self.full, true) {
                        tracing::warn!(
                            watched = self.folders.len(),
                            "no more inotify watches (fs.inotify.max_user_watches): other folders \
                             are looked at in turn only"
                        );
                    }
                    return;
                }
            }
        }
    }

    /// Forgets folders that have gone, and their watches with them.
    pub(super) fn forget(&mut self, gone: &[PathBuf]) {
        for folder in gone {
            if self.folders.remove(folder) {
                // The kernel has mostly forgotten it already, with the folder.
                let _watched = self.watcher.unwatch(folder).is_ok();
                self.full = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
    use std::time::Duration;

    fn hint(events: &Receiver<Event>) {
        match events.recv_timeout(Duration::from_secs(20)) {
            Ok(Event::Hint(waiting)) => waiting.store(false, Ordering::Release),
            other => panic!("no hint: {other:?}"),
        }
    }

    #[test]
    fn new_and_renamed_files_are_told_and_written_ones_are_not() {
        let folder = tempfile::tempdir().expect("folder");
        let (sender, events) = sync_channel(4);
        let mut watches = watch(sender).expect("inotify");
        watches.add(&[folder.path().to_owned()]);
        fs::write(folder.path().join("0.log"), "").expect("write");
        hint(&events);
        fs::rename(folder.path().join("0.log"), folder.path().join("1.log")).expect("rename");
        hint(&events);
        // A rename is two events, and may be two hints.
        while let Ok(Event::Hint(waiting)) = events.recv_timeout(Duration::from_millis(50)) {
            waiting.store(false, Ordering::Release);
        }
        fs::write(folder.path().join("1.log"), "more").expect("write");
        assert!(events.recv_timeout(Duration::from_millis(50)).is_err(), "a write is no event");
        drop(watches);
        let last = events.recv_timeout(Duration::from_secs(20));
        assert!(matches!(last, Err(RecvTimeoutError::Disconnected)), "the thread ends: {last:?}");
    }

    #[test]
    fn no_more_than_the_bound_is_watched() {
        let folder = tempfile::tempdir().expect("folder");
        let (sender, _events) = sync_channel(4);
        let mut watches = watch(sender).expect("inotify");
        watches.max = 3;
        let folders: Vec<PathBuf> = (0..6).map(|n| folder.path().join(n.to_string())).collect();
        folders.iter().for_each(|f| fs::create_dir(f).expect("create"));
        watches.add(&folders[..3]);
        watches.add(&folders[..3]);
        assert!(!watches.full && watches.folders.len() == 3, "{watches:?}");
        watches.add(&folders);
        assert!(watches.full && watches.folders.len() == 3);
        fs::remove_dir(&folders[0]).expect("remove");
        watches.forget(&folders[..1]);
        watches.add(&folders[3..4]);
        assert!(!watches.full && watches.folders.contains(&folders[3]), "there is room again");
    }
}
