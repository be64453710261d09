//! OTLP metrics to series. Pure: the same request and time always give the same series, so the WAL
//! can hold requests as they came.
//!
//! An agent's batch (scope [`AGENT_SCOPE`], see [`taffrail_model::wire`]) is taken word for word. All
//! others follow the OpenTelemetry specification's rules for Prometheus, and the place in
//! Kubernetes becomes labels (`namespace`, `pod`, `container`, `node`), so that autoscaling finds it.
//!
//! What cannot be stored is counted and explained, never half stored: of a data point either all of
//! its series are in the result, or none.

mod attributes;
mod naming;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, SummaryDataPoint,
};
use taffrail_model::limits::{LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, STREAM_LABELS_MAX};
use taffrail_model::sample::{METRIC_NAME, stale_nan};
use taffrail_model::time::{Millis, NANOS_PER_MILLI, Nanos};
use taffrail_model::wire::{AGENT_SCOPE, METRIC_KIND};
use taffrail_model::{Labels, MetricKind, Sample, SeriesSamples};

use super::any_value::text_of;
use attributes::{Pair, Target, sanitised, verbatim};
use naming::{Shape, metric_name};

/// Different reasons that an answer names.
const REASONS_MAX: usize = 5;

/// The series of a request, and what of it was refused.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The series. The same one may come several times, each time with other samples.
    pub series: Vec<SeriesSamples>,
    /// Data points that are in none of them.
    pub rejected: u64,
    /// Why, in a sentence for the client; empty when nothing was refused.
    pub reason: String,
}

/// Turns a request into series. `received_ns` is the time of points that have none.
#[must_use]
pub fn decode(request: ExportMetricsServiceRequest, received_ns: Nanos) -> Decoded {
    let mut decoder =
        Decoder { received: received_ns, series: Vec::new(), refused: Refused::default() };
    for resource in request.resource_metrics {
        decoder.resource(&resource);
    }
    let Decoder { series, refused, .. } = decoder;
    Decoded { series, rejected: refused.points, reason: refused.reasons.join("; ") }
}

#[derive(Default)]
struct Refused {
    points: u64,
    reasons: Vec<String>,
}

impl Refused {
    fn add(&mut self, points: usize, reason: String) {
        if points == 0 {
            return;
        }
        self.points += points as u64;
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

struct Decoder {
    received: Nanos,
    series: Vec<SeriesSamples>,
    refused: Refused,
}

/// What all series of one metric share.
struct Family<'a> {
    name: String,
    kind: MetricKind,
    labels: &'a [Pair],
    /// Whether attributes keep their names.
    verbatim: bool,
}

impl Decoder {
    fn resource(&mut self, resource: &ResourceMetrics) {
        let attributes = resource.resource.as_ref().map_or(&[][..], |r| &r.attributes);
        let target = Target::of(attributes);
        for scope in &resource.scope_metrics {
            if scope.scope.as_ref().is_some_and(|s| s.name == AGENT_SCOPE) {
                let ours =
                    |pair: &Pair| pair.0.starts_with("taffrail.") || pair.0.starts_with("log.");
                let labels: Vec<Pair> = verbatim(attributes).filter(|pair| !ours(pair)).collect();
                scope.metrics.iter().for_each(|metric| self.agent_metric(metric, &labels));
                continue;
            }
            let before = self.series.len();
            let mut labels = target.identity.clone();
            labels.extend(scope_labels(scope.scope.as_ref()));
            scope.metrics.iter().for_each(|metric| self.metric(metric, &labels));
            if self.series.len() > before && !target.info.is_empty() {
                self.target_info(&target, before);
            }
        }
    }

    fn agent_metric(&mut self, metric: &Metric, labels: &[Pair]) {
        let Some(Data::Gauge(gauge)) = &metric.data else {
            let reason = format!("metric {:?} of the agent is no gauge", metric.name);
            return self.refused.add(points(metric), reason);
        };
        let declared = metric.metadata.iter().find(|pair| pair.key == METRIC_KIND);
        let kind = declared.and_then(|pair| MetricKind::from_name(&text_of(pair.value.as_ref())));
        let family = Family {
            name: metric.name.clone(),
            kind: kind.unwrap_or_default(),
            labels,
            verbatim: true,
        };
        gauge.data_points.iter().for_each(|point| self.number(&family, point));
    }

    fn metric(&mut self, metric: &Metric, labels: &[Pair]) {
        let Some((shape, kind)) = shape(metric) else {
            return self.refused.add(points(metric).max(1), unsupported(metric));
        };
        let name = metric_name(&metric.name, &metric.unit, shape);
        let family = Family { name, kind, labels, verbatim: false };
        match &metric.data {
            Some(Data::Gauge(gauge)) => {
                gauge.data_points.iter().for_each(|p| self.number(&family, p));
            }
            Some(Data::Sum(sum)) => sum.data_points.iter().for_each(|p| self.number(&family, p)),
            Some(Data::Histogram(histogram)) => {
                histogram.data_points.iter().for_each(|p| self.histogram(&family, p));
            }
            Some(Data::Summary(summary)) => {
                summary.data_points.iter().for_each(|p| self.summary(&family, p));
            }
            Some(Data::ExponentialHistogram(_)) | None => {}
        }
    }

    fn number(&mut self, family: &Family<'_>, point: &NumberDataPoint) {
        let value = match point.value {
            _ if is_stale(point.flags) => stale_nan(),
            Some(Value::AsDouble(value)) => value,
            Some(Value::AsInt(value)) => value as f64,
            None => {
                let reason = format!("a point of {:?} has no value", family.name);
                return self.refused.add(1, reason);
            }
        };
        let mut rows = Rows::new(family, &point.attributes);
        rows.add("", None, value);
        self.keep(rows, point.time_unix_nano);
    }

    fn histogram(&mut self, family: &Family<'_>, point: &HistogramDataPoint) {
        let (counts, bounds) = (&point.bucket_counts, &point.explicit_bounds);
        if !counts.is_empty() && counts.len() != bounds.len() + 1 {
            let reason = format!(
                "histogram {:?} has {} counts for {} bounds",
                family.name,
                counts.len(),
                bounds.len()
            );
            return self.refused.add(1, reason);
        }
        let stale = is_stale(point.flags);
        let value = |number: f64| if stale { stale_nan() } else { number };
        let mut rows = Rows::new(family, &point.attributes);
        let mut below = 0u64;
        for (count, bound) in counts.iter().zip(bounds).filter(|(_, bound)| bound.is_finite()) {
            below = below.saturating_add(*count);
            rows.add("_bucket", Some(("le", bound.to_string())), value(below as f64));
        }
        rows.add("_bucket", Some(("le", "+Inf".to_owned())), value(point.count as f64));
        if let Some(sum) = point.sum.or_else(|| stale.then_some(0.0)) {
            rows.add("_sum", None, value(sum));
        }
        rows.add("_count", None, value(point.count as f64));
        self.keep(rows, point.time_unix_nano);
    }

    fn summary(&mut self, family: &Family<'_>, point: &SummaryDataPoint) {
        let stale = is_stale(point.flags);
        let value = |number: f64| if stale { stale_nan() } else { number };
        let mut rows = Rows::new(family, &point.attributes);
        for at in &point.quantile_values {
            rows.add("", Some(("quantile", at.quantile.to_string())), value(at.value));
        }
        rows.add("_sum", None, value(point.sum));
        rows.add("_count", None, value(point.count as f64));
        self.keep(rows, point.time_unix_nano);
    }

    /// Keeps the rows of a data point, all or none.
    fn keep(&mut self, rows: Rows<'_>, time_unix_nano: u64) {
        let Some(ts) = self.time(time_unix_nano) else {
            let reason = format!("a point of {:?} lies after the year 2262", rows.family.name);
            return self.refused.add(1, reason);
        };
        match rows.check() {
            Ok(()) => {
                let kind = rows.family.kind;
                self.series.extend(rows.rows.into_iter().map(|(labels, value)| SeriesSamples {
                    labels,
                    kind,
                    samples: vec![Sample { ts, value }],
                }));
            }
            Err(reason) => self.refused.add(1, reason),
        }
    }

    fn time(&self, time_unix_nano: u64) -> Option<Millis> {
        let nanos = if time_unix_nano == 0 {
            self.received
        } else {
            Nanos::try_from(time_unix_nano).ok()?
        };
        Some(nanos.div_euclid(NANOS_PER_MILLI))
    }

    /// The series that says what is known of a target, as new as the newest of its samples.
    fn target_info(&mut self, target: &Target, from: usize) {
        let times = self.series[from..].iter().flat_map(|s| s.samples.iter().map(|p| p.ts));
        let Some(ts) = times.max() else { return };
        let name: Pair = (METRIC_NAME.into(), "target_info".into());
        // The identity comes last: it wins over attributes of the same names.
        let pairs = target.info.iter().chain(&target.identity).cloned().chain([name]);
        let labels = Labels::from_pairs(pairs);
        match check(&labels, "target_info") {
            Ok(()) => self.series.push(SeriesSamples {
                labels,
                kind: MetricKind::Info,
                samples: vec![Sample { ts, value: 1.0 }],
            }),
            Err(reason) => self.refused.add(1, reason),
        }
    }
}

/// The series of one data point.
struct Rows<'f> {
    family: &'f Family<'f>,
    attributes: Vec<Pair>,
    rows: Vec<(Labels, f64)>,
}

impl<'f> Rows<'f> {
    fn new(family: &'f Family<'f>, attributes: &[KeyValue]) -> Self {
        let attributes = if family.verbatim {
            verbatim(attributes).collect()
        } else {
            sanitised(attributes.iter())
        };
        Self { family, attributes, rows: Vec::new() }
    }

    fn add(&mut self, suffix: &str, label: Option<(&str, String)>, value: f64) {
        let name = format!("{}{suffix}", self.family.name);
        let own = label.map(|(name, value)| (name.into(), value.into()));
        let name: Pair = (METRIC_NAME.into(), name.into());
        // Later pairs win: a client's attribute never replaces what identifies the target.
        let (first, second) = if self.family.verbatim {
            (self.family.labels, self.attributes.as_slice())
        } else {
            (self.attributes.as_slice(), self.family.labels)
        };
        let pairs = first.iter().chain(second).cloned().chain(own).chain([name]);
        self.rows.push((Labels::from_pairs(pairs), value));
    }

    fn check(&self) -> Result<(), String> {
        if self.family.name.is_empty() {
            return Err("a metric has no name".to_owned());
        }
        self.rows.iter().try_for_each(|(labels, _)| check(labels, &self.family.name))
    }
}

/// Holds the limits of labels.
fn check(labels: &Labels, metric: &str) -> Result<(), String> {
    let metric: String = metric.chars().take(100).collect();
    if labels.len() > STREAM_LABELS_MAX {
        let count = labels.len();
        return Err(format!(
            "a series of {metric:?} has {count} labels, at most {STREAM_LABELS_MAX}"
        ));
    }
    for (name, value) in labels.iter() {
        if name.is_empty() {
            return Err(format!("a label of {metric:?} has no name"));
        }
        if name.len() > LABEL_NAME_BYTES_MAX {
            return Err(format!(
                "a label name of {metric:?} is longer than {LABEL_NAME_BYTES_MAX} bytes"
            ));
        }
        if value.len() > LABEL_VALUE_BYTES_MAX {
            return Err(format!(
                "label {name} of {metric:?} is longer than {LABEL_VALUE_BYTES_MAX} bytes"
            ));
        }
    }
    Ok(())
}

fn scope_labels(scope: Option<&InstrumentationScope>) -> impl Iterator<Item = Pair> {
    let texts = scope.map(|s| [("otel_scope_name", &s.name), ("otel_scope_version", &s.version)]);
    let filled = texts.into_iter().flatten().filter(|(_, text)| !text.is_empty());
    filled.map(|(name, text)| (name.into(), text.as_str().into()))
}

fn is_stale(flags: u32) -> bool {
    flags & DataPointFlags::NoRecordedValueMask as u32 != 0
}

/// What a metric is; `None` for forms that are not stored.
fn shape(metric: &Metric) -> Option<(Shape, MetricKind)> {
    let cumulative = |temporality: i32| temporality == AggregationTemporality::Cumulative as i32;
    match metric.data.as_ref()? {
        Data::Gauge(_) => Some((Shape::Gauge, MetricKind::Gauge)),
        Data::Sum(sum) if !cumulative(sum.aggregation_temporality) => None,
        Data::Sum(sum) if sum.is_monotonic => Some((Shape::Counter, MetricKind::Counter)),
        Data::Sum(_) => Some((Shape::Other, MetricKind::Gauge)),
        Data::Histogram(histogram) => cumulative(histogram.aggregation_temporality)
            .then_some((Shape::Other, MetricKind::Histogram)),
        Data::Summary(_) => Some((Shape::Other, MetricKind::Summary)),
        Data::ExponentialHistogram(_) => None,
    }
}

fn unsupported(metric: &Metric) -> String {
    let name: String = metric.name.chars().take(100).collect();
    match &metric.data {
        Some(Data::ExponentialHistogram(_)) => format!(
            "metric {name:?} is an exponential histogram, which is not stored yet: choose explicit \
             buckets (OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=explicit_bucket_histogram)"
        ),
        Some(_) => format!(
            "metric {name:?} is not cumulative: set \
             OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative in the sender"
        ),
        None => format!("metric {name:?} has no data"),
    }
}

fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 0,
    }
}

#[cfg(test)]
mod tests;
