//! Which addresses `up` listens on. Told ahead of the start, so that a taken port is a clear word
//! and not the death of a child.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use taffrail_kit::config::units;

use super::super::Error;

/// Where the query API listens by default.
pub(super) const HTTP: &str = "127.0.0.1:4100";
const OTLP_GRPC: &str = "127.0.0.1:4317";
const AUTOSCALE: &str = "127.0.0.1:4143";
const AGENT: &str = "127.0.0.1:4101";

/// The addresses of one Taffrail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// The collector's HTTP port.
    pub(super) http: SocketAddr,
    /// OTLP over gRPC.
    pub(super) otlp_grpc: SocketAddr,
    /// The autoscaling API.
    pub(super) autoscale: SocketAddr,
    /// The agent's own status.
    pub(super) agent: SocketAddr,
}

/// What was asked for; `None` where any address will do.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted<'a> {
    pub(super) http: Option<&'a str>,
    pub(super) otlp_grpc: Option<&'a str>,
    pub(super) autoscale: Option<&'a str>,
}

impl Ports {
    /// Finds free ports. One that was asked for must be free, and so must the default of the query
    /// API, where all commands look; the others move when they are taken.
    pub(super) fn find(wanted: &Wanted<'_>) -> Result<Self, Error> {
        let mut held = Held::default();
        let http = held.exact("--http", wanted.http.unwrap_or(HTTP))?;
        let mut other = |flag, wanted: Option<&str>, default| match wanted {
            Some(addr) => held.exact(flag, addr),
            None => held.any(flag, default),
        };
        Ok(Self {
            http,
            otlp_grpc: other("--otlp-grpc", wanted.otlp_grpc, OTLP_GRPC)?,
            autoscale: other("--autoscale-https", wanted.autoscale, AUTOSCALE)?,
            agent: other("--http", None, AGENT)?,
        })
    }

    /// The URL of the query API for programs on this machine.
    pub(super) fn url(&self) -> String {
        format!("http://{}", reachable(self.http))
    }
}

/// Where a program on this machine reaches a listener: one on all addresses by loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, addr.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, addr.port()).into()
        }
        _ => addr,
    }
}

/// The addresses that were found so far, bound until all are known: none is given twice.
#[derive(Default)]
struct Held(Vec<TcpListener>);

impl Held {
    fn exact(&mut self, flag: &'static str, text: &str) -> Result<SocketAddr, Error> {
        let reason = || format!("expected an address such as {HTTP}, found {text:?}");
        let addr = units::addr(text).ok_or_else(|| Error::Argument { flag, reason: reason() })?;
        self.bind(addr).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => Error::PortInUse { flag, addr },
            _ => Error::Argument { flag, reason: format!("{addr}: {error}") },
        })
    }

    fn any(&mut self, flag: &'static str, default: &str) -> Result<SocketAddr, Error> {
        self.exact(flag, default).or_else(|_| self.exact(flag, "127.0.0.1:0"))
    }

    /// With port 0 the system chooses.
    fn bind(&mut self, addr: SocketAddr) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(addr)?;
        let addr = listener.local_addr()?;
        self.0.push(listener);
        Ok(addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        let wanted = Wanted { http: Some(&addr), ..Wanted::default() };
        let error = Ports::find(&wanted).unwrap_err();
        assert!(matches!(error, Error::PortInUse { flag: "--http", .. }));
        assert!(error.to_string().contains(&addr), "{error}");
        // A default that is taken moves.
        assert_ne!(Held::default().any("--otlp-grpc", &addr).unwrap(), taken.local_addr().unwrap());
        let nowhere = Held::default().exact("--http", "nowhere").unwrap_err().to_string();
        assert!(nowhere.contains("expected an address"), "{nowhere}");
    }

    #[test]
    fn no_address_is_given_twice() {
        // A port of a default that was asked for under another flag: the default moves.
        let mut held = Held::default();
        let first = held.exact("--http", "127.0.0.1:0").unwrap();
        assert_ne!(held.any("--otlp-grpc", &first.to_string()).unwrap(), first);
        drop(held);
        let twice = first.to_string();
        let wanted = Wanted { http: Some(&twice), otlp_grpc: Some(&twice), ..Wanted::default() };
        let error = Ports::find(&wanted).unwrap_err();
        assert!(matches!(error, Error::PortInUse { flag: "--otlp-grpc", .. }), "{error}");
    }

    #[test]
    fn all_addresses_are_reached_by_loopback() {
        let cases =
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")];
        for (addr, expected) in cases {
            assert_eq!(reachable(addr.parse().unwrap()).to_string(), expected);
        }
    }
}
