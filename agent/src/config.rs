//! Settings of the agent: text from flags, environment and file → a checked [`Config`].
//!
//! [`SCHEMA`] is the one table of settings and their defaults. After [`Config::check`] nothing is
//! text any more. The only file that looks at the environment and at the host's name.

use std::path::PathBuf;
use std::time::Duration;

use taffrail_kit::config::{Kind, Problem, Schema, Section, Setting, Settings};
use taffrail_kit::http::Client;
use taffrail_kit::telemetry;
use taffrail_model::limits::LINE_BYTES_MAX;

use crate::enrich::Place;
use crate::files::{self, Files};
use crate::pods::volumes::Roots;
use crate::process::rules::Rules;
use crate::scrape::target;
use crate::{journal, process, receive, scrape, sidecar, spool};

/// The shortest interval between two scrapes of a target.
const SCRAPE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The shortest limit on lines: less than a line of the container runtime (16 KiB) is cut always.
const LINE_BYTES_MIN: u64 = 1 << 10;
/// The smallest spool: less than this may not hold a single batch.
const SPOOL_BYTES_MIN: u64 = 1 << 20;
/// What the kernel says the host's name is.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The Kubernetes client tells of each failure in a line of its own; ours tell the cause, once.
const LOG_FILTER: Setting =
    Setting { default: Some("info,kube_client=off"), ..telemetry::SETTINGS[0] };

const fn setting(
    key: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, kind, default, required: false, help }
}

const fn required(key: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { key, kind, default: None, required: true, help }
}

/// The table.
pub const SCHEMA: Schema = Schema {
    program: "taffrail-agent",
    about: "Tails the logs and scrapes the metrics of one node and sends them to a collector.",
    env_prefix: "TAFFRAIL_AGENT",
    settings: &[
        required("collector", Kind::Url, "Collector that logs and metrics are sent to"),
        required("state_dir", Kind::Path, "Folder for what the agent keeps; one agent a folder"),
        setting(
            "pod_logs",
            Kind::Path,
            Some("/var/log/pods"),
            "Folder in which the kubelet keeps the logs of pods",
        ),
        setting(
            "pods_file",
            Kind::Path,
            None,
            "Where there is no cluster: file with the pods, as `kubectl get pods -o json` prints it",
        ),
        setting("kubeconfig", Kind::Path, None, "Outside of a cluster: kubeconfig of one to watch"),
        setting(
            "kubelet_root",
            Kind::Path,
            Some("/var/lib/kubelet"),
            "Folder in which the kubelet keeps the volumes of pods",
        ),
        setting(
            "node",
            Kind::Text,
            None,
            "Name of this node; without it NODE_NAME in the environment, then the host's name",
        ),
        setting(
            "host_root",
            Kind::Path,
            None,
            "Folder in which the agent sees the node's root, for volumes of kind hostPath; none: at /",
        ),
        setting("cluster", Kind::Text, None, "Name of the cluster, the label `cluster`"),
        setting("http", Kind::Addr, None, "Address of /metrics, /livez, /readyz and /status"),
        setting("max_line_bytes", Kind::Bytes, Some("1MiB"), "Longer log lines are cut"),
        setting("grace", Kind::Duration, Some("20s"), "How long the end waits for the collector"),
        setting(
            "multiline",
            Kind::Text,
            Some("auto"),
            "Joins stack traces to one record (auto) or leaves each line alone (off); pods may differ",
        ),
        setting(
            "labels.namespace",
            Kind::Text,
            None,
            "Labels of namespaces that streams and series carry as namespace_LABEL, separated by commas",
        ),
        setting(
            "redact.presets",
            Kind::Text,
            None,
            "What is taken out of all lines: secrets, pci, healthcare or single detectors, separated by commas",
        ),
        setting(
            "redact.unknown_pods",
            Kind::Text,
            None,
            "What is taken out besides while a pod and its annotations are not known, separated by commas",
        ),
        setting(
            "redact.action",
            Kind::Text,
            Some("mask"),
            "What is done with it: mask, hash or drop",
        ),
        setting(
            "redact.key_file",
            Kind::Path,
            None,
            "File with the key of hashes, 16 bytes or more",
        ),
        setting("scrape.interval", Kind::Duration, Some("15s"), "How often a target is scraped"),
        setting(
            "scrape.timeout",
            Kind::Duration,
            Some("10s"),
            "How long a target may take to answer, at most the interval",
        ),
        setting(
            "scrape.max_body",
            Kind::Bytes,
            Some("32MiB"),
            "Longer answers of a target are refused, measured unpacked",
        ),
        setting(
            "scrape.max_samples",
            Kind::Count,
            Some("100000"),
            "Answers of a target with more samples are refused",
        ),
        setting(
            "scrape.queue",
            Kind::Bytes,
            Some("32MiB"),
            "Samples that wait for the collector, in memory; the oldest go when it is full",
        ),
        setting(
            "spool.max",
            Kind::Bytes,
            Some("1GiB"),
            "Disk below the state folder for log lines that would vanish while the collector is \
             away; 0B: none",
        ),
        setting(
            "spool.after",
            Kind::Duration,
            Some("2s"),
            "How long the collector does not answer before it counts as away",
        ),
        setting(
            "otlp.grpc",
            Kind::Addr,
            None,
            "Address of OTLP/gRPC for the pods of the node; none without it",
        ),
        setting(
            "otlp.http",
            Kind::Addr,
            None,
            "Address of OTLP/HTTP for the pods of the node; none without it",
        ),
        setting(
            "journal.path",
            Kind::Path,
            None,
            "Folder of the node's journal, for example /var/log/journal; not read without it",
        ),
        setting(
            "journal.units",
            Kind::Text,
            None,
            "Units that are read, separated by commas; `kernel` is the kernel; none: all",
        ),
        setting(
            "journal.since",
            Kind::Duration,
            Some("1d"),
            "How far back the first reading of a journal goes",
        ),
        setting(
            "journal.command",
            Kind::Text,
            Some("journalctl"),
            "The program that reads it, with arguments before ours, separated by spaces",
        ),
        setting(
            "sidecar.files",
            Kind::Text,
            None,
            "Beside an app: patterns of its log files, separated by commas; nothing else is read then",
        ),
        setting(
            "sidecar.podinfo",
            Kind::Path,
            Some("/etc/podinfo"),
            "Folder of the downward API: labels, annotations, name, namespace, uid",
        ),
        setting(
            "sidecar.done_file",
            Kind::Path,
            None,
            "File that says that the app has ended: the agent delivers all and ends too",
        ),
        LOG_FILTER,
        telemetry::SETTINGS[1],
        telemetry::SETTINGS[2],
        telemetry::SETTINGS[3],
        telemetry::SETTINGS[4],
    ],
    sections: &[
        Section {
            key: "scrape.targets",
            help: "Targets beside those that pods name: a list of {url, labels}",
        },
        Section {
            key: "redact.rules",
            help: "Own patterns that are taken out of all lines: a list of {name, regex, action}",
        },
        Section {
            key: files::SECTION,
            help: "Log files of the node: a list of {path, exclude, labels}, `path` an absolute pattern",
        },
    ],
};

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

/// What Kubernetes and the host say about where the agent runs.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `NODE_NAME`, which the DaemonSet fills from `spec.nodeName`.
    pub node_name: Option<String>,
    /// `POD_NAMESPACE`, `POD_NAME` and `POD_UID`, which a sidecar may have from the downward API.
    pub pod: [Option<String>; 3],
    /// Whether this is a pod of a cluster.
    pub in_cluster: bool,
    /// The host's name.
    pub host_name: Option<String>,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn look() -> Self {
        let text = |name| std::env::var_os(name)?.into_string().ok().filter(|v| !v.is_empty());
        let host_name = std::fs::read_to_string(HOST_NAME).ok();
        Self {
            node_name: text("NODE_NAME"),
            pod: ["POD_NAMESPACE", "POD_NAME", "POD_UID"].map(text),
            in_cluster: text("KUBERNETES_SERVICE_HOST").is_some(),
            host_name: host_name.map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()),
        }
    }
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
            namespace_labels: list(settings.text("labels.namespace")),
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

/// The items of a text with commas.
fn list(text: Option<&str>) -> Vec<String> {
    let items = text.unwrap_or_default().split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
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

fn words(text: &str, between: impl Fn(char) -> bool) -> Vec<String> {
    text.split(between).map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn check_journal(settings: &Settings, problems: &mut Vec<Problem>) -> Option<journal::Config> {
    let path = settings.path("journal.path")?;
    let command = words(settings.required("journal.command"), char::is_whitespace);
    if command.is_empty() {
        problems.push(settings.problem("journal.command", "expected a program"));
    }
    let units = words(settings.text("journal.units").unwrap_or_default(), |c| c == ',');
    Some(journal::Config { command, path, units, since: settings.duration("journal.since") })
}

fn check_sidecar(
    settings: &Settings,
    around: &Surroundings,
    problems: &mut Vec<Problem>,
) -> Option<sidecar::Config> {
    let patterns = words(settings.text("sidecar.files")?, |c| c == ',');
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
mod tests {
    use super::*;

    const NEEDED: [&str; 4] = ["--collector", "http://c:4100", "--state-dir", "/s"];

    fn check(arguments: &[&str], file: &str, around: &Surroundings) -> Result<Config, Vec<String>> {
        let all =
            NEEDED.iter().chain(arguments).map(Into::into).chain(["--config", "f"].map(Into::into));
        let settings = SCHEMA.load_from(all, &|_| None, &|_| Ok(file.to_owned())).expect("reads");
        let problems = |all: Vec<Problem>| all.iter().map(ToString::to_string).collect();
        Config::check(&settings, around).map_err(problems)
    }

    fn host(name: &str) -> Surroundings {
        Surroundings { host_name: Some(name.into()), ..Surroundings::default() }
    }

    #[test]
    fn defaults_suit_a_node() {
        let config = check(&[], "", &host("h")).expect("good");
        assert_eq!(config.place.node, "h");
        assert_eq!(config.pods, PodSource::None);
        assert_eq!(config.pod_logs, PathBuf::from("/var/log/pods"));
        assert_eq!(config.line_bytes_max, LINE_BYTES_MAX);
        assert_eq!(config.scrape.timeout, Duration::from_secs(10));
        assert_eq!(config.http, None);
    }

    #[test]
    fn the_node_is_named_by_the_nearest() {
        let around = Surroundings { node_name: Some("env".into()), ..host("h") };
        assert_eq!(check(&[], "", &around).expect("good").place.node, "env");
        assert_eq!(check(&["--node", "flag"], "", &around).expect("good").place.node, "flag");
        let nameless = check(&[], "", &Surroundings::default()).expect_err("no name");
        assert_eq!(nameless, ["--node: is required, the host has no name"]);
    }

    #[test]
    fn pods_come_from_one_place() {
        let cluster = Surroundings { in_cluster: true, ..host("h") };
        let cases: [(&[&str], PodSource); 3] = [
            (&[], PodSource::InCluster),
            (&["--pods-file", "p"], PodSource::File("p".into())),
            (&["--kubeconfig", "k"], PodSource::Kubeconfig("k".into())),
        ];
        for (arguments, expected) in cases {
            assert_eq!(check(arguments, "", &cluster).expect("good").pods, expected);
        }
    }

    #[test]
    fn all_problems_are_told_with_their_places() {
        let file =
            "scrape:\n  interval: 5ms\n  targets:\n  - {url: nowhere}\nmax_line_bytes: 2MiB\n";
        let arguments =
            ["--node", "a/b", "--pods-file", "p", "--kubeconfig", "k", "--scrape-timeout", "0s"];
        let problems = check(&arguments, file, &host("h")).expect_err("bad");
        assert_eq!(
            problems,
            [
                "--node: \"a/b\" is not the name of a node",
                "f:5:17: expected 1KiB to 1MiB",
                "--kubeconfig: pods come from a file or from a cluster, not from both",
                "f:2:13: expected 100ms or longer",
                "--scrape-timeout: expected more than 0",
                "f:4:11: \"nowhere\" is not a URL; expected http://HOST:PORT/metrics",
            ]
        );
    }

    #[test]
    fn short_intervals_shorten_the_timeout() {
        let config = check(&["--scrape-interval", "1s"], "", &host("h")).expect("good");
        assert_eq!(config.scrape.timeout, Duration::from_secs(1));
    }
}
