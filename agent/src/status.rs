//! What the agent answers over HTTP: `/metrics`, `/livez`, `/readyz` and `/status`.
//!
//! `/status` is a page for who asks with a browser and JSON for everybody else; `/status.json` and
//! `/status.html` are always that. All of it is for people and probes; nothing of it changes anything.
//! [`report`] gathers what is said, [`page`] writes it for people.

mod page;
mod report;

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus::Registry;
use serde::Deserialize;
use taffrail_kit::telemetry::metrics;
use taffrail_model::time::Millis;

use crate::enrich::Place;
use crate::pods::Pods;
use crate::pods::volumes::Problems;
use crate::process;
use crate::reload::Reloads;
use crate::scrape::Overview;
use crate::spool::View;
use crate::tail::StatusHandle;

/// Files on the page when nothing else is asked for.
const PAGE_FILES: usize = 200;
/// The page for people needs nothing from anywhere.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Where the answers come from.
pub struct Sources {
    /// When the agent was put together.
    pub started: Millis,
    /// The file of settings.
    pub config: Reloads,
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
    /// What is done with lines, and annotations that cannot be used.
    pub meaning: process::Source,
    /// The files that are read.
    pub files: StatusHandle,
    /// What is kept while the collector is away.
    pub spool: View,
    /// What is scraped.
    pub scraped: Overview,
}

/// What may stand behind the question mark.
#[derive(Debug, Deserialize)]
struct Wishes {
    /// Most files; the worst come first.
    limit: Option<usize>,
}

/// The routes.
pub fn router(sources: Sources) -> axum::Router {
    axum::Router::new()
        .route("/metrics", get(own_metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/status.html", get(html))
        .route("/status.json", get(json))
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

async fn status(sources: State<Arc<Sources>>, wishes: Query<Wishes>, asked: HeaderMap) -> Response {
    let accept = asked.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    // Browsers name it first; probes and scripts name nothing, or JSON.
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        html(sources, wishes).await
    } else {
        json(sources, wishes).await
    }
}

async fn json(State(sources): State<Arc<Sources>>, wishes: Query<Wishes>) -> Response {
    let limit = wishes.limit.unwrap_or(usize::MAX);
    Json(report::gather(&sources, limit).await).into_response()
}

async fn html(State(sources): State<Arc<Sources>>, wishes: Query<Wishes>) -> Response {
    let report = report::gather(&sources, wishes.limit.unwrap_or(PAGE_FILES)).await;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    ];
    (headers, page::render(&report)).into_response()
}
