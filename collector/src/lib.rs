//! The keeper: doors ([`ingest`]), durability ([`wal`]), two stores ([`logs`], [`metrics`]), the
//! autoscaling API ([`autoscale`]), and the HTTP server that joins them ([`server`]).

pub mod autoscale;
pub mod config;
pub mod ingest;
pub mod logs;
pub mod metrics;
pub mod server;
pub mod wal;
