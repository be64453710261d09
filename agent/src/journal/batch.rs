//! Entries of the journal → one OTLP request with the range of the journal that it covers. Pure.
//!
//! The identity of a journal is `<node>/journal/<id>`, `id` being what journald calls the id of its
//! sequence numbers; a position is the sequence number after the last entry. The check of a position
//! is the time of that entry in microseconds, which finds the place again when the number cannot.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use taffrail_model::limits::LABEL_VALUE_BYTES_MAX;
use taffrail_model::wire;

use super::export::Entry;
use crate::enrich::Place;

/// Line metadata: the line stands for so many entries that are lost.
const META_GAP_ENTRIES: &str = "taffrail_gap_entries";
/// Line metadata of such a line: why.
const META_GAP_REASON: &str = "taffrail_gap_reason";
/// Severity numbers of OTLP by journald's priorities.
const SEVERITIES: [i32; 8] = [24, 21, 18, 17, 13, 10, 9, 5];

/// Where an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Which journal.
    pub(super) id: String,
    /// Which entry of it.
    pub(super) number: u64,
}

impl Cursor {
    /// Reads `s=ID;i=NUMBER;…`, numbers in hexadecimal.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let part = |name| text.split(';').find_map(|part: &str| part.strip_prefix(name));
        let id = part("s=").filter(|id| is_id(id))?;
        let number = u64::from_str_radix(part("i=")?, 16).ok()?;
        // The position after it must be one too, and fit OTLP's integers.
        (number < i64::MAX as u64).then(|| Self { id: id.to_owned(), number })
    }
}

pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Entries on their way, and what of the journal they are.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) id: String,
    pub(super) begin: u64,
    pub(super) end: u64,
    /// Time of the last entry, in microseconds.
    pub(super) time: u64,
    /// Entries that are sent, with their numbers: others only move the position.
    pub(super) entries: Vec<(u64, Entry)>,
    /// Entries that are lost before the one of a number.
    pub(super) gaps: Vec<(u64, u64)>,
    pub(super) bytes: usize,
}

impl Batch {
    pub(super) fn new(id: &str, begin: u64) -> Self {
        let (entries, gaps) = (Vec::new(), Vec::new());
        Self { id: id.to_owned(), begin, end: begin, time: 0, entries, gaps, bytes: 0 }
    }

    /// Takes an entry; `sent` is whether it is more than a step of the position.
    pub(super) fn push(&mut self, number: u64, entry: Entry, sent: bool) {
        (self.end, self.time) = (number + 1, entry.realtime);
        if sent {
            self.bytes += entry.message.len() + 128;
            self.entries.push((number, entry));
        }
    }

    /// What is left of it after everything before a number was found to be in the store.
    pub(super) fn after(mut self, committed: u64) -> Self {
        self.begin = committed.min(self.end);
        self.entries.retain(|(number, _)| *number >= committed);
        self.gaps.retain(|(number, _)| *number >= committed);
        self
    }

    /// Two batches that do what this one does; none when there is nothing to divide.
    pub(super) fn divide(&self) -> Option<(Self, Self)> {
        let (middle, _) =
            *self.entries.get(self.entries.len() / 2).filter(|_| self.entries.len() > 1)?;
        let mut first = self.clone();
        first.entries.truncate(self.entries.len() / 2);
        first.gaps.retain(|(number, _)| *number < middle);
        (first.end, first.time) = (middle, first.entries.last().map_or(0, |(_, e)| e.realtime));
        Some((first, self.clone().after(middle)))
    }

    /// The request.
    pub(super) fn encode(&self, place: &Place, now: i64) -> ExportLogsServiceRequest {
        let mut streams: BTreeMap<(String, String), Vec<LogRecord>> = BTreeMap::new();
        for (number, lost) in &self.gaps {
            let time =
                self.entries.iter().find(|(n, _)| n >= number).map_or(0, |(_, e)| e.realtime);
            let record = gap(*lost, time, now);
            streams.entry(("journal".into(), String::new())).or_default().push(record);
        }
        for (_, entry) in &self.entries {
            streams.entry(stream(entry)).or_default().push(record(entry, now));
        }
        if streams.is_empty() {
            // Only the position moves.
            streams.insert(("journal".into(), String::new()), Vec::new());
        }
        let scope = InstrumentationScope { name: wire::AGENT_SCOPE.into(), ..Default::default() };
        let logs = streams.into_iter().map(|((app, unit), log_records)| ResourceLogs {
            resource: Some(self.resource(place, &app, &unit)),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope.clone()),
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        });
        ExportLogsServiceRequest { resource_logs: logs.collect() }
    }

    fn resource(&self, place: &Place, app: &str, unit: &str) -> Resource {
        let labels = [
            ("app", app),
            ("cluster", &place.cluster),
            ("job", "journal"),
            ("node", &place.node),
            ("service_name", app),
            ("unit", unit),
        ];
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
        let mut attributes: Vec<KeyValue> = labels.map(|(n, v)| text(n, v)).collect();
        attributes.push(text(wire::SOURCE, &source(&place.node, &self.id)));
        for (name, number) in
            [(wire::BEGIN, self.begin), (wire::END, self.end), (wire::CHECK, self.time)]
        {
            attributes.push(attribute(name, Value::IntValue(number.cast_signed())));
        }
        Resource { attributes, ..Resource::default() }
    }
}

/// What the identities of this node's journals begin with.
pub(super) fn source(node: &str, id: &str) -> String {
    format!("{node}/journal/{id}")
}

/// Whose an entry is: `app` and `unit`. Units that come by the thousand are no label.
pub(super) fn stream(entry: &Entry) -> (String, String) {
    let clean = |bytes: &[u8]| {
        let text: String =
            String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect();
        text[..text.floor_char_boundary(LABEL_VALUE_BYTES_MAX)].to_owned()
    };
    let unit = clean(&entry.unit);
    if entry.transport == b"kernel" {
        return ("kernel".into(), String::new());
    }
    match unit.rsplit_once('.') {
        Some((name, kind)) if kind != "scope" && !name.is_empty() => {
            let app = name.split_once('@').map_or(name, |(template, _)| template).to_owned();
            (app, unit)
        }
        _ => {
            let identifier = clean(&entry.identifier);
            (if identifier.is_empty() { "journal".into() } else { identifier }, String::new())
        }
    }
}

fn record(entry: &Entry, now: i64) -> LogRecord {
    let severity = entry.priority.and_then(|p| SEVERITIES.get(usize::from(p))).copied();
    let level = || crate::tail::level::detect(&entry.message).otlp_number();
    let body = String::from_utf8_lossy(&entry.message);
    let limit = taffrail_model::limits::LINE_BYTES_MAX;
    let kept = &body[..body.floor_char_boundary(limit)];
    let length =
        entry.cut.or_else(|| (kept.len() < body.len()).then_some(entry.message.len() as u64));
    LogRecord {
        time_unix_nano: entry.realtime.saturating_mul(1000),
        observed_time_unix_nano: now.cast_unsigned(),
        severity_number: severity.unwrap_or_else(level),
        body: Some(AnyValue { value: Some(Value::StringValue(kept.to_owned())) }),
        attributes: length.map(|l| text(wire::META_CUT, &l.to_string())).into_iter().collect(),
        ..LogRecord::default()
    }
}

fn gap(lost: u64, time: u64, now: i64) -> LogRecord {
    let reason = "removed from the journal before they were read";
    LogRecord {
        time_unix_nano: if time == 0 { now.cast_unsigned() } else { time.saturating_mul(1000) },
        observed_time_unix_nano: now.cast_unsigned(),
        severity_number: 13,
        body: Some(AnyValue {
            value: Some(Value::StringValue(format!("{lost} journal entries are lost: {reason}"))),
        }),
        attributes: vec![
            text(META_GAP_ENTRIES, &lost.to_string()),
            text(META_GAP_REASON, "vacuumed"),
        ],
        ..LogRecord::default()
    }
}

fn text(name: &str, value: &str) -> KeyValue {
    attribute(name, Value::StringValue(value.to_owned()))
}

fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(unit: &str, identifier: &str, transport: &str) -> Entry {
        Entry {
            message: b"m".to_vec(),
            unit: unit.into(),
            identifier: identifier.into(),
            transport: transport.into(),
            realtime: 7,
            ..Entry::default()
        }
    }

    #[test]
    fn cursors() {
        let cursor = |id: &str, number| Some(Cursor { id: id.into(), number });
        let cases: [(&str, Option<Cursor>); 7] = [
            ("s=ab12;i=1f;b=c;m=1;t=2;x=3", cursor("ab12", 31)),
            ("i=0;s=f", cursor("f", 0)),
            ("s=ab12", None),
            ("s=../x;i=1", None),
            ("s=;i=1", None),
            ("s=a;i=ffffffffffffffff", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Cursor::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn whose_an_entry_is() {
        let cases = [
            (("kubelet.service", "kubelet", "stdout"), ("kubelet", "kubelet.service")),
            (("getty@tty1.service", "x", "syslog"), ("getty", "getty@tty1.service")),
            (("session-4.scope", "sshd", "syslog"), ("sshd", "")),
            (("", "", "kernel"), ("kernel", "")),
            (("", "sudo", "syslog"), ("sudo", "")),
            (("", "", ""), ("journal", "")),
            ((".scope", "", ""), ("journal", "")),
        ];
        for ((unit, identifier, transport), (app, label)) in cases {
            let found = stream(&entry(unit, identifier, transport));
            assert_eq!(found, (app.to_owned(), label.to_owned()), "{unit} {identifier}");
        }
    }

    #[test]
    fn every_stream_carries_the_range() {
        let place = Place { cluster: String::new(), node: "n".into() };
        let mut batch = Batch::new("ab", 5);
        batch.gaps.push((9, 4));
        batch.push(9, entry("kubelet.service", "", ""), true);
        batch.push(10, entry("", "", "kernel"), true);
        batch.push(11, entry("other.service", "", ""), false);
        let request = batch.encode(&place, 100);
        assert_eq!(request.resource_logs.len(), 3, "two streams and a gap");
        for logs in &request.resource_logs {
            let attributes = &logs.resource.as_ref().expect("a resource").attributes;
            let int =
                |name: &str| attributes.iter().find(|a| a.key == name).expect(name).value.clone();
            let number = |n| Some(AnyValue { value: Some(Value::IntValue(n)) });
            assert_eq!((int(wire::BEGIN), int(wire::END)), (number(5), number(12)));
        }
        let (first, second) = batch.divide().expect("two entries");
        assert_eq!((first.begin, first.end, first.entries.len(), first.gaps.len()), (5, 10, 1, 1));
        assert_eq!((second.begin, second.end, second.entries.len()), (10, 12, 1));
        assert!(second.divide().is_none());
        assert_eq!(batch.after(100).begin, 12);
        let nothing = Batch::new("ab", 5).encode(&place, 1);
        assert_eq!(nothing.resource_logs.len(), 1, "a position still moves");
    }

    #[test]
    fn priorities_are_levels() {
        use taffrail_model::Level;
        let of = |priority| {
            Level::from_otlp_number(
                record(&Entry { priority, ..entry("", "", "") }, 0).severity_number,
            )
        };
        use Level::{Critical, Debug, Error, Fatal, Info, Warn};
        let levels = [0, 1, 2, 3, 4, 5, 6, 7].map(|p| of(Some(p)));
        assert_eq!(levels, [Fatal, Fatal, Critical, Error, Warn, Info, Info, Debug]);
        assert_eq!(of(None), Level::Unknown);
    }
}
