//! Lines as the frames of a websocket tail: `{"streams":[…],"dropped_entries":[…]}`.
//!
//! What must hold: a line that is given here goes out in a frame, or its time and labels do as
//! dropped. Pure.

use std::fmt::Write as _;

use taffrail_model::Nanos;

use crate::logql::log::LogLine;

use super::answer::{Streams, push_text};

/// A frame goes out once it has so many lines or bytes.
const LINES: usize = 1000;
const BYTES: usize = 128 << 10;
/// Dropped lines that are named; of more, the number is said.
const DROPPED_MAX: usize = 1000;

/// The frame that is being filled.
pub(super) struct Frame {
    categorize: bool,
    streams: Streams,
    /// Time and labels, as JSON, of lines that nobody took in time.
    dropped: Vec<(Nanos, String)>,
    dropped_more: u64,
}

impl Frame {
    pub(super) fn new(categorize: bool) -> Self {
        let streams = Streams::new(categorize);
        Self { categorize, streams, dropped: Vec::new(), dropped_more: 0 }
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: &LogLine<'_>) {
        // Frames are far below the limit on answers, whatever the length of a line.
        let _fits = self.streams.add(line).is_ok();
    }

    /// Notes a line that cannot go out.
    pub(super) fn drop_line(&mut self, line: &LogLine<'_>) {
        let labels = self.streams.key(line.labels);
        self.drop_entry(line.ts, labels);
    }

    /// Notes lines of which no more is known than when they were missed.
    pub(super) fn drop_unseen(&mut self, now: Nanos, batches: u64) {
        self.drop_entry(now, "{}".into());
        self.dropped_more = self.dropped_more.saturating_add(batches.saturating_sub(1));
    }

    fn drop_entry(&mut self, ts: Nanos, labels: String) {
        if self.dropped.len() < DROPPED_MAX {
            self.dropped.push((ts, labels));
        } else {
            self.dropped_more += 1;
        }
    }

    pub(super) fn has_lines(&self) -> bool {
        self.streams.count() > 0
    }

    /// Whether it has enough to go out.
    pub(super) fn is_full(&self) -> bool {
        self.streams.count() >= LINES || self.streams.bytes() >= BYTES
    }

    /// The text of the frame, which begins anew; nothing when there is nothing to say.
    pub(super) fn take(&mut self) -> Option<String> {
        if self.streams.count() == 0 && self.dropped.is_empty() {
            return None;
        }
        let frame = std::mem::replace(self, Self::new(self.categorize));
        let mut text = String::from("{");
        if frame.categorize {
            text.push_str("\"encodingFlags\":[\"categorize-labels\"],");
        }
        text.push_str("\"streams\":[");
        frame.streams.push_list(&mut text);
        text.push(']');
        for (at, (ts, labels)) in frame.dropped.iter().enumerate() {
            text.push_str(if at > 0 { "," } else { ",\"dropped_entries\":[" });
            text.push_str("{\"timestamp\":");
            push_text(&mut text, &ts.to_string());
            let _ = write!(text, ",\"labels\":{labels}}}");
        }
        if !frame.dropped.is_empty() {
            text.push(']');
        }
        if frame.dropped_more > 0 {
            let _ = write!(text, ",\"dropped_more\":{}", frame.dropped_more);
        }
        text.push('}');
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logql::labels::LineLabels;
    use crate::source::LogRow;
    use serde_json::{Value, json};
    use taffrail_model::{Labels, Level};

    fn with_line(ts: Nanos, line: &str, each: impl FnOnce(&LogLine<'_>)) {
        let mut labels = LineLabels::new();
        let stream = Labels::from_pairs([("app", "web")]);
        let row = LogRow { ts, line, level: Level::Info, metadata: &[("trace", "t")] };
        labels.begin(&stream, &row);
        each(&LogLine { ts, line, labels: &labels });
    }

    fn taken(frame: &mut Frame) -> Value {
        serde_json::from_str(&frame.take().expect("a frame")).expect("JSON")
    }

    #[test]
    fn the_shape_of_a_frame() {
        let mut frame = Frame::new(false);
        assert_eq!(frame.take(), None);
        with_line(7, "a\n", |line| frame.add(line));
        let stream = json!({"app": "web", "detected_level": "info", "trace": "t"});
        let streams = json!([{"stream": stream, "values": [["7", "a\n"]]}]);
        assert_eq!(taken(&mut frame), json!({ "streams": streams }));
        with_line(8, "b", |line| frame.drop_line(line));
        let dropped = json!([{"timestamp": "8", "labels": stream}]);
        assert_eq!(taken(&mut frame), json!({ "streams": [], "dropped_entries": dropped }));
        assert_eq!(frame.take(), None);

        let mut frame = Frame::new(true);
        with_line(7, "a", |line| frame.add(line));
        let beside = json!({"structuredMetadata": {"detected_level": "info", "trace": "t"}});
        let streams = json!([{"stream": {"app": "web"}, "values": [["7", "a", beside]]}]);
        let flags = json!(["categorize-labels"]);
        assert_eq!(taken(&mut frame), json!({ "encodingFlags": flags, "streams": streams }));
    }

    #[test]
    fn what_is_not_named_is_counted() {
        let mut frame = Frame::new(false);
        for ts in 0..1500 {
            with_line(ts, "x", |line| frame.drop_line(line));
        }
        frame.drop_unseen(9, 3);
        let text = taken(&mut frame);
        assert_eq!(text["dropped_entries"].as_array().map(Vec::len), Some(DROPPED_MAX));
        assert_eq!(text["dropped_more"], 503);
        assert!(!frame.is_full());
        for ts in 0..1000 {
            with_line(ts, "x", |line| frame.add(line));
        }
        assert!(frame.is_full() && frame.has_lines());
    }
}
