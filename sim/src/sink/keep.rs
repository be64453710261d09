//! What the sink has: lines, and the committed position of each file, by the rules of
//! `taffrail_model::wire`. A batch is kept as a whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use serde_json::json;
use taffrail_model::wire;

use super::{Mode, Picky};
use crate::http1::Request;

/// A line that was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Identity of its file.
    pub source: String,
    /// Path of its file.
    pub path: String,
    /// Labels of its stream.
    pub labels: BTreeMap<String, String>,
    /// The line.
    pub text: String,
    /// Its time, in nanoseconds since the epoch.
    pub time: u64,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// When it came.
    pub came: Instant,
}

/// Everything there is.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The lines, in the order in which they came.
    pub lines: Vec<Line>,
    /// Committed end and check by the file's identity.
    pub positions: HashMap<String, (u64, u64)>,
    /// Times of the requests for logs, answered or not, and how they were dealt with.
    pub requests: Vec<(Instant, Mode)>,
    /// How often somebody asked for the positions.
    pub asked: usize,
    /// How many batches did not continue what is committed.
    pub conflicts: usize,
}

/// Why a batch is not kept.
pub(super) enum Refusal {
    /// 409 with the positions.
    Conflict(serde_json::Value),
    /// This status, and why.
    Content(u16, String),
}

/// One range of one file.
struct Range {
    source: String,
    begin: u64,
    end: u64,
    check: u64,
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Value> {
    attributes.iter().find(|a| a.key == name)?.value.as_ref()?.value.as_ref()
}

fn text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |a: &KeyValue| Some(text(a.value.as_ref()?.value.as_ref()?));
    attributes.iter().filter_map(|a| Some((a.key.clone(), value(a)?))).collect()
}

fn integer(attributes: &[KeyValue], name: &str) -> Option<u64> {
    match attribute(attributes, name)? {
        Value::IntValue(number) => Some(number.cast_unsigned()),
        _ => None,
    }
}

fn position(source: &str, committed: u64, check: u64) -> serde_json::Value {
    json!({"source": source, "committed": committed, "check": check})
}

impl Kept {
    pub(super) fn count(&mut self, request: &Request, mode: Mode) {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/logs") => self.requests.push((Instant::now(), mode)),
            ("GET", wire::POSITIONS_PATH) => self.asked += 1,
            _ => {}
        }
    }

    pub(super) fn positions_below(&self, prefix: &str) -> serde_json::Value {
        let below = self.positions.iter().filter(|(source, _)| source.starts_with(prefix));
        let below: Vec<_> = below.map(|(s, (end, check))| position(s, *end, *check)).collect();
        json!({ "positions": below })
    }

    pub(super) fn commit(
        &mut self,
        request: &ExportLogsServiceRequest,
        picky: &Picky,
        now: Instant,
    ) -> Result<(), Refusal> {
        let mut lines = Vec::new();
        let mut ends: HashMap<String, (u64, u64, u64)> = HashMap::new();
        let mut conflicts = Vec::new();
        for part in &request.resource_logs {
            let attributes = part.resource.as_ref().map_or(&[][..], |r| &r.attributes);
            let range = range(attributes)
                .ok_or_else(|| Refusal::Content(400, "a part without its range".into()))?;
            let known = self.positions.get(&range.source).copied();
            let origin = integer(attributes, wire::ORIGIN).unwrap_or(0);
            // Several parts may name one range, and ranges of a file follow each other.
            let before = ends.get(&range.source).map(|(begin, end, _)| (*begin, *end));
            let committed = known.map_or(origin, |k| k.0);
            let follows = before.is_some_and(|(_, end)| range.begin == end);
            let repeats = before == Some((range.begin, range.end));
            if known.is_some() && range.end <= committed {
                continue;
            }
            if range.begin != committed && !follows && !repeats {
                conflicts.push(position(&range.source, committed, known.map_or(0, |k| k.1)));
                continue;
            }
            lines.extend(part_lines(part, &range.source, now));
            ends.insert(range.source, (range.begin, range.end, range.check));
        }
        if !conflicts.is_empty() {
            self.conflicts += 1;
            return Err(Refusal::Conflict(json!({ "positions": conflicts })));
        }
        refuse(&lines, picky)?;
        self.lines.extend(lines);
        let ends = ends.into_iter().map(|(source, (_, end, check))| (source, (end, check)));
        self.positions.extend(ends);
        Ok(())
    }
}

fn refuse(lines: &[Line], picky: &Picky) -> Result<(), Refusal> {
    if picky.lines_max.is_some_and(|max| lines.len() > max) {
        return Err(Refusal::Content(413, "too many lines".into()));
    }
    match &picky.poison {
        Some(poison) if lines.iter().any(|line| line.text.contains(poison)) => {
            Err(Refusal::Content(400, "poison".into()))
        }
        _ => Ok(()),
    }
}

fn range(attributes: &[KeyValue]) -> Option<Range> {
    let source = text(attribute(attributes, wire::SOURCE)?);
    let (begin, end) = (integer(attributes, wire::BEGIN)?, integer(attributes, wire::END)?);
    let check = integer(attributes, wire::CHECK).unwrap_or(0);
    (begin <= end).then_some(Range { source, begin, end, check })
}

fn part_lines(part: &ResourceLogs, source: &str, now: Instant) -> Vec<Line> {
    let attributes = part.resource.as_ref().map_or(&[][..], |r| &r.attributes);
    let mut labels = texts(attributes);
    let path = labels.get(wire::FILE_PATH).cloned().unwrap_or_default();
    labels.retain(|name, _| !name.starts_with("taffrail.") && !name.starts_with("log."));
    let records = part.scope_logs.iter().flat_map(|scope| &scope.log_records);
    let line = |record: &opentelemetry_proto::tonic::logs::v1::LogRecord| Line {
        source: source.to_owned(),
        path: path.clone(),
        labels: labels.clone(),
        text: record.body.as_ref().and_then(|b| b.value.as_ref()).map(text).unwrap_or_default(),
        time: record.time_unix_nano,
        metadata: texts(&record.attributes),
        came: now,
    };
    records.map(line).collect()
}
