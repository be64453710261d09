//! Runs one query: waits for its turn, runs it on a blocking thread, stops it at its deadline or
//! when its client goes.

use taffrail_kit::panics;

use crate::source::Cancel;

use super::ApiState;

/// Why a query did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// The deadline passed, in the queue or while running.
    #[error("query timed out after {0:?}; ask for a shorter range or add a label selector")]
    Timeout(std::time::Duration),
    /// The engine panicked: a bug.
    #[error("the query engine failed: {0}")]
    Panicked(String),
}

/// Cancels the query when the request's future is dropped (hyper does that when the client goes).
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs `work` on a blocking thread once a permit is free. `work` gets the token that it must look
/// at now and then.
pub(super) async fn run<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce(Cancel) -> T + Send + 'static,
) -> Result<T, RunError> {
    let cancel = Cancel::new();
    let _guard = CancelOnDrop(cancel.clone());
    let timeout = state.config.timeout;
    let permits = state.permits.clone();
    let run = async move {
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let span = tracing::info_span!("query.engine");
        tokio::task::spawn_blocking(move || {
            let _inside = span.enter();
            // Held until the engine has really stopped, also after its client went.
            let _permit = permit;
            panics::contained(|| work(cancel))
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
        .map_err(RunError::Panicked)
    };
    tokio::time::timeout(timeout, run).await.unwrap_or(Err(RunError::Timeout(timeout)))
}
