//! Whole agents against a fake collector on loopback.

use std::sync::{Arc, Mutex};

use super::*;
use taffrail_kit::shutdown;

/// The settings of an agent whose pods come from `pods.json` in `folder`.
fn config(folder: &std::path::Path, collector: &str) -> Config {
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

async fn serve(app: axum::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn an_agent_runs_tells_of_itself_and_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let posts = Arc::new(Mutex::new(0));
    let (count, come) = (posts.clone(), Arc::new(tokio::sync::Notify::new()));
    let told = come.clone();
    let take = move || async move {
        *count.lock().expect("lock") += 1;
        told.notify_one();
    };
    let positions = || async { r#"{"positions":[]}"# };
    let app = axum::Router::new()
        .route("/v1/metrics", axum::routing::post(take))
        .route("/api/v1/agent/positions", axum::routing::get(positions))
        .route("/m", axum::routing::get(|| async { "knots 5\n" }));
    let url = serve(app).await;
    let port = url.rsplit_once(':').expect("a port").1;
    let list = serde_json::json!({"kind": "List", "items": [{
        "metadata": {"uid": "u", "name": "web", "namespace": "shop", "annotations": {
            "prometheus.io/scrape": "true", "prometheus.io/port": port, "prometheus.io/path": "/m",
            "taffrail.dev/log-volumes": "missing",
        }},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }]});
    std::fs::write(folder.path().join("pods.json"), list.to_string()).expect("write");

    let registry = Registry::new();
    let agent = Agent::build(config(folder.path(), &url), &registry).await.expect("builds");
    let own = format!("http://{}", agent.address().expect("an address"));
    let (trigger, end) = shutdown::channel();
    let running = tokio::spawn(agent.run(end));
    come.notified().await;

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

    trigger.stop();
    running.await.expect("no panic").expect("ends well");
    assert!(*posts.lock().expect("lock") > 0);
}

#[tokio::test]
async fn a_second_agent_with_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path(), "http://127.0.0.1:1");
    let first = Agent::build(config.clone(), &Registry::new()).await.expect("builds");
    let error = Agent::build(config.clone(), &Registry::new()).await.err().expect("refused");
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
    agent.run(end).await.expect("ends well, though samples are lost");
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
