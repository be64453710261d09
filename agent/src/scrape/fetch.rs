//! Asks a target for its metrics.
//!
//! The answer is bounded twice, as it comes and unpacked: a small gzip can hold a large body.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use taffrail_kit::http::{self as kit_http, Client};

use super::line::Format;

/// What is asked for when the target may choose.
const ACCEPT_BOTH: &str = "application/openmetrics-text;version=1.0.0;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
/// What is asked for when its OpenMetrics cannot be used.
const ACCEPT_TEXT: &str = "text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

const USER_AGENT: &str = concat!("taffrail-agent/", env!("CARGO_PKG_VERSION"));

/// Why a target gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(#[from] kit_http::Error),
    /// An answer with another status than 200.
    #[error("the answer has status {0}")]
    Status(u16),
    /// The body is packed in a way that was not asked for.
    #[error("content encoding {0:?}; expected none or gzip")]
    Encoding(String),
    /// The body is not the gzip that it says it is.
    #[error("gzip: {0}")]
    Gzip(std::io::Error),
    /// The body is longer than allowed, unpacked.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
}

/// A body as it came.
#[derive(Debug)]
pub struct Answer {
    body: Bytes,
    gzip: bool,
    body_max: usize,
    /// What it says it is written in.
    pub format: Format,
}

/// Asks one target.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
    url: String,
    timeout_header: String,
    body_max: usize,
}

impl Fetcher {
    /// A fetcher of `url` with a deadline for each answer and a limit on its bytes.
    ///
    /// # Errors
    /// When the URL cannot be asked.
    pub fn new(url: &str, timeout: Duration, body_max: usize) -> Result<Self, Error> {
        // The client's base is the server; the whole URL is given with each request.
        let bad = |reason: &str| kit_http::Error::Url { url: url.into(), reason: reason.into() };
        let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
        let scheme = uri.scheme_str().ok_or_else(|| bad("it has no scheme"))?;
        let host = uri.authority().ok_or_else(|| bad("it has no host"))?;
        let client = Client::new(&format!("{scheme}://{host}"))?;
        Ok(Self {
            client: client.with_timeout(timeout).with_body_max(body_max),
            url: url.to_owned(),
            timeout_header: timeout.as_secs_f64().to_string(),
            body_max,
        })
    }

    /// Asks once.
    ///
    /// # Errors
    /// When there is no usable answer within time and limit.
    pub async fn fetch(&self, text_only: bool) -> Result<Answer, Error> {
        let headers = [
            ("accept", if text_only { ACCEPT_TEXT } else { ACCEPT_BOTH }),
            ("accept-encoding", "gzip"),
            ("user-agent", USER_AGENT),
            ("x-prometheus-scrape-timeout-seconds", &*self.timeout_header),
        ];
        let response = self.client.get(&self.url, &headers).await?;
        if response.status != http::StatusCode::OK {
            return Err(Error::Status(response.status.as_u16()));
        }
        let gzip = match response.header("content-encoding").unwrap_or_default() {
            "" | "identity" => false,
            "gzip" | "x-gzip" => true,
            other => return Err(Error::Encoding(other.to_owned())),
        };
        let format = Format::of_content_type(response.header("content-type").unwrap_or_default());
        Ok(Answer { body: response.body, gzip, body_max: self.body_max, format })
    }
}

impl Answer {
    /// The body, unpacked. Takes the time that unpacking takes: not for a runtime's worker.
    ///
    /// # Errors
    /// When it is not gzip or too long.
    pub fn unpack(self) -> Result<Bytes, Error> {
        if !self.gzip {
            return Ok(self.body);
        }
        let mut body = Vec::new();
        let limit = self.body_max as u64 + 1;
        flate2::read::MultiGzDecoder::new(&*self.body)
            .take(limit)
            .read_to_end(&mut body)
            .map_err(Error::Gzip)?;
        if body.len() > self.body_max {
            Err(Error::TooLong(self.body_max))
        } else {
            Ok(body.into())
        }
    }
}
