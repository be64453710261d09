//! What the binaries tell people: `--check`, `--print-config`, `/status`, and the page of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use taffrail_kit::http::Client;
use taffrail_sim::podlog::{Container, pod_list, uid};
use taffrail_sim::process::{binary, wait_for};

use crate::stack::{Stack, workspace};

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(binary(program)?).args(arguments).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn settings_are_checked_and_printed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let cases = [
        (
            "taffrail-agent",
            "collector: http://c:4100\nstate_dir: /s\nscrape:\n  interval: 5s\n  targets:\n  \
             - url: http://a:1/metrics\n    labels: {job: x}\n",
            "collector: http://c\nstate_dir: /s\nscrape:\n  targets: [{url: x}]\n  timeout: 5\nsails: 3\n",
            ["bad.yaml:4:19: ", "bad.yaml:5:12: ", "bad.yaml:6:1: "].as_slice(),
        ),
        (
            "taffrail-collector",
            "data_dir: /d\nlogs: {retention: 2d}\n",
            "data_dir: /d\nlogs: {memory: 5B}\nlog: {filter: loud=loud}\nhttp: x\n",
            ["bad.yaml:2:16: ", "bad.yaml:3:15: ", "bad.yaml:4:7: "].as_slice(),
        ),
    ];
    for (program, good, bad, places) in cases {
        std::fs::write(path("good.yaml"), good)?;
        std::fs::write(path("bad.yaml"), bad)?;
        for arguments in
            [vec!["--check", &path("good.yaml")], vec!["--check", "--config", &path("good.yaml")]]
        {
            let out = run(program, &arguments)?;
            ensure!(out.status.code() == Some(0), "{}", text(&out.stderr));
            ensure!(text(&out.stdout).ends_with("good.yaml: the settings are good\n"));
        }
        let out = run(program, &["--check", &path("bad.yaml")])?;
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(1), places.len()), "{said}");
        for place in places {
            ensure!(said.contains(place), "{place} in {said}");
        }
        let out = run(program, &["--check", "--sails"])?;
        assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));

        // What is printed is a file with the same settings.
        let first = run(program, &["--config", &path("good.yaml"), "--print-config"])?;
        ensure!(first.status.success(), "{}", text(&first.stderr));
        std::fs::write(path("printed.yaml"), &first.stdout)?;
        let second = run(program, &["--config", &path("printed.yaml"), "--print-config"])?;
        ensure!(second.status.success(), "{}", text(&second.stderr));
        let values = |out: &Output| -> Vec<String> {
            let line = |line: &str| line.split(" # ").next().unwrap_or_default().to_owned();
            text(&out.stdout).lines().filter(|l| !l.trim().starts_with('#')).map(line).collect()
        };
        assert_eq!(values(&first), values(&second));
        let page = text(&first.stdout);
        ensure!(page.contains("good.yaml:1:") && page.contains(" # default"), "{page}");
    }
    Ok(())
}

/// So many files, each with a line that is not in the store.
const FILES: usize = 5000;

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_five_thousand_files_is_there_at_once() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let pods: Vec<String> = (0..FILES).map(|n| format!("p{n}")).collect();
    std::fs::create_dir_all(stack.path("pods"))?;
    for pod in &pods {
        let folder = stack.path("pods").join(format!("sim_{pod}_{}/main", uid(pod)));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("0.log"), "2026-11-20T14:51:32Z stdout F <b>\n")?;
    }
    std::fs::write(stack.path("pods.json"), pod_list(&pods, "node-1"))?;
    // Nobody listens where the collector should be: everything waits.
    let mut agent = stack.start_agent_with(&[])?;
    let base = format!("http://{}", stack.agent_http);
    agent.ready(&format!("{base}/livez")).await?;
    let own = Client::new(&base)?.with_timeout(Duration::from_secs(20));
    let found = wait_for("all files", async || {
        let answer = own.get("/status", &[]).await.ok()?;
        let status: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        (status["totals"]["files"].as_u64()? >= FILES as u64).then_some(status)
    });
    let status = found.await.with_context(|| agent.log())?;
    assert_eq!(status["files"].as_array().map(Vec::len), Some(FILES));
    let file = &status["files"][0];
    ensure!(file["lag"] == 34 && file["size"] == 34 && file["part"] == "main", "{file}");
    ensure!(file["lag_seconds"].as_f64().is_some_and(|s| s > 0.0), "{file}");
    ensure!(file["pod"].as_str().is_some_and(|pod| pod.starts_with('p')), "{file}");

    let began = Instant::now();
    let page = own.get("/status.html?limit=5000", &[]).await?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.text().matches("<td data-h=\"pod\">").count(), FILES);
    let page = own.get("/status", &[("accept", "text/html")]).await?;
    ensure!(page.body.len() < 200_000, "{} bytes", page.body.len());
    ensure!(page.text().contains("The worst 200 of 5000"), "it says what is left out");
    agent.kill()?;
    Ok(())
}

const METRICS_HEAD: &str = "# Metrics

What the binaries say of themselves on `/metrics` (and over OTLP, when `telemetry.otlp_endpoint` is
set). `process_*` are those of every Prometheus client. A family with labels may be absent until
something of it has happened.

How far an agent is behind has no label: the sum, the largest file and the oldest byte are three series
a node, however many pods there are. Which file it is stands on the agent's `/status`.

A test compares this page with what running binaries answer and with the source; `UPDATE_DOCS=1 cargo
test -p taffrail-sim people` adds what is missing.
";

/// Name of a family → its row.
type Families = BTreeMap<String, String>;

/// The families of a `/metrics` page as rows of a table.
fn families(page: &str) -> Families {
    let mut helps = BTreeMap::new();
    let mut rows = Families::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            helps.insert(name.to_owned(), help.replace('|', "\\|"));
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            let labels = labels(page, name);
            let help = helps.get(name).cloned().unwrap_or_default();
            rows.insert(name.to_owned(), format!("| `{name}` | {kind} | {labels} | {help} |"));
        }
    }
    rows.retain(|name, _| !name.starts_with("process_"));
    rows
}

/// Names of the labels of a family, as they stand on the page.
fn labels(page: &str, family: &str) -> String {
    let mut names = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with(family)) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let own = name.strip_prefix(family).is_some_and(|s| ["", "_bucket"].contains(&s));
        let Some((inside, _)) = rest.rsplit_once('}').filter(|_| own) else { continue };
        let pairs = inside.split("\",").filter_map(|pair| pair.split_once('='));
        names.extend(pairs.map(|(name, _)| format!("`{name}`")).filter(|name| name != "`le`"));
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// The rows of a page of documentation, by program.
fn documented(page: &str) -> BTreeMap<String, Families> {
    let mut all = BTreeMap::new();
    let mut program = String::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## `").and_then(|l| l.strip_suffix('`')) {
            program = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("| `") {
            let name = rest.split('`').next().unwrap_or_default().to_owned();
            let rows: &mut Families = all.entry(program.clone()).or_default();
            rows.insert(name, line.to_owned());
        }
    }
    all
}

fn sources(folder: &Path, text: &mut String) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, text)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Both binaries with something to do; their pages of metrics.
async fn pages() -> anyhow::Result<BTreeMap<String, String>> {
    let stack = Stack::new()?;
    std::fs::create_dir_all(stack.path("pods"))?;
    std::fs::write(stack.path("pods.json"), pod_list(&["web".to_owned()], "node-1"))?;
    let config = format!("scrape: {{targets: [{{url: 'http://{}/metrics'}}]}}\n", stack.http);
    std::fs::write(stack.path("config.yaml"), config)?;
    let mut collector = stack.start_collector().await?;
    let file = stack.path("config.yaml").display().to_string();
    let mut agent = stack.start_agent_with(&["--config", &file, "--scrape-interval", "200ms"])?;
    let mut container = Container::create(&stack.path("pods"), "web", 1, 1000, 5)?;
    for _ in 0..200 {
        container.write_line()?;
    }
    let own = Client::new(&format!("http://{}", stack.agent_http))?;
    let busy = wait_for("lines and samples in the store", async || {
        let rows = stack.lines(r#"{namespace="sim"}"#).await.ok()?;
        let up = stack.prom("up").await.ok()?;
        (rows.len() == 200 && !up.is_empty()).then_some(())
    });
    busy.await.with_context(|| agent.log())?;
    let agent_page = own.get("/metrics", &[]).await?.text();
    let collector_page = stack.client.get("/metrics", &[]).await?.text();
    agent.stop().await?;
    collector.stop().await?;
    Ok([("taffrail-agent", agent_page), ("taffrail-collector", collector_page)]
        .map(|(program, page)| (program.to_owned(), page))
        .into())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_is_what_the_binaries_have() -> anyhow::Result<()> {
    let path = workspace().join("docs/metrics.md");
    let mut there = documented(&std::fs::read_to_string(&path).unwrap_or_default());
    let mut source = String::new();
    for room in ["agent", "collector", "kit", "query"] {
        sources(&workspace().join(room).join("src"), &mut source)?;
    }
    let update = std::env::var_os("UPDATE_DOCS").is_some_and(|v| v == "1");
    let mut wrong = Vec::new();
    for (program, page) in pages().await? {
        let rows = there.entry(program.clone()).or_default();
        for (name, row) in families(&page) {
            if update {
                rows.insert(name, row);
            } else if rows.get(&name) != Some(&row) {
                wrong.push(format!("{program}: {row}"));
            }
        }
        // Names are written whole, or behind the name of their room.
        let in_source = |name: &str| {
            let parts = name.match_indices('_').map(|(at, _)| &name[at + 1..]);
            std::iter::once(name).chain(parts).any(|part| source.contains(&format!("\"{part}\"")))
        };
        let gone: Vec<String> = rows.keys().filter(|name| !in_source(name)).cloned().collect();
        if update {
            rows.retain(|name, _| !gone.contains(name));
        } else {
            wrong.extend(gone.into_iter().map(|name| format!("{program}: {name} is not there")));
        }
    }
    if update {
        let mut page = METRICS_HEAD.to_owned();
        for (program, rows) in &there {
            let rows: Vec<&str> = rows.values().map(String::as_str).collect();
            let head = "| name | type | labels | what it is |\n|---|---|---|---|";
            page.push_str(&format!("\n## `{program}`\n\n{head}\n{}\n", rows.join("\n")));
        }
        std::fs::write(&path, page)?;
    }
    ensure!(
        wrong.is_empty(),
        "docs/metrics.md is not what the binaries have; UPDATE_DOCS=1 cargo test -p taffrail-sim \
         people writes it again:\n{}",
        wrong.join("\n")
    );
    Ok(())
}
