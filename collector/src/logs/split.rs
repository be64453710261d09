//! Splits the lines of a block into templates and the values of their variables.
//!
//! One pass over the text finds tokens, and with them variables and templates; the terms of the index
//! come from that: the words of a template once, however many lines it has, and each value of a
//! variable. The buffers are used again from block to block.
//!
//! Two templates are the same when their bytes are the same; the hash only finds the slot.

use super::rows::Rows;
use super::templates::{self, DIGIT, HEX, Kind, MIXED, PLACE, SEPARATES, Slot, Templates, mask_of};
use super::terms::Terms;
use super::token::{self, UUID_BYTES, is_group_of};
use super::variables::{VALUE_END, pack_nibbles};

/// Slots of an empty table; a power of two.
const TABLE_MIN: usize = 1 << 10;
/// Shorter values of hexadecimal digits are left to zstd.
const NIBBLES_MIN: usize = 8;
/// How many values are remembered to see whether values repeat; a power of two.
const REMEMBERED: usize = 64;

/// Splits one block after the other.
pub(super) struct Splitter {
    key: Vec<u8>,
    /// Text of each template with marks, one after the other.
    keys: Vec<u8>,
    found: Vec<Found>,
    /// Number of a template plus one, or zero. The length is a power of two, at most half full.
    table: Vec<u32>,
    /// Template of each row.
    pub(super) row_templates: Vec<u32>,
    /// Where each row's variables begin among all.
    row_variables: Vec<u32>,
    /// Where each variable lies in the text.
    variables: Vec<Variable>,
    /// Rows by template, in the order of rows.
    by_template: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Variable {
    start: u32,
    end: u32,
    /// It is a group of a UUID.
    is_group: bool,
}

#[derive(Clone, Copy)]
struct Found {
    start: u32,
    end: u32,
    hash: u32,
    rows: u32,
}

/// A block in its parts, before compression.
#[derive(Default)]
pub(super) struct Parts {
    /// The templates.
    pub(super) templates: Templates,
    /// Values of digits.
    pub(super) digits: Vec<u8>,
    /// Values of any bytes.
    pub(super) texts: Vec<u8>,
    /// Values of hexadecimal digits, two to a byte.
    pub(super) nibbles: Vec<u8>,
}

impl Splitter {
    /// A splitter for any number of blocks.
    pub(super) fn new() -> Self {
        Self {
            key: Vec::new(),
            keys: Vec::new(),
            found: Vec::new(),
            table: vec![0; TABLE_MIN],
            row_templates: Vec::new(),
            row_variables: Vec::new(),
            variables: Vec::new(),
            by_template: Vec::new(),
        }
    }

    /// Forgets the block before and splits these rows. Their terms go to `terms`.
    pub(super) fn split(&mut self, rows: &Rows, terms: &mut Terms) -> Parts {
        terms.begin();
        self.find(rows, terms);
        self.sort();
        let mut parts = Parts::default();
        let mut first_row = 0;
        let mut text = Vec::new();
        let mut slots = Vec::new();
        for index in 0..self.found.len() {
            let found = self.found[index];
            let of_template = &self.by_template[first_row..first_row + found.rows as usize];
            first_row += of_template.len();
            let key = &self.keys[found.start as usize..found.end as usize];
            terms.literal(key);
            text.clear();
            slots.clear();
            let mut pieces = key.split(|&byte| byte == PLACE);
            text.extend_from_slice(pieces.next().unwrap_or_default());
            for (slot, piece) in pieces.enumerate() {
                let values = Values { splitter: self, rows, of_template, slot };
                match values.write(&mut parts, terms) {
                    Some(slot) => {
                        text.push(PLACE);
                        slots.push(slot);
                    }
                    None => text.extend_from_slice(values.get(0)),
                }
                text.extend_from_slice(piece);
            }
            let level = rows.levels[of_template[0] as usize];
            let same = of_template.iter().all(|&row| rows.levels[row as usize] == level);
            parts.templates.push(&text, found.rows, if same { level } else { MIXED }, &slots);
        }
        terms.finish();
        parts
    }

    /// Finds variables and template of each row.
    fn find(&mut self, rows: &Rows, terms: &mut Terms) {
        self.keys.clear();
        self.found.clear();
        self.table.fill(0);
        self.row_templates.clear();
        self.row_variables.clear();
        self.variables.clear();
        let mut key = std::mem::take(&mut self.key);
        let mut uuids = Vec::new();
        let mut start = 0;
        for &end in &rows.ends {
            let line = &rows.text.as_bytes()[start..end as usize];
            self.row_variables.push(self.variables.len() as u32);
            key.clear();
            let mut copied = 0;
            uuids.clear();
            token::uuids(line, |at| {
                uuids.push(at);
                terms.uuid(&line[at..at + UUID_BYTES]);
            });
            templates::variables(line, |from, to| {
                key.extend_from_slice(&line[copied..from]);
                key.push(PLACE);
                copied = to;
                let is_group = uuids.iter().any(|&uuid| is_group_of(uuid, from, to));
                let (start, end) = ((start + from) as u32, (start + to) as u32);
                self.variables.push(Variable { start, end, is_group });
            });
            key.extend_from_slice(&line[copied..]);
            let template = self.template(&key);
            self.row_templates.push(template);
            start = end as usize + 1;
        }
        self.key = key;
    }

    /// The number of a template; it has one row more.
    fn template(&mut self, key: &[u8]) -> u32 {
        let hash = hash(key);
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(index) = self.table[at].checked_sub(1) {
            let known = &mut self.found[index as usize];
            if known.hash == hash && self.keys[known.start as usize..known.end as usize] == *key {
                known.rows += 1;
                return index;
            }
            at = (at + 1) & mask;
        }
        let start = self.keys.len() as u32;
        self.keys.extend_from_slice(key);
        self.found.push(Found { start, end: self.keys.len() as u32, hash, rows: 1 });
        let count = self.found.len() as u32;
        self.table[at] = count;
        if count as usize * 2 > self.table.len() {
            self.grow();
        }
        count - 1
    }

    fn grow(&mut self) {
        let size = self.table.len() * 2;
        self.table.clear();
        self.table.resize(size, 0);
        for (index, found) in (1..).zip(&self.found) {
            let mut at = found.hash as usize & (size - 1);
            while self.table[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.table[at] = index;
        }
    }

    /// Sorts the rows by template.
    fn sort(&mut self) {
        let mut next = Vec::with_capacity(self.found.len());
        let mut start = 0;
        for found in &self.found {
            next.push(start);
            start += found.rows;
        }
        self.by_template.clear();
        self.by_template.resize(self.row_templates.len(), 0);
        for (row, &template) in (0..).zip(&self.row_templates) {
            let at = &mut next[template as usize];
            self.by_template[*at as usize] = row;
            *at += 1;
        }
    }
}

/// The values of one slot.
struct Values<'a> {
    splitter: &'a Splitter,
    rows: &'a Rows,
    of_template: &'a [u32],
    slot: usize,
}

impl<'a> Values<'a> {
    fn variable(&self, index: usize) -> Variable {
        let row = self.of_template[index] as usize;
        self.splitter.variables[self.splitter.row_variables[row] as usize + self.slot]
    }

    fn get(&self, index: usize) -> &'a [u8] {
        let Variable { start, end, .. } = self.variable(index);
        &self.rows.text.as_bytes()[start as usize..end as usize]
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        (0..self.of_template.len()).map(|index| self.get(index))
    }

    fn take_term(&self, index: usize, value: &[u8], terms: &mut Terms) {
        if self.variable(index).is_group { terms.group(value) } else { terms.variable(value) }
    }

    /// Writes the values to their column, and gives their terms; no slot if they are all the same
    /// and can be text of the template.
    fn write(&self, parts: &mut Parts, terms: &mut Terms) -> Option<Slot> {
        let first = self.get(0);
        let is_mark = mask_of(first) == SEPARATES;
        if !is_mark && self.iter().all(|value| value == first) {
            (0..self.of_template.len()).for_each(|index| self.take_term(index, first, terms));
            return None;
        }
        let (mut mask, mut width) = (0, Some(first.len()));
        for (index, value) in self.iter().enumerate() {
            mask |= mask_of(value);
            width = width.filter(|&width| width == value.len());
            self.take_term(index, value, terms);
        }
        let is_hex = mask & !(HEX | DIGIT) == 0 && mask & HEX != 0;
        if is_hex {
            // So that the masks of rare templates are alike, which compresses.
            mask = HEX | DIGIT;
        }
        let width = width.and_then(|width| u8::try_from(width).ok()).unwrap_or(0);
        let kind = match () {
            () if mask == DIGIT => Kind::Digits,
            () if is_hex && usize::from(width) >= NIBBLES_MIN && !self.repeat() => Kind::Nibbles,
            () => Kind::Texts,
        };
        match kind {
            Kind::Digits => self.copy(width, &mut parts.digits),
            Kind::Texts => self.copy(width, &mut parts.texts),
            Kind::Nibbles => pack_nibbles(self.iter(), &mut parts.nibbles),
        }
        Some(Slot { kind, width, mask })
    }

    fn copy(&self, width: u8, out: &mut Vec<u8>) {
        for value in self.iter() {
            out.extend_from_slice(value);
            if width == 0 {
                out.push(VALUE_END);
            }
        }
    }

    /// Whether many values are the same as one shortly before, which zstd makes use of.
    fn repeat(&self) -> bool {
        let mut seen = [0_u32; REMEMBERED];
        let mut repeats = 0;
        for value in self.iter() {
            let hash = hash(value);
            let known = &mut seen[hash as usize & (REMEMBERED - 1)];
            repeats += usize::from(*known == hash);
            *known = hash;
        }
        repeats * 8 > self.of_template.len()
    }
}

/// Eight bytes at a time; only the templates of one block depend on it.
fn hash(key: &[u8]) -> u32 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = key.len() as u64;
    let mut chunks = key.chunks_exact(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        state = (state.rotate_left(23) ^ u64::from_le_bytes(eight)).wrapping_mul(K);
    }
    let mut rest = 0_u64;
    for &byte in chunks.remainder() {
        rest = rest << 8 | u64::from(byte);
    }
    state = (state.rotate_left(23) ^ rest).wrapping_mul(K);
    (state >> 32) as u32
}
