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
/// SIGKILLs in one run, at the least.
const KILLS: u64 = 200;
/// Lines a second, all pods together.
const RATE: u64 = 1000;

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

/// An agent and a collector that are killed again and again.
struct Victims {
    agent: Process,
    collector: Process,
    kills: u64,
}

impl Victims {
    fn kill_agent(&mut self, stack: &Stack) -> anyhow::Result<()> {
        self.agent.kill()?;
        self.agent = stack.start_agent_with(&["--spool-after", "100ms"])?;
        self.kills += 1;
        Ok(())
    }

    fn kill_collector(&mut self) -> anyhow::Result<()> {
        self.kills += 1;
        self.collector.kill()
    }

    /// One of the two dies, or both; now and then the collector stays away for a while, in which the
    /// agent dies again.
    async fn round(
        &mut self,
        stack: &Stack,
        writer: &mut Writer,
        rng: &mut Rng,
    ) -> anyhow::Result<()> {
        match rng.below(10) {
            0..5 => return self.kill_agent(stack),
            5..7 => self.kill_collector()?,
            7..9 => {
                self.kill_collector()?;
                self.kill_agent(stack)?;
            }
            _ => {
                self.kill_collector()?;
                for _ in 0..rng.below(4) {
                    writer.progress(1 + rng.below(8))?;
                    self.kill_agent(stack)?;
                }
                writer.progress(1 + rng.below(8))?;
            }
        }
        self.collector = stack.start_collector().await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_once_through_two_hundred_kills() -> anyhow::Result<()> {
    let given = std::env::var_os("SEED").and_then(|seed| seed.to_str()?.parse().ok());
    let seed = given.unwrap_or(20_261_120);
    let stack = Stack::new()?;
    std::fs::create_dir_all(stack.path("pods"))?;
    let pods = PODS.map(str::to_owned);
    std::fs::write(stack.path("pods.json"), podlog::pod_list(&pods, "node-1"))?;
    let collector = stack.start_collector().await?;
    let agent = stack.start_agent_with(&["--spool-after", "100ms"])?;
    let mut victims = Victims { agent, collector, kills: 0 };
    let mut writer = Writer::start(&stack, seed)?;
    let mut rng = Rng::new(seed);
    while victims.kills < KILLS {
        // Reports come twenty times a second.
        writer.progress(1 + rng.below(6))?;
        let kills = victims.kills;
        victims
            .round(&stack, &mut writer, &mut rng)
            .await
            .with_context(|| format!("after {kills} kills"))?;
    }
    let Victims { mut agent, mut collector, .. } = victims;
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
