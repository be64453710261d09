//! The file of settings changes a hundred times while logs are written: what is good is taken up, what
//! is bad is refused and told, and every line is in the store once.

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
