//! Takes out of OTLP's log records what must not leave the node: out of bodies, attributes, names.
//!
//! Invariants:
//! - Each text of a record goes through the redactor of its pod, however deep it stands; a value whose
//!   name gives it away goes whole.
//! - A number that is to be taken out becomes the text that stands in its place.
//! - What says where a record comes from stays: Kubernetes and the agent say so, or it is the name of a
//!   service.
//!
//! Pure, but for counters.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};

use super::origin::text;
use crate::process::Source;
use crate::process::redact::{Outcome, Redactor};
use crate::process::rules::Rules;

/// Attributes of a resource that become labels, or say what does.
const LABELS: [&str; 3] = ["k8s.", "taffrail.", "service."];

/// Redacts the records of a request; those that are not to be kept go.
pub(super) fn logs(request: &mut ExportLogsServiceRequest, meaning: &Source) {
    request.resource_logs.retain_mut(|logs| {
        let rules = rules(logs, meaning);
        if rules.exclude {
            let records = logs.scope_logs.iter().map(|scope| scope.log_records.len() as u64);
            meaning.excluded(records.sum());
            return false;
        }
        if !rules.redactor.is_idle() {
            resource(logs, &rules.redactor, meaning);
        }
        true
    });
}

/// The rules of whom the agent has found to be the sender.
fn rules(logs: &ResourceLogs, meaning: &Source) -> std::sync::Arc<Rules> {
    let attributes = logs.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
    let pod = text(attributes, "k8s.pod.uid");
    meaning.of_sender(pod.map(|uid| (uid, text(attributes, "k8s.container.name"))))
}

fn resource(logs: &mut ResourceLogs, redactor: &Redactor, meaning: &Source) {
    let mut work = Work { redactor, out: Vec::new(), taken_out: 0 };
    let mut dropped = 0;
    if let Some(resource) = &mut logs.resource {
        resource.attributes.retain_mut(|attribute| {
            LABELS.iter().any(|start| attribute.key.starts_with(start)) || work.pair(attribute)
        });
    }
    for scope in &mut logs.scope_logs {
        if let Some(scope) = &mut scope.scope {
            scope.attributes.retain_mut(|attribute| work.pair(attribute));
        }
        scope.log_records.retain_mut(|record| {
            let kept = work.record(record);
            dropped += u64::from(!kept);
            kept
        });
    }
    meaning.redacted(work.taken_out, dropped);
}

/// One redactor at work. What it looks at it says of whether it may stay.
struct Work<'a> {
    redactor: &'a Redactor,
    out: Vec<u8>,
    taken_out: u64,
}

impl Work<'_> {
    fn record(&mut self, record: &mut LogRecord) -> bool {
        self.text("", &mut record.severity_text)
            && self.text("", &mut record.event_name)
            && record.body.as_mut().is_none_or(|body| self.value("", body))
            && record.attributes.iter_mut().all(|attribute| self.pair(attribute))
    }

    fn pair(&mut self, pair: &mut KeyValue) -> bool {
        let KeyValue { key, value, .. } = pair;
        value.as_mut().is_none_or(|value| self.value(key, value))
    }

    /// As deep as decoding goes, which is no more than a hundred levels.
    fn value(&mut self, name: &str, value: &mut AnyValue) -> bool {
        let Some(inner) = &mut value.value else { return true };
        let mut number = match inner {
            Value::StringValue(text) => return self.text(name, text),
            Value::ArrayValue(array) => {
                return array.values.iter_mut().all(|value| self.value(name, value));
            }
            Value::KvlistValue(list) => return list.values.iter_mut().all(|pair| self.pair(pair)),
            Value::BytesValue(bytes) => {
                let outcome = self.redactor.apply_named(name, bytes, &mut self.out);
                if let Outcome::Changed(count) = outcome {
                    self.taken_out += u64::from(count);
                    bytes.clone_from(&self.out);
                }
                return outcome != Outcome::Dropped;
            }
            Value::IntValue(number) => number.to_string(),
            Value::DoubleValue(number) => number.to_string(),
            _ => return true,
        };
        let before = self.taken_out;
        let kept = self.text(name, &mut number);
        if self.taken_out > before {
            *inner = Value::StringValue(number);
        }
        kept
    }

    fn text(&mut self, name: &str, text: &mut String) -> bool {
        match self.redactor.apply_named(name, text.as_bytes(), &mut self.out) {
            Outcome::Clean => true,
            Outcome::Changed(count) => {
                self.taken_out += u64::from(count);
                *text = String::from_utf8_lossy(&self.out).into_owned();
                true
            }
            Outcome::Dropped => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::KeyValueList;
    use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use tokio::time::Instant;

    use super::*;
    use crate::pods::table::{Event, Table};
    use crate::pods::{Origin, Pod};
    use crate::process::metrics::Metrics;
    use crate::process::redact::{Action, named};

    fn pair(key: &str, value: Value) -> KeyValue {
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: key.into(), value, ..KeyValue::default() }
    }

    fn string(text: &str) -> Value {
        Value::StringValue(text.into())
    }

    fn redactor(presets: &str) -> std::sync::Arc<Redactor> {
        let wanted = presets.split(',').flat_map(|name| named(name).expect(name));
        Redactor::new(wanted.map(|d| (d, Action::Mask)), Vec::new(), None).into()
    }

    fn request(uid: Option<&str>, record: LogRecord) -> ExportLogsServiceRequest {
        let uid = uid.map(|uid| pair("k8s.pod.uid", string(uid)));
        let attributes =
            uid.into_iter().chain([pair("user.email", string("a@example.org"))]).collect();
        let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
        let resource = Some(Resource { attributes, ..Resource::default() });
        let logs = ResourceLogs { resource, scope_logs, ..ResourceLogs::default() };
        ExportLogsServiceRequest { resource_logs: vec![logs] }
    }

    fn record(body: Value, attributes: Vec<KeyValue>) -> LogRecord {
        let body = Some(AnyValue { value: Some(body) });
        LogRecord { body, attributes, ..LogRecord::default() }
    }

    #[test]
    fn every_text_of_a_record() {
        let rules = Rules { redactor: redactor("secrets,pci,healthcare"), ..Rules::default() };
        let meaning = Source::new(rules, crate::pods::Pods::none(), Metrics::default());
        let nested = KeyValueList { values: vec![pair("password", string("hunter2"))] };
        let attributes = vec![
            pair("db.password", string("two words")),
            pair("pan", Value::IntValue(4_111_111_111_111_111)),
            pair("raw", Value::BytesValue(b"ip 10.1.2.3".to_vec())),
            pair("n", Value::IntValue(17)),
        ];
        let mut request = request(None, record(Value::KvlistValue(nested), attributes));
        logs(&mut request, &meaning);
        let logs = &request.resource_logs[0];
        assert_eq!(
            logs.resource.as_ref().expect("a resource").attributes,
            [pair("user.email", string("[email]"))]
        );
        let found = &logs.scope_logs[0].log_records[0];
        let nested = KeyValueList { values: vec![pair("password", string("[password]"))] };
        assert_eq!(found.body.as_ref().expect("a body").value, Some(Value::KvlistValue(nested)));
        let expected = [
            pair("db.password", string("[password]")),
            pair("pan", string("[card]")),
            pair("raw", Value::BytesValue(b"ip [ip]".to_vec())),
            pair("n", Value::IntValue(17)),
        ];
        assert_eq!(found.attributes, expected);
    }

    #[test]
    fn annotations_hold_and_who_is_not_known_has_the_floor() {
        let (mut table, pods) = Table::new(Origin::Cluster);
        let pod = |uid: &str, (key, value): (&str, &str)| Pod {
            uid: uid.into(),
            annotations: [(key.to_owned(), value.to_owned())].into(),
            ..Pod::default()
        };
        let all = vec![
            pod("email", ("taffrail.dev/redact", "email")),
            pod("drop", ("taffrail.dev/redact", "email=drop")),
            pod("out", ("taffrail.dev/exclude", "true")),
            pod("plain", ("other", "x")),
        ];
        table.apply(Event::Listed(all), Instant::now());
        let rules = Rules { unknown: redactor("email"), ..Rules::default() };
        let meaning = Source::new(rules, pods, Metrics::default());
        for (uid, expected) in [
            (Some("email"), Some("by [email]")),
            (Some("drop"), None),
            (Some("out"), None),
            (Some("plain"), Some("by a@example.org")),
            (Some("gone"), Some("by [email]")),
            (None, Some("by [email]")),
        ] {
            let mut request = request(uid, record(string("by a@example.org"), vec![]));
            logs(&mut request, &meaning);
            let scopes = request.resource_logs.iter().flat_map(|logs| &logs.scope_logs);
            let records = scopes.flat_map(|scope| &scope.log_records);
            let found: Vec<_> = records.filter_map(|r| r.body.clone()?.value).collect();
            let expected: Vec<_> = expected.map(string).into_iter().collect();
            assert_eq!(found, expected, "{uid:?}");
        }
    }
}
