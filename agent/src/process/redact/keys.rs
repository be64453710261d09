//! Keys and tokens that are told by their form alone.

use super::{Detector, Find};

/// What follows the prefix of a provider's key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Fewest characters after the prefix.
    pub(super) min: usize,
    /// Whether they are capitals and digits only.
    pub(super) capitals: bool,
}

fn in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Where the token that `at` is inside of ends.
pub(super) fn token_end(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|b| in_token(**b)).count()
}

fn starts_word(text: &[u8], at: usize) -> bool {
    at.checked_sub(1).is_none_or(|before| !text[before].is_ascii_alphanumeric())
}

/// A provider's key at `begin`, whose prefix ends at `end`.
pub(super) fn provider(text: &[u8], begin: usize, end: usize, form: Form) -> Option<Find> {
    let inside = |b: &u8| {
        if form.capitals {
            b.is_ascii_uppercase() || b.is_ascii_digit()
        } else {
            in_token(*b) || *b == b'.' || *b == b'/'
        }
    };
    let mut len = text[end..].iter().take_while(|b| inside(b)).count();
    while len > 0 && matches!(text[end + len - 1], b'.' | b'/') {
        len -= 1;
    }
    let good = starts_word(text, begin) && len >= form.min;
    good.then_some(Find { begin, end: end + len, detector: Detector::Key })
}

/// `eyJ…`: three parts of base64 between dots.
pub(super) fn jwt(text: &[u8], begin: usize) -> Option<Find> {
    let mut at = begin;
    for part in 0..3 {
        let len = text[at..].iter().take_while(|b| in_token(**b)).count();
        // The signature of an unsigned token is empty.
        if len < if part == 2 { 0 } else { 10 } {
            return None;
        }
        at += len;
        if part < 2 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    starts_word(text, begin).then_some(Find { begin, end: at, detector: Detector::Jwt })
}

/// From `-----BEGIN … PRIVATE KEY-----` to its end, or, when that is missing, to the end of the text.
pub(super) fn private_key(text: &[u8], begin: usize) -> Option<Find> {
    let head = &text[begin..text.len().min(begin + 80)];
    let kind = memchr::memmem::find(head, b"PRIVATE KEY")?;
    if head[11..kind].iter().any(|b| !b.is_ascii_uppercase() && *b != b' ') {
        return None;
    }
    let rest = &text[begin..];
    let end = memchr::memmem::find(rest, b"-----END ").map_or(rest.len(), |at| {
        let tail = &rest[at + 9..];
        at + 9 + memchr::memmem::find(tail, b"-----").map_or(tail.len(), |dashes| dashes + 5)
    });
    Some(Find { begin, end: begin + end, detector: Detector::PrivateKey })
}

/// The token behind `Bearer `.
pub(super) fn bearer(text: &[u8], begin: usize, end: usize) -> Option<Find> {
    let token = |b: &u8| in_token(*b) || matches!(b, b'.' | b'~' | b'+' | b'/' | b'=');
    let len = text[end..].iter().take_while(|b| token(b)).count();
    let value = &text[end..end + len];
    // `Bearer authentication failed` holds none.
    let random = len >= 20 || value.iter().any(u8::is_ascii_digit);
    let good = starts_word(text, begin) && len >= 8 && random;
    good.then_some(Find { begin: end, end: end + len, detector: Detector::Bearer })
}

/// `sk-` and at least twenty characters among which are capitals, small letters and digits.
pub(super) fn mixed(text: &[u8], begin: usize, end: usize) -> Option<Find> {
    let to = token_end(text, end);
    let token = &text[end..to];
    let has = |kind: fn(&u8) -> bool| token.iter().any(kind);
    let good = token.len() >= 20
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit);
    (good && starts_word(text, begin)).then_some(Find { begin, end: to, detector: Detector::Key })
}

/// What stands behind `sig=` in a URL.
pub(super) fn signature(text: &[u8], end: usize) -> Option<Find> {
    let inside = |b: &u8| in_token(*b) || matches!(b, b'%' | b'+' | b'/' | b'=' | b'.');
    let len = text[end..].iter().take_while(|b| inside(b)).count();
    (len >= 20).then_some(Find { begin: end, end: end + len, detector: Detector::Key })
}
