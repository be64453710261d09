//! Points and ranges of time.
//!
//! Log times are whole nanoseconds since the Unix epoch in an `i64` (1677 to 2262), metric times
//! whole milliseconds, as in Loki and Prometheus. Nothing here asks for the current time.

use std::fmt;

/// Nanoseconds since the Unix epoch.
pub type Nanos = i64;

/// Milliseconds since the Unix epoch, the unit of metric samples.
pub type Millis = i64;

/// Nanoseconds in a millisecond.
pub const NANOS_PER_MILLI: i64 = 1_000_000;
/// Nanoseconds in a second.
pub const NANOS_PER_SEC: i64 = 1_000_000_000;
/// Nanoseconds in a UTC day; the log store keeps one folder a day.
pub const NANOS_PER_DAY: i64 = 86_400 * NANOS_PER_SEC;

/// A half-open range of log time: `start` is in it, `end` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First nanosecond of the range.
    pub start: Nanos,
    /// First nanosecond after the range.
    pub end: Nanos,
}

impl TimeRange {
    /// Every time that can be stored, but for the very last nanosecond.
    pub const ALL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// A range from `start` up to, not including, `end`. An `end` before `start` gives an empty
    /// range.
    #[must_use]
    pub fn new(start: Nanos, end: Nanos) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Whether `ts` is in the range.
    #[must_use]
    pub fn contains(&self, ts: Nanos) -> bool {
        self.start <= ts && ts < self.end
    }

    /// Whether any time from `first` to `last`, both included, is in the range.
    #[must_use]
    pub fn overlaps(&self, first: Nanos, last: Nanos) -> bool {
        first < self.end && last >= self.start
    }

    /// Whether no time is in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", format_rfc3339(self.start), format_rfc3339(self.end))
    }
}

/// The UTC day of a time, as days since the epoch (rounded down, so days before 1970 are negative).
#[must_use]
pub fn utc_day(ts: Nanos) -> i32 {
    i32::try_from(ts.div_euclid(NANOS_PER_DAY))
        .expect("an i64 of nanoseconds is 106,752 days at most")
}

/// RFC 3339 in UTC with as many fraction digits as needed (none, or up to nine), for example
/// `2026-11-20T14:51:32.000000001Z`.
#[must_use]
pub fn format_rfc3339(ts: Nanos) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ts))
        .map_or_else(|_| format!("{ts}ns"), |t| t.to_string())
}

/// Reads RFC 3339 with any offset and up to nine fraction digits. `None` when the text is
/// something else or the time does not fit [`Nanos`].
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Nanos> {
    let t: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(t.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn range_is_half_open() {
        let r = TimeRange::new(10, 20);
        let inside = [(9, false), (10, true), (19, true), (20, false)];
        for (ts, expected) in inside {
            assert_eq!(r.contains(ts), expected, "{ts}");
        }
        let overlapping = [((0, 9), false), ((0, 10), true), ((19, 30), true), ((20, 30), false)];
        for ((first, last), expected) in overlapping {
            assert_eq!(r.overlaps(first, last), expected, "{first}..={last}");
        }
        assert!(TimeRange::new(5, 3).is_empty());
    }

    #[test]
    fn days_round_down() {
        let day = NANOS_PER_DAY;
        for (ts, expected) in [(0, 0), (day - 1, 0), (day, 1), (-1, -1), (i64::MAX, 106_751)] {
            assert_eq!(utc_day(ts), expected, "{ts}");
        }
    }

    #[test]
    fn rfc3339_examples() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T01:00:00.5+01:00", Some(500_000_000)),
            ("2026-11-20T14:51:32.000000001Z", Some(1_795_186_292_000_000_001)),
            ("2026-11-20", None),
            ("yesterday", None),
            ("9999-01-01T00:00:00Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_rfc3339(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn rfc3339_round_trip(ts in any::<i64>()) {
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(ts)), Some(ts));
        }
    }
}
