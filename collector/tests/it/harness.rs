//! A collector in this process, requests to it, and a look at what it stored.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use taffrail_collector::Collector;
use taffrail_collector::config::Config;
use taffrail_collector::ingest::intake::LogIntake;
use taffrail_collector::logs::LogStoreConfig;
use taffrail_kit::http::{Client, Response};
use taffrail_kit::shutdown::{self, Trigger};
use taffrail_model::TimeRange;
use taffrail_model::wire::{AGENT_SCOPE, BEGIN, CHECK, END, SOURCE};
use taffrail_query::source::{Cancel, Direction, LogScan, LogSource};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) dir: PathBuf,
    trigger: Trigger,
    task: JoinHandle<anyhow::Result<()>>,
}

pub(crate) fn config(dir: &Path) -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::new(dir.to_path_buf(), any);
    config.otlp_grpc = Some(any);
    config.limits.disk_reserve = 0;
    config
}

pub(crate) async fn build(config: Config) -> anyhow::Result<Collector> {
    Collector::build(config, prometheus::Registry::new()).await
}

impl Running {
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, |_| ()).await
    }

    pub(crate) async fn start_with(dir: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(dir);
        change(&mut config);
        let collector = build(config).await.unwrap();
        let (http, grpc) = (collector.http_addr().unwrap(), collector.grpc_addr().unwrap());
        let (trigger, stop) = shutdown::channel();
        let task = tokio::spawn(collector.run(stop));
        let client = Client::new(&format!("http://{http}")).unwrap();
        while client.get("/readyz", &[]).await.unwrap().status != 200 {
            assert!(!task.is_finished(), "the collector ended while starting");
            tokio::task::yield_now().await;
        }
        Self { client, http, grpc, dir: dir.into(), trigger, task }
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        self.client.post(path, headers, body.into()).await.unwrap()
    }

    /// Posts a batch as the agent does.
    pub(crate) async fn ship(&self, request: &ExportLogsServiceRequest) -> Response {
        let body = zstd::encode_all(&*request.encode_to_vec(), 1).unwrap();
        self.post("/v1/logs", &[PROTOBUF, ("content-encoding", "zstd")], body).await
    }

    /// Ends it kindly and reads what it stored.
    pub(crate) async fn stop(self) -> Vec<String> {
        let dir = self.dir.clone();
        self.trigger.stop();
        self.task.await.unwrap().unwrap();
        lines_in(&dir)
    }

    /// What would be found if the process were killed now: a copy of its files.
    pub(crate) fn as_killed(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(&self.dir, copy.path());
        copy
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn intake(dir: &Path) -> LogIntake {
    LogIntake::open(LogStoreConfig::new(dir.join("logs")), &dir.join("wal/logs")).unwrap()
}

/// `<labels> <line>` of everything in a data folder that nobody has open, in order of time.
pub(crate) fn lines_in(dir: &Path) -> Vec<String> {
    let intake = intake(dir);
    let scan = LogScan {
        matchers: vec![],
        range: TimeRange::ALL,
        filters: vec![],
        order: Some(Direction::Forward),
        limit: None,
        cancel: Cancel::new(),
    };
    let mut lines = Vec::new();
    let mut sink = |labels: &taffrail_model::Labels, row: taffrail_query::source::LogRow<'_>| {
        lines.push(format!("{labels} {}", row.line));
        ControlFlow::Continue(())
    };
    intake.store.scan(&scan, &mut sink).unwrap();
    lines
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

/// A request with the lines of one resource.
pub(crate) fn request(
    scope: &str,
    attributes: Vec<KeyValue>,
    lines: &[&str],
) -> ExportLogsServiceRequest {
    let log_records = lines.iter().zip(1..).map(|(line, time)| LogRecord {
        time_unix_nano: time,
        body: Some(AnyValue { value: Some(Value::StringValue((*line).into())) }),
        ..LogRecord::default()
    });
    let scope = InstrumentationScope { name: scope.into(), ..InstrumentationScope::default() };
    let log_records = log_records.collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }],
    }
}

/// An agent's batch with one range.
pub(crate) fn batch(
    source: &str,
    range: std::ops::Range<i64>,
    lines: &[&str],
) -> ExportLogsServiceRequest {
    let attributes = vec![
        attribute("app", Value::StringValue("web".into())),
        attribute(SOURCE, Value::StringValue(source.into())),
        attribute(BEGIN, Value::IntValue(range.start)),
        attribute(END, Value::IntValue(range.end)),
        attribute(CHECK, Value::IntValue(range.end * 10)),
    ];
    request(AGENT_SCOPE, attributes, lines)
}

/// A batch of somebody else.
pub(crate) fn foreign(service: &str, lines: &[&str]) -> ExportLogsServiceRequest {
    request("lib", vec![attribute("service.name", Value::StringValue(service.into()))], lines)
}
