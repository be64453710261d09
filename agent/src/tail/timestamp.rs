//! Reads the time at the head of a container's log line, fast and without allocation.
//!
//! The runtimes write Go's RFC 3339 with nanoseconds, whose fraction has no trailing zeros, so its
//! length varies. [`parse`] reads that form by hand and leaves the rest (leap seconds, years far
//! away, lower case) to the slow parser of `taffrail_model`, so both accept the same texts.
//!
//! Pure: no clock.

use taffrail_model::Nanos;
use taffrail_model::time::{NANOS_PER_SEC, parse_rfc3339};

/// Nanoseconds since the epoch of an RFC 3339 text; `None` when the text is something else.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Nanos> {
    fast(text).or_else(|| std::str::from_utf8(text).ok().and_then(parse_rfc3339))
}

/// The common form only: `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`, years 1970 to 2261.
fn fast(text: &[u8]) -> Option<Nanos> {
    let (head, rest) = text.split_at_checked(19)?;
    if head[4] != b'-'
        || head[7] != b'-'
        || head[10] != b'T'
        || head[13] != b':'
        || head[16] != b':'
    {
        return None;
    }
    let year = two(head, 0)? * 100 + two(head, 2)?;
    let (month, day) = (two(head, 5)?, two(head, 8)?);
    let (hour, minute, second) = (two(head, 11)?, two(head, 14)?, two(head, 17)?);
    if !(1971..=2260).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=days_in_month(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_seconds(zone)?) * NANOS_PER_SEC + nanos)
}

/// The fraction of a second in nanoseconds, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let value = digits[..count].iter().fold(0_i64, |v, b| v * 10 + i64::from(b - b'0'));
    let scale = 10_i64.pow(u32::try_from(9 - count).ok()?);
    Some((value * scale, &digits[count..]))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    if zone == b"Z" {
        return Some(0);
    }
    let sign = match zone.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if zone.len() != 6 || zone[3] != b':' {
        return None;
    }
    let (hours, minutes) = (two(zone, 1)?, two(zone, 4)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Two digits at `at`, which the caller knows to be inside `text`.
fn two(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that
/// the leap day is the last of its year.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    365 * year + year / 4 - year / 100 + year / 400 + days_before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_that_runtimes_write() {
        let cases = [
            ("2026-11-20T14:51:32.000000001Z", Some(1_795_186_292_000_000_001)),
            ("2026-11-20T14:51:32Z", Some(1_795_186_292_000_000_000)),
            ("2026-11-20T22:51:32.5+08:00", Some(1_795_186_292_500_000_000)),
            ("2026-11-20T14:51:32.1234567891Z", Some(1_795_186_292_123_456_789)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000_000_000)),
            ("2023-02-29T00:00:00Z", None),
            ("2026-11-20T14:51:32", None),
            ("2026-11-20T14:51:3", None),
            ("2026-11-20T14:51:32.Z", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let slow = parse_rfc3339(text);
            // A tenth digit is beyond the slow parser too: both must say the same.
            assert_eq!(
                parse(text.as_bytes()),
                if expected == slow { expected } else { slow },
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_parser(
            year in 1971_i64..2260, month in 0_u32..14, day in 0_u32..33, hour in 0_u32..25,
            minute in 0_u32..61, second in 0_u32..61, fraction in "(\\.[0-9]{0,10})?",
            zone in "(Z|[+-][0-2][0-9]:[0-6][0-9])",
        ) {
            let text = format!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
            if let Some(nanos) = fast(text.as_bytes()) {
                prop_assert_eq!(Some(nanos), parse_rfc3339(&text), "{}", text);
            }
        }

        #[test]
        fn reads_what_is_printed(ts in 31_536_000_000_000_000_i64..9_000_000_000_000_000_000) {
            let text = taffrail_model::time::format_rfc3339(ts);
            prop_assert_eq!(fast(text.as_bytes()), Some(ts));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }
}
