//! An HTTP client over hyper: pooled connections, TLS by rustls, a limit and a deadline on every
//! answer.
//!
//! The server side is axum's; nothing of it needs wrapping.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tracing::Instrument;

use crate::telemetry::trace;

/// Why there is no answer. An answer with a status that tells of a failure is no error here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error("{url:?} is not a URL that can be asked: {reason}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header that the caller gave cannot be sent.
    #[error("header {0} cannot be sent")]
    Header(String),
    /// No connection, or it broke.
    #[error("{url}: {reason}")]
    Connection {
        /// What was asked.
        url: String,
        /// The whole chain of causes on one line.
        reason: String,
        /// Whether the connection could not be made at all, so that the request cannot have been
        /// seen by the server.
        connecting: bool,
    },
    /// No answer within the time.
    #[error("{url}: no answer within {after:?}")]
    Timeout {
        /// What was asked.
        url: String,
        /// The time that was given.
        after: Duration,
    },
    /// The answer is longer than the caller takes.
    #[error("{url}: the answer is longer than {limit} bytes")]
    TooLong {
        /// What was asked.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, as it came (not decompressed).
    pub body: Bytes,
}

impl Response {
    /// The body as text, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text, if it is there and is ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Streaming {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    url: String,
    body: Incoming,
}

impl Streaming {
    /// The next piece of the body; `None` at its end. Dropping the answer closes the connection,
    /// which tells the server to stop.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|e| connection(&self.url, &e, false))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The rest of the body, whole, up to `limit` bytes.
    ///
    /// # Errors
    /// When the connection breaks or the body is longer.
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes, Error> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if whole.len() + piece.len() > limit {
                return Err(Error::TooLong { url: self.url.clone(), limit });
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// Asks one server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    timeout: Duration,
    body_max: usize,
}

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    /// A client of `base` (`http://host:port`, `https://…`, with or without a path). Requests name
    /// the rest of the path. Defaults: 30 s for an answer, 64 MiB.
    ///
    /// # Errors
    /// [`Error::Url`] when `base` is not an http or https URL with a host.
    pub fn new(base: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Error::Url { url: base.to_owned(), reason: reason.to_owned() };
        let uri: Uri = base.parse().map_err(|e| bad(&format!("{e}")))?;
        match uri.scheme_str() {
            Some("http" | "https") if uri.host().is_some_and(|h| !h.is_empty()) => {}
            _ => return Err(bad("expected http://HOST:PORT or https://HOST:PORT")),
        }
        if uri.query().is_some() {
            return Err(bad("a base URL has no query"));
        }
        let tls = tls_config(uri.scheme_str() == Some("https")).map_err(|e| bad(&e))?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { pool, base, timeout: Duration::from_secs(30), body_max: 64 << 20 })
    }

    /// The same client with another deadline for a whole answer (for a streamed one: its head).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same client with another limit on answers, in bytes.
    #[must_use]
    pub fn with_body_max(mut self, bytes: usize) -> Self {
        self.body_max = bytes;
        self
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET base + path` (`path` begins with `/` and may have a query), or `GET path` when it is a
    /// whole URL.
    ///
    /// # Errors
    /// When there is no whole answer within time and limit.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response, Error> {
        self.whole(Method::GET, path, headers, Bytes::new()).await
    }

    /// `POST base + path` with a body.
    ///
    /// # Errors
    /// When there is no whole answer within time and limit.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response, Error> {
        self.whole(Method::POST, path, headers, body).await
    }

    /// `GET` whose body is read piece by piece, without a deadline after the head.
    ///
    /// # Errors
    /// When there is no head within the time.
    pub async fn get_stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Streaming, Error> {
        let url = self.url(path);
        let sent = self.send(Method::GET, &url, headers, Bytes::new());
        tokio::time::timeout(self.timeout, sent)
            .await
            .map_err(|_| Error::Timeout { url, after: self.timeout })?
    }

    async fn whole(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response, Error> {
        let url = self.url(path);
        let work = async {
            let mut streaming = self.send(method, &url, headers, body).await?;
            let body = streaming.collect(self.body_max).await?;
            Ok(Response { status: streaming.status, headers: streaming.headers, body })
        };
        tokio::time::timeout(self.timeout, work)
            .await
            .map_err(|_| Error::Timeout { url: url.clone(), after: self.timeout })?
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() }
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Streaming, Error> {
        let uri: Uri =
            url.parse().map_err(|e| Error::Url { url: url.to_owned(), reason: format!("{e}") })?;
        let span = tracing::info_span!(
            "http.client",
            otel.kind = "client",
            http.request.method = %method,
            url.full = url,
            http.response.status_code = tracing::field::Empty,
        );
        let mut request = http::Request::builder().method(method).uri(uri);
        if let Some(parent) = trace::inject(&span) {
            request = request.header(trace::TRACEPARENT, parent);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| Error::Header(e.to_string()))?;
        let response = self
            .pool
            .request(request)
            .instrument(span.clone())
            .await
            .map_err(|e| connection(url, &e, e.is_connect()))?;
        span.record("http.response.status_code", response.status().as_u16());
        let (head, body) = response.into_parts();
        Ok(Streaming { status: head.status, headers: head.headers, url: url.to_owned(), body })
    }
}

/// Trusts what the system trusts. A client of a plain http server trusts nobody, so that it also
/// starts where no certificates are installed.
fn tls_config(trust_system: bool) -> Result<rustls::ClientConfig, String> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = if trust_system {
        builder.with_native_roots().map_err(|e| e.to_string())?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

/// hyper's errors say little by themselves; the chain of their causes says all.
fn connection(url: &str, error: &dyn std::error::Error, connecting: bool) -> Error {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !reason.contains(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        cause = next.source();
    }
    Error::Connection { url: url.to_owned(), reason, connecting }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};

    async fn serve() -> String {
        let app = axum::Router::new()
            .route(
                "/echo",
                post(|headers: HeaderMap, body: Bytes| async move {
                    (StatusCode::CREATED, [("x-seen", headers["x-asked"].clone())], body)
                }),
            )
            .route("/big", get(|| async { vec![b'x'; 5000] }))
            .route("/never", get(std::future::pending::<()>));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/")
    }

    #[tokio::test]
    async fn asks_and_reads_the_whole_answer() {
        let client = Client::new(&serve().await).expect("url");
        let answer =
            client.post("/echo", &[("x-asked", "1")], "body".into()).await.expect("answer");
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!((answer.header("x-seen"), answer.text().as_str()), (Some("1"), "body"));
        let mut streamed = client.get_stream("/big", &[]).await.expect("head");
        assert_eq!(streamed.collect(5000).await.expect("body").len(), 5000);
    }

    #[tokio::test]
    async fn limits_and_deadlines_hold() {
        let client = Client::new(&serve().await).expect("url").with_body_max(4999);
        assert!(matches!(client.get("/big", &[]).await, Err(Error::TooLong { limit: 4999, .. })));
        let hasty = client.with_timeout(Duration::from_millis(20));
        assert!(matches!(hasty.get("/never", &[]).await, Err(Error::Timeout { .. })));
    }

    #[tokio::test]
    async fn a_closed_port_is_said_plainly() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let client = Client::new(&format!("http://{address}")).expect("url");
        let error = client.get("/", &[]).await.expect_err("nobody listens");
        assert!(matches!(error, Error::Connection { connecting: true, .. }));
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[test]
    fn bad_urls_are_refused() {
        for url in ["", "localhost:4100", "ftp://x", "http://", "http://x/?q=1"] {
            assert!(matches!(Client::new(url), Err(Error::Url { .. })), "{url}");
        }
    }
}
