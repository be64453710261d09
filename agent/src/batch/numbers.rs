//! Maps by file number. The numbers are counted up here and nobody outside chooses them, so they need
//! no hash that resists being guessed; the usual one took a thirtieth of the whole agent's time.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are made of file numbers.
pub(super) type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Multiplies by an odd constant with its bits well spread (2^64 divided by the golden ratio): numbers
/// that follow each other end up far apart, in the high bits and in the low ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumberHasher(u64);

const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(SPREAD);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;
    use crate::tail::{FileNumber, LogStream};

    #[test]
    fn numbers_in_a_row_are_spread() {
        let build = BuildHasherDefault::<NumberHasher>::default();
        let streams = [LogStream::Stdout, LogStream::Stderr, LogStream::File];
        let keys = (1..5000).flat_map(|n| streams.map(|stream| (FileNumber(n), stream)));
        let hashes: Vec<u64> = keys.map(|key| build.hash_one(key)).collect();
        let distinct = |of: &dyn Fn(u64) -> u64| {
            hashes.iter().map(|hash| of(*hash)).collect::<HashSet<_>>().len()
        };
        assert_eq!(distinct(&|hash| hash), hashes.len());
        assert_eq!(
            distinct(&|hash| hash >> 57),
            128,
            "the bits that tell entries of a group apart"
        );
        assert!(distinct(&|hash| hash % 16_384) > 8000, "the bits that choose a group");
    }
}
