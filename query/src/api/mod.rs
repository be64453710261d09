//! The HTTP face of the query engines: Loki's API in `loki/`, Prometheus' in `prometheus/`.
//!
//! Engines run on blocking threads, at most [`ApiConfig::concurrency_max`] at once; a query is
//! cancelled when its client goes or its deadline passes (`run.rs`).

mod loki;
mod prometheus;
mod run;

use std::sync::Arc;
use std::time::Duration;

pub use loki::delete::router as deletion_router;
pub use loki::meta::{LEVEL_NAMES, SERVICE_LABELS};
use taffrail_kit::shutdown::Shutdown;

use crate::source::{LogSource, SeriesSource};

/// Limits of the query API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Queries that may run at once; further ones wait for their turn.
    pub concurrency_max: usize,
    /// Longest time a query may run.
    pub timeout: Duration,
    /// Most lines a log query may return (Loki's `max_entries_limit_per_query`).
    pub lines_max: usize,
    /// Most series a LogQL metric query may return (Loki's `max_query_series`).
    pub log_series_max: usize,
    /// Most samples a PromQL query may hold in memory (Prometheus' `--query.max-samples`).
    pub samples_max: usize,
    /// How far an instant selector looks back.
    pub lookback: Duration,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            concurrency_max: 8,
            timeout: Duration::from_secs(60),
            lines_max: 5000,
            log_series_max: 500,
            samples_max: 50_000_000,
            lookback: Duration::from_secs(300),
        }
    }
}

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// The log store.
    pub logs: Arc<dyn LogSource>,
    /// The metric store.
    pub series: Arc<dyn SeriesSource>,
    /// The limits.
    pub config: Arc<ApiConfig>,
    /// Permits for running queries.
    pub permits: Arc<tokio::sync::Semaphore>,
    /// Ends answers that have no end of their own.
    pub stop: Option<Shutdown>,
}

impl ApiState {
    /// Puts the two stores behind one API.
    #[must_use]
    pub fn new(logs: Arc<dyn LogSource>, series: Arc<dyn SeriesSource>, config: ApiConfig) -> Self {
        let permits = Arc::new(tokio::sync::Semaphore::new(config.concurrency_max));
        Self { logs, series, config: Arc::new(config), permits, stop: None }
    }

    /// The same, with tails that end when the process does.
    #[must_use]
    pub fn until(mut self, stop: Shutdown) -> Self {
        self.stop = Some(stop);
        self
    }
}

/// All query routes: `/loki/api/v1/*` (but for `push`, which is the collector's) and `/api/v1/*`.
pub fn router(state: ApiState) -> axum::Router {
    loki::router(state.clone()).merge(prometheus::router(state))
}
