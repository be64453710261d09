//! Loki's query API.

use super::ApiState;

/// The routes of this API.
pub(super) fn router(state: ApiState) -> axum::Router {
    axum::Router::new().with_state(state)
}
