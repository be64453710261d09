//! What a line says of itself: its severity, and the trace that it belongs to.
//!
//! A line is JSON, `key=value` pairs, klog or plain text; each is told by the line itself, so the lines
//! of a container may differ. An id is taken only when it looks like one. The bytes stay as they are:
//! nothing here changes a line, and what is not understood is text.
//!
//! Pure, without allocation, bounded in how far it looks into a line.

use memchr::memmem;
use taffrail_model::Level;

use crate::tail::level;

/// How far into a line ids are looked for, in bytes.
const ID_BYTES: usize = 8 << 10;
/// Longest name of an id to each side of what it is found by, in bytes.
const NAME_BYTES: usize = 32;

/// How lines are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parser {
    /// As each line shows.
    #[default]
    Auto,
    /// As JSON objects only.
    Json,
    /// As `key=value` pairs only.
    Logfmt,
    /// As klog only.
    Klog,
    /// Not at all.
    None,
}

impl Parser {
    /// The names in the annotation.
    pub const NAMES: [&'static str; 5] = ["auto", "json", "logfmt", "klog", "none"];

    /// The parser of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Auto, Self::Json, Self::Logfmt, Self::Klog, Self::None];
        Self::NAMES.iter().position(|known| *known == name).map(|at| all[at])
    }

    /// The severity of a line.
    #[must_use]
    pub fn level(self, line: &[u8]) -> Level {
        match self {
            Self::Auto => level::detect(line),
            Self::Json => level::of_json(line),
            Self::Logfmt => level::of_logfmt(line),
            Self::Klog => level::of_klog(line),
            Self::None => Level::Unknown,
        }
    }

    /// Whether a line is read as a JSON object.
    #[must_use]
    pub fn is_json(self, line: &[u8]) -> bool {
        matches!(self, Self::Auto | Self::Json) && line.trim_ascii_start().first() == Some(&b'{')
    }

    /// Whether a line that is no object is read as pairs.
    #[must_use]
    pub fn may_be_pairs(self) -> bool {
        matches!(self, Self::Auto | Self::Logfmt)
    }
}

/// The ids of the trace and the span that a line belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids<'a> {
    /// Of the trace.
    pub trace: Option<&'a str>,
    /// Of the span.
    pub span: Option<&'a str>,
}

/// The ids in a line, under any of the usual spellings (`trace_id`, `traceId`, `otel.trace_id`, …).
#[must_use]
pub fn ids(parser: Parser, line: &[u8]) -> Ids<'_> {
    let head = &line[..line.len().min(ID_BYTES)];
    // Both spellings of the first letter share these; hardly any other line has them.
    if parser == Parser::None || memmem::find(head, b"race").is_none() {
        return Ids::default();
    }
    let json = parser.is_json(head);
    if !json && !parser.may_be_pairs() {
        return Ids::default();
    }
    let find = |stem: &[u8], name: &[u8]| {
        let mut found = memmem::find_iter(head, stem).filter_map(|at| value(head, at, name, json));
        found.next()
    };
    Ids { trace: find(b"race", b"traceid"), span: find(b"pan", b"spanid") }
}

/// The value of the key around `at`, if the key is `name` but for case and separators and the value
/// looks like an id.
fn value<'a>(line: &'a [u8], at: usize, name: &[u8], json: bool) -> Option<&'a str> {
    let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'@');
    let begin = at - line[..at].iter().rev().take(NAME_BYTES).take_while(|b| inside(b)).count();
    let end = at + line[at..].iter().take(NAME_BYTES).take_while(|b| inside(b)).count();
    if !is_named(&line[begin..end], name) {
        return None;
    }
    let rest = &line[end..];
    let rest = if json {
        let rest = rest.strip_prefix(b"\"")?.trim_ascii_start();
        rest.strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?
    } else {
        let rest = rest.strip_prefix(b"=")?;
        rest.strip_prefix(b"\"").unwrap_or(rest)
    };
    let len = rest.iter().take_while(|b| b.is_ascii_hexdigit() || **b == b'-').count();
    let (id, after) = rest.split_at(len);
    let whole = after.first().is_none_or(|b| !b.is_ascii_alphanumeric());
    let set = id.iter().any(|b| !matches!(b, b'0' | b'-'));
    let fits = (16..=36).contains(&len) && whole && set;
    if fits { std::str::from_utf8(id).ok() } else { None }
}

/// Whether the letters of `key` end with `name`, as in `otel.Trace-ID`.
fn is_named(key: &[u8], name: &[u8]) -> bool {
    let letters = key.iter().rev().filter(|b| b.is_ascii_alphanumeric());
    let mut letters = letters.map(u8::to_ascii_lowercase);
    if !name.iter().rev().all(|b| letters.next() == Some(*b)) {
        return false;
    }
    // What stands before is a name of its own: `dd.trace_id` yes, `backtraceid` no.
    let mut left = name.len();
    let start = key.iter().rposition(|b| {
        left -= usize::from(b.is_ascii_alphanumeric());
        left == 0
    });
    let before = start.and_then(|at| at.checked_sub(1)).map(|at| key[at]);
    before.is_none_or(|b| {
        !b.is_ascii_alphanumeric() || start.is_some_and(|at| key[at].is_ascii_uppercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn ids_are_found_under_the_usual_names() {
        let lines = [
            format!(r#"{{"msg":"x","trace_id":"{TRACE}","span_id":"{SPAN}"}}"#),
            format!(r#"{{"traceId": "{TRACE}", "spanId" : "{SPAN}"}}"#),
            format!(r#"{{"a":{{"otelTraceID":"{TRACE}","otelSpanID":"{SPAN}"}}}}"#),
            format!(r#"{{"trace.id":"{TRACE}","span.id":"{SPAN}"}}"#),
            format!("level=info trace_id={TRACE} span_id={SPAN} msg=\"ok\""),
            format!("msg=x traceID=\"{TRACE}\" spanID=\"{SPAN}\""),
        ];
        for line in lines {
            let found = ids(Parser::Auto, line.as_bytes());
            assert_eq!(found, Ids { trace: Some(TRACE), span: Some(SPAN) }, "{line}");
            assert_eq!(ids(Parser::None, line.as_bytes()), Ids::default());
        }
    }

    #[test]
    fn what_is_no_id_is_none() {
        let lines = [
            r#"{"trace_id":"none"}"#.to_owned(),
            r#"{"trace_id":123}"#.to_owned(),
            r#"{"trace_id":"00000000000000000000000000000000"}"#.to_owned(),
            format!(r#"{{"msg":"trace_id {TRACE}"}}"#),
            format!(r#"{{"backtraceid":"{TRACE}"}}"#),
            format!(r#"{{"trace_id":"{TRACE}{TRACE}"}}"#),
            format!("trace {TRACE}"),
            "level=trace msg=x".to_owned(),
        ];
        for line in lines {
            assert_eq!(ids(Parser::Auto, line.as_bytes()), Ids::default(), "{line}");
        }
    }

    #[test]
    fn a_parser_sees_its_own_format_only() {
        let json = br#"{"level":"error"}"#;
        let pairs = b"level=error";
        let klog = b"E1120 14:51:32.123456       1 a.go:1] boom";
        let table = [
            (Parser::Auto, [true, true, true]),
            (Parser::Json, [true, false, false]),
            (Parser::Logfmt, [false, true, false]),
            (Parser::Klog, [false, false, true]),
            (Parser::None, [false, false, false]),
        ];
        for (parser, expected) in table {
            let lines: [&[u8]; 3] = [json, pairs, klog];
            assert_eq!(lines.map(|l| parser.level(l) == Level::Error), expected, "{parser:?}");
        }
        for name in Parser::NAMES {
            assert!(Parser::named(name).is_some());
        }
        assert_eq!(Parser::named("xml"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ids(Parser::Auto, &bytes);
            let _ = ids(Parser::Auto, &[b"{\"trace_id\":", &bytes[..], b"race", &bytes[..]].concat());
        }
    }
}
