//! inotify as a hint to look sooner. Looking at the folders in turn is the truth; when there are no
//! watches to be had, nothing but a little time is lost.
//!
//! Only the folder of all pods is watched: one watch, and an event for each pod that comes or goes,
//! none for each line that is written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::reader::Event;

/// Sends a hint for each change of the folder for as long as the answer is kept. `None` when it
/// cannot be watched.
pub(super) fn watch(root: &Path, events: &SyncSender<Event>) -> Option<RecommendedWatcher> {
    let events = events.clone();
    let waiting = Arc::new(AtomicBool::new(false));
    let tell = move |_change: notify::Result<notify::Event>| {
        // One hint at a time: the channel's room is for the shipper's answers.
        if !waiting.swap(true, Ordering::AcqRel) {
            let _full = events.try_send(Event::Hint(waiting.clone())).is_err();
        }
    };
    let watched = notify::recommended_watcher(tell)
        .and_then(|mut watcher| watcher.watch(root, RecursiveMode::NonRecursive).map(|()| watcher));
    watched
        .inspect_err(|error| {
            tracing::warn!(root = %root.display(), %error, "no inotify, looking in turn only");
        })
        .ok()
}
