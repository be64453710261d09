//! The read path: text -> plan -> rows -> answer.
//!
//! [`logql`] and [`promql`] turn a query text into a plan and run it over a [`source::LogSource`] or
//! [`source::SeriesSource`]; [`api`] is the HTTP face that Loki's and Prometheus' clients expect;
//! the binary `taffrail` (`main.rs`, `cli/`) is a client of that face. [`demo`] writes the workload
//! of `taffrail up --demo`; its corpus also feeds the benches.
//!
//! Knows `model` and `kit` only: no tantivy, no disk of its own, no Kubernetes.

pub mod api;
pub mod deletion;
pub mod demo;
pub mod logql;
pub mod promql;
pub mod source;
