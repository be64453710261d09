//! What is known of a block without reading it: counts, times, and where its columns lie.
//!
//! ```text
//! format 2, 101 bytes, little endian:
//!   stream u32, rows u32, text bytes u32, first time i64, last time i64, offset u64,
//!   eight times (bytes u32, crc32 u32) of the columns in the order of `COLUMNS`, flags u8
//! format 1, 77 bytes: the same with five columns: text, lengths, times, levels, metadata
//! flags: bits 0-2 the level of all rows, bit 3 all rows have it, bit 4 opaque, bit 5 UUIDs
//! (see `token`)
//! ```
//! A column of no bytes is absent. Headers of both formats become the same in memory.

use taffrail_model::Nanos;

use super::block::Damage;

/// How many columns a block may have.
pub(super) const COLUMNS: usize = 8;
/// Distinct templates (see `templates`).
pub(super) const TEMPLATES: usize = 0;
/// Template of each row; in format 1 the length of each row's text.
pub(super) const ROWS: usize = 1;
/// Time of each row.
pub(super) const TIMES: usize = 2;
/// Level of each row.
pub(super) const LEVELS: usize = 3;
/// Variables of digits (see `variables`).
pub(super) const DIGITS: usize = 4;
/// Variables of any bytes; in format 1 the text.
pub(super) const TEXTS: usize = 5;
/// Variables of hexadecimal digits, two to a byte.
pub(super) const NIBBLES: usize = 6;
/// Structured metadata.
pub(super) const METADATA: usize = 7;

/// The columns of format 1, in the order of the file.
const COLUMNS_1: [usize; 5] = [TEXTS, ROWS, TIMES, LEVELS, METADATA];

const FIXED_BYTES: usize = 4 * 3 + 8 * 3 + 1;

const ONE_LEVEL: u8 = 1 << 3;
const OPAQUE: u8 = 1 << 4;
const UUIDS: u8 = 1 << 5;
const LEVEL_MASK: u8 = 7;

/// What is known of a block without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The format of the block.
    pub(super) format: u32,
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
    /// Its columns.
    pub(super) columns: [Column; COLUMNS],
    flags: u8,
}

/// Where a column lies and what its checksum is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Column {
    /// Place in the payload.
    pub(super) at: u32,
    /// Length as compressed.
    pub(super) bytes: u32,
    /// Checksum of that.
    pub(super) crc: u32,
}

impl Column {
    /// The column in bytes that begin at `from` of the payload, its checksum held. An absent one is
    /// empty.
    pub(super) fn of<'b>(&self, bytes: &'b [u8], from: u32) -> Result<&'b [u8], Damage> {
        if self.bytes == 0 {
            return Ok(&[]);
        }
        let start = self.at.checked_sub(from).ok_or(Damage("place of a column"))? as usize;
        let end = start.saturating_add(self.bytes as usize);
        let column = bytes.get(start..end).ok_or(Damage("cut short"))?;
        if crc32fast::hash(column) == self.crc { Ok(column) } else { Err(Damage("checksum")) }
    }
}

/// Length of a header of a format, in bytes; none for a format that is not known.
pub(super) fn header_bytes(format: u32) -> Option<usize> {
    match format {
        1 => Some(FIXED_BYTES + COLUMNS_1.len() * 8),
        2 => Some(FIXED_BYTES + COLUMNS * 8),
        _ => None,
    }
}

impl Header {
    /// A header of the format that is written now, without columns.
    pub(super) fn new(stream: u32, rows: u32, text_bytes: u32, times: (Nanos, Nanos)) -> Self {
        Self {
            format: super::FORMAT,
            stream,
            rows,
            text_bytes,
            first: times.0,
            last: times.1,
            offset: 0,
            columns: [Column::default(); COLUMNS],
            flags: 0,
        }
    }

    /// Says that all rows have this level.
    pub(super) fn set_level(&mut self, level: u8) {
        self.flags |= ONE_LEVEL | (level & LEVEL_MASK);
    }

    /// Says whether some token is too long for its inside to be indexed.
    pub(super) fn set_opaque(&mut self, is_opaque: bool) {
        self.flags |= if is_opaque { OPAQUE } else { 0 };
    }

    /// Says whether there is a UUID.
    pub(super) fn set_uuids(&mut self, has_uuids: bool) {
        self.flags |= if has_uuids { UUIDS } else { 0 };
    }

    /// Whether there is a UUID.
    pub(super) fn has_uuids(&self) -> bool {
        self.flags & UUIDS != 0
    }

    /// The level of all rows, if it is one.
    pub(super) fn level(&self) -> Option<u8> {
        (self.flags & ONE_LEVEL != 0).then_some(self.flags & LEVEL_MASK)
    }

    /// Whether no fragment of a token can rule the block out.
    pub(super) fn is_opaque(&self) -> bool {
        self.flags & OPAQUE != 0
    }

    /// Length of the payload, in bytes.
    pub(super) fn payload_bytes(&self) -> usize {
        self.columns.iter().map(|c| c.bytes as usize).sum()
    }

    /// The stretch of the payload that holds columns `from` to `to`, in the order of [`COLUMNS`].
    pub(super) fn stretch(&self, from: usize, to: usize) -> (u32, usize) {
        let columns = self.columns[from..=to].iter().filter(|column| column.bytes > 0);
        let start = columns.clone().map(|column| column.at).min().unwrap_or_default();
        let end = columns.map(|column| column.at.saturating_add(column.bytes)).max();
        (start, end.unwrap_or(start).saturating_sub(start) as usize)
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

    /// Reads a header of a format; `None` when there are not enough bytes.
    pub(super) fn read(format: u32, mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let (stream, rows, text_bytes) = (take_u32(bytes)?, take_u32(bytes)?, take_u32(bytes)?);
        let times = (take_u64(bytes)?.cast_signed(), take_u64(bytes)?.cast_signed());
        let mut header = Self::new(stream, rows, text_bytes, times);
        header.format = format;
        header.offset = take_u64(bytes)?;
        let all: [usize; COLUMNS] = std::array::from_fn(|index| index);
        let mut at = 0_u32;
        for &index in if format == 1 { &COLUMNS_1[..] } else { &all } {
            let (length, crc) = (take_u32(bytes)?, take_u32(bytes)?);
            header.columns[index] = Column { at, bytes: length, crc };
            at = at.saturating_add(length);
        }
        header.flags = *bytes.first()?;
        Some(header)
    }
}

/// Takes a number off the front.
pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*head))
}

/// Takes a number off the front.
pub(super) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_come_back(
            numbers in any::<[u32; 3]>(), times in any::<(i64, i64)>(), offset in any::<u64>(),
            lengths in any::<[u16; COLUMNS]>(), level in prop::option::of(0_u8..8), opaque in any::<bool>(),
        ) {
            let mut header = Header::new(numbers[0], numbers[1], numbers[2], times);
            header.offset = offset;
            let mut at = 0;
            for (column, length) in header.columns.iter_mut().zip(lengths) {
                *column = Column { at, bytes: length.into(), crc: at ^ 77 };
                at += u32::from(length);
            }
            if let Some(level) = level {
                header.set_level(level);
            }
            header.set_opaque(opaque);
            prop_assert_eq!((header.level(), header.is_opaque()), (level, opaque));
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            prop_assert_eq!(Some(bytes.len()), header_bytes(2));
            prop_assert_eq!(Header::read(2, &bytes), Some(header));
            prop_assert_eq!(Header::read(2, &bytes[1..]), None);
        }
    }

    #[test]
    fn columns_of_format_1_have_their_own_order() {
        let mut bytes = vec![0; 36];
        for column in [[5_u32, 1], [6, 2], [7, 3], [0, 0], [9, 4]].as_flattened() {
            bytes.extend_from_slice(&column.to_le_bytes());
        }
        bytes.push(0);
        assert_eq!(Some(bytes.len()), header_bytes(1));
        let header = Header::read(1, &bytes).unwrap();
        assert_eq!(header.columns[TEXTS], Column { at: 0, bytes: 5, crc: 1 });
        assert_eq!(header.columns[TIMES], Column { at: 11, bytes: 7, crc: 3 });
        assert_eq!(header.columns[METADATA], Column { at: 18, bytes: 9, crc: 4 });
        assert_eq!(header.payload_bytes(), 27);
    }
}
