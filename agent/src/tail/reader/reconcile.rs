//! What the folders hold against what is being read: opens new files, follows renames, and judges
//! compressed ones.
//!
//! A file is known by its identity, so a rename only changes its path. A file that cannot be opened
//! is tried again with each scan. A compressed file is read only as far as its content is not known
//! under another identity.

use std::io;
use std::time::Instant;

use taffrail_kit::clock;

use super::{ChainKey, HOT_INTERVAL, Reader};
use crate::discover::{self, Found, Listing, Place};
use crate::tail::FileKind;
use crate::tail::chain::{Chain, Marker, physical_line_max};
use crate::tail::file::{self, Head, TailFile};
use crate::tail::identity::{self, FileId, Look, Version, look_at};
use crate::tail::packed::{self, Unpacked};

impl Reader {
    /// Looks at the folders and takes up what has changed.
    pub(super) fn scan(&mut self, now: Instant) {
        let hot = now < self.hot_until;
        let interval = self.config.scan_interval;
        self.next_scan = now + if hot { interval.min(HOT_INTERVAL) } else { interval };
        let rules = (self.rules)();
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
        for folder in scan.gone {
            for chain in self.chains.values_mut().filter(|c| c.folder == folder) {
                chain.gone = true;
                chain.whole = true;
                chain.files.iter_mut().for_each(|f| f.listed = false);
            }
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
        for found in listing.files {
            let look = match look_at(&found.path, false) {
                Ok(look) if look.regular => look,
                Ok(_) => continue,
                Err(error) => {
                    self.unreadable(&listing.folder, &found, &error);
                    continue;
                }
            };
            let key = ChainKey::File(look.id);
            let rotated = found.place.rotated.is_some();
            if rotated && !self.keys.contains_key(&key) && !self.goes_on(&look, &listing.folder) {
                continue;
            }
            let id = self.chain(key.clone(), &listing.folder, now);
            let Some(mut chain) = self.chains.remove(&id) else { continue };
            chain.folder.clone_from(&listing.folder);
            chain.alone = true;
            chain.next_look = now;
            let taken = self.take_plain(&mut chain, id, found.clone(), look);
            chain.gone = false;
            // What was rotated away is read to its end, and then closed.
            chain.files.iter_mut().for_each(|f| f.listed &= !rotated);
            if let Err(error) = taken {
                self.unreadable(&listing.folder, &found, &error);
            }
            if chain.files.is_empty() {
                self.keys.remove(&key);
            } else {
                self.chains.insert(id, chain);
            }
        }
    }

    /// Whether a file that was rotated away has more than is in the store. One that is not known at
    /// all was rotated before anybody looked.
    fn goes_on(&mut self, look: &Look, folder: &std::path::Path) -> bool {
        let Some(positions) = &self.positions else {
            self.scanner.forget(folder);
            return false;
        };
        positions.peek(look.id).is_some_and(|known| known.committed < look.size)
    }

    fn chain(&mut self, key: ChainKey, folder: &std::path::Path, now: Instant) -> u64 {
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
                file.rewind(file.position(), line_max)?;
            }
            return Ok(());
        }
        if self.chains.values().flat_map(|c| &c.files).any(|f| f.id == look.id && f.is_open()) {
            return Err(io::Error::other("is being read under another name"));
        }
        self.make_room()?;
        let opened = file::open(&found.path, found.beneath.as_deref())?;
        let look = identity::look(&opened)?;
        if !look.regular || chain.files.iter().any(|f| f.id == look.id) {
            return Ok(());
        }
        let family = identity::family(&found.kind);
        let source = identity::source(&self.config.node, look.id, family, Version::Generation(0));
        let number = self.new_number(id);
        let head = Head { number, id: look.id, source: source.into(), generation: 0, found };
        let mut file = TailFile::plain(opened, head, 0, line_max)?;
        file.lent = file.beneath.as_deref().is_some_and(|root| self.scanner.lends(root));
        if let Some(known) = self.positions.as_mut().and_then(|p| p.claim(look.id)) {
            file.resume(known, &self.config.node, line_max)?;
        }
        file.hand_back();
        // Most containers have one file: room for more would be most of what a file costs.
        chain.files.reserve_exact(1);
        chain.files.push(file);
        Ok(())
    }

    fn take_packed(
        &mut self,
        chain: &mut Chain,
        id: u64,
        found: Found,
        look: Look,
    ) -> io::Result<()> {
        if let Some(file) = chain.files.iter_mut().find(|f| f.id == look.id) {
            file.listed = true;
        }
        if chain.packed.contains(&look.id) {
            return Ok(());
        }
        // Only the collector's positions tell all that was read of it.
        let Some(positions) = self.positions.as_mut().filter(|_| self.firm) else {
            self.scanner.forget(&chain.folder);
            return Ok(());
        };
        let size = packed::unpacked_size(&found.path)?;
        let path = found.path.clone();
        let marker = Marker { id: look.id, size, place: found.place.clone(), path: path.clone() };
        if is_covered(chain, &found, size) {
            chain.packed.insert(look.id);
            chain.markers.push(marker);
            return Ok(());
        }
        let family = identity::family(&found.kind);
        // What is damaged now will not heal: it is tried once.
        chain.packed.insert(look.id);
        let own = identity::source(&self.config.node, look.id, 0, Version::Unpacked);
        let (source, generation, position) = if let Some(done) = positions.claim_unpacked(look.id) {
            (own, 0, done)
        } else if let Some((of, known)) =
            packed::find_resume(&path, size, &positions.unclaimed(family))?
        {
            positions.claim_in_order(of, family);
            chain.markers.push(marker);
            let source = identity::source(
                &self.config.node,
                of,
                family,
                Version::Generation(known.generation),
            );
            (source, known.generation, known.committed)
        } else {
            (own, 0, 0)
        };
        if position < size {
            self.make_room()?;
            let content = Unpacked::open(&path, position)?;
            let number = self.new_number(id);
            let head = Head { number, id: look.id, source: source.into(), generation, found };
            chain.files.reserve_exact(1);
            chain.files.push(TailFile::packed(content, head, physical_line_max(&self.config)));
        }
        Ok(())
    }

    /// Sees to it that one more file may be opened.
    fn make_room(&mut self) -> io::Result<()> {
        let max = self.config.open_files_max;
        if self.hold_at_most(max.saturating_sub(1)) {
            return Ok(());
        }
        Err(io::Error::other(format!("more than {max} files are open")))
    }

    /// Lets go of files that are in the store up to their ends until no more than `max` are held:
    /// those that are silent first, then those that grow. Returns whether that could be done.
    pub(super) fn hold_at_most(&mut self, max: usize) -> bool {
        let files = self.chains.values().flat_map(|c| &c.files);
        let held = files.filter(|f| f.is_held()).count();
        let Some(surplus) = held.checked_sub(max).filter(|s| *s > 0) else { return true };
        // A few more: the next file will need room too.
        let wanted = surplus + max / 16;
        let mut parked = 0;
        for growing in [false, true] {
            let silent = self.config.poll_max;
            let chains = self.chains.values_mut().filter(|c| growing == (c.pause < silent));
            let files = chains.flat_map(|c| &mut c.files).filter_map(|f| f.park().then_some(()));
            parked += files.take(wanted - parked).count();
        }
        parked >= surplus
    }

    /// Notes why a file is not read, and has its folder looked at again.
    fn unreadable(&mut self, folder: &std::path::Path, found: &Found, error: &io::Error) {
        self.scanner.forget(folder);
        let leads_nowhere = || std::fs::read_link(&found.path).is_ok();
        if error.kind() == io::ErrorKind::NotFound && !leads_nowhere() {
            return;
        }
        tracing::debug!(path = %found.path.display(), %error, "cannot open file");
        self.metrics.read_errors.inc();
        self.problems.insert(found.path.clone(), discover::explain(&found.path, error));
    }
}

/// Whether the content of a compressed file is being read, or was, from the file that it was made
/// of: that file was seen under the same rotation time; or it had the live name when it was seen
/// last, has none any more, and is as long. Then its place is now known.
fn is_covered(chain: &mut Chain, found: &Found, size: u64) -> bool {
    let Place { restart, rotated, .. } = &found.place;
    let Some(rotated) = rotated else { return false };
    if chain.covered.contains(&(*restart, rotated.clone())) {
        return true;
    }
    let same = chain.files.iter_mut().find(|f| {
        let vanished = !f.listed && f.place.rotated.is_none() && f.place.restart == *restart;
        vanished && f.is_open() && f.look().is_ok_and(|l| l.size == size)
    });
    let Some(file) = same else { return false };
    file.place.rotated = Some(rotated.clone());
    chain.covered.insert((*restart, rotated.clone()));
    true
}
