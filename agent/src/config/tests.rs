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
    let file = "scrape:\n  interval: 5ms\n  targets:\n  - {url: nowhere}\nmax_line_bytes: 2MiB\n";
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
