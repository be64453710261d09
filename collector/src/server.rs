//! The HTTP port: health and own metrics from the first moment, everything else once the data is
//! read.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt;
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use prometheus::Registry;
use taffrail_kit::shutdown::Shutdown;
use taffrail_kit::telemetry::{metrics, trace};
use tower::ServiceExt;
use tracing::Instrument;

use crate::ingest::Doors;

/// The answer under this path goes on until its reader goes.
const TAIL_PATH: &str = "/api/v1/logs/tail";

/// Stands before all routes, until there are any.
pub struct Front {
    registry: Registry,
    inner: OnceLock<(Router, Arc<Doors>)>,
    stop: Shutdown,
}

impl Front {
    /// Answers for its health and its metrics only.
    #[must_use]
    pub fn new(registry: Registry, stop: Shutdown) -> Self {
        Self { registry, inner: OnceLock::new(), stop }
    }

    /// From now on the routes are served.
    pub fn ready(&self, routes: Router, doors: Arc<Doors>) {
        // Said twice, the first time counts.
        let _said = self.inner.set((routes, doors)).is_ok();
    }

    /// Why a restart is needed, if it is.
    fn broken(&self) -> Option<String> {
        let (_, doors) = self.inner.get()?;
        let wals = [("logs", &doors.logs.wal), ("metrics", &doors.metrics.wal)];
        wals.into_iter().find_map(|(name, wal)| {
            let reason = wal.poisoned()?;
            Some(format!("the write-ahead log of {name} needs a restart: {reason}"))
        })
    }
}

/// The routes of the port.
pub fn outer(front: Arc<Front>) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        // Loki's path; its clients ask before they send.
        .route("/ready", get(ready))
        .route("/metrics", get(own_metrics))
        .fallback(inner)
        .with_state(front)
}

/// A process that only a restart can help is not alive.
async fn live(State(front): State<Arc<Front>>) -> Response {
    match front.broken() {
        None => "alive\n".into_response(),
        Some(reason) => unavailable(reason),
    }
}

async fn ready(State(front): State<Arc<Front>>) -> Response {
    match (front.inner.get(), front.broken()) {
        (None, _) => unavailable("reading the data\n".into()),
        (_, Some(reason)) => unavailable(reason),
        (Some(_), None) => "ready\n".into_response(),
    }
}

async fn own_metrics(State(front): State<Arc<Front>>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&front.registry)).into_response()
}

async fn inner(State(front): State<Arc<Front>>, request: Request) -> Response {
    let Some((routes, _)) = front.inner.get() else {
        return unavailable("the collector is reading its data; try again soon\n".into());
    };
    let endless = request.uri().path() == TAIL_PATH;
    let span = tracing::info_span!(
        "http.server",
        otel.kind = "server",
        http.request.method = %request.method(),
        url.path = request.uri().path(),
        http.response.status_code = tracing::field::Empty,
    );
    if let Some(parent) = request.headers().get(trace::TRACEPARENT).and_then(|v| v.to_str().ok()) {
        trace::adopt(&span, parent);
    }
    let served = routes.clone().oneshot(request).instrument(span.clone());
    let response = served.await.into_response();
    span.record("http.response.status_code", response.status().as_u16());
    if !endless {
        return response;
    }
    // Nobody waits for the end of a live tail: it ends here.
    let mut stop = front.stop.clone();
    let stopped = Box::pin(async move { stop.wait().await });
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(stopped)))
}

/// Nothing is here, in the words that Loki's clients know.
pub async fn not_found() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

fn unavailable(text: String) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "2")], text).into_response()
}
