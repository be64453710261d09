//! Every recorded exchange of a real Loki, in the order in which it was recorded, asked of a real
//! collector: status, content type and body.
//!
//! Each one that differs stands in [`ON_PURPOSE`] or [`NOT_YET`] with its reason; one that is said to
//! differ on purpose and does not fails the test too, so the table is what is true.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::harness::{JSON, Running};

const WIDER: &str = "a limit of Loki that we do not have: the line is kept";
const NO_TENANTS: &str = "there are no tenants: the header is not needed";
const SAYS: &str = "refused with the same status, in words of our own";
const OTLP: &str = "the answer that OTLP's specification asks for, in the encoding of the request";
const TWICE: &str = "Loki keeps one of two equal lines and calls an unknown level `unknown`; we keep both and no level";
const LEVEL: &str = "an unknown level is left out, Loki calls it `unknown`";
const BYTES: &str = "bytes are those of the lines alone";

const RARE: &str = "Loki leaves out patterns with few lines, errors first; all are shown";

/// Exchanges that differ, and why they should.
const ON_PURPOSE: &[(&str, &str)] = &[
    ("delete list after", "the request's id and time are our own"),
    ("delete bad query", "says where the query is wrong"),
    ("delete metric query", "says what is wrong with the query"),
    ("delete no start", "no end of line behind the text"),
    ("delete cancel unknown", "no end of line behind the text"),
    ("push 16 labels", WIDER),
    ("push long label value", WIDER),
    ("push long line", WIDER),
    ("push future 1 day", WIDER),
    ("push old 30 days", WIDER),
    ("push out of order 3 h", WIDER),
    ("push no tenant", NO_TENANTS),
    ("query no tenant", NO_TENANTS),
    ("push empty streams", "Fluent Bit repeats a 422 for ever, so it is 400"),
    ("push invalid json", SAYS),
    ("push empty body json", SAYS),
    ("push number timestamp", SAYS),
    ("push bad timestamp", SAYS),
    ("push metadata number", SAYS),
    ("otlp json", OTLP),
    ("otlp bad json", OTLP),
    ("otlp bad content type", OTLP),
    ("otlp query", "OTLP resources have the labels of the agent's streams too"),
    ("log same ts", TWICE),
    ("log rfc3339 times", TWICE),
    ("query POST form", TWICE),
    ("log categorize no metadata", LEVEL),
    ("index stats", "Loki counts nothing that its ingester still holds; we count all"),
    ("index volume", BYTES),
    ("index volume targetLabels", BYTES),
    ("index volume aggregateBy labels", BYTES),
    ("index volume limit", BYTES),
    ("index volume_range", BYTES),
    ("index shards", "a crash of Loki; it is internal to it, and unknown here"),
    ("detected_fields", "trace ids are no whole numbers, though most of these look so"),
    ("detected_fields limit", "which fields are left out is nowhere defined"),
    ("patterns", RARE),
    ("patterns step", RARE),
    ("drilldown-limits", "the limits are ours"),
    ("buildinfo", "clients look for a version; ours is that of the API"),
    ("rules", "a file that Loki does not find; there is no ruler"),
    ("services", "Loki's modules are not ours"),
];

/// Exchanges that differ until the rest is built. One that does not differ any more is only said.
const NOT_YET: &[(&str, &str)] = &[];

/// Exchanges with a collector of their own: what it stores and Loki does not would show in the answers
/// after them.
const APART: [&str; 8] = [
    "push 16 labels",
    "push long label value",
    "push long line",
    "push future 1 day",
    "push old 30 days",
    "push out of order 3 h",
    "otlp json",
    "otlp query",
];

/// What Loki has made of the OTLP request; it is pushed where that was sent.
const OTLP_STORED: &str = r#"{"streams": [{
    "stream": {"k8s_namespace_name": "shop", "service_name": "pay"},
    "values": [["1795187403000000000", "paid failed"], ["1795187405000000000", "{\"k\":\"v\"}"]]
}]}"#;

/// Members whose items Loki gives in no defined order: they come from maps.
const UNORDERED: [&str; 5] = ["/data", "/data/result", "/fields", "/values", "/detectedLabels"];

struct Answer {
    status: u16,
    content_type: Option<String>,
    body: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_exchanges_of_loki() {
    let fixtures = std::env::var_os("FIXTURES_DIR").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures").into(),
        std::path::PathBuf::from,
    );
    let path = fixtures.join("loki-http-golden.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", path.display());
        return;
    };
    let golden: Value = serde_json::from_str(&text).unwrap();
    let exchanges = golden["exchanges"].as_array().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let apart_dir = tempfile::tempdir().unwrap();
    let apart = Running::start(apart_dir.path()).await;
    let mut different = BTreeMap::new();
    for exchange in exchanges {
        let name = exchange["name"].as_str().unwrap();
        let asked = if APART.contains(&name) { &apart } else { &running };
        if let Err(how) = compare(exchange, &ask(asked, exchange).await) {
            different.insert(name, how);
        }
        if name == "otlp json" {
            let pushed = running.post("/loki/api/v1/push", &[JSON], OTLP_STORED).await;
            assert_eq!(pushed.status, 204);
        }
    }
    running.stop().await;
    apart.stop().await;
    let same = exchanges.len() - different.len();
    let known = |table: &[(&str, &str)], name: &str| table.iter().any(|(known, _)| *known == name);
    let count = |table| different.keys().filter(|name| known(table, name)).count();
    let counts = format!(
        "{} recorded exchanges: {same} same, {} different on purpose, {} not yet",
        exchanges.len(),
        count(ON_PURPOSE),
        count(NOT_YET)
    );
    let _ = writeln!(std::io::stderr(), "{counts}");
    let mut wrong = String::new();
    for (name, how) in &different {
        if !known(ON_PURPOSE, name) && !known(NOT_YET, name) {
            let _ = writeln!(wrong, "--- {name}: {how}");
        }
    }
    for (name, reason) in ON_PURPOSE {
        if !different.contains_key(name) {
            let _ = writeln!(wrong, "--- {name} is said to differ and does not: {reason}");
        }
    }
    for (name, _) in NOT_YET.iter().filter(|(name, _)| !different.contains_key(name)) {
        let _ = writeln!(std::io::stderr(), "{name} is the same now: it can leave NOT_YET");
    }
    assert!(wrong.is_empty(), "{counts}\n{wrong}");
}

async fn ask(running: &Running, exchange: &Value) -> Answer {
    let stream = tokio::net::TcpStream::connect(running.http).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(exchange["method"].as_str().unwrap())
        .uri(target(exchange))
        .header(HOST, "collector");
    for (name, value) in exchange["headers"].as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    let body = match (&exchange["request_hex"], &exchange["request_json"]) {
        (Value::String(hex), _) => Bytes::from(unhex(hex)),
        (_, Value::Null) => Bytes::new(),
        (_, json) => Bytes::from(json.to_string()),
    };
    let answer = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let content_type = answer.headers().get(CONTENT_TYPE).map(|it| it.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    Answer { status, content_type, body: String::from_utf8_lossy(&body).into_owned() }
}

/// Path and parameters; a list gives its name more than once.
fn target(exchange: &Value) -> String {
    let mut target = exchange["path"].as_str().unwrap().to_owned();
    let mut push = |name: &str, value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(&encode(name));
        target.push('=');
        target.push_str(&encode(&text));
    };
    for (name, value) in exchange["params"].as_object().into_iter().flatten() {
        match value {
            Value::Array(values) => values.iter().for_each(|value| push(name, value)),
            value => push(name, value),
        }
    }
    target
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn compare(exchange: &Value, answer: &Answer) -> Result<(), String> {
    let mut how = String::new();
    let wanted = exchange["status"].as_u64().unwrap();
    if wanted != u64::from(answer.status) {
        let _ = write!(how, "status {}, recorded {wanted}; ", answer.status);
    }
    let (wanted, found) = (exchange["content_type"].as_str(), answer.content_type.as_deref());
    let same = match (wanted, found) {
        (Some(wanted), Some(found)) => wanted.eq_ignore_ascii_case(found),
        (wanted, found) => wanted == found,
    };
    if !same {
        let _ = write!(how, "content type {found:?}, recorded {wanted:?}; ");
    }
    let body = match &exchange["body"] {
        Value::String(text) => (answer.body == *text).then_some(()).ok_or_else(|| text.clone()),
        recorded => {
            let wanted = normal(recorded.clone());
            let found = serde_json::from_str(&answer.body).map(normal);
            found.is_ok_and(|found| found == wanted).then_some(()).ok_or_else(|| wanted.to_string())
        }
    };
    if let Err(wanted) = body {
        let _ = write!(how, "body\n  found    {}\n  recorded {wanted}", answer.body);
    }
    if how.is_empty() { Ok(()) } else { Err(how) }
}

/// Without statistics (they were cut from the recording), with unordered lists sorted.
fn normal(mut value: Value) -> Value {
    if let Some(data) = value.get_mut("data").and_then(Value::as_object_mut) {
        data.remove("stats");
    }
    for pointer in UNORDERED {
        if let Some(Value::Array(items)) = value.pointer_mut(pointer)
            && (pointer == "/values" || items.iter().all(Value::is_object))
        {
            items.sort_by_key(canonical);
        }
    }
    value
}

/// The text of a value with the members of its objects sorted.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<&String, String> =
                members.iter().map(|(name, value)| (name, canonical(value))).collect();
            format!("{members:?}")
        }
        other => other.to_string(),
    }
}
