//! What the folders hold against what is being read: opens new files and follows renames.
//!
//! A file is known by its identity, so a rename only changes its path. A file that cannot be opened
//! is tried again with each scan.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use taffrail_kit::clock;

use super::{HOT_INTERVAL, Reader};
use crate::discover::{self, Found, Listing};
use crate::tail::FileKind;
use crate::tail::chain::{Chain, physical_line_max};
use crate::tail::file::{self, Head, TailFile};
use crate::tail::identity::{self, FileId, Look, Version, look_at};
use crate::tail::lane::is_absent;

/// What a chain is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ChainKey {
    Folder(PathBuf),
    File(FileId),
}

impl Reader {
    /// Looks at the folders and takes up what has changed.
    pub(super) fn scan(&mut self, now: Instant) {
        let hot = now < self.hot_until;
        let interval = self.config.scan_interval;
        self.next_scan = now + if hot { interval.min(HOT_INTERVAL) } else { interval };
        self.crowded = false;
        self.scanner.lanes.refresh();
        let rules = (self.rules)(&mut self.scanner.lanes);
        let scan = self.scanner.scan(rules, clock::unix_nanos());
        if let Some(watches) = &mut self.watches {
            watches.forget(&scan.gone);
            watches.add(&scan.read);
        }
        let before = std::mem::take(&mut self.problems);
        for (path, problem) in scan.problems {
            if before.get(&path) != Some(&problem) {
                tracing::warn!(path = %path.display(), problem, "cannot look into folder");
            }
            self.problems.insert(path, problem);
        }
        for listing in scan.changed {
            if listing.ordered {
                self.reconcile_container(listing, now);
            } else {
                self.reconcile_files(listing, now);
            }
        }
        let gone: HashSet<_> = scan.gone.into_iter().collect();
        for chain in self.chains.values_mut().filter(|c| gone.contains(&c.folder)) {
            chain.gone = true;
            chain.whole = true;
            chain.files.iter_mut().for_each(|f| f.listed = false);
        }
        for file in self.chains.values_mut().flat_map(|c| &mut c.files) {
            if let Some(root) = &file.beneath {
                file.lent = self.scanner.lends(root);
                file.hand_back();
            }
        }
        // Those that could not be let go of when others were opened may be in the store by now.
        self.hold_at_most(self.config.open_files_max);
        self.keep_count();
        self.pending.tidy(now);
        self.last_scan = Some(Instant::now());
    }

    fn reconcile_container(&mut self, listing: Listing, now: Instant) {
        let id = self.chain(ChainKey::Folder(listing.folder.clone()), &listing.folder, now);
        let Some(mut chain) = self.chains.remove(&id) else { return };
        chain.gone = false;
        chain.files.iter_mut().for_each(|f| f.listed = false);
        chain.next_look = now;
        let mut looked: Vec<(Found, Look)> = Vec::new();
        for found in listing.files {
            match look_at(&found.path, found.beneath.is_none()) {
                Ok(look) if look.regular => looked.push((found, look)),
                Ok(_) => {}
                Err(error) => self.unreadable(&listing.folder, &found, &error),
            }
        }
        // Plain files first: they tell which compressed ones are known. These then in their order.
        looked.sort_by_cached_key(|(found, _)| (found.place.packed, found.place.clone()));
        let names: Vec<_> = looked.iter().map(|(f, _)| f.place.clone()).collect();
        let packed: Vec<FileId> = looked.iter().map(|(_, l)| l.id).collect();
        for (found, look) in looked {
            if let Some(rotated) = found.place.rotated.clone().filter(|_| !found.place.packed) {
                chain.covered.insert((found.place.restart, rotated));
            }
            let (path, folder) = (found.clone(), listing.folder.clone());
            let taken = if found.place.packed {
                self.take_packed(&mut chain, id, found, look)
            } else {
                self.take_plain(&mut chain, id, found, look)
            };
            if let Err(error) = taken {
                self.unreadable(&folder, &path, &error);
            }
        }
        chain.sort();
        // A rotation between the listing and the opening would leave a file out: then nothing is
        // read, and nothing forgotten, before the next, whole look.
        chain.whole = self.scanner.is_current(&listing.folder);
        if chain.whole {
            chain.covered.retain(|(restart, rotated)| {
                names.iter().any(|p| p.restart == *restart && p.rotated.as_ref() == Some(rotated))
            });
            chain.packed.retain(|id| packed.contains(id));
        } else {
            self.scanner.forget(&listing.folder);
            self.next_scan = now + self.config.poll_min;
        }
        self.chains.insert(id, chain);
    }

    /// Files that stand each for itself.
    fn reconcile_files(&mut self, listing: Listing, now: Instant) {
        for chain in self.chains.values_mut().filter(|c| c.folder == listing.folder) {
            chain.files.iter_mut().for_each(|f| f.listed = false);
        }
        let mut absent = HashSet::new();
        for found in listing.files {
            let path = found.path.clone();
            match self.take_alone(found.clone(), &listing.folder, now) {
                Err(error) if is_absent(&error) => {
                    absent.insert(path);
                }
                Err(error) => self.unreadable(&listing.folder, &found, &error),
                Ok(()) => {}
            }
        }
        self.keep_listed(&listing.folder, &absent);
    }

    /// One file of a folder whose files stand each for itself.
    fn take_alone(&mut self, found: Found, folder: &Path, now: Instant) -> io::Result<()> {
        let look = self.look_at(&found.path, now)?;
        if !look.regular {
            return Ok(());
        }
        let key = ChainKey::File(look.id);
        let rotated = found.place.rotated.is_some();
        if rotated && !self.keys.contains_key(&key) && !self.goes_on(&look, folder) {
            return Ok(());
        }
        let id = self.chain(key.clone(), folder, now);
        let Some(mut chain) = self.chains.remove(&id) else { return Ok(()) };
        folder.clone_into(&mut chain.folder);
        chain.alone = true;
        chain.next_look = now;
        let taken = self.take_plain(&mut chain, id, found, look);
        chain.gone = false;
        // What was rotated away is read to its end, and then closed.
        chain.files.iter_mut().for_each(|f| f.listed &= !rotated);
        if chain.files.is_empty() {
            self.keys.remove(&key);
        } else {
            self.chains.insert(id, chain);
        }
        taken
    }

    /// Whether a file that was rotated away has more than is in the store. One that is not known at
    /// all was rotated before anybody looked.
    fn goes_on(&mut self, look: &Look, folder: &Path) -> bool {
        let Some(positions) = &self.positions else {
            self.scanner.forget(folder);
            return false;
        };
        positions.peek(look.id).is_some_and(|known| known.committed < look.size)
    }

    fn chain(&mut self, key: ChainKey, folder: &Path, now: Instant) -> u64 {
        *self.keys.entry(key).or_insert_with(|| {
            self.next_chain += 1;
            let chain = Chain::new(folder.to_owned(), &self.config, now);
            self.chains.insert(self.next_chain, chain.into());
            self.next_chain
        })
    }

    fn take_plain(
        &mut self,
        chain: &mut Chain,
        id: u64,
        found: Found,
        look: Look,
    ) -> io::Result<()> {
        let line_max = physical_line_max(&self.config);
        if let Some(file) = chain.files.iter_mut().find(|f| f.id == look.id) {
            let stays = match (&file.kind, &found.kind) {
                (FileKind::Volume { uid, .. }, FileKind::Volume { uid: new, .. }) => uid == new,
                _ => true,
            };
            match &file.heir {
                _ if stays => file.heir = None,
                Some((kind, _)) if *kind == found.kind => {}
                _ => file.heir = Some((found.kind, look.size)),
            }
            file.path = found.path;
            file.beneath = found.beneath;
            file.place = found.place;
            file.listed = true;
            if !file.is_open() && look.size > file.position() {
                file.take_up(line_max)?;
                self.held += usize::from(file.is_held());
            }
            return Ok(());
        }
        if self.is_read_elsewhere(look.id) {
            return Err(io::Error::other("is being read under another name"));
        }
        self.make_room()?;
        let lane = found.beneath.is_some().then(|| self.scanner.lanes.of(&found.path)).flatten();
        let file = match lane {
            Some(lane) => self.open_remote(&lane, id, found, look.id)?,
            None => self.open_plain(chain, id, found)?,
        };
        let Some(mut file) = file else { return Ok(()) };
        file.lent = file.beneath.as_deref().is_some_and(|root| self.scanner.lends(root));
        file.hand_back();
        self.add(chain, id, file);
        Ok(())
    }

    fn open_plain(&mut self, chain: &Chain, id: u64, found: Found) -> io::Result<Option<TailFile>> {
        let line_max = physical_line_max(&self.config);
        let opened = file::open(&found.path, found.beneath.as_deref())?;
        let look = identity::look(&opened)?;
        if !look.regular || chain.files.iter().any(|f| f.id == look.id) {
            return Ok(None);
        }
        let head = self.head(id, found, look.id);
        let mut file = TailFile::plain(opened, head, 0, line_max)?;
        if let Some(known) = self.positions.as_ref().and_then(|p| p.peek(look.id)) {
            file.resume(known, &self.config.node, line_max)?;
            self.claim(look.id);
        }
        Ok(Some(file))
    }

    pub(super) fn claim(&mut self, id: FileId) {
        if let Some(positions) = &mut self.positions {
            positions.claim(id);
        }
    }

    pub(super) fn head(&mut self, chain: u64, found: Found, id: FileId) -> Head {
        let family = identity::family(&found.kind);
        let source = identity::source(&self.config.node, id, family, Version::Generation(0));
        Head { number: self.new_number(chain), id, source: source.into(), generation: 0, found }
    }

    pub(super) fn add(&mut self, chain: &mut Chain, id: u64, file: TailFile) {
        self.held += usize::from(file.is_held());
        self.file_of.insert(file.id, id);
        // Most containers have one file: room for more would be most of what a file costs.
        chain.files.reserve_exact(1);
        chain.files.push(file);
    }

    /// Notes why a file is not read, and has its folder looked at again.
    fn unreadable(&mut self, folder: &Path, found: &Found, error: &io::Error) {
        self.scanner.forget(folder);
        let lane = self.scanner.lanes.of(&found.path).filter(|_| found.beneath.is_some());
        let leads_nowhere = || lane.is_none() && std::fs::read_link(&found.path).is_ok();
        if error.kind() == io::ErrorKind::NotFound && !leads_nowhere() {
            return;
        }
        tracing::debug!(path = %found.path.display(), %error, "cannot open file");
        self.metrics.read_errors.inc();
        let why = match lane {
            Some(_) => error.to_string(),
            None => discover::explain(&found.path, error),
        };
        self.problems.insert(found.path.clone(), why);
    }
}
