//! Fingerprint postings: which blocks of a segment have a token with this hash.
//!
//! ```text
//! magic "TFLP", format u32, entries u32, hash bits u8, bucket bits u8, block bits u8, a zero byte
//! bucket starts   u32 each, one more than there are buckets
//! entries         sorted by (hash, block), bit-packed: the upper hash bits without the bucket bits,
//!                 above the block number; then eight zero bytes, so that every entry can be read
//!                 as a u64
//! crc32           of all before, u32
//! ```
//! All numbers little endian. The upper bits of a hash choose its bucket of about
//! [`BUCKET_ENTRIES`], so a lookup reads one stretch of a few hundred bytes. Of each hash only so many
//! bits are kept that few lookups find a block too many (see [`SPARE_HASH_BITS`]).
//!
//! A hash may stand for several tokens: an answer is a superset, never less.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::block_set::BlockSet;
use super::{Error, files};

const MAGIC: &[u8; 4] = b"TFLP";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 16;
const PADDING: usize = 8;
const CRC_BYTES: usize = 4;
/// Aimed-at length of a bucket.
const BUCKET_ENTRIES: usize = 64;
/// Bits of a hash beyond those that tell the entries apart: 1 lookup in 64 gives a block too many.
const SPARE_HASH_BITS: u32 = 6;
/// Bounds the table of bucket starts to 64 MiB.
const BUCKET_BITS_MAX: u32 = 24;
/// An entry must fit a u64 that begins inside a byte: 32 + 24 + 7 bits.
pub(super) const BLOCK_BITS_MAX: u32 = 24;

/// Adds a pair of hash and block to those that will be written.
pub(super) fn entry(hash: u32, block: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(block)
}

/// The file of these entries. Sorts them.
pub(super) fn encode(entries: &mut [u64], blocks: u32) -> Vec<u8> {
    entries.sort_unstable();
    let shape = Shape::new(entries.len(), blocks);
    let width = shape.entry_bits() as usize;
    let mut starts = Vec::with_capacity((1 << shape.bucket_bits) + 1);
    let mut out = Vec::with_capacity((entries.len() * width).div_ceil(8));
    let (mut pending, mut pending_bits) = (0_u128, 0);
    for (index, &entry) in entries.iter().enumerate() {
        let bucket = shape.bucket((entry >> 32) as u32);
        while starts.len() <= bucket {
            starts.push(index as u32);
        }
        pending |= u128::from(shape.pack(entry)) << pending_bits;
        pending_bits += width;
        while pending_bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            pending_bits -= 8;
        }
    }
    if pending_bits > 0 {
        out.push(pending as u8);
    }
    starts.resize((1 << shape.bucket_bits) + 1, entries.len() as u32);
    let mut file = Vec::with_capacity(HEAD_BYTES + starts.len() * 4 + out.len() + PADDING + 4);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&FORMAT.to_le_bytes());
    file.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    file.extend_from_slice(&[
        shape.hash_bits as u8,
        shape.bucket_bits as u8,
        shape.block_bits as u8,
        0,
    ]);
    starts.iter().for_each(|start| file.extend_from_slice(&start.to_le_bytes()));
    file.extend_from_slice(&out);
    file.extend_from_slice(&[0; PADDING]);
    let crc = crc32fast::hash(&file);
    file.extend_from_slice(&crc.to_le_bytes());
    file
}

#[derive(Clone, Copy)]
struct Shape {
    hash_bits: u32,
    bucket_bits: u32,
    block_bits: u32,
}

impl Shape {
    fn new(entries: usize, blocks: u32) -> Self {
        let bucket_bits = (entries / BUCKET_ENTRIES).max(1).ilog2().min(BUCKET_BITS_MAX);
        Self {
            hash_bits: (entries.max(1).ilog2() + SPARE_HASH_BITS).clamp(bucket_bits, u32::BITS),
            bucket_bits,
            block_bits: u32::BITS - blocks.saturating_sub(1).leading_zeros(),
        }
    }

    fn entry_bits(self) -> u32 {
        self.hash_bits - self.bucket_bits + self.block_bits
    }

    fn bucket(self, hash: u32) -> usize {
        (u64::from(hash) >> (u32::BITS - self.bucket_bits)) as usize
    }

    fn rest(self, hash: u32) -> u64 {
        let kept = u64::from(hash) >> (u32::BITS - self.hash_bits);
        kept & ((1 << (self.hash_bits - self.bucket_bits)) - 1)
    }

    fn pack(self, entry: u64) -> u64 {
        self.rest((entry >> 32) as u32) << self.block_bits | (entry & u64::from(u32::MAX))
    }
}

/// An open file of postings. Only the bucket starts are in memory.
pub(super) struct Prints {
    file: File,
    starts: Vec<u32>,
    shape: Shape,
}

impl Prints {
    /// Opens a file and checks it whole.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let damaged = |what: &str| Error::Damaged { path: path.to_owned(), what: what.into() };
        let (_, bytes) = files::checksum(path)?;
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut whole = vec![0; usize::try_from(bytes).map_err(|_| damaged("length"))?];
        file.read_exact_at(&mut whole, 0).map_err(Error::io("read", path))?;
        let body_bytes = whole.len().checked_sub(CRC_BYTES).ok_or_else(|| damaged("cut short"))?;
        let (body, crc) = whole.split_at(body_bytes);
        if crc != crc32fast::hash(body).to_le_bytes() {
            return Err(damaged("checksum"));
        }
        let (starts, shape) = parse(body).ok_or_else(|| damaged("shape"))?;
        Ok(Self { file, starts, shape })
    }

    /// Adds the blocks that may have a token with this hash.
    pub(super) fn find(&self, hash: u32, into: &mut BlockSet) -> std::io::Result<()> {
        let bucket = self.shape.bucket(hash);
        let (first, last) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let width = self.shape.entry_bits() as usize;
        let (from, to) = (first * width / 8, (last * width).div_ceil(8) + PADDING);
        let mut bytes = vec![0; to - from];
        let offset = HEAD_BYTES + self.starts.len() * 4 + from;
        self.file.read_exact_at(&mut bytes, offset as u64)?;
        let wanted = self.shape.rest(hash);
        for index in first..last {
            let bit = index * width - from * 8;
            let Some(word) = bytes.get(bit / 8..).and_then(|rest| rest.first_chunk()) else {
                break;
            };
            let packed = u64::from_le_bytes(*word) >> (bit % 8) & ((1 << width) - 1);
            if packed >> self.shape.block_bits == wanted {
                into.insert((packed & ((1 << self.shape.block_bits) - 1)) as u32);
            }
        }
        Ok(())
    }
}

/// The bucket starts of a file whose checksum held; `None` if it still makes no sense.
fn parse(body: &[u8]) -> Option<(Vec<u32>, Shape)> {
    let (head, rest) = body.split_at_checked(HEAD_BYTES)?;
    let [hash_bits, bucket_bits, block_bits] = [12, 13, 14].map(|at| u32::from(head[at]));
    let entries = u32::from_le_bytes(*head[8..].first_chunk()?);
    let known = &head[..4] == MAGIC && head[4..8] == FORMAT.to_le_bytes();
    let fits = bucket_bits <= BUCKET_BITS_MAX && block_bits <= BLOCK_BITS_MAX;
    if !known || !fits || !(bucket_bits..=u32::BITS).contains(&hash_bits) {
        return None;
    }
    let shape = Shape { hash_bits, bucket_bits, block_bits };
    let (starts, packed) = rest.split_at_checked(((1 << bucket_bits) + 1) * 4)?;
    let starts: Vec<u32> =
        starts.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    let bits = u64::from(entries) * u64::from(shape.entry_bits());
    let whole = packed.len() as u64 == bits.div_ceil(8) + PADDING as u64;
    (whole && starts.is_sorted() && starts.last() == Some(&entries)).then_some((starts, shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(entries: &[(u32, u32)], blocks: u32) -> (tempfile::NamedTempFile, Vec<u8>) {
        let mut packed: Vec<u64> =
            entries.iter().map(|&(hash, block)| entry(hash, block)).collect();
        let bytes = encode(&mut packed, blocks);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        (file, bytes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn finds_every_entry_and_only_those_of_the_kept_bits(
            blocks in 1_u32..300,
            spread in prop::sample::select(vec![7_u32, 1 << 12, u32::MAX]),
            raw in proptest::collection::vec(any::<(u32, u32)>(), 0..1500),
        ) {
            let entries: Vec<(u32, u32)> =
                raw.iter().map(|(h, b)| ((h % spread).wrapping_mul(0x0100_0193), b % blocks)).collect();
            let (file, _) = written(&entries, blocks);
            let prints = Prints::open(file.path()).unwrap();
            for &(hash, _) in entries.iter().take(50).chain(&[(1, 0), (u32::MAX, 0), (0, 0)]) {
                let mut expected = BlockSet::none(blocks);
                let cut = u32::BITS - Shape::new(entries.len(), blocks).hash_bits;
                let is_same = |other: u32| u64::from(other) >> cut == u64::from(hash) >> cut;
                entries.iter().filter(|e| is_same(e.0)).for_each(|e| expected.insert(e.1));
                let mut found = BlockSet::none(blocks);
                prints.find(hash, &mut found).unwrap();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn a_flipped_bit_is_an_error(
            raw in proptest::collection::vec(any::<(u32, u8)>(), 0..200),
            at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let entries: Vec<(u32, u32)> = raw.iter().map(|&(h, b)| (h, u32::from(b))).collect();
            let (file, mut bytes) = written(&entries, 256);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            std::fs::write(file.path(), &bytes).unwrap();
            prop_assert!(Prints::open(file.path()).is_err());
            std::fs::write(file.path(), &bytes[..at]).unwrap();
            prop_assert!(Prints::open(file.path()).is_err());
        }
    }
}
