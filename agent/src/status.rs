//! What the agent answers over HTTP: `/metrics`, `/livez`, `/readyz` and `/status`.
//!
//! All of it is for people and probes; nothing of it changes anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus::Registry;
use serde::Serialize;
use taffrail_kit::telemetry::metrics;
use taffrail_model::time::format_rfc3339;

use crate::enrich::Place;
use crate::pods::volumes::Problems;
use crate::pods::{Origin, Pods};
use crate::scrape::TargetStatus;
use crate::spool::{Overview, View};
use crate::tail::{FileStatus, StatusHandle};

/// Where the answers come from.
pub struct Sources {
    /// Node and cluster.
    pub place: Place,
    /// Where everything is sent.
    pub collector: String,
    /// The agent's own metrics.
    pub registry: Registry,
    /// The pods.
    pub pods: Pods,
    /// Volumes that cannot be read.
    pub volumes: Problems,
    /// The files that are read.
    pub files: StatusHandle,
    /// What is kept while the collector is away.
    pub spool: View,
    /// What is scraped.
    pub scraped: crate::scrape::Overview,
}

#[derive(Serialize)]
struct Status {
    node: String,
    cluster: String,
    collector: String,
    pods: PodsStatus,
    files: Vec<File>,
    spool: SpoolStatus,
    volume_problems: BTreeMap<String, String>,
    targets: Vec<TargetStatus>,
    target_problems: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct File {
    path: String,
    source: String,
    open: bool,
    position: u64,
    committed: u64,
    lag: u64,
    error: Option<String>,
}

impl From<FileStatus> for File {
    fn from(file: FileStatus) -> Self {
        let FileStatus { path, source, open, position, committed, lag, error } = file;
        let path = path.to_string_lossy().into_owned();
        Self { path, source, open, position, committed, lag, error }
    }
}

#[derive(Serialize)]
struct SpoolStatus {
    away: bool,
    frames: u64,
    bytes: u64,
    bytes_max: u64,
    oldest: Option<String>,
    problem: Option<String>,
}

impl From<Overview> for SpoolStatus {
    fn from(spool: Overview) -> Self {
        let Overview { away, frames, bytes, bytes_max, oldest, problem } = spool;
        Self { away, frames, bytes, bytes_max, oldest: oldest.map(format_rfc3339), problem }
    }
}

#[derive(Serialize)]
struct PodsStatus {
    origin: &'static str,
    synced: bool,
    count: usize,
    problem: Option<String>,
}

/// The routes.
pub fn router(sources: Sources) -> axum::Router {
    axum::Router::new()
        .route("/metrics", get(own_metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(Arc::new(sources))
}

async fn own_metrics(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&sources.registry))
}

/// Ready once the pods are known: from then on everything has its labels.
async fn ready(State(sources): State<Arc<Sources>>) -> Response {
    let pods = sources.pods.now();
    if pods.synced {
        return "ok\n".into_response();
    }
    let why = pods.problem.as_deref().unwrap_or("the first list has not come yet");
    (StatusCode::SERVICE_UNAVAILABLE, format!("pods are not known: {why}\n")).into_response()
}

async fn status(State(sources): State<Arc<Sources>>) -> Json<Status> {
    let pods = sources.pods.now();
    let origin = match pods.origin {
        Origin::None => "none",
        Origin::Cluster => "cluster",
        Origin::File => "file",
    };
    let (synced, count, problem) = (pods.synced, pods.live().count(), pods.problem.clone());
    Json(Status {
        node: sources.place.node.clone(),
        cluster: sources.place.cluster.clone(),
        collector: sources.collector.clone(),
        pods: PodsStatus { origin, synced, count, problem },
        files: sources.files.status().await.into_iter().map(File::from).collect(),
        spool: sources.spool.now().into(),
        volume_problems: sources.volumes.now(),
        targets: sources.scraped.targets(),
        target_problems: sources.scraped.problems(),
    })
}
