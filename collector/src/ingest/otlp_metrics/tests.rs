//! Requests as SDKs and agents send them, and the series they must give.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, ScopeMetrics, Sum,
    Summary,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use taffrail_model::sample::is_stale_nan;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Any::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn request(
    scope: &str,
    resource: Vec<KeyValue>,
    metrics: Vec<Metric>,
) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope { name: scope.into(), ..InstrumentationScope::default() };
    let scope_metrics =
        vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let resource_metrics =
        vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Metric::default() }
}

fn point(attributes: Vec<KeyValue>, value: Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        time_unix_nano: 7 * SECOND,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn gauge(points: Vec<NumberDataPoint>) -> Data {
    Data::Gauge(Gauge { data_points: points })
}

fn sum(temporality: AggregationTemporality, is_monotonic: bool) -> Data {
    Data::Sum(Sum {
        data_points: vec![point(Vec::new(), Value::AsInt(5))],
        aggregation_temporality: temporality as i32,
        is_monotonic,
    })
}

/// Series as text, in the order given: `{labels} kind value@ms`.
fn lines(decoded: &Decoded) -> Vec<String> {
    let line = |s: &SeriesSamples| {
        let sample = s.samples[0];
        let value =
            if is_stale_nan(sample.value) { "stale".into() } else { sample.value.to_string() };
        format!("{} {} {value}@{}", s.labels, s.kind.name(), sample.ts)
    };
    decoded.series.iter().map(line).collect()
}

fn check(request: ExportMetricsServiceRequest, expected: &[&str]) {
    let decoded = decode(request, 9 * SECOND as i64);
    assert_eq!(lines(&decoded), expected);
    assert_eq!((decoded.rejected, decoded.reason.as_str()), (0, ""));
}

#[test]
fn an_agents_batch_is_taken_word_for_word() {
    let resource = vec![text("pod", "web-1"), text("taffrail.x", "y"), text("log.file.path", "/x")];
    let mut counter = metric(
        "http_requests_total",
        "s",
        gauge(vec![
            point(vec![text("code", "200"), text("app.io/x", "z")], Value::AsDouble(1.5)),
            NumberDataPoint {
                flags: 1,
                value: None,
                ..point(vec![text("pod", "own")], Value::AsInt(0))
            },
        ]),
    );
    counter.metadata = vec![text(METRIC_KIND, "counter")];
    check(
        request(AGENT_SCOPE, resource, vec![counter]),
        &[
            r#"{__name__="http_requests_total", app.io/x="z", code="200", pod="web-1"} counter 1.5@7000"#,
            r#"{__name__="http_requests_total", pod="own"} counter stale@7000"#,
        ],
    );
}

#[test]
fn an_sdks_batch_follows_the_specification() {
    let resource = vec![
        text("service.name", "cart"),
        text("service.namespace", "shop"),
        text("service.instance.id", "i1"),
        text("k8s.pod.name", "cart-0"),
        text("k8s.namespace.name", "prod"),
        text("cloud.region", "eu"),
    ];
    let attributes = vec![text("http.method", "GET"), text("job", "mine")];
    let data = gauge(vec![point(attributes, Value::AsDouble(0.5))]);
    check(
        request("lib", resource, vec![metric("queue.fill", "1", data)]),
        &[
            r#"{__name__="queue_fill_ratio", http_method="GET", instance="i1", job="shop/cart", namespace="prod", otel_scope_name="lib", pod="cart-0"} gauge 0.5@7000"#,
            r#"{__name__="target_info", cloud_region="eu", instance="i1", job="shop/cart", k8s_namespace_name="prod", k8s_pod_name="cart-0", namespace="prod", pod="cart-0"} info 1@7000"#,
        ],
    );
}

#[test]
fn sums_are_counters_or_gauges() {
    let cumulative = AggregationTemporality::Cumulative;
    let metrics = vec![
        metric("requests", "{request}", sum(cumulative, true)),
        metric("connections", "", sum(cumulative, false)),
    ];
    check(
        request("", Vec::new(), metrics),
        &[
            r#"{__name__="requests_total"} counter 5@7000"#,
            r#"{__name__="connections"} gauge 5@7000"#,
        ],
    );
}

#[test]
fn histograms_become_cumulative_buckets() {
    let point = HistogramDataPoint {
        count: 6,
        sum: Some(2.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.005, 1.0],
        ..HistogramDataPoint::default()
    };
    let stale = HistogramDataPoint { flags: 1, ..HistogramDataPoint::default() };
    let data = Data::Histogram(Histogram {
        data_points: vec![point, stale],
        aggregation_temporality: AggregationTemporality::Cumulative as i32,
    });
    check(
        request("", Vec::new(), vec![metric("rt", "s", data)]),
        &[
            r#"{__name__="rt_seconds_bucket", le="0.005"} histogram 1@9000"#,
            r#"{__name__="rt_seconds_bucket", le="1"} histogram 3@9000"#,
            r#"{__name__="rt_seconds_bucket", le="+Inf"} histogram 6@9000"#,
            r#"{__name__="rt_seconds_sum"} histogram 2.5@9000"#,
            r#"{__name__="rt_seconds_count"} histogram 6@9000"#,
            r#"{__name__="rt_seconds_bucket", le="+Inf"} histogram stale@9000"#,
            r#"{__name__="rt_seconds_sum"} histogram stale@9000"#,
            r#"{__name__="rt_seconds_count"} histogram stale@9000"#,
        ],
    );
}

#[test]
fn summaries_keep_their_quantiles() {
    let point = SummaryDataPoint {
        count: 4,
        sum: 8.0,
        quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 3.0 }],
        ..SummaryDataPoint::default()
    };
    let data = Data::Summary(Summary { data_points: vec![point] });
    check(
        request("", Vec::new(), vec![metric("rpc", "ms", data)]),
        &[
            r#"{__name__="rpc_milliseconds", quantile="0.99"} summary 3@9000"#,
            r#"{__name__="rpc_milliseconds_sum"} summary 8@9000"#,
            r#"{__name__="rpc_milliseconds_count"} summary 4@9000"#,
        ],
    );
}

#[test]
fn what_is_refused_says_why_and_leaves_the_rest() {
    let one = || point(Vec::new(), Value::AsInt(1));
    let broken = HistogramDataPoint {
        bucket_counts: vec![1],
        explicit_bounds: vec![1.0],
        ..HistogramDataPoint::default()
    };
    let long = "x".repeat(LABEL_VALUE_BYTES_MAX + 1);
    let many = (0..=STREAM_LABELS_MAX).map(|n| text(&format!("l{n}"), "v")).collect();
    let cases: Vec<(Metric, &str)> = vec![
        (
            metric("d", "", sum(AggregationTemporality::Delta, true)),
            "TEMPORALITY_PREFERENCE=cumulative",
        ),
        (metric("u", "", sum(AggregationTemporality::Unspecified, false)), "not cumulative"),
        (
            metric(
                "e",
                "",
                Data::ExponentialHistogram(ExponentialHistogram {
                    data_points: vec![ExponentialHistogramDataPoint::default()],
                    aggregation_temporality: 2,
                }),
            ),
            "exponential histogram",
        ),
        (metric("", "", gauge(vec![one()])), "no name"),
        (metric("n", "", gauge(vec![NumberDataPoint { value: None, ..one() }])), "no value"),
        (
            metric("t", "", gauge(vec![NumberDataPoint { time_unix_nano: u64::MAX, ..one() }])),
            "2262",
        ),
        (
            metric("v", "", gauge(vec![point(vec![text("a", &long)], Value::AsInt(1))])),
            "longer than 4096",
        ),
        (
            metric("k", "", gauge(vec![point(vec![text(&long, "a")], Value::AsInt(1))])),
            "longer than 1024",
        ),
        (metric("m", "", gauge(vec![point(many, Value::AsInt(1))])), "at most 256"),
        (
            metric(
                "h",
                "",
                Data::Histogram(Histogram {
                    data_points: vec![broken],
                    aggregation_temporality: 2,
                }),
            ),
            "1 counts for 1 bounds",
        ),
        (Metric { name: "z".into(), ..Metric::default() }, "no data"),
    ];
    for (bad, reason) in cases {
        let good = metric("good", "", gauge(vec![one()]));
        let decoded = decode(request("", Vec::new(), vec![bad, good]), 0);
        assert_eq!(lines(&decoded), [r#"{__name__="good"} gauge 1@7000"#], "{reason}");
        assert_eq!(decoded.rejected, 1, "{reason}");
        assert!(decoded.reason.contains(reason), "{} has no {reason}", decoded.reason);
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z._:/{}%1]{1,8}", ".{0,4}"]
}

fn any_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pairs = proptest::collection::vec((any_text(), any_text()), 0..4);
    pairs.prop_map(|pairs| pairs.iter().map(|(key, value)| text(key, value)).collect())
}

fn any_numbers() -> impl Strategy<Value = Vec<NumberDataPoint>> {
    let number = (any_attributes(), any::<u64>(), any::<bool>(), any::<f64>(), any::<u32>());
    let number =
        number.prop_map(|(attributes, time_unix_nano, there, value, flags)| NumberDataPoint {
            attributes,
            time_unix_nano: time_unix_nano >> (value as u32 % 3),
            value: there.then_some(Value::AsDouble(value)),
            flags: flags % 3,
            ..NumberDataPoint::default()
        });
    proptest::collection::vec(number, 0..4)
}

fn any_data() -> impl Strategy<Value = Data> {
    let buckets = (
        proptest::collection::vec(any::<u64>(), 0..4),
        proptest::collection::vec(any::<f64>(), 0..4),
    );
    let histogram = (any_attributes(), buckets, any::<u64>()).prop_map(
        |(attributes, (counts, bounds), count)| HistogramDataPoint {
            attributes,
            bucket_counts: counts,
            explicit_bounds: bounds,
            count,
            ..HistogramDataPoint::default()
        },
    );
    prop_oneof![
        any_numbers().prop_map(gauge),
        (any_numbers(), -1i32..4, any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| {
                Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
            }
        ),
        (proptest::collection::vec(histogram, 0..3), 0i32..3).prop_map(
            |(data_points, aggregation_temporality)| {
                Data::Histogram(Histogram { data_points, aggregation_temporality })
            }
        ),
    ]
}

proptest! {
    #[test]
    fn any_request_gives_valid_series_or_reasons(
        agent in any::<bool>(),
        resource in any_attributes(),
        metrics in proptest::collection::vec((any_text(), any_text(), any_data()), 0..4),
    ) {
        let scope = if agent { AGENT_SCOPE } else { "x" };
        let metrics: Vec<Metric> = metrics.into_iter().map(|(name, unit, data)| metric(&name, &unit, data)).collect();
        let sent: usize = metrics.iter().map(|m| points(m).max(1)).sum();
        let decoded = decode(request(scope, resource, metrics), 5);
        prop_assert!(decoded.rejected as usize <= sent);
        prop_assert_eq!(decoded.rejected == 0, decoded.reason.is_empty());
        for one in decoded.series {
            prop_assert!(one.labels.get(METRIC_NAME).is_some());
            prop_assert_eq!(one.samples.len(), 1);
            prop_assert!(agent || one.labels.iter().all(|(name, _)| taffrail_model::labels::is_valid_name(name)));
        }
    }
}
