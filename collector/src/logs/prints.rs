//! Fingerprint postings: which blocks of a segment have a token with this hash.
//!
//! ```text
//! magic "TFLP", format u32, entries u32, hash bits u8, bucket bits u8, block bits u8, a zero byte
//! bucket starts   u32 each, one more than there are buckets: in format 2 the bit where each begins, in
//!                 format 1 how many entries come before it
//! entries         sorted by (hash, block); of a hash the upper bits without the bucket bits are kept
//!   format 2      difference to the hash before in the bucket, Rice-coded (as many ones as it has
//!                 times 2^SPARE_HASH_BITS, a zero, SPARE_HASH_BITS bits), then the block number
//!   format 1      each in as many bits: the hash above the block number
//!                 then eight zero bytes, so that each can be read as a u64
//! crc32           of all before, u32
//! ```
//! All numbers little endian, bits from the lowest on. The upper bits of a hash choose its bucket of
//! about [`BUCKET_ENTRIES`], so a lookup reads one stretch of a hundred bytes. Of each hash only so many
//! bits are kept that few lookups find a block too many (see [`SPARE_HASH_BITS`]).
//!
//! A hash may stand for several tokens: an answer is a superset, never less.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::block_set::BlockSet;
use super::{Error, files};

const MAGIC: &[u8; 4] = b"TFLP";
const FORMAT: u32 = 2;
const FORMAT_OLDEST: u32 = 1;
const HEAD_BYTES: usize = 16;
const PADDING: usize = 8;
const CRC_BYTES: usize = 4;
/// Aimed-at length of a bucket.
const BUCKET_ENTRIES: usize = 64;
/// Bits of a hash beyond those that tell the entries apart: 1 lookup in 8 gives a block too many, which
/// costs less than the bits would. Long ids have several hashes.
const SPARE_HASH_BITS: u32 = 3;
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
    let mut starts = Vec::with_capacity((1 << shape.bucket_bits) + 1);
    let mut bits = Bits::default();
    let mut last = (0, None);
    let mut kept = 0_u32;
    for &entry in entries.iter() {
        let (hash, block) = ((entry >> 32) as u32, entry & u64::from(u32::MAX));
        let bucket = shape.bucket(hash);
        if starts.len() <= bucket {
            starts.resize(bucket + 1, bits.len());
            last = (0, None);
        }
        let rest = shape.rest(hash);
        if last == (rest, Some(block)) {
            continue;
        }
        let step = rest - last.0;
        (0..step >> SPARE_HASH_BITS).for_each(|_| bits.push(1, 1));
        bits.push((step & ((1 << SPARE_HASH_BITS) - 1)) << 1, 1 + SPARE_HASH_BITS);
        bits.push(block, shape.block_bits);
        last = (rest, Some(block));
        kept += 1;
    }
    starts.resize((1 << shape.bucket_bits) + 1, bits.len());
    let out = bits.finish();
    let mut file = Vec::with_capacity(HEAD_BYTES + starts.len() * 4 + out.len() + PADDING + 4);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&FORMAT.to_le_bytes());
    file.extend_from_slice(&kept.to_le_bytes());
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

/// Bits, one number after the other.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u64,
    filled: u32,
}

impl Bits {
    /// At most 32 bits at a time.
    fn push(&mut self, number: u64, bits: u32) {
        self.pending |= number << self.filled;
        self.filled += bits;
        while self.filled >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.filled -= 8;
        }
    }

    fn len(&self) -> u32 {
        self.bytes.len() as u32 * 8 + self.filled
    }

    fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
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

    /// Of format 1.
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
}

/// An open file of postings. Only the bucket starts are in memory.
pub(super) struct Prints {
    file: File,
    format: u32,
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
        let (format, starts, shape) = parse(body).ok_or_else(|| damaged("shape"))?;
        Ok(Self { file, format, starts, shape })
    }

    /// Adds the blocks that may have a token with this hash.
    pub(super) fn find(&self, hash: u32, into: &mut BlockSet) -> std::io::Result<()> {
        let bucket = self.shape.bucket(hash);
        let (first, last) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let each = if self.format == 1 { self.shape.entry_bits() as usize } else { 1 };
        let (from, to) = (first * each / 8, (last * each).div_ceil(8) + PADDING);
        let mut bytes = vec![0; to - from];
        let offset = HEAD_BYTES + self.starts.len() * 4 + from;
        self.file.read_exact_at(&mut bytes, offset as u64)?;
        let bits = (first * each - from * 8)..(last * each - from * 8);
        match self.format {
            1 => self.find_in_1(&bytes, bits, hash, into),
            _ => self.find_in_2(&bytes, bits, hash, into),
        }
        Ok(())
    }

    fn find_in_1(&self, bytes: &[u8], bits: Range<usize>, hash: u32, into: &mut BlockSet) {
        let width = self.shape.entry_bits();
        let wanted = self.shape.rest(hash);
        for bit in bits.step_by(width.max(1) as usize) {
            let packed = peek(bytes, bit) & ((1 << width) - 1);
            if packed >> self.shape.block_bits == wanted {
                into.insert((packed & ((1 << self.shape.block_bits) - 1)) as u32);
            }
        }
    }

    fn find_in_2(&self, bytes: &[u8], bits: Range<usize>, hash: u32, into: &mut BlockSet) {
        let wanted = self.shape.rest(hash);
        let (mut bit, mut rest) = (bits.start, 0);
        while bit < bits.end && rest <= wanted {
            while bit < bits.end && peek(bytes, bit) & 1 == 1 {
                rest += 1 << SPARE_HASH_BITS;
                bit += 1;
            }
            let tail = peek(bytes, bit) >> 1;
            rest += tail & ((1 << SPARE_HASH_BITS) - 1);
            let block = tail >> SPARE_HASH_BITS & ((1 << self.shape.block_bits) - 1);
            if rest == wanted {
                into.insert(block as u32);
            }
            bit += (1 + SPARE_HASH_BITS + self.shape.block_bits) as usize;
        }
    }
}

/// At least 56 bits from a bit on; zeros behind the end.
fn peek(bytes: &[u8], bit: usize) -> u64 {
    let word = bytes.get(bit / 8..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word) >> (bit % 8))
}

/// Format, bucket starts and shape of a file whose checksum held; `None` if it still makes no sense.
fn parse(body: &[u8]) -> Option<(u32, Vec<u32>, Shape)> {
    let (head, rest) = body.split_at_checked(HEAD_BYTES)?;
    let [hash_bits, bucket_bits, block_bits] = [12, 13, 14].map(|at| u32::from(head[at]));
    let format = u32::from_le_bytes(*head[4..].first_chunk()?);
    let entries = u32::from_le_bytes(*head[8..].first_chunk()?);
    let known = &head[..4] == MAGIC && (FORMAT_OLDEST..=FORMAT).contains(&format);
    let fits = bucket_bits <= BUCKET_BITS_MAX && block_bits <= BLOCK_BITS_MAX;
    if !known || !fits || !(bucket_bits..=u32::BITS).contains(&hash_bits) {
        return None;
    }
    let shape = Shape { hash_bits, bucket_bits, block_bits };
    let (starts, packed) = rest.split_at_checked(((1 << bucket_bits) + 1) * 4)?;
    let starts: Vec<u32> =
        starts.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    let last = *starts.last()?;
    let bits = match format {
        1 if last == entries => u64::from(entries) * u64::from(shape.entry_bits()),
        1 => return None,
        _ => u64::from(last),
    };
    let whole = packed.len() as u64 == bits.div_ceil(8) + PADDING as u64;
    (whole && starts.is_sorted()).then_some((format, starts, shape))
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
        fn files_of_format_1_are_read(
            blocks in 1_u32..300, raw in proptest::collection::vec(any::<(u32, u32)>(), 0..300),
        ) {
            let shape = Shape::new(raw.len(), blocks);
            let mut entries: Vec<(u32, u32)> = raw.iter().map(|&(h, b)| (h, b % blocks)).collect();
            entries.sort_unstable();
            let (mut starts, mut bits) = (Vec::new(), Bits::default());
            for (index, &(hash, block)) in (0..).zip(&entries) {
                while starts.len() <= shape.bucket(hash) {
                    starts.push(index);
                }
                bits.push(u64::from(block), shape.block_bits);
                bits.push(shape.rest(hash), shape.hash_bits - shape.bucket_bits);
            }
            starts.resize((1 << shape.bucket_bits) + 1, entries.len() as u32);
            let mut body = [&MAGIC[..], &1_u32.to_le_bytes(), &(entries.len() as u32).to_le_bytes()].concat();
            body.extend([shape.hash_bits, shape.bucket_bits, shape.block_bits, 0].map(|bits| bits as u8));
            starts.iter().for_each(|start| body.extend(start.to_le_bytes()));
            body.extend(bits.finish());
            body.extend([0; PADDING]);
            body.extend(crc32fast::hash(&body).to_le_bytes());
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &body).unwrap();
            let prints = Prints::open(file.path()).unwrap();
            for &(hash, block) in &entries {
                let mut found = BlockSet::none(blocks);
                prints.find(hash, &mut found).unwrap();
                prop_assert!(found.contains(block));
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
