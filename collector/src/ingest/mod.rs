//! Protocols in: one protocol a file.

pub mod otlp_metrics;
