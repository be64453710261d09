//! Attributes of OTLP as label pairs.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::naming::label_name;
use crate::ingest::any_value::text_of;

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

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    fn attribute(key: &str, value: Value) -> KeyValue {
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: key.into(), value, ..KeyValue::default() }
    }

    #[test]
    fn names_that_collide_are_joined() {
        let text = |t: &str| Value::StringValue(t.into());
        let attributes = [attribute("a.b", text("2")), attribute("a-b", text("1"))];
        assert_eq!(sanitised(attributes.iter()), [("a_b".into(), "1;2".into())]);
    }
}
