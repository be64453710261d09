//! A collector for tests that fails as it is told, and otherwise keeps the rules of
//! `taffrail_model::wire`: it remembers each line with its labels, and the committed positions.
//!
//! What a request does is decided when it has been read whole; a [`Mode`] that keeps nothing commits
//! nothing. A change to [`Mode::Refuse`] cuts every connection and closes the port.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use taffrail_model::wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::http1::{self, Port, Request};

mod keep;
mod tls;

pub use keep::{Kept, Line};
pub use tls::Authority;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is kept and answered by the rules.
    Up,
    /// Nothing is kept; the answer has this status.
    Status(u16),
    /// Nothing is kept; 429 with `Retry-After` of so many seconds.
    Busy(u64),
    /// Nothing is kept and nothing is answered, until the other side gives up.
    Hang,
    /// Nobody listens.
    Refuse,
    /// It is kept, and the connection is reset before the answer.
    ResetAfterStore,
    /// It is kept, and the answer is 500.
    ErrorAfterStore,
    /// Nothing is kept; the answer is not HTTP.
    Garbage,
    /// It is kept, and the answer breaks off in its middle.
    HalfAnswer,
    /// It is kept, after this pause.
    Slow(Duration),
}

/// What is refused for its content, whatever the mode.
#[derive(Clone, Debug, Default)]
pub struct Picky {
    /// Batches with a line that holds this text are refused with 400.
    pub poison: Option<String>,
    /// Batches of more lines than this are refused with 413.
    pub lines_max: Option<usize>,
}

#[derive(Debug)]
struct Shared {
    port: Port,
    mode: watch::Sender<Mode>,
    next: Mutex<VecDeque<Mode>>,
    picky: Mutex<Picky>,
    kept: Mutex<Kept>,
    authority: Option<Authority>,
}

/// The collector. It ends with the runtime that it was started on.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Shared>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    /// Starts one on a free port, in [`Mode::Up`].
    ///
    /// # Errors
    /// What the system says.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Port::take([127, 0, 0, 1])?, None)
    }

    /// Likewise on this port, with TLS if there is an authority to vouch for it.
    ///
    /// # Errors
    /// What the system says.
    pub fn start_with(port: Port, authority: Option<Authority>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            port,
            mode: watch::Sender::new(Mode::Up),
            next: Mutex::default(),
            picky: Mutex::default(),
            kept: Mutex::default(),
            authority,
        });
        let listener = shared.port.listen()?;
        tokio::spawn(accept(shared.clone(), Some(listener)));
        Ok(Self(shared))
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.0.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.0.port.address())
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port.address().port()
    }

    /// The same collector, with all that it has, at another address.
    ///
    /// # Errors
    /// What the system says.
    pub fn moved_to(&self, port: Port) -> io::Result<Self> {
        let moved = Self::start_with(port, None)?;
        *lock(&moved.0.kept) = lock(&self.0.kept).clone();
        Ok(moved)
    }

    /// From now on requests are dealt with like this.
    pub fn set(&self, mode: Mode) {
        self.0.mode.send_replace(mode);
    }

    /// The next requests for logs are dealt with like this, one after the other; then comes the mode
    /// again.
    pub fn next(&self, modes: impl IntoIterator<Item = Mode>) {
        lock(&self.0.next).extend(modes);
    }

    /// From now on this is refused.
    pub fn refuse(&self, picky: Picky) {
        *lock(&self.0.picky) = picky;
    }

    /// The certificate that it shows is one that nobody knows, or again one of its authority.
    pub fn strange(&self, strange: bool) {
        if let Some(authority) = &self.0.authority {
            authority.set_strange(strange);
        }
    }

    /// Looks at what is kept.
    pub fn with<T>(&self, look: impl FnOnce(&Kept) -> T) -> T {
        look(&lock(&self.0.kept))
    }

    /// The texts of all lines, in the order in which they came.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.with(|kept| kept.lines.iter().map(|line| line.text.clone()).collect())
    }
}

/// Listens whenever the mode allows it.
async fn accept(shared: Arc<Shared>, mut listener: Option<TcpListener>) {
    let mut mode = shared.mode.subscribe();
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = shared.port.listen().ok();
        }
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = accept_one(listener.as_ref()) => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(shared.clone(), stream));
                }
            }
        }
    }
}

async fn accept_one(
    listener: Option<&TcpListener>,
) -> io::Result<(TcpStream, std::net::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let mut mode = shared.mode.subscribe();
    let serving = async {
        match &shared.authority {
            None => serve(&shared, stream).await,
            Some(authority) => {
                let stream = TlsAcceptor::from(authority.server()).accept(stream).await?;
                serve(&shared, stream).await
            }
        }
    };
    // Whoever is cut off, or breaks the rules of HTTP, shows in what the test waits for.
    tokio::select! {
        _served = serving => {}
        _refused = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

async fn serve(shared: &Shared, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(request) = http1::read(&mut stream).await? {
        let queued = if request.method == "POST" { lock(&shared.next).pop_front() } else { None };
        let mode = queued.unwrap_or_else(|| *shared.mode.borrow());
        lock(&shared.kept).count(&request, mode);
        match mode {
            Mode::Up => http1::write(&mut stream, &shared.answer(&request)).await?,
            Mode::Status(status) => {
                http1::write(&mut stream, &http1::answer(status, &[], b"as told")).await?;
            }
            Mode::Busy(seconds) => {
                let headers = [("retry-after", &*seconds.to_string())];
                http1::write(&mut stream, &http1::answer(429, &headers, b"busy")).await?;
            }
            Mode::Hang => {
                // What is sent meanwhile is nothing that is waited for.
                while stream.read(&mut [0; 1024]).await? > 0 {}
                return Ok(());
            }
            Mode::Refuse => return Ok(()),
            Mode::ResetAfterStore => {
                shared.answer(&request);
                return Ok(());
            }
            Mode::ErrorAfterStore => {
                shared.answer(&request);
                http1::write(&mut stream, &http1::answer(500, &[], b"as told")).await?;
            }
            Mode::Garbage => {
                http1::write(&mut stream, b"\x00\xFFthis is no answer\r\n\r\n").await?;
                return Ok(());
            }
            Mode::HalfAnswer => {
                let answer = shared.answer(&request);
                http1::write(&mut stream, &answer[..answer.len() / 2]).await?;
                return Ok(());
            }
            Mode::Slow(pause) => {
                tokio::time::sleep(pause).await;
                http1::write(&mut stream, &shared.answer(&request)).await?;
            }
        }
    }
    Ok(())
}

impl Shared {
    /// What the rules say.
    fn answer(&self, request: &Request) -> Vec<u8> {
        const JSON: [(&str, &str); 1] = [("content-type", wire::CONFLICT_CONTENT_TYPE)];
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", wire::POSITIONS_PATH) => {
                let prefix = request.parameter("prefix").unwrap_or_default();
                let positions = lock(&self.kept).positions_below(&prefix);
                http1::answer(200, &JSON, positions.to_string().as_bytes())
            }
            ("POST", "/v1/logs") => match decode(request) {
                Err(error) => http1::answer(400, &[], error.to_string().as_bytes()),
                Ok(logs) => {
                    let picky = lock(&self.picky).clone();
                    match lock(&self.kept).commit(&logs, &picky, Instant::now()) {
                        Ok(()) => http1::answer(200, &[], b""),
                        Err(keep::Refusal::Conflict(positions)) => {
                            http1::answer(409, &JSON, positions.to_string().as_bytes())
                        }
                        Err(keep::Refusal::Content(status, why)) => {
                            http1::answer(status, &[], why.as_bytes())
                        }
                    }
                }
            },
            ("POST", "/v1/metrics") => http1::answer(200, &[], b""),
            _ => http1::answer(404, &[], b"not here"),
        }
    }
}

fn decode(request: &Request) -> io::Result<ExportLogsServiceRequest> {
    let body = match request.header("content-encoding") {
        Some("zstd") => zstd::stream::decode_all(&request.body[..])?,
        _ => request.body.clone(),
    };
    ExportLogsServiceRequest::decode(&body[..]).map_err(io::Error::other)
}
