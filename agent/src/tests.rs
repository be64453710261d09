//! Whole agents against a fake collector on loopback.

use std::sync::{Arc, Mutex};

use axum::routing::{get, post};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use taffrail_kit::shutdown;
use tokio::sync::Notify;

use super::*;

/// The settings of an agent whose pods come from `pods.json` in `folder`.
fn config(folder: &Path, collector: &str) -> Config {
    let path = |name: &str| folder.join(name).display().to_string();
    let arguments = [
        ("--collector", collector.to_owned()),
        ("--state-dir", path("state")),
        ("--pod-logs", path("pods")),
        ("--pods-file", path("pods.json")),
        ("--kubelet-root", path("kubelet")),
        ("--node", "node-1".to_owned()),
        ("--http", "127.0.0.1:0".to_owned()),
        ("--scrape-interval", "100ms".to_owned()),
        ("--grace", "5s".to_owned()),
    ];
    let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]);
    let settings = config::SCHEMA
        .load_from(arguments, &|_| None, &|_| Err("no file".into()))
        .expect("the settings are good");
    Config::check(&settings, &config::Surroundings::default()).expect("the settings are good")
}

/// A collector that keeps which metrics and which lines it was sent; also a target, at `/m`.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<BTreeSet<String>>>, Arc<Notify>);

impl Collector {
    fn keep(&self, what: Vec<String>) {
        self.0.lock().expect("lock").extend(what);
        self.1.notify_one();
    }

    async fn wait_for(&self, what: &str) {
        let come = async {
            while !self.0.lock().expect("lock").iter().any(|kept| kept == what) {
                self.1.notified().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), come).await.is_err() {
            panic!("{what} has not come; there are {:?}", self.0.lock().expect("lock"));
        }
    }

    async fn serve(&self) -> String {
        let (own, other) = (self.clone(), self.clone());
        let metrics = move |body: Bytes| async move { own.keep(metrics_of(&body)) };
        let logs = move |body: Bytes| async move { other.keep(lines_of(&body)) };
        let positions = || async { r#"{"positions":[]}"# };
        let app = axum::Router::new()
            .route("/v1/metrics", post(metrics))
            .route("/v1/logs", post(logs))
            .route("/api/v1/agent/positions", get(positions))
            .route("/m", get(|| async { "knots 5\n" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }
}

fn unpack<M: prost::Message + Default>(body: &[u8]) -> M {
    let plain = zstd::bulk::decompress(body, 1 << 20).expect("zstd");
    M::decode(&*plain).expect("protobuf")
}

fn metrics_of(body: &[u8]) -> Vec<String> {
    let request: ExportMetricsServiceRequest = unpack(body);
    let scopes = request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
    scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name).collect()
}

/// `app/container/stream: line` of each line.
fn lines_of(body: &[u8]) -> Vec<String> {
    let request: ExportLogsServiceRequest = unpack(body);
    let mut lines = Vec::new();
    for resource in request.resource_logs {
        let attributes = resource.resource.expect("a resource").attributes;
        let label = |name: &str| {
            let pair = attributes.iter().find(|pair| pair.key == name);
            pair.and_then(|pair| text_of(pair.value.as_ref())).unwrap_or_default()
        };
        let stream = ["app", "container", "volume", "stream"].map(label).join("/");
        for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            let line = text_of(record.body.as_ref()).expect("a line");
            lines.push(format!("{stream}: {line}"));
        }
    }
    lines
}

fn text_of(value: Option<&AnyValue>) -> Option<String> {
    match value?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn an_agent_sends_logs_and_metrics_tells_of_itself_and_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let collector = Collector::default();
    let url = collector.serve().await;
    let port = url.rsplit_once(':').expect("a port").1;
    let list = serde_json::json!({"kind": "List", "items": [{
        "metadata": {"uid": "u", "name": "web", "namespace": "shop", "annotations": {
            "prometheus.io/scrape": "true", "prometheus.io/port": port, "prometheus.io/path": "/m",
            "taffrail.dev/log-volumes": "logs, missing",
        }, "labels": {"app": "shop-web"}},
        "spec": {"containers": [{"name": "main"}], "volumes": [{"name": "logs", "emptyDir": {}}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }]});
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        std::fs::write(path, text).expect("write");
    };
    write("pods.json", &list.to_string());
    write("pods/shop_web_u/main/0.log", "2026-11-20T14:51:32.1Z stderr F hello\n");
    write("kubelet/pods/u/volumes/kubernetes.io~empty-dir/logs/a/app.log", "from a volume\n");

    let registry = Registry::new();
    let agent = Agent::build(config(folder.path(), &url), &registry).await.expect("builds");
    let own = format!("http://{}", agent.address().expect("an address"));
    let (trigger, end) = shutdown::channel();
    let running = tokio::spawn(agent.run(end));
    for what in
        ["knots", "up", "shop-web/main//stderr: hello", "shop-web//logs/file: from a volume"]
    {
        collector.wait_for(what).await;
    }

    let client = Client::new(&own).expect("URL");
    let get = async |path: &str| client.get(path, &[]).await.expect("an answer");
    assert_eq!(get("/livez").await.status, 200);
    assert_eq!(get("/readyz").await.status, 200);
    let metrics = get("/metrics").await.text();
    for line in ["taffrail_scrape_targets 1", "taffrail_pods_known 1", "taffrail_pods_synced 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let status: serde_json::Value =
        serde_json::from_slice(&get("/status").await.body).expect("JSON");
    assert_eq!(status["node"], "node-1");
    assert_eq!(status["pods"]["count"], 1);
    assert_eq!(status["targets"][0]["labels"]["container"], "main");
    assert_eq!(status["targets"][0]["up"], true);
    assert_eq!(status["files"].as_array().map(Vec::len), Some(2), "{status}");
    let missing = status["volume_problems"]["shop/web"].as_str().expect("a problem");
    assert!(missing.contains("\"missing\""), "{missing}");

    trigger.stop();
    running.await.expect("no panic").expect("ends well");
}

#[tokio::test]
async fn a_second_agent_with_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path(), "http://127.0.0.1:1");
    let first = Agent::build(config.clone(), &Registry::new()).await.expect("builds");
    let (registry, patience) = (Registry::new(), Duration::ZERO);
    let second = Agent::build_after(patience, config.clone(), &registry).await;
    let error = second.err().expect("refused");
    assert!(error.to_string().contains("is in use by process"), "{error:#}");
    drop(first);
    Agent::build(config, &Registry::new()).await.expect("free again");
}

#[tokio::test]
async fn an_agent_ends_in_time_when_the_collector_is_away() {
    let folder = tempfile::tempdir().expect("folder");
    let mut config = config(folder.path(), "http://127.0.0.1:1");
    config.grace = Duration::from_millis(300);
    let agent = Agent::build(config, &Registry::new()).await.expect("builds");
    agent.queue.push(vec!["frame".into()]);
    let (trigger, end) = shutdown::channel();
    trigger.stop();
    let queue = agent.queue.clone();
    agent.run(end).await.expect("ends well, though samples are lost");
    assert_eq!(queue.undelivered(), 1);
}

#[tokio::test]
async fn a_part_that_ends_by_itself_ends_the_agent() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path(), "http://127.0.0.1:1");
    let agent = Agent::build(config, &Registry::new()).await.expect("builds");
    agent.queue.close();
    let (_trigger, end) = shutdown::channel();
    let error = agent.run(end).await.expect_err("the sender has nothing more to send");
    assert!(error.to_string().contains("send has ended"), "{error:#}");
}
