//! What a process says of itself: its log, its metrics ([`metrics`]) and, for any OTLP endpoint, its
//! spans ([`trace`]) and the same metrics ([`otlp`]).

pub mod metrics;
pub mod otlp;
pub mod trace;

use std::time::Duration;

use prometheus::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{Kind, Problem, Setting, Settings};

/// How often instruments are made for families that are new in the registry.
const REFRESH_INTERVAL: Duration = Duration::from_secs(15);

/// The settings that every binary has: put them into its table.
pub const SETTINGS: [Setting; 5] = [
    Setting::new(
        "log.filter",
        Kind::Text,
        Some("info"),
        "Which of its own log lines it writes, in the form of RUST_LOG",
    ),
    Setting::new(
        "log.format",
        Kind::Text,
        Some("text"),
        "How its own log lines look: text or json",
    ),
    Setting::new(
        "telemetry.otlp_endpoint",
        Kind::Url,
        None,
        "OTLP/gRPC endpoint (http://HOST:4317) that its own metrics and spans are sent to",
    ),
    Setting::new(
        "telemetry.interval",
        Kind::Duration,
        Some("15s"),
        "How often its own metrics are sent",
    ),
    Setting::new(
        "telemetry.spans",
        Kind::Bool,
        Some("false"),
        "Whether spans are sent too; the endpoint must take traces, which Taffrail does not",
    ),
];

/// What [`start`] started; hold it until the end and [`Telemetry::stop`] it.
#[derive(Debug)]
pub struct Telemetry {
    spans: Option<otlp::Spans>,
    metrics: Option<std::sync::Arc<otlp::Metrics>>,
    refresher: Option<tokio::task::JoinHandle<()>>,
    log_filter: LogFilter,
}

/// Changes which log lines the process writes while it runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, tracing_subscriber::Registry>);

impl LogFilter {
    /// Takes another filter from now on.
    ///
    /// # Errors
    /// When it cannot be read; then the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), Error> {
        let new = read_filter(filter)?;
        self.0.reload(new).map_err(|_| Error::Gone)
    }
}

/// What is wrong with the values of [`SETTINGS`] that their kinds do not tell.
#[must_use]
pub fn check(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(error) = read_filter(settings.required("log.filter")) {
        problems.push(settings.problem("log.filter", error.to_string()));
    }
    let format = settings.required("log.format");
    if Format::from_name(format).is_none() {
        problems.push(settings.problem("log.format", format!("{format:?} is not text or json")));
    }
    problems
}

fn read_filter(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|e| Error::Filter { filter: filter.to_owned(), reason: e.to_string() })
}

/// Sets up log, spans and metrics from [`SETTINGS`]. Must be called inside the runtime.
///
/// # Errors
/// When a setting cannot be used, or this is called twice.
pub fn start(settings: &Settings, service: &str, registry: &Registry) -> anyhow::Result<Telemetry> {
    let name = settings.required("log.format");
    let format = Format::from_name(name)
        .ok_or_else(|| anyhow::anyhow!("log.format {name:?} is not text or json"))?;
    let endpoint = settings.text("telemetry.otlp_endpoint");
    let spans = endpoint
        .filter(|_| settings.flag("telemetry.spans"))
        .map(|endpoint| otlp::Spans::start(endpoint, service))
        .transpose()?;
    let log_filter = init_log(settings.required("log.filter"), format, spans.as_ref())?;
    let interval = settings.duration("telemetry.interval").max(Duration::from_secs(1));
    let metrics = endpoint
        .map(|endpoint| otlp::Metrics::start(endpoint, service, registry, interval))
        .transpose()?
        .map(std::sync::Arc::new);
    let refresher = metrics.clone().map(|metrics| {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(REFRESH_INTERVAL).await;
                metrics.refresh();
            }
        })
    });
    Ok(Telemetry { spans, metrics, refresher, log_filter })
}

impl Telemetry {
    /// Changes the filter of the log while the process runs.
    #[must_use]
    pub fn log_filter(&self) -> LogFilter {
        self.log_filter.clone()
    }

    /// Sends what is left and ends. Blocks for some seconds at the most.
    pub fn stop(self) {
        if let Some(refresher) = self.refresher {
            refresher.abort();
        }
        if let Some(metrics) = &self.metrics {
            metrics.stop();
        }
        if let Some(spans) = self.spans {
            spans.stop();
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: `2026-11-20T14:51:32Z  INFO target: message field=value`.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Reads the setting `log.format`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The process's log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not in the form of `RUST_LOG` (`info`, `taffrail_agent::tail=debug,warn`).
    #[error("log filter {filter:?}: {reason}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another log was set up before.
    #[error("the log is set up twice")]
    Twice,
    /// The log has ended.
    #[error("the log has ended")]
    Gone,
}

/// Sets up the process's log on stderr, and its spans for OTLP when there is a tracer.
///
/// # Errors
/// When the filter cannot be read, or this is called twice.
pub fn init_log(
    filter: &str,
    format: Format,
    spans: Option<&otlp::Spans>,
) -> Result<LogFilter, Error> {
    let (filter, handle) = reload::Layer::new(read_filter(filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let spans = spans.map(otlp::Spans::layer);
    let base = tracing_subscriber::registry().with(filter).with(spans);
    match format {
        Format::Text => base.with(lines.with_ansi(false)).try_init(),
        Format::Json => base.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| Error::Twice)?;
    Ok(LogFilter(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_filters() {
        assert_eq!(Format::from_name("json"), Some(Format::Json));
        assert_eq!(Format::from_name("xml"), None);
        let error = init_log("taffrail=loud", Format::Text, None).expect_err("no such level");
        assert!(error.to_string().contains("taffrail=loud"), "{error}");
    }
}
