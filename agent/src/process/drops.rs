//! What is kept of a container that writes too much: a sample, or so many lines a second.
//!
//! Both decide by the line itself, not by the time of reading: a line that is read again after a
//! restart meets the same decision. A sample is exact in that; a rate starts with a full bucket after
//! a restart, so up to one period's lines more than allowed may pass then.
//!
//! Pure.

use std::fmt;

use taffrail_model::Nanos;
use taffrail_model::time::NANOS_PER_SEC;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A part of the lines, chosen by what they say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Hashes below it are kept.
    below: u64,
    percent: f64,
}

impl Sample {
    /// `10%`, `0.5%`, `100%`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let percent: f64 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
        if !(0.0..=100.0).contains(&percent) {
            return None;
        }
        // Above the largest number it is the largest number: all lines.
        let below = (percent / 100.0 * u64::MAX as f64) as u64;
        Some(Self { below, percent })
    }

    /// Whether a record is in the sample.
    #[must_use]
    pub fn keeps(self, ts: Nanos, text: &[u8]) -> bool {
        self.below == u64::MAX || xxh3_64_with_seed(text, ts.cast_unsigned()) < self.below
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sample {}%", self.percent)
    }
}

/// So many records in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u64,
    period: Nanos,
    unit: char,
}

impl Rate {
    /// `1000/s`, `500/m`, `20/h`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.trim().split_once('/')?;
        let count: u64 = count.trim_end().parse().ok().filter(|count| *count > 0)?;
        let (seconds, unit) = match unit.trim_start() {
            "s" => (1, 's'),
            "m" => (60, 'm'),
            "h" => (3600, 'h'),
            _ => return None,
        };
        let period = seconds * NANOS_PER_SEC;
        (count <= period.unsigned_abs()).then_some(Self { count, period, unit })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate limit {}/{}", self.count, self.unit)
    }
}

/// How far a container has used up its rate, in the time of its lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When it will be full again.
    full_at: Nanos,
}

impl Bucket {
    /// Takes a record written at `ts`; whether it is within the rate.
    pub fn admits(&mut self, rate: Rate, ts: Nanos) -> bool {
        let each = rate.period / rate.count.cast_signed();
        // The clock of the lines has gone back by more than a period: begin anew.
        if self.full_at.saturating_sub(ts) > rate.period.saturating_mul(2) {
            self.full_at = ts;
        }
        let full_at = self.full_at.max(ts);
        if full_at.saturating_sub(ts) > rate.period - each {
            return false;
        }
        self.full_at = full_at.saturating_add(each);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_can_be_asked() {
        for (text, shown) in
            [("10%", "sample 10%"), (" 0.5 %", "sample 0.5%"), ("100%", "sample 100%")]
        {
            assert_eq!(Sample::parse(text).expect(text).to_string(), shown);
        }
        for text in ["10", "-1%", "101%", "%", "NaN%", ""] {
            assert_eq!(Sample::parse(text), None, "{text}");
        }
        for (text, shown) in [("1000/s", "rate limit 1000/s"), (" 5 / m", "rate limit 5/m")] {
            assert_eq!(Rate::parse(text).expect(text).to_string(), shown);
        }
        for text in ["0/s", "10", "10/d", "-1/s", "1.5/s", "/s", "99999999999/s"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_sample_is_about_its_part() {
        let sample = Sample::parse("10%").expect("a sample");
        let kept = (0..10_000).filter(|n| sample.keeps(*n, b"the same text")).count();
        assert!((900..1100).contains(&kept), "{kept}");
        let all = Sample::parse("100%").expect("all");
        assert!((0..1000).all(|n| all.keeps(n, b"x")));
        let none = Sample::parse("0%").expect("none");
        assert!(!(0..1000).any(|n| none.keeps(n, b"x")));
    }

    #[test]
    fn a_rate_lets_through_what_it_says() {
        let rate = Rate::parse("10/s").expect("a rate");
        let mut bucket = Bucket::default();
        // A burst of a period's lines, then one every tenth of a second.
        let burst = (0..25).filter(|_| bucket.admits(rate, NANOS_PER_SEC)).count();
        assert_eq!(burst, 10);
        let later =
            (1..=100).filter(|n| bucket.admits(rate, NANOS_PER_SEC + n * 50_000_000)).count();
        assert_eq!(later, 50);
        // The clock goes back by an hour: it must not be silent for an hour.
        assert!(bucket.admits(rate, -3600 * NANOS_PER_SEC));
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_in_any_second(gaps in proptest::collection::vec(0_i64..300_000_000, 1..200)) {
            let rate = Rate::parse("5/s").expect("a rate");
            let mut bucket = Bucket::default();
            let (mut ts, mut kept) = (0, Vec::new());
            for gap in gaps {
                ts += gap;
                if bucket.admits(rate, ts) {
                    kept.push(ts);
                }
            }
            for start in &kept {
                let within = kept.iter().filter(|t| (*start..start + NANOS_PER_SEC).contains(t)).count();
                // A full bucket and what flows in during the second.
                prop_assert!(within <= 10, "{}", within);
            }
        }
    }
}
