//! What a word of a log line is, and what the index keeps of it.
//!
//! A token is a longest run of word bytes: ASCII letters and digits, `_`, and every byte of a
//! character beyond ASCII. Tokens are compared in ASCII lower case. Three kinds of terms come of them:
//!
//! - **Words** go to the segment's dictionary whole. An **id** (four bytes or more, a quarter of them
//!   digits) does not: ids are nine tenths of all distinct tokens and would be most of the index.
//!   Of an id the dictionary gets the letter runs of three bytes or more, so that every run of
//!   letters in a text is part of some term of the dictionary; but not runs of `a` to `f` alone, which
//!   are chance in hexadecimal numbers. Tokens below three bytes are in nearly every block and are not
//!   indexed at all.
//! - **Prints** are 32-bit hashes in the segment's fingerprint postings: one of an id of six bytes or
//!   more, but shorter than [`SPAN`]; of every token of that length or longer, word or id, its
//!   minimizers.
//! - A **UUID** has one print as a whole, and its groups have none. Whether bytes are one depends on
//!   these bytes alone, not on what is around them. A group that is looked for by itself may be in any
//!   block that has a UUID.
//! - A token longer than [`TOKEN_BYTES_MAX`] (Base64, text without spaces) has one print, and marks
//!   its block as **opaque**: no fragment of a token can rule the block out.
//!
//! Minimizers: of every [`WINDOW`] neighbouring hashes of [`GRAM`] bytes, the least. Two texts that
//! share [`SPAN`] bytes share the minimizers of those bytes. So a long piece of an id finds the id
//! without knowing where it begins and ends.
//!
//! Pure. The index and the query use the same functions; that is what makes pruning exact.

/// Longest token whose inside is indexed, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 128;
/// Bytes that one minimizer hash covers.
pub(super) const GRAM: usize = 8;
/// How many neighbouring hashes elect one minimizer.
pub(super) const WINDOW: usize = 9;
/// Shortest text that surely has a minimizer, in bytes.
pub(super) const SPAN: usize = GRAM + WINDOW - 1;
/// Shortest token or run of letters that is indexed, in bytes.
pub(super) const TERM_BYTES_MIN: usize = 3;
/// Shortest token that can be an id, in bytes.
const ID_BYTES_MIN: usize = 4;
/// Shortest id that has a print, in bytes. Shorter ones are in too many blocks to tell them apart.
const PRINT_BYTES_MIN: usize = 6;
/// Where the groups of a UUID begin, and how many bytes they have.
const UUID_GROUPS: [(usize, usize); 5] = [(0, 8), (9, 4), (14, 4), (19, 4), (24, 12)];
/// Length of a UUID in text, in bytes.
pub(super) const UUID_BYTES: usize = 36;

/// Class of each byte: 0 separates, 1 is a letter, 2 is a digit.
const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' => 2,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xFF => 1,
            _ => 0,
        };
        byte += 1;
    }
    table
}

/// Whether a byte belongs to a token.
pub(super) fn is_word(byte: u8) -> bool {
    CLASS[usize::from(byte)] != 0
}

/// One token: where it lies and how many of its bytes are digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// First byte.
    pub(super) start: usize,
    /// First byte after it.
    pub(super) end: usize,
    /// How many bytes are digits.
    pub(super) digits: usize,
}

impl Token {
    /// Whether the token is an id, or too long for the dictionary.
    pub(super) fn is_id(&self) -> bool {
        let bytes = self.end - self.start;
        bytes > TOKEN_BYTES_MAX || (bytes >= ID_BYTES_MIN && self.digits * 4 >= bytes)
    }

    /// Whether the inside of the token is not indexed.
    pub(super) fn is_opaque(&self) -> bool {
        self.end - self.start > TOKEN_BYTES_MAX
    }
}

/// The tokens of a text, in order.
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

/// Splits a text into tokens.
pub(super) fn tokens(text: &[u8]) -> Tokens<'_> {
    Tokens { text, at: 0 }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let skipped = self.text[self.at..].iter().position(|&b| is_word(b))?;
        let start = self.at + skipped;
        let mut digits = 0;
        let mut end = start;
        for &byte in &self.text[start..] {
            let class = CLASS[usize::from(byte)];
            if class == 0 {
                break;
            }
            digits += usize::from(class >> 1);
            end += 1;
        }
        self.at = end;
        Some(Token { start, end, digits })
    }
}

/// The runs of letters of a token, in lower case, that are at least [`TERM_BYTES_MIN`] long and not
/// of hexadecimal letters alone. A longer run around such a run is one too.
pub(super) fn letter_runs(token: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_term = |run: &&[u8]| {
        run.len() >= TERM_BYTES_MIN && run.iter().any(|byte| !(b'a'..=b'f').contains(byte))
    };
    token.split(u8::is_ascii_digit).filter(is_term)
}

/// The hash of a whole token, in lower case.
pub(super) fn print(token: &[u8]) -> u32 {
    // The upper half is as good as any.
    (xxhash_rust::xxh3::xxh3_64(token) >> 32) as u32
}

/// Gives each minimizer of the first [`TOKEN_BYTES_MAX`] bytes of a text; none if it is shorter than
/// [`SPAN`]. Neighbouring repeats are given once.
pub(super) fn minimizers(text: &[u8], mut emit: impl FnMut(u32)) {
    let text = &text[..text.len().min(TOKEN_BYTES_MAX)];
    if text.len() < SPAN {
        return;
    }
    let mut hashes = [0_u32; TOKEN_BYTES_MAX - GRAM + 1];
    let count = text.len() - GRAM + 1;
    for (hash, gram) in hashes.iter_mut().zip(text.windows(GRAM)) {
        *hash = gram_hash(gram);
    }
    let mut last = None;
    for window in hashes[..count].windows(WINDOW) {
        let least = window.iter().copied().min();
        if least != last {
            last = least;
            least.into_iter().for_each(&mut emit);
        }
    }
}

fn gram_hash(gram: &[u8]) -> u32 {
    let mut word = [0; GRAM];
    word.copy_from_slice(gram);
    let mixed = u64::from_le_bytes(word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32) as u32
}

/// Gives where each UUID of a text begins, from left to right.
pub(super) fn uuids(text: &[u8], mut each: impl FnMut(usize)) {
    for dash in memchr::memchr_iter(b'-', text) {
        let Some(start) = dash.checked_sub(UUID_GROUPS[0].1) else { continue };
        let Some(uuid) = text.get(start..start + UUID_BYTES) else { break };
        let dashes = UUID_GROUPS[1..].iter().all(|&(at, _)| uuid[at - 1] == b'-');
        let groups = || {
            UUID_GROUPS
                .iter()
                .all(|&(at, bytes)| uuid[at..at + bytes].iter().all(u8::is_ascii_hexdigit))
        };
        if dashes && groups() {
            each(start);
        }
    }
}

/// Whether a token that begins and ends there is a group of the UUID at `uuid`.
pub(super) fn is_group_of(uuid: usize, start: usize, end: usize) -> bool {
    let is_group = |&(at, bytes): &(usize, usize)| (uuid + at, uuid + at + bytes) == (start, end);
    UUID_GROUPS.iter().any(is_group)
}

/// Whether a token could be a group of a UUID.
pub(super) fn may_be_group(token: &[u8]) -> bool {
    [4, 8, 12].contains(&token.len()) && token.iter().all(u8::is_ascii_hexdigit)
}

/// Gives every print of a token, in lower case.
pub(super) fn prints(token: &[u8], is_id: bool, mut emit: impl FnMut(u32)) {
    if token.len() > TOKEN_BYTES_MAX || (is_id && token.len() < SPAN) {
        if token.len() >= PRINT_BYTES_MIN {
            emit(print(token));
        }
    } else {
        minimizers(token, emit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<(&str, bool)> {
        tokens(text.as_bytes()).map(|t| (&text[t.start..t.end], t.is_id())).collect()
    }

    #[test]
    fn tokens_and_ids() {
        let cases: [(&str, &[(&str, bool)]); 6] = [
            ("", &[]),
            (" .,", &[]),
            ("GET /api/v1 200", &[("GET", false), ("api", false), ("v1", false), ("200", false)]),
            ("id=4bf92f35 x_y", &[("id", false), ("4bf92f35", true), ("x_y", false)]),
            ("grün 12345 123", &[("grün", false), ("12345", true), ("123", false)]),
            ("123456-abcdefgh12", &[("123456", true), ("abcdefgh12", false)]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn long_tokens_are_opaque() {
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        let token = tokens(long.as_bytes()).next().expect("one");
        assert!(token.is_id() && token.is_opaque());
        let token = tokens(&long.as_bytes()[1..]).next().expect("one");
        assert!(!token.is_id() && !token.is_opaque());
    }

    #[test]
    fn runs_of_letters() {
        let runs: Vec<&[u8]> = letter_runs(b"ab12abc9_xyz0a1abcg").collect();
        assert_eq!(runs, [b"_xyz" as &[u8], b"abcg"]);
    }

    proptest! {
        #[test]
        fn a_piece_has_only_minimizers_of_the_whole(
            whole in "[0-9a-f]{16,128}", start in 0_usize..112, bytes in 16_usize..64,
        ) {
            let start = start.min(whole.len() - SPAN);
            let piece = &whole[start..(start + bytes).min(whole.len())];
            let mut of_whole = Vec::new();
            minimizers(whole.as_bytes(), |h| of_whole.push(h));
            let mut of_piece = Vec::new();
            minimizers(piece.as_bytes(), |h| of_piece.push(h));
            prop_assert!(!of_piece.is_empty());
            prop_assert!(of_piece.iter().all(|h| of_whole.contains(h)));
        }

        #[test]
        fn tokens_are_the_maximal_runs(text in "[a-c1-3 .é_]{0,40}") {
            let expected: Vec<&[u8]> =
                text.as_bytes().split(|b| !is_word(*b)).filter(|t| !t.is_empty()).collect();
            let found: Vec<&[u8]> =
                tokens(text.as_bytes()).map(|t| &text.as_bytes()[t.start..t.end]).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
