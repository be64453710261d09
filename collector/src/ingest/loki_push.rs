//! Loki's push protocol to records: snappy-compressed protobuf, or JSON. Pure.
//!
//! A request is taken whole or not at all; Loki keeps the good streams of some bad requests and
//! drops those of others.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use taffrail_model::labels::{is_valid_name, write_quoted};
use taffrail_model::time::NANOS_PER_SEC;
use taffrail_model::{Labels, Level, LogEntry, Nanos, StreamEntries};
use taffrail_query::api::{LEVEL_NAMES, SERVICE_LABELS};

use super::batch::{LogPart, check_limits, sort_metadata};
use super::label_text;
use super::level::detect_level;
use super::otlp_logs::UNKNOWN_SERVICE;
use super::refusal::Refusal;

type Metadata = Vec<(String, String)>;

/// Time, line and metadata as they were sent.
type RawEntry = (Nanos, String, Metadata);

/// Decodes the protobuf form, decompressed.
///
/// # Errors
/// [`Refusal::Content`] when anything in it cannot be read or stored.
pub fn decode_protobuf(body: &[u8]) -> Result<Vec<LogPart>, Refusal> {
    let request: proto::PushRequest = prost::Message::decode(body)
        .map_err(|error| Refusal::Content(format!("not a push request: {error}")))?;
    let mut streams = Vec::with_capacity(request.streams.len());
    for stream in request.streams {
        let labels = label_text::parse(&stream.labels)
            .map_err(|error| Refusal::Content(format!("couldn't parse labels: {error}")))?;
        let mut entries = Vec::with_capacity(stream.entries.len());
        for entry in stream.entries {
            let time = entry.timestamp.unwrap_or_default();
            let ts = nanos(time.seconds, time.nanos)?;
            let metadata = entry.metadata.into_iter().map(|pair| (pair.name, pair.value));
            entries.push((ts, entry.line, metadata.collect()));
        }
        streams.push((labels, entries));
    }
    finish(streams)
}

/// Decodes the JSON form.
///
/// # Errors
/// As [`decode_protobuf`].
pub fn decode_json(body: &[u8]) -> Result<Vec<LogPart>, Refusal> {
    let request: JsonRequest = serde_json::from_slice(body)
        .map_err(|error| Refusal::Content(format!("not a push request: {error}")))?;
    let mut streams = Vec::with_capacity(request.streams.len());
    for stream in request.streams {
        check_names(&stream.stream)?;
        let entries = stream.values.into_iter().map(|value| (value.ts, value.line, value.metadata));
        streams.push((Labels::from_pairs(stream.stream), entries.collect()));
    }
    finish(streams)
}

/// Refuses what is no label name, in the words of Loki, which writes the labels as text and reads that:
/// the column is that of the character in it.
fn check_names(labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let mut column = 2;
    for (name, value) in labels {
        if is_valid_name(name) {
            // `name="value", `
            let mut quoted = String::new();
            let _ = write_quoted(&mut quoted, value);
            column += name.chars().count() + quoted.chars().count() + 3;
            continue;
        }
        let allowed = |c: char| c == '_' || c.is_ascii_alphanumeric();
        let reason = match name.chars().enumerate().find(|(_, c)| !allowed(*c)) {
            Some((at, c)) => {
                let at = column + at;
                format!("1:{at}: parse error: unexpected character inside braces: '{c}'")
            }
            None => format!("{name:?} is not a label name"),
        };
        return Err(Refusal::Content(format!("couldn't parse labels: {reason}")));
    }
    Ok(())
}

fn nanos(seconds: i64, nanos: i32) -> Result<Nanos, Refusal> {
    let whole = seconds.checked_mul(NANOS_PER_SEC);
    let ts = whole.and_then(|whole| whole.checked_add(i64::from(nanos)));
    ts.ok_or_else(|| Refusal::Content(format!("the time {seconds} s is not between 1677 and 2262")))
}

fn finish(streams: Vec<(Labels, Vec<RawEntry>)>) -> Result<Vec<LogPart>, Refusal> {
    if streams.is_empty() {
        // Loki says 422, and Fluent Bit sends it again for ever.
        let text = "error at least one valid stream is required for ingestion";
        return Err(Refusal::Content(text.into()));
    }
    let finished = streams.into_iter().map(|(labels, entries)| {
        let given = level_in(&labels.iter());
        let finish = |(ts, line, metadata)| finish_entry(ts, line, metadata, given);
        let entries = entries.into_iter().map(finish).collect();
        let stream = StreamEntries { labels: with_service(labels), entries };
        check_limits(&stream).map(|()| stream)
    });
    let streams = finished.collect::<Result<Vec<_>, _>>()?;
    Ok(vec![LogPart { range: None, streams }])
}

fn finish_entry(ts: Nanos, line: String, mut metadata: Metadata, given: Option<Level>) -> LogEntry {
    let level = given
        .or_else(|| level_in(&metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
        .unwrap_or_else(|| detect_level(&line));
    metadata.retain(|(name, _)| name != "detected_level");
    sort_metadata(&mut metadata);
    LogEntry { ts, line, level, metadata }
}

fn level_in<'a>(pairs: &(impl Iterator<Item = (&'a str, &'a str)> + Clone)) -> Option<Level> {
    LEVEL_NAMES.iter().find_map(|wanted| {
        let (_, value) = pairs.clone().find(|(name, _)| name == wanted)?;
        Level::from_word(value)
    })
}

fn with_service(labels: Labels) -> Labels {
    if labels.get("service_name").is_some() {
        return labels;
    }
    let service = SERVICE_LABELS.iter().find_map(|name| labels.get(name));
    let service = service.unwrap_or(UNKNOWN_SERVICE).to_owned();
    labels.with("service_name", &service)
}

#[derive(serde::Deserialize)]
struct JsonRequest {
    streams: Vec<JsonStream>,
}

#[derive(serde::Deserialize)]
struct JsonStream {
    #[serde(default)]
    stream: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<JsonEntry>,
}

/// `["<nanoseconds>", "<line>"]`, or with a third element: an object of texts.
struct JsonEntry {
    ts: Nanos,
    line: String,
    metadata: Metadata,
}

impl<'de> Deserialize<'de> for JsonEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = JsonEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[\"<time in nanoseconds>\", \"<line>\", {optional metadata}]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<JsonEntry, A::Error> {
        let time: String = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let ts = time.parse();
        let ts =
            ts.map_err(|_| A::Error::custom(format!("{time:?} is not a time in nanoseconds")))?;
        let line = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
        let metadata: Option<BTreeMap<String, String>> = seq.next_element()?;
        if seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(4, &self));
        }
        let metadata = metadata.unwrap_or_default().into_iter().collect();
        Ok(JsonEntry { ts, line, metadata })
    }
}

/// The messages of `push.proto`, as far as they are used.
pub mod proto {
    /// A request.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PushRequest {
        /// Its streams.
        #[prost(message, repeated, tag = "1")]
        pub streams: Vec<Stream>,
    }

    /// Lines of one stream.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Stream {
        /// The labels as text, `{name="value", …}`.
        #[prost(string, tag = "1")]
        pub labels: String,
        /// The lines.
        #[prost(message, repeated, tag = "2")]
        pub entries: Vec<Entry>,
    }

    /// One line.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Entry {
        /// Time of the event.
        #[prost(message, optional, tag = "1")]
        pub timestamp: Option<Timestamp>,
        /// The text.
        #[prost(string, tag = "2")]
        pub line: String,
        /// Structured metadata.
        #[prost(message, repeated, tag = "3")]
        pub metadata: Vec<Pair>,
    }

    /// `google.protobuf.Timestamp`.
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Timestamp {
        /// Seconds since the epoch.
        #[prost(int64, tag = "1")]
        pub seconds: i64,
        /// Nanoseconds after them.
        #[prost(int32, tag = "2")]
        pub nanos: i32,
    }

    /// A name and its value.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Pair {
        /// The name.
        #[prost(string, tag = "1")]
        pub name: String,
        /// The value.
        #[prost(string, tag = "2")]
        pub value: String,
    }
}

#[cfg(test)]
#[path = "loki_push_tests.rs"]
mod tests;
