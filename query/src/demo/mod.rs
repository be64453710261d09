//! The demo: a node of a small shop, in one process, without Kubernetes. It writes container logs
//! the way containerd and the kubelet do, a log file in a volume, a pod list, and serves metrics,
//! so that agent and collector have something real to work on. The [`corpus`] of its lines also
//! feeds the benches.
//!
//! A second start on the same folder goes on from the first: same pods, same uids, files appended.

pub mod corpus;
mod crash;
mod cri;
mod files;
mod meter;
mod pods;
pub mod random;
mod workload;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use taffrail_kit::clock;
use taffrail_kit::shutdown::{self, Shutdown, Trigger};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use files::Limits;
use meter::Meter;
use workload::{Metered, Workload};

pub use pods::NODE;
pub use workload::Paths;

/// Size at which the demo's files are rotated: small, so that it happens while one watches.
const ROTATE_BYTES: u64 = 1 << 20;
/// Files kept of a container, as the kubelet does by default.
const FILES_MAX: usize = 5;
/// How often lines are written.
const TICK: Duration = Duration::from_millis(100);
/// First port that the pods' metrics are served on; a taken one is replaced by any free one.
const PORT_FIRST: u16 = 4160;
/// Most lines a second that the demo writes.
pub const LINES_PER_SECOND_MAX: u32 = 100_000;

/// Why the demo does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be written.
    #[error("demo: {path}: {source}", path = path.display())]
    Io {
        /// The file, or the folder it is in.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No port for a pod's metrics.
    #[error("demo: no port on 127.0.0.1: {0}")]
    Port(io::Error),
    /// The thread of the demo cannot be started, or ended without a word.
    #[error("demo: {0}")]
    Thread(String),
}

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of everything it writes.
    pub root: PathBuf,
    /// Lines a second over all pods, at most [`LINES_PER_SECOND_MAX`].
    pub lines_per_second: u32,
}

/// A running demo. Dropping it ends it without waiting.
#[derive(Debug)]
pub struct Demo {
    paths: Paths,
    stop: SyncSender<()>,
    ended: oneshot::Receiver<Result<(), Error>>,
    servers: Trigger,
}

impl Demo {
    /// Binds the ports, opens the files, writes the pod list and starts to log.
    ///
    /// # Errors
    /// When no port is free or a file cannot be written.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        let paths = Paths::below(&config.root);
        let now = clock::unix_nanos();
        std::fs::create_dir_all(&config.root)
            .map_err(|source| Error::Io { path: config.root.clone(), source })?;
        let (servers, shutdown) = shutdown::channel();
        let metered = serve_metrics(&shutdown).await?;
        let limits = Limits { bytes_max: ROTATE_BYTES, files_max: FILES_MAX };
        let rate = config.lines_per_second.min(LINES_PER_SECOND_MAX);
        let workload = Workload::open(paths.clone(), rate, limits, metered, now)?;
        let (stop, stopped) = sync_channel(1);
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("demo".into())
            .spawn(move || {
                // Nobody listens any more when the demo was dropped.
                let _unheard = tell.send(run(workload, &stopped)).is_err();
            })
            .map_err(|e| Error::Thread(e.to_string()))?;
        Ok(Self { paths, stop, ended, servers })
    }

    /// Where its files are.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Returns when the demo cannot go on. Cancel safe.
    pub async fn failed(&mut self) -> Error {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => Error::Thread("ended by itself".into()),
        }
    }

    /// Writes what is due and ends.
    ///
    /// # Errors
    /// When the last lines cannot be written.
    pub async fn stop(self) -> Result<(), Error> {
        self.servers.stop();
        drop(self.stop);
        self.ended.await.unwrap_or(Ok(()))
    }
}

fn run(mut workload: Workload, stop: &Receiver<()>) -> Result<(), Error> {
    loop {
        let told = stop.recv_timeout(TICK);
        workload.step(clock::unix_nanos())?;
        if told != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
    }
}

/// One server for each pod that has metrics.
async fn serve_metrics(shutdown: &Shutdown) -> Result<Vec<Metered>, Error> {
    let started = clock::unix_millis() as f64 / 1000.0;
    let mut metered = Vec::new();
    for (pod, port) in pods::all().iter().zip(PORT_FIRST..) {
        if !pod.measured {
            metered.push(None);
            continue;
        }
        let listener = match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("127.0.0.1:0").await.map_err(Error::Port)?,
        };
        let port = listener.local_addr().map_err(Error::Port)?.port();
        let meter = Arc::new(Meter::new(started));
        metered.push(Some((port, meter.clone())));
        let mut shutdown = shutdown.clone();
        let page = move || async move {
            ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], meter.page())
        };
        let router = axum::Router::new().route("/metrics", axum::routing::get(page));
        // The server ends with the shutdown signal, which is also given when the demo is dropped.
        tokio::spawn(async move {
            let end = async move { shutdown.wait().await };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::warn!(port, %error, "metrics of a demo pod are not served any more");
            }
        });
    }
    Ok(metered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use taffrail_kit::http::Client;

    #[tokio::test]
    async fn runs_until_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { root: folder.path().join("demo"), lines_per_second: 2000 };
        let demo = Demo::start(&config).await.unwrap();
        let list = std::fs::read_to_string(&demo.paths().pods_file).unwrap();
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 12);
        let port = items[2]["metadata"]["annotations"]["prometheus.io/port"].as_str().unwrap();
        let client = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
        let page = client.get("/metrics", &[]).await.unwrap();
        assert!(page.text().contains("# TYPE http_requests_total counter"), "{}", page.text());
        let checkout = demo.paths().pod_logs.join(format!(
            "shop_{}_{}/app/0.log",
            items[2]["metadata"]["name"].as_str().unwrap(),
            items[2]["metadata"]["uid"].as_str().unwrap()
        ));
        demo.stop().await.unwrap();
        assert!(checkout.exists());
        assert!(client.get("/metrics", &[]).await.is_err(), "the servers are gone");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("demo"), "a file").unwrap();
        let config = Config { root: folder.path().join("demo"), lines_per_second: 1 };
        let error = Demo::start(&config).await.unwrap_err().to_string();
        assert!(error.contains("/demo: "), "{error}");
    }
}
