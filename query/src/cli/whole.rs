//! The commands against the real query APIs, over stores that are lists: what people type is what
//! the engines understand, and what those answer is what people see.

use std::sync::Arc;

use clap::Parser;
use taffrail_model::time::{NANOS_PER_MILLI, NANOS_PER_SEC};
use taffrail_model::{Labels, Level, LogEntry, Nanos, StreamEntries};
use taffrail_query::api::{ApiConfig, ApiState, router};
use taffrail_query::{logql, promql};

use super::fake::{self, Written};
use super::server::Server;
use super::{
    Arguments, Command, Error, completion, context, doctor, fields, grep, labels, logs, metrics,
    patterns, query, tail, when,
};

/// A shop of two apps with two pods each; one line a second, every tenth an error.
fn shop(now: Nanos, seconds: i64) -> Vec<StreamEntries> {
    let stream = |app: &str, n: usize| {
        let pod = format!("{app}-{n}");
        let labels = [
            ("namespace", "shop"),
            ("app", app),
            ("pod", &pod),
            ("container", "c"),
            ("tier", if app == "web" { "frontend" } else { "backend" }),
        ];
        let entry = |second: i64| LogEntry {
            ts: now - second * NANOS_PER_SEC,
            line: match second % 10 {
                0 => format!("level=error msg=\"no luck\" n={second}"),
                _ => format!("level=info msg=\"all \\\"well\\\"\" n={second}"),
            },
            level: if second % 10 == 0 { Level::Error } else { Level::Info },
            metadata: Vec::new(),
        };
        StreamEntries {
            labels: Labels::from_pairs(labels),
            entries: (1..=seconds).rev().map(entry).collect(),
        }
    };
    vec![stream("web", 0), stream("web", 1), stream("cart", 0), stream("cart", 1)]
}

struct World {
    logs: Arc<logql::oracle::VecSource>,
    server: Server,
}

impl World {
    async fn new(seconds: i64) -> Self {
        let now = when::now();
        let logs = Arc::new(logql::oracle::VecSource::with(shop(now, seconds)));
        let mut series = promql::oracle::VecSource::new();
        for app in ["web", "cart"] {
            let labels = [("__name__", "http_requests_total"), ("app", app), ("namespace", "shop")];
            let at = |n: i64| (now / NANOS_PER_MILLI - (100 - n) * 1000, n as f64 * 3.0);
            series.push(Labels::from_pairs(labels), (0..=100).map(at));
        }
        let state = ApiState::new(logs.clone(), Arc::new(series), ApiConfig::default());
        Self { logs, server: fake::serve(router(state)).await }
    }

    /// Runs a command line; what it wrote, and whether it found something.
    async fn run(&self, words: &[&str]) -> Result<(String, bool), Error> {
        let written = Written::default();
        let found = self.run_on(words, &written).await?;
        Ok((written.text(), found))
    }

    async fn run_on(&self, words: &[&str], written: &Written) -> Result<bool, Error> {
        let arguments = Arguments::try_parse_from([&["taffrail"], words].concat()).unwrap();
        let mut screen = written.screen(arguments.output, false);
        match &arguments.command {
            Command::Logs(arguments) => logs::run(arguments, &self.server, &mut screen).await,
            Command::Query(arguments) => query::run(arguments, &self.server, &mut screen).await,
            Command::Labels(arguments) => labels::run(arguments, &self.server, &mut screen).await,
            Command::Metrics(arguments) => metrics::run(arguments, &self.server, &mut screen).await,
            Command::Grep(arguments) => grep::run(arguments, &self.server, &mut screen).await,
            Command::Tail(arguments) => tail::run(arguments, &self.server, &mut screen).await,
            Command::Context(arguments) => context::run(arguments, &self.server, &mut screen).await,
            Command::Patterns(arguments) => {
                patterns::run(arguments, &self.server, &mut screen).await
            }
            Command::Fields(arguments) => fields::run(arguments, &self.server, &mut screen).await,
            Command::Doctor => doctor::run(&self.server, &mut screen).await,
            Command::Completion(shell) => completion::run(shell, &mut screen),
            Command::Up(_) | Command::ChildOfUp(_) => unreachable!("not asked here"),
        }
    }

    async fn lines(&self, words: &[&str]) -> Vec<String> {
        let (text, found) = self.run(words).await.unwrap();
        assert_eq!(found, !text.is_empty(), "{words:?}");
        text.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn selectors_find_what_kubectl_would() {
    let world = World::new(60).await;
    let cases: [(&[&str], usize); 12] = [
        (&[], 240),
        (&["-n", "shop"], 240),
        (&["-n", "sho"], 0),
        (&["-l", "app=web"], 120),
        (&["-l", "app!=web"], 120),
        (&["-l", "app in (web, cart),tier notin (backend)"], 120),
        (&["-l", "!canary,tier"], 240),
        (&["-l", "canary"], 0),
        (&["web-*"], 120),
        (&["cart-1,web-0", "-c", "c"], 120),
        (&["--grep", "\"all \\\"well\\\"\"", "-l", "app=web"], 108),
        (&["--level", "warn"], 24),
    ];
    for (words, expected) in cases {
        let words = [&["logs", "--tail", "1000"], words].concat();
        assert_eq!(world.lines(&words).await.len(), expected, "{words:?}");
    }
}

#[tokio::test]
async fn lines_come_in_order_and_as_many_as_asked() {
    let world = World::new(3000).await;
    let newest = world.lines(&["logs", "web-0", "--tail", "2"]).await;
    let expected = [
        "web-0 c level=info msg=\"all \\\"well\\\"\" n=2",
        "web-0 c level=info msg=\"all \\\"well\\\"\" n=1",
    ];
    assert_eq!(newest, expected);
    // More than the server gives at once.
    let all =
        world.lines(&["query", "{namespace=\"shop\"}", "--limit", "50000", "-o", "raw"]).await;
    assert_eq!(all.len(), 12_000);
    let forward = ["query", "{app=\"web\"}", "--forward", "--limit", "5500", "-o", "json"];
    let forward = world.lines(&forward).await;
    assert_eq!(forward.len(), 5500);
    let first: serde_json::Value = serde_json::from_str(&forward[0]).unwrap();
    assert_eq!((&first["level"], &first["labels"]["app"]), (&"error".into(), &"web".into()));
    assert_eq!(world.lines(&["query", "|= \"no luck\"", "--since", "1m"]).await.len(), 20);
}

#[tokio::test]
async fn numbers_are_tables() {
    let world = World::new(60).await;
    let counted = "sum by (app) (count_over_time({namespace=\"shop\"} |= \"error\" [5m]))";
    let (table, _) = world.run(&["query", counted]).await.unwrap();
    assert_eq!(table, "APP    VALUE\ncart   12\nweb    12\n");
    let (over_time, _) =
        world.run(&["query", counted, "--since", "10m", "--step", "1m"]).await.unwrap();
    assert!(over_time.starts_with("APP    LAST   MIN   MAX   AVG"), "{over_time}");
    let (rates, _) =
        world.run(&["metrics", "sum by (app) (rate(http_requests_total[1m]))"]).await.unwrap();
    assert_eq!(rates, "APP    VALUE\ncart   3\nweb    3\n");
    let (over_time, _) =
        world.run(&["metrics", "http_requests_total", "--since", "90s"]).await.unwrap();
    assert!(
        over_time.starts_with("{__name__=\"http_requests_total\", namespace=\"shop\"}\nAPP "),
        "{over_time}"
    );
    assert!(!world.run(&["metrics", "absent_metric"]).await.unwrap().1);
}

#[tokio::test]
async fn labels_and_their_values() {
    let world = World::new(10).await;
    let names = world.lines(&["labels"]).await;
    assert_eq!(names, ["app", "container", "namespace", "pod", "tier"]);
    assert_eq!(world.lines(&["labels", "app"]).await, ["cart", "web"]);
    assert!(world.lines(&["labels", "nothing"]).await.is_empty());
}

#[tokio::test]
async fn errors_point_at_the_place() {
    let world = World::new(1).await;
    for words in [
        ["query", "{app=\"web\" |= "],
        ["query", "sum(rate({app=\"web\"}[5m]"],
        ["metrics", "sum(up"],
    ] {
        let error = world.run(&words).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(text) if text.contains('^')), "{words:?}: {error}");
    }
}

#[tokio::test]
async fn following_shows_history_and_then_what_comes() {
    let world = World::new(5).await;
    let written = Written::default();
    let words = ["logs", "-f", "-l", "app=cart", "--tail", "2", "-o", "raw"];
    let follow = world.run_on(&words, &written);
    let write = async {
        while written.text().lines().count() < 2 {
            tokio::task::yield_now().await;
        }
        let mut fresh = shop(when::now() + 2 * NANOS_PER_SEC, 1);
        for stream in &mut fresh {
            "fresh".clone_into(&mut stream.entries[0].line);
        }
        world.logs.push(fresh);
        while !written.text().ends_with("fresh\nfresh\n") {
            tokio::task::yield_now().await;
        }
    };
    let both = async {
        tokio::select! {
            ended = follow => panic!("{ended:?}"),
            () = write => {}
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), both).await.expect("in time");
    let text = written.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "two of history, one new of each pod: {text}");
    assert!(lines[..2].iter().all(|line| line.ends_with("n=1")), "{text}");
}

#[tokio::test]
async fn grep_counts_and_shows_as_grep_does() {
    let world = World::new(30).await;
    let none = world.run(&["grep", "nothing like it"]).await.unwrap();
    assert_eq!(none, (String::new(), false));
    let lines = world.lines(&["grep", "-i", "NO LUCK", "web-0", "-o", "raw"]).await;
    let line = |n: i64| format!("level=error msg=\"no luck\" n={n}");
    assert_eq!(lines, [line(30), line(20), line(10)]);
    let cases: [(&[&str], usize); 7] = [
        (&["no luck"], 12),
        (&["-v", "no luck", "-l", "app=web"], 54),
        (&["-w", "luck", "-n", "shop"], 12),
        (&["-w", "luc", "-n", "shop"], 0),
        (&["n=[12]0$", "web-0"], 2),
        (&["-F", "n=[12]0$", "web-0"], 0),
        (&["", "web-0", "--level", "error"], 3),
    ];
    for (words, expected) in cases {
        let found = world.run(&[&["grep"], words].concat()).await.unwrap();
        assert_eq!((found.0.lines().count(), found.1), (expected, expected > 0), "{words:?}");
        let counted = world.run(&[&["grep", "-c"], words].concat()).await.unwrap();
        assert_eq!(counted, (format!("{expected}\n"), expected > 0), "{words:?}");
    }
    let around = ["grep", "n=20$", "web-0", "-B", "1", "-A", "2", "-o", "raw"];
    let numbers = |lines: Vec<String>| -> Vec<String> {
        lines.iter().map(|line| line.rsplit("n=").next().unwrap().to_owned()).collect()
    };
    assert_eq!(numbers(world.lines(&around).await), ["21", "20", "19", "18"]);
    let apart = ["grep", "n=.0$", "web-0", "-C", "1", "-o", "raw"];
    let expected = ["30", "29", "--", "21", "20", "19", "--", "11", "10", "9"];
    assert_eq!(numbers(world.lines(&apart).await), expected);
    let joined = ["grep", "n=2[01]$", "web-0", "-C", "1", "-o", "raw"];
    assert_eq!(numbers(world.lines(&joined).await), ["22", "21", "20", "19"]);
    let first = ["grep", "no luck", "web-0", "-m", "1", "-o", "raw"];
    assert_eq!(numbers(world.lines(&first).await), ["30"]);
}

#[tokio::test]
async fn what_lines_have_in_common_and_around_a_moment() {
    let world = World::new(30).await;
    let shown = world.lines(&["patterns", "-l", "app=web"]).await;
    let expected = [
        "LINES  LEVEL  PATTERN",
        "54     info   level=info msg=\"all \\\"well\\\"\" n=<_>",
        "6      error  level=error msg=\"no luck\" n=<_>",
    ];
    assert_eq!(shown, expected);
    let fields = world.lines(&["fields", "web-0"]).await;
    assert!(fields[0].starts_with("FIELD") && fields.iter().any(|it| it.contains("logfmt")));
    assert_eq!(world.lines(&["fields", "--field", "level"]).await, ["error", "info"]);
    let around = world.lines(&["context", "0s", "web-0", "-B", "2", "-o", "raw"]).await;
    assert!(around.len() == 2 && around[1].ends_with("n=1"), "{around:?}");
    let tailed = world.lines(&["tail", "^we", "-i", "luck", "-e", "n=10", "--no-follow"]).await;
    assert_eq!(tailed.len(), 4, "{tailed:?}");
    let (health, well) = world.run(&["doctor"]).await.unwrap();
    assert!(well && health.contains("ok  logs come: 120 lines of 4 streams"), "{health}");
    let empty = World::new(0).await.run(&["doctor"]).await.unwrap();
    assert!(!empty.1 && empty.0.contains("no  no logs in the last 5m"), "{}", empty.0);
    assert!(world.lines(&["completion", "bash"]).await.iter().any(|it| it.contains("taffrail")));
}
