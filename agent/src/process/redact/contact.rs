//! Addresses: e-mail, passwords in URLs, IPv6.

use std::net::Ipv6Addr;

use super::{Detector, Find};

/// Longest address that is looked for, in bytes to each side of the `@`.
const SIDE_MAX: usize = 254;
/// Ends of names that systemd gives its units: `getty@tty1.service` is nobody's address.
const UNITS: [&[u8]; 7] =
    [b"service", b"socket", b"timer", b"mount", b"slice", b"scope", b"target"];

/// What stands around each `@`.
pub(super) fn at_signs(text: &[u8], email: bool, url: bool, finds: &mut Vec<Find>) {
    let (mut last, mut done) = (0, 0);
    for at in memchr::memchr_iter(b'@', text) {
        if at < done {
            continue;
        }
        // Not further back than the one before: the work must not grow with their number squared.
        let since = std::mem::replace(&mut last, at + 1);
        if url && let Some(find) = url_password(text, since, at) {
            (last, done) = (find.end + 1, find.end + 1);
            finds.push(find);
            continue;
        }
        if email && let Some(find) = address(text, at, 1) {
            finds.push(find);
        }
    }
    if email {
        let encoded = memchr::memmem::find_iter(text, b"%40");
        finds.extend(encoded.filter_map(|at| address(text, at, 3)));
    }
}

/// `name@example.org`, `name%40example.org`: what stands between is `width` bytes long.
fn address(text: &[u8], at: usize, width: usize) -> Option<Find> {
    let local = |b: &u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-') || *b >= 0x80
    };
    let before = &text[at.saturating_sub(SIDE_MAX)..at];
    let len = before.iter().rev().take_while(|b| local(b)).count();
    let begin = at - len;
    let begin = begin + text[begin..at].iter().take_while(|b| matches!(b, b'.' | b'-')).count();
    let after = &text[at + width..text.len().min(at + width + SIDE_MAX)];
    let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let len = after.iter().take_while(|b| inside(b)).count();
    let mut domain = &after[..len];
    while let Some(rest) = domain.strip_suffix(b".").or_else(|| domain.strip_suffix(b"-")) {
        domain = rest;
    }
    let dot = memchr::memrchr(b'.', domain)?;
    let top = &domain[dot + 1..];
    let good = begin < at
        && dot > 0
        && top.len() >= 2
        && top.iter().all(u8::is_ascii_alphabetic)
        && !UNITS.contains(&top);
    good.then_some(Find { begin, end: at + width + domain.len(), detector: Detector::Email })
}

/// `postgres://user:password@host`: the password.
fn url_password(text: &[u8], since: usize, at: usize) -> Option<Find> {
    let start = since.max(at.saturating_sub(SIDE_MAX));
    let before = &text[start..at];
    let outside = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>');
    let word = before.iter().rposition(outside).map_or(0, |at| at + 1);
    let scheme = memchr::memmem::rfind(&before[word..], b"://")?;
    let user = word + scheme + 3;
    let colon = user + memchr::memchr(b':', &before[user..])?;
    if before[user..colon].contains(&b'/') {
        return None;
    }
    let begin = start + colon + 1;
    // A password may hold an `@` itself: the last one stands before the host.
    let rest = &text[at..text.len().min(at + SIDE_MAX)];
    let over = |b: &u8| outside(b) || matches!(b, b'/' | b'?' | b'#' | b',' | b'\\');
    let rest = &rest[..rest.iter().position(over).unwrap_or(rest.len())];
    let at = at + memchr::memrchr(b'@', rest).unwrap_or(0);
    (begin < at).then_some(Find { begin, end: at, detector: Detector::UrlPassword })
}

/// Addresses of IPv6: runs of hexadecimal groups between colons.
pub(super) fn ipv6(text: &[u8], finds: &mut Vec<Find>) {
    let inside = |b: &u8| b.is_ascii_hexdigit() || *b == b':';
    let mut from = 0;
    while let Some(colon) = memchr::memchr(b':', &text[from..]).map(|at| from + at) {
        let left =
            text[from..colon].iter().rev().take(4).take_while(|b| b.is_ascii_hexdigit()).count();
        let right = text[colon..].iter().take(48).take_while(|b| inside(b)).count();
        let (begin, mut end) = (colon - left, colon + right);
        from = end.max(colon + 1);
        let colons = memchr::memchr_iter(b':', &text[begin..end]).count();
        if colons < 2 {
            continue;
        }
        if text[begin..end].ends_with(b":") && !text[begin..end].ends_with(b"::") {
            end -= 1;
        }
        let alone = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
        let before = begin.checked_sub(1).map(|at| &text[at]);
        let parsed =
            std::str::from_utf8(&text[begin..end]).ok().and_then(|t| t.parse::<Ipv6Addr>().ok());
        // `::` and `::1` are nobody's.
        let someone = parsed.is_some_and(|ip| !ip.is_unspecified() && !ip.is_loopback());
        // `a::b` is also how Rust and C++ name things: an address has a digit.
        let digit = text[begin..end].iter().any(u8::is_ascii_digit);
        if someone && digit && alone(before) && alone(text.get(end)) {
            finds.push(Find { begin, end, detector: Detector::Ip });
        }
    }
}
