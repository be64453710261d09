//! Who is scraped: pods that say so in annotations, and targets of the settings. Pure.
//!
//! A pod with `prometheus.io/scrape: "true"` is scraped while it runs, at `prometheus.io/port` (one
//! or more numbers or names of its ports, separated by commas; without it, at every port that it
//! declares) and `prometheus.io/path` (`/metrics`). What is asked for but cannot be done is told.

use http::Uri;
use taffrail_kit::config::yaml::{Node, Place as At};
use taffrail_model::Labels;
use taffrail_model::labels::is_valid_name;

use crate::enrich::{Place, target_labels};
use crate::pods::{Pod, Snapshot};

/// Most ports of one pod that are scraped.
const PORTS_MAX: usize = 16;

/// One thing to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What is asked.
    pub url: String,
    /// The labels of all its series, `job` and `instance` among them.
    pub labels: Labels,
}

impl Target {
    /// Two targets with the same key are the same: what is known of its series is kept.
    #[must_use]
    pub fn key(&self) -> (String, u128) {
        (self.url.clone(), self.labels.fingerprint())
    }
}

/// Why a pod that asks to be scraped is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Neither the annotation nor a container names a port.
    #[error("no port: set the annotation prometheus.io/port")]
    NoPort,
    /// The annotation names something that is no port of the pod.
    #[error("prometheus.io/port: {0:?} is neither a number nor the name of a declared port")]
    Port(String),
    /// More ports than are scraped.
    #[error("prometheus.io/port: more than {PORTS_MAX} ports")]
    TooManyPorts,
    /// A scheme that is not spoken to pods.
    #[error("prometheus.io/scheme: {0:?} is not supported for pods; expected http")]
    Scheme(String),
    /// The path cannot be a part of a URL.
    #[error("prometheus.io/path: {0:?} is not a path; expected one like /metrics")]
    Path(String),
}

/// All targets among the pods, and why some pods cannot be scraped, by `namespace/name`.
#[must_use]
pub fn of_pods(place: &Place, pods: &Snapshot) -> (Vec<Target>, Vec<(String, Problem)>) {
    let (mut targets, mut problems) = (Vec::new(), Vec::new());
    for pod in pods.live() {
        match of_pod(place, pod) {
            Ok(found) => targets.extend(found),
            Err(problem) => problems.push((format!("{}/{}", pod.namespace, pod.name), problem)),
        }
    }
    targets.sort_by(|a, b| a.url.cmp(&b.url));
    problems.sort_by(|a, b| a.0.cmp(&b.0));
    (targets, problems)
}

fn annotation<'p>(pod: &'p Pod, name: &str) -> Option<&'p str> {
    let value = pod.annotations.get(&format!("prometheus.io/{name}"))?.trim();
    (!value.is_empty()).then_some(value)
}

fn of_pod(place: &Place, pod: &Pod) -> Result<Vec<Target>, Problem> {
    if annotation(pod, "scrape") != Some("true") || pod.phase != "Running" {
        return Ok(Vec::new());
    }
    // Without an address it has no port that answers; it will get one.
    let Some(ip) = &pod.ip else { return Ok(Vec::new()) };
    let scheme = annotation(pod, "scheme").unwrap_or("http");
    if scheme != "http" {
        return Err(Problem::Scheme(scheme.to_owned()));
    }
    let path = annotation(pod, "path").unwrap_or("/metrics");
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
    let mut targets = Vec::new();
    for port in ports(pod)? {
        let instance = format!("{host}:{port}");
        let url = format!("http://{instance}{path}");
        // The host must still be the pod's: a path like "@other/" would make it another.
        let good = url.parse::<Uri>().is_ok_and(|uri| {
            uri.authority().is_some_and(|authority| authority.as_str() == instance)
        });
        if !path.starts_with('/') || !good {
            return Err(Problem::Path(path.to_owned()));
        }
        let labels = target_labels(place, pod, container(pod, port));
        targets.push(Target { url, labels: labels.with("instance", &instance) });
    }
    Ok(targets)
}

fn ports(pod: &Pod) -> Result<Vec<u16>, Problem> {
    let declared = || pod.containers.iter().flat_map(|container| &container.ports);
    let mut ports: Vec<u16> = match annotation(pod, "port") {
        None => declared().map(|(port, _)| *port).collect(),
        Some(text) => text
            .split(',')
            .map(|one| {
                let one = one.trim();
                let named = || declared().find(|(_, name)| name.as_deref() == Some(one));
                let number = one.parse().ok().or_else(|| named().map(|(port, _)| *port));
                number.filter(|port| *port != 0).ok_or_else(|| Problem::Port(one.to_owned()))
            })
            .collect::<Result<_, _>>()?,
    };
    ports.sort_unstable();
    ports.dedup();
    match ports.len() {
        0 => Err(Problem::NoPort),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(Problem::TooManyPorts),
    }
}

/// The container that declares the port, or the only one there is; empty when neither is known.
fn container(pod: &Pod, port: u16) -> &str {
    let declares =
        |ports: &[(u16, Option<String>)]| ports.iter().any(|(number, _)| *number == port);
    match pod.containers.iter().find(|container| declares(&container.ports)) {
        Some(container) => &container.name,
        None if pod.containers.len() == 1 => &pod.containers[0].name,
        None => "",
    }
}

/// Reads the section `scrape.targets` of the settings: a list of `{url, labels}`.
///
/// # Errors
/// Every problem, with its place.
pub fn of_settings(place: &Place, section: &Node) -> Result<Vec<Target>, Vec<(At, String)>> {
    let mut problems = Vec::new();
    let mut targets = Vec::new();
    let Some(items) = section.as_list() else {
        return Err(vec![(section.at, "scrape.targets must be a list of {url, labels}".into())]);
    };
    for item in items {
        match of_item(place, item) {
            Ok(target) => targets.push(target),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(targets) } else { Err(problems) }
}

fn of_item(place: &Place, item: &Node) -> Result<Target, (At, String)> {
    let entries = item.as_map().ok_or_else(|| (item.at, "expected {url, labels}".to_owned()))?;
    let mut url = None;
    let mut labels = vec![("cluster", &*place.cluster), ("node", &*place.node), ("job", "static")];
    for entry in entries {
        match &*entry.key {
            "url" => url = entry.node.as_text().map(|text| (text, entry.node.at)),
            "labels" => {
                let own = entry.node.as_map();
                let own = own
                    .ok_or_else(|| (entry.node.at, "labels must be names and values".to_owned()))?;
                for label in own {
                    let value = label.node.as_text().unwrap_or_default();
                    if !is_valid_name(&label.key) || label.key == "__name__" || value.is_empty() {
                        let what = format!("{:?} is not a label name with a value", label.key);
                        return Err((label.at, what));
                    }
                    labels.push((&label.key, value));
                }
            }
            other => {
                return Err((entry.at, format!("unknown key {other:?}; expected url or labels")));
            }
        }
    }
    let (url, at) = url.ok_or_else(|| (item.at, "a target needs a url".to_owned()))?;
    let instance = instance(url)
        .ok_or_else(|| (at, format!("{url:?} is not a URL; expected http://HOST:PORT/metrics")))?;
    let set = Labels::from_pairs([("instance", &*instance)].into_iter().chain(labels));
    Ok(Target { url: url.to_owned(), labels: set })
}

/// `host:port` of a URL.
fn instance(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let port = match (uri.port_u16(), uri.scheme_str()?) {
        (Some(port), "http" | "https") => port,
        (None, "http") => 80,
        (None, "https") => 443,
        _ => return None,
    };
    uri.host().filter(|host| !host.is_empty()).map(|host| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Container;
    use taffrail_kit::config::yaml;

    fn place() -> Place {
        Place { cluster: "c".into(), node: "n".into() }
    }

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        let annotations = annotations.iter();
        Pod {
            uid: "u".into(),
            namespace: "shop".into(),
            name: "web-1".into(),
            ip: Some("10.0.0.7".into()),
            phase: "Running".into(),
            annotations: annotations
                .map(|(n, v)| (format!("prometheus.io/{n}"), (*v).to_owned()))
                .collect(),
            containers: vec![
                Container { name: "main".into(), ports: vec![(8080, Some("http".into()))] },
                Container { name: "side".into(), ports: vec![(9090, None)] },
            ],
            ..Pod::default()
        }
    }

    fn urls(pod: &Pod) -> Result<Vec<String>, Problem> {
        of_pod(&place(), pod).map(|targets| targets.into_iter().map(|t| t.url).collect())
    }

    #[test]
    fn annotations_say_what_is_scraped() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Result<&'a [&'a str], Problem>);
        let both: &[&str] = &["http://10.0.0.7:8080/metrics", "http://10.0.0.7:9090/metrics"];
        let cases: [Case<'_>; 11] = [
            (&[], Ok(&[])),
            (&[("scrape", "false")], Ok(&[])),
            (&[("scrape", "true")], Ok(both)),
            (&[("scrape", "true"), ("port", "9090, http")], Ok(both)),
            (
                &[("scrape", "true"), ("port", "1"), ("path", "/a?b=c")],
                Ok(&["http://10.0.0.7:1/a?b=c"]),
            ),
            (&[("scrape", "true"), ("port", "0")], Err(Problem::Port("0".into()))),
            (&[("scrape", "true"), ("port", "99999")], Err(Problem::Port("99999".into()))),
            (&[("scrape", "true"), ("scheme", "https")], Err(Problem::Scheme("https".into()))),
            (&[("scrape", "true"), ("path", "@evil/")], Err(Problem::Path("@evil/".into()))),
            (&[("scrape", "true"), ("path", ".evil")], Err(Problem::Path(".evil".into()))),
            (&[("scrape", "true"), ("path", "/a b")], Err(Problem::Path("/a b".into()))),
        ];
        for (annotations, expected) in cases {
            let expected = expected.map(|urls| urls.iter().map(|u| (*u).to_owned()).collect());
            assert_eq!(urls(&pod(annotations)), expected, "{annotations:?}");
        }
    }

    #[test]
    fn only_running_pods_with_an_address_are_scraped() {
        let good = pod(&[("scrape", "true"), ("port", "8080")]);
        assert_eq!(urls(&Pod { phase: "Succeeded".into(), ..good.clone() }), Ok(vec![]));
        assert_eq!(urls(&Pod { ip: None, ..good.clone() }), Ok(vec![]));
        let six = Pod { ip: Some("fd00::1".into()), ..good.clone() };
        assert_eq!(urls(&six), Ok(vec!["http://[fd00::1]:8080/metrics".to_owned()]));
        let bare = Pod { containers: vec![], ..pod(&[("scrape", "true")]) };
        assert_eq!(urls(&bare), Err(Problem::NoPort));
        let labels = &of_pod(&place(), &good).expect("targets")[0].labels;
        for (name, value) in [
            ("job", "shop/web-1"),
            ("instance", "10.0.0.7:8080"),
            ("container", "main"),
            ("pod", "web-1"),
            ("node", "n"),
        ] {
            assert_eq!(labels.get(name), Some(value), "{labels}");
        }
    }

    #[test]
    fn targets_of_the_settings() {
        let text = "- url: http://db:9187/metrics\n  labels: {job: db, team: store}\n- {url: \"https://x\"}\n";
        let targets = of_settings(&place(), &yaml::parse(text).expect("YAML")).expect("targets");
        assert_eq!(
            targets[0].labels.to_string(),
            r#"{cluster="c", instance="db:9187", job="db", node="n", team="store"}"#
        );
        assert_eq!(targets[1].labels.get("instance"), Some("x:443"));
        assert_eq!(targets[1].labels.get("job"), Some("static"));

        let bad = "- url: ftp://x\n- labels: {a: b}\n- {url: \"http://x\", labels: {a-b: c}}\n- {uri: x}\n- 5\n";
        let problems = of_settings(&place(), &yaml::parse(bad).expect("YAML")).expect_err("bad");
        let places: Vec<usize> = problems.iter().map(|(at, _)| at.line).collect();
        assert_eq!(places, [1, 2, 3, 4, 5], "{problems:?}");
        assert!(of_settings(&place(), &yaml::parse("a: b").expect("YAML")).is_err());
    }
}
