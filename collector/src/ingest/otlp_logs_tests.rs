//! What OTLP requests become, and what is refused.

use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::*;

fn text(key: &str, text: &str) -> KeyValue {
    value(key, Value::StringValue(text.into()))
}

fn int(key: &str, number: i64) -> KeyValue {
    value(key, Value::IntValue(number))
}

fn value(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn record(line: &str) -> LogRecord {
    let body = Some(AnyValue { value: Some(Value::StringValue(line.into())) });
    LogRecord { time_unix_nano: 5, body, ..LogRecord::default() }
}

fn request(
    scope: &str,
    attributes: Vec<KeyValue>,
    log_records: Vec<LogRecord>,
) -> ExportLogsServiceRequest {
    let scope = InstrumentationScope { name: scope.into(), ..InstrumentationScope::default() };
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let logs = ResourceLogs { resource, scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

fn range() -> Vec<KeyValue> {
    vec![text(SOURCE, "n/1"), int(BEGIN, 10), int(END, 30), int(CHECK, -1)]
}

#[test]
fn an_agents_batch_is_taken_word_for_word() {
    let mut attributes = range();
    attributes.extend([text("app", "web"), text("log.file.path", "/x"), int("tier", 3)]);
    let mut line = record("level=error x");
    line.attributes = vec![text("taffrail_cut", "9"), text("a", "b")];
    let parts = decode(request(AGENT_SCOPE, attributes, vec![line]), 1).unwrap();
    let expected =
        SourceRange { source: "n/1".into(), begin: 10, end: 30, origin: 0, check: u64::MAX };
    assert_eq!(parts[0].range, Some(expected));
    let stream = &parts[0].streams[0];
    assert_eq!(stream.labels.to_string(), r#"{app="web", tier="3"}"#);
    let entry = &stream.entries[0];
    assert_eq!((entry.ts, entry.level, entry.line.as_str()), (5, Level::Unknown, "level=error x"));
    let metadata = [("a", "b"), ("taffrail_cut", "9")].map(|(n, v)| (n.into(), v.into()));
    assert_eq!(entry.metadata, metadata);
}

#[test]
fn a_range_may_hold_no_record() {
    let mut empty = request(AGENT_SCOPE, range(), vec![]);
    assert!(decode(empty.clone(), 1).unwrap()[0].range.is_some());
    empty.resource_logs[0].scope_logs.clear();
    assert!(decode(empty, 1).unwrap()[0].range.is_some());
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    let cases: [(&[KeyValue], &str); 5] = [
        (&[text(SOURCE, "n/1"), int(BEGIN, 10)], "taffrail.end is missing"),
        (&[text(SOURCE, "n/1"), int(BEGIN, 10), int(END, 9)], "begins at 10 and ends at 9"),
        (&[text(SOURCE, "n/1"), int(BEGIN, -1), int(END, 9)], "negative"),
        (&[text(SOURCE, "n/1"), text(BEGIN, "1"), int(END, 9)], "not an integer"),
        (&[text(SOURCE, ""), int(BEGIN, 1), int(END, 9)], "not a text"),
    ];
    for (attributes, expected) in cases {
        let refused = decode(request(AGENT_SCOPE, attributes.to_vec(), vec![]), 1).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}

#[test]
fn other_senders_get_lokis_labels_and_ours() {
    let attributes = vec![
        text("service.name", "pay"),
        text("k8s.namespace.name", "shop"),
        text("k8s.pod.name", "pay-1"),
        text("k8s.node.name", "n1"),
        text("custom.attr", "x"),
    ];
    let mut line = record("paid failed");
    line.severity_number = 17;
    line.trace_id = vec![0x0a; 16];
    line.span_id = vec![0; 8];
    line.attributes = vec![value("http.ok", Value::BoolValue(true))];
    let parts = decode(request("lib", attributes, vec![line]), 1).unwrap();
    let stream = &parts[0].streams[0];
    assert_eq!(
        stream.labels.to_string(),
        r#"{k8s_namespace_name="shop", k8s_pod_name="pay-1", namespace="shop", node="n1", pod="pay-1", service_name="pay"}"#
    );
    let metadata: Vec<String> =
        stream.entries[0].metadata.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let trace = format!("trace_id={}", "0a".repeat(16));
    assert_eq!(metadata, ["custom_attr=x", "http_ok=true", "scope_name=lib", &trace]);
    assert_eq!(stream.entries[0].level, Level::Error);
}

#[test]
fn times_and_levels_have_fallbacks() {
    let mut timeless = record("WARN low");
    timeless.time_unix_nano = 0;
    let mut observed = timeless.clone();
    observed.observed_time_unix_nano = 9;
    observed.severity_text = "Information".into();
    let parts = decode(request("", vec![], vec![timeless, observed]), 77).unwrap();
    let stream = &parts[0].streams[0];
    assert_eq!(stream.labels.to_string(), r#"{service_name="unknown_service"}"#);
    let found: Vec<_> = stream.entries.iter().map(|e| (e.ts, e.level)).collect();
    assert_eq!(found, [(77, Level::Warn), (9, Level::Info)]);
}

#[test]
fn what_cannot_be_stored_is_refused_whole() {
    let mut late = record("x");
    late.time_unix_nano = u64::MAX;
    let long = record(&"x".repeat(taffrail_model::limits::LINE_BYTES_MAX + 1));
    let mut fat = record("x");
    fat.attributes = vec![text("k", &"v".repeat(70_000))];
    for bad in [late, long, fat] {
        let refused = decode(request("", vec![], vec![record("good"), bad]), 1).unwrap_err();
        assert!(matches!(refused, Refusal::Content(_)));
    }
}

#[test]
fn what_is_repeated_with_each_line_counts_each_time() {
    let attributes = vec![text("note", &"x".repeat(60_000))];
    let few = request("", attributes.clone(), vec![record("a"); 100]);
    assert_eq!(decode(few, 1).unwrap()[0].streams[0].entries.len(), 100);
    let many = request("", attributes, vec![LogRecord::default(); 10_000]);
    assert!(matches!(decode(many, 1), Err(Refusal::TooLarge { .. })));
}
