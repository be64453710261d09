//! The file of settings changes a hundred times while logs are written: what is good is taken up, what
//! is bad is refused and told, and every line is in the store once. What lines mean and which files are
//! read is followed too.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, ensure};
use taffrail_kit::http::Client;
use taffrail_sim::oracle::judge;
use taffrail_sim::podlog::{Container, pod_list};
use taffrail_sim::process::wait_for;

use crate::stack::Stack;

const PODS: [&str; 2] = ["web", "db"];
const RELOADS: u64 = 100;

/// Writes until it is told to stop; how many lines each stream has.
fn write(root: &Path, stop: &Receiver<()>) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut containers = Vec::new();
    for (seed, pod) in (1..).zip(PODS) {
        containers.push(Container::create(root, pod, seed, 300, 50)?);
    }
    while stop.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
        for container in &mut containers {
            for _ in 0..5 {
                container.write_line()?;
            }
        }
    }
    Ok(containers.iter().flat_map(Container::totals).collect())
}

/// Replaces the file in one step, as Kubernetes does.
fn replace(stack: &Stack, text: &str) -> anyhow::Result<()> {
    std::fs::write(stack.path("config.new"), text)?;
    Ok(std::fs::rename(stack.path("config.new"), stack.path("config.yaml"))?)
}

async fn number(agent: &Client, metric: &str) -> Option<u64> {
    let page = agent.get("/metrics", &[]).await.ok()?.text();
    let line = page.lines().find(|line| line.starts_with(&format!("{metric} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn config(agent: &Client) -> Option<serde_json::Value> {
    let answer = agent.get("/status.json?limit=0", &[]).await.ok()?;
    let status: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    Some(status["config"].clone())
}

/// The file of a round; every tenth is bad, every seventh needs a restart.
fn settings(round: u64) -> String {
    let scrape =
        format!("scrape: {{interval: {}ms, max_samples: {}}}\n", 200 + round, 1000 + round);
    let filter = if round.is_multiple_of(2) { "info" } else { "debug" };
    let more = match round {
        _ if round.is_multiple_of(10) => "scrpe: 1\n",
        _ if round.is_multiple_of(7) => "cluster: other\n",
        _ => "",
    };
    format!("{scrape}log: {{filter: {filter}}}\n{more}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    std::fs::create_dir_all(stack.path("pods"))?;
    std::fs::write(stack.path("pods.json"), pod_list(&PODS.map(str::to_owned), "node-1"))?;
    replace(&stack, &settings(1))?;
    let mut collector = stack.start_collector().await?;
    let file = stack.path("config.yaml").display().to_string();
    let mut agent = stack.start_agent_with(&["--config", &file])?;
    let base = format!("http://{}", stack.agent_http);
    agent.ready(&format!("{base}/readyz")).await?;
    let (stop, stopped) = channel();
    let root = stack.path("pods");
    let writer = std::thread::spawn(move || write(&root, &stopped));

    let own = Client::new(&base)?;
    for round in 2..2 + RELOADS {
        replace(&stack, &settings(round))?;
        agent.hang_up()?;
        let bad = round.is_multiple_of(10);
        let metric = if bad { "reload_failures_total" } else { "reloads_total" };
        let metric = format!("taffrail_config_{metric}");
        // The agent looks by itself too: a round may be counted twice, when both come at once.
        let what = format!("round {round}");
        let taken = wait_for(&what, async || {
            let status = config(&own).await?;
            let problems = status["problems"].as_array()?.len();
            let waits = status["restart_needed"].as_array()?.len();
            let waiting = !bad && round.is_multiple_of(7);
            (problems == usize::from(bad) && (bad || waits == usize::from(waiting))).then_some(())
        });
        taken.await.with_context(|| agent.log())?;
        ensure!(number(&own, &metric).await.is_some_and(|n| n > 0), "{metric}");
    }
    stop.send(())?;
    let written = writer.join().expect("the writer does not panic")?;
    let failures = number(&own, "taffrail_config_reload_failures_total").await;
    ensure!(failures.is_some_and(|n| n >= RELOADS / 10), "{failures:?}");
    let log = agent.log();
    let places = log.matches("config.yaml:3:1: unknown key \\\"scrpe\\\"").count();
    ensure!(places as u64 >= RELOADS / 10, "{places} times with its place in {log}");

    let total: u64 = written.values().sum();
    ensure!(total > 3 * RELOADS, "only {total} lines were written: the run proves little");
    let what = format!("{total} lines in the store");
    let found = wait_for(&what, async || {
        let rows = stack.lines(r#"{namespace="sim"}"#).await.ok()?;
        (rows.len() as u64 >= total).then_some(rows)
    });
    let found = found.await.with_context(|| agent.log())?;
    let verdict = judge(&written, found.iter().filter_map(|row| row["line"].as_str()));
    assert!(verdict.is_clean(), "{verdict:?}");
    assert!(agent.stop().await?.success(), "{}", agent.log());
    assert!(collector.stop().await?.success(), "{}", collector.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_noticed_without_a_signal_and_told_until_it_is_mended() -> anyhow::Result<()>
{
    let stack = Stack::new()?;
    std::fs::create_dir_all(stack.path("pods"))?;
    std::fs::write(stack.path("pods.json"), pod_list(&[], "node-1"))?;
    replace(&stack, "scrape: {interval: 1s}\n")?;
    let file = stack.path("config.yaml").display().to_string();
    let mut agent = stack.start_agent_with(&["--config", &file])?;
    let base = format!("http://{}", stack.agent_http);
    agent.ready(&format!("{base}/readyz")).await?;
    let own = Client::new(&base)?;

    replace(&stack, "scrape: {interval: 1 lightyear}\n")?;
    let problem = wait_for("the problem", async || {
        config(&own).await?["problems"].get(0)?.as_str().map(str::to_owned)
    });
    let problem = problem.await.with_context(|| agent.log())?;
    ensure!(problem.contains("config.yaml:1:20: ") && problem.contains("duration"), "{problem}");
    assert_eq!(number(&own, "taffrail_config_last_reload_successful").await, Some(0));
    assert_eq!(number(&own, "taffrail_config_reload_failures_total").await, Some(1));
    let headers = [("accept", "text/html,application/xhtml+xml")];
    let page = own.get("/status", &headers).await?.text();
    ensure!(page.contains("lightyear") && page.contains("Problems"), "{page}");

    replace(&stack, "scrape: {interval: 2s}\n")?;
    let mended = wait_for("the mended file", async || {
        (number(&own, "taffrail_config_last_reload_successful").await? == 1).then_some(())
    });
    mended.await.with_context(|| agent.log())?;
    let status = config(&own).await.context("a status")?;
    assert_eq!(status["problems"], serde_json::json!([]));
    assert!(agent.stop().await?.success(), "{}", agent.log());
    Ok(())
}

/// The texts of a query, once there are so many.
async fn texts(stack: &Stack, query: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let what = format!("{count} lines of {query}");
    let rows =
        wait_for(&what, async || stack.lines(query).await.ok().filter(|rows| rows.len() >= count));
    let text = |row: &serde_json::Value| row["line"].as_str().unwrap_or_default().to_owned();
    Ok(rows.await?.iter().map(text).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lines_mean_and_which_are_read_is_followed() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    let _collector = stack.start_collector().await?;
    std::fs::create_dir_all(stack.path("own"))?;
    std::fs::write(stack.path("own/app.log"), "of the node\n")?;
    let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "sim", "labels": {"team": "pier"}}});
    let mut list: serde_json::Value =
        serde_json::from_str(&pod_list(&["web".to_owned()], "node-1"))?;
    list["items"].as_array_mut().context("items")?.push(namespace);
    std::fs::write(stack.path("pods.json"), list.to_string())?;
    replace(&stack, "redact: {presets: [card]}\n")?;
    let file = stack.path("config.yaml").display().to_string();
    let mut agent = stack.start_agent_with(&["--config", &file])?;
    let base = format!("http://{}", stack.agent_http);
    agent.ready(&format!("{base}/readyz")).await?;
    let own = Client::new(&base)?;
    let line = "4111111111111111 of a@example.org";
    stack.write_line("web", line)?;
    let first = texts(&stack, r#"{app="web"}"#, 1).await.with_context(|| agent.log())?;
    assert_eq!(first, ["[card] of a@example.org"]);

    let files = stack.path("own").display().to_string();
    let new = format!(
        "redact: {{presets: [email]}}\nlabels: {{namespace: [team]}}\nspool: {{max: 7MiB}}\n\
         files: [{{path: {files}/*.log, labels: {{team: dock}}}}]\n"
    );
    replace(&stack, &new)?;
    agent.hang_up()?;
    let taken = wait_for("the reload", async || {
        (number(&own, "taffrail_config_reloads_total").await? > 0).then_some(())
    });
    taken.await.with_context(|| agent.log())?;
    stack.write_line("web", line)?;
    let query = r#"{app="web", namespace_team="pier"}"#;
    let second = texts(&stack, query, 1).await.with_context(|| agent.log())?;
    assert_eq!(second, ["4111111111111111 of [email]"]);
    let node = texts(&stack, r#"{team="dock"}"#, 1).await.with_context(|| agent.log())?;
    assert_eq!(node, ["of the node"]);
    let answer = own.get("/status.json?limit=0", &[]).await?;
    let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
    assert_eq!(status["config"]["restart_needed"], serde_json::json!([]), "{status}");
    assert_eq!(status["spool"]["bytes_max"], 7 << 20, "{status}");

    // A pattern that comes back goes on where it was.
    let log = stack.path("own/app.log").display().to_string();
    let is_read = async || {
        let page = own.get("/status.json?limit=100", &[]).await.ok()?.text();
        Some(page.contains(&log))
    };
    replace(&stack, "redact: {presets: [email]}\n")?;
    let left = wait_for("the file to be left", async || is_read().await.filter(|read| !read));
    left.await.with_context(|| agent.log())?;
    replace(&stack, &new)?;
    let back = wait_for("the file to be read", async || is_read().await.filter(|read| *read));
    back.await.with_context(|| agent.log())?;
    std::fs::write(stack.path("own/app.log"), "of the node\nand more\n")?;
    texts(&stack, r#"{team="dock"} |= "more""#, 1).await.with_context(|| agent.log())?;
    let node = texts(&stack, r#"{team="dock"}"#, 2).await?;
    assert_eq!(node, ["of the node", "and more"]);
    assert!(agent.stop().await?.success(), "{}", agent.log());
    Ok(())
}
