//! The collector is away: what vanishes meanwhile comes later, once and in order; what is lost is told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use taffrail_kit::clock;
use taffrail_kit::http::Client;
use taffrail_sim::oracle::{judge, token};
use taffrail_sim::podlog::{cri_time, pod_list, uid};
use taffrail_sim::process::{Process, wait_for};
use taffrail_sim::rng::Rng;

use crate::stack::Stack;

/// So soon the collector counts as away.
const AFTER: [&str; 2] = ["--spool-after", "200ms"];
/// Length of a line in its file.
const LINE_BYTES: u64 = 1000;

/// One container whose log is written and rotated when the test says so.
struct Log {
    folder: PathBuf,
    pod: &'static str,
    lines: u64,
    rotations: u32,
    rng: Rng,
}

impl Log {
    fn create(stack: &Stack, pod: &'static str) -> anyhow::Result<Self> {
        let folder = stack.path("pods").join(format!("sim_{pod}_{}", uid(pod))).join("main");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, pod, lines: 0, rotations: 0, rng: Rng::new(7) })
    }

    /// Lines of just [`LINE_BYTES`], which do not compress well.
    fn write(&mut self, lines: u64) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.folder.join("0.log"))?;
        for _ in 0..lines {
            let time = cri_time(clock::unix_nanos());
            let mut line = format!("{time} stdout F @@{}/main/stdout:{}@@ ", self.pod, self.lines);
            while (line.len() as u64) < LINE_BYTES - 1 {
                line.push_str(&format!("{:016x}", self.rng.next_u64()));
            }
            line.truncate(usize::try_from(LINE_BYTES)? - 1);
            line.push('\n');
            file.write_all(line.as_bytes())?;
            self.lines += 1;
        }
        Ok(())
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        self.rotations += 1;
        let name = format!("0.log.20261120-{:06}", self.rotations);
        fs::rename(self.folder.join("0.log"), self.folder.join(name))?;
        File::create(self.folder.join("0.log"))?;
        Ok(())
    }

    /// The rotated files, the oldest first.
    fn rotated(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut names: Vec<PathBuf> =
            fs::read_dir(&self.folder)?.map(|e| Ok(e?.path())).collect::<anyhow::Result<_>>()?;
        names.retain(|p| !p.ends_with("0.log"));
        names.sort();
        Ok(names)
    }

    /// Removes the oldest, as the kubelet does.
    fn keep(&self, count: usize) -> anyhow::Result<()> {
        let names = self.rotated()?;
        for path in &names[..names.len().saturating_sub(count)] {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn stack(pods: &[&'static str]) -> anyhow::Result<(Stack, Vec<Log>)> {
    let stack = Stack::new()?;
    let logs = pods.iter().map(|pod| Log::create(&stack, pod)).collect::<anyhow::Result<_>>()?;
    let pods: Vec<String> = pods.iter().map(|&pod| pod.to_owned()).collect();
    fs::write(stack.path("pods.json"), pod_list(&pods, "node-1"))?;
    Ok((stack, logs))
}

async fn status(stack: &Stack) -> Option<serde_json::Value> {
    let client = Client::new(&format!("http://{}", stack.agent_http)).ok()?;
    let answer = client.get("/status", &[]).await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// Waits until something holds of the agent's status.
async fn until(
    stack: &Stack,
    agent: &Process,
    what: &str,
    holds: impl Fn(&serde_json::Value) -> bool,
) -> anyhow::Result<()> {
    let mut last = serde_json::Value::Null;
    let waited = wait_for(what, async || {
        last = status(stack).await?;
        holds(&last).then_some(())
    });
    waited.await.with_context(|| format!("{}\n{last:#}", agent.log()))
}

/// Whether these files are in the store or in the spool, up to their ends.
fn are_safe(status: &serde_json::Value, files: &[PathBuf]) -> bool {
    let known = status["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    files.iter().all(|path| {
        known.iter().any(|f| f["path"].as_str().map(Path::new) == Some(path) && f["lag"] == 0)
    })
}

fn written(logs: &[Log]) -> BTreeMap<String, u64> {
    logs.iter().map(|log| (format!("{}/main/stdout", log.pod), log.lines)).collect()
}

async fn texts(stack: &Stack) -> anyhow::Result<Vec<String>> {
    let rows = stack.lines(r#"{namespace="sim"}"#).await?;
    Ok(rows.iter().filter_map(|row| row["line"].as_str()).map(str::to_owned).collect())
}

/// All that was written is in the store, once and in order.
async fn all_there(stack: &Stack, agent: &Process, logs: &[Log]) -> anyhow::Result<()> {
    let total: u64 = written(logs).values().sum();
    let mut found = Vec::new();
    let waited = wait_for(&format!("{total} lines"), async || {
        found = texts(stack).await.ok()?;
        (found.len() as u64 >= total).then_some(())
    })
    .await;
    let verdict = judge(&written(logs), found.iter().map(String::as_str));
    waited.with_context(|| format!("{verdict:?}{}", agent.log()))?;
    ensure!(verdict.is_clean(), "{verdict:?}{}", agent.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_rotated_away_while_the_agent_dies_and_the_collector_is_down()
-> anyhow::Result<()> {
    let (stack, mut logs) = stack(&["web", "api", "worker", "db"])?;
    let mut collector = stack.start_collector().await?;
    let mut agent = stack.start_agent_with(&AFTER)?;
    let mut rng = Rng::new(3);
    for round in 0..24 {
        for log in &mut logs {
            log.write(5 + rng.below(20))?;
            log.rotate()?;
        }
        // Up for a while at first and in between, mostly down.
        match round {
            3 | 16 => collector.kill()?,
            14 => collector = stack.start_collector().await?,
            _ => {}
        }
        if rng.below(2) == 0 {
            agent.kill()?;
            agent = stack.start_agent_with(&AFTER)?;
        }
        let files: Vec<PathBuf> =
            logs.iter().map(Log::rotated).collect::<anyhow::Result<Vec<_>>>()?.concat();
        until(&stack, &agent, "what is rotated is safe", |s| are_safe(s, &files)).await?;
        for log in &logs {
            log.keep(2)?;
        }
    }
    until(&stack, &agent, "batches are spooled", |s| s["spool"]["frames"].as_u64() > Some(0))
        .await?;
    let mut collector = stack.start_collector().await?;
    all_there(&stack, &agent, &logs).await?;
    until(&stack, &agent, "the spool is empty", |s| s["spool"]["away"] == false).await?;
    assert!(agent.stop().await?.success(), "{}", agent.log());
    collector.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_sees_a_collector_ends_soon_and_loses_nothing() -> anyhow::Result<()> {
    let (stack, mut logs) = stack(&["web"])?;
    logs[0].write(50)?;
    logs[0].rotate()?;
    logs[0].write(30)?;
    let mut agent = stack.start_agent_with(&AFTER)?;
    let rotated = logs[0].rotated()?;
    until(&stack, &agent, "what is rotated is safe", |s| are_safe(s, &rotated)).await?;
    logs[0].write(20)?;
    let begin = Instant::now();
    assert!(agent.stop().await?.success(), "{}", agent.log());
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(2), "the end took {took:?}\n{}", agent.log());
    fs::remove_dir_all(logs[0].folder.parent().context("a folder of the pod")?)?;
    let agent = stack.start_agent_with(&AFTER)?;
    let _collector = stack.start_collector().await?;
    all_there(&stack, &agent, &logs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_the_loss_is_what_the_records_say() -> anyhow::Result<()> {
    let (stack, mut logs) = stack(&["web"])?;
    // It is waited for as long as something is not safe.
    let bounded = [&AFTER[..], &["--spool-max", "1MiB", "--grace", "3s"]].concat();
    let mut agent = stack.start_agent_with(&bounded)?;
    for _ in 0..6 {
        logs[0].write(1000)?;
        logs[0].rotate()?;
    }
    let full = |s: &serde_json::Value| s["spool"]["problem"].is_string();
    until(&stack, &agent, "the spool is full", full).await?;
    until(&stack, &agent, "all files are held", |s| {
        let files = s["files"].as_array().map(Vec::as_slice).unwrap_or_default();
        files.len() == 7
    })
    .await?;
    logs[0].keep(0)?;
    logs[0].write(10)?;
    assert!(agent.stop().await?.success(), "{}", agent.log());

    let agent = stack.start_agent_with(&bounded)?;
    let _collector = stack.start_collector().await?;
    let last = format!("@@web/main/stdout:{}@@", logs[0].lines - 1);
    let mut found = Vec::new();
    wait_for("the last line and a gap", async || {
        found = texts(&stack).await.ok()?;
        let has = |what: &str| found.iter().any(|line| line.contains(what));
        (has(&last) && has("bytes of 0.log")).then_some(())
    })
    .await
    .with_context(|| agent.log())?;
    let came = found.iter().filter(|line| token(line).is_some()).count() as u64;
    let verdict = judge(&written(&logs), found.iter().map(String::as_str));
    ensure!(verdict.double.is_empty() && !verdict.lost.is_empty(), "{verdict:?}");
    // Whoever reads the log sees it, whoever looks at the metrics too.
    let lost = (logs[0].lines - came) * LINE_BYTES;
    let told = stack
        .lines(r#"{namespace="sim"} | taffrail_gap_reason="removed""#)
        .await?
        .iter()
        .filter_map(|row| row["line"].as_str()?.split(' ').nth(1)?.parse::<u64>().ok())
        .sum::<u64>();
    assert_eq!(told, lost, "{}", agent.log());
    let client = Client::new(&format!("http://{}", stack.agent_http))?;
    let metrics = client.get("/metrics", &[]).await?.text();
    let counter = format!("taffrail_tail_lost_bytes_total{{reason=\"removed\"}} {lost}");
    ensure!(metrics.contains(&counter), "no {counter} in\n{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_got_over() -> anyhow::Result<()> {
    let (stack, mut logs) = stack(&["web"])?;
    let state = stack.path("agent");
    fs::create_dir_all(&state)?;
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&state).output();
    if !mount.is_ok_and(|done| done.status.success()) {
        let told = "SKIPPED: a small tmpfs cannot be mounted here\n";
        std::io::stderr().write_all(told.as_bytes())?;
        return Ok(());
    }
    let _mounted = Mounted(state);
    let mut agent = stack.start_agent_with(&AFTER)?;
    for _ in 0..4 {
        logs[0].write(1000)?;
        logs[0].rotate()?;
    }
    let full = |s: &serde_json::Value| {
        s["spool"]["problem"].as_str().is_some_and(|p| p.contains("No space"))
    };
    until(&stack, &agent, "the disk is full", full).await?;
    until(&stack, &agent, "all files are held", |s| {
        s["files"].as_array().is_some_and(|files| files.len() == 5)
    })
    .await?;
    logs[0].keep(0)?;
    let mut collector = stack.start_collector().await?;
    all_there(&stack, &agent, &logs).await?;
    until(&stack, &agent, "the collector is back", |s| s["spool"]["away"] == false).await?;

    collector.kill()?;
    logs[0].write(20)?;
    logs[0].rotate()?;
    let rotated = logs[0].rotated()?;
    until(&stack, &agent, "what is rotated is safe", |s| are_safe(s, &rotated)).await?;
    until(&stack, &agent, "there is room again", |s| {
        s["spool"]["problem"].is_null() && s["spool"]["frames"].as_u64() > Some(0)
    })
    .await?;
    agent.kill()?;
    logs[0].keep(0)?;
    let mut agent = stack.start_agent_with(&AFTER)?;
    let _collector = stack.start_collector().await?;
    all_there(&stack, &agent, &logs).await?;
    agent.stop().await?;
    Ok(())
}

/// A file system that is there for one test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status().is_ok();
    }
}
