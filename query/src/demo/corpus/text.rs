//! What every kind of line is made of: digits, hex, names, addresses and times, appended to a
//! `String` without the machinery of `format!`.

use taffrail_model::time::{NANOS_PER_SEC, Nanos};

use crate::demo::random::Random;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A point of time with its calendar fields, taken apart once a second.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    nanos: Nanos,
    second: i64,
    date: jiff::civil::DateTime,
}

impl Moment {
    pub(crate) fn new(nanos: Nanos) -> Self {
        let mut moment =
            Self { nanos: 0, second: 0, date: jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0) };
        moment.set(nanos);
        moment
    }

    pub(crate) fn set(&mut self, nanos: Nanos) {
        self.nanos = nanos;
        let second = nanos.div_euclid(NANOS_PER_SEC);
        if second != self.second {
            self.second = second;
            if let Ok(time) = jiff::Timestamp::from_second(second) {
                self.date = jiff::tz::TimeZone::UTC.to_datetime(time);
            }
        }
    }

    pub(crate) fn nanos(&self) -> Nanos {
        self.nanos
    }

    fn below_second(&self, unit_nanos: i64) -> u64 {
        (self.nanos.rem_euclid(NANOS_PER_SEC) / unit_nanos).unsigned_abs()
    }
}

/// A line being written.
pub(crate) struct Line<'a> {
    pub(crate) out: &'a mut String,
    pub(crate) random: &'a mut Random,
    pub(crate) moment: &'a Moment,
}

impl Line<'_> {
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.out.push_str(text);
        self
    }

    pub(crate) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.padded(number, 1)
    }

    /// Decimal with leading zeros up to `width`.
    pub(crate) fn padded(&mut self, number: impl Into<u64>, width: usize) -> &mut Self {
        push_padded(self.out, number.into(), width);
        self
    }

    /// `123.45`: `hundredths` as a sum of money or a percentage.
    pub(crate) fn hundredths(&mut self, hundredths: u32) -> &mut Self {
        self.number(hundredths / 100).text(".").padded(hundredths % 100, 2)
    }

    /// `0.123`: milliseconds as seconds.
    pub(crate) fn seconds(&mut self, millis: u32) -> &mut Self {
        self.number(millis / 1000).text(".").padded(millis % 1000, 3)
    }

    /// A random number of `digits` (at most 16) hexadecimal digits.
    pub(crate) fn hex(&mut self, digits: usize) -> &mut Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut bits = self.random.bits();
        for _ in 0..digits.min(16) {
            self.out.push(char::from(HEX[(bits >> 60) as usize]));
            bits <<= 4;
        }
        self
    }

    /// A 128-bit id of 32 hexadecimal digits.
    pub(crate) fn hex128(&mut self) -> &mut Self {
        self.hex(16).hex(16)
    }

    /// A random UUID of version 4.
    pub(crate) fn uuid(&mut self) -> &mut Self {
        self.hex(8).text("-").hex(4).text("-4").hex(3).text("-");
        let variant = self.random.pick(&["8", "9", "a", "b"]);
        self.text(variant).hex(3).text("-").hex(12)
    }

    /// A client's address: one of some thousands, a few of them much more often.
    pub(crate) fn client(&mut self) -> &mut Self {
        let host = self.random.skewed(4000);
        self.number(93 + host % 7).text(".").number(17 + host % 200).text(".");
        self.number(host / 16).text(".").number(1 + (host * 37) % 254)
    }

    /// The address of a pod in the cluster.
    pub(crate) fn pod_address(&mut self) -> &mut Self {
        let pod = self.random.skewed(600);
        self.text("10.42.").number(pod / 100).text(".").number(2 + pod % 100)
    }

    pub(crate) fn pick(&mut self, texts: &[&str]) -> &mut Self {
        let text = self.random.pick_skewed(texts);
        self.text(text)
    }

    /// `2026-11-20T14:51:32.123Z`
    pub(crate) fn time_iso(&mut self) -> &mut Self {
        self.date("-").text("T").clock().text(".").fraction(1_000_000, 3).text("Z")
    }

    /// `2026-11-20 14:51:32` and milliseconds after `separator`, as log4j and PostgreSQL do.
    pub(crate) fn time_spaced(&mut self, separator: &str) -> &mut Self {
        self.date("-").text(" ").clock().text(separator).fraction(1_000_000, 3)
    }

    /// `20/Nov/2026:14:51:32 +0000`
    pub(crate) fn time_common(&mut self) -> &mut Self {
        let date = self.moment.date;
        self.padded(date.day().unsigned_abs(), 2).text("/").month().text("/");
        self.padded(date.year().unsigned_abs(), 4).text(":").clock().text(" +0000")
    }

    /// `Nov 20 14:51:32`, the day padded with a space.
    pub(crate) fn time_syslog(&mut self) -> &mut Self {
        let day = self.moment.date.day().unsigned_abs();
        self.month().text(if day < 10 { "  " } else { " " }).number(day).text(" ").clock()
    }

    /// `1120 14:51:32.123456`
    pub(crate) fn time_klog(&mut self) -> &mut Self {
        let date = self.moment.date;
        self.padded(date.month().unsigned_abs(), 2).padded(date.day().unsigned_abs(), 2);
        self.text(" ").clock().text(".").fraction(1000, 6)
    }

    fn date(&mut self, separator: &str) -> &mut Self {
        let date = self.moment.date;
        self.padded(date.year().unsigned_abs(), 4).text(separator);
        self.padded(date.month().unsigned_abs(), 2).text(separator);
        self.padded(date.day().unsigned_abs(), 2)
    }

    fn clock(&mut self) -> &mut Self {
        let date = self.moment.date;
        self.padded(date.hour().unsigned_abs(), 2).text(":");
        self.padded(date.minute().unsigned_abs(), 2).text(":");
        self.padded(date.second().unsigned_abs(), 2)
    }

    fn fraction(&mut self, unit_nanos: i64, width: usize) -> &mut Self {
        let fraction = self.moment.below_second(unit_nanos);
        self.padded(fraction, width)
    }

    fn month(&mut self) -> &mut Self {
        let month = usize::from(self.moment.date.month().unsigned_abs());
        self.text(MONTHS[(month - 1) % 12])
    }
}

/// Appends a decimal with leading zeros up to `width` (at most 20).
fn push_padded(out: &mut String, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).expect("one digit");
        number /= 10;
    }
    let start = at.min(digits.len() - width.clamp(1, 20));
    out.push_str(std::str::from_utf8(&digits[start..]).expect("ASCII digits"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl Fn(&mut Line<'_>)) -> String {
        let (mut out, mut random) = (String::new(), Random::new(1));
        let moment = Moment::new(1_795_186_292_123_456_789);
        write(&mut Line { out: &mut out, random: &mut random, moment: &moment });
        out
    }

    #[test]
    fn times_look_as_their_formats_do() {
        type Write = fn(&mut Line<'_>);
        let cases: [(Write, &str); 5] = [
            (|l| _ = l.time_iso(), "2026-11-20T14:51:32.123Z"),
            (|l| _ = l.time_spaced(","), "2026-11-20 14:51:32,123"),
            (|l| _ = l.time_common(), "20/Nov/2026:14:51:32 +0000"),
            (|l| _ = l.time_syslog(), "Nov 20 14:51:32"),
            (|l| _ = l.time_klog(), "1120 14:51:32.123456"),
        ];
        for (write, expected) in cases {
            assert_eq!(written(write), expected);
        }
    }

    #[test]
    fn a_uuid_has_its_form() {
        let uuid = written(|l| _ = l.uuid());
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
    }

    proptest! {
        #[test]
        fn digits_are_those_of_format(number in any::<u64>(), width in 0_usize..20) {
            let mut out = String::new();
            push_padded(&mut out, number, width);
            prop_assert_eq!(out, format!("{number:0width$}"));
        }
    }
}
