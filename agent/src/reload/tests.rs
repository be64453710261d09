use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::pods::Pods;

fn settings(file: &str) -> Settings {
    let arguments = ["--collector", "http://c", "--state-dir", "/s", "--config", "f"];
    let arguments = arguments.iter().map(Into::into);
    let read = |_: &std::path::Path| Ok(file.to_owned());
    SCHEMA.load_from(arguments, &|_| None, &read).expect("good")
}

/// A filter that is called `none` is refused.
fn applier(file: &str) -> (Applier, Arc<Mutex<String>>) {
    let around = Surroundings { node_name: Some("n".into()), ..Default::default() };
    let settings = settings(file);
    let config = Config::check(&settings, &around).expect("good");
    let filter = Arc::new(Mutex::new(String::new()));
    let set = filter.clone();
    let log_filter: SetLogFilter = Box::new(move |text| {
        *set.lock().expect("lock") = text.to_owned();
        if text == "none" { Err("no such filter".into()) } else { Ok(()) }
    });
    let spool = config.spool.map(|config| {
        let metrics = spool::Metrics::register(&Registry::new()).expect("new");
        spool::Spool::new(config, spool::View::default(), metrics).limits().clone()
    });
    let knobs = Knobs {
        scrape: watch::Sender::new(Arc::new(config.scrape)),
        rules: process::Source::new(
            config.rules,
            Pods::none(),
            process::metrics::Metrics::default(),
        ),
        files: watch::Sender::new(Arc::new(files::Named::new(&config.files))),
        namespace_labels: watch::Sender::new(config.namespace_labels),
        units: Some(watch::Sender::new(config.journal.map(|j| j.units).unwrap_or_default())),
        spool,
    };
    let reloads = Reloads::register(&Registry::new()).expect("new");
    (Applier { around, settings, knobs, log_filter, reloads }, filter)
}

/// What the parts of the agent see of the settings.
fn seen(applier: &Applier, filter: &Mutex<String>) -> String {
    let knobs = &applier.knobs;
    let rules = knobs.rules.usual();
    let mut out = Vec::new();
    let probe = rules.redactor.apply(b"TCK-1 a@example.org", &mut out);
    let unknown = rules.unknown.apply(b"4111111111111111", &mut Vec::new());
    format!(
        "{:?}",
        (
            filter.lock().expect("lock").as_str(),
            &*knobs.scrape.borrow(),
            (&rules.multiline, probe, unknown, String::from_utf8_lossy(&out)),
            &*knobs.files.borrow(),
            &*knobs.namespace_labels.borrow(),
            knobs.units.as_ref().map(|units| units.borrow().clone()),
            knobs.spool.as_ref().map(|limits| (limits.bytes_max(), limits.after())),
        )
    )
}

/// A file for each key that gives it another value; flags give the keys that are required.
const CHANGES: [(&str, &str); 40] = [
    ("pod_logs", "pod_logs: /x"),
    ("pods_file", "pods_file: /x"),
    ("kubeconfig", "kubeconfig: /x"),
    ("kubelet_root", "kubelet_root: /x"),
    ("node", "node: x"),
    ("host_root", "host_root: /x"),
    ("cluster", "cluster: x"),
    ("http", "http: ':1'"),
    ("max_line_bytes", "max_line_bytes: 2KiB"),
    ("grace", "grace: 1s"),
    ("multiline", "multiline: off"),
    ("labels.namespace", "labels: {namespace: [team]}"),
    ("redact.presets", "redact: {presets: [card]}"),
    ("redact.unknown_pods", "redact: {presets: email, unknown_pods: card}"),
    ("redact.action", "redact: {presets: email, action: drop}"),
    ("redact.key_file", "redact: {presets: 'email=hash', key_file: KEY}"),
    ("redact.rules", "redact: {presets: email, rules: [{name: t, regex: 'TCK-1'}]}"),
    ("scrape.interval", "scrape: {interval: 1m}"),
    ("scrape.timeout", "scrape: {timeout: 1s}"),
    ("scrape.max_body", "scrape: {max_body: 1KiB}"),
    ("scrape.max_samples", "scrape: {max_samples: 1}"),
    ("scrape.queue", "scrape: {queue: 1MiB}"),
    ("scrape.targets", "scrape: {targets: [{url: 'http://a/m'}]}"),
    ("spool.max", "spool: {max: 2MiB}"),
    ("spool.after", "spool: {after: 9s}"),
    ("otlp.grpc", "otlp: {grpc: ':1'}"),
    ("otlp.http", "otlp: {http: ':1'}"),
    ("journal.path", "journal: {path: /x}"),
    ("journal.units", "journal: {path: /j, units: [kernel]}"),
    ("journal.since", "journal: {path: /j, since: 2d}"),
    ("journal.command", "journal: {path: /j, command: x}"),
    ("sidecar.files", "sidecar: {files: /x/*.log}"),
    ("sidecar.podinfo", "sidecar: {podinfo: /x}"),
    ("sidecar.done_file", "sidecar: {done_file: /x}"),
    ("log.filter", "log: {filter: debug}"),
    ("log.format", "log: {format: json}"),
    ("telemetry.otlp_endpoint", "telemetry: {otlp_endpoint: 'http://x:1'}"),
    ("telemetry.interval", "telemetry: {interval: 9s}"),
    ("telemetry.spans", "telemetry: {otlp_endpoint: 'http://x:1', spans: true}"),
    ("files", "files: [{path: /x/*.log, labels: {team: a}}]"),
];

#[test]
fn each_key_is_followed_or_waits_as_the_table_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("0123456789abcdef{name}")).expect("write");
        path.display().to_string()
    };
    let (one, two) = (key("one"), key("two"));
    let changes: BTreeMap<&str, &str> = CHANGES.into();
    let settings_and_sections =
        SCHEMA.settings.iter().map(|s| s.key).chain(SCHEMA.sections.iter().map(|s| s.key));
    for name in settings_and_sections {
        if ["collector", "state_dir"].contains(&name) {
            assert!(!SCHEMA.is_live(name));
            continue;
        }
        let change = changes.get(name).unwrap_or_else(|| panic!("{name} has no example"));
        // All that the example has but the key itself is there before.
        let before = match name {
            "redact.unknown_pods" | "redact.action" | "redact.rules" => "redact: {presets: email}",
            "redact.key_file" => "redact: {presets: 'email=hash', key_file: KEY}",
            _ if name.starts_with("journal.") => "journal: {path: /j}",
            "telemetry.spans" => "telemetry: {otlp_endpoint: 'http://x:1'}",
            _ => "",
        };
        let (mut applier, filter) = applier(&before.replace("KEY", &one));
        let first = seen(&applier, &filter);
        applier.take(&settings(&change.replace("KEY", &two)));
        let status = applier.reloads.status();
        assert!(status.problems.is_empty(), "{name}: {:?}", status.problems);
        let changed = seen(&applier, &filter) != first;
        assert_eq!(changed, SCHEMA.is_live(name), "{name} is taken up");
        assert_eq!(status.restart_needed.contains(&name), !changed, "{name} waits");
        // What came with it in its example is another matter.
        assert!(status.restart_needed.len() <= 1, "{name}: {:?}", status.restart_needed);
    }
}

#[test]
fn a_spool_is_neither_made_nor_taken_away() {
    let cases = [("", "spool: {max: 0B}"), ("spool: {max: 0B}", "spool: {max: 1MiB}")];
    for (old, new) in cases {
        let (mut applier, filter) = applier(old);
        let first = seen(&applier, &filter);
        applier.take(&settings(new));
        assert_eq!(applier.reloads.status().restart_needed, ["spool.max"], "{new}");
        assert_eq!(seen(&applier, &filter), first);
    }
}

#[test]
fn a_new_key_in_the_same_file_is_taken_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let file = format!("redact: {{presets: 'email=hash', key_file: {}}}", path.display());
    std::fs::write(&path, "0123456789abcdef").expect("write");
    let (mut applier, filter) = applier(&file);
    let first = seen(&applier, &filter);
    applier.take(&settings(&file));
    assert_eq!(seen(&applier, &filter), first);
    std::fs::write(&path, "fedcba9876543210").expect("write");
    applier.take(&settings(&file));
    assert_ne!(seen(&applier, &filter), first);
}

#[test]
fn what_can_change_changes_and_the_rest_waits() {
    let (mut applier, filter) = applier("");
    let new = "cluster: lab\nlog: {filter: debug}\nscrape:\n  interval: 1s\n  queue: 1MiB\n  \
               targets: [{url: 'http://a/m'}]\n";
    applier.take(&settings(new));
    assert_eq!(*filter.lock().expect("lock"), "debug");
    let scrape = applier.knobs.scrape.borrow().clone();
    assert_eq!((scrape.interval, scrape.queue_bytes_max), (Duration::from_secs(1), 1 << 20));
    assert_eq!(scrape.targets[0].labels.get("cluster"), None, "the cluster is the old one");
    let status = applier.reloads.status();
    assert_eq!(status.restart_needed, ["cluster"]);
    assert!(status.problems.is_empty());
    // Back again: nothing waits any more.
    applier.take(&settings(""));
    assert!(applier.reloads.status().restart_needed.is_empty());
    assert!(applier.knobs.scrape.borrow().targets.is_empty());
    assert_eq!(applier.reloads.reloads.get(), 2);
}

#[test]
fn what_is_bad_stays_on_the_status_until_it_is_mended() {
    let (mut applier, _) = applier("");
    let problem = Problem { place: "f:1:1".into(), message: "unknown key".into() };
    applier.reloads.refused(&[problem]);
    assert_eq!(applier.reloads.status().problems, ["f:1:1: unknown key"]);
    assert_eq!(applier.reloads.successful.get(), 0);
    applier.take(&settings(""));
    assert!(applier.reloads.status().problems.is_empty());
    assert_eq!((applier.reloads.successful.get(), applier.reloads.failures.get()), (1, 1));
    // What only turns out when it is applied changes nothing either.
    applier.take(&settings("log: {filter: none}\nscrape: {interval: 1s}\n"));
    assert_eq!(applier.reloads.status().problems, ["f:1:15: no such filter"]);
    assert_eq!(applier.knobs.scrape.borrow().interval, Duration::from_secs(15));
}
