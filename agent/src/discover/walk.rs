//! The files that rules name: volumes of pods and files of the node.
//!
//! Several rules may look into one folder; each file is reported once, as what the first rule says
//! it is. A file whose name was meant before it was rotated away is reported too, with what is
//! behind that name in [`Place::rotated`]: whoever knows the file goes on reading it there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use taffrail_model::Nanos;

use super::glob::Pattern;
use super::{Entry, Found, Listing, Place, Scan, Scanner};
use crate::tail::{FileKind, RuleKind, VolumeRule};

/// A rule with its patterns, ready to be used.
#[derive(Debug)]
pub struct Meant {
    rule: VolumeRule,
    meant: Pattern,
    excluded: Vec<Pattern>,
}

impl Meant {
    /// `None` when one of its patterns cannot be used.
    #[must_use]
    pub fn of(rule: &VolumeRule) -> Option<Self> {
        let excluded = rule.exclude.iter().map(|glob| Pattern::new(glob));
        let excluded = excluded.collect::<Option<_>>()?;
        Some(Self { rule: rule.clone(), meant: Pattern::new(&rule.glob)?, excluded })
    }

    /// Whether the rule means the file of this path.
    #[must_use]
    pub fn means(&self, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(&self.rule.root) else { return false };
        let relative = relative.to_string_lossy();
        self.meant.matches(&relative) && !self.excluded.iter().any(|p| p.matches(&relative))
    }

    fn found(&self, folder: &Path, entry: &Entry) -> Option<Found> {
        let path = folder.join(&entry.name);
        let relative = path.strip_prefix(&self.rule.root).ok()?.to_string_lossy().into_owned();
        if self.excluded.iter().any(|pattern| pattern.matches(&relative)) {
            return None;
        }
        let (name, place) = if self.meant.matches(&relative) {
            (&*relative, Place::default())
        } else {
            let before = self.meant.before_rotation(&relative)?;
            let rotated = Some(relative[before.len()..].to_owned());
            (before, Place { rotated, ..Place::default() })
        };
        let kind = kind(&self.rule.kind, name, &self.rule.root);
        Some(Found { kind, beneath: Some(self.rule.root.clone()), path, place })
    }
}

fn kind(kind: &RuleKind, relative: &str, root: &Path) -> FileKind {
    match kind.clone() {
        RuleKind::Volume { namespace, pod, uid, volume } => {
            FileKind::Volume { namespace, pod, uid, volume, path: relative.to_owned() }
        }
        RuleKind::Plain => {
            FileKind::Plain { path: root.join(relative).to_string_lossy().into_owned() }
        }
    }
}

impl Scanner {
    pub(super) fn scan_rules(&mut self, now: Nanos, scan: &mut Scan) {
        let mut listings: BTreeMap<PathBuf, Listing> = BTreeMap::new();
        let walks = std::mem::take(&mut self.walks);
        for (rule, _) in self.rules.iter().zip(&walks).filter(|(_, walk)| walk.is_none()) {
            scan.problems.push((rule.root.clone(), format!("not a pattern: {}", rule.glob)));
        }
        for walk in walks.iter().flatten() {
            self.lanes.enter(&walk.rule.root);
            self.walk(walk, now, &mut listings, scan);
        }
        self.walks = walks;
        scan.changed.extend(listings.into_values());
    }

    /// Looks through the folders of one rule, those nearest to its root first.
    fn walk(
        &mut self,
        walk: &Meant,
        now: Nanos,
        listings: &mut BTreeMap<PathBuf, Listing>,
        scan: &mut Scan,
    ) {
        let mut level = vec![walk.rule.root.clone()];
        for depth in 0..=walk.meant.depth {
            let mut below = Vec::new();
            for folder in level {
                let Some((entries, changed)) = self.folder(&folder, true, now, scan) else {
                    continue;
                };
                if changed {
                    let files = entries.iter().filter(|e| !e.folder && !e.link);
                    let files = files.filter_map(|entry| walk.found(&folder, entry));
                    report(listings, &folder, files);
                }
                if depth < walk.meant.depth {
                    below.extend(entries.iter().filter(|e| e.folder).map(|e| folder.join(&e.name)));
                }
            }
            level = below;
        }
    }
}

fn report(
    listings: &mut BTreeMap<PathBuf, Listing>,
    folder: &Path,
    files: impl Iterator<Item = Found>,
) {
    let empty = || Listing { folder: folder.to_owned(), ordered: false, files: Vec::new() };
    let known = &mut listings.entry(folder.to_owned()).or_insert_with(empty).files;
    for file in files {
        match known.iter_mut().find(|k| k.path == file.path) {
            // Meant as it is counts for more than meant before it was rotated.
            Some(known) if known.place.rotated.is_some() && file.place.rotated.is_none() => {
                *known = file;
            }
            Some(_) => {}
            None => known.push(file),
        }
    }
}
