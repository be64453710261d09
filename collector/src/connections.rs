//! Plain HTTP connections, HTTP/1.1 or HTTP/2 without TLS, within limits.
//!
//! A client that stalls costs one of [`CONNECTIONS_MAX`] places and a timeout. At the end no new
//! connection is taken, open ones finish the request they are at, and what is left after the grace
//! is cut.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use taffrail_kit::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at once on one port: each node's agent holds one or two.
const CONNECTIONS_MAX: usize = 8192;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Largest head of an HTTP/2 request, in bytes. Queries stand in it.
const HEAD_BYTES_MAX: u32 = 256 << 10;
/// For the head of a request, and so for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two questions whether an HTTP/2 client is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop, then for as long as open requests take, at most `grace`.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    mut stop: Shutdown,
    grace: Duration,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.wait() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(&listener, &places) => {
                let Some((stream, place)) = accepted else { continue };
                connections.spawn(connection(stream, routes.clone(), stop.clone(), place));
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(grace, finished).await.is_err() {
        tracing::warn!(left = connections.len(), "requests did not end in time, cutting them");
        connections.shutdown().await;
    }
}

/// A connection and the place it takes; waits for a place first.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    routes: Router,
    mut stop: Shutdown,
    _place: OwnedSemaphorePermit,
) {
    // Small answers must not wait for the next segment.
    let _ = stream.set_nodelay(true);
    let builder = builder();
    let service = TowerToHyperService::new(routes);
    // Live tails over websockets are upgrades.
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL);
    builder
}
