//! Attributes of OTLP as label pairs, and their values as text.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::Value as Json;

use super::naming::label_name;

/// A label as the store shares it.
pub(super) type Pair = (Arc<str>, Arc<str>);

/// Resource attributes that name the place in Kubernetes, and the labels they become.
const PLACES: [(&str, &str); 4] = [
    ("k8s.namespace.name", "namespace"),
    ("k8s.pod.name", "pod"),
    ("k8s.container.name", "container"),
    ("k8s.node.name", "node"),
];

/// Attributes as labels under exactly their names.
pub(super) fn verbatim(attributes: &[KeyValue]) -> impl Iterator<Item = Pair> + '_ {
    attributes.iter().map(|a| (a.key.as_str().into(), text_of(a.value.as_ref()).into()))
}

/// Attributes as labels with Prometheus' names. When several attributes get the same name, their
/// values are joined with `;` in order of their keys.
pub(super) fn sanitised<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Vec<Pair> {
    let mut sorted: Vec<&KeyValue> = attributes.collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for attribute in sorted.into_iter().filter(|a| !a.key.is_empty()) {
        let text = text_of(attribute.value.as_ref());
        labels
            .entry(label_name(&attribute.key))
            .and_modify(|value| {
                value.push(';');
                value.push_str(&text);
            })
            .or_insert(text);
    }
    labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Whom the metrics of a resource are about.
#[derive(Default)]
pub(super) struct Target {
    /// Labels of every series of the resource.
    pub(super) identity: Vec<Pair>,
    /// What else is known of it, for `target_info`; empty when nothing is.
    pub(super) info: Vec<Pair>,
}

impl Target {
    /// `job` and `instance` from the service's attributes, and the place in Kubernetes.
    pub(super) fn of(attributes: &[KeyValue]) -> Self {
        let get = |key: &str| {
            let found = attributes.iter().find(|a| a.key == key);
            found.map(|a| text_of(a.value.as_ref())).filter(|text| !text.is_empty())
        };
        let mut identity: Vec<Pair> = Vec::new();
        if let Some(name) = get("service.name") {
            let job = match get("service.namespace") {
                Some(namespace) => format!("{namespace}/{name}"),
                None => name,
            };
            identity.push(("job".into(), job.into()));
        }
        if let Some(instance) = get("service.instance.id") {
            identity.push(("instance".into(), instance.into()));
        }
        let identified = !identity.is_empty();
        for (key, label) in PLACES {
            if let Some(value) = get(key) {
                identity.push((label.into(), value.into()));
            }
        }
        let identifying = ["service.name", "service.namespace", "service.instance.id"];
        let others = attributes.iter().filter(|a| !identifying.contains(&a.key.as_str()));
        let info = if identified { sanitised(others) } else { Vec::new() };
        Self { identity, info }
    }
}

/// The text of an attribute's value: texts as they are, numbers and truth values printed, lists and
/// maps as JSON, bytes as base64. Empty when there is no value.
pub(super) fn text_of(value: Option<&AnyValue>) -> String {
    match value.and_then(|v| v.value.as_ref()) {
        None | Some(Value::StringValueStrindex(_)) => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BytesValue(bytes)) => base64(bytes),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) => json_of(value).to_string(),
    }
}

fn json_of(value: Option<&AnyValue>) -> Json {
    match value.and_then(|v| v.value.as_ref()) {
        None | Some(Value::StringValueStrindex(_)) => Json::Null,
        Some(Value::StringValue(text)) => Json::from(text.as_str()),
        Some(Value::BoolValue(truth)) => Json::from(*truth),
        Some(Value::IntValue(number)) => Json::from(*number),
        Some(Value::DoubleValue(number)) => Json::from(*number),
        Some(Value::BytesValue(bytes)) => Json::from(base64(bytes)),
        Some(Value::ArrayValue(list)) => list.values.iter().map(|v| json_of(Some(v))).collect(),
        Some(Value::KvlistValue(map)) => {
            let pairs = map.values.iter().map(|p| (p.key.clone(), json_of(p.value.as_ref())));
            Json::Object(pairs.collect())
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit > group.len() { '=' } else { DIGITS[index as usize] as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    pub(crate) fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.into(), value: Some(any(value)), ..KeyValue::default() }
    }

    #[test]
    fn values_as_text() {
        let list =
            ArrayValue { values: vec![any(Value::IntValue(1)), any(Value::BoolValue(true))] };
        let map = KeyValueList { values: vec![attribute("a", Value::StringValue("b".into()))] };
        let cases = [
            (Value::StringValue("x".into()), "x"),
            (Value::BoolValue(false), "false"),
            (Value::IntValue(-3), "-3"),
            (Value::DoubleValue(0.5), "0.5"),
            (Value::BytesValue(b"Man".to_vec()), "TWFu"),
            (Value::BytesValue(b"Ma".to_vec()), "TWE="),
            (Value::BytesValue(b"M".to_vec()), "TQ=="),
            (Value::ArrayValue(list), "[1,true]"),
            (Value::KvlistValue(map), r#"{"a":"b"}"#),
        ];
        for (value, expected) in cases {
            assert_eq!(text_of(Some(&any(value))), expected);
        }
        assert_eq!(text_of(None), "");
    }

    #[test]
    fn names_that_collide_are_joined() {
        let text = |t: &str| Value::StringValue(t.into());
        let attributes = [attribute("a.b", text("2")), attribute("a-b", text("1"))];
        assert_eq!(sanitised(attributes.iter()), [("a_b".into(), "1;2".into())]);
    }
}
