//! Severity of a log line, in the names that Grafana's log views colour.

use std::fmt;

/// Severity, from unknown to critical. The numbers are stored on disk and must not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Nothing in the line tells.
    #[default]
    Unknown = 0,
    /// Trace.
    Trace = 1,
    /// Debug.
    Debug = 2,
    /// Informational.
    Info = 3,
    /// Warning.
    Warn = 4,
    /// Error.
    Error = 5,
    /// Critical (Loki's name; also panic, alert, emergency).
    Critical = 6,
    /// Fatal.
    Fatal = 7,
}

impl Level {
    /// Every level, in order of its number.
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Critical,
        Self::Fatal,
    ];

    /// The value of `detected_level` in Loki.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Fatal => "fatal",
        }
    }

    /// The level with a number that [`Level`] was stored as; unknown for any other number.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// Reads the spellings that loggers use, without regard to case (`WARN`, `warning`, `err`, …).
    /// `None` when the word names no level.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        // Longest spelling is "informational".
        let mut lower = [0_u8; 13];
        let lower = lower.get_mut(..word.len())?;
        lower.copy_from_slice(word.as_bytes());
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"trace" | b"trc" | b"verbose" | b"finest" => Self::Trace,
            b"debug" | b"dbug" | b"dbg" | b"fine" => Self::Debug,
            b"info" | b"inf" | b"information" | b"informational" | b"notice" => Self::Info,
            b"warn" | b"warning" | b"wrn" => Self::Warn,
            b"error" | b"err" | b"eror" | b"severe" => Self::Error,
            b"critical" | b"crit" | b"alert" | b"emerg" | b"emergency" | b"panic" => Self::Critical,
            b"fatal" => Self::Fatal,
            _ => return None,
        })
    }

    /// OpenTelemetry's `SeverityNumber` (logs data model): the first of each range of four.
    #[must_use]
    pub fn otlp_number(self) -> i32 {
        match self {
            Self::Unknown => 0,
            Self::Trace => 1,
            Self::Debug => 5,
            Self::Info => 9,
            Self::Warn => 13,
            Self::Error => 17,
            Self::Critical => 18,
            Self::Fatal => 21,
        }
    }

    /// The level of an OpenTelemetry `SeverityNumber`. 18 (`ERROR2`) reads back as critical.
    #[must_use]
    pub fn from_otlp_number(number: i32) -> Self {
        match number {
            1..=4 => Self::Trace,
            5..=8 => Self::Debug,
            9..=12 => Self::Info,
            13..=16 => Self::Warn,
            18 => Self::Critical,
            17 | 19 | 20 => Self::Error,
            21..=24 => Self::Fatal,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_round_trip() {
        for level in Level::ALL {
            assert_eq!(Level::from_number(level as u8), level);
            assert_eq!(Level::from_otlp_number(level.otlp_number()), level);
            assert_eq!(Level::from_word(level.name()), (level != Level::Unknown).then_some(level));
        }
        assert_eq!(Level::from_number(200), Level::Unknown);
        assert_eq!(Level::from_otlp_number(-3), Level::Unknown);
    }

    #[test]
    fn spellings() {
        let cases = [
            ("WARNING", Some(Level::Warn)),
            ("Informational", Some(Level::Info)),
            ("informationally", None),
            ("", None),
            ("é", None),
        ];
        for (word, expected) in cases {
            assert_eq!(Level::from_word(word), expected, "{word}");
        }
    }
}
