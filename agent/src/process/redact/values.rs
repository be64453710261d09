//! What the value behind a name must look like to be taken out: no prose, no count, a date that is one.
//! Each function gives the length of what goes, 0 when nothing does. Pure.

use super::named::Value;
use super::shapes;

/// Values that say that there is none, or what is wrong with it.
const PROSE: [&str; 33] = [
    "a",
    "an",
    "and",
    "authentication",
    "changed",
    "denied",
    "empty",
    "expired",
    "failed",
    "false",
    "for",
    "has",
    "in",
    "incorrect",
    "invalid",
    "is",
    "mismatch",
    "missing",
    "must",
    "nil",
    "no",
    "none",
    "not",
    "null",
    "required",
    "reset",
    "signature",
    "the",
    "too",
    "true",
    "undefined",
    "unknown",
    "was",
];

pub(super) fn ends_value(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b'"' | b'\'' | b',' | b';' | b'&' | b')' | b'}' | b']' | b'<')
}

/// The length of a quoted value: up to the next quote that is as escaped as the first.
pub(super) fn quoted(rest: &[u8], quote: u8, escaped: bool) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' if escaped && rest.get(at + 1) == Some(&quote) => return at,
            b'\\' => at += 2,
            byte if byte == quote => return at,
            _ => at += 1,
        }
    }
    rest.len()
}

pub(super) fn secret(kind: Value, value: &[u8], quoted: bool, marked: bool, last: bool) -> usize {
    let numeric = value.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    let hidden = value.iter().all(|b| matches!(b, b'*' | b'x' | b'X' | b'.' | b'-'))
        || shapes::is_reference(value)
        || value.starts_with(b"-----BEGIN ");
    let counts = kind != Value::Password && numeric;
    if value.is_empty() || hidden || is_prose(value) || counts {
        return 0;
    }
    // Behind a colon a word of letters in the midst of a sentence is prose.
    let letters = value.iter().all(u8::is_ascii_lowercase);
    if !quoted && !marked && letters && !last { 0 } else { value.len() }
}

pub(super) fn is_prose(value: &[u8]) -> bool {
    let word = value.trim_ascii();
    let word = word.strip_suffix(b".").or_else(|| word.strip_suffix(b"!")).unwrap_or(word);
    PROSE.iter().any(|prose| word.eq_ignore_ascii_case(prose.as_bytes()))
}

pub(super) fn digits(value: &[u8], count: std::ops::RangeInclusive<usize>) -> usize {
    let len = value.iter().take_while(|b| b.is_ascii_digit()).count();
    if count.contains(&len) && value.get(len).is_none_or(|b| !b.is_ascii_alphanumeric()) {
        len
    } else {
        0
    }
}

/// A word of five characters or more with at least four digits.
pub(super) fn number(value: &[u8]) -> usize {
    let len =
        value.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/')).count();
    let count = value[..len].iter().filter(|b| b.is_ascii_digit()).count();
    if len >= 5 && count >= 4 { len } else { 0 }
}

/// `1970-01-31`, `01/31/1970`, `31.1.70`, `19700131`, `Jan 31, 1970`.
pub(super) fn date(rest: &[u8]) -> usize {
    let digits = |text: &[u8]| text.iter().take(9).take_while(|b| b.is_ascii_digit()).count();
    let first = digits(rest);
    if first == 8 {
        return 8;
    }
    let spelled = rest.iter().take(10).take_while(|b| b.is_ascii_alphabetic()).count();
    if (3..=9).contains(&spelled) {
        let tail: Vec<u8> = rest[spelled..]
            .iter()
            .take(10)
            .copied()
            .take_while(|b| b.is_ascii_digit() || matches!(b, b' ' | b',' | b'.'))
            .collect();
        let tail = tail.trim_ascii_end();
        let count = tail.iter().filter(|b| b.is_ascii_digit()).count();
        return if count >= 5 { spelled + tail.len() } else { 0 };
    }
    let mut at = first;
    for _ in 0..2 {
        let joint = rest.get(at).is_some_and(|b| matches!(b, b'-' | b'/' | b'.' | b' '));
        let next = if joint { digits(&rest[at + 1..]) } else { 0 };
        if first == 0 || next == 0 || next > 4 {
            return 0;
        }
        at += 1 + next;
    }
    if first <= 4 { at } else { 0 }
}

/// Seven digits or more with what stands between them.
pub(super) fn phone(rest: &[u8]) -> usize {
    let inside =
        |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b' ' | b'(' | b')' | b'+');
    let mut len = rest.iter().take(24).take_while(|b| inside(b)).count();
    while len > 0 && !rest[len - 1].is_ascii_digit() {
        len -= 1;
    }
    let count = rest[..len].iter().filter(|b| b.is_ascii_digit()).count();
    if (7..=15).contains(&count) { len } else { 0 }
}
