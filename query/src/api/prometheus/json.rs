//! Answers as JSON, written by hand: big answers leave in pieces, without a tree in memory and
//! without an allocation a point.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use taffrail_model::Labels;

use crate::promql::{Answer, Series, Value};

pub(super) const CONTENT_TYPE: &str = "application/json";

/// Pieces of an answer are at least this long, but for the last.
const PIECE_BYTES: usize = 64 << 10;

/// An error's body.
pub(super) fn error(kind: &str, message: &str) -> String {
    let mut out = String::from("{\"status\":\"error\",\"errorType\":");
    string(&mut out, kind);
    out.push_str(",\"error\":");
    string(&mut out, message);
    out.push('}');
    out
}

/// A success whose data is a text.
pub(super) fn text(data: &str) -> Response {
    let mut out = String::new();
    string(&mut out, data);
    success(&out, &[])
}

/// A success whose data is already JSON.
pub(super) fn success(data: &str, warnings: &[String]) -> Response {
    let mut out = format!("{{\"status\":\"success\",\"data\":{data}");
    notes(&mut out, "warnings", warnings);
    out.push('}');
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], out).into_response()
}

/// A list of texts.
pub(super) fn strings<'s>(items: impl IntoIterator<Item = &'s str>) -> String {
    let mut out = String::from("[");
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        string(&mut out, item);
    }
    out.push(']');
    out
}

/// The answer to a query, in pieces.
pub(super) fn answer(answer: Answer) -> Response {
    let pieces = Pieces { answer, next: Some(0) };
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response()
}

struct Pieces {
    answer: Answer,
    /// The next series to be written; `None` after the end.
    next: Option<usize>,
}

impl Iterator for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut index = self.next?;
        let mut out = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        if index == 0 {
            self.head(&mut out);
        }
        while out.len() < PIECE_BYTES && self.item(&mut out, index) {
            index += 1;
        }
        self.next = Some(index);
        if out.len() < PIECE_BYTES {
            self.tail(&mut out);
            self.next = None;
        }
        Some(Ok(Bytes::from(out)))
    }
}

impl Pieces {
    fn head(&self, out: &mut String) {
        let (kind, open) = match &self.answer.value {
            Value::Scalar(..) => ("scalar", ""),
            Value::Text(..) => ("string", ""),
            Value::Vector(..) => ("vector", "["),
            Value::Matrix(_) => ("matrix", "["),
        };
        out.push_str("{\"status\":\"success\",\"data\":{\"resultType\":\"");
        out.push_str(kind);
        out.push_str("\",\"result\":");
        out.push_str(open);
    }

    /// Writes one series; false when there is none.
    fn item(&self, out: &mut String, index: usize) -> bool {
        match &self.answer.value {
            Value::Scalar(time, value) if index == 0 => point(out, *time, *value),
            Value::Text(time, text) if index == 0 => {
                out.push('[');
                timestamp(out, *time);
                out.push(',');
                string(out, text);
                out.push(']');
            }
            Value::Vector(time, samples) => {
                let Some((name, value)) = samples.get(index) else {
                    return false;
                };
                out.push_str(if index > 0 { ",{\"metric\":" } else { "{\"metric\":" });
                labels(out, name);
                out.push_str(",\"value\":");
                point(out, *time, *value);
                out.push('}');
            }
            Value::Matrix(all) => {
                let Some(Series { labels: name, points }) = all.get(index) else {
                    return false;
                };
                out.push_str(if index > 0 { ",{\"metric\":" } else { "{\"metric\":" });
                labels(out, name);
                out.push_str(",\"values\":[");
                for (index, (time, value)) in points.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    point(out, *time, *value);
                }
                out.push_str("]}");
            }
            Value::Scalar(..) | Value::Text(..) => return false,
        }
        true
    }

    fn tail(&self, out: &mut String) {
        if matches!(self.answer.value, Value::Vector(..) | Value::Matrix(_)) {
            out.push(']');
        }
        out.push('}');
        notes(out, "warnings", &self.answer.warnings);
        notes(out, "infos", &self.answer.infos);
        out.push('}');
    }
}

fn notes(out: &mut String, name: &str, notes: &[String]) {
    if !notes.is_empty() {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        out.push_str(&strings(notes.iter().map(String::as_str)));
    }
}

/// `{"name":"value",…}`.
pub(super) fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        string(out, value);
    }
    out.push('}');
}

fn point(out: &mut String, time: i64, value: f64) {
    use std::fmt::Write as _;
    out.push('[');
    timestamp(out, time);
    out.push_str(",\"");
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write!(out, "{value}").expect("writing to a String cannot fail");
    }
    out.push_str("\"]");
}

/// Seconds, with three digits of fraction when there is one.
fn timestamp(out: &mut String, millis: i64) {
    use std::fmt::Write as _;
    let size = millis.unsigned_abs();
    let sign = if millis < 0 { "-" } else { "" };
    let written = match size % 1000 {
        0 => write!(out, "{sign}{}", size / 1000),
        fraction => write!(out, "{sign}{}.{fraction:03}", size / 1000),
    };
    written.expect("writing to a String cannot fail");
}

/// A JSON string.
pub(super) fn string(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    let mut clean = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[clean..at]);
        clean = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            _ => write!(out, "\\u{byte:04x}").expect("writing to a String cannot fail"),
        }
    }
    out.push_str(&text[clean..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_written_as_go_does() {
        let cases = [
            (1_000, 1.0, r#"[1,"1"]"#),
            (1_435_781_430_781, 0.1, r#"[1435781430.781,"0.1"]"#),
            (1_500, f64::NAN, r#"[1.500,"NaN"]"#),
            (-1, f64::INFINITY, r#"[-0.001,"+Inf"]"#),
            (0, f64::NEG_INFINITY, r#"[0,"-Inf"]"#),
            (0, 1e21, r#"[0,"1000000000000000000000"]"#),
            (0, 1e-7, r#"[0,"0.0000001"]"#),
            (0, -0.0, r#"[0,"-0"]"#),
        ];
        for (time, value, expected) in cases {
            let mut out = String::new();
            point(&mut out, time, value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn pieces_join_to_one_document() {
        let series = |index: usize| Series {
            labels: Labels::from_pairs([("i", index.to_string())]),
            points: (0..1000).map(|t| (t * 1000, 0.5)).collect(),
        };
        let answer = Answer {
            value: Value::Matrix((0..20).map(series).collect()),
            warnings: vec!["w".to_owned()],
            infos: Vec::new(),
        };
        let pieces: Vec<Bytes> =
            Pieces { answer, next: Some(0) }.map(|piece| piece.expect("infallible")).collect();
        assert!(pieces.len() > 2, "{}", pieces.len());
        let document: serde_json::Value = serde_json::from_slice(&pieces.concat()).expect("JSON");
        assert_eq!(document["data"]["result"].as_array().map(Vec::len), Some(20));
        assert_eq!(document["data"]["result"][19]["values"][999][0], 999);
        assert_eq!(document["warnings"][0], "w");
    }

    proptest! {
        #[test]
        fn strings_read_back(text in "\\PC{0,20}[\\x00-\\x7f]{0,20}") {
            let mut out = String::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
        }
    }
}
