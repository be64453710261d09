//! OTLP from the pods of this node, over gRPC and HTTP: logs and metrics, each sender known by its
//! address.
//!
//! ```text
//! pod -> door (grpc, http) -> origin: who sent it -> forward -> collector
//!  ^                                                    |
//!  +------------- the collector's own answer -----------+
//! ```
//!
//! Invariants:
//! - Nothing is kept here. A sender gets its 2xx only after the collector's, and what the collector
//!   refuses (429, 503, partly) is refused here in its words, with its `Retry-After`.
//! - Who the sender is says its address, not its request: attributes that say where something comes
//!   from are taken out and written anew, and nobody but the agent itself speaks as the agent.
//! - What is to be redacted does not pass: the settings and the annotations of the pod hold for logs as
//!   they do for lines of files.
//! - No more than [`REQUESTS_MAX`] requests of [`REQUEST_BYTES_MAX`] are in memory at a time.
//!
//! Traces are refused: there is no store for them.

mod forward;
mod metrics;
mod origin;
mod otlp_grpc;
mod otlp_http;
mod redact;
mod signal;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use prometheus::Registry;
use taffrail_kit::http::Client;
use taffrail_kit::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::enrich::Place;
use crate::pods::Pods;
use crate::process::Source;

use metrics::Metrics;
use origin::Origins;

/// Longest request, in bytes, measured unpacked: what OTLP's own servers take.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Most requests at a time, those that wait for the collector's answer included.
pub const REQUESTS_MAX: usize = 16;
/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where pods may send to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Address of OTLP/gRPC.
    pub grpc: Option<SocketAddr>,
    /// Address of OTLP/HTTP.
    pub http: Option<SocketAddr>,
}

/// What all doors share.
struct Shared {
    origins: Origins,
    meaning: Source,
    client: Client,
    turns: Semaphore,
    metrics: Metrics,
}

/// The doors, open but not served yet.
pub struct Receiver {
    doors: Vec<(TcpListener, Router)>,
}

impl Receiver {
    /// Binds the addresses of the settings; none of them is no error.
    ///
    /// # Errors
    /// When an address cannot be bound, or the registry has metrics of these names already.
    pub async fn bind(
        config: Config,
        place: Place,
        pods: Pods,
        meaning: Source,
        client: Client,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let mut doors = Vec::new();
        if config != Config::default() {
            let metrics = Metrics::register(registry).context("register the metrics of OTLP")?;
            let turns = Semaphore::new(REQUESTS_MAX);
            let origins = Origins::new(place, pods);
            let shared = Arc::new(Shared { origins, meaning, client, turns, metrics });
            let all = [
                (config.grpc, "--otlp-grpc", otlp_grpc::router(&shared)),
                (config.http, "--otlp-http", otlp_http::router(&shared)),
            ];
            for (address, flag, router) in all {
                let Some(address) = address else { continue };
                let listener = TcpListener::bind(address).await;
                let listener = listener.with_context(|| format!("listen on {address} ({flag})"))?;
                doors.push((listener, router));
            }
        }
        Ok(Self { doors })
    }

    /// The addresses that are listened on, gRPC's before HTTP's.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.doors.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect()
    }

    /// Serves until the end; open requests get their answers.
    ///
    /// # Errors
    /// When a listener breaks.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let serve = |(listener, router): (TcpListener, Router)| {
            let mut end = shutdown.clone();
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            let server = axum::serve(listener, service);
            server.with_graceful_shutdown(async move { end.wait().await }).into_future()
        };
        futures_util::future::try_join_all(self.doors.into_iter().map(serve)).await?;
        let mut end = shutdown.clone();
        end.wait().await;
        Ok(())
    }
}

/// Has each request wait for its turn before anything of its body is read.
fn with_turns(router: Router, shared: &Arc<Shared>, busy: fn() -> Response) -> Router {
    let wait = move |State(shared): State<Arc<Shared>>, request: Request, next: Next| async move {
        match tokio::time::timeout(TURN_TIMEOUT, shared.turns.acquire()).await {
            Ok(Ok(_turn)) => next.run(request).await,
            Ok(Err(_)) | Err(_) => {
                shared.metrics.turned_away.inc();
                busy()
            }
        }
    };
    router.layer(from_fn_with_state(shared.clone(), wait))
}
