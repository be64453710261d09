//! Connections of the autoscaling API: TLS, then HTTP/1.1 or HTTP/2, within limits.
//!
//! A client that stalls costs one of [`CONNECTIONS_MAX`] places and a timeout; one connection's
//! failure is never another's. At the end no new connection is taken, open ones finish what they
//! began, and what is left after [`END_TIMEOUT`] is cut.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::tls::Tls;

/// Connections at once. kube-apiserver holds a handful.
const CONNECTIONS_MAX: usize = 256;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: u32 = 32 << 10;
/// For the TLS handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two questions whether an HTTP/2 client is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// For open requests after the end has begun.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the age of the certificates.
const RENEW_INTERVAL: Duration = Duration::from_secs(3600);
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is done and the open requests are answered.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Tls>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (end, ending) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut renewal = interval(RENEW_INTERVAL);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = renewal.tick() => renew(tls.clone()),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(&listener, &places) => {
                let Some((stream, place)) = accepted else { continue };
                let Some(server) = tls.server_config() else {
                    debug!("refused a connection: the cluster has not said yet who may ask");
                    continue;
                };
                let connection = Connection {
                    acceptor: TlsAcceptor::from(server),
                    router: router.clone(),
                    ending: ending.clone(),
                    _place: place,
                };
                connections.spawn(connection.run(stream));
            }
        }
    }
    drop(listener);
    // There is no receiver when there is no connection.
    let _ = end.send(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(END_TIMEOUT, finished).await.is_err() {
        warn!(left = connections.len(), "connections did not end in time, cutting them");
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
            warn!(%error, "cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn renew(tls: Arc<Tls>) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = tls.renew() {
            warn!(%error, "cannot renew the certificates");
        }
    });
}

struct Connection {
    acceptor: TlsAcceptor,
    router: Router,
    ending: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(mut self, stream: TcpStream) {
        // Small answers must not wait for the next segment.
        let _ = stream.set_nodelay(true);
        let stream = match timeout(HEAD_TIMEOUT, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(%error, "TLS handshake failed"),
            Err(_) => return debug!("TLS handshake took too long"),
        };
        let service = TowerToHyperService::new(self.router);
        let builder = builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = ended(&mut self.ending) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            debug!(%error, "connection ended early");
        }
    }
}

/// Waits until the server ends. (The value is let go at once: it is a lock.)
async fn ended(ending: &mut watch::Receiver<bool>) {
    drop(ending.wait_for(|ending| *ending).await);
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(HEAD_TIMEOUT);
    builder
}
