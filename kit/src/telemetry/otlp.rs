//! Sends the process's own spans and metrics to an OTLP endpoint, over gRPC.
//!
//! The metrics are those of the Prometheus registry: each family becomes an observable instrument of
//! OpenTelemetry whose callback reads the registry, so there is one place where things are counted.
//! Histograms go as two counters, `<name>_count` and `<name>_sum`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The last export at the end of the process may take so long.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// A registry that was read less than this ago is not read again for the next instrument.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_millis(500);

/// The endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("OTLP endpoint {endpoint:?}: {reason}")]
pub struct Error {
    /// The endpoint as given.
    endpoint: String,
    /// What is wrong.
    reason: String,
}

impl Error {
    fn new(endpoint: &str, reason: &impl ToString) -> Self {
        Self { endpoint: endpoint.to_owned(), reason: reason.to_string() }
    }
}

fn resource(service: &str) -> Resource {
    Resource::builder()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", std::process::id().to_string()))
        .build()
}

/// Spans on their way to an OTLP endpoint.
#[derive(Debug)]
pub struct Spans {
    provider: SdkTracerProvider,
}

impl Spans {
    /// Begins to send spans to `endpoint` (`http://HOST:4317`). Must be called inside the runtime.
    ///
    /// # Errors
    /// When the endpoint is not a URL that can be used.
    pub fn start(endpoint: &str, service: &str) -> Result<Self, Error> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|e| Error::new(endpoint, &e))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(service))
            .build();
        Ok(Self { provider })
    }

    /// The layer of the log that hands spans over.
    pub(super) fn layer<S>(&self) -> OpenTelemetryLayer<S, Tracer>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer("taffrail"))
    }

    /// Sends what is left and ends. Blocks for two seconds at the most.
    pub fn stop(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_EXPORT_TIMEOUT) {
            tracing::debug!(%error, "last spans were not sent");
        }
    }
}

/// Metrics on their way to an OTLP endpoint.
#[derive(Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
    bridge: Arc<Bridge>,
}

impl Metrics {
    /// Begins to send what is in `registry` to `endpoint` (`http://HOST:4317`) once an `interval`.
    /// Must be called inside the runtime. Families that are registered or get their first child
    /// later are seen by [`Metrics::refresh`].
    ///
    /// # Errors
    /// When the endpoint is not a URL that can be used.
    pub fn start(
        endpoint: &str,
        service: &str,
        registry: &Registry,
        interval: Duration,
    ) -> Result<Self, Error> {
        let exporter = MetricExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|e| Error::new(endpoint, &e))?;
        let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
        let provider = SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(resource(service))
            .build();
        let bridge = Arc::new(Bridge {
            registry: registry.clone(),
            snapshot: Mutex::new(None),
            known: Mutex::new(HashSet::new()),
        });
        let metrics = Self { provider, bridge };
        metrics.refresh();
        Ok(metrics)
    }

    /// Makes instruments for families that were not there before. Call it now and then.
    pub fn refresh(&self) {
        let scope = InstrumentationScope::builder("taffrail").build();
        let meter = self.provider.meter_with_scope(scope);
        Bridge::instruments(&self.bridge, &meter);
    }

    /// Sends what is left and ends. Blocks for two seconds at the most.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_EXPORT_TIMEOUT) {
            tracing::debug!(%error, "last metrics were not sent");
        }
    }
}

/// Families as they were read, and when.
type Snapshot = (Instant, Arc<Vec<MetricFamily>>);

/// Reads the registry once for all instruments of a collection.
struct Bridge {
    registry: Registry,
    snapshot: Mutex<Option<Snapshot>>,
    known: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").finish_non_exhaustive()
    }
}

impl Bridge {
    fn families(&self) -> Arc<Vec<MetricFamily>> {
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*snapshot {
            Some((at, families)) if at.elapsed() < SNAPSHOT_AGE_MAX => families.clone(),
            _ => {
                let families = Arc::new(self.registry.gather());
                *snapshot = Some((Instant::now(), families.clone()));
                families
            }
        }
    }

    fn instruments(bridge: &Arc<Self>, meter: &Meter) {
        let mut known = bridge.known.lock().unwrap_or_else(PoisonError::into_inner);
        for family in bridge.families().iter() {
            if !known.insert(family.name().to_owned()) {
                continue;
            }
            let name = family.name().to_owned();
            let help = family.help().to_owned();
            match family.get_field_type() {
                MetricType::COUNTER => {
                    bridge
                        .counter(meter, name.clone(), help, name, |m| m.get_counter().get_value());
                }
                MetricType::HISTOGRAM => {
                    bridge.counter(meter, format!("{name}_sum"), help.clone(), name.clone(), |m| {
                        m.get_histogram().get_sample_sum()
                    });
                    bridge.counter(meter, format!("{name}_count"), help, name, |m| {
                        m.get_histogram().get_sample_count() as f64
                    });
                }
                _ => {
                    let source = bridge.clone();
                    let family_name = name.clone();
                    meter
                        .f64_observable_gauge(name)
                        .with_description(help)
                        .with_callback(move |observer| {
                            source.each(&family_name, |metric, attributes| {
                                observer.observe(metric.get_gauge().get_value(), attributes);
                            });
                        })
                        .build();
                }
            }
        }
    }

    fn counter(
        self: &Arc<Self>,
        meter: &Meter,
        name: String,
        help: String,
        family: String,
        value: impl Fn(&Metric) -> f64 + Send + Sync + 'static,
    ) {
        let source = self.clone();
        meter
            .f64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| {
                source.each(&family, |metric, attributes| {
                    observer.observe(value(metric), attributes);
                });
            })
            .build();
    }

    fn each(&self, family: &str, mut observe: impl FnMut(&Metric, &[KeyValue])) {
        let families = self.families();
        let Some(found) = families.iter().find(|f| f.name() == family) else { return };
        for metric in found.get_metric() {
            let attributes: Vec<KeyValue> = metric
                .get_label()
                .iter()
                .map(|l| KeyValue::new(l.name().to_owned(), l.value().to_owned()))
                .collect();
            observe(metric, &attributes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_sdk::metrics::InMemoryMetricExporter;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ScopeMetrics};

    /// Everything that one collection exports, as `name{label=value} number`.
    fn exported(registry: &Registry, later: impl FnOnce()) -> Vec<String> {
        let exporter = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
        let bridge = Arc::new(Bridge {
            registry: registry.clone(),
            snapshot: Mutex::new(None),
            known: Mutex::new(HashSet::new()),
        });
        let metrics = Metrics { provider, bridge };
        metrics.refresh();
        later();
        *metrics.bridge.snapshot.lock().expect("not poisoned") = None;
        metrics.refresh();
        metrics.provider.force_flush().expect("flushed");
        let mut lines = Vec::new();
        for resource in exporter.get_finished_metrics().expect("exported") {
            for metric in resource.scope_metrics().flat_map(ScopeMetrics::metrics) {
                let AggregatedMetrics::F64(data) = metric.data() else { panic!("f64 only") };
                let points: Vec<(String, f64)> = match data {
                    MetricData::Sum(sum) => {
                        sum.data_points().map(|p| (attributes(p.attributes()), p.value())).collect()
                    }
                    MetricData::Gauge(gauge) => gauge
                        .data_points()
                        .map(|p| (attributes(p.attributes()), p.value()))
                        .collect(),
                    _ => panic!("sums and gauges only"),
                };
                lines.extend(points.iter().map(|(a, v)| format!("{}{{{a}}} {v}", metric.name())));
            }
        }
        lines.sort();
        lines
    }

    fn attributes<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
        attributes.map(|a| format!("{}={}", a.key, a.value)).collect()
    }

    #[test]
    fn families_become_instruments_also_those_that_come_later() {
        let registry = Registry::new();
        let gauge = prometheus::Gauge::new("depth", "Fathoms.").expect("valid");
        let waits = prometheus::Histogram::with_opts(prometheus::HistogramOpts::new("waits", "s"))
            .expect("valid");
        let lines =
            prometheus::IntCounterVec::new(prometheus::Opts::new("lines_total", "."), &["kind"])
                .expect("valid");
        registry.register(Box::new(gauge.clone())).expect("new");
        registry.register(Box::new(waits.clone())).expect("new");
        registry.register(Box::new(lines.clone())).expect("new");
        gauge.set(7.5);
        waits.observe(2.0);
        waits.observe(3.0);
        let exported = exported(&registry, || lines.with_label_values(&["cri"]).inc_by(4));
        assert_eq!(
            exported,
            ["depth{} 7.5", "lines_total{kind=cri} 4", "waits_count{} 2", "waits_sum{} 5"]
        );
    }

    #[tokio::test]
    async fn a_bad_endpoint_is_refused() {
        let error = Spans::start("not a url", "ship").expect_err("no URL");
        assert!(error.to_string().contains("not a url"), "{error}");
    }
}
