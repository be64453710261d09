//! Scrapes real HTTP targets on loopback and keeps what a collector would be sent.

use super::encode::decode;
use super::*;
use crate::pods::table::{Event, Table};
use crate::pods::{Origin, Pod};
use axum::http::HeaderMap;
use axum::routing::get;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use taffrail_kit::shutdown;
use tokio::time::Instant;

/// Serves `/text`, `/gzip` and `/fussy` (whose OpenMetrics is bad until text is asked for).
async fn exporter() -> std::net::SocketAddr {
    let gzip = || async {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"# TYPE a counter\na_total 3\n# EOF\n").expect("gzip");
        let kind = [
            ("content-type", "application/openmetrics-text; version=1.0.0"),
            ("content-encoding", "gzip"),
        ];
        (kind, packed.finish().expect("gzip"))
    };
    let fussy = |headers: HeaderMap| async move {
        let accept = headers["accept"].to_str().expect("ASCII");
        let open = accept.contains("openmetrics");
        let kind = if open { "application/openmetrics-text" } else { "text/plain" };
        ([("content-type", kind)], "a 1\n")
    };
    let app = axum::Router::new()
        .route("/text", get(|| async { "up_here{job=\"mine\"} 2\n" }))
        .route("/gzip", get(gzip))
        .route("/fussy", get(fussy));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A collector that keeps what it is sent, decoded to `name{labels} value`.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Vec<String>>>, Arc<tokio::sync::Notify>);

impl Store {
    async fn serve(&self) -> String {
        let own = self.clone();
        let take = move |body: bytes::Bytes| async move {
            let frame = zstd::bulk::decompress(&body, 1 << 20).expect("zstd");
            let mut all = own.0.lock().expect("lock");
            for (labels, _, value) in decode(&[frame.into()]) {
                let name = labels.get("__name__").expect("a name").to_owned();
                let keep = |name: &str| ["job", "exported_job", "pod"].contains(&name);
                let value = value.map_or_else(|| "stale".to_owned(), |v| v.to_string());
                all.push(format!("{name}{} {value}", labels.filtered(keep)));
            }
            own.1.notify_one();
        };
        let app = axum::Router::new().route("/v1/metrics", axum::routing::post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    async fn wait_for(&self, point: &str) {
        let come = async {
            while !self.0.lock().expect("lock").iter().any(|p| p == point) {
                self.1.notified().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), come).await.is_err() {
            panic!("{point} has not come; there are {:?}", self.0.lock().expect("lock"));
        }
    }
}

fn pod(uid: &str, port: u16, path: &str) -> Pod {
    let annotations = [("scrape", "true"), ("port", &*port.to_string()), ("path", path)];
    Pod {
        uid: uid.into(),
        namespace: "shop".into(),
        name: uid.into(),
        phase: "Running".into(),
        ip: Some("127.0.0.1".into()),
        annotations: annotations
            .into_iter()
            .map(|(n, v)| (format!("prometheus.io/{n}"), v.to_owned()))
            .collect(),
        ..Pod::default()
    }
}

#[tokio::test]
async fn pods_are_scraped_and_end_with_markers() {
    let port = exporter().await.port();
    let store = Store::default();
    let client = taffrail_kit::http::Client::new(&store.serve().await).expect("URL");
    let (mut table, pods) = Table::new(Origin::Cluster);
    let config = Config {
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(5),
        body_bytes_max: 1 << 20,
        samples_max: 100,
        queue_bytes_max: 1 << 20,
        targets: Vec::new(),
    };
    let metrics = Metrics::new();
    let queue = send::Queue::new(config.queue_bytes_max, metrics.clone());
    let sender = send::Sender::new(queue.clone(), client, metrics.clone());
    let scraper = Scraper::new(config, Place::default(), pods, queue, metrics.clone());
    let overview = scraper.overview();
    let (trigger, end) = shutdown::channel();
    let ended = Arc::new(AtomicBool::new(false));
    let tasks = tokio::spawn({
        let ended = ended.clone();
        async move {
            tokio::join!(scraper.run(end), sender.run());
            ended.store(true, Ordering::Relaxed);
        }
    });

    let pods = vec![
        pod("plain", port, "/text"),
        pod("packed", port, "/gzip"),
        pod("fussy", port, "/fussy"),
        pod("none", port, "/none"),
        pod("odd", 0, "/x"),
    ];
    table.apply(Event::Listed(pods), Instant::now());
    for point in [
        "up_here{exported_job=\"mine\", job=\"shop/plain\", pod=\"plain\"} 2",
        "a_total{job=\"shop/packed\", pod=\"packed\"} 3",
        "up{job=\"shop/fussy\", pod=\"fussy\"} 0",
        "a{job=\"shop/fussy\", pod=\"fussy\"} 1",
        "up{job=\"shop/none\", pod=\"none\"} 0",
    ] {
        store.wait_for(point).await;
    }
    let none = overview.targets().into_iter().find(|t| t.url.ends_with("/none")).expect("a target");
    assert_eq!((none.up, none.error.as_deref()), (Some(false), Some("the answer has status 404")));
    assert!(overview.problems()["shop/odd"].contains("prometheus.io/port"));
    assert_eq!(metrics.targets.get(), 4);

    table.apply(Event::Deleted("plain".into()), Instant::now());
    let gone = "up_here{exported_job=\"mine\", job=\"shop/plain\", pod=\"plain\"} stale";
    store.wait_for(gone).await;
    store.wait_for("up{job=\"shop/plain\", pod=\"plain\"} stale").await;
    assert!(!overview.targets().iter().any(|t| t.url.ends_with("/text")));

    trigger.stop();
    tasks.await.expect("all end");
    assert!(ended.load(Ordering::Relaxed));
    let markers = store
        .0
        .lock()
        .expect("lock")
        .iter()
        .filter(|p| p.contains("packed") && p.ends_with("stale"))
        .count();
    assert_eq!(markers, 0, "the end of the agent is not the end of its targets");
}
