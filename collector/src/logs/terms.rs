//! The distinct terms of one block: what [`super::token`] makes of its text, each once.
//!
//! The text comes in parts: the words of a template once, each value of a variable (see `templates`).
//! A part never cuts a token. Two words are the same when their bytes are the same; the hash only finds
//! the slot. The buffers are used again from block to block, and no token allocates.

use super::token::{TERM_BYTES_MIN, TOKEN_BYTES_MAX, Token, letter_runs, print, prints, tokens};

/// Slots of an empty table; a power of two.
const SLOTS_MIN: usize = 1 << 12;

/// Collects the terms of one block after the other.
pub(super) struct Terms {
    /// The words, one after the other.
    text: Vec<u8>,
    words: Vec<Word>,
    /// Number of a word plus one, or zero. The length is a power of two, at most half full.
    slots: Vec<u32>,
    prints: Vec<u32>,
    opaque: bool,
    uuids: bool,
    lower: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Word {
    start: u32,
    bytes: u32,
    hash: u32,
}

impl Terms {
    pub(super) fn new() -> Self {
        Self {
            text: Vec::new(),
            words: Vec::new(),
            slots: vec![0; SLOTS_MIN],
            prints: Vec::new(),
            opaque: false,
            uuids: false,
            lower: Vec::new(),
        }
    }

    /// Forgets the block before.
    pub(super) fn begin(&mut self) {
        self.text.clear();
        self.words.clear();
        self.slots.fill(0);
        self.prints.clear();
        self.opaque = false;
        self.uuids = false;
    }

    /// Takes the terms of a text of whole tokens. All text of a block is below 4 GiB.
    pub(super) fn literal(&mut self, text: &[u8]) {
        let lower = self.lowered(text);
        for token in tokens(&lower) {
            self.token(&lower[token.start..token.end], token);
        }
        self.lower = lower;
    }

    /// Takes the terms of one token.
    pub(super) fn variable(&mut self, value: &[u8]) {
        if value.len() < TERM_BYTES_MIN {
            return;
        }
        let lower = self.lowered(value);
        let digits = lower.iter().filter(|byte| byte.is_ascii_digit()).count();
        self.token(&lower, Token { start: 0, end: lower.len(), digits });
        self.lower = lower;
    }

    /// Takes a UUID. Its groups are variables of their own, of which [`Terms::group`] is told.
    pub(super) fn uuid(&mut self, text: &[u8]) {
        let lower = self.lowered(text);
        self.prints.push(print(&lower));
        self.lower = lower;
        self.uuids = true;
    }

    /// Takes a token that is a group of a UUID.
    pub(super) fn group(&mut self, value: &[u8]) {
        let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
        if !(Token { start: 0, end: value.len(), digits }).is_id() {
            self.variable(value);
        }
    }

    /// Whether the block has a UUID.
    pub(super) fn has_uuids(&self) -> bool {
        self.uuids
    }

    /// The block is whole.
    pub(super) fn finish(&mut self) {
        self.prints.sort_unstable();
        self.prints.dedup();
    }

    fn lowered(&mut self, text: &[u8]) -> Vec<u8> {
        let mut lower = std::mem::take(&mut self.lower);
        lower.clear();
        lower.extend_from_slice(text);
        lower.make_ascii_lowercase();
        lower
    }

    fn token(&mut self, bytes: &[u8], token: Token) {
        if bytes.len() < TERM_BYTES_MIN {
            return;
        }
        let is_id = token.is_id();
        if token.is_opaque() {
            self.opaque = true;
            prints(bytes, true, |hash| self.prints.push(hash));
        } else if is_id {
            prints(bytes, true, |hash| self.prints.push(hash));
            letter_runs(bytes).for_each(|run| _ = self.insert(run));
        } else if self.insert(bytes) {
            prints(bytes, false, |hash| self.prints.push(hash));
        }
    }

    /// The distinct words and letter runs of the block, in lower case, in no particular order.
    pub(super) fn words(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.words.iter().map(|w| &self.text[w.start as usize..(w.start + w.bytes) as usize])
    }

    /// The distinct prints of the block, ascending.
    pub(super) fn prints(&self) -> &[u32] {
        &self.prints
    }

    /// Whether a token of the block is too long for its inside to be indexed.
    pub(super) fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// Whether the word is new to the block.
    fn insert(&mut self, word: &[u8]) -> bool {
        debug_assert!(word.len() <= TOKEN_BYTES_MAX);
        let hash = word_hash(word);
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while let Some(index) = (self.slots[slot] as usize).checked_sub(1) {
            let known = self.words[index];
            let known_start = known.start as usize;
            let known_end = known_start + known.bytes as usize;
            if known.hash == hash && self.text[known_start..known_end] == *word {
                return false;
            }
            slot = (slot + 1) & mask;
        }
        let start = self.text.len() as u32;
        self.text.extend_from_slice(word);
        self.words.push(Word { start, bytes: word.len() as u32, hash });
        self.slots[slot] = self.words.len() as u32;
        if self.words.len() * 2 > self.slots.len() {
            self.grow();
        }
        true
    }

    fn grow(&mut self) {
        let slots = self.slots.len() * 2;
        self.slots.clear();
        self.slots.resize(slots, 0);
        for (index, word) in self.words.iter().enumerate() {
            let mut slot = word.hash as usize & (slots - 1);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (slots - 1);
            }
            self.slots[slot] = index as u32 + 1;
        }
    }
}

/// Eight bytes at a time; only the set of one block depends on it.
fn word_hash(word: &[u8]) -> u32 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = word.len() as u64;
    let mut chunks = word.chunks_exact(8);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terms_of_a_line() {
        let mut terms = Terms::new();
        terms.begin();
        terms.literal(b"Error error id= ok\nERROR ok");
        terms.variable(b"req12345");
        terms.finish();
        let words: BTreeSet<&[u8]> = terms.words().collect();
        assert_eq!(words, [b"error" as &[u8], b"req"].into_iter().collect());
        assert_eq!(terms.prints(), [print(b"req12345")]);
        assert!(!terms.is_opaque());
        terms.begin();
        terms.literal(&[b'x'; TOKEN_BYTES_MAX + 1]);
        terms.finish();
        assert!(terms.is_opaque() && terms.words().len() == 0 && terms.prints().len() == 1);
    }

    proptest! {
        #[test]
        fn words_are_distinct_and_complete(texts in proptest::collection::vec("[a-dA-D0-2 ]{0,3000}", 1..3)) {
            let mut terms = Terms::new();
            for text in texts {
                terms.begin();
                terms.literal(text.as_bytes());
                terms.finish();
                let mut expected = BTreeSet::new();
                let lower = text.to_ascii_lowercase();
                for t in tokens(lower.as_bytes()) {
                    let bytes = &lower.as_bytes()[t.start..t.end];
                    if t.is_id() {
                        expected.extend(letter_runs(bytes).map(<[u8]>::to_vec));
                    } else if bytes.len() >= TERM_BYTES_MIN {
                        expected.insert(bytes.to_vec());
                    }
                }
                prop_assert_eq!(terms.words().len(), expected.len());
                prop_assert_eq!(terms.words().map(<[u8]>::to_vec).collect::<BTreeSet<_>>(), expected);
            }
        }
    }
}
