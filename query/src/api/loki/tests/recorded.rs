//! Recorded exchanges of a real Loki, read by path; skipped, loudly, where they are not at hand.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use taffrail_model::{Labels, Level, LogEntry, StreamEntries};

use super::{api, entry, send, uri};
use crate::logql::oracle::VecSource;

/// What differs from the recording, and why that is right or bearable.
const DIFFERENT: [(&str, &str); 7] = [
    ("detected_fields", "trace ids are no whole numbers, though most of these look so"),
    ("detected_fields limit", "which fields are left out is nowhere defined"),
    ("otlp query", "what OTLP becomes is the receiver's"),
    ("query no tenant", "there are no tenants"),
    ("log same ts", "order of arrival at one nanosecond; the recording has another"),
    ("query POST form", "as above"),
    ("log rfc3339 times", "as above"),
];

fn level_of(line: &str) -> Level {
    let word = ["level=", "\"level\": \""].iter().find_map(|key| line.split(key).nth(1));
    let word = word.map_or("", |rest| rest.split([' ', '"']).next().unwrap_or(""));
    let level = Level::from_word(word).unwrap_or_default();
    if level == Level::Unknown && line.starts_with("ERROR") { Level::Error } else { level }
}

/// What the recorded pushes have put into Loki.
fn recorded_source(exchanges: &[Value]) -> VecSource {
    let source = VecSource::new();
    let named = [("cs", "x"), ("gz", "x")].map(|(app, line)| {
        let labels = Labels::from_pairs([("app", app), ("service_name", app)]);
        let ts = 1_795_187_401_000_000_000;
        let entries =
            vec![LogEntry { ts, line: line.into(), level: Level::Unknown, metadata: vec![] }];
        StreamEntries { labels, entries }
    });
    source.push(named.into());
    let pay = Labels::from_pairs([("k8s_namespace_name", "shop"), ("service_name", "pay")]);
    let entries = vec![entry(1_795_187_405_000_000_000, "{\"k\":\"v\"}", Level::Unknown)];
    source.push(vec![StreamEntries { labels: pay, entries }]);
    for exchange in
        exchanges.iter().filter(|x| x["path"] == "/loki/api/v1/push" && x["status"] == 204)
    {
        for stream in exchange["request_json"]["streams"].as_array().into_iter().flatten() {
            source.push(vec![recorded_stream(stream)]);
        }
    }
    source
}

fn recorded_stream(stream: &Value) -> StreamEntries {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut labels: BTreeMap<String, String> = stream["stream"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(n, v)| (n.clone(), text(v)))
        .collect();
    let service = labels.get("app").cloned().unwrap_or_else(|| "unknown_service".into());
    labels.insert("service_name".into(), service);
    let mut entries: Vec<LogEntry> = Vec::new();
    for value in stream["values"].as_array().into_iter().flatten() {
        let line = text(&value[1]);
        let metadata = value[2].as_object().into_iter().flatten();
        let metadata = metadata.map(|(n, v)| (n.clone(), text(v))).filter(|(_, v)| !v.is_empty());
        let ts = text(&value[0]).parse().expect("nanoseconds");
        let entry = LogEntry { ts, level: level_of(&line), line, metadata: metadata.collect() };
        // Loki keeps one of two equal lines.
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    StreamEntries { labels: Labels::from_pairs(labels), entries }
}

/// Takes out what is not compared: statistics, unknown levels, the order of sets.
fn normal(mut value: Value) -> Value {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("stats");
                if members.get("detected_level").is_some_and(|level| level == "unknown") {
                    members.remove("detected_level");
                }
                members.retain(|name, v| {
                    clean(v);
                    name != "structuredMetadata" || v.as_object().is_some_and(|o| !o.is_empty())
                });
            }
            Value::Array(items) => items.iter_mut().for_each(clean),
            _ => {}
        }
    }
    clean(&mut value);
    for pointer in ["/data", "/data/result", "/fields", "/values", "/detectedLabels"] {
        if let Some(Value::Array(items)) = value.pointer_mut(pointer) {
            let sortable = pointer == "/values" || items.iter().all(Value::is_object);
            if sortable {
                items.sort_by_key(|item| {
                    let mut keys: Vec<_> =
                        item.to_string().split([',', '{', '}']).map(str::to_owned).collect();
                    keys.sort();
                    keys
                });
            }
        }
    }
    value
}

fn params_of(exchange: &Value) -> Vec<(String, String)> {
    let mut params = Vec::new();
    for (name, value) in exchange["params"].as_object().into_iter().flatten() {
        match value {
            Value::Array(values) => {
                params.extend(
                    values.iter().map(|v| (name.clone(), v.as_str().unwrap_or("").to_owned())),
                );
            }
            Value::String(text) => params.push((name.clone(), text.clone())),
            other => params.push((name.clone(), other.to_string())),
        }
    }
    params
}

async fn replay(api: &axum::Router, exchange: &Value) -> Result<(), String> {
    let path = exchange["path"].as_str().unwrap_or("");
    let mut request = Request::get(uri(path, &params_of(exchange)));
    for (name, value) in exchange["headers"].as_object().into_iter().flatten() {
        request = request.header(name.as_str(), value.as_str().unwrap_or(""));
    }
    let (status, body) = send(api, request.body(Body::empty()).expect("a request")).await;
    let wanted = exchange["status"].as_u64();
    if wanted != Some(u64::from(status.as_u16())) {
        return Err(format!("status {status}: {body}"));
    }
    match &exchange["body"] {
        Value::String(text) => {
            // Ours shows the query and the place below the first line.
            let found = body.starts_with(text.trim_end());
            if found { Ok(()) } else { Err(format!("{body}\n   wanted {text}")) }
        }
        recorded => {
            let found: Value = serde_json::from_str(&body).map_err(|e| format!("{e}: {body}"))?;
            let (found, wanted) = (normal(found), normal(recorded.clone()));
            if found == wanted { Ok(()) } else { Err(format!("{found}\n   wanted {wanted}")) }
        }
    }
}

#[tokio::test]
async fn recorded_exchanges() {
    let dir = crate::logql::conformance::data_dir("FIXTURES_DIR", "fixtures");
    let path = dir.join("loki-http-golden.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", path.display());
        return;
    };
    let data: Value = serde_json::from_str(&text).expect("valid JSON");
    let exchanges = data["exchanges"].as_array().expect("exchanges");
    let api = api(Arc::new(recorded_source(exchanges)));
    let paths = [
        "query",
        "query_range",
        "labels",
        "label",
        "series",
        "format_query",
        "label/app/values",
        "label/pod/values",
        "label/nope/values",
        "detected_labels",
        "detected_fields",
        "detected_field/status/values",
        "detected_field/user_id/values",
    ];
    let (mut same, mut different) = (0, Vec::new());
    for exchange in exchanges.iter().filter(|x| x["method"] == "GET") {
        let short = exchange["path"].as_str().and_then(|path| path.strip_prefix("/loki/api/v1/"));
        let name = exchange["name"].as_str().unwrap_or("");
        if !short.is_some_and(|short| paths.contains(&short))
            || DIFFERENT.iter().any(|(n, _)| *n == name)
        {
            continue;
        }
        match replay(&api, exchange).await {
            Ok(()) => same += 1,
            Err(why) => different.push(format!("{name}: {why}")),
        }
    }
    assert!(
        different.is_empty(),
        "{same} exchanges as recorded, {} not:\n{}",
        different.len(),
        different.join("\n")
    );
    assert!(same >= 80, "only {same} exchanges were compared");
}
