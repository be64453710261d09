//! Secrets that stand in the shapes of others: XML, options of programs, structs of Go, lists, HL7, FHIR.
//!
//! Each looks no further than a fixed number of bytes. Pure.

use super::values::{ends_value, is_prose, quoted};
use super::{Detector, Find};

/// How far a value may be from its name, in bytes.
const NEAR: usize = 512;
/// Longest value, in bytes.
const VALUE_MAX: usize = 4096;
/// Longest list of identifiers, longest segment.
const PART_MAX: usize = 1024;
/// Words behind an option that speak of it.
const SPEECH: [&str; 16] = [
    "argument", "cannot", "can", "flag", "from", "if", "instead", "on", "option", "or", "should",
    "to", "via", "when", "with", "without",
];

fn near(text: &[u8], from: usize, most: usize) -> &[u8] {
    &text[from.min(text.len())..text.len().min(from + most)]
}

/// `<password>x</password>`, `--password x`: values without a mark.
pub(super) fn unmarked(
    detector: Detector,
    text: &[u8],
    begin: usize,
    name_end: usize,
) -> Option<Find> {
    let head = &text[begin.saturating_sub(64)..begin];
    let in_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
    let len = head.iter().rev().take_while(|b| in_name(b)).count();
    let (before, name) = head.split_at(head.len() - len);
    let (start, len) = if before.ends_with(b"<") {
        element(text, name_end)?
    } else if name.starts_with(b"--") || (name == b"-" && text[begin..name_end].len() > 2) {
        option(text, name_end)?
    } else {
        return None;
    };
    Some(Find { begin: start, end: start + len, detector })
}

/// The text of an element, from behind its name.
fn element(text: &[u8], name_end: usize) -> Option<(usize, usize)> {
    let tag = near(text, name_end, NEAR);
    if !matches!(tag.first(), Some(b'>' | b' ' | b'\t')) {
        return None;
    }
    let close = memchr::memchr2(b'>', b'<', tag).filter(|at| tag[*at] == b'>')?;
    if tag[..close].ends_with(b"/") {
        return None;
    }
    let start = name_end + close + 1;
    let rest = near(text, start, VALUE_MAX);
    let value = &rest[..memchr::memchr(b'<', rest).unwrap_or(rest.len())];
    let stars = value.iter().all(|b| *b == b'*' || b.is_ascii_whitespace());
    (!stars && !is_prose(value) && !is_reference(value)).then_some((start, value.len()))
}

/// The word behind an option.
fn option(text: &[u8], name_end: usize) -> Option<(usize, usize)> {
    let gap = near(text, name_end, 8).iter().take_while(|b| **b == b' ').count();
    let mut start = name_end + gap;
    let rest = near(text, start, VALUE_MAX);
    let quote = rest.first().copied().filter(|b| matches!(b, b'"' | b'\''));
    let len = if let Some(quote) = quote {
        start += 1;
        quoted(&rest[1..], quote, false)
    } else {
        bare(rest)
    };
    let value = near(text, start, len);
    let stars = value.iter().all(|b| *b == b'*');
    let speech =
        quote.is_none() && SPEECH.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()));
    let good = gap > 0
        && !stars
        && !speech
        && !value.starts_with(b"-")
        && !value.starts_with(b"=")
        && !is_prose(value)
        && !is_reference(value);
    good.then_some((start, len))
}

/// The password of `curl -u name:password`.
pub(super) fn curl(text: &[u8], end: usize) -> Option<Find> {
    let rest = near(text, end, NEAR);
    let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
    let at = [&b"-u "[..], b"--user "].iter().find_map(|option| {
        let at = memchr::memmem::find(line, option)?;
        (at == 0 || line[at - 1] == b' ').then_some(at + option.len())
    })?;
    let word = &line[at..];
    let quote = word.first().filter(|b| matches!(b, b'"' | b'\'')).copied();
    let over = |b: &u8| quote.map_or_else(|| b.is_ascii_whitespace(), |quote| *b == quote);
    let skip = usize::from(quote.is_some());
    let len = word[skip..].iter().position(over).unwrap_or(word.len() - skip);
    let word = &word[skip..skip + len];
    let colon = memchr::memchr(b':', word)?;
    let value = &word[colon + 1..];
    let begin = end + at + skip + colon + 1;
    let good = !value.is_empty() && !is_reference(value) && !value.iter().all(|b| *b == b'*');
    good.then_some(Find { begin, end: begin + value.len(), detector: Detector::Password })
}

/// Whether a name and its value are `{Password:x Host:db}`, as Go prints a struct.
pub(super) fn is_field_of_go(text: &[u8], begin: usize, start: usize) -> bool {
    if !text[..start].ends_with(b":") || text[..start].ends_with(b"::") {
        return false;
    }
    let head = &text[begin.saturating_sub(64)..begin];
    let word = head.iter().rev().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    if head[..head.len() - word].ends_with(b"{") {
        return true;
    }
    let rest = near(text, start, 64);
    let len = rest.iter().take_while(|b| !ends_value(**b)).count();
    match rest.get(len) {
        Some(b'}') => true,
        Some(b' ') => {
            let next = &rest[len + 1..];
            let name = next.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
            let field = next.first().is_some_and(u8::is_ascii_uppercase);
            field && next.get(name) == Some(&b':') && next.get(name + 1) != Some(&b' ')
        }
        _ => false,
    }
}

/// The length of a value without quotes. A comma or a bracket ends it only where something else begins
/// behind it.
pub(super) fn bare(rest: &[u8]) -> usize {
    let mut at = 0;
    // What stands in pointed brackets is for people, and is told as a whole.
    if rest.first() == Some(&b'<') {
        at = 1;
    }
    while let Some(byte) = rest.get(at) {
        let over = match byte {
            b',' | b';' | b')' | b'}' | b']' => begins_other(&rest[at + 1..]),
            byte => ends_value(*byte),
        };
        if over {
            break;
        }
        at += 1;
    }
    at
}

/// Whether nothing of a value follows: the end, a space, another bracket, another name with its mark.
fn begins_other(rest: &[u8]) -> bool {
    let Some(first) = rest.first() else { return true };
    if ends_value(*first) || matches!(first, b'{' | b'[' | b'(' | b'.' | b':' | b'\\' | b'|') {
        return true;
    }
    let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let len = rest.iter().take(64).take_while(|b| name(b)).count();
    len > 0 && matches!(rest.get(len), Some(b'=' | b':'))
}

/// Whether a value stands for another or for nothing: `${X}`, `$X`, `[hidden]`, `<none>`, `{`.
pub(super) fn is_reference(value: &[u8]) -> bool {
    let Some((first, rest)) = value.split_first() else { return true };
    let plain = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    match first {
        b'$' => matches!(rest.first(), Some(b'{' | b'(') | None) || rest.iter().all(plain),
        b'{' => !rest.first().is_some_and(u8::is_ascii_alphanumeric) || rest.contains(&b'}'),
        b'[' | b'<' => {
            let word = |b: &u8| {
                b.is_ascii_alphabetic() || matches!(b, b' ' | b'-' | b'_' | b']' | b'>' | b',')
            };
            let list = |b: &u8| b.is_ascii_digit() || matches!(b, b',' | b' ' | b'.' | b']');
            rest.iter().all(word) || rest.iter().all(list)
        }
        _ => false,
    }
}

/// The length of a value in quotes; of a list, up to the last quote of its last.
pub(super) fn list(rest: &[u8], quote: u8, escaped: bool, is_list: bool) -> usize {
    let mut end = quoted(rest, quote, escaped);
    if !is_list {
        return end;
    }
    loop {
        let skip = 1 + usize::from(escaped);
        let gap = near(rest, end + skip, 16);
        let len = gap.iter().take_while(|b| matches!(b, b',' | b' ' | b'\\')).count();
        if !gap[..len].contains(&b',') || gap.get(len) != Some(&quote) {
            return end;
        }
        let next = end + skip + len + 1;
        end = next + quoted(&rest[next..], quote, escaped);
    }
}

/// A segment `PID|…` of HL7: identifiers, the date of birth, telephones, the social security number.
pub(super) fn hl7(text: &[u8], begin: usize, end: usize, finds: &mut Vec<Find>) -> usize {
    if begin.checked_sub(1).is_some_and(|at| text[at].is_ascii_alphanumeric()) {
        return end;
    }
    let rest = near(text, end, PART_MAX);
    let over = |b: &u8| matches!(b, b'\r' | b'\n' | b'"' | b'\\');
    let segment = &rest[..rest.iter().position(over).unwrap_or(rest.len())];
    let mut at = end;
    for (number, field) in (1..).zip(segment.split(|b| *b == b'|')).take(21) {
        let detector = match number {
            2 | 3 | 4 | 18 | 20 => Some(Detector::Mrn),
            7 => Some(Detector::BirthDate),
            13 | 14 => Some(Detector::Phone),
            19 => Some(Detector::Ssn),
            _ => None,
        };
        if let Some(detector) = detector.filter(|_| field.iter().any(u8::is_ascii_digit)) {
            finds.push(Find { begin: at, end: at + field.len(), detector });
        }
        at += field.len() + 1;
    }
    end
}

/// The values of `"identifier":[{"system":"…","value":"…"}]`.
pub(super) fn fhir(text: &[u8], end: usize, finds: &mut Vec<Find>) -> usize {
    let rest = near(text, end, PART_MAX);
    let opens = rest.iter().take_while(|b| matches!(b, b':' | b' ')).count();
    let list = &rest[opens..];
    if list.first() != Some(&b'[') {
        return end;
    }
    let list = &list[..memchr::memchr(b']', list).unwrap_or(list.len())];
    if memchr::memmem::find(list, b"system").is_none() {
        return end;
    }
    for at in memchr::memmem::find_iter(list, b"value") {
        let behind = &list[at + 5..];
        let gap = behind.iter().take_while(|b| matches!(b, b'\\' | b'"' | b':' | b' ')).count();
        let good = behind[..gap].contains(&b':') && behind[..gap].ends_with(b"\"");
        if good {
            let escaped = behind[..gap].ends_with(b"\\\"");
            let begin = end + opens + at + 5 + gap;
            let len = quoted(&behind[gap..], b'"', escaped);
            finds.push(Find { begin, end: begin + len, detector: Detector::Mrn });
        }
    }
    end
}
