//! The values of variables, by template and slot.
//!
//! Three columns (digits, texts, nibbles), because each compresses best among its like. In each the
//! values of one slot of one template follow each other in the order of rows, slot after slot,
//! template after template. Values of one width stand without anything between; others are each
//! followed by a newline byte, which is in no token. Nibbles are packed two to a byte, the first one
//! above; each slot begins with a byte.
//!
//! Pure.

use super::block::Damage;
use super::templates::{Kind, Templates};

/// Follows each value of a slot whose values differ in length.
pub(super) const VALUE_END: u8 = b'\n';

/// Packs values of lower-case hexadecimal digits.
pub(super) fn pack_nibbles<'v>(values: impl Iterator<Item = &'v [u8]>, out: &mut Vec<u8>) {
    let mut high = None;
    for &digit in values.flatten() {
        let nibble = if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
        match high.take() {
            None => high = Some(nibble << 4),
            Some(above) => out.push(above | nibble),
        }
    }
    out.extend(high);
}

/// Where the values of a slot lie in their column.
#[derive(Clone, Copy, Debug)]
struct Place {
    kind: Kind,
    /// First byte of the first value.
    at: u32,
    /// Bytes of each value, or 0.
    width: u32,
    /// Of values that differ in length: place of the first one's end among all ends.
    ends: u32,
}

/// The values of a block.
pub(super) struct Values {
    columns: [Vec<u8>; 3],
    places: Vec<Place>,
    ends: Vec<u32>,
}

impl Values {
    /// The values of a block, from its columns after decompression. The nibbles of no block become
    /// more than `bytes_max` digits.
    pub(super) fn read(
        templates: &Templates,
        digits: Vec<u8>,
        texts: Vec<u8>,
        nibbles: &[u8],
        bytes_max: usize,
    ) -> Result<Self, Damage> {
        let mut values = Self {
            columns: [digits, texts, Vec::new()],
            places: Vec::with_capacity(templates.slots.len()),
            ends: Vec::new(),
        };
        let mut at = [0_usize; 3];
        let mut packed = nibbles;
        for template in 0..templates.len() {
            let rows = templates.rows[template] as usize;
            for slot in &templates.slots[templates.slots_of(template)] {
                let column = slot.kind as usize;
                let width = usize::from(slot.width);
                let place = Place {
                    kind: slot.kind,
                    at: at[column] as u32,
                    width: width as u32,
                    ends: values.ends.len() as u32,
                };
                values.places.push(place);
                let bytes = rows.checked_mul(width).ok_or(CUT)?;
                if slot.kind == Kind::Nibbles {
                    let (head, rest) = packed.split_at_checked(bytes.div_ceil(2)).ok_or(CUT)?;
                    packed = rest;
                    let out = &mut values.columns[column];
                    if width == 0 || out.len() + bytes > bytes_max {
                        return Err(CUT);
                    }
                    unpack_nibbles(head, bytes, out);
                }
                at[column] = if width > 0 {
                    let end = at[column] + bytes;
                    values.columns[column].get(..end).ok_or(CUT)?;
                    end
                } else {
                    find_ends(&values.columns[column], at[column], rows, &mut values.ends)?
                };
            }
        }
        let is_whole = at.iter().zip(&values.columns).all(|(&at, column)| at == column.len());
        if is_whole && packed.is_empty() { Ok(values) } else { Err(Damage("values left over")) }
    }

    /// A value of a slot: that of the `index`th row of its template.
    pub(super) fn get(&self, slot: usize, index: usize) -> &[u8] {
        let place = self.places[slot];
        let column = &self.columns[place.kind as usize];
        if place.width > 0 {
            let start = place.at as usize + index * place.width as usize;
            return &column[start..start + place.width as usize];
        }
        let end = place.ends as usize + index;
        let start = if index == 0 { place.at } else { self.ends[end - 1] + 1 };
        &column[start as usize..self.ends[end] as usize]
    }

    /// All values of a slot with so many rows, as they stand, and the width of each or 0.
    pub(super) fn stretch(&self, slot: usize, rows: usize) -> (&[u8], usize) {
        let place = self.places[slot];
        let (start, width) = (place.at as usize, place.width as usize);
        let end = match rows.checked_sub(1) {
            None => start,
            Some(_) if width > 0 => start + rows * width,
            Some(last) => self.ends[place.ends as usize + last] as usize + 1,
        };
        (&self.columns[place.kind as usize][start..end], width)
    }
}

const CUT: Damage = Damage("values");

fn find_ends(
    column: &[u8],
    start: usize,
    rows: usize,
    ends: &mut Vec<u32>,
) -> Result<usize, Damage> {
    let before = ends.len();
    let found = memchr::memchr_iter(VALUE_END, column.get(start..).ok_or(CUT)?);
    ends.extend(found.take(rows).map(|at| (start + at) as u32));
    match ends.last() {
        Some(&last) if ends.len() - before == rows => Ok(last as usize + 1),
        _ => Err(CUT),
    }
}

fn unpack_nibbles(packed: &[u8], count: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let from = out.len();
    out.reserve(packed.len() * 2);
    for &byte in packed {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.truncate(from + count);
}
