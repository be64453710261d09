//! Settings of the collector: one table, and what is made of it.

mod retention;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use taffrail_kit::config::{Kind, Problem, Schema, Setting, Settings};
use taffrail_kit::telemetry;
use taffrail_query::api::ApiConfig;

use crate::autoscale::clients::Clients;
use crate::autoscale::tls::TlsConfig;
use crate::ingest::admission::Limits;
use crate::logs::LogStoreConfig;
use crate::metrics::MetricStoreConfig;

/// The Kubernetes client tells of each failure in a line of its own; ours tell the cause, once.
const LOG_FILTER: Setting =
    Setting { default: Some("info,kube_client=off"), ..telemetry::SETTINGS[0] };

const fn setting(
    key: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting::new(key, kind, default, help)
}

/// The table.
pub const SCHEMA: Schema = Schema {
    program: "taffrail-collector",
    about: "Receives logs and metrics, makes them durable, stores them and answers queries.",
    env_prefix: "TAFFRAIL_COLLECTOR",
    settings: &[
        Setting::required("data_dir", Kind::Path, "Folder of all data; one collector a folder"),
        setting(
            "http",
            Kind::Addr,
            Some("127.0.0.1:4100"),
            "Address of OTLP/HTTP, Loki's and Prometheus' APIs, /metrics, /livez and /readyz",
        ),
        setting("otlp_grpc", Kind::Addr, None, "Address of OTLP/gRPC; none without it"),
        setting(
            "autoscale_https",
            Kind::Addr,
            None,
            "Address of the autoscaling API (custom.metrics.k8s.io); none without it",
        ),
        setting(
            "autoscale.names",
            Kind::List,
            Some("localhost,127.0.0.1"),
            "Names and addresses that its certificate is for, separated by commas",
        ),
        setting(
            "autoscale.client_ca",
            Kind::Path,
            None,
            "PEM file of the CAs of its clients; without it, and unregistered, everybody may ask",
        ),
        setting(
            "autoscale.register",
            Kind::Bool,
            Some("false"),
            "In a cluster: gives its CA to the API server and lets in nobody but the API server",
        ),
        setting(
            "autoscale.stale_after",
            Kind::Duration,
            Some("2m"),
            "Samples older than this are not served to autoscalers",
        ),
        setting("autoscale.window", Kind::Duration, Some("2m"), "What rates are taken over"),
        setting(
            "logs.retention",
            Kind::Duration,
            None,
            "Log lines older than this are removed; without it they are kept",
        ),
        setting(
            "logs.retention_size",
            Kind::Bytes,
            None,
            "The oldest log lines are removed when all of them take more on disk than this",
        ),
        setting(
            "logs.retention_free",
            Kind::Bytes,
            None,
            "The oldest log lines are removed when the disk has less free than this",
        ),
        setting(
            "logs.delete_after",
            Kind::Duration,
            Some("24h"),
            "Delete requests hide lines at once, may be cancelled for so long, and then erase them",
        ),
        setting(
            "logs.memory",
            Kind::Bytes,
            Some("64MiB"),
            "Log lines are written to segments when they take so much memory",
        ),
        setting(
            "logs.flush_after",
            Kind::Duration,
            Some("5m"),
            "Log lines are written to segments at the latest after so long",
        ),
        setting(
            "metrics.retention",
            Kind::Duration,
            Some("15d"),
            "Samples older than this are refused and removed",
        ),
        setting(
            "metrics.memory",
            Kind::Bytes,
            Some("64MiB"),
            "Samples are sealed into a block when they take so much memory",
        ),
        setting("metrics.series_max", Kind::Count, Some("1000000"), "Most series at a time"),
        setting(
            "ingest.inflight",
            Kind::Bytes,
            Some("64MiB"),
            "Bytes of request bodies that are held at once; further requests wait, then get 429",
        ),
        setting(
            "disk.reserve",
            Kind::Bytes,
            Some("256MiB"),
            "Data is refused with 429 when less is free (or less than a tenth of a small disk)",
        ),
        setting("query.timeout", Kind::Duration, Some("60s"), "Longest time a query may run"),
        setting("query.concurrency", Kind::Count, Some("8"), "Queries that run at once"),
        setting("grace", Kind::Duration, Some("10s"), "How long the end waits for open requests"),
        LOG_FILTER,
        telemetry::SETTINGS[1],
        telemetry::SETTINGS[2],
        telemetry::SETTINGS[3],
        telemetry::SETTINGS[4],
    ],
    sections: &[retention::RULES],
};

/// The autoscaling API.
#[derive(Clone, Debug)]
pub struct AutoscaleConfig {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its certificates.
    pub tls: TlsConfig,
    /// Whether API server and collector are made known to each other.
    pub register: bool,
    /// A sample older than this is not served.
    pub stale_after: Duration,
    /// What rates are taken over.
    pub window: Duration,
}

/// Everything the collector needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of all data.
    pub data_dir: PathBuf,
    /// Address of the HTTP port.
    pub http: SocketAddr,
    /// Address of OTLP/gRPC.
    pub otlp_grpc: Option<SocketAddr>,
    /// The autoscaling API.
    pub autoscale: Option<AutoscaleConfig>,
    /// The log store.
    pub logs: LogStoreConfig,
    /// The metric store.
    pub metrics: MetricStoreConfig,
    /// Who may bring data.
    pub limits: Limits,
    /// The query API.
    pub query: ApiConfig,
    /// How long the end waits for open requests.
    pub grace: Duration,
}

impl Config {
    /// Checks what the table cannot.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn check(settings: &Settings) -> Result<Self, Vec<Problem>> {
        let mut problems = telemetry::check(settings);
        let mut at_least = |key: &'static str, value: u64, least: u64, text: &str| {
            if value < least {
                problems.push(settings.problem(key, format!("is below {text}")));
            }
            usize::try_from(value).unwrap_or(usize::MAX)
        };
        let bytes = |key| settings.bytes(key);
        let log_memory = at_least("logs.memory", bytes("logs.memory"), 1 << 20, "1MiB");
        let metric_memory = at_least("metrics.memory", bytes("metrics.memory"), 1 << 20, "1MiB");
        let series_max =
            at_least("metrics.series_max", settings.count("metrics.series_max"), 1, "1");
        let concurrency =
            at_least("query.concurrency", settings.count("query.concurrency"), 1, "1");
        let retention = retention::check(settings, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let data_dir = settings.path("data_dir").expect("the setting is required");
        let mut config = Self::new(data_dir, settings.addr("http").expect("it has a default"));
        config.otlp_grpc = settings.addr("otlp_grpc");
        config.autoscale = config.autoscale(settings);
        config.logs.memtable_bytes = log_memory;
        config.logs.flush_after = settings.duration("logs.flush_after");
        config.logs.retention = retention;
        config.logs.delete_after = settings.duration("logs.delete_after");
        config.metrics.retention = settings.duration("metrics.retention");
        config.metrics.head_bytes_max = metric_memory;
        config.metrics.series_max = series_max;
        config.limits.inflight_bytes =
            usize::try_from(bytes("ingest.inflight")).unwrap_or(usize::MAX);
        config.limits.disk_reserve = bytes("disk.reserve");
        config.query.timeout = settings.duration("query.timeout");
        config.query.concurrency_max = concurrency;
        config.grace = settings.duration("grace");
        Ok(config)
    }

    /// The defaults, over a folder, on an address.
    #[must_use]
    pub fn new(data_dir: PathBuf, http: SocketAddr) -> Self {
        let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
        Self {
            http,
            otlp_grpc: None,
            autoscale: None,
            logs: LogStoreConfig::new(data_dir.join("logs")),
            metrics: MetricStoreConfig::new(data_dir.join("metrics")),
            limits: Limits {
                inflight_bytes: 64 << 20,
                workers,
                disk_reserve: 256 << 20,
                data_dir: data_dir.clone(),
            },
            query: ApiConfig::default(),
            grace: Duration::from_secs(10),
            data_dir,
        }
    }

    fn autoscale(&self, settings: &Settings) -> Option<AutoscaleConfig> {
        let names = settings.required("autoscale.names").split(',').map(str::trim);
        let register = settings.flag("autoscale.register");
        let clients = match settings.path("autoscale.client_ca") {
            Some(path) => Clients::OfFile(path),
            None if register => Clients::OfCluster,
            None => Clients::Anybody,
        };
        Some(AutoscaleConfig {
            addr: settings.addr("autoscale_https")?,
            tls: TlsConfig {
                dir: self.data_dir.join("autoscale"),
                names: names.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                clients,
            },
            register,
            stale_after: settings.duration("autoscale.stale_after"),
            window: settings.duration("autoscale.window"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str]) -> Result<Config, String> {
        let args = args.iter().map(Into::into);
        let settings = SCHEMA
            .load_from(args, &|_| None, &|_| Err("no file".into()))
            .map_err(|stop| stop.to_string())?;
        Config::check(&settings).map_err(|problems| problems[0].to_string())
    }

    #[test]
    fn the_contract_of_the_command_line() {
        let config = load(&[
            "--data-dir",
            "/d",
            "--http",
            ":1",
            "--otlp-grpc",
            ":2",
            "--autoscale-https",
            ":3",
            "--logs-retention",
            "2d",
        ])
        .unwrap();
        assert_eq!(config.http.port(), 1);
        assert_eq!(config.otlp_grpc.map(|a| a.port()), Some(2));
        let autoscale = config.autoscale.unwrap();
        assert_eq!(autoscale.addr.port(), 3);
        assert_eq!(autoscale.tls.names, ["localhost", "127.0.0.1"]);
        assert_eq!(config.logs.retention.age, Some(Duration::from_secs(2 * 86_400)));
        assert_eq!(config.logs.dir, PathBuf::from("/d/logs"));
    }

    #[test]
    fn who_may_ask_for_metrics() {
        let clients = |more: &[&str]| {
            let all = ["--data-dir", "/d", "--autoscale-https", ":3"];
            let all: Vec<&str> = all.iter().chain(more).copied().collect();
            load(&all).unwrap().autoscale.unwrap().tls.clients
        };
        assert_eq!(clients(&[]), Clients::Anybody);
        let register = ["--autoscale-register", "true"];
        assert_eq!(clients(&register), Clients::OfCluster);
        let both = ["--autoscale-register", "true", "--autoscale-client-ca", "/ca"];
        assert_eq!(clients(&both), Clients::OfFile("/ca".into()));
    }

    #[test]
    fn what_is_missing_or_too_small_is_said() {
        assert!(load(&[]).unwrap_err().contains("--data-dir"));
        let small = load(&["--data-dir", "/d", "--logs-memory", "5B"]).unwrap_err();
        assert!(small.contains("--logs-memory") && small.contains("below 1MiB"), "{small}");
    }
}
