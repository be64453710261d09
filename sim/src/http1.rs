//! Just enough HTTP/1.1 for servers that misbehave on purpose: a request is read whole, an answer is
//! written as it is told, well-formed or not.
//!
//! Nothing here is for a server that should work: those use the libraries.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// What stands behind the question mark, as it came.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query, decoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(n, _)| *n == name).map(|(_, value)| decode(value))
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match byte {
            b'%' => {
                let (high, low) = (rest.next().and_then(hex), rest.next().and_then(hex));
                bytes.extend(high.zip(low).map(|(high, low)| high << 4 | low));
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one request. `None` when the other side has closed between two requests.
///
/// # Errors
/// What the connection says, and what is no request.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("head is too long"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return if bytes.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    };
    let mut request = parse_head(&String::from_utf8_lossy(&bytes[..head_end]))
        .ok_or_else(|| io::Error::other("not a request"))?;
    let length = request.header("content-length").map_or(Ok(0), str::parse::<usize>);
    let length = length.map_err(io::Error::other)?;
    if length > BODY_BYTES_MAX {
        return Err(io::Error::other("body is too long"));
    }
    request.body = bytes.split_off(head_end);
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(request))
}

fn parse_head(head: &str) -> Option<Request> {
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let (path, query) = (path.to_owned(), query.to_owned());
    Some(Request { method, path, query, headers, body: Vec::new() })
}

/// An answer, well-formed.
#[must_use]
pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format_args!("{name}: {value}\r\n").to_string());
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// Writes bytes and flushes them.
///
/// # Errors
/// What the connection says.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// A port of loopback that stays ours whether or not somebody listens: connections are refused in
/// between.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    /// Takes a free port of this address.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(ip: [u8; 4]) -> io::Result<Self> {
        Self::take_as(ip, 0)
    }

    /// Takes this port of this address.
    ///
    /// # Errors
    /// When it is not free, or there is no such address.
    pub fn take_as(ip: [u8; 4], port: u16) -> io::Result<Self> {
        let held = bound((ip, port).into())?;
        Ok(Self { address: held.local_addr()?, _held: held })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens for as long as the answer is kept.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen(&self) -> io::Result<TcpListener> {
        bound(self.address)?.listen(1024)
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Without it the socket that holds the port would keep the listener out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_read_whole() {
        let text = b"POST /v1/logs?a=x%2Fy&b=1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
        let request = read(&mut &text[..]).await.unwrap().unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/logs"));
        assert_eq!(request.parameter("a").as_deref(), Some("x/y"));
        assert_eq!(request.body, b"hello");
        assert_eq!(read(&mut &b""[..]).await.unwrap(), None);
        assert!(read(&mut &text[..text.len() - 1]).await.is_err());
    }

    #[tokio::test]
    async fn a_port_refuses_between_two_listeners() {
        let port = Port::take([127, 0, 0, 1]).unwrap();
        let connect = || tokio::net::TcpStream::connect(port.address());
        for _ in 0..2 {
            let refused = connect().await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = port.listen().unwrap();
            connect().await.unwrap();
            drop(listener);
        }
    }
}
