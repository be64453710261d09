//! Prometheus' query API.

use super::ApiState;

/// Routes under `/api/v1/`.
pub(super) fn router(state: ApiState) -> axum::Router {
    axum::Router::new().with_state(state)
}
