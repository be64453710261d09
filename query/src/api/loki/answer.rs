//! Answers as Loki's clients read them.
//!
//! The order of the members matters: Grafana reads the stream and wants `resultType` and
//! `encodingFlags` before `result`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use taffrail_model::Nanos;

use crate::logql::labels::{Category, LineLabels};
use crate::logql::log::LogLine;
use crate::logql::metric::{MetricAnswer, MetricValue, Series, Steps};
use crate::logql::units::format_float;
use crate::source::{ScanStats, SourceError};

/// Longest answer of lines, in bytes: it is held as a whole, since streams are sorted. With lines of
/// [`taffrail_model::limits::LINE_BYTES_MAX`] a limit on their number is no limit on memory.
pub(super) const LINES_BYTES_MAX: usize = 64 << 20;

/// What a query cost, for `stats`.
pub(super) struct Cost {
    pub(super) scan: ScanStats,
    pub(super) entries: usize,
    pub(super) seconds: f64,
}

/// A JSON body with the content type that Loki gives.
pub(super) fn json_response(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json; charset=UTF-8")], body).into_response()
}

/// Appends a JSON string.
pub(super) fn push_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
}

/// Appends a JSON object of strings.
pub(super) fn push_object<'a>(
    out: &mut String,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    out.push('{');
    for (at, (name, value)) in pairs.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_text(out, name);
        out.push(':');
        push_text(out, value);
    }
    out.push('}');
}

/// Collects lines into streams. Which labels make a stream depends on the encoding: all of them, or
/// only the stream's own, with the others beside each line (`categorize-labels`).
pub(super) struct Streams {
    categorize: bool,
    bytes: usize,
    /// JSON of the labels to JSON of the values: so they come out sorted.
    streams: BTreeMap<String, String>,
    count: usize,
}

impl Streams {
    pub(super) fn new(categorize: bool) -> Self {
        Self { categorize, bytes: 0, streams: BTreeMap::new(), count: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When the answer would be longer than [`LINES_BYTES_MAX`].
    pub(super) fn add(&mut self, line: &LogLine<'_>) -> Result<(), SourceError> {
        let key = self.key(line.labels);
        let key_bytes = key.len();
        let values = self.streams.entry(key).or_default();
        // The labels of a stream stand once in the answer, but a new stream may come with each line.
        let before = if values.is_empty() { 0 } else { key_bytes + values.len() };
        if !values.is_empty() {
            values.push(',');
        }
        let _ = write!(values, "[\"{}\",", line.ts);
        push_text(values, line.line);
        if self.categorize {
            values.push(',');
            push_categories(values, line.labels);
        }
        values.push(']');
        self.bytes += key_bytes + values.len() - before;
        if self.bytes > LINES_BYTES_MAX {
            return Err(SourceError::TooMuch(format!(
                "the answer has more than {} MiB; ask for fewer lines or a shorter range",
                LINES_BYTES_MAX >> 20
            )));
        }
        self.count += 1;
        Ok(())
    }

    /// Bytes of the labels and values so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The labels that make the stream of a line, as JSON.
    pub(super) fn key(&self, labels: &LineLabels) -> String {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        labels.each(|name, value, category| {
            if !self.categorize || category == Category::Stream {
                pairs.push((name, value));
            }
        });
        pairs.sort_unstable();
        let mut key = String::new();
        push_object(&mut key, pairs);
        key
    }

    pub(super) fn body(&self, cost: &Cost) -> String {
        let mut out = String::from("{\"status\":\"success\",\"data\":{\"resultType\":\"streams\",");
        if self.categorize {
            out.push_str("\"encodingFlags\":[\"categorize-labels\"],");
        }
        out.push_str("\"result\":[");
        self.push_list(&mut out);
        finish(out, cost)
    }

    /// Appends the streams, with commas between.
    pub(super) fn push_list(&self, out: &mut String) {
        for (at, (labels, values)) in self.streams.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{{\"stream\":{labels},\"values\":[{values}]}}");
        }
    }
}

/// The labels beside a line: `{"structuredMetadata":{…},"parsed":{…}}`, each only if it has any.
fn push_categories(out: &mut String, labels: &LineLabels) {
    out.push('{');
    let mut first = true;
    let categories = [(Category::Metadata, "structuredMetadata"), (Category::Parsed, "parsed")];
    for (wanted, name) in categories {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        labels.each(|name, value, category| {
            if category == wanted {
                pairs.push((name, value));
            }
        });
        if pairs.is_empty() {
            continue;
        }
        pairs.sort_unstable();
        let comma = if first { "" } else { "," };
        first = false;
        let _ = write!(out, "{comma}\"{name}\":");
        push_object(out, pairs);
    }
    out.push('}');
}

/// The answer to a metric query at one time: a scalar or a vector.
pub(super) fn instant_body(answer: &MetricAnswer, at: Nanos, cost: &Cost) -> String {
    let mut out = String::from("{\"status\":\"success\",\"data\":{\"resultType\":");
    match &answer.value {
        MetricValue::Scalar(value) => {
            // Loki gives scalars milliseconds, and vectors seconds.
            let _ = write!(out, "\"scalar\",\"result\":[{},", at / 1_000_000);
            push_text(&mut out, &format_float(*value));
        }
        MetricValue::Series(series) => {
            out.push_str("\"vector\",\"result\":[");
            let present =
                series.iter().filter_map(|one| Some((one, one.values.first().copied()??)));
            for (at_series, (one, value)) in present.enumerate() {
                out.push_str(if at_series > 0 { ",{\"metric\":" } else { "{\"metric\":" });
                push_object(&mut out, one.labels.iter());
                out.push_str(",\"value\":");
                push_point(&mut out, at, value);
                out.push('}');
            }
        }
    }
    finish(out, cost)
}

/// The answer to a metric query over a range: a matrix.
pub(super) fn matrix_body(answer: &MetricAnswer, steps: Steps, cost: &Cost) -> String {
    let mut out =
        String::from("{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[");
    match &answer.value {
        MetricValue::Scalar(value) => {
            let values = vec![Some(*value); steps.count()];
            push_series(&mut out, &Series { labels: Default::default(), values }, steps);
        }
        MetricValue::Series(series) => {
            for (at, one) in series.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                push_series(&mut out, one, steps);
            }
        }
    }
    finish(out, cost)
}

fn push_series(out: &mut String, series: &Series, steps: Steps) {
    out.push_str("{\"metric\":");
    push_object(out, series.labels.iter());
    out.push_str(",\"values\":[");
    let mut first = true;
    for (at, value) in series.values.iter().enumerate() {
        let Some(value) = value else { continue };
        out.push_str(if first { "" } else { "," });
        first = false;
        push_point(out, steps.at(at), *value);
    }
    out.push_str("]}");
}

/// `[seconds with up to three digits of fraction, "value"]`
fn push_point(out: &mut String, at: Nanos, value: f64) {
    let millis = at.div_euclid(1_000_000);
    let _ = write!(out, "[{}", millis.div_euclid(1000));
    let fraction = millis.rem_euclid(1000);
    if fraction > 0 {
        let _ = write!(out, ".{}", format!("{fraction:03}").trim_end_matches('0'));
    }
    out.push(',');
    push_text(out, &format_float(value));
    out.push(']');
}

fn finish(mut out: String, cost: &Cost) -> String {
    out.push_str("],\"stats\":");
    out.push_str(&stats(cost).to_string());
    out.push_str("}}\n");
    out
}

/// The members of Loki's statistics that mean something here; the others are 0.
fn stats(cost: &Cost) -> Value {
    let per_second = |count: u64| {
        if cost.seconds > 0.0 { (count as f64 / cost.seconds) as u64 } else { 0 }
    };
    let scan = &cost.scan;
    json!({
        "summary": {
            "bytesProcessedPerSecond": per_second(scan.bytes_scanned),
            "linesProcessedPerSecond": per_second(scan.lines_scanned),
            "totalBytesProcessed": scan.bytes_scanned,
            "totalLinesProcessed": scan.lines_scanned,
            "execTime": cost.seconds,
            "queueTime": 0,
            "subqueries": 0,
            "totalEntriesReturned": cost.entries,
            "splits": 0,
            "shards": 0,
            "totalPostFilterLines": 0,
            "totalStructuredMetadataBytesProcessed": 0
        },
        "querier": {
            "store": {
                "totalChunksRef": scan.blocks,
                "totalChunksDownloaded": scan.blocks_scanned,
                "chunksDownloadTime": 0,
                "chunk": {
                    "headChunkBytes": 0,
                    "headChunkLines": 0,
                    "decompressedBytes": scan.bytes_scanned,
                    "decompressedLines": scan.lines_scanned,
                    "compressedBytes": 0,
                    "totalDuplicates": 0
                }
            }
        },
        "ingester": {
            "totalReached": 0,
            "totalChunksMatched": 0,
            "totalBatches": 0,
            "totalLinesSent": 0,
            "store": {}
        },
        "cache": {}
    })
}
