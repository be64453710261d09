//! Loki's query API, and our own streams of lines.
//!
//! | path | file |
//! |---|---|
//! | `/loki/api/v1/query`, `query_range` | `query.rs` |
//! | `/loki/api/v1/labels`, `label/{name}/values`, `series`, `detected_labels`, `index/stats`, `format_query`, `status/buildinfo`, `drilldown-limits` | `meta.rs` |
//! | `/loki/api/v1/detected_fields`, `detected_field/{name}/values` | `fields.rs` |
//! | `/loki/api/v1/patterns` | `patterns.rs` |
//! | `/loki/api/v1/index/volume`, `index/volume_range` | `volume.rs` |
//! | `/loki/api/v1/delete` | `delete.rs`; a router of its own, for who has a store that deletes |
//! | `/api/v1/logs/query` | `lines.rs` |
//! | `/api/v1/logs/tail` | `tail.rs` |
//! | `/loki/api/v1/tail` (websocket) | `socket.rs`, its frames in `frames.rs` |
//!
//! Parameters are read in `params.rs`, answers written in `answer.rs`, errors in `error.rs`.

mod answer;
pub(super) mod delete;
mod error;
mod fields;
mod frames;
mod lines;
pub(super) mod meta;
mod params;
mod patterns;
mod query;
mod socket;
mod tail;
#[cfg(test)]
mod tests;
mod volume;

use axum::Router;
use axum::routing::get;

use super::ApiState;

/// The routes of this API.
pub(super) fn router(state: ApiState) -> Router {
    Router::new()
        .route("/loki/api/v1/query", get(query::instant).post(query::instant))
        .route("/loki/api/v1/query_range", get(query::range).post(query::range))
        .route("/loki/api/v1/labels", get(meta::labels).post(meta::labels))
        .route("/loki/api/v1/label", get(meta::labels).post(meta::labels))
        .route("/loki/api/v1/label/{name}/values", get(meta::values).post(meta::values))
        .route("/loki/api/v1/series", get(meta::series).post(meta::series))
        .route(
            "/loki/api/v1/detected_labels",
            get(meta::detected_labels).post(meta::detected_labels),
        )
        .route("/loki/api/v1/index/stats", get(meta::index_stats).post(meta::index_stats))
        .route("/loki/api/v1/format_query", get(meta::format_query).post(meta::format_query))
        .route("/loki/api/v1/status/buildinfo", get(meta::buildinfo))
        .route("/loki/api/v1/drilldown-limits", get(meta::drilldown_limits))
        .route("/prometheus/api/v1/rules", get(meta::rules))
        .route("/prometheus/api/v1/alerts", get(meta::alerts))
        .route("/loki/api/v1/detected_fields", get(fields::fields).post(fields::fields))
        .route(
            "/loki/api/v1/detected_field/{name}/values",
            get(fields::values).post(fields::values),
        )
        .route("/loki/api/v1/patterns", get(patterns::patterns).post(patterns::patterns))
        .route("/loki/api/v1/index/volume", get(volume::total).post(volume::total))
        .route("/loki/api/v1/index/volume_range", get(volume::over_time).post(volume::over_time))
        .route("/loki/api/v1/tail", get(socket::tail))
        .route("/api/v1/logs/query", get(lines::query))
        .route("/api/v1/logs/tail", get(tail::tail))
        .with_state(state)
}
