//! A block: consecutive lines of one stream, compressed column by column.
//!
//! ```text
//! payload   templates  zstd     the distinct templates of the lines (see `templates`)
//! (format 2) rows      zstd     template of each row, as u8, u16 or u32, whatever holds their count;
//!                               absent when there is one template
//!           times      packed   see `times`
//!           levels     zstd     one byte a row; absent when each template's rows have one level
//!           digits, texts  zstd, nibbles  plain    the values of variables (see `variables`)
//!           metadata   zstd     absent when no row has any (see `metadata`)
//! payload   text       zstd     the rows' texts, each followed by a newline byte
//! (format 1) lengths   pco u32  bytes of each row's text
//!           times      pco i64  nanoseconds, ascending
//!           levels     zstd     one byte a row; absent when all rows have the level in the flags
//!           metadata   zstd     as above
//! ```
//! The header is kept apart (see `header`). Templates, rows, times and levels lie together, so that
//! counting reads them at once and never the variables.
//!
//! Invariant: a column is used only after its checksum held, and its shape is checked against the
//! header; damage gives an error, never a wrong row and never a panic.

use taffrail_model::{Nanos, limits};

use super::header::{
    self, COLUMNS, Column, DIGITS, Header, LEVELS, METADATA, NIBBLES, ROWS, TEMPLATES, TEXTS, TIMES,
};
use super::rows::{Metadata, Rows, SEPARATOR};
use super::split::Splitter;
use super::templates::MIXED;
use super::terms::Terms;
use super::{metadata, times};

/// Most bytes of one column: one request body as a single line, its separator, and what describes
/// templates and slots when every row is its own.
const COLUMN_BYTES_MAX: usize = 8 * limits::BODY_BYTES_MAX;

/// A block or a header that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged block: {0}")]
pub(super) struct Damage(pub(super) &'static str);

/// Decompresses blocks; keeps its state, which is large, from block to block.
pub(super) struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Decoder {
    /// A decoder for any number of blocks.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Decompressor::new()? })
    }

    /// A column of a known length; an absent one is empty.
    pub(super) fn unzstd_exact(
        &mut self,
        bytes: &[u8],
        expected: usize,
    ) -> Result<Vec<u8>, Damage> {
        if expected > COLUMN_BYTES_MAX {
            return Err(Damage("longer than any block"));
        }
        let out = self.zstd.decompress(bytes, expected).map_err(|_| Damage("zstd"))?;
        if out.len() == expected { Ok(out) } else { Err(Damage("length after zstd")) }
    }

    /// A column whose length its frame says; an absent one is empty.
    pub(super) fn unzstd(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Damage> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let length = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten();
        let length = length.and_then(|length| usize::try_from(length).ok());
        self.unzstd_exact(bytes, length.ok_or(Damage("length of a frame"))?)
    }
}

/// Splits and compresses blocks; keeps its state.
pub(super) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    splitter: Splitter,
}

impl Encoder {
    /// An encoder with a level of zstd.
    pub(super) fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(level)?, splitter: Splitter::new() })
    }

    /// Appends the payload of these rows, sorted by time and at least one, to `out` and returns the
    /// header of the block, as if `out` began at its offset in the file. The terms of the block are in
    /// `terms` then.
    pub(super) fn encode(
        &mut self,
        stream: u32,
        rows: &Rows,
        terms: &mut Terms,
        out: &mut Vec<u8>,
    ) -> std::io::Result<Header> {
        debug_assert!(rows.len() > 0 && rows.is_sorted());
        let parts = self.splitter.split(rows, terms);
        let ends = (rows.ts[0], rows.ts[rows.len() - 1]);
        let mut header = Header::new(stream, rows.len() as u32, rows.text.len() as u32, ends);
        header.set_opaque(terms.is_opaque());
        header.set_uuids(terms.has_uuids());
        let level = rows.levels[0];
        if rows.levels.iter().all(|&l| l == level) {
            header.set_level(level);
        }
        let templates = &parts.templates;
        let mut columns: [Vec<u8>; COLUMNS] = Default::default();
        columns[TEMPLATES] = self.zstd(&templates.write())?;
        if templates.len() > 1 {
            columns[ROWS] = self.zstd(&row_bytes(&self.splitter.row_templates, templates.len()))?;
        }
        columns[TIMES] = times::encode(&rows.ts)?;
        if templates.levels.contains(&MIXED) {
            columns[LEVELS] = self.zstd(&rows.levels)?;
        }
        columns[DIGITS] = self.zstd(&parts.digits)?;
        columns[TEXTS] = self.zstd(&parts.texts)?;
        columns[NIBBLES] = parts.nibbles;
        if !rows.metadata.ends.is_empty() {
            columns[METADATA] = self.zstd(&metadata::write(&rows.metadata))?;
        }
        let start = out.len();
        for (column, bytes) in header.columns.iter_mut().zip(&columns) {
            let at = (out.len() - start) as u32;
            *column = Column { at, bytes: bytes.len() as u32, crc: crc32fast::hash(bytes) };
            out.extend_from_slice(bytes);
        }
        Ok(header)
    }

    /// No bytes become none, so that an absent column is one.
    fn zstd(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        if bytes.is_empty() { Ok(Vec::new()) } else { self.zstd.compress(bytes) }
    }
}

/// Template numbers in as few bytes as hold `count` of them.
fn row_bytes(rows: &[u32], count: usize) -> Vec<u8> {
    match row_width(count) {
        1 => rows.iter().map(|&row| row as u8).collect(),
        2 => rows.iter().flat_map(|&row| (row as u16).to_le_bytes()).collect(),
        _ => rows.iter().flat_map(|&row| row.to_le_bytes()).collect(),
    }
}

fn row_width(templates: usize) -> usize {
    match templates {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// The template of each row: each has as many rows as it should.
pub(super) fn decode_rows(
    column: &[u8],
    rows: usize,
    counts: &[u32],
    decoder: &mut Decoder,
) -> Result<Vec<u32>, Damage> {
    if counts.len() == 1 {
        return Ok(vec![0; rows]);
    }
    let width = row_width(counts.len());
    let bytes = decoder.unzstd_exact(column, rows * width)?;
    let numbers: Vec<u32> = match width {
        1 => bytes.into_iter().map(u32::from).collect(),
        2 => bytes.chunks_exact(2).map(|c| u32::from(u16::from_le_bytes([c[0], c[1]]))).collect(),
        _ => bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
    };
    let mut left = counts.to_vec();
    for &number in &numbers {
        let left = left.get_mut(number as usize).filter(|left| **left > 0);
        *left.ok_or(Damage("templates of rows"))? -= 1;
    }
    Ok(numbers)
}

/// The rows of a block of format 1.
pub(super) fn decode_1(
    header: &Header,
    payload: &[u8],
    decoder: &mut Decoder,
) -> Result<Rows, Damage> {
    let column = |index: usize| header.columns[index].of(payload, 0);
    let count = header.rows as usize;
    let text = decoder.unzstd_exact(column(TEXTS)?, header.text_bytes as usize)?;
    let text = String::from_utf8(text).map_err(|_| Damage("text is not UTF-8"))?;
    let lengths = pco::standalone::simple_decompress::<u32>(column(ROWS)?);
    let ends = read_ends(&lengths.map_err(|_| Damage("lengths"))?, count, text.as_bytes())?;
    let levels = match header.level() {
        Some(level) => vec![level; count],
        None => decoder.unzstd_exact(column(LEVELS)?, count)?,
    };
    let metadata = match column(METADATA)? {
        [] => Metadata::default(),
        bytes => metadata::read(&decoder.unzstd(bytes)?, count)?,
    };
    let ts = times(header, column(TIMES)?)?;
    Ok(Rows { text, ends, ts, levels, metadata })
}

/// The times of a block from the bytes of that column.
pub(super) fn times(header: &Header, column: &[u8]) -> Result<Vec<Nanos>, Damage> {
    let (rows, ends) = (header.rows as usize, (header.first, header.last));
    match header.format {
        1 => times::decode_pco(column, rows, ends),
        _ => times::decode(column, rows, ends),
    }
}

/// Row ends from row lengths; every end holds a separator, so every row is whole characters.
fn read_ends(lengths: &[u32], count: usize, text: &[u8]) -> Result<Vec<u32>, Damage> {
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
    let is_whole = start == text.len() && ends.len() == count;
    if is_whole { Ok(ends) } else { Err(Damage("text behind the last row")) }
}

/// Reads the header of a format, for those who hold its bytes.
pub(super) fn read_headers(format: u32, bytes: &[u8]) -> Option<Vec<Header>> {
    let each = header::header_bytes(format)?;
    let headers: Vec<Header> =
        bytes.chunks(each).map_while(|chunk| Header::read(format, chunk)).collect();
    (headers.len() * each == bytes.len()).then_some(headers)
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
