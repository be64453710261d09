//! The one table of the agent's settings and their defaults, and which of them are followed while it
//! runs ([`Setting::live`]; taking them up is `crate::reload`'s).

use taffrail_kit::config::{Kind, Schema, Section, Setting};
use taffrail_kit::telemetry;

use crate::files;

/// The Kubernetes client tells of each failure in a line of its own; ours tell the cause, once.
const LOG_FILTER: Setting =
    Setting { default: Some("info,kube_client=off"), live: true, ..telemetry::SETTINGS[0] };

/// The table.
pub const SCHEMA: Schema = Schema {
    program: "taffrail-agent",
    about: "Tails the logs and scrapes the metrics of one node and sends them to a collector.",
    env_prefix: "TAFFRAIL_AGENT",
    settings: &[
        Setting::required("collector", Kind::Url, "Collector that logs and metrics are sent to"),
        Setting::required("state_dir", Kind::Path, "Folder for what the agent keeps; one agent a folder"),
        Setting::new(
            "pod_logs",
            Kind::Path,
            Some("/var/log/pods"),
            "Folder in which the kubelet keeps the logs of pods",
        ),
        Setting::new(
            "pods_file",
            Kind::Path,
            None,
            "Where there is no cluster: file with the pods, as `kubectl get pods -o json` prints it",
        ),
        Setting::new("kubeconfig", Kind::Path, None, "Outside of a cluster: kubeconfig of one to watch"),
        Setting::new(
            "kubelet_root",
            Kind::Path,
            Some("/var/lib/kubelet"),
            "Folder in which the kubelet keeps the volumes of pods",
        ),
        Setting::new(
            "node",
            Kind::Text,
            None,
            "Name of this node; without it NODE_NAME in the environment, then the host's name",
        ),
        Setting::new(
            "host_root",
            Kind::Path,
            None,
            "Folder in which the agent sees the node's root, for volumes of kind hostPath; none: at /",
        ),
        Setting::new("cluster", Kind::Text, None, "Name of the cluster, the label `cluster`"),
        Setting::new("http", Kind::Addr, None, "Address of /metrics, /livez, /readyz and /status"),
        Setting::new("max_line_bytes", Kind::Bytes, Some("1MiB"), "Longer log lines are cut"),
        Setting::new("grace", Kind::Duration, Some("20s"), "How long the end waits for the collector"),
        Setting::new(
            "multiline",
            Kind::Text,
            Some("auto"),
            "Joins stack traces to one record (auto) or leaves each line alone (off); pods may differ",
        ).live(),
        Setting::new(
            "labels.namespace",
            Kind::List,
            None,
            "Labels of namespaces that streams and series carry as namespace_LABEL, separated by commas",
        ).live(),
        Setting::new(
            "redact.presets",
            Kind::List,
            None,
            "What is taken out of all lines: secrets, pci, healthcare or single detectors, separated by commas",
        ).live(),
        Setting::new(
            "redact.unknown_pods",
            Kind::List,
            None,
            "What is taken out besides while a pod and its annotations are not known, separated by commas",
        ).live(),
        Setting::new(
            "redact.action",
            Kind::Text,
            Some("mask"),
            "What is done with it: mask, hash or drop",
        ).live(),
        Setting::new(
            "redact.key_file",
            Kind::Path,
            None,
            "File with the key of hashes, 16 bytes or more",
        ).live(),
        Setting::new("scrape.interval", Kind::Duration, Some("15s"), "How often a target is scraped").live(),
        Setting::new(
            "scrape.timeout",
            Kind::Duration,
            Some("10s"),
            "How long a target may take to answer, at most the interval",
        ).live(),
        Setting::new(
            "scrape.max_body",
            Kind::Bytes,
            Some("32MiB"),
            "Longer answers of a target are refused, measured unpacked",
        ).live(),
        Setting::new(
            "scrape.max_samples",
            Kind::Count,
            Some("100000"),
            "Answers of a target with more samples are refused",
        ).live(),
        Setting::new(
            "scrape.queue",
            Kind::Bytes,
            Some("32MiB"),
            "Samples that wait for the collector, in memory; the oldest go when it is full",
        ).live(),
        Setting::new(
            "spool.max",
            Kind::Bytes,
            Some("1GiB"),
            "Disk below the state folder for log lines that would vanish while the collector is \
             away; 0B: none, from or to which a restart is needed",
        ).live(),
        Setting::new(
            "spool.after",
            Kind::Duration,
            Some("2s"),
            "How long the collector does not answer before it counts as away",
        ).live(),
        Setting::new(
            "otlp.grpc",
            Kind::Addr,
            None,
            "Address of OTLP/gRPC for the pods of the node; none without it",
        ),
        Setting::new(
            "otlp.http",
            Kind::Addr,
            None,
            "Address of OTLP/HTTP for the pods of the node; none without it",
        ),
        Setting::new(
            "journal.path",
            Kind::Path,
            None,
            "Folder of the node's journal, for example /var/log/journal; not read without it",
        ),
        Setting::new(
            "journal.units",
            Kind::List,
            None,
            "Units that are read, separated by commas; `kernel` is the kernel; none: all",
        ).live(),
        Setting::new(
            "journal.since",
            Kind::Duration,
            Some("1d"),
            "How far back the first reading of a journal goes",
        ),
        Setting::new(
            "journal.command",
            Kind::Text,
            Some("journalctl"),
            "The program that reads it, with arguments before ours, separated by spaces",
        ),
        Setting::new(
            "sidecar.files",
            Kind::List,
            None,
            "Beside an app: patterns of its log files, separated by commas; nothing else is read then",
        ),
        Setting::new(
            "sidecar.podinfo",
            Kind::Path,
            Some("/etc/podinfo"),
            "Folder of the downward API: labels, annotations, name, namespace, uid",
        ),
        Setting::new(
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
            live: true,
            help: "Targets beside those that pods name: a list of {url, labels}",
        },
        Section {
            key: "redact.rules",
            live: true,
            help: "Own patterns that are taken out of all lines: a list of {name, regex, action}",
        },
        Section {
            key: files::SECTION,
            live: true,
            help: "Log files of the node: a list of {path, exclude, labels}, `path` an absolute pattern",
        },
    ],
};
