//! One log line as the server sends it, and how it is shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use taffrail_model::{Labels, Level, Nanos};

use super::Error;
use super::screen::{Format, Ink, Screen};

/// What one line of a streamed answer says.
#[derive(Debug)]
pub(super) enum Event {
    /// A log line.
    Row(Row),
    /// So much was left out, because this program read too slowly.
    Lagged(u64),
}

/// One log line.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) ts: Nanos,
    labels: BTreeMap<String, String>,
    line: String,
    level: Level,
    /// The object as it came.
    pub(super) source: String,
}

#[derive(Debug, Deserialize)]
struct Wire {
    ts: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    line: Option<String>,
    level: Option<String>,
    lagged: Option<u64>,
    error: Option<String>,
}

/// Reads a line of a streamed answer; `None` for an empty one, which only keeps the connection
/// alive.
pub(super) fn parse(bytes: Vec<u8>) -> Result<Option<Event>, Error> {
    let source = String::from_utf8(bytes).map_err(|e| Error::Answer(e.to_string()))?;
    if source.trim().is_empty() {
        return Ok(None);
    }
    let wire: Wire = serde_json::from_str(&source).map_err(|e| Error::Answer(e.to_string()))?;
    if let Some(error) = wire.error {
        return Err(Error::Refused(error));
    }
    if let Some(count) = wire.lagged {
        return Ok(Some(Event::Lagged(count)));
    }
    let (Some(ts), Some(line)) = (wire.ts, wire.line) else {
        return Err(Error::Answer(format!("no ts or line in {source}")));
    };
    let ts = ts.parse().map_err(|_| Error::Answer(format!("the time {ts:?} is no number")))?;
    let level = wire.level.as_deref().and_then(Level::from_word).unwrap_or_default();
    Ok(Some(Event::Row(Row { ts, labels: wire.labels, line, level, source })))
}

impl Row {
    /// Writes the row in the screen's format.
    pub(super) fn show(&self, timestamps: bool, screen: &mut Screen) -> Result<(), Error> {
        match screen.format {
            Format::Json => {
                screen.text(&self.source)?;
            }
            Format::Raw => {
                if timestamps {
                    screen.text(&time_text(self.ts))?.text(" ")?;
                }
                screen.foreign(&self.line)?;
            }
            Format::Default => {
                if timestamps {
                    screen.painted(Ink::Grey, &time_text(self.ts))?.text(" ")?;
                }
                let ink = Ink::of_level(self.level);
                screen.painted(ink, &self.origin())?.text(" ")?.foreign(&self.line)?;
            }
        }
        screen.text("\n")?;
        Ok(())
    }

    /// The labels as a selector.
    pub(super) fn selector(&self) -> String {
        let pairs = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::from_pairs(pairs).to_string()
    }

    /// Where the line comes from: pod and container, or pod and file, or all labels.
    fn origin(&self) -> String {
        let label =
            |name: &str| self.labels.get(name).map(String::as_str).filter(|v| !v.is_empty());
        let part = label("container").or_else(|| label("filename")).or_else(|| label("volume"));
        match (label("pod"), part) {
            (Some(pod), Some(part)) => format!("{pod} {part}"),
            (Some(pod), None) => pod.to_owned(),
            (None, _) => self.selector(),
        }
    }
}

/// `2026-11-20T14:51:32.123Z`, always with milliseconds, so that columns stand.
pub(super) fn time_text(ts: Nanos) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ts))
        .map_or_else(|_| ts.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::Written;
    use proptest::prelude::*;

    const ROW: &str = r#"{"ts":"1795186292123456789","labels":{"namespace":"shop","pod":"cart-1","container":"app"},"line":"no luck","level":"error","metadata":{}}"#;

    fn shown(json: &str, format: Format, timestamps: bool, paints: bool) -> String {
        let written = Written::default();
        let Some(Event::Row(row)) = parse(json.into()).unwrap() else { panic!("no row") };
        row.show(timestamps, &mut written.screen(format, paints)).unwrap();
        written.text()
    }

    #[test]
    fn a_row_in_every_format() {
        let time = "2026-11-20T14:51:32.123Z";
        assert_eq!(shown(ROW, Format::Default, false, false), "cart-1 app no luck\n");
        assert_eq!(
            shown(ROW, Format::Default, true, false),
            format!("{time} cart-1 app no luck\n")
        );
        assert_eq!(
            shown(ROW, Format::Default, true, true),
            format!("\x1b[90m{time}\x1b[0m \x1b[31mcart-1 app\x1b[0m no luck\n")
        );
        assert_eq!(shown(ROW, Format::Raw, false, true), "no luck\n");
        assert_eq!(shown(ROW, Format::Json, true, true), format!("{ROW}\n"));
    }

    #[test]
    fn a_row_without_a_pod_shows_its_labels() {
        let row = r#"{"ts":"1","labels":{"job":"x","a":"1"},"line":"l"}"#;
        assert_eq!(shown(row, Format::Default, false, false), "{a=\"1\", job=\"x\"} l\n");
    }

    #[test]
    fn other_lines_of_the_stream() {
        assert!(parse(b"  ".to_vec()).unwrap().is_none());
        assert!(matches!(parse(b"{\"lagged\":7}".to_vec()), Ok(Some(Event::Lagged(7)))));
        let refused = parse(br#"{"error":"too much"}"#.to_vec());
        assert!(matches!(refused, Err(Error::Refused(text)) if text == "too much"));
        for bad in ["{}", "{\"ts\":\"x\",\"line\":\"\"}", "[", "\u{0}"] {
            assert!(matches!(parse(bad.into()), Err(Error::Answer(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in any::<Vec<u8>>()) {
            let _either = parse(bytes).is_ok();
        }
    }
}
