//! Templates: the lines of a block without their variables, each distinct one once.
//!
//! ```text
//! column, before zstd, little endian:
//!   text        of all templates, each followed by END; PLACE stands where a value goes
//!   rows        u32 of each template: how many rows it has, at least one
//!   levels      u8 of each: the level of its rows, or 255 when they differ
//!   kinds       u8 of each slot: the column of its values (0 digits, 1 texts, 2 nibbles)
//!   widths      u8 of each: bytes of each value, or 0 when they differ
//!   masks       u32 of each: which bytes its values have (see `mask_of`)
//!   templates u32, slots u32, text bytes u32
//! ```
//! A **variable** is a whole token (see `token`) that has a digit, or consists of four to eight of the
//! letters a to f; or a single byte PLACE or END of the line itself, so that neither ever stands for
//! itself in the text of a template. A slot whose values are all the same is no slot: the value is part
//! of the template.
//!
//! Invariants: what a template's text holds between two marks is in each of its lines; a value never
//! reaches beyond a token. That is what searching templates instead of lines rests on.
//!
//! Pure.

use super::block::Damage;
use super::header::take_u32;
use super::token;

/// Stands in a template's text for a value.
pub(super) const PLACE: u8 = 0x11;
/// Stands behind each template's text.
pub(super) const END: u8 = 0x12;
/// In the column of levels: the rows of the template differ.
pub(super) const MIXED: u8 = u8::MAX;

/// Bytes of the counts at the end of the column.
const COUNTS_BYTES: usize = 12;

/// Bits of a mask beside the letters, which are bits 0 to 25 in either case.
pub(super) const DIGIT: u32 = 1 << 26;
/// There is a letter in upper case.
pub(super) const UPPER: u32 = 1 << 27;
/// There is an underscore.
const UNDERSCORE: u32 = 1 << 28;
/// There is a byte beyond ASCII.
const BEYOND: u32 = 1 << 29;
/// There is a byte that belongs to no token.
pub(super) const SEPARATES: u32 = 1 << 30;
/// The letters a to f.
pub(super) const HEX: u32 = 0x3F;

const MASKS: [u32; 256] = masks();

const fn masks() -> [u32; 256] {
    let mut table = [SEPARATES; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            letter @ b'a'..=b'z' => 1 << (letter - b'a'),
            letter @ b'A'..=b'Z' => UPPER | 1 << (letter - b'A'),
            b'_' => UNDERSCORE,
            0x80..=0xFF => BEYOND,
            _ => SEPARATES,
        };
        byte += 1;
    }
    table
}

/// Which bytes there are in a text.
pub(super) fn mask_of(text: &[u8]) -> u32 {
    text.iter().fold(0, |mask, &byte| mask | MASKS[usize::from(byte)])
}

/// Whether a token with these bytes is a variable.
pub(super) fn is_variable(mask: u32, bytes: usize) -> bool {
    mask & DIGIT != 0 || (mask & !HEX == 0 && (4..=8).contains(&bytes))
}

/// Where the values of a slot lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the column of digits.
    Digits,
    /// In the column of texts.
    Texts,
    /// In the column of nibbles.
    Nibbles,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Digits, Self::Texts, Self::Nibbles];
}

/// A place of a template where its lines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Where the values are.
    pub(super) kind: Kind,
    /// Length of each value, or 0 when they differ.
    pub(super) width: u8,
    /// Which bytes the values have.
    pub(super) mask: u32,
}

/// The templates of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Templates {
    /// Of all templates, with marks.
    pub(super) text: Vec<u8>,
    /// Where each template's END lies in the text.
    pub(super) ends: Vec<u32>,
    /// Rows of each template.
    pub(super) rows: Vec<u32>,
    /// Level of each template's rows.
    pub(super) levels: Vec<u8>,
    /// The slots of all templates.
    pub(super) slots: Vec<Slot>,
    /// Where each slot's PLACE lies in the text.
    pub(super) places: Vec<u32>,
    /// Where each template's slots end among all.
    pub(super) slot_ends: Vec<u32>,
}

impl Templates {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where a template's text with its marks lies, without its END.
    pub(super) fn range_of(&self, template: usize) -> std::ops::Range<usize> {
        let start = template.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1);
        start..self.ends[template] as usize
    }

    /// The text of a template with its marks, without its END.
    pub(super) fn text_of(&self, template: usize) -> &[u8] {
        &self.text[self.range_of(template)]
    }

    /// The slots of a template among all.
    pub(super) fn slots_of(&self, template: usize) -> std::ops::Range<usize> {
        let start = template.checked_sub(1).map_or(0, |before| self.slot_ends[before] as usize);
        start..self.slot_ends[template] as usize
    }

    /// Appends a line of a template, given the value of each slot.
    pub(super) fn line<'v>(
        &self,
        template: usize,
        value: impl Fn(usize) -> &'v [u8],
        out: &mut Vec<u8>,
    ) {
        let range = self.range_of(template);
        let mut from = range.start;
        for slot in self.slots_of(template) {
            let place = self.places[slot] as usize;
            out.extend_from_slice(&self.text[from..place]);
            out.extend_from_slice(value(slot));
            from = place + 1;
        }
        out.extend_from_slice(&self.text[from..range.end]);
    }

    /// Adds a template of so many rows, its text with marks and its slots.
    pub(super) fn push(&mut self, text: &[u8], rows: u32, level: u8, slots: &[Slot]) {
        let start = self.text.len();
        self.places.extend(memchr::memchr_iter(PLACE, text).map(|at| (start + at) as u32));
        debug_assert_eq!(self.places.len(), self.slots.len() + slots.len());
        self.text.extend_from_slice(text);
        self.ends.push(self.text.len() as u32);
        self.text.push(END);
        self.rows.push(rows);
        self.levels.push(level);
        self.slots.extend_from_slice(slots);
        self.slot_ends.push(self.slots.len() as u32);
    }

    /// The column, before it is compressed.
    pub(super) fn write(&self) -> Vec<u8> {
        let bytes = COUNTS_BYTES + self.len() * 5 + self.slots.len() * 6 + self.text.len();
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(&self.text);
        self.rows.iter().for_each(|rows| out.extend_from_slice(&rows.to_le_bytes()));
        out.extend_from_slice(&self.levels);
        out.extend(self.slots.iter().map(|slot| slot.kind as u8));
        out.extend(self.slots.iter().map(|slot| slot.width));
        self.slots.iter().for_each(|slot| out.extend_from_slice(&slot.mask.to_le_bytes()));
        for count in [self.len(), self.slots.len(), self.text.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        out
    }

    /// Reads the column of a block with so many rows.
    pub(super) fn read(column: Vec<u8>, block_rows: u32) -> Result<Self, Damage> {
        Self::parse(column, block_rows).ok_or(Damage("templates"))
    }

    fn parse(mut column: Vec<u8>, block_rows: u32) -> Option<Self> {
        let (rest, mut counts) =
            column.split_last_chunk::<COUNTS_BYTES>().map(|(a, b)| (a, &b[..]))?;
        let [count, slots, text_bytes] =
            [take_u32(&mut counts)?, take_u32(&mut counts)?, take_u32(&mut counts)?]
                .map(|count| count as usize);
        let numbers = count.checked_mul(5)?.checked_add(slots.checked_mul(6)?)?;
        if count == 0 || numbers.checked_add(text_bytes)? != rest.len() {
            return None;
        }
        let (_, rest) = rest.split_at(text_bytes);
        let (rows, rest) = rest.split_at(count * 4);
        let rows: Vec<u32> = words(rows).collect();
        let sum: u64 = rows.iter().map(|&rows| u64::from(rows)).sum();
        if sum != u64::from(block_rows) || rows.contains(&0) {
            return None;
        }
        let (levels, rest) = rest.split_at(count);
        let levels = levels.to_vec();
        let (kinds, rest) = rest.split_at(slots);
        let (widths, masks) = rest.split_at(slots);
        let mut all = Vec::with_capacity(slots);
        for ((&kind, &width), mask) in kinds.iter().zip(widths).zip(words(masks)) {
            all.push(Slot { kind: *Kind::ALL.get(usize::from(kind))?, width, mask });
        }
        column.truncate(text_bytes);
        let mut templates = Self {
            text: column,
            ends: Vec::with_capacity(count),
            rows,
            levels,
            places: Vec::with_capacity(slots),
            slots: all,
            slot_ends: Vec::with_capacity(count),
        };
        for at in memchr::memchr2_iter(PLACE, END, &templates.text) {
            if templates.text[at] == PLACE {
                templates.places.push(at as u32);
            } else {
                templates.ends.push(at as u32);
                templates.slot_ends.push(templates.places.len() as u32);
            }
        }
        let whole = templates.len() == count && templates.places.len() == slots;
        (whole && templates.text.last() == Some(&END)).then_some(templates)
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
}

/// Calls back for each variable of a line, in order, with its place.
pub(super) fn variables(line: &[u8], mut each: impl FnMut(usize, usize)) {
    let mut at = 0;
    while at < line.len() {
        let byte = line[at];
        if !token::is_word(byte) {
            if byte == PLACE || byte == END {
                each(at, at + 1);
            }
            at += 1;
            continue;
        }
        let start = at;
        let mut mask = 0;
        while let Some(&byte) = line.get(at) {
            let bit = MASKS[usize::from(byte)];
            if bit == SEPARATES {
                break;
            }
            mask |= bit;
            at += 1;
        }
        if is_variable(mask, at - start) {
            each(start, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &str) -> Vec<&str> {
        let mut found = Vec::new();
        variables(line.as_bytes(), |start, end| found.push(&line[start..end]));
        found
    }

    #[test]
    fn what_varies() {
        let cases: [(&str, &[&str]); 6] = [
            ("", &[]),
            ("no numbers here, Dad", &[]),
            ("took 34ms at 10.0.1.255", &["34ms", "10", "0", "1", "255"]),
            ("id=4bf92f35-dead-bbbb-9", &["4bf92f35", "dead", "bbbb", "9"]),
            ("grün7 _8 Dead abc", &["grün7", "_8"]),
            ("a\u{11}b\u{12}", &["\u{11}", "\u{12}"]),
        ];
        for (line, expected) in cases {
            assert_eq!(split(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn the_column_comes_back_and_damage_is_an_error_or_whole(
            raw in proptest::collection::vec(
                ("[ab ]{0,6}", 1_u32..4, any::<u8>(), proptest::collection::vec((0_usize..3, any::<(u8, u32)>()), 0..3)),
                1..6),
            at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let mut templates = Templates::default();
            for (text, rows, level, slots) in &raw {
                let mut text = text.clone().into_bytes();
                text.resize(text.len() + slots.len(), PLACE);
                let slots: Vec<Slot> = (slots.iter())
                    .map(|&(kind, (width, mask))| Slot { kind: Kind::ALL[kind], width, mask })
                    .collect();
                templates.push(&text, *rows, *level, &slots);
            }
            let rows = templates.rows.iter().sum();
            let mut column = templates.write();
            prop_assert_eq!(Templates::read(column.clone(), rows), Ok(templates.clone()));
            prop_assert!(Templates::read(column.clone(), rows + 1).is_err());
            prop_assert_eq!(templates.text_of(0).len(), templates.ends[0] as usize);
            let at = at.index(column.len());
            column[at] ^= 1_u8 << bit;
            Templates::read(column.clone(), rows).ok();
            Templates::read(column[..at].to_vec(), rows).ok();
        }
    }
}
