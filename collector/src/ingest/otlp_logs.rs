//! OTLP logs to records. Pure.
//!
//! A batch of our agent (scope [`AGENT_SCOPE`], see [`taffrail_model::wire`]) is taken word for
//! word. Of everybody else's, the resource attributes that Loki makes labels are labels (`.` becomes
//! `_`), the place in Kubernetes is also there under our own names, and all else is metadata of the
//! line. A request is taken whole or not at all.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use taffrail_model::labels::sanitize_name;
use taffrail_model::wire::{AGENT_SCOPE, BEGIN, CHECK, END, ORIGIN, SOURCE};
use taffrail_model::{Labels, Level, LogEntry, Nanos, SourceRange, StreamEntries};

use super::any_value::{hex, into_text};
use super::batch::{LogPart, check_limits, sort_metadata};
use super::level::detect_level;
use super::refusal::Refusal;
use super::weight::Room;

/// Resource attributes that become labels: Loki's list, so that its dashboards work.
const LABEL_ATTRIBUTES: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

/// Resource attributes that are labels under the names of our agent too, so that one selector finds
/// a pod's lines whichever way they came.
const PLACES: [(&str, &str); 4] = [
    ("k8s.namespace.name", "namespace"),
    ("k8s.pod.name", "pod"),
    ("k8s.container.name", "container"),
    ("k8s.node.name", "node"),
];

/// The value of `service_name` when nothing tells.
pub(super) const UNKNOWN_SERVICE: &str = "unknown_service";

type Metadata = Vec<(String, String)>;

/// Turns a request into parts. `received` is the time of records that have none.
///
/// # Errors
/// [`Refusal::Content`] when anything in it cannot be stored.
pub fn decode(request: ExportLogsServiceRequest, received: Nanos) -> Result<Vec<LogPart>, Refusal> {
    let mut parts = Vec::with_capacity(request.resource_logs.len());
    let mut room = Room::default();
    for logs in request.resource_logs {
        let part = if is_agents(&logs) {
            agent(logs, received)
        } else {
            other(logs, received, &mut room)
        }?;
        part.streams.iter().try_for_each(check_limits)?;
        parts.push(part);
    }
    Ok(parts)
}

fn attributes(logs: &mut ResourceLogs) -> Vec<KeyValue> {
    logs.resource.take().map(|resource| resource.attributes).unwrap_or_default()
}

fn is_agents(logs: &ResourceLogs) -> bool {
    match logs.scope_logs.first() {
        Some(first) => first.scope.as_ref().is_some_and(|scope| scope.name == AGENT_SCOPE),
        // A range without a record moves a position.
        None => logs.resource.iter().flat_map(|r| &r.attributes).any(|a| a.key == SOURCE),
    }
}

fn agent(mut logs: ResourceLogs, received: Nanos) -> Result<LogPart, Refusal> {
    let attributes = attributes(&mut logs);
    let range = source_range(&attributes)?;
    let labels = attributes
        .into_iter()
        .filter(|a| !a.key.starts_with("taffrail.") && !a.key.starts_with("log."))
        .map(|a| (a.key, into_text(a.value)));
    let labels = Labels::from_pairs(labels);
    let records = logs.scope_logs.into_iter().flat_map(|scope| scope.log_records);
    let entries = records.map(|record| {
        let mut metadata: Metadata =
            record.attributes.into_iter().map(|a| (a.key, into_text(a.value))).collect();
        sort_metadata(&mut metadata);
        Ok(LogEntry {
            ts: time_of(record.time_unix_nano, record.observed_time_unix_nano, received)?,
            line: line_of(record.body),
            level: Level::from_otlp_number(record.severity_number),
            metadata,
        })
    });
    let entries = entries.collect::<Result<Vec<_>, Refusal>>()?;
    Ok(LogPart { range, streams: vec![StreamEntries { labels, entries }] })
}

fn source_range(attributes: &[KeyValue]) -> Result<Option<SourceRange>, Refusal> {
    let find = |key: &str| {
        let value = attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()?;
        Some(value)
    };
    let bad = |text: String| Refusal::Content(format!("the range of a batch: {text}"));
    let source = match find(SOURCE) {
        None => return Ok(None),
        Some(Value::StringValue(source)) if (1..=1024).contains(&source.len()) => source.clone(),
        Some(_) => return Err(bad(format!("{SOURCE} is not a text of 1 to 1024 bytes"))),
    };
    let offset = |key: &str, default: Option<u64>| match find(key) {
        None => default.ok_or_else(|| bad(format!("{key} is missing"))),
        Some(Value::IntValue(number)) => {
            u64::try_from(*number).map_err(|_| bad(format!("{key} is negative")))
        }
        Some(_) => Err(bad(format!("{key} is not an integer"))),
    };
    let check = match find(CHECK) {
        None => 0,
        Some(Value::IntValue(bits)) => bits.cast_unsigned(),
        Some(_) => return Err(bad(format!("{CHECK} is not an integer"))),
    };
    let (begin, end) = (offset(BEGIN, None)?, offset(END, None)?);
    if begin > end {
        return Err(bad(format!("it begins at {begin} and ends at {end}")));
    }
    Ok(Some(SourceRange { source, begin, end, origin: offset(ORIGIN, Some(0))?, check }))
}

fn other(mut logs: ResourceLogs, received: Nanos, room: &mut Room) -> Result<LogPart, Refusal> {
    let (labels, resource) = split_resource(attributes(&mut logs));
    let mut entries = Vec::new();
    for scope_logs in logs.scope_logs {
        let scope = scope_logs.scope.map(scope_metadata).unwrap_or_default();
        let bytes = [&resource, &scope].into_iter().flatten().map(|(n, v)| n.len() + v.len()).sum();
        room.take(scope_logs.log_records.len(), bytes)?;
        if scope_logs.log_records.is_empty() {
            continue;
        }
        let mut shared = resource.clone();
        shared.extend(scope);
        for record in scope_logs.log_records {
            entries.push(other_record(record, &shared, received)?);
        }
    }
    Ok(LogPart { range: None, streams: vec![StreamEntries { labels, entries }] })
}

/// Labels, and what of a resource is metadata of each line.
fn split_resource(attributes: Vec<KeyValue>) -> (Labels, Metadata) {
    let mut labels = vec![("service_name".to_owned(), UNKNOWN_SERVICE.to_owned())];
    let mut metadata = Vec::new();
    for KeyValue { key, value, .. } in attributes {
        let text = into_text(value);
        if text.is_empty() {
            continue;
        }
        let place = PLACES.iter().find(|(attribute, _)| *attribute == key);
        if let Some((_, label)) = place {
            labels.push(((*label).to_owned(), text.clone()));
        }
        if LABEL_ATTRIBUTES.contains(&key.as_str()) {
            labels.push((key.replace('.', "_"), text));
        } else if place.is_none() {
            metadata.push((sanitize_name(&key), text));
        }
    }
    (Labels::from_pairs(labels), metadata)
}

fn scope_metadata(scope: InstrumentationScope) -> Metadata {
    let mut metadata =
        vec![("scope_name".to_owned(), scope.name), ("scope_version".to_owned(), scope.version)];
    metadata.extend(named(scope.attributes));
    metadata
}

fn named(attributes: Vec<KeyValue>) -> impl Iterator<Item = (String, String)> {
    attributes.into_iter().map(|a| (sanitize_name(&a.key), into_text(a.value)))
}

fn other_record(
    record: LogRecord,
    shared: &Metadata,
    received: Nanos,
) -> Result<LogEntry, Refusal> {
    let mut metadata = shared.clone();
    metadata.extend(named(record.attributes));
    let ids = [("trace_id", &record.trace_id), ("span_id", &record.span_id)];
    let ids = ids.into_iter().filter(|(_, id)| id.iter().any(|byte| *byte != 0));
    metadata.extend(ids.map(|(name, id)| (name.to_owned(), hex(id))));
    metadata.push(("event_name".to_owned(), record.event_name));
    let line = line_of(record.body);
    let level = match Level::from_otlp_number(record.severity_number) {
        Level::Unknown => {
            Level::from_word(&record.severity_text).unwrap_or_else(|| detect_level(&line))
        }
        level => level,
    };
    metadata.push(("severity_text".to_owned(), record.severity_text));
    metadata.retain(|(name, _)| name != "detected_level");
    sort_metadata(&mut metadata);
    let ts = time_of(record.time_unix_nano, record.observed_time_unix_nano, received)?;
    Ok(LogEntry { ts, line, level, metadata })
}

fn time_of(time: u64, observed: u64, received: Nanos) -> Result<Nanos, Refusal> {
    let time = if time == 0 { observed } else { time };
    if time == 0 {
        return Ok(received);
    }
    let late = |_| Refusal::Content(format!("the time {time} ns is after the year 2262"));
    Nanos::try_from(time).map_err(late)
}

fn line_of(body: Option<AnyValue>) -> String {
    match body.and_then(|body| body.value) {
        Some(Value::BytesValue(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        value => into_text(Some(AnyValue { value })),
    }
}

#[cfg(test)]
#[path = "otlp_logs_tests.rs"]
mod tests;
