//! End-to-end tests with the real binaries on loopback, and tests of the workspace itself.
//!
//! - `exactly_once`: container logs, real rotation, SIGKILL of agent and collector, every line once.
//! - `clients`: clients that others wrote: the OpenTelemetry SDK for Python, Prometheus.
//! - `meaning`: stack traces, annotations, redaction: from files to answers.
//! - `metrics`: an app's metric, from its page to PromQL and the autoscaler.
//! - `people`: what the agent tells people: `--check`, `--print-config`, `/status`, its metrics.
//! - `refusals`: what the binaries say when they cannot start.
//! - `reload`: the settings change while logs are read.
//! - `remembered`: what is known of pods outlives the agent, and an API that is away.
//! - `scenarios`: the list of ways in which agents lose or double lines, row by row.
//! - `spool`: the collector is away, and files vanish.
//! - `sources`: files of the node, the journal, OTLP of pods, sidecars, mounted volumes.
//! - `telemetry`: the binaries' own metrics and spans over OTLP.
//! - `docs`: pages made from the code.
//! - `workspace`: who may depend on whom.

mod clients;
mod docs;
mod exactly_once;
mod meaning;
mod metrics;
mod people;
mod refusals;
mod reload;
mod remembered;
mod scenarios;
mod sources;
mod spool;
mod stack;
mod telemetry;
mod workspace;
