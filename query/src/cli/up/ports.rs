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
        Ok(Self {
            http: exact("--http", wanted.http.unwrap_or(HTTP))?,
            otlp_grpc: match wanted.otlp_grpc {
                Some(addr) => exact("--otlp-grpc", addr)?,
                None => any("--otlp-grpc", OTLP_GRPC)?,
            },
            autoscale: match wanted.autoscale {
                Some(addr) => exact("--autoscale-https", addr)?,
                None => any("--autoscale-https", AUTOSCALE)?,
            },
            agent: any("--http", AGENT)?,
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

fn exact(flag: &'static str, text: &str) -> Result<SocketAddr, Error> {
    let reason = || format!("expected an address such as {HTTP}, found {text:?}");
    let addr = units::addr(text).ok_or_else(|| Error::Argument { flag, reason: reason() })?;
    free(addr).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Error::PortInUse { flag, addr },
        _ => Error::Argument { flag, reason: format!("{addr}: {error}") },
    })
}

fn any(flag: &'static str, default: &str) -> Result<SocketAddr, Error> {
    exact(flag, default).or_else(|_| exact(flag, "127.0.0.1:0"))
}

/// Binds and lets go again; with port 0 the system chooses.
fn free(addr: SocketAddr) -> std::io::Result<SocketAddr> {
    TcpListener::bind(addr)?.local_addr()
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
        assert_ne!(any("--otlp-grpc", &addr).unwrap(), taken.local_addr().unwrap());
        assert!(
            exact("--http", "nowhere").unwrap_err().to_string().contains("expected an address")
        );
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
