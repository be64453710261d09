//! Which paths have a lane: those that lead through a network file system.
//!
//! All mounts of one file system share a lane: they hang together. A lane stays as long as its file
//! system is mounted anywhere, and, if it hangs, as long as it does: so the threads that hang are
//! counted, too.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taffrail_model::Nanos;

use super::mounts::{Mount, Mounts};
use super::{Asked, LANES_MAX, Lane, Patience};
use crate::tail::identity::{FileId, Look, look_at};

/// The lanes of this process. Without [`Lanes::refresh`] no path has one.
#[derive(Debug, Default)]
pub struct Lanes {
    mounts: Mounts,
    /// Folders that lead to a network file system by links.
    aliases: Vec<Mount>,
    lanes: HashMap<String, Lane>,
    roots: HashMap<PathBuf, Root>,
    round: u64,
    patience: Arc<Patience>,
    failing: bool,
}

/// What is known of a rule's root on a network file system.
#[derive(Debug, Default)]
struct Root {
    asked: Asked<Look>,
    id: Option<FileId>,
    round: u64,
}

impl Lanes {
    /// Looks where network file systems are now. Done before each look at the folders; one that is
    /// mounted after that has its lane from the next look on.
    pub fn refresh(&mut self) {
        if let Err(error) = self.mounts.refresh()
            && !std::mem::replace(&mut self.failing, true)
        {
            tracing::warn!(%error, "cannot tell network volumes: one that hangs stalls all others");
        }
        self.begin_round();
    }

    fn begin_round(&mut self) {
        self.aliases.clear();
        self.round += 1;
        let round = self.round;
        self.roots.retain(|_, root| root.round + 1 >= round);
        let mounts = &self.mounts.remote;
        self.lanes.retain(|device, lane| {
            lane.hangs().is_some() || mounts.iter().any(|mount| mount.device == *device)
        });
    }

    /// The lane of a path: of a rule's root, or of what is below one that was [`Lanes::enter`]ed.
    pub fn of(&mut self, path: &Path) -> Option<Lane> {
        if self.mounts.remote.is_empty() {
            return None;
        }
        let alias = || self.aliases.iter().find(|alias| path.starts_with(&alias.point));
        let mount = self.mounts.on_the_way(path).or_else(alias)?;
        if let Some(lane) = self.lanes.get(&mount.device) {
            return Some(lane.clone());
        }
        let allowed = self.lanes.len() < LANES_MAX;
        let real = self.mounts.remote.iter().find(|m| m.device == mount.device).unwrap_or(mount);
        let lane = Lane::new(real, self.patience.clone(), allowed);
        if allowed {
            self.lanes.insert(mount.device.clone(), lane.clone());
        }
        Some(lane)
    }

    /// Takes note of a rule's root, which may lead to a network file system by links.
    pub fn enter(&mut self, root: &Path) {
        if self.mounts.remote.is_empty() || self.mounts.on_the_way(root).is_some() {
            return;
        }
        let real = self.mounts.follow(Path::new("/"), root);
        if let Some(mount) = self.mounts.on_the_way(&real) {
            let alias = Mount { point: root.to_owned(), ..mount.clone() };
            self.aliases.push(alias);
        }
    }

    /// Where a path below `base` leads, links followed as if `base` were the root.
    #[must_use]
    pub fn follow(&self, base: &Path, path: &Path) -> PathBuf {
        self.mounts.follow(base, path)
    }

    /// Which folder a rule's root is, as far as is known.
    pub fn folder(&mut self, path: &Path) -> Option<FileId> {
        self.enter(path);
        let Some(lane) = self.of(path) else {
            return look_at(path, true).ok().map(|look| look.id);
        };
        let (owned, round) = (path.to_owned(), self.round);
        let root = self.roots.entry(path.to_owned()).or_default();
        root.round = round;
        match root.asked.get(&lane, move || look_at(&owned, true)) {
            Ok(look) => root.id = Some(look.id),
            Err(error) if super::is_absent(&error) => {}
            Err(_) => root.id = None,
        }
        root.id
    }

    /// Does something with a path, wherever that is.
    ///
    /// # Errors
    /// What it says; [`super::is_absent`] when it does not come back in time.
    pub fn run<T: Send + 'static>(
        &mut self,
        path: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.of(path) {
            Some(lane) => lane.run(work),
            None => work(),
        }
    }

    /// Whether anything that was asked for is not known yet.
    #[must_use]
    pub fn wait(&self) -> bool {
        self.lanes.values().any(|lane| lane.is_asked() || lane.hangs().is_some())
    }

    /// File systems that do not answer, and since when.
    pub fn hanging(&self) -> impl Iterator<Item = (&Path, Nanos)> {
        self.lanes.values().filter_map(|lane| Some((lane.point(), lane.hangs()?)))
    }

    /// For tests: says that a folder is a network file system.
    #[cfg(test)]
    pub(crate) fn pretend(&mut self, point: &Path, served: bool) {
        let device = point.to_string_lossy().into_owned();
        let mount = Mount { point: point.to_owned(), device, served };
        if !self.mounts.pretended.contains(&mount) {
            self.mounts.pretended.push(mount.clone());
            self.mounts.remote.push(mount);
        }
    }
}
