//! Numbers as Kubernetes writes them: an integer with the greatest suffix that loses nothing
//! (`1500m`, `12k`, `1M`).
//!
//! An autoscaler reads quantities in thousandths, rounded up, in 64 bits; a number that does not fit
//! is not written at all, because it would arrive as another one.

const SUFFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

/// The canonical text of a number; `None` when it is not finite or too big for an autoscaler.
pub(super) fn format(value: f64) -> Option<String> {
    let milli = milli(value)?;
    if milli % 1000 != 0 {
        return Some(format!("{milli}m"));
    }
    let mut number = milli / 1000;
    let mut suffix = 0;
    while number != 0 && number % 1000 == 0 && suffix + 1 < SUFFIXES.len() {
        number /= 1000;
        suffix += 1;
    }
    Some(format!("{number}{}", SUFFIXES[suffix]))
}

/// Thousandths, rounded up; what is a whole number but for the noise of binary fractions stays.
fn milli(value: f64) -> Option<i64> {
    let scaled = value * 1000.0;
    if !scaled.is_finite() || scaled.abs() >= i64::MAX as f64 {
        return None;
    }
    if value.fract() == 0.0 {
        return (value as i64).checked_mul(1000);
    }
    let nearest = scaled.round();
    let noise = (scaled - nearest).abs() <= scaled.abs() * 1e-12;
    Some(if noise { nearest as i64 } else { scaled.ceil() as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vectors_of_a_real_api_server() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.5, "1500m"),
            (0.0001, "1m"),
            (1200.0, "1200"),
            (1000.0, "1k"),
            (12_000.0, "12k"),
            (1_000_000.0, "1M"),
            (1_234_567.0, "1234567"),
            (104_857_600.0, "104857600"),
            (2500.0, "2500"),
            (0.333_333_333_3, "334m"),
            (1.1, "1100m"),
            (0.1 + 0.2, "300m"),
            (-1.5, "-1500m"),
            (9e15, "9P"),
        ];
        for (value, expected) in cases {
            assert_eq!(format(value).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn what_would_arrive_as_another_number_is_not_written() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e16, -1e16, 1e300] {
            assert_eq!(format(value), None, "{value}");
        }
    }

    fn read(text: &str) -> f64 {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "m" => 1e-3,
            suffix => {
                let power = SUFFIXES.iter().position(|s| *s == suffix).expect("a known suffix");
                1000f64.powi(power as i32)
            }
        };
        digits.parse::<f64>().expect("digits") * factor
    }

    proptest! {
        #[test]
        fn reads_back_within_a_thousandth(value in -9e15f64..9e15) {
            let back = read(&format(value).expect("in range"));
            prop_assert!((back - value).abs() <= 0.001 + value.abs() * 1e-12, "{value} {back}");
        }

        #[test]
        fn whole_numbers_are_exact(value in -9_000_000_000_000i64..9_000_000_000_000) {
            prop_assert_eq!(read(&format(value as f64).expect("in range")), value as f64);
        }
    }
}
