//! Sizes, durations and addresses as people write them.

use std::net::SocketAddr;
use std::time::Duration;

/// `64MiB`, `500kB`, `1.5GB`, `1024`: a number with an optional unit. `None` for anything else or
/// for more than 2^63 bytes.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let factor = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" | "k" => 1e3,
        "KiB" | "Ki" => 1024.0,
        "MB" | "M" => 1e6,
        "MiB" | "Mi" => 1024.0 * 1024.0,
        "GB" | "G" => 1e9,
        "GiB" | "Gi" => 1024.0_f64.powi(3),
        "TB" | "T" => 1e12,
        "TiB" | "Ti" => 1024.0_f64.powi(4),
        _ => return None,
    };
    let value = number * factor;
    (value < 9.2e18).then_some(value.round() as u64)
}

/// `250ms`, `15s`, `1h30m`, `7d`: numbers with units, the largest first. `0` needs no unit. `None`
/// for anything else or for more than 1000 years.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..unit_at].parse().ok()?;
        let unit_end = rest[unit_at..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |n| unit_at + n);
        let factor = match &rest[unit_at..unit_end] {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 7.0 * 86_400.0,
            _ => return None,
        };
        seconds += number * factor;
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && seconds < 3.2e10).then(|| Duration::from_secs_f64(seconds))
}

/// `127.0.0.1:4100`, `[::1]:4100`, or `:4100` for all addresses.
#[must_use]
pub fn addr(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix(':') {
        Some(port) => Some(SocketAddr::from(([0, 0, 0, 0], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

fn split_number(text: &str) -> Option<(f64, &str)> {
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..unit_at].parse().ok()?;
    Some((number, text[unit_at..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("1024", Some(1024)),
            ("64MiB", Some(64 << 20)),
            ("64 MiB", Some(64 << 20)),
            ("1.5kB", Some(1500)),
            ("0", Some(0)),
            ("", None),
            ("MiB", None),
            ("5 apples", None),
            ("-1", None),
            ("99999999TiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        let cases = [
            ("250ms", Some(ms(250))),
            ("1h30m", Some(ms(5_400_000))),
            ("0.5s", Some(ms(500))),
            ("7d", Some(ms(604_800_000))),
            ("0", Some(Duration::ZERO)),
            ("", None),
            ("15", None),
            ("s", None),
            ("1y", None),
            ("1..5s", None),
            ("99999999999999w", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(addr(":80"), "0.0.0.0:80".parse().ok());
        assert_eq!(addr("[::1]:80"), "[::1]:80".parse().ok());
        for text in ["", ":", ":x", "localhost:80", "1.2.3.4", ":99999"] {
            assert_eq!(addr(text), None, "{text:?}");
        }
    }
}
