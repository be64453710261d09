//! Plumbing of a process, without a word of the domain: [`clock`], [`config`], [`http`], [`panics`],
//! [`journal`], [`shutdown`], [`telemetry`].

pub mod clock;
pub mod config;
pub mod http;
pub mod journal;
pub mod panics;
pub mod shutdown;
pub mod telemetry;
