//! Settings of the agent: text from flags, environment and file → a checked [`Config`].
//!
//! [`SCHEMA`] is the one table of settings and their defaults. After [`Config::check`] nothing is
//! text any more.

mod schema;
mod surroundings;

use std::path::PathBuf;
use std::time::Duration;

use taffrail_kit::config::{Problem, Settings};
use taffrail_kit::http::Client;
use taffrail_kit::telemetry;
use taffrail_model::limits::LINE_BYTES_MAX;

use crate::enrich::Place;
use crate::files::{self, Files};
use crate::pods::volumes::Roots;
use crate::process::rules::Rules;
use crate::scrape::target;
use crate::{journal, process, receive, scrape, sidecar, spool};

pub use schema::SCHEMA;
pub use surroundings::Surroundings;

/// The shortest interval between two scrapes of a target.
const SCRAPE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The shortest limit on lines: less than a line of the container runtime (16 KiB) is cut always.
const LINE_BYTES_MIN: u64 = 1 << 10;
/// The smallest spool: less than this may not hold a single batch.
const SPOOL_BYTES_MIN: u64 = 1 << 20;

/// Where the pods come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodSource {
    /// A pod list file.
    File(PathBuf),
    /// The cluster of a kubeconfig.
    Kubeconfig(PathBuf),
    /// The cluster that the agent runs in.
    InCluster,
    /// Nowhere.
    None,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL of the collector.
    pub collector: String,
    /// Folder of the agent's own state.
    pub state_dir: PathBuf,
    /// Folder of the pods' logs.
    pub pod_logs: PathBuf,
    /// Where the pods' volumes are.
    pub roots: Roots,
    /// Where the pods come from.
    pub pods: PodSource,
    /// Node and cluster.
    pub place: Place,
    /// Where the agent answers, if it does.
    pub http: Option<std::net::SocketAddr>,
    /// Longest log line, in bytes.
    pub line_bytes_max: usize,
    /// How long the end waits.
    pub grace: Duration,
    /// What is scraped, and how.
    pub scrape: scrape::Config,
    /// What is kept while the collector is away.
    pub spool: Option<spool::Config>,
    /// What is done with lines where annotations say nothing else.
    pub rules: Rules,
    /// Labels of namespaces that are wanted.
    pub namespace_labels: Vec<String>,
    /// Log files of the node.
    pub files: Vec<Files>,
    /// The node's journal, if it is read.
    pub journal: Option<journal::Config>,
    /// The app beside which it runs, if it is a sidecar.
    pub sidecar: Option<sidecar::Config>,
    /// Where pods may send OTLP to.
    pub otlp: receive::Config,
}

impl Config {
    /// Checks what was given.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn check(settings: &Settings, around: &Surroundings) -> Result<Self, Vec<Problem>> {
        let mut problems = telemetry::check(settings);
        let collector = settings.required("collector").to_owned();
        if let Err(error) = Client::new(&collector) {
            problems.push(settings.problem("collector", error.to_string()));
        }
        let place = Place {
            cluster: settings.text("cluster").unwrap_or_default().to_owned(),
            node: check_node(settings, around, &mut problems),
        };
        let line_bytes = settings.bytes("max_line_bytes");
        if !(LINE_BYTES_MIN..=LINE_BYTES_MAX as u64).contains(&line_bytes) {
            problems.push(settings.problem("max_line_bytes", "expected 1KiB to 1MiB"));
        }
        let pods = check_pods(settings, around, &mut problems);
        let scrape = check_scrape(settings, &place, &mut problems);
        let spool = check_spool(settings, &mut problems);
        let rules = process::settings::rules(settings, &mut problems);
        let config = Self {
            collector,
            state_dir: settings.path("state_dir").unwrap_or_default(),
            pod_logs: settings.path("pod_logs").unwrap_or_default(),
            roots: Roots {
                kubelet: settings.path("kubelet_root").unwrap_or_default(),
                host: settings.path("host_root"),
            },
            pods,
            place,
            http: settings.addr("http"),
            line_bytes_max: size(line_bytes),
            grace: settings.duration("grace"),
            scrape,
            spool,
            rules,
            namespace_labels: settings.list("labels.namespace"),
            files: check_files(settings, &mut problems),
            journal: check_journal(settings, &mut problems),
            sidecar: check_sidecar(settings, around, &mut problems),
            otlp: receive::Config {
                grpc: settings.addr("otlp.grpc"),
                http: settings.addr("otlp.http"),
            },
        };
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The node's name is the first part of each file's identity, up to a slash.
fn check_node(settings: &Settings, around: &Surroundings, problems: &mut Vec<Problem>) -> String {
    let given = settings.text("node").map(str::to_owned);
    let node = given.or_else(|| around.node_name.clone()).or_else(|| around.host_name.clone());
    let node = node.unwrap_or_default();
    if node.is_empty() {
        problems.push(settings.problem("node", "is required, the host has no name"));
    } else if node.contains('/') || node.chars().any(char::is_control) {
        problems.push(settings.problem("node", format!("{node:?} is not the name of a node")));
    }
    node
}

fn check_pods(
    settings: &Settings,
    around: &Surroundings,
    problems: &mut Vec<Problem>,
) -> PodSource {
    match (settings.path("pods_file"), settings.path("kubeconfig")) {
        (Some(_), Some(_)) => {
            let both = "pods come from a file or from a cluster, not from both";
            problems.push(settings.problem("kubeconfig", both));
            PodSource::None
        }
        (Some(file), None) => PodSource::File(file),
        (None, Some(file)) => PodSource::Kubeconfig(file),
        // A sidecar knows its pod from the downward API, and asks nobody.
        (None, None) if settings.text("sidecar.files").is_some() => PodSource::None,
        (None, None) if around.in_cluster => PodSource::InCluster,
        (None, None) => PodSource::None,
    }
}

fn check_files(settings: &Settings, problems: &mut Vec<Problem>) -> Vec<Files> {
    let section = settings.section(files::SECTION);
    section.map_or(Ok(Vec::new()), files::of_settings).unwrap_or_else(|found| {
        problems.extend(found.into_iter().map(|(at, text)| settings.problem_at(at, text)));
        Vec::new()
    })
}

fn check_journal(settings: &Settings, problems: &mut Vec<Problem>) -> Option<journal::Config> {
    let path = settings.path("journal.path")?;
    let command = settings.required("journal.command").split_whitespace().map(str::to_owned);
    let command: Vec<String> = command.collect();
    if command.is_empty() {
        problems.push(settings.problem("journal.command", "expected a program"));
    }
    let units = settings.list("journal.units");
    Some(journal::Config { command, path, units, since: settings.duration("journal.since") })
}

fn check_sidecar(
    settings: &Settings,
    around: &Surroundings,
    problems: &mut Vec<Problem>,
) -> Option<sidecar::Config> {
    settings.text("sidecar.files")?;
    let patterns = settings.list("sidecar.files");
    let files: Option<Vec<_>> = patterns.iter().map(|p| crate::discover::split(p)).collect();
    let files = files.filter(|files| !files.is_empty()).unwrap_or_else(|| {
        let what = "expected patterns like /logs/**/*.log, separated by commas";
        problems.push(settings.problem("sidecar.files", what));
        Vec::new()
    });
    Some(sidecar::Config {
        files,
        podinfo: settings.path("sidecar.podinfo").unwrap_or_default(),
        done_file: settings.path("sidecar.done_file"),
        named: around.pod.clone(),
    })
}

fn check_scrape(settings: &Settings, place: &Place, problems: &mut Vec<Problem>) -> scrape::Config {
    let interval = settings.duration("scrape.interval");
    if interval < SCRAPE_INTERVAL_MIN {
        problems.push(settings.problem("scrape.interval", "expected 100ms or longer"));
    }
    let timeout = settings.duration("scrape.timeout").min(interval);
    if timeout.is_zero() {
        problems.push(settings.problem("scrape.timeout", "expected more than 0"));
    }
    let section = settings.section("scrape.targets");
    let targets = match section.map_or(Ok(Vec::new()), |node| target::of_settings(place, node)) {
        Ok(targets) => targets,
        Err(found) => {
            problems.extend(found.into_iter().map(|(at, text)| settings.problem_at(at, text)));
            Vec::new()
        }
    };
    scrape::Config {
        interval,
        timeout,
        body_bytes_max: size(settings.bytes("scrape.max_body")),
        samples_max: size(settings.count("scrape.max_samples")),
        queue_bytes_max: size(settings.bytes("scrape.queue")),
        targets,
    }
}

fn check_spool(settings: &Settings, problems: &mut Vec<Problem>) -> Option<spool::Config> {
    let bytes_max = settings.bytes("spool.max");
    if (1..SPOOL_BYTES_MIN).contains(&bytes_max) {
        problems.push(settings.problem("spool.max", "expected 1MiB or more, or 0B for none"));
    }
    let dir = settings.path("state_dir").unwrap_or_default().join("spool");
    let after = settings.duration("spool.after");
    (bytes_max > 0).then_some(spool::Config { dir, bytes_max, after })
}

#[cfg(test)]
mod tests;
