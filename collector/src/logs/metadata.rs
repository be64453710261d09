//! The column of structured metadata.
//!
//! Before compression, u32 little endian: text bytes, pair count, (name end, value end) of each pair,
//! pair end of each row, then the text of all names and values.

use super::block::Damage;
use super::header::take_u32;
use super::rows::Metadata;

/// The column, before it is compressed.
pub(super) fn write(metadata: &Metadata) -> Vec<u8> {
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

/// The metadata of so many rows.
pub(super) fn read(column: &[u8], rows: usize) -> Result<Metadata, Damage> {
    let damage = Damage("metadata");
    let rest = &mut &column[..];
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
