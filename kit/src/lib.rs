//! Plumbing of a process, without a word of the domain: [`clock`], [`config`], [`http`],
//! [`shutdown`], [`telemetry`].

pub mod clock;
pub mod config;
pub mod http;
pub mod shutdown;
pub mod telemetry;
