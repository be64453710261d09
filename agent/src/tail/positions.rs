//! The committed positions that the collector told at the start, by file.
//!
//! Entries are taken out as files claim them. What stays belongs to files that are gone, or that
//! were compressed meanwhile: the check tells which (see [`Positions::unclaimed`]). A file that is
//! there yet and not looked for any more gives its position back: it may come again elsewhere.

use std::collections::{HashMap, VecDeque};

use taffrail_model::record::Position;

use super::identity::{FileId, Version, parse_source};

/// A committed position of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which generation of the file.
    pub generation: u32,
    /// Every byte before this one is in the store.
    pub committed: u64,
    /// Hash of the bytes before it; 0 when it is not known.
    pub check: u64,
    /// Which container's files it is of; 0: none's.
    pub family: u64,
}

/// All positions of this node's files.
#[derive(Debug, Default)]
pub struct Positions {
    files: HashMap<FileId, Known>,
    unpacked: HashMap<FileId, u64>,
    /// Those that were given back, the oldest first.
    returned: VecDeque<FileId>,
}

/// Most positions that were given back.
const RETURNED_MAX: usize = 10_000;

impl Positions {
    /// Reads the collector's answer. Positions of other nodes are left out, and of several
    /// generations of a file only the last counts.
    #[must_use]
    pub fn new(node: &str, positions: &[Position]) -> Self {
        let mut all = Self::default();
        for Position { source, committed, check } in positions {
            match parse_source(node, source) {
                Some((id, family, Version::Generation(generation))) => {
                    let new = Known { generation, committed: *committed, check: *check, family };
                    let known = all.files.entry(id).or_insert(new);
                    if known.generation < generation {
                        *known = new;
                    }
                }
                Some((id, _, Version::Unpacked)) => {
                    all.unpacked.insert(id, *committed);
                }
                None => {}
            }
        }
        all
    }

    /// Takes out what is known of a file.
    pub fn claim(&mut self, id: FileId) -> Option<Known> {
        self.files.remove(&id)
    }

    /// Takes back how far a file is that nobody reads any more.
    pub fn give_back(&mut self, id: FileId, known: Known) {
        if self.returned.len() >= RETURNED_MAX
            && let Some(oldest) = self.returned.pop_front()
        {
            self.files.remove(&oldest);
        }
        self.returned.push_back(id);
        self.files.insert(id, known);
    }

    /// Takes out what was found in a compressed file, and what is known of the container's files
    /// that were born before: compressed files are looked into in order, so theirs was before. (Where
    /// there is no birth time all are born at once.)
    pub fn claim_in_order(&mut self, of: FileId, family: u64) {
        self.files.remove(&of);
        self.files.retain(|id, k| k.family != family || id.birth >= of.birth);
    }

    /// How far a file is, without claiming it.
    #[must_use]
    pub fn peek(&self, id: FileId) -> Option<Known> {
        self.files.get(&id).copied()
    }

    /// How far the unpacked content of a compressed file is known, without claiming it.
    #[must_use]
    pub fn peek_unpacked(&self, id: FileId) -> Option<u64> {
        self.unpacked.get(&id).copied()
    }

    /// Takes out how far the unpacked content of a compressed file is known.
    pub fn claim_unpacked(&mut self, id: FileId) -> Option<u64> {
        self.unpacked.remove(&id)
    }

    /// Positions of a container's files that no file has claimed, to be compared with unpacked
    /// content, by offset. Only its own: the last bytes of lines are often the same everywhere.
    #[must_use]
    pub fn unclaimed(&self, family: u64) -> Vec<(FileId, Known)> {
        let mut all: Vec<(FileId, Known)> = self
            .files
            .iter()
            .filter(|(_, k)| k.family == family && k.committed > 0 && k.check != 0)
            .map(|(id, k)| (*id, *k))
            .collect();
        all.sort_unstable_by_key(|(id, k)| (k.committed, *id));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(source: &str, committed: u64) -> Position {
        Position { source: source.into(), committed, check: 9 }
    }

    #[test]
    fn the_last_generation_counts_and_is_claimed_once() {
        let given = [
            position("n/1:2:3:1", 50),
            position("n/1:2:3:4:a", 10),
            position("n/1:2:3:0", 70),
            position("m/1:9:3:0", 70),
            position("n/1:5:3:gz", 11),
            position("nonsense", 1),
        ];
        let mut all = Positions::new("n", &given);
        let id = FileId { device: 1, inode: 2, birth: 3 };
        let known = Known { generation: 4, committed: 10, check: 9, family: 10 };
        assert_eq!(all.unclaimed(10), [(id, known)]);
        assert!(all.unclaimed(0).is_empty());
        assert_eq!((all.claim(id), all.claim(id)), (Some(known), None));
        assert_eq!(all.claim_unpacked(FileId { inode: 5, ..id }), Some(11));
        assert!(all.unclaimed(10).is_empty());
    }

    #[test]
    fn what_was_given_back_is_claimed_again() {
        let mut all = Positions::default();
        let id = |inode| FileId { device: 1, inode, birth: 3 };
        let known = |committed| Known { generation: 2, committed, check: 9, family: 0 };
        for inode in 0..RETURNED_MAX as u64 + 2 {
            all.give_back(id(inode), known(inode));
        }
        assert_eq!((all.claim(id(0)), all.claim(id(1))), (None, None), "the oldest are forgotten");
        assert_eq!((all.claim(id(2)), all.claim(id(2))), (Some(known(2)), None));
        all.give_back(id(2), known(7));
        assert_eq!(all.peek(id(2)), Some(known(7)));
        assert!(all.files.len() <= RETURNED_MAX && all.returned.len() <= RETURNED_MAX);
    }

    #[test]
    fn what_was_born_before_is_claimed_with_it() {
        let given = [
            position("n/1:1:30:0:a", 1),
            position("n/1:2:20:0:a", 2),
            position("n/1:3:40:0:a", 3),
            position("n/1:5:30:0:a", 5),
            position("n/1:4:20:0:b", 4),
        ];
        let mut all = Positions::new("n", &given);
        all.claim_in_order(FileId { device: 1, inode: 1, birth: 30 }, 10);
        let left = |family| all.unclaimed(family).iter().map(|k| k.1.committed).collect::<Vec<_>>();
        assert_eq!((left(10), left(11)), (vec![3, 5], vec![4]));
    }
}
