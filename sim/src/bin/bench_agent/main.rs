//! What the agent costs, with the real binary against a collector that only acknowledges.
//!
//! Cases: `throughput` (a corpus read once), `idle` (memory and CPU with silent files), `rate` (CPU at
//! a steady rate), `burst` (many pods at once), `churn` (pods that come and go; memory must not grow).
//! CPU seconds are what the kernel accounts to the agent's process; MB are 10^6 bytes of message text.
//! Every case is bounded in time and cleans up behind itself.

mod peers;
mod sink;
mod tree;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use taffrail_sim::corpus;
use taffrail_sim::process::{Process, free_address};

use sink::Sink;
use tree::{Tree, joined, names};

/// Measures the agent.
#[derive(Parser)]
struct Args {
    /// Cases to run.
    #[arg(long, value_delimiter = ',', default_value = "throughput,idle,rate,burst,churn")]
    cases: Vec<String>,
    /// Message text of the corpus in MB.
    #[arg(long, default_value_t = 512)]
    mb: u64,
    /// Streams of the corpus.
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// Seed of the corpus.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Numbers of silent files.
    #[arg(long, value_delimiter = ',', default_value = "200,5000")]
    idle_files: Vec<usize>,
    /// Lines a second of the case `rate`, over 200 files.
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Pods that start at once in the case `burst`.
    #[arg(long, default_value_t = 500)]
    burst: usize,
    /// Pods that come and go in the case `churn`.
    #[arg(long, default_value_t = 10_000)]
    churn: usize,
    /// How long CPU and memory are watched, in seconds.
    #[arg(long, default_value_t = 20)]
    watch: u64,
    /// Page with what was measured of other agents.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/measurements.md"))]
    measurements: PathBuf,
    /// Longest wait for anything, in seconds.
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

/// An agent over a folder, and the sink that it sends to.
struct Bench {
    agent: Process,
    sink: Sink,
    patience: Duration,
}

/// How often the pod list is read by the agent, and a little more.
const LIST_PATIENCE: Duration = Duration::from_millis(2500);
/// How long an agent that has read everything is left alone before it counts as idle.
const SETTLE: Duration = Duration::from_secs(15);
/// Files of the case `rate`.
const RATE_FILES: usize = 200;
/// How often the case `rate` writes.
const RATE_TICK: Duration = Duration::from_millis(50);
/// Pods that come at a time in the case `churn`.
const CHURN_STEP: usize = 250;

impl Bench {
    async fn start(args: &Args, folder: &Path) -> anyhow::Result<Self> {
        let (sink, url) = Sink::start().await?;
        let path = |name: &str| folder.join(name).display().to_string();
        let http = free_address()?;
        let arguments = [
            "--collector",
            &url,
            "--pod-logs",
            &path("pods"),
            "--pods-file",
            &path("pods.json"),
            "--state-dir",
            &path("agent"),
            "--node",
            "bench",
            "--http",
            &http.to_string(),
        ]
        .map(str::to_owned);
        let agent = Process::start("taffrail-agent", &arguments, &folder.join("process-logs"))?;
        Ok(Self { agent, sink, patience: Duration::from_secs(args.patience) })
    }

    async fn wait_for_bytes(&self, bytes: u64) -> anyhow::Result<()> {
        let waited = self.sink.wait_for_bytes(bytes, self.patience).await;
        waited.with_context(|| self.agent.log())
    }

    /// CPU as a share of one core, over some time.
    async fn cpu_share(&self, over: Duration) -> anyhow::Result<f64> {
        let (before, began) = (self.agent.cpu_seconds()?, Instant::now());
        tokio::time::sleep(over).await;
        Ok((self.agent.cpu_seconds()? - before) / began.elapsed().as_secs_f64())
    }

    fn memory(&self, field: &str) -> anyhow::Result<f64> {
        Ok(self.agent.memory(field)? as f64 / 1e6)
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let known = ["throughput", "idle", "rate", "burst", "churn"];
    for case in &args.cases {
        ensure!(known.contains(&&**case), "{case} is no case; there are {}", known.join(", "));
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average at the start: {}", load.trim());
    peers::print(&args.measurements);
    println!("ours:");
    for case in &args.cases {
        let run = async {
            match &**case {
                "throughput" => throughput(&args).await,
                "idle" => idle(&args).await,
                "rate" => rate(&args).await,
                "burst" => burst(&args).await,
                _ => churn(&args).await,
            }
        };
        run.await.with_context(|| case.clone())?;
    }
    Ok(())
}

async fn throughput(args: &Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let written = corpus::write(folder.path(), "bench", args.mb, args.streams, args.seed)?;
    let began = Instant::now();
    let mut bench = Bench::start(args, folder.path()).await?;
    bench.wait_for_bytes(written.file_bytes).await?;
    let (cpu, wall) = (bench.agent.cpu_seconds()?, began.elapsed().as_secs_f64());
    ensure!(bench.sink.lines() == written.lines, "{} lines", bench.sink.lines());
    let text = written.text_bytes as f64 / 1e6;
    println!(
        "throughput: {:.0} MB and {:.0} lines per CPU s ({text:.0} MB of text in {} lines and {} \
         files, {cpu:.2} CPU s, {wall:.2} s wall), {:.3} of the text on the wire, peak {:.1} MB \
         resident, {:.1} MB after",
        text / cpu,
        written.lines as f64 / cpu,
        written.lines,
        args.streams,
        bench.sink.wire_bytes() as f64 / 1e6 / text,
        bench.memory("VmHWM")?,
        bench.memory("VmRSS")?,
    );
    ended(&mut bench.agent).await
}

async fn idle(args: &Args) -> anyhow::Result<()> {
    for &files in &args.idle_files {
        let folder = tempfile::tempdir()?;
        let mut tree = Tree::new(folder.path())?;
        let pods = names("idle", 0..files);
        tree.list(&pods)?;
        for pod in &pods {
            tree.add(pod, 20)?;
        }
        let began = Instant::now();
        let mut bench = Bench::start(args, folder.path()).await?;
        bench.wait_for_bytes(tree.written()).await?;
        let firsts = bench.sink.firsts();
        let first = firsts.first().context("a first line")?.duration_since(began).as_secs_f64();
        let all = began.elapsed().as_secs_f64();
        tokio::time::sleep(SETTLE).await;
        let share = bench.cpu_share(Duration::from_secs(args.watch)).await?;
        println!(
            "idle, {files} files: {:.1} MB resident (peak {:.1}), {:.2}% of a core; first line {first:.2} s \
             and all files {all:.2} s after the start",
            bench.memory("VmRSS")?,
            bench.memory("VmHWM")?,
            share * 100.0,
        );
        ended(&mut bench.agent).await?;
    }
    Ok(())
}

async fn rate(args: &Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut tree = Tree::new(folder.path())?;
    let pods = names("rate", 0..RATE_FILES);
    tree.list(&pods)?;
    let files = pods.iter().map(|pod| tree.add(pod, 1)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut bench = Bench::start(args, folder.path()).await?;
    bench.wait_for_bytes(tree.written()).await?;
    let mut ticks = tokio::time::interval(RATE_TICK);
    // One write a line, as a runtime does, spread over files and time.
    let per_tick = f64::from(args.rate) * RATE_TICK.as_secs_f64();
    let (mut due, mut next) = (0.0, 0_u32);
    let warm = Instant::now() + Duration::from_secs(3);
    let mut began = None;
    let end = warm + Duration::from_secs(args.watch);
    while Instant::now() < end {
        ticks.tick().await;
        if began.is_none() && Instant::now() >= warm {
            began = Some((Instant::now(), bench.agent.cpu_seconds()?, next));
        }
        due += per_tick;
        while f64::from(next) < due {
            let at = next as usize % RATE_FILES;
            tree.append(&files[at], &pods[at], next..next + 1)?;
            next += 1;
        }
    }
    let (began, cpu, lines) = began.context("it has begun")?;
    let wall = began.elapsed().as_secs_f64();
    let cpu = bench.agent.cpu_seconds()? - cpu;
    println!(
        "rate: {:.2}% of a core at {:.0} lines/s over {RATE_FILES} files, {:.1} MB resident",
        cpu / wall * 100.0,
        f64::from(next - lines) / wall,
        bench.memory("VmRSS")?,
    );
    bench.wait_for_bytes(tree.written()).await?;
    ended(&mut bench.agent).await
}

async fn burst(args: &Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut tree = Tree::new(folder.path())?;
    let pods = names("burst", 0..args.burst);
    tree.list(&pods)?;
    let mut bench = Bench::start(args, folder.path()).await?;
    tokio::time::sleep(LIST_PATIENCE).await;
    let began = Instant::now();
    for pod in &pods {
        tree.add(pod, 5)?;
    }
    let written = began.elapsed().as_secs_f64();
    bench.wait_for_bytes(tree.written()).await?;
    let after = |at: &Instant| at.duration_since(began).as_secs_f64();
    let firsts: Vec<f64> = bench.sink.firsts().iter().map(after).collect();
    println!(
        "burst: {} pods written within {written:.2} s; first line of the first pod after {:.2} s, of half \
         of them {:.2} s, of all {:.2} s; peak {:.1} MB resident",
        args.burst,
        firsts[0],
        firsts[firsts.len() / 2],
        firsts[firsts.len() - 1],
        bench.memory("VmHWM")?,
    );
    ended(&mut bench.agent).await
}

async fn churn(args: &Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut tree = Tree::new(folder.path())?;
    let rounds = args.churn.div_ceil(CHURN_STEP);
    // Pods are listed before their files come, and until some time after these are gone.
    let step = |round: usize| names("churn", round * CHURN_STEP..(round + 1) * CHURN_STEP);
    let mut listed: VecDeque<Vec<String>> = (0..3).map(step).collect();
    tree.list(&joined(&listed))?;
    let mut bench = Bench::start(args, folder.path()).await?;
    tokio::time::sleep(LIST_PATIENCE).await;
    let mut resident = Vec::new();
    let mut previous: Vec<String> = Vec::new();
    for round in 0..rounds {
        let pods = step(round);
        for pod in &pods {
            tree.add(pod, 20)?;
        }
        bench.wait_for_bytes(tree.written()).await?;
        for pod in previous.drain(..) {
            tree.remove(&pod)?;
        }
        previous = pods;
        listed.push_back(step(round + 3));
        while listed.len() > 5 {
            listed.pop_front();
        }
        tree.list(&joined(&listed))?;
        tokio::time::sleep(LIST_PATIENCE).await;
        if (round + 1) * 10 >= rounds * (resident.len() + 1) {
            resident.push(format!("{:.1}", bench.memory("VmRSS")?));
        }
    }
    for pod in previous {
        tree.remove(&pod)?;
    }
    tokio::time::sleep(SETTLE).await;
    println!(
        "churn: MB resident after each tenth of {} pods: {}; at the end {:.1} (peak {:.1}); {:.2} CPU s",
        rounds * CHURN_STEP,
        resident.join(", "),
        bench.memory("VmRSS")?,
        bench.memory("VmHWM")?,
        bench.agent.cpu_seconds()?,
    );
    ended(&mut bench.agent).await
}

async fn ended(agent: &mut Process) -> anyhow::Result<()> {
    let status = agent.stop().await?;
    ensure!(status.success(), "{status}: {}", agent.log());
    Ok(())
}
