//! The collector as the commands see it: JSON answers, and answers that come line by line.
//!
//! Dropping an answer closes its connection, which ends the server's work on it.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde_json::Value;
use taffrail_kit::http::{Client, Error as HttpError, Streaming};

use super::Error;

/// How long the server may work before its answer begins.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Longest JSON answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Longest line of a streamed answer.
const LINE_BYTES_MAX: usize = 32 << 20;
/// Longest text of a refusal.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// One collector.
#[derive(Debug)]
pub(super) struct Server {
    client: Client,
}

/// The parameters of a request, in order.
pub(super) type Parameters<'a> = [(&'a str, String)];

impl Server {
    /// The collector at a URL; `http://` may be left out.
    pub(super) fn new(addr: &str) -> Result<Self, Error> {
        let url = if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
        let client = Client::new(&url)
            .map_err(|e| Error::Argument { flag: "--addr", reason: e.to_string() })?;
        Ok(Self { client: client.with_timeout(TIMEOUT).with_body_max(ANSWER_BYTES_MAX) })
    }

    /// The `data` of an answer in the envelope that Loki and Prometheus share; null when it has
    /// none.
    pub(super) async fn data(
        &self,
        path: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Value, Error> {
        let mut envelope = self.json(path, parameters).await?;
        match envelope.get("status").and_then(Value::as_str) {
            Some("success") => Ok(envelope.get_mut("data").map(Value::take).unwrap_or_default()),
            _ => Err(Error::Answer("it has no status".into())),
        }
    }

    /// An answer that is JSON, as it is.
    pub(super) async fn json(
        &self,
        path: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Value, Error> {
        let mut answer = self.ask(path, parameters).await?;
        let body = answer.collect(ANSWER_BYTES_MAX).await.map_err(Error::Connection)?;
        serde_json::from_slice(&body).map_err(|e| Error::Answer(e.to_string()))
    }

    /// An answer of one JSON object a line.
    pub(super) async fn lines(
        &self,
        path: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Lines, Error> {
        let answer = self.ask(path, parameters).await?;
        Ok(Lines { answer, buffer: BytesMut::new(), searched: 0 })
    }

    async fn ask(&self, path: &str, parameters: &Parameters<'_>) -> Result<Streaming, Error> {
        let url = with_query(path, parameters);
        let mut answer = self.client.get_stream(&url, &[]).await.map_err(|error| match error {
            HttpError::Connection { reason, connecting: true, .. } => {
                // The innermost cause is the one that people know: "Connection refused".
                let reason = reason.rsplit(": ").next().unwrap_or_default().to_owned();
                Error::Unreachable { addr: self.client.base().to_owned(), reason }
            }
            other => Error::Connection(other),
        })?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let body = answer.collect(REFUSAL_BYTES_MAX).await.map_err(Error::Connection)?;
        let text = refusal(&String::from_utf8_lossy(&body));
        let nothing = || format!("the server answered {} to {path}", answer.status);
        Err(Error::Refused(text.unwrap_or_else(nothing)))
    }
}

/// What a refusal says: Prometheus' `error` field, or the text as it is.
fn refusal(body: &str) -> Option<String> {
    let body = body.trim_end();
    let field = serde_json::from_str::<Value>(body)
        .ok()
        .and_then(|json| json.get("error")?.as_str().map(str::to_owned));
    field.or_else(|| (!body.is_empty()).then(|| body.to_owned()))
}

fn with_query(path: &str, parameters: &Parameters<'_>) -> String {
    let mut url = path.to_owned();
    for (at, (name, value)) in parameters.iter().enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        push_encoded(&mut url, value);
    }
    url
}

/// Percent-encodes what is not unreserved in a URL.
pub(super) fn push_encoded(url: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(byte));
            }
            _ => write!(url, "%{byte:02X}").expect("writing to a String does not fail"),
        }
    }
}

/// An answer that comes line by line.
#[derive(Debug)]
pub(super) struct Lines {
    answer: Streaming,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to have no newline.
    searched: usize,
}

impl Lines {
    /// A line that is here already.
    pub(super) fn ready(&mut self) -> Option<Vec<u8>> {
        let found = memchr::memchr(b'\n', &self.buffer[self.searched..]);
        let Some(at) = found.map(|at| at + self.searched) else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(at);
        self.buffer.advance(1);
        self.searched = 0;
        Some(line.to_vec())
    }

    /// Waits for more of the answer; false at its end.
    pub(super) async fn more(&mut self) -> Result<bool, Error> {
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(Error::Answer(format!("a line has more than {LINE_BYTES_MAX} bytes")));
        }
        match self.answer.chunk().await.map_err(Error::Connection)? {
            Some(chunk) => {
                self.buffer.extend_from_slice(&chunk);
                Ok(true)
            }
            None if self.buffer.is_empty() => Ok(false),
            None => {
                // The last line came without a newline.
                self.buffer.extend_from_slice(b"\n");
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake;
    use axum::routing::get;
    use proptest::prelude::*;

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut() {
        let pieces = ["{\"a\":1}\n{\"b\"", ":2}", "\n\n{\"c\":3}"];
        let body = move || async move {
            let pieces = pieces.map(|p| Ok::<_, std::io::Error>(bytes::Bytes::from(p)));
            axum::body::Body::from_stream(futures_util::stream::iter(pieces))
        };
        let server = fake::serve(axum::Router::new().route("/lines", get(body))).await;
        let mut lines = server.lines("/lines", &[]).await.unwrap();
        let mut seen = Vec::new();
        loop {
            while let Some(line) = lines.ready() {
                seen.push(String::from_utf8(line).unwrap());
            }
            if !lines.more().await.unwrap() {
                break;
            }
        }
        assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}", "", "{\"c\":3}"]);
    }

    #[tokio::test]
    async fn refusals_keep_their_words() {
        use axum::http::StatusCode;
        let caret = "parse error at line 1, col 3: unexpected `x`\n{a x\n   ^";
        let json = r#"{"status":"error","errorType":"bad_data","error":"1:2: no\nup up\n ^"}"#;
        let router = axum::Router::new()
            .route(
                "/text",
                get(move || async move { (StatusCode::BAD_REQUEST, format!("{caret}\n")) }),
            )
            .route("/json", get(move || async move { (StatusCode::BAD_REQUEST, json) }))
            .route("/empty", get(|| async { StatusCode::NOT_FOUND }))
            .route("/odd", get(|| async { "<html>" }));
        let server = fake::serve(router).await;
        let mut said = Vec::new();
        for path in ["/text", "/json", "/empty", "/odd"] {
            said.push(server.data(path, &[]).await.unwrap_err().to_string());
        }
        assert_eq!(said[0], caret);
        assert_eq!(said[1], "1:2: no\nup up\n ^");
        assert_eq!(said[2], "the server answered 404 Not Found to /empty");
        assert!(said[3].starts_with("the answer of the server cannot be read"), "{}", said[3]);
    }

    #[tokio::test]
    async fn a_closed_port_says_what_to_do() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        drop(listener);
        let server = Server::new(&addr).unwrap();
        let error = server.data("/x", &[]).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("taffrail up"), "{error}");
        assert!(matches!(Server::new("ftp://x"), Err(Error::Argument { .. })));
    }

    proptest! {
        #[test]
        fn any_text_survives_the_url(text in any::<String>()) {
            let url = with_query("/q", &[("query", text.clone())]);
            let uri: http::Uri = url.parse().unwrap();
            let query: axum::extract::Query<std::collections::HashMap<String, String>> =
                axum::extract::Query::try_from_uri(&uri).unwrap();
            prop_assert_eq!(&query["query"], &text);
        }
    }
}
