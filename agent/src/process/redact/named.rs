//! Values that a name before them gives away: `"db_password" : "x"`, `PASSWORD=x`, `MRN 12345678`.

use super::values::{date, digits, ends_value, is_prose, number, phone, secret};
use super::{Detector, Find, shapes};

/// Which values of a name are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Any that is not prose.
    Password,
    /// Any that is not prose and not a plain number.
    Token,
    /// As a token, of a name that ends here, behind an `=` or in quotes.
    Pass,
    /// All pairs of a header.
    Cookie,
    /// Everything up to the end of the header.
    Header,
    /// Three or four digits.
    Digits,
    /// Nine digits.
    Ssn,
    /// A word with a digit.
    Number,
    /// A date.
    Date,
    /// Seven or more digits.
    Phone,
}

/// Ends of names whose value is about the secret, not the secret.
const ABOUT: [&str; 26] = [
    "name",
    "names",
    "ref",
    "refs",
    "path",
    "file",
    "id",
    "ids",
    "type",
    "count",
    "length",
    "version",
    "policy",
    "arn",
    "url",
    "uri",
    "endpoint",
    "expiry",
    "expires",
    "expiration",
    "ttl",
    "valid",
    "required",
    "store",
    "class",
    "provider",
];
/// Longest value and longest name that are looked at, in bytes.
const VALUE_MAX: usize = 4096;
const NAME_MAX: usize = 64;

/// `"db_password" : "x"`, `PASSWORD=x`, `secret: x`, `MRN 12345678`.
pub(super) fn named(
    detector: Detector,
    kind: Value,
    text: &[u8],
    begin: usize,
    end: usize,
) -> Option<Find> {
    let in_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let limit = text.len().min(end + NAME_MAX);
    let name_end = end + text[end..limit].iter().take_while(|b| in_name(b)).count();
    let spoken = matches!(kind, Value::Number | Value::Date | Value::Phone | Value::Ssn);
    if !spoken && is_about(&text[begin..name_end]) {
        return None;
    }
    let exact = matches!(kind, Value::Pass | Value::Cookie);
    if exact && (name_end != end || (kind == Value::Pass && !ends_name(text, begin))) {
        return None;
    }
    let secret_name = matches!(kind, Value::Password | Value::Token);
    if secret_name && let Some(find) = shapes::unmarked(detector, text, begin, name_end) {
        return Some(find);
    }
    let (start, quote, marked) = value_start(text, name_end, spoken)?;
    let marked = marked || shapes::is_field_of_go(text, begin, start);
    if kind == Value::Pass && !marked && quote.is_none() {
        return None;
    }
    let rest = &text[start..text.len().min(start + VALUE_MAX)];
    let len = match quote {
        Some((quote, escaped)) => shapes::list(rest, quote, escaped, opens_list(text, start)),
        None if kind == Value::Cookie => {
            rest.iter().take_while(|b| !matches!(b, b'\n' | b'\r' | b'"' | b'\'')).count()
        }
        None if kind == Value::Header => rest
            .iter()
            .take_while(|b| !matches!(b, b'\n' | b'\r' | b',' | b';' | b'"' | b'\''))
            .count(),
        None if secret_name || kind == Value::Pass => shapes::bare(rest),
        None => rest.iter().take_while(|b| !ends_value(**b)).count(),
    };
    let value = &rest[..len];
    let len = match kind {
        Value::Header => {
            if len >= 4 && !is_prose(value) {
                len
            } else {
                0
            }
        }
        Value::Cookie if holds_pairs(value) => len,
        Value::Cookie => 0,
        Value::Password | Value::Token | Value::Pass => {
            secret(kind, value, quote.is_some(), marked, rest.len() == len)
        }
        Value::Digits => digits(value, 3..=4),
        Value::Ssn => digits(value, 9..=9),
        Value::Number => number(value),
        Value::Date => date(rest),
        Value::Phone => phone(rest),
    };
    (len > 0).then_some(Find { begin: start, end: start + len, detector })
}

/// Whether a name that ends in `pass` has it as a word of its own: `DB_PASS`, `dbPass`, not `bypass`.
fn ends_name(text: &[u8], begin: usize) -> bool {
    let before = begin.checked_sub(1).map(|at| text[at]);
    let lower = before.is_some_and(|b| b.is_ascii_lowercase());
    !before.is_some_and(|b| b.is_ascii_alphanumeric())
        || (lower && text[begin..].starts_with(b"Pass"))
}

/// Whether it begins with a name and an `=`.
fn holds_pairs(value: &[u8]) -> bool {
    let name = value.iter().take_while(|b| !b.is_ascii_whitespace() && **b != b'=').count();
    name > 0 && value.get(name) == Some(&b'=') && value.len() > name + 1
}

/// Whether the quote before a value opens a list.
fn opens_list(text: &[u8], start: usize) -> bool {
    let head = &text[..start - 1];
    head.strip_suffix(b"\\").unwrap_or(head).ends_with(b"[")
}

fn is_about(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    // What Vault calls so is half of a login.
    if name.ends_with(b"secret_id") {
        return false;
    }
    ABOUT.iter().any(|end| name.strip_suffix(end.as_bytes()).is_some_and(|rest| rest.len() >= 3))
}

/// The quote that a value stands in, and whether it is escaped: in a text inside of a text.
type Quote = Option<(u8, bool)>;

/// Where the value begins, which quote it stands in, and whether the mark before it is an `=`.
fn value_start(text: &[u8], name_end: usize, spoken: bool) -> Option<(usize, Quote, bool)> {
    let mut at = name_end;
    let skip = |at: &mut usize, bytes: &[u8]| {
        *at += text[*at..].iter().take(8).take_while(|b| bytes.contains(b)).count();
    };
    // A quote of JSON, also inside of a text that is JSON itself.
    skip(&mut at, b"\\\"'");
    skip(&mut at, b" \t");
    if spoken {
        // `Medical record number: 123`, `date of birth 1970-01-01`, `MRN #123`.
        for filler in ["number", "no.", "no", "id", "date", "is", "of"] {
            if text[at..].len() >= filler.len()
                && text[at..at + filler.len()].eq_ignore_ascii_case(filler.as_bytes())
            {
                at += filler.len();
                skip(&mut at, b"\\\"' \t");
            }
        }
        let before = at;
        skip(&mut at, b":=#\\\"' \t");
        return (at > name_end || before > name_end).then_some((at, None, true));
    }
    let mark = *text.get(at)?;
    let marked = match mark {
        b'=' => true,
        b':' => false,
        _ => return None,
    };
    skip(&mut at, b"=:>");
    skip(&mut at, b" \t");
    // The first of a list; bytes and raw texts of Python and Rust.
    let opens = |at: usize| matches!(text.get(at), Some(b'"' | b'\'' | b'\\'));
    if matches!(text.get(at), Some(b'[' | b'b' | b'r' | b'u')) && opens(at + 1) {
        at += 1;
    }
    let escaped = usize::from(text.get(at) == Some(&b'\\'));
    match text.get(at + escaped) {
        Some(quote @ (b'"' | b'\'' | b'`')) => {
            Some((at + escaped + 1, Some((*quote, escaped > 0)), marked))
        }
        Some(_) => Some((at, None, marked)),
        None => None,
    }
}
