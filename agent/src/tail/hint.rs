//! inotify as a hint to look sooner. Looking at the folders in turn is the truth: when there are no
//! watches to be had, or events were dropped, nothing but a little time is lost.
//!
//! Watched are the folder of all pods, and the folders of each pod and container: an event for each
//! one that comes or goes and for each file that is made or renamed, none for each line that is
//! written. (The crates for this ask the kernel for events of writing too, and cannot be told not
//! to.) Folders of volumes are not watched: what programs do there is not bounded by anything.
//!
//! [`Watches`] belongs to the reader, which adds what it finds.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::reader::Event;

/// Most folders that are watched: some 5,000 containers. A watch costs the kernel about 1 KiB.
const WATCHES_MAX: usize = 15_000;
/// Room for events that are thrown away: all that matters is that there were some.
const BUFFER_BYTES: usize = 4096;

/// The folders that are watched. A thread tells the reader for as long as this is kept.
#[derive(Debug)]
pub(super) struct Watches {
    fd: Arc<OwnedFd>,
    folders: HashSet<PathBuf>,
    max: usize,
    full: bool,
    /// A watch on a folder that stays. Its end wakes the thread.
    end: i32,
    ended: Arc<AtomicBool>,
}

/// Begins to watch; `None` when the system gives no inotify.
pub(super) fn watch(events: SyncSender<Event>) -> Option<Watches> {
    let begin = || -> std::io::Result<_> {
        let fd = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let end = inotify::add_watch(&*fd, "/", WatchFlags::DELETE_SELF)?;
        let ended = Arc::new(AtomicBool::new(false));
        let (own, over) = (fd.clone(), ended.clone());
        std::thread::Builder::new()
            .name("hint".into())
            .spawn(move || tell(&own, &over, &events))?;
        Ok(Watches { fd, folders: HashSet::new(), max: WATCHES_MAX, full: false, end, ended })
    };
    begin().inspect_err(|error| tracing::warn!(%error, "no inotify, looking in turn only")).ok()
}

/// Sends a hint for whatever comes, until the end.
fn tell(fd: &OwnedFd, ended: &AtomicBool, events: &SyncSender<Event>) {
    let waiting = Arc::new(AtomicBool::new(false));
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match rustix::io::read(fd, &mut buffer[..]) {
            Err(Errno::INTR) => continue,
            Ok(_) if !ended.load(Ordering::Acquire) => {}
            Ok(_) | Err(_) => return,
        }
        // One hint at a time: the channel's room is for the shipper's answers.
        if !waiting.swap(true, Ordering::AcqRel) {
            let _full = events.try_send(Event::Hint(waiting.clone())).is_err();
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Only a watch that has gone by itself cannot be removed; its end was told too.
        let _told = inotify::remove_watch(&*self.fd, self.end).is_ok();
    }
}

impl Watches {
    /// Watches folders; those that are watched already cost nothing.
    pub(super) fn add(&mut self, folders: &[PathBuf]) {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        for folder in folders {
            let room = self.folders.len() < self.max || self.folders.contains(folder);
            let added =
                if room { inotify::add_watch(&*self.fd, folder, flags) } else { Err(Errno::NOSPC) };
            match added {
                Ok(_) => {
                    self.folders.insert(folder.clone());
                }
                Err(Errno::NOSPC | Errno::NOMEM) => {
                    if !std::mem::replace(&mut self.full, true) {
                        tracing::warn!(
                            watched = self.folders.len(),
                            "no more inotify watches (fs.inotify.max_user_watches): other folders \
                             are looked at in turn only"
                        );
                    }
                    return;
                }
                // It has gone, or may not be watched: the next look will tell.
                Err(_) => {}
            }
        }
    }

    /// Forgets folders that have gone, and their watches with them.
    pub(super) fn forget(&mut self, gone: &[PathBuf]) {
        for folder in gone {
            self.full &= !self.folders.remove(folder);
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
