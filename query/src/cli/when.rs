//! Times and durations as people type them: `5m`, `2h`, `3d`, `2026-11-20T14:51:32Z`, `now`.

use taffrail_kit::{clock, config::units};
use taffrail_model::time::parse_rfc3339;
use taffrail_model::{Nanos, TimeRange};

use super::Error;

/// `--since`, `--from` and `--to` of several commands.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Span {
    /// How far to look back, for example 5m, 2h, 3d.
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    pub(super) since: Option<String>,
    /// From when on: RFC 3339, or how long ago.
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<String>,
    /// Until when; now, if not given.
    #[arg(long, value_name = "TIME")]
    pub(super) to: Option<String>,
}

impl Span {
    /// Whether a beginning was given.
    pub(super) fn has_start(&self) -> bool {
        self.since.is_some() || self.from.is_some()
    }

    /// The range of time that is meant; without a beginning the last `default` nanoseconds.
    pub(super) fn range(&self, now: Nanos, default: Nanos) -> Result<TimeRange, Error> {
        let end = match &self.to {
            Some(text) => time("--to", text, now)?,
            None => now,
        };
        let start = match (&self.since, &self.from) {
            (Some(text), _) => end.saturating_sub(duration("--since", text)?),
            (None, Some(text)) => time("--from", text, now)?,
            (None, None) => end.saturating_sub(default),
        };
        if start >= end {
            let flag = if self.from.is_some() { "--from" } else { "--since" };
            return Err(Error::Argument { flag, reason: "the range of time is empty".into() });
        }
        Ok(TimeRange::new(start, end))
    }
}

/// The time of the day.
pub(super) fn now() -> Nanos {
    clock::unix_nanos()
}

/// A duration in nanoseconds.
pub(super) fn duration(flag: &'static str, text: &str) -> Result<Nanos, Error> {
    let bad = |reason| Error::Argument { flag, reason };
    let duration = units::duration(text)
        .ok_or_else(|| bad(format!("expected a duration such as 5m, 2h or 3d, found {text:?}")))?;
    i64::try_from(duration.as_nanos()).map_err(|_| bad(format!("{text:?} is too long")))
}

/// A time: RFC 3339, `now`, or a duration, which means so long ago.
pub(super) fn time(flag: &'static str, text: &str, now: Nanos) -> Result<Nanos, Error> {
    if text == "now" {
        return Ok(now);
    }
    if let Some(time) = parse_rfc3339(text) {
        return Ok(time);
    }
    if let Ok(ago) = duration(flag, text) {
        return Ok(now.saturating_sub(ago));
    }
    let reason = format!(
        "expected a time such as 2026-11-20T14:51:32Z, a duration such as 2h (so long ago) or now, found {text:?}"
    );
    Err(Error::Argument { flag, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;
    const NOW: Nanos = 1_795_186_292 * SECOND;

    #[test]
    fn durations() {
        let cases = [
            ("5m", Some(300 * SECOND)),
            ("2h", Some(7200 * SECOND)),
            ("3d", Some(259_200 * SECOND)),
            ("1h30m", Some(5400 * SECOND)),
            ("250ms", Some(SECOND / 4)),
            ("", None),
            ("5", None),
            ("m", None),
            ("5 parsecs", None),
            ("-5m", None),
            ("900y", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration("--since", text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn times() {
        let cases = [
            ("now", Some(NOW)),
            ("2026-11-20T14:51:32Z", Some(NOW)),
            ("2026-11-20T15:51:32.5+01:00", Some(NOW + SECOND / 2)),
            ("10m", Some(NOW - 600 * SECOND)),
            ("2026-11-20", None),
            ("soon", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time("--from", text, NOW).ok(), expected, "{text:?}");
        }
        let error = time("--from", "soon", NOW).unwrap_err().to_string();
        assert!(error.starts_with("--from: expected a time such as"), "{error}");
    }

    #[test]
    fn spans() {
        let span = |since: &str, from: &str, to: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Span { since: given(since), from: given(from), to: given(to) }
        };
        let cases = [
            (span("", "", ""), Some((NOW - 60 * SECOND, NOW))),
            (span("5m", "", ""), Some((NOW - 300 * SECOND, NOW))),
            (span("5m", "", "1h"), Some((NOW - 3900 * SECOND, NOW - 3600 * SECOND))),
            (span("", "2h", "1h"), Some((NOW - 7200 * SECOND, NOW - 3600 * SECOND))),
            (span("", "1h", "2h"), None),
            (span("0", "", ""), None),
        ];
        for (span, expected) in cases {
            let range = span.range(NOW, 60 * SECOND).ok().map(|r| (r.start, r.end));
            assert_eq!(range, expected, "{span:?}");
        }
    }
}
