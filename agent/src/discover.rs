//! Which files there are to tail.
//!
//! The kubelet keeps `<root>/<namespace>_<pod>_<uid>/<container>/<restart>.log` and beside it what it
//! has rotated, `<restart>.log.<time>` and `<restart>.log.<time>.gz`. Volumes are folders with rules
//! of their own.
//!
//! [`Scanner::scan`] looks at folders, never at files: a folder whose time of change is old is not
//! even read again. So a scan of a quiet node costs one `statx` for each folder. A time of change
//! that is young is not trusted, since file systems stamp it by a coarse clock.
//!
//! Invariants:
//! - Every change of a folder is reported by the scan after it, with the folder's whole content.
//! - Links inside volumes are not followed; a volume's content is the pod's, not ours.
//! - What does not look like a log file is not reported, `.tmp` never.
//! - A folder on a network file system is looked at by its lane only; as long as that does not
//!   answer, the folder is what it was.

mod glob;
mod path;
mod remote;
mod walk;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taffrail_model::Nanos;

use crate::tail::identity::look_at;
use crate::tail::lane::{Lanes, is_absent};
use crate::tail::{FileKind, VolumeRule};

pub use glob::{is_pattern, split};
pub use path::{Place, PodLogPath, parse_pod_log_path};
use path::{parse_file_name, parse_pod_folder};
pub use walk::Meant;

/// How old a folder's time of change must be to be trusted, in nanoseconds.
const TRUST_AFTER: Nanos = 2_000_000_000;
/// Most entries of one folder that are looked at.
const ENTRIES_MAX: usize = 100_000;

/// A file that is to be tailed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is now.
    pub path: PathBuf,
    /// The folder that it must not leave, links included; none: links are followed.
    pub beneath: Option<PathBuf>,
    /// What it is.
    pub kind: FileKind,
    /// Its place among the files of its container.
    pub place: Place,
}

/// The content of one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The folder.
    pub folder: PathBuf,
    /// Whether the files continue each other (a container's), or stand each for itself.
    pub ordered: bool,
    /// All log files in it.
    pub files: Vec<Found>,
}

/// What one scan has found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Folders that have changed since the scan before.
    pub changed: Vec<Listing>,
    /// Folders that are not there any more.
    pub gone: Vec<PathBuf>,
    /// What could not be looked at, and why.
    pub problems: Vec<(PathBuf, String)>,
    /// Folders of pods whose content was read: new ones, and old ones that have changed.
    pub read: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: OsString,
    inode: u64,
    folder: bool,
    link: bool,
}

#[derive(Debug)]
struct Folder {
    modified: Nanos,
    trusted: bool,
    entries: Arc<[Entry]>,
    round: u64,
    /// In which round its content was read last.
    read: u64,
    changed: bool,
}

/// Looks at the folders again and again, and says what has changed.
#[derive(Debug)]
pub struct Scanner {
    pods_root: Option<PathBuf>,
    rules: Vec<VolumeRule>,
    /// The rules with their patterns; none for a rule whose patterns cannot be used.
    walks: Vec<Option<Meant>>,
    /// Roots, and whether all their rules say that they are lent.
    lent: HashMap<PathBuf, bool>,
    folders: HashMap<PathBuf, Folder>,
    round: u64,
    /// Which paths are on network file systems.
    pub lanes: Lanes,
    asked: remote::Asked,
}

impl Scanner {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(pods_root: Option<PathBuf>) -> Self {
        Self {
            pods_root,
            rules: Vec::new(),
            walks: Vec::new(),
            lent: HashMap::new(),
            folders: HashMap::new(),
            round: 0,
            lanes: Lanes::default(),
            asked: remote::Asked::default(),
        }
    }

    /// Reports the folder again in the next scan, whether or not it changes.
    pub fn forget(&mut self, folder: &Path) {
        if let Some(known) = self.folders.get_mut(folder) {
            known.modified = Nanos::MIN;
            known.trusted = false;
        }
    }

    /// Whether the folder still holds what the last scan has told of it. A look at its files that
    /// began after that scan and ended before this answer has seen them all under their names.
    #[must_use]
    pub fn is_current(&self, folder: &Path) -> bool {
        let told = self.folders.get(folder).map(|f| &f.entries);
        match (told, read_entries(folder)) {
            (Some(told), Ok((now, _))) => **told == *now,
            (told, now) => told.is_none() && now.is_err(),
        }
    }

    /// Whether the folder of a rule must not be kept busy. So it is with one that no rule names any
    /// more.
    #[must_use]
    pub fn lends(&self, root: &Path) -> bool {
        self.lent.get(root).copied().unwrap_or(true)
    }

    /// Looks at all folders. `now` is the time of the day, to judge the folders' times of change.
    pub fn scan(&mut self, rules: Vec<VolumeRule>, now: Nanos) -> Scan {
        self.round += 1;
        if rules != self.rules {
            // A folder may now hold other files than it did under the old rules.
            for rule in self.rules.iter().chain(&rules) {
                self.folders.retain(|path, folder| {
                    if path.starts_with(&rule.root) {
                        folder.modified = Nanos::MIN;
                    }
                    true
                });
            }
            self.walks = rules.iter().map(Meant::of).collect();
            self.lent.clear();
            for rule in &rules {
                *self.lent.entry(rule.root.clone()).or_insert(true) &= rule.lent;
            }
            self.rules = rules;
        }
        let mut scan = Scan::default();
        if let Some(root) = self.pods_root.clone() {
            self.scan_pods(&root, now, &mut scan);
            let read = self.folders.iter().filter(|(_, folder)| folder.read == self.round);
            scan.read = read.map(|(path, _)| path.clone()).collect();
        }
        self.scan_rules(now, &mut scan);
        let round = self.round;
        self.asked.forget_before(round);
        self.folders.retain(|path, folder| {
            let stays = folder.round == round;
            if !stays {
                scan.gone.push(path.clone());
            }
            stays
        });
        scan
    }

    fn scan_pods(&mut self, root: &Path, now: Nanos, scan: &mut Scan) {
        let Some((pods, _)) = self.folder(root, false, now, scan) else { return };
        for pod in pods.iter().filter(|e| e.folder) {
            let Some((namespace, name, uid)) = pod.name.to_str().and_then(parse_pod_folder) else {
                continue;
            };
            let path = root.join(&pod.name);
            let Some((containers, _)) = self.folder(&path, false, now, scan) else { continue };
            for container in containers.iter().filter(|e| e.folder) {
                let path = path.join(&container.name);
                let Some((files, changed)) = self.folder(&path, false, now, scan) else { continue };
                if let (true, Some(container)) = (changed, container.name.to_str()) {
                    let kind = |restart| FileKind::Container {
                        namespace: namespace.to_owned(),
                        pod: name.to_owned(),
                        uid: uid.to_owned(),
                        container: container.to_owned(),
                        restart,
                    };
                    scan.changed.push(container_listing(&path, &files, kind));
                }
            }
        }
    }

    /// The content of a folder, and whether it has changed since the last round. `None` when it
    /// cannot be read, which is a problem unless it has just gone.
    fn folder(
        &mut self,
        path: &Path,
        in_rule: bool,
        now: Nanos,
        scan: &mut Scan,
    ) -> Option<(Arc<[Entry]>, bool)> {
        if let Some(known) = self.folders.get(path)
            && known.round == self.round
        {
            return Some((known.entries.clone(), known.changed));
        }
        let lane = if in_rule { self.lanes.of(path) } else { None };
        let read = match &lane {
            Some(lane) => self.ask(lane, path, now),
            None => look_at(path, true).and_then(|l| self.read_if_changed(path, l.modified, now)),
        };
        match read {
            Err(error) if lane.is_some() && is_absent(&error) => {
                // What is below is asked for on its own.
                remote::tell(lane.as_ref(), &error, scan);
                self.stay(path, false);
            }
            Err(error) => {
                let leads = || lane.is_none() && std::fs::read_link(path).is_ok();
                let gone = error.kind() == std::io::ErrorKind::NotFound;
                if !gone || Some(path) == self.pods_root.as_deref() || leads() {
                    let why =
                        if lane.is_some() { error.to_string() } else { explain(path, &error) };
                    scan.problems.push((path.to_owned(), why));
                    // Not to be seen is not to be gone: what is open stays open.
                    self.stay(path, !gone);
                    if let Some(known) = self.folders.get_mut(path) {
                        known.trusted = false;
                    }
                }
                return None;
            }
            Ok(()) => {}
        }
        self.folders.get(path).map(|f| (f.entries.clone(), f.changed))
    }

    /// A folder that could not be looked at stays what it was, and if need be all below it.
    fn stay(&mut self, path: &Path, below: bool) {
        let round = self.round;
        let stays = |folder: &mut Folder| {
            folder.round = round;
            folder.changed = false;
        };
        if below {
            let below = self.folders.iter_mut().filter(|(folder, _)| folder.starts_with(path));
            below.for_each(|(_, folder)| stays(folder));
        }
        if let Some(known) = self.folders.get_mut(path) {
            stays(known);
        }
    }

    fn read_if_changed(&mut self, path: &Path, modified: Nanos, now: Nanos) -> std::io::Result<()> {
        if let Some(known) = self.folders.get_mut(path)
            && known.trusted
            && known.modified == modified
        {
            known.round = self.round;
            known.changed = false;
            return Ok(());
        }
        self.read_folder(path, modified, now)
    }

    fn read_folder(&mut self, path: &Path, modified: Nanos, now: Nanos) -> std::io::Result<()> {
        let content = read_entries(path)?;
        self.put(path, modified, content, now);
        Ok(())
    }

    /// Takes up the content of a folder, which was read not before `now`.
    fn put(&mut self, path: &Path, modified: Nanos, content: (Vec<Entry>, bool), now: Nanos) {
        let (entries, links) = content;
        let known = self.folders.get(path);
        let changed = known.is_none_or(|k| k.modified != modified || *k.entries != *entries);
        let trusted = !links && now.saturating_sub(modified) > TRUST_AFTER;
        let round = self.round;
        let entries = entries.into();
        let folder = Folder { modified, trusted, entries, round, read: round, changed };
        self.folders.insert(path.to_owned(), folder);
    }
}

/// Why a path cannot be used, in words that say what to do where that is known.
#[must_use]
pub fn explain(path: &Path, error: &std::io::Error) -> String {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    match missing.then(|| std::fs::read_link(path)) {
        Some(Ok(target)) => {
            format!("leads to {}, which is not visible here: mount it", target.display())
        }
        _ => error.to_string(),
    }
}

/// The content of a folder in order of the names, and whether there are links in it.
fn read_entries(path: &Path) -> std::io::Result<(Vec<Entry>, bool)> {
    let mut entries = Vec::new();
    let mut links = false;
    for entry in std::fs::read_dir(path)?.take(ENTRIES_MAX) {
        let entry = entry?;
        let kind = entry.file_type()?;
        let link = kind.is_symlink();
        links |= link;
        // What a link leads to may change without a change of the folder.
        let target = link.then(|| look_at(&entry.path(), true).ok()).flatten();
        entries.push(Entry {
            name: entry.file_name(),
            inode: target.map_or_else(|| entry.ino(), |t| t.id.inode),
            folder: kind.is_dir(),
            link,
        });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok((entries, links))
}

fn container_listing(path: &Path, entries: &[Entry], kind: impl Fn(u32) -> FileKind) -> Listing {
    let files = entries.iter().filter(|e| !e.folder).filter_map(|entry| {
        let place = parse_file_name(entry.name.to_str()?)?;
        let kind = kind(place.restart);
        Some(Found { path: path.join(&entry.name), beneath: None, kind, place })
    });
    Listing { folder: path.to_owned(), ordered: true, files: files.collect() }
}

#[cfg(test)]
mod tests;
