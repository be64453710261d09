//! The time that a line tells of itself.
//!
//! Read are: RFC 3339 and its kin at the front of the line (a space for the `T`, a comma or a dot
//! before the fraction, slashes in the date, brackets around it), klog's head, and the fields `ts`,
//! `time`, `timestamp` and `@timestamp` of JSON and of pairs, as such a text or as a number of seconds,
//! milliseconds, microseconds or nanoseconds since the epoch.
//!
//! A time without a zone is that of a clock on the wall. When the runtime's time of the line is
//! known, the zone is what makes the two agree to within a minute; otherwise the time is taken as UTC
//! of a file, and not at all of a container. A time that is far from the runtime's is not believed.
//!
//! Pure.

use taffrail_model::Nanos;
use taffrail_model::time::{NANOS_PER_DAY, NANOS_PER_SEC};

use super::recognise::Parser;
use crate::tail::timestamp;

/// How far into a line fields are looked for, in bytes.
const FIELD_BYTES: usize = 1024;
/// How much later than the runtime's a time may be.
const AHEAD: Nanos = 3600 * NANOS_PER_SEC;
/// How much earlier: programs write what they have queued.
const BEHIND: Nanos = 7 * NANOS_PER_DAY;
/// How far a time without a zone may be from the runtime's, once the zone is found.
const AGREE: Nanos = 60 * NANOS_PER_SEC;
/// Zones differ by multiples of it.
const QUARTER: Nanos = 900 * NANOS_PER_SEC;

/// What the time of a line is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The time at which the runtime took the line.
    Runtime(Nanos),
    /// The time at which a file was read, which may be long after it was written.
    Reading(Nanos),
}

/// When the line says that it was written.
#[must_use]
pub fn of_line(parser: Parser, line: &[u8], against: Against) -> Option<Nanos> {
    if parser == Parser::None {
        return None;
    }
    let head = &line[..line.len().min(FIELD_BYTES)];
    let told = if parser.is_json(head) { json(head) } else { text(parser, head, against) }?;
    believed(told, against)
}

/// A time as it stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Since the epoch.
    Exact(Nanos),
    /// Without a zone, as if it were UTC.
    Wall(Nanos),
}

fn believed(told: Told, against: Against) -> Option<Nanos> {
    match (told, against) {
        (Told::Exact(ts), Against::Runtime(at)) => {
            (ts <= at.saturating_add(AHEAD) && ts >= at.saturating_sub(BEHIND)).then_some(ts)
        }
        (Told::Wall(ts), Against::Runtime(at)) => {
            let offset = ts.saturating_sub(at);
            if offset.saturating_abs() > NANOS_PER_DAY {
                return None;
            }
            let zone = (offset + offset.signum() * QUARTER / 2) / QUARTER * QUARTER;
            let agrees = zone.abs() <= NANOS_PER_DAY * 14 / 24 && (offset - zone).abs() <= AGREE;
            agrees.then_some(ts - zone)
        }
        (Told::Exact(ts) | Told::Wall(ts), Against::Reading(now)) => {
            (ts > 0 && ts <= now.saturating_add(NANOS_PER_DAY)).then_some(ts)
        }
    }
}

fn is_time_key(key: &[u8]) -> bool {
    let keys: [&[u8]; 5] = [b"ts", b"time", b"timestamp", b"@timestamp", b"t"];
    keys.contains(&key)
}

/// The first of the keys in a JSON object.
fn json(head: &[u8]) -> Option<Told> {
    for colon in memchr::memchr_iter(b':', head) {
        let before = head[..colon].trim_ascii_end();
        let Some(before) = before.strip_suffix(b"\"") else { continue };
        let Some(quote) = before.iter().rev().take(12).position(|b| *b == b'"') else { continue };
        if !is_time_key(&before[before.len() - quote..]) {
            continue;
        }
        let value = head[colon + 1..].trim_ascii_start();
        return match value.strip_prefix(b"\"") {
            Some(text) => {
                let (told, rest) = date(text).or_else(|| number(text))?;
                rest.starts_with(b"\"").then_some(told)
            }
            None => number(value).map(|(told, _)| told),
        };
    }
    None
}

fn text(parser: Parser, head: &[u8], against: Against) -> Option<Told> {
    let front = head.strip_prefix(b"[").unwrap_or(head);
    match parser {
        Parser::Auto => date(front)
            .map(|(told, _)| told)
            .or_else(|| klog(head, against))
            .or_else(|| pairs(head)),
        Parser::Klog => klog(head, against),
        Parser::Logfmt => pairs(head),
        Parser::Json | Parser::None => None,
    }
}

/// The first of the keys in `key=value` pairs.
fn pairs(head: &[u8]) -> Option<Told> {
    for equals in memchr::memchr_iter(b'=', head) {
        let start = head[..equals].iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
        if is_time_key(&head[start..equals]) {
            let value = &head[equals + 1..];
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            return date(value).or_else(|| number(value)).map(|(told, _)| told);
        }
    }
    None
}

/// `I1120 14:51:32.123456`: the year is that of the line's own time.
fn klog(head: &[u8], against: Against) -> Option<Told> {
    let date = head.get(1..5)?;
    let time = head.get(6..21)?;
    if !matches!(head[0], b'I' | b'W' | b'E' | b'F') || head[5] != b' ' || time[8] != b'.' {
        return None;
    }
    let (Against::Runtime(at) | Against::Reading(at)) = against;
    let year = taffrail_model::time::format_rfc3339(at);
    let year: i64 = year.get(..4)?.parse().ok()?;
    // Around New Year the line may be of the other one.
    let near = [year, year - 1, year + 1].into_iter().filter_map(|year| {
        let (month, day) =
            (std::str::from_utf8(&date[..2]).ok()?, std::str::from_utf8(&date[2..]).ok()?);
        let text = format!("{year:04}-{month}-{day}T{}Z", std::str::from_utf8(time).ok()?);
        timestamp::parse(text.as_bytes())
    });
    near.min_by_key(|ts| ts.saturating_sub(at).saturating_abs()).map(Told::Wall)
}

/// A number of seconds or of their parts since the epoch; which is told by its size.
fn number(text: &[u8]) -> Option<(Told, &[u8])> {
    let whole = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let value: i64 = std::str::from_utf8(&text[..whole]).ok()?.parse().ok()?;
    let scale = match whole {
        9 | 10 => NANOS_PER_SEC,
        12 | 13 => 1_000_000,
        15 | 16 => 1000,
        18 | 19 => 1,
        _ => return None,
    };
    let rest = &text[whole..];
    let Some(fraction) = rest.strip_prefix(b".") else {
        return Some((Told::Exact(value.checked_mul(scale)?), rest));
    };
    let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut nanos = 0;
    let mut unit = scale;
    for digit in &fraction[..digits] {
        unit /= 10;
        nanos += i64::from(digit - b'0') * unit;
    }
    let exact = value.checked_mul(scale)?.checked_add(nanos)?;
    // `1.795e9` is a number too, but not of this kind.
    let rest = &fraction[digits..];
    (rest.first() != Some(&b'e')).then_some((Told::Exact(exact), rest))
}

/// A date with a time at the front of `text`, and what follows it.
fn date(text: &[u8]) -> Option<(Told, &[u8])> {
    let (head, rest) = text.split_at_checked(19)?;
    let right = matches!((head[4], head[7]), (b'-', b'-') | (b'/', b'/'))
        && matches!(head[10], b'T' | b't' | b' ' | b'_')
        && head[13] == b':'
        && head[16] == b':';
    if !right {
        return None;
    }
    // Rewritten in the one form that the fast parser knows.
    let mut plain = Vec::with_capacity(40);
    plain.extend_from_slice(head);
    (plain[4], plain[7], plain[10]) = (b'-', b'-', b'T');
    let (fraction, rest) = fraction(rest);
    if !fraction.is_empty() {
        plain.push(b'.');
        plain.extend_from_slice(&fraction[..fraction.len().min(9)]);
    }
    let (zoned, rest) = zone(rest, &mut plain)?;
    let ts = timestamp::parse(&plain)?;
    Some((if zoned { Told::Exact(ts) } else { Told::Wall(ts) }, rest))
}

fn fraction(rest: &[u8]) -> (&[u8], &[u8]) {
    let Some((b'.' | b',', digits)) = rest.split_first() else { return (&[], rest) };
    let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if len == 0 { (&[], rest) } else { digits.split_at(len) }
}

/// Writes the zone; whether there is one, and what follows it. `None` when the time goes on otherwise.
fn zone<'a>(rest: &'a [u8], plain: &mut Vec<u8>) -> Option<(bool, &'a [u8])> {
    let spaced = rest.strip_prefix(b" ").unwrap_or(rest);
    match spaced.first() {
        Some(b'Z' | b'z') if rest.len() == spaced.len() => {
            plain.push(b'Z');
            Some((true, &rest[1..]))
        }
        Some(b'+' | b'-') => {
            let digits = |from: usize| {
                spaced.get(from..from + 2).filter(|d| d.iter().all(u8::is_ascii_digit))
            };
            let Some(hours) = digits(1) else {
                plain.push(b'Z');
                return Some((false, rest));
            };
            let colon = usize::from(spaced.get(3) == Some(&b':'));
            let minutes = digits(3 + colon);
            plain.push(spaced[0]);
            plain.extend_from_slice(hours);
            plain.push(b':');
            plain.extend_from_slice(minutes.unwrap_or(b"00"));
            Some((true, &spaced[if minutes.is_some() { 5 + colon } else { 3 }..]))
        }
        Some(b) if b.is_ascii_alphanumeric() && rest.len() == spaced.len() => None,
        _ => {
            plain.push(b'Z');
            Some((false, rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use taffrail_model::time::parse_rfc3339;

    const CRI: &str = "2026-11-20T14:51:33Z";

    fn told(parser: Parser, line: &str) -> Option<Nanos> {
        let against = Against::Runtime(parse_rfc3339(CRI).expect("a time"));
        of_line(parser, line.as_bytes(), against)
    }

    #[test]
    fn times_of_containers() {
        let same = parse_rfc3339("2026-11-20T14:51:32.123Z");
        let cases = [
            ("2026-11-20T14:51:32.123Z INFO x", same),
            ("2026-11-20T15:51:32.123+01:00 x", same),
            ("2026-11-20 15:51:32.123 +0100 x", same),
            ("2026-11-20 14:51:32,123 ERROR [main] a.B - x", same),
            ("2026-11-20 22:51:32,123 ERROR a clock on the wall in Manila", same),
            ("2026/11/20 14:51:32.123 [warn] x", same),
            ("[2026-11-20T14:51:32.123Z] x", same),
            ("I1120 14:51:32.123000       1 a.go:1] x", same),
            (r#"{"ts":1795186292.123,"msg":"x"}"#, same),
            (r#"{"time":"2026-11-20T14:51:32.123Z"}"#, same),
            (r#"{"@timestamp":1795186292123}"#, same),
            (r#"{"a":1,"timestamp":"1795186292123000000"}"#, same),
            ("level=info ts=2026-11-20T14:51:32.123Z msg=x", same),
            ("time=\"2026-11-20T14:51:32.123Z\" level=info", same),
            // Not believed, or none.
            ("2024-11-20T14:51:32.123Z replayed", None),
            ("2027-11-20T14:51:32.123Z from the future", None),
            ("2026-11-20 14:31:32 a wall clock that no zone explains", None),
            ("2026-11-20x", None),
            ("2026-13-20T14:51:32Z x", None),
            (r#"{"time":"yesterday"}"#, None),
            (r#"{"took":1795186292}"#, None),
            ("", None),
            ("no time", None),
        ];
        for (line, expected) in cases {
            assert_eq!(told(Parser::Auto, line), expected, "{line}");
            assert_eq!(told(Parser::None, line), None);
        }
    }

    #[test]
    fn times_of_files_may_be_old() {
        let now = parse_rfc3339(CRI).expect("a time");
        let old = of_line(Parser::Auto, b"2020-01-01 00:00:00 x", Against::Reading(now));
        assert_eq!(old, parse_rfc3339("2020-01-01T00:00:00Z"));
        let future = of_line(Parser::Auto, b"2030-01-01 00:00:00 x", Against::Reading(now));
        assert_eq!(future, None);
    }

    #[test]
    fn klog_knows_no_year() {
        let at = parse_rfc3339("2027-01-01T00:00:05Z").expect("a time");
        let line = b"I1231 23:59:59.000000       1 a.go:1] x";
        let found = of_line(Parser::Klog, line, Against::Runtime(at));
        assert_eq!(found, parse_rfc3339("2026-12-31T23:59:59Z"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in any::<i64>()) {
            for against in [Against::Runtime(at), Against::Reading(at)] {
                let _ = of_line(Parser::Auto, &bytes, against);
                let _ = of_line(Parser::Auto, &[b"2026-11-20 14:51:32", &bytes[..]].concat(), against);
                let _ = of_line(Parser::Auto, &[b"{\"ts\":", &bytes[..]].concat(), against);
                let _ = of_line(Parser::Klog, &[b"I1120 1", &bytes[..]].concat(), against);
            }
        }

        #[test]
        fn what_is_printed_is_read(ts in 1_700_000_000_000_000_000_i64..1_900_000_000_000_000_000) {
            let line = format!("{} x", taffrail_model::time::format_rfc3339(ts));
            prop_assert_eq!(of_line(Parser::Auto, line.as_bytes(), Against::Runtime(ts)), Some(ts));
        }
    }
}
