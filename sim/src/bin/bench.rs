//! What agent and collector cost on a generated corpus, with the real binaries: MB and lines per CPU
//! second, memory, bytes on disk, and the time of queries.
//!
//! The corpus is written as container log files of many pods. The agent reads it from the beginning
//! and ships it to the collector until every byte is acknowledged; CPU seconds are those that the
//! kernel accounts to each process. MB are 10^6 bytes of message text, without the runtime's prefix.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use taffrail_kit::http::Client;
use taffrail_sim::corpus::{self, Written};
use taffrail_sim::process::{Process, ended_cpu_seconds, free_address};

/// Measures agent and collector over a corpus made from a seed.
#[derive(Parser)]
struct Args {
    /// Message text of the corpus in MB (10^6 bytes).
    #[arg(long, default_value_t = 256)]
    mb: u64,
    /// Streams, with Zipf-like rates.
    #[arg(long, default_value_t = 200)]
    streams: usize,
    /// Seed of the corpus.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the corpus and the store; a temporary one if not given. Must be empty or absent.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Timed runs of each query.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Ends with an error when not everything is acknowledged after so many seconds.
    #[arg(long, default_value_t = 600)]
    patience: u64,
}

/// How often the collector is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(250);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let temporary = tempfile::tempdir()?;
    let folder = args.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    ensure!(std::fs::read_dir(&folder)?.next().is_none(), "{} is not empty", folder.display());

    let written = corpus::write(&folder, "bench", args.mb, args.streams, args.seed)?;
    println!(
        "corpus: {:.0} MB of text in {} lines, {} streams, seed {}",
        mb(written.text_bytes),
        written.lines,
        args.streams,
        args.seed
    );
    let http = free_address()?;
    let client = Client::new(&format!("http://{http}"))?;
    let mut collector = start_collector(&folder, &client).await?;
    println!("collector idle: {:.0} MB resident", mb(collector.memory("VmRSS")?));

    let mut agent = start_agent(&folder, &client)?;
    let began = Instant::now();
    acknowledged(&args, &client, written.file_bytes).await.with_context(|| agent.log())?;
    let wall = began.elapsed().as_secs_f64();
    let agent_memory = agent.memory("VmHWM")?;
    let before = ended_cpu_seconds()?;
    agent.stop().await?;
    let agent_cpu = ended_cpu_seconds()? - before;
    report("agent, file to acknowledged", &written, (agent_cpu, wall), agent_memory);
    // What is in memory becomes segments at the end: that is part of the price.
    let memory = collector.memory("VmHWM")?;
    collector.stop().await?;
    let cpu = ended_cpu_seconds()? - before - agent_cpu;
    report("collector, received to fsynced, indexed and on disk", &written, (cpu, wall), memory);
    for part in ["logs", "wal"] {
        let size = size_of(&folder.join("collector").join(part))?;
        println!(
            "on disk, {part}: {:.1} MB, {:.3} of the text",
            mb(size),
            size as f64 / written.text_bytes as f64
        );
    }
    let began = Instant::now();
    let collector = start_collector(&folder, &client).await?;
    println!("restart: ready after {:.2} s", began.elapsed().as_secs_f64());
    queries(&args, &client, &collector, written.newest).await
}

async fn start_collector(folder: &Path, client: &Client) -> anyhow::Result<Process> {
    let address = client.base().trim_start_matches("http://").to_owned();
    let arguments =
        ["--data-dir", &folder.join("collector").display().to_string(), "--http", &address];
    let mut collector = Process::start(
        "taffrail-collector",
        &arguments.map(str::to_owned),
        &folder.join("process-logs"),
    )?;
    collector.ready(&format!("{}/readyz", client.base())).await?;
    Ok(collector)
}

fn start_agent(folder: &Path, client: &Client) -> anyhow::Result<Process> {
    let path = |name: &str| folder.join(name).display().to_string();
    let arguments = [
        "--collector",
        client.base(),
        "--pod-logs",
        &path("pods"),
        "--pods-file",
        &path("pods.json"),
        "--state-dir",
        &path("agent"),
        "--node",
        "bench",
    ];
    Process::start("taffrail-agent", &arguments.map(str::to_owned), &folder.join("process-logs"))
}

/// Waits until the committed positions of all files add up to all bytes.
async fn acknowledged(args: &Args, client: &Client, file_bytes: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(args.patience);
    let mut ask = tokio::time::interval(ASK_EVERY);
    loop {
        ask.tick().await;
        let answer = client.get("/api/v1/agent/positions?prefix=bench/", &[]).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let positions = answer["positions"].as_array().context("positions")?;
        let committed: u64 = positions.iter().filter_map(|p| p["committed"].as_u64()).sum();
        if committed == file_bytes {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{committed} of {file_bytes} bytes acknowledged in time"
        );
    }
}

fn report(what: &str, written: &Written, (cpu, wall): (f64, f64), memory: u64) {
    println!(
        "{what}: {:.1} MB and {:.0} lines per CPU s ({cpu:.2} CPU s; all acknowledged after {wall:.2} s), peak {:.0} MB resident",
        mb(written.text_bytes) / cpu,
        written.lines as f64 / cpu,
        mb(memory),
    );
}

/// Asks each query several times: median and slowest in milliseconds, CPU of the collector a query.
async fn queries(
    args: &Args,
    client: &Client,
    collector: &Process,
    newest: i64,
) -> anyhow::Result<()> {
    let hour = 3_600_000_000_000_i64;
    let logs = |query: &str, hours: i64| {
        format!(
            "/loki/api/v1/query_range?query={}&start={}&end={}&limit=100",
            encode(query),
            newest - hours * hour,
            newest + 1
        )
    };
    let counts = |query: &str| format!("{}&step=60", logs(query, 6));
    let asked = [
        ("newest 100 of an app, 1 h", logs(r#"{app="checkout"}"#, 1)),
        ("newest 100 of a pod with a word, 6 h", logs(r#"{app="storefront"} |= "POST""#, 6)),
        (
            "a word with no hit, 6 h",
            logs(r#"{cluster=~".*",namespace=~".+"} |= "nosuchwordanywhere""#, 6),
        ),
        (
            "an id with no hit, 6 h",
            logs(r#"{namespace=~".+"} |= "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f""#, 6),
        ),
        (
            "substring of letters, count",
            counts(r#"sum(count_over_time({namespace=~".+"} |= "imeou" [1m]))"#),
        ),
        (
            "regex with a literal, count",
            counts(r#"sum(count_over_time({namespace=~".+"} |~ "timed? out after \\d+" [1m]))"#),
        ),
        (
            "count per minute by app, no filter",
            counts(r#"sum by (app) (count_over_time({namespace=~".+"}[1m]))"#),
        ),
        (
            "count of `error` per minute by app",
            counts(r#"sum by (app) (count_over_time({namespace=~".+"} |= "error" [1m]))"#),
        ),
    ];
    for (what, path) in asked {
        let mut times = Vec::new();
        let before = collector.cpu_seconds()?;
        for _ in 0..args.runs {
            let began = Instant::now();
            let answer = client.get(&path, &[]).await?;
            ensure!(answer.status == 200, "{what}: {}: {}", answer.status, answer.text());
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let cpu = (collector.cpu_seconds()? - before) * 1e3 / args.runs as f64;
        times.sort_by(f64::total_cmp);
        println!(
            "query, {what}: median {:.1} ms, slowest {:.1} ms, {cpu:.0} ms CPU",
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
    println!("collector after the queries: {:.0} MB resident", mb(collector.memory("VmRSS")?));
    Ok(())
}

fn encode(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn size_of(path: &Path) -> std::io::Result<u64> {
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    std::fs::read_dir(path)?.map(|entry| size_of(&entry?.path())).sum()
}
