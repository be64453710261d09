//! The keeper: doors ([`ingest`]), durability ([`wal`]), two stores ([`logs`], [`metrics`]), the
//! autoscaling API ([`mod@autoscale`]), and the ports that join them ([`server`]).
//!
//! ```text
//! HTTP  ─┐                  ┌─ wal/logs    ─> logs    ─┐
//! gRPC  ─┴─> ingest::Doors ─┤                          ├─> query::api (HTTP), autoscale (HTTPS)
//!                           └─ wal/metrics ─> metrics ─┘
//!                                   └── upkeep: stores written, write-ahead logs cut
//! ```
//!
//! [`Collector::build`] takes what only one process can have (the data folder, the ports), so a
//! second one fails at once; [`Collector::run`] reads the data, serves, and ends in the order of the
//! flow: no new requests, open ones answered, stores written.

pub mod autoscale;
mod checked;
pub mod config;
mod connections;
pub mod ingest;
pub mod logs;
pub mod metrics;
pub mod server;
mod upkeep;
pub mod wal;

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::future::OptionFuture;
use prometheus::Registry;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use taffrail_kit::journal::disk::create_durably;
use taffrail_kit::shutdown::{self, Shutdown};
use taffrail_query::api::ApiState;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use autoscale::tls::Tls;
use autoscale::{AutoscaleState, registration, serve};
use config::{AutoscaleConfig, Config};
use ingest::Doors;
use ingest::admission::Admission;
use ingest::counters::Counters;
use ingest::intake::{LogIntake, MetricIntake};
use server::Front;
use upkeep::Gauges;

/// A collector that holds its folder and ports and does nothing yet.
pub struct Collector {
    config: Config,
    registry: Registry,
    http: TcpListener,
    grpc: Option<TcpListener>,
    autoscale: Option<(TcpListener, AutoscaleConfig)>,
    _lock: File,
}

impl Collector {
    /// Takes the data folder and the ports.
    ///
    /// # Errors
    /// When another process has one of them, or they cannot be used.
    pub async fn build(config: Config, registry: Registry) -> anyhow::Result<Self> {
        let lock = lock(&config.data_dir)?;
        let http = listen(config.http, "--http").await?;
        let grpc = match config.otlp_grpc {
            Some(addr) => Some(listen(addr, "--otlp-grpc").await?),
            None => None,
        };
        let autoscale = match &config.autoscale {
            Some(api) => Some((listen(api.addr, "--autoscale-https").await?, api.clone())),
            None => None,
        };
        Ok(Self { config, registry, http, grpc, autoscale, _lock: lock })
    }

    /// Where the HTTP port really is.
    ///
    /// # Errors
    /// As the system says.
    pub fn http_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Where the gRPC port really is, if there is one.
    #[must_use]
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc.as_ref()?.local_addr().ok()
    }

    /// Reads the data, then serves until told to stop.
    ///
    /// # Errors
    /// When the data cannot be read, a port breaks down, or the stores cannot be written at the end.
    pub async fn run(self, stop: Shutdown) -> anyhow::Result<()> {
        // The ports outlive the wish to stop by as long as replay takes: then they have nothing to
        // finish.
        let (trigger, ports) = shutdown::channel();
        let front = Arc::new(Front::new(self.registry.clone(), ports.clone()));
        let mut tasks = JoinSet::new();
        let grace = self.config.grace;
        let routes = server::outer(front.clone());
        tasks.spawn(connections::serve(self.http, routes, ports.clone(), grace));
        let opened = open(self.config.clone(), self.registry.clone()).await?;
        let (doors, gauges) = (opened.doors, opened.gauges);
        let api = ApiState::new(
            doors.logs.store.clone(),
            doors.metrics.store.clone(),
            self.config.query.clone(),
        )
        .until(ports.clone());
        let routes = ingest::router(doors.clone())
            .merge(taffrail_query::api::router(api))
            .merge(taffrail_query::api::deletion_router(doors.logs.store.clone()))
            .fallback(server::not_found);
        if let Some(grpc) = self.grpc {
            let routes = ingest::otlp_grpc::router(doors.clone());
            tasks.spawn(connections::serve(grpc, routes, ports.clone(), grace));
        }
        if let Some((listener, api)) = self.autoscale {
            tasks.spawn(autoscale(listener, api, &doors, ports.clone())?);
        }
        let upkeep = upkeep::start(&doors, gauges, &ports);
        front.ready(routes, doors.clone());
        tracing::info!("ready");

        let broken = until_stopped(stop, &mut tasks).await;
        doors.admission.stop();
        doors.logs.store.stop_compacting();
        trigger.stop();
        while tasks.join_next().await.is_some() {}
        upkeep.join_all().await;
        tokio::task::spawn_blocking(move || upkeep::close(&doors)).await??;
        broken
    }
}

async fn listen(addr: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("listen on {addr} ({flag})"))
}

/// Keeps other collectors out of the folder for as long as the file is open.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let shown = data_dir.display();
    create_durably(data_dir).with_context(|| format!("create the data folder {shown}"))?;
    let path = data_dir.join("LOCK");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => bail!("another taffrail-collector runs on {shown}"),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

struct Opened {
    doors: Arc<Doors>,
    gauges: Gauges,
}

async fn open(config: Config, registry: Registry) -> anyhow::Result<Opened> {
    let open = move || {
        let wal = config.data_dir.join("wal");
        let doors = Doors {
            logs: LogIntake::open(config.logs, &wal.join("logs"))?,
            metrics: MetricIntake::open(config.metrics, &wal.join("metrics"))?,
            admission: Admission::new(config.limits),
            counters: Counters::new(&registry)?,
        };
        Ok(Opened { doors: Arc::new(doors), gauges: Gauges::new(&registry)? })
    };
    tokio::task::spawn_blocking(open).await?
}

fn autoscale(
    listener: TcpListener,
    api: AutoscaleConfig,
    doors: &Doors,
    mut ports: Shutdown,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let names = api.tls.names.clone();
    let tls = Tls::open(api.tls).context("open the certificates of the autoscaling API")?;
    let tls = Arc::new(tls);
    let registration = match api.register.then(registration::client).transpose() {
        Ok(client) => client.map(|it| registration::keep(it, tls.clone(), names, ports.clone())),
        Err(error) => return Err(error.context("--autoscale-register needs a cluster to run in")),
    };
    let router = autoscale::router(AutoscaleState {
        series: doors.metrics.store.clone(),
        now: taffrail_kit::clock::unix_millis,
        stale_after: api.stale_after,
        window: api.window,
    });
    let served = serve::serve(listener, tls, router, async move { ports.wait().await });
    Ok(async {
        tokio::join!(served, OptionFuture::from(registration));
    })
}

/// Returns when it is time to stop; with an error when a port is gone before.
async fn until_stopped(mut stop: Shutdown, ports: &mut JoinSet<()>) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.wait() => Ok(()),
        Some(ended) = ports.join_next() => {
            ended.context("serve a port")?;
            bail!("a port closed by itself")
        }
    }
}
