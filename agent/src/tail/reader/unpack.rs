//! Compressed files: each is judged once, and read only as far as its content is not known under
//! another identity. What could not be opened for want of room is judged again with the next look.

use std::io;

use super::Reader;
use crate::discover::{Found, Place};
use crate::tail::chain::{Chain, Marker, physical_line_max};
use crate::tail::file::{Head, TailFile};
use crate::tail::identity::{self, FileId, Look, Version};
use crate::tail::packed::{self, Unpacked};
use crate::tail::positions::{Known, Positions};

impl Reader {
    pub(super) fn take_packed(
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
        if self.positions.is_none() || !self.firm {
            self.scanner.forget(&chain.folder);
            return Ok(());
        }
        let size = packed::unpacked_size(&found.path)?;
        if is_covered(chain, &found, size) {
            chain.packed.insert(look.id);
            chain.markers.push(marker(&found, look.id, size));
            return Ok(());
        }
        self.make_room()?;
        let unpacked = self.unpack(chain, id, found, (look.id, size));
        // What is damaged now will not heal: it is tried once.
        if unpacked.as_ref().map_or_else(is_damage, |()| true) {
            chain.packed.insert(look.id);
        }
        unpacked
    }

    /// Reads a compressed file from where its content is not known.
    fn unpack(
        &mut self,
        chain: &mut Chain,
        id: u64,
        found: Found,
        (packed, size): (FileId, u64),
    ) -> io::Result<()> {
        let Some(positions) = &mut self.positions else { return Ok(()) };
        let family = identity::family(&found.kind);
        let done = positions.peek_unpacked(packed);
        let resume = match done {
            Some(_) => None,
            None => {
                let known = unclaimed(chain, positions, &found, family);
                packed::find_resume(&found.path, size, &known)?
            }
        };
        let position = resume.map(|(_, known)| known.committed).or(done).unwrap_or(0);
        let content =
            (position < size).then(|| Unpacked::open(&found.path, position)).transpose()?;
        positions.claim_unpacked(packed);
        let (of, family, version) = match resume {
            None => (packed, 0, Version::Unpacked),
            Some((of, known)) => {
                positions.claim_in_order(of, family);
                chain.markers.push(marker(&found, packed, size));
                (of, family, Version::Generation(known.generation))
            }
        };
        if let Some(content) = content {
            let source = identity::source(&self.config.node, of, family, version).into();
            let generation = resume.map_or(0, |(_, known)| known.generation);
            let number = self.new_number(id);
            let head = Head { number, id: packed, source, generation, found };
            let file = TailFile::packed(content, head, physical_line_max(&self.config));
            self.add(chain, id, file);
        }
        Ok(())
    }
}

fn marker(found: &Found, id: FileId, size: u64) -> Marker {
    Marker { id, size, place: found.place.clone(), path: found.path.clone() }
}

fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Positions that may be found in a compressed file: those of files that are not there, and of files
/// that were let go of when they were read to their ends, and have lost their names since.
fn unclaimed(
    chain: &Chain,
    positions: &Positions,
    found: &Found,
    family: u64,
) -> Vec<(FileId, Known)> {
    let mut all = positions.unclaimed(family);
    let lost = chain.files.iter().filter(|f| {
        f.is_parked() && !f.listed && f.place.restart == found.place.restart && f.committed > 0
    });
    all.extend(lost.map(|f| (f.id, f.known())).filter(|(_, known)| known.check != 0));
    all.sort_unstable_by_key(|(id, known)| (known.committed, *id));
    all
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
