//! A block: consecutive lines of one stream, compressed column by column.
//!
//! ```text
//! payload   text       zstd     the rows' texts, each followed by a newline byte
//!           lengths    pco u32  bytes of each row's text
//!           times      pco i64  nanoseconds, ascending
//!           levels     zstd     one byte a row; absent when all rows have the level in the flags
//!           metadata   zstd     absent when no row has any; before compression, u32 little endian:
//!                               text bytes, pair count, (name end, value end) of each pair,
//!                               pair end of each row, then the text of all names and values
//! header    77 bytes, little endian, kept apart from the payload:
//!           stream u32, rows u32, text bytes u32, first time i64, last time i64, offset u64,
//!           five times (bytes u32, crc32 u32) of the columns as compressed, flags u8
//! flags     bits 0-2 the level of all rows, bit 3 all rows have it, bit 4 opaque (see `token`)
//! ```
//!
//! Invariant: a column is used only after its checksum held, and its shape is checked against the
//! header; damage gives an error, never a wrong row and never a panic.

use taffrail_model::{Nanos, limits};

use super::rows::{Metadata, Rows, SEPARATOR};

/// Length of a header on disk, in bytes.
pub(super) const HEADER_BYTES: usize = 4 * 3 + 8 * 3 + COLUMNS * 8 + 1;
/// Most text of one block: one request body as a single line, and its separator.
const TEXT_BYTES_MAX: usize = limits::BODY_BYTES_MAX + 1;
/// Most metadata of one block after decompression. Blocks are cut far below.
const METADATA_BYTES_MAX: usize = 1 << 28;

const COLUMNS: usize = 5;
const TEXT: usize = 0;
const LENGTHS: usize = 1;
const TIMES: usize = 2;
const LEVELS: usize = 3;
const METADATA: usize = 4;

const ONE_LEVEL: u8 = 1 << 3;
const OPAQUE: u8 = 1 << 4;
const LEVEL_MASK: u8 = 7;

/// What is known of a block without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of the stream in the table of streams.
    pub(super) stream: u32,
    /// How many rows it has.
    pub(super) rows: u32,
    /// Length of its text with separators, in bytes.
    pub(super) text_bytes: u32,
    /// Time of the first row.
    pub(super) first: Nanos,
    /// Time of the last row.
    pub(super) last: Nanos,
    /// Where the payload begins in the file of blocks.
    pub(super) offset: u64,
    columns: [Column; COLUMNS],
    flags: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Column {
    bytes: u32,
    crc: u32,
}

/// A block or a header that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged block: {0}")]
pub(super) struct Damage(pub(super) &'static str);

impl Header {
    /// Length of the payload, in bytes.
    pub(super) fn payload_bytes(&self) -> usize {
        self.columns.iter().map(|c| c.bytes as usize).sum()
    }

    /// Where the column of times lies in the file of blocks, and its length.
    pub(super) fn times_at(&self) -> (u64, usize) {
        let before = u64::from(self.columns[TEXT].bytes) + u64::from(self.columns[LENGTHS].bytes);
        (self.offset.saturating_add(before), self.columns[TIMES].bytes as usize)
    }

    /// Whether no fragment of a token can rule the block out.
    pub(super) fn is_opaque(&self) -> bool {
        self.flags & OPAQUE != 0
    }

    /// Appends the header as it lies on disk.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for number in [self.stream, self.rows, self.text_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        for column in self.columns {
            out.extend_from_slice(&column.bytes.to_le_bytes());
            out.extend_from_slice(&column.crc.to_le_bytes());
        }
        out.push(self.flags);
    }

    /// Reads a header; `None` when there are not enough bytes.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let mut header = Self {
            stream: take_u32(bytes)?,
            rows: take_u32(bytes)?,
            text_bytes: take_u32(bytes)?,
            first: take_u64(bytes)?.cast_signed(),
            last: take_u64(bytes)?.cast_signed(),
            offset: take_u64(bytes)?,
            columns: [Column::default(); COLUMNS],
            flags: 0,
        };
        for column in &mut header.columns {
            *column = Column { bytes: take_u32(bytes)?, crc: take_u32(bytes)? };
        }
        header.flags = *bytes.first()?;
        Some(header)
    }
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*head))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*head))
}

/// Decompresses blocks; keeps its state, which is large, from block to block.
pub(super) struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Decoder {
    /// A decoder for any number of blocks.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Decompressor::new()? })
    }

    fn unzstd(&mut self, bytes: &[u8], expected: usize) -> Result<Vec<u8>, Damage> {
        if expected > TEXT_BYTES_MAX {
            return Err(Damage("longer than any block"));
        }
        let out = self.zstd.decompress(bytes, expected).map_err(|_| Damage("zstd"))?;
        if out.len() == expected { Ok(out) } else { Err(Damage("length after zstd")) }
    }
}

/// Compresses blocks; keeps its state.
pub(super) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    pco: pco::ChunkConfig,
}

impl Encoder {
    /// An encoder with a level of zstd.
    pub(super) fn new(level: i32) -> std::io::Result<Self> {
        let pco = pco::ChunkConfig::default().with_compression_level(PCO_LEVEL);
        Ok(Self { zstd: zstd::bulk::Compressor::new(level)?, pco })
    }

    /// Appends the payload of these rows, sorted by time and at least one, to `out` and returns the
    /// header of the block, as if `out` began at `offset` in the file.
    pub(super) fn encode(
        &mut self,
        stream: u32,
        rows: &Rows,
        is_opaque: bool,
        out: &mut Vec<u8>,
    ) -> std::io::Result<Header> {
        debug_assert!(rows.len() > 0 && rows.is_sorted());
        let level = rows.levels[0] & LEVEL_MASK;
        let one_level = rows.levels.iter().all(|&l| l == level);
        let mut header = Header {
            stream,
            rows: rows.len() as u32,
            text_bytes: rows.text.len() as u32,
            first: rows.ts[0],
            last: rows.ts[rows.len() - 1],
            offset: 0,
            columns: [Column::default(); COLUMNS],
            flags: if one_level { ONE_LEVEL | level } else { 0 }
                | if is_opaque { OPAQUE } else { 0 },
        };
        let lengths: Vec<u32> =
            (0..rows.len()).map(|row| rows.ends[row] - rows.start(row) as u32).collect();
        let mut column = |index: usize, bytes: &[u8]| {
            header.columns[index] =
                Column { bytes: bytes.len() as u32, crc: crc32fast::hash(bytes) };
            out.extend_from_slice(bytes);
        };
        column(TEXT, &self.zstd.compress(rows.text.as_bytes())?);
        column(LENGTHS, &self.numbers(&lengths)?);
        column(TIMES, &self.numbers(&rows.ts)?);
        if !one_level {
            column(LEVELS, &self.zstd.compress(&rows.levels)?);
        }
        if !rows.metadata.ends.is_empty() {
            column(METADATA, &self.zstd.compress(&write_metadata(&rows.metadata))?);
        }
        Ok(header)
    }

    fn numbers<T: pco::data_types::Number>(&self, numbers: &[T]) -> std::io::Result<Vec<u8>> {
        pco::standalone::simple_compress(numbers, &self.pco).map_err(std::io::Error::other)
    }
}

/// Pco's own default is 8; from 4 on the size hardly changes and the time doubles.
const PCO_LEVEL: usize = 4;

fn write_metadata(metadata: &Metadata) -> Vec<u8> {
    let numbers = 2 + metadata.pairs.len() * 2 + metadata.ends.len();
    let mut out = Vec::with_capacity(numbers * 4 + metadata.text.len());
    out.extend_from_slice(&(metadata.text.len() as u32).to_le_bytes());
    out.extend_from_slice(&(metadata.pairs.len() as u32).to_le_bytes());
    for (name_end, value_end) in &metadata.pairs {
        out.extend_from_slice(&name_end.to_le_bytes());
        out.extend_from_slice(&value_end.to_le_bytes());
    }
    for end in &metadata.ends {
        out.extend_from_slice(&end.to_le_bytes());
    }
    out.extend_from_slice(metadata.text.as_bytes());
    out
}

/// The rows of a block.
pub(super) fn decode(
    header: &Header,
    payload: &[u8],
    decoder: &mut Decoder,
) -> Result<Rows, Damage> {
    let columns = split(header, payload)?;
    let count = header.rows as usize;
    let text = decoder.unzstd(columns[TEXT], header.text_bytes as usize)?;
    let text = String::from_utf8(text).map_err(|_| Damage("text is not UTF-8"))?;
    let ends = read_ends(&numbers::<u32>(columns[LENGTHS], count)?, text.as_bytes())?;
    let levels = if header.flags & ONE_LEVEL != 0 {
        vec![header.flags & LEVEL_MASK; count]
    } else {
        decoder.unzstd(columns[LEVELS], count)?
    };
    let metadata = match columns[METADATA] {
        [] => Metadata::default(),
        bytes => read_metadata(bytes, count)?,
    };
    let ts = sorted_times(header, columns[TIMES])?;
    Ok(Rows { text, ends, ts, levels, metadata })
}

/// The times of a block from the bytes of that column alone.
pub(super) fn decode_times(header: &Header, column: &[u8]) -> Result<Vec<Nanos>, Damage> {
    check(header.columns[TIMES], column)?;
    sorted_times(header, column)
}

fn sorted_times(header: &Header, column: &[u8]) -> Result<Vec<Nanos>, Damage> {
    let times = numbers::<i64>(column, header.rows as usize)?;
    let fits = times.first() == Some(&header.first) && times.last() == Some(&header.last);
    if fits && times.is_sorted() { Ok(times) } else { Err(Damage("times")) }
}

fn split<'a>(header: &Header, mut payload: &'a [u8]) -> Result<[&'a [u8]; COLUMNS], Damage> {
    let mut columns = [&[] as &[u8]; COLUMNS];
    for (slot, column) in columns.iter_mut().zip(header.columns) {
        let (head, rest) =
            payload.split_at_checked(column.bytes as usize).ok_or(Damage("cut short"))?;
        check(column, head)?;
        *slot = head;
        payload = rest;
    }
    Ok(columns)
}

fn check(column: Column, bytes: &[u8]) -> Result<(), Damage> {
    let absent = bytes.is_empty() && column == Column::default();
    if absent || (bytes.len() == column.bytes as usize && crc32fast::hash(bytes) == column.crc) {
        return Ok(());
    }
    Err(Damage("checksum"))
}

fn numbers<T: pco::data_types::Number>(bytes: &[u8], count: usize) -> Result<Vec<T>, Damage> {
    let out = pco::standalone::simple_decompress(bytes).map_err(|_| Damage("pco"))?;
    if out.len() == count && count > 0 { Ok(out) } else { Err(Damage("count of numbers")) }
}

/// Row ends from row lengths; every end holds a separator, so every row is whole characters.
fn read_ends(lengths: &[u32], text: &[u8]) -> Result<Vec<u32>, Damage> {
    let mut ends = Vec::with_capacity(lengths.len());
    let mut start = 0_usize;
    for &length in lengths {
        let end = start + length as usize;
        if text.get(end) != Some(&SEPARATOR) {
            return Err(Damage("row ends"));
        }
        ends.push(end as u32);
        start = end + 1;
    }
    if start == text.len() { Ok(ends) } else { Err(Damage("text behind the last row")) }
}

fn read_metadata(bytes: &[u8], rows: usize) -> Result<Metadata, Damage> {
    let damage = Damage("metadata");
    let raw = zstd::bulk::Decompressor::upper_bound(bytes).ok_or(damage)?;
    let raw = zstd::bulk::decompress(bytes, raw.min(METADATA_BYTES_MAX)).map_err(|_| damage)?;
    let rest = &mut raw.as_slice();
    let text_bytes = take_u32(rest).ok_or(damage)? as usize;
    let pair_count = take_u32(rest).ok_or(damage)? as usize;
    if rest.len() != text_bytes + pair_count * 8 + rows * 4 {
        return Err(damage);
    }
    let mut metadata = Metadata::default();
    let mut from = 0;
    for _ in 0..pair_count {
        let pair = (take_u32(rest).ok_or(damage)?, take_u32(rest).ok_or(damage)?);
        if pair.0 < from || pair.1 < pair.0 {
            return Err(damage);
        }
        from = pair.1;
        metadata.pairs.push(pair);
    }
    for _ in 0..rows {
        metadata.ends.push(take_u32(rest).ok_or(damage)?);
    }
    if !metadata.ends.is_sorted() || metadata.ends.last().is_some_and(|&e| e as usize > pair_count)
    {
        return Err(damage);
    }
    metadata.text = str::from_utf8(rest).map_err(|_| damage)?.to_owned();
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::entries;
    use super::*;
    use proptest::prelude::*;
    use taffrail_model::LogEntry;

    fn decoder() -> Decoder {
        Decoder::new().unwrap()
    }

    fn encoded(mut entries: Vec<LogEntry>) -> (Rows, Header, Vec<u8>) {
        entries.sort_by_key(|e| e.ts);
        let mut rows = Rows::default();
        entries.iter().for_each(|e| rows.push_entry(e));
        let mut payload = Vec::new();
        let header = Encoder::new(1).unwrap().encode(7, &rows, true, &mut payload).unwrap();
        (rows, header, payload)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_round_trip(entries in entries()) {
            let (rows, header, payload) = encoded(entries);
            prop_assert_eq!(header.payload_bytes(), payload.len());
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            prop_assert_eq!(bytes.len(), HEADER_BYTES);
            prop_assert_eq!(Header::read(&bytes), Some(header.clone()));
            prop_assert_eq!(decode(&header, &payload, &mut decoder()), Ok(rows.clone()));
            let (at, len) = header.times_at();
            let column = &payload[at as usize..at as usize + len];
            prop_assert_eq!(decode_times(&header, column), Ok(rows.ts));
        }

        #[test]
        fn a_flipped_bit_is_an_error(entries in entries(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (_, header, mut payload) = encoded(entries);
            let at = at.index(payload.len());
            payload[at] ^= 1_u8 << bit;
            prop_assert!(decode(&header, &payload, &mut decoder()).is_err());
            prop_assert!(decode(&header, &payload[..at], &mut decoder()).is_err());
        }

        #[test]
        fn a_damaged_header_never_panics(entries in entries(), at in 0..HEADER_BYTES, bit in 0_u8..8) {
            // The file of headers has a checksum of its own; this is the second line.
            let (_, header, payload) = encoded(entries);
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            bytes[at] ^= 1_u8 << bit;
            let header = Header::read(&bytes).unwrap();
            decode(&header, &payload, &mut decoder()).ok();
            decode_times(&header, &payload).ok();
        }
    }
}
