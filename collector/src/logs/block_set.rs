//! A set of blocks of one segment, as bits.

/// Which blocks of a segment may hold what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockSet {
    bits: Vec<u64>,
    len: u32,
}

impl BlockSet {
    /// No block of `len`.
    pub(super) fn none(len: u32) -> Self {
        Self { bits: vec![0; (len as usize).div_ceil(64)], len }
    }

    /// Every block of `len`.
    pub(super) fn all(len: u32) -> Self {
        let mut set = Self { bits: vec![u64::MAX; (len as usize).div_ceil(64)], len };
        if let (Some(last), spare @ 1..) = (set.bits.last_mut(), (64 - len % 64) % 64) {
            *last >>= spare;
        }
        set
    }

    /// Adds a block; a number beyond the segment is left out.
    pub(super) fn insert(&mut self, block: u32) {
        if block < self.len {
            self.bits[(block / 64) as usize] |= 1 << (block % 64);
        }
    }

    /// Whether the block is in the set.
    pub(super) fn contains(&self, block: u32) -> bool {
        block < self.len && self.bits[(block / 64) as usize] >> (block % 64) & 1 == 1
    }

    /// Keeps what is in both.
    pub(super) fn intersect(&mut self, other: &Self) {
        for (bits, others) in self.bits.iter_mut().zip(&other.bits) {
            *bits &= others;
        }
    }

    /// Adds what is in the other.
    pub(super) fn unite(&mut self, other: &Self) {
        for (bits, others) in self.bits.iter_mut().zip(&other.bits) {
            *bits |= others;
        }
    }

    /// How many blocks are in the set.
    pub(super) fn count(&self) -> u32 {
        self.bits.iter().map(|bits| bits.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        for len in [0, 1, 63, 64, 65, 130] {
            let all = BlockSet::all(len);
            assert_eq!(all.count(), len);
            let mut some = BlockSet::none(len);
            for block in (0..len + 5).step_by(3) {
                some.insert(block);
            }
            assert_eq!(some.count(), len.div_ceil(3));
            assert_eq!(some.contains(3), len > 3);
            assert!(!some.contains(len) && !some.contains(1));
            let mut both = all.clone();
            both.intersect(&some);
            assert_eq!(both, some);
            both.unite(&all);
            assert_eq!(both, all);
        }
    }
}
