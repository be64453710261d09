//! Every line that reached a file is in the store once, whatever dies in between.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use taffrail_sim::oracle::{Verdict, judge};
use taffrail_sim::podlog;
use taffrail_sim::process::{Process, binary, wait_for};
use taffrail_sim::rng::Rng;

use crate::stack::Stack;

const PODS: [&str; 4] = ["web", "api", "worker", "db"];
/// SIGKILLs in one run.
const ROUNDS: u64 = 20;
/// Lines a second, all pods together.
const RATE: u64 = 3000;

/// The program that writes the logs: outside agent and collector.
struct Writer {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Writer {
    fn start(stack: &Stack, seed: u64) -> anyhow::Result<Self> {
        let mut child = Command::new(binary("taffrail-logwriter")?)
            .args(["--root".as_ref(), stack.path("pods").as_os_str()])
            .args(["--pods", &PODS.join(",")])
            .args(["--seed", &seed.to_string(), "--rate", &RATE.to_string()])
            .args(["--rotate-after", "400"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().context("stdout is piped")?);
        Ok(Self { child, out })
    }

    /// Waits until it has made `reports` further reports of its progress.
    fn progress(&mut self, reports: u64) -> anyhow::Result<()> {
        let mut line = String::new();
        for _ in 0..reports {
            line.clear();
            ensure!(self.out.read_line(&mut line)? > 0, "the writer ended early");
        }
        Ok(())
    }

    /// Tells it to stop; how many lines each stream has.
    fn finish(mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        drop(self.child.stdin.take());
        let mut last = String::new();
        for line in self.out.lines() {
            last = line?;
        }
        ensure!(self.child.wait()?.success(), "the writer failed");
        serde_json::from_str(&last).context("the writer's totals")
    }
}

async fn verdict(stack: &Stack, written: &BTreeMap<String, u64>) -> anyhow::Result<Verdict> {
    let rows = stack.lines(r#"{namespace="sim", tier="sim"}"#).await?;
    Ok(judge(written, rows.iter().filter_map(|row| row["line"].as_str())))
}

/// Waits until as many lines are in the store as were written (or more), then judges them.
async fn settle(stack: &Stack, written: &BTreeMap<String, u64>) -> anyhow::Result<Verdict> {
    let total: u64 = written.values().sum();
    let settled = wait_for(&format!("{total} lines in the store"), async || {
        let rows = stack.lines(r#"{namespace="sim"}"#).await.ok()?;
        (rows.len() as u64 >= total).then_some(())
    })
    .await;
    let verdict = verdict(stack, written).await?;
    settled.with_context(|| format!("{verdict:?}")).map(|()| verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_once_through_twenty_kills() -> anyhow::Result<()> {
    let seed = 20_261_120;
    let stack = Stack::new()?;
    std::fs::create_dir_all(stack.path("pods"))?;
    let pods = PODS.map(str::to_owned);
    std::fs::write(stack.path("pods.json"), podlog::pod_list(&pods, "node-1"))?;
    let mut collector = stack.start_collector().await?;
    let mut agent = stack.start_agent()?;
    let mut writer = Writer::start(&stack, seed)?;
    let mut rng = Rng::new(seed);
    for round in 0..ROUNDS {
        // Reports come some 60 times a second: a kill every 0.1 to 1 seconds.
        writer.progress(6 + rng.below(54))?;
        match rng.below(3) {
            0 => restart_agent(&stack, &mut agent)?,
            1 => {
                collector.kill()?;
                collector =
                    stack.start_collector().await.with_context(|| format!("round {round}"))?;
            }
            _ => {
                collector.kill()?;
                restart_agent(&stack, &mut agent)?;
                collector =
                    stack.start_collector().await.with_context(|| format!("round {round}"))?;
            }
        }
    }
    let written = writer.finish()?;
    let lines: u64 = written.values().sum();
    ensure!(lines > 5000, "only {lines} lines were written: the run proves little");
    let settled = settle(&stack, &written).await.with_context(|| agent.log())?;
    assert!(settled.is_clean(), "{settled:?}");

    // The same after both have ended kindly and the collector has started again.
    assert!(agent.stop().await?.success(), "{}", agent.log());
    assert!(collector.stop().await?.success(), "{}", collector.log());
    let mut collector = stack.start_collector().await?;
    let again = verdict(&stack, &written).await?;
    assert!(again.is_clean(), "after a restart: {again:?}");
    found_by_label_with_the_cli(&stack, &written)?;
    collector.stop().await?;
    Ok(())
}

fn restart_agent(stack: &Stack, agent: &mut Process) -> anyhow::Result<()> {
    agent.kill()?;
    *agent = stack.start_agent()?;
    Ok(())
}

/// `taffrail logs -l app=web` finds what was written by that pod, and nothing else.
fn found_by_label_with_the_cli(
    stack: &Stack,
    written: &BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    let base = stack.client.base();
    let logs = |arguments: &[&str]| -> anyhow::Result<std::process::Output> {
        Ok(Command::new(binary("taffrail")?)
            .args(["--addr", base, "-o", "raw", "logs"])
            .args(arguments)
            .output()?)
    };
    let web: BTreeMap<String, u64> = written
        .iter()
        .filter(|(p, _)| p.starts_with("web/"))
        .map(|(p, n)| (p.clone(), *n))
        .collect();
    let found = logs(&[
        "-l",
        "app=web,tier in (sim,other)",
        "-n",
        "sim",
        "--since",
        "1d",
        "--tail",
        "100000",
    ])?;
    ensure!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let text = String::from_utf8(found.stdout)?;
    let by_cli = judge(&web, text.lines());
    assert!(by_cli.is_clean(), "by the CLI: {by_cli:?}");
    let nothing = logs(&["-l", "app=web,tier notin (sim)", "--since", "1d"])?;
    assert_eq!((nothing.status.code(), nothing.stdout.len()), (Some(1), 0), "grep's exit code");
    Ok(())
}
