//! Words that give a secret away: one search for all of them, then a closer look at each.
//!
//! Words are written in up to three ways (`secret`, `Secret`, `SECRET`): a search without regard to
//! case would cost several times as much on every line.

use aho_corasick::packed;

use super::keys::{self, Form};
use super::{Detector, Find, shapes};

/// What is done where a word was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    detector: Detector,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A prefix of a provider's key.
    Provider(Form),
    /// The start of a token of three parts.
    Jwt,
    /// The start of a private key.
    PrivateKey,
    /// The word before a token.
    Bearer,
    /// A part of a name whose value is secret.
    Named(Value),
    /// `sk-` and letters of all kinds.
    Mixed,
    /// The signature of a URL.
    Signature,
    /// Before `-u name:password`.
    Curl,
    /// The start of a segment of HL7 about a patient.
    Hl7,
    /// A list of a resource's identifiers in FHIR.
    Fhir,
}

/// Which values of a name are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
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

const fn form(min: usize) -> Kind {
    Kind::Provider(Form { min, capitals: false })
}

/// All words, with what they give away.
fn all() -> Vec<(&'static str, Word)> {
    let mut words = Vec::new();
    let mut add = |detector, kind, texts: &[&'static str]| {
        words.extend(texts.iter().map(|text| (*text, Word { detector, kind })));
    };
    add(Detector::PrivateKey, Kind::PrivateKey, &["-----BEGIN "]);
    let capitals = Kind::Provider(Form { min: 16, capitals: true });
    add(Detector::Key, capitals, &["AKIA", "ASIA"]);
    add(Detector::Key, form(30), &["AIza", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_"]);
    add(
        Detector::Key,
        form(20),
        &[
            "github_pat_",
            "glpat-",
            "ya29.",
            "SG.",
            "dop_v1_",
            "hvs.",
            "sk-ant-",
            "sk-proj-",
            "pypi-",
        ],
    );
    add(Detector::Key, form(10), &["xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "xapp-"]);
    add(
        Detector::Key,
        form(16),
        &["sk_live_", "sk_test_", "rk_live_", "whsec_", "hooks.slack.com/services/"],
    );
    add(Detector::Key, Kind::Mixed, &["sk-"]);
    add(Detector::Key, Kind::Signature, &["?sig=", "&sig=", ";sig=", "u0026sig="]);
    add(Detector::Jwt, Kind::Jwt, &["eyJ"]);
    add(Detector::Bearer, Kind::Bearer, &["Bearer ", "bearer ", "BEARER "]);
    let header = Kind::Named(Value::Header);
    add(Detector::Bearer, header, &["uthorization", "UTHORIZATION"]);
    let password = Kind::Named(Value::Password);
    add(
        Detector::Password,
        password,
        &["passw", "Passw", "PASSW", "passphrase", "Passphrase", "PASSPHRASE"],
    );
    add(Detector::Password, password, &["pwd", "Pwd", "PWD", "secret", "Secret", "SECRET"]);
    add(Detector::Password, password, &["ccountKey"]);
    add(Detector::Password, Kind::Named(Value::Pass), &["pass", "Pass", "PASS"]);
    add(Detector::Password, Kind::Curl, &["curl "]);
    add(Detector::Bearer, Kind::Named(Value::Cookie), &["ookie", "OOKIE"]);
    let token = Kind::Named(Value::Token);
    add(Detector::Password, token, &["token", "Token", "TOKEN", "redential", "REDENTIAL"]);
    add(
        Detector::Password,
        token,
        &[
            "apikey", "apiKey", "ApiKey", "APIKEY", "api_key", "API_KEY", "api-key", "Api-Key",
            "API-Key",
        ],
    );
    add(
        Detector::Password,
        token,
        &[
            "rivate_key",
            "rivateKey",
            "RIVATE_KEY",
            "rivate-key",
            "ncryption_key",
            "ncryptionKey",
            "NCRYPTION_KEY",
            "ncryption-key",
        ],
    );
    add(Detector::Password, token, &["access_key", "accessKey", "AccessKey", "ACCESS_KEY"]);
    add(Detector::Card, Kind::Named(Value::Digits), &["cvv", "CVV", "cvc", "CVC"]);
    add(
        Detector::Ssn,
        Kind::Named(Value::Ssn),
        &["ssn", "SSN", "ocial security", "ocial Security", "ocialSecurity", "ocial_security"],
    );
    let number = Kind::Named(Value::Number);
    add(
        Detector::Mrn,
        number,
        &["mrn", "MRN", "edical record", "edical Record", "edicalRecord", "edical_record"],
    );
    add(
        Detector::Mrn,
        number,
        &["patient", "Patient", "PATIENT", "ember_id", "emberId", "ember ID", "eneficiary"],
    );
    // The first of them that is on finds what all are looking for.
    for detector in [Detector::Mrn, Detector::BirthDate, Detector::Ssn, Detector::Phone] {
        add(detector, Kind::Hl7, &["PID|"]);
    }
    add(Detector::Mrn, Kind::Fhir, &["identifier\"", "identifier\\\""]);
    add(Detector::BirthDate, Kind::Named(Value::Date), &["dob", "DOB", "birth", "Birth", "BIRTH"]);
    add(
        Detector::Phone,
        Kind::Named(Value::Phone),
        &["phone", "Phone", "PHONE", "fax", "Fax", "mobile", "Mobile"],
    );
    words
}

/// The search for the words of the detectors that are on.
pub(super) fn searcher(on: impl Fn(Detector) -> bool) -> Option<(packed::Searcher, Vec<Word>)> {
    let wanted: Vec<_> = all().into_iter().filter(|(_, word)| on(word.detector)).collect();
    let mut builder = packed::Config::new().heuristic_pattern_limits(false).builder();
    builder.extend(wanted.iter().map(|(text, _)| text));
    let searcher = builder.build()?;
    Some((searcher, wanted.into_iter().map(|(_, word)| word).collect()))
}

/// Looks closer at a word; up to where the text has been dealt with.
pub(super) fn look(
    word: &Word,
    text: &[u8],
    begin: usize,
    end: usize,
    finds: &mut Vec<Find>,
) -> usize {
    let found = match word.kind {
        Kind::Provider(form) => keys::provider(text, begin, end, form),
        Kind::Jwt => keys::jwt(text, begin),
        Kind::PrivateKey => keys::private_key(text, begin),
        Kind::Bearer => keys::bearer(text, begin, end),
        Kind::Mixed => keys::mixed(text, begin, end),
        Kind::Signature => keys::signature(text, end),
        Kind::Curl => shapes::curl(text, end),
        Kind::Hl7 => return shapes::hl7(text, begin, end, finds),
        Kind::Fhir => return shapes::fhir(text, end, finds),
        Kind::Named(value) => named(word.detector, value, text, begin, end),
    };
    // A token that is none is not looked at again from each of its middles.
    let passed = || if matches!(word.kind, Kind::Jwt) { keys::token_end(text, end) } else { end };
    // Between `curl` and the password may stand others.
    let found_end = |find: Find| if matches!(word.kind, Kind::Curl) { end } else { find.end };
    let done = found.map_or_else(passed, found_end);
    finds.extend(found);
    done
}

/// `"db_password" : "x"`, `PASSWORD=x`, `secret: x`, `MRN 12345678`.
fn named(detector: Detector, kind: Value, text: &[u8], begin: usize, end: usize) -> Option<Find> {
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

fn secret(kind: Value, value: &[u8], quoted: bool, marked: bool, last: bool) -> usize {
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

fn digits(value: &[u8], count: std::ops::RangeInclusive<usize>) -> usize {
    let len = value.iter().take_while(|b| b.is_ascii_digit()).count();
    if count.contains(&len) && value.get(len).is_none_or(|b| !b.is_ascii_alphanumeric()) {
        len
    } else {
        0
    }
}

/// A word of five characters or more with at least four digits.
fn number(value: &[u8]) -> usize {
    let len =
        value.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/')).count();
    let count = value[..len].iter().filter(|b| b.is_ascii_digit()).count();
    if len >= 5 && count >= 4 { len } else { 0 }
}

/// `1970-01-31`, `01/31/1970`, `31.1.70`, `19700131`, `Jan 31, 1970`.
fn date(rest: &[u8]) -> usize {
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
fn phone(rest: &[u8]) -> usize {
    let inside =
        |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b' ' | b'(' | b')' | b'+');
    let mut len = rest.iter().take(24).take_while(|b| inside(b)).count();
    while len > 0 && !rest[len - 1].is_ascii_digit() {
        len -= 1;
    }
    let count = rest[..len].iter().filter(|b| b.is_ascii_digit()).count();
    if (7..=15).contains(&count) { len } else { 0 }
}
