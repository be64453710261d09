//! Numbers with and without units, read as Go's `strconv`, `time` and `humanize` read them, with
//! their error texts: those texts are data (`__error_details__`).

use taffrail_model::time::NANOS_PER_SEC;

/// Reads a Go duration (`1h30m`, `1.5s`, `-3ms`): nanoseconds.
///
/// # Errors
/// Go's text for what is wrong.
pub fn go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut exact = 0_i128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let scale = go_unit(unit)
            .ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        exact =
            exact.checked_add(scaled(number, scale).ok_or_else(invalid)?).ok_or_else(invalid)?;
        rest = next;
    }
    let signed = if negative { -exact } else { exact };
    i64::try_from(signed).map_err(|_| invalid())
}

fn go_unit(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SEC,
        "m" => 60 * NANOS_PER_SEC,
        "h" => 3600 * NANOS_PER_SEC,
        _ => return None,
    })
}

/// `number` (digits with at most one dot) times `scale`, rounded down.
fn scaled(number: &str, scale: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let mut value = whole.checked_mul(scale.into())?;
    let mut unit = i128::from(scale);
    for digit in fraction.bytes().take(18) {
        // A nanosecond is the smallest part; what comes after it is dropped, as in Go.
        value = value.checked_add(i128::from(digit - b'0') * unit / 10)?;
        let carry = i128::from(digit - b'0') * unit % 10;
        if carry != 0 {
            break;
        }
        unit /= 10;
    }
    Some(value)
}

/// Reads a Prometheus duration (`1d`, `1h30m`, units from large to small): nanoseconds.
#[must_use]
pub fn prometheus_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let (mut rest, mut total, mut from) = (text, 0_i64, 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let at = UNITS.iter().position(|(name, _)| *name == unit)?;
        if at < from {
            return None;
        }
        from = at + 1;
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(UNITS[at].1)?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(())?;
    total.checked_mul(1_000_000)
}

/// Reads a duration of a query: Prometheus' units first, then Go's.
#[must_use]
pub fn query_duration(text: &str) -> Option<i64> {
    prometheus_duration(text).or_else(|| go_duration(text).ok())
}

/// Writes a duration so that [`query_duration`] reads the same again.
#[must_use]
pub fn format_duration(nanos: i64) -> String {
    const UNITS: [(&str, i64); 6] = [
        ("h", 3600 * NANOS_PER_SEC),
        ("m", 60 * NANOS_PER_SEC),
        ("s", NANOS_PER_SEC),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    if nanos == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    if nanos < 0 {
        text.push('-');
    }
    let mut rest = nanos.unsigned_abs();
    for (unit, size) in UNITS {
        let count = rest / size.unsigned_abs();
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
        }
        rest %= size.unsigned_abs();
    }
    text
}

/// Reads a size (`25MB`, `1.5KiB`, `7b`): bytes.
///
/// # Errors
/// The text for what is wrong, as `go-humanize` has it.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits =
        text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.replace(',', "");
    let value = go_float(&number)?;
    let unit = unit.trim().to_lowercase();
    let scale = size_unit(&unit).ok_or_else(|| format!("unhandled size name: {unit}"))?;
    let total = value * scale;
    if total >= 18_446_744_073_709_551_616.0 {
        return Err(format!("too large: {text}"));
    }
    // Not negative (digits only) and below 2^64.
    Ok(total as u64)
}

fn size_unit(unit: &str) -> Option<f64> {
    let (power, base) = match unit {
        "" | "b" => return Some(1.0),
        "k" | "kb" => (1, 1000.0_f64),
        "ki" | "kib" => (1, 1024.0),
        "m" | "mb" => (2, 1000.0),
        "mi" | "mib" => (2, 1024.0),
        "g" | "gb" => (3, 1000.0),
        "gi" | "gib" => (3, 1024.0),
        "t" | "tb" => (4, 1000.0),
        "ti" | "tib" => (4, 1024.0),
        "p" | "pb" => (5, 1000.0),
        "pi" | "pib" => (5, 1024.0),
        "e" | "eb" => (6, 1000.0),
        "ei" | "eib" => (6, 1024.0),
        _ => return None,
    };
    Some(base.powi(power))
}

/// Reads a number as Go's `strconv.ParseFloat`: decimal, `inf`, `nan`, hexadecimal with an exponent.
///
/// # Errors
/// Go's text for what is wrong.
pub fn go_float(text: &str) -> Result<f64, String> {
    let invalid = || format!("strconv.ParseFloat: parsing {text:?}: invalid syntax");
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.starts_with("0x") || unsigned.starts_with("0X") {
        let value = hex_float(&unsigned[2..]).ok_or_else(invalid)?;
        return Ok(if text.starts_with('-') { -value } else { value });
    }
    let value: f64 = text.parse().map_err(|_| invalid())?;
    if value.is_infinite() && unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(format!("strconv.ParseFloat: parsing {text:?}: value out of range"));
    }
    Ok(value)
}

fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || whole.len() + fraction.len() > 16 {
        return None;
    }
    let mut value = 0_f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let scale = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    Some(value * 2_f64.powi(scale))
}

/// Writes a number as Prometheus' and Loki's JSON have it: shortest digits without exponent.
#[must_use]
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn go_durations() {
        let cases = [
            ("1h30m", Ok(5_400_000_000_000)),
            ("1.5s", Ok(1_500_000_000)),
            ("-3ms", Ok(-3_000_000)),
            ("0", Ok(0)),
            (".5us", Ok(500)),
            ("1.000000001s", Ok(1_000_000_001)),
            ("90", Err("time: missing unit in duration \"90\"")),
            ("nope", Err("time: invalid duration \"nope\"")),
            ("1d", Err("time: unknown unit \"d\" in duration \"1d\"")),
            ("", Err("time: invalid duration \"\"")),
            ("9999999999h", Err("time: invalid duration \"9999999999h\"")),
        ];
        for (text, expected) in cases {
            assert_eq!(go_duration(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn query_durations() {
        let day = 86_400_000_000_000;
        let cases = [
            ("1d", Some(day)),
            ("1w2d", Some(9 * day)),
            ("1y", Some(365 * day)),
            ("1.5m", Some(90_000_000_000)),
            ("500ms", Some(500_000_000)),
            ("2d1w", None),
            ("5", None),
            ("", None),
            ("99999999999y", None),
        ];
        for (text, expected) in cases {
            assert_eq!(query_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("25MB", Ok(25_000_000)),
            ("1.5KiB", Ok(1536)),
            ("7 b", Ok(7)),
            ("1,000", Ok(1000)),
            ("oops", Err("strconv.ParseFloat: parsing \"\": invalid syntax")),
            ("1XB", Err("unhandled size name: xb")),
            ("99EB", Err("too large: 99EB")),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn floats() {
        for (text, expected) in
            [("0x1p3", 8.0), ("0X1P3", 8.0), ("0x1.8p3", 12.0), ("1.5e3", 1500.0), ("-2", -2.0)]
        {
            assert_eq!(go_float(text), Ok(expected), "{text}");
        }
        for text in ["0x1A", "GET", "", "1e999", "1_0"] {
            assert!(go_float(text).is_err(), "{text}");
        }
        assert!(go_float("NaN").expect("a number").is_nan());
        let texts = [(0.1, "0.1"), (f64::INFINITY, "+Inf"), (1e21, "1000000000000000000000")];
        for (value, expected) in texts {
            assert_eq!(format_float(value), expected);
        }
    }

    proptest! {
        #[test]
        fn durations_round_trip(nanos in 0..i64::MAX) {
            prop_assert_eq!(query_duration(&format_duration(nanos)), Some(nanos));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9a-zA-Zµ.]{0,24}") {
            let _ = (query_duration(&text), bytes(&text), go_float(&text));
        }
    }
}
