//! Samples → OTLP, written by hand: a scrape is turned into bytes without building it as structs.
//!
//! A frame is one `ExportMetricsServiceRequest` of `opentelemetry.proto.collector.metrics.v1` with
//! one resource: the target. Protobuf messages of one type may be joined by joining their bytes, so
//! several frames one after the other are one request too. The rules of the content stand in
//! `taffrail_model::wire`.

use bytes::Bytes;
use taffrail_model::time::{Millis, NANOS_PER_MILLI};
use taffrail_model::wire::{AGENT_SCOPE, METRIC_KIND};
use taffrail_model::{Labels, MetricKind};

/// A frame is closed when it has grown beyond this; it is a quarter of the largest batch.
const FRAME_BYTES: usize = taffrail_model::limits::BATCH_BYTES_MAX / 4;

/// `DataPointFlags.NO_RECORDED_VALUE_MASK`.
const NO_RECORDED_VALUE: u64 = 1;

/// Wire types of protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_key(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    put_varint(out, u64::from(field << 3 | wire_type));
}

fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_key(out, field, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    put_key(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a `KeyValue` with a text as `field` of the message that is being written.
fn put_attribute(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    let mut any = Vec::with_capacity(value.len() + 6);
    put_bytes(&mut any, 1, value.as_bytes());
    let mut pair = Vec::with_capacity(name.len() + any.len() + 12);
    put_bytes(&mut pair, 1, name.as_bytes());
    put_bytes(&mut pair, 2, &any);
    put_bytes(out, field, &pair);
}

/// The labels of a series as they stand in each of its points (`NumberDataPoint.attributes`).
#[must_use]
pub fn point_attributes<N: AsRef<str>, V: AsRef<str>>(
    labels: impl IntoIterator<Item = (N, V)>,
) -> Box<[u8]> {
    let mut out = Vec::new();
    for (name, value) in labels {
        put_attribute(&mut out, 7, name.as_ref(), value.as_ref());
    }
    out.into_boxed_slice()
}

/// The labels of a target as they stand in each of its frames (`ResourceMetrics.resource`).
#[must_use]
pub fn resource(labels: &Labels) -> Box<[u8]> {
    let mut attributes = Vec::new();
    for (name, value) in labels.iter() {
        put_attribute(&mut attributes, 1, name, value);
    }
    let mut out = Vec::with_capacity(attributes.len() + 6);
    put_bytes(&mut out, 1, &attributes);
    out.into_boxed_slice()
}

/// Writes the points of one target. Points of one metric that follow each other share its head.
#[derive(Debug)]
pub struct Encoder<'a> {
    resource: &'a [u8],
    metrics: Vec<u8>,
    name: String,
    kind: MetricKind,
    points: Vec<u8>,
    point: Vec<u8>,
    frames: Vec<Bytes>,
}

impl<'a> Encoder<'a> {
    /// An encoder for the target with this [`resource`].
    #[must_use]
    pub fn new(resource: &'a [u8]) -> Self {
        Self {
            resource,
            metrics: Vec::new(),
            name: String::new(),
            kind: MetricKind::Unknown,
            points: Vec::new(),
            point: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Adds a point; no value means that the series has ended.
    pub fn point(
        &mut self,
        name: &str,
        kind: MetricKind,
        attributes: &[u8],
        ts: Millis,
        value: Option<f64>,
    ) {
        if self.name != name || self.kind != kind || self.points.len() > FRAME_BYTES {
            self.close_metric();
            self.name.clear();
            self.name.push_str(name);
            self.kind = kind;
        }
        let nanos = u64::try_from(ts.saturating_mul(NANOS_PER_MILLI)).unwrap_or(0);
        self.point.clear();
        put_fixed64(&mut self.point, 3, nanos);
        match value {
            Some(value) => put_fixed64(&mut self.point, 4, value.to_bits()),
            None => {
                put_key(&mut self.point, 8, VARINT);
                put_varint(&mut self.point, NO_RECORDED_VALUE);
            }
        }
        put_key(&mut self.points, 1, BYTES);
        put_varint(&mut self.points, (self.point.len() + attributes.len()) as u64);
        self.points.extend_from_slice(&self.point);
        self.points.extend_from_slice(attributes);
    }

    fn close_metric(&mut self) {
        if self.points.is_empty() {
            return;
        }
        let mut metric = Vec::with_capacity(self.points.len() + self.name.len() + 64);
        put_bytes(&mut metric, 1, self.name.as_bytes());
        put_bytes(&mut metric, 5, &self.points);
        put_attribute(&mut metric, 12, METRIC_KIND, self.kind.name());
        put_bytes(&mut self.metrics, 2, &metric);
        self.points.clear();
        if self.metrics.len() > FRAME_BYTES {
            self.close_frame();
        }
    }

    fn close_frame(&mut self) {
        if self.metrics.is_empty() {
            return;
        }
        let mut scope = Vec::with_capacity(AGENT_SCOPE.len() + 2);
        put_bytes(&mut scope, 1, AGENT_SCOPE.as_bytes());
        let mut scope_metrics = Vec::with_capacity(scope.len() + self.metrics.len() + 8);
        put_bytes(&mut scope_metrics, 1, &scope);
        scope_metrics.append(&mut self.metrics);
        let mut resource_metrics = self.resource.to_vec();
        put_bytes(&mut resource_metrics, 2, &scope_metrics);
        let mut frame = Vec::with_capacity(resource_metrics.len() + 8);
        put_bytes(&mut frame, 1, &resource_metrics);
        self.frames.push(Bytes::from(frame));
    }

    /// The frames with all points.
    #[must_use]
    pub fn finish(mut self) -> Vec<Bytes> {
        self.close_metric();
        self.close_frame();
        self.frames
    }
}

/// Reads frames back, as the collector does, for tests: labels, time and value (or the marker) of
/// each point, with the declared type under the name `kind`.
#[cfg(test)]
pub(super) fn decode(frames: &[Bytes]) -> Vec<(Labels, Millis, Option<f64>)> {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
    use prost::Message;

    let pair = |kv: &KeyValue| match kv.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => (kv.key.clone(), text.clone()),
        other => panic!("{other:?}"),
    };
    let request = ExportMetricsServiceRequest::decode(&*frames.concat()).expect("protobuf");
    let mut found = Vec::new();
    for resource_metrics in request.resource_metrics {
        let target = resource_metrics.resource.expect("resource").attributes;
        for scope_metrics in resource_metrics.scope_metrics {
            assert_eq!(scope_metrics.scope.expect("scope").name, AGENT_SCOPE);
            for metric in scope_metrics.metrics {
                let Some(Data::Gauge(gauge)) = metric.data else { panic!("a gauge") };
                let (key, kind) = pair(&metric.metadata[0]);
                assert_eq!(key, METRIC_KIND);
                for point in gauge.data_points {
                    let own = point.attributes.iter().map(pair);
                    let extra = [("__name__", &metric.name), ("kind", &kind)];
                    let extra = extra.into_iter().map(|(n, v)| (n.to_owned(), v.clone()));
                    let labels = target.iter().map(pair).chain(own).chain(extra).collect();
                    let value = match (point.flags, point.value) {
                        (0, Some(number_data_point::Value::AsDouble(value))) => Some(value),
                        (1, None) => None,
                        other => panic!("{other:?}"),
                    };
                    found.push((labels, (point.time_unix_nano / 1_000_000) as Millis, value));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_large_scrape_is_split_into_frames() {
        let resource = resource(&Labels::from_pairs([("job", "x")]));
        let mut encoder = Encoder::new(&resource);
        let count = 60_000;
        for n in 0..count {
            let attributes = point_attributes([("n", format!("{n:050}"))]);
            encoder.point("metric", MetricKind::Gauge, &attributes, 5, Some(f64::from(n)));
        }
        let frames = encoder.finish();
        assert!(frames.len() > 2, "{}", frames.len());
        assert!(frames.iter().all(|frame| frame.len() < 2 * FRAME_BYTES + 1000));
        assert_eq!(decode(&frames).len(), count as usize);
    }

    #[test]
    fn nothing_is_no_frame() {
        assert!(Encoder::new(&resource(&Labels::default())).finish().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            target in proptest::collection::btree_map("t[a-z]{0,3}", "\\PC{1,200}", 0..4),
            points in proptest::collection::vec(
                ("[a-c]", "[x-z]{0,2}", 0..i64::from(u32::MAX), proptest::option::of(-1e9_f64..1e9)),
                0..20,
            ),
        ) {
            let target = Labels::from_pairs(target);
            let resource = resource(&target);
            let mut encoder = Encoder::new(&resource);
            let mut expected = Vec::new();
            for (name, label, ts, value) in points {
                let attributes = point_attributes([("l", &label)]);
                encoder.point(&name, MetricKind::Counter, &attributes, ts, value);
                let labels = target.with("l", &label).with("__name__", &name).with("kind", "counter");
                expected.push((labels, ts, value));
            }
            prop_assert_eq!(decode(&encoder.finish()), expected);
        }
    }
}
