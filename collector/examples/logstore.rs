//! What the log store alone costs on the generated corpus: MB of text per CPU second when lines are
//! taken in and written, bytes on disk before and after merging, memory, and the time of queries.
//!
//! `make bench-logs`, or `cargo run --release -p taffrail-collector --example logstore -- [MB] [STREAMS]
//! [FOLDER] [QUERY]`. With a folder its lines stay there, and the next run asks them; with a part of a
//! query's name only that is asked, and nothing is merged (for a profiler). No network, no
//! write-ahead log: what is measured is `collector/src/logs` and the query engine above it. Numbers go
//! to `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use taffrail_collector::logs::{LogStore, LogStoreConfig, Opened};
use taffrail_kit::clock;
use taffrail_model::{Level, LogEntry, StreamEntries};
use taffrail_query::demo::corpus::Corpus;
use taffrail_query::demo::random::Zipf;
use taffrail_query::logql::ast::Expr;
use taffrail_query::logql::log::{LogParams, run_log};
use taffrail_query::logql::metric::{MetricParams, Steps, run_metric};
use taffrail_query::logql::plan::LogPlan;
use taffrail_query::logql::{LogqlOptions, parse};
use taffrail_query::source::{Cancel, Direction, ScanStats};

/// Text of one batch, as an agent sends it.
const BATCH_BYTES: usize = 1 << 20;
const HOUR: i64 = 3_600_000_000_000;
const SPAN: i64 = 6 * HOUR;
const RUNS: usize = 7;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let megabytes: u64 = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let streams: usize = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let folder = arguments.next().map(PathBuf::from);
    let temporary = tempfile::tempdir()?;
    let folder = folder.unwrap_or_else(|| temporary.path().to_owned());
    let Opened { store, .. } = LogStore::open(LogStoreConfig::new(folder.join("logs")))?;
    // A folder that was filled by an earlier run is only asked.
    let note = folder.join("newest");
    let newest = match std::fs::read_to_string(&note) {
        Ok(text) => text.parse()?,
        Err(_) => fill(&store, megabytes * 1_000_000, streams)?,
    };
    std::fs::write(&note, newest.to_string())?;
    sizes("before merging", &store, &folder)?;
    if let Some(only) = arguments.next() {
        return queries(&store, newest, &only);
    }
    queries(&store, newest, "")?;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    while store.compact_idle()? {}
    println!("merged in {:.2} s, {:.2} CPU s", began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    sizes("after merging", &store, &folder)?;
    println!("peak {:.0} MB resident", status("VmHWM")?);
    queries(&store, newest, "")
}

/// Takes lines in as batches come, and writes the memtable as the collector's upkeep does.
fn fill(store: &Arc<LogStore>, target: u64, streams: usize) -> anyhow::Result<i64> {
    let (mut corpus, zipf) = (Corpus::new(1), Zipf::new(streams));
    let labels: Vec<_> = (0..streams).map(|n| corpus.stream(n).labels).collect();
    let end = clock::unix_nanos();
    let (mut written, mut lines, mut newest) = (0_u64, 0_u64, 0);
    let mut spent = (0.0, 0.0);
    let mut seq = 0;
    while written < target {
        let mut batch: BTreeMap<usize, Vec<LogEntry>> = BTreeMap::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            let n = corpus.pick(&zipf);
            let done = written as f64 / target as f64;
            newest = end - SPAN + (SPAN as f64 * done) as i64;
            corpus.set_time(newest);
            let mut line = String::new();
            corpus.write_line(n, &mut line);
            bytes += line.len();
            written += line.len() as u64;
            lines += 1;
            let level = if line.contains("rror") { Level::Error } else { Level::Info };
            let entry = LogEntry { ts: newest, line, level, metadata: Vec::new() };
            batch.entry(n).or_default().push(entry);
        }
        let frame = batch
            .into_iter()
            .map(|(n, entries)| StreamEntries { labels: labels[n].clone(), entries })
            .collect();
        let before = (Instant::now(), cpu_seconds()?);
        store.apply(seq, frame, &[]);
        store.tick()?;
        spent.0 += before.0.elapsed().as_secs_f64();
        spent.1 += cpu_seconds()? - before.1;
        seq += 1;
    }
    let before = (Instant::now(), cpu_seconds()?);
    store.flush()?;
    spent.0 += before.0.elapsed().as_secs_f64();
    spent.1 += cpu_seconds()? - before.1;
    let mb = written as f64 / 1e6;
    println!(
        "{mb:.0} MB in {lines} lines: {:.1} MB per CPU s, {:.1} MB per s of wall, peak {:.0} MB resident",
        mb / spent.1,
        mb / spent.0,
        status("VmHWM")?
    );
    Ok(newest)
}

fn sizes(when: &str, store: &LogStore, folder: &Path) -> anyhow::Result<()> {
    let stats = store.stats();
    let text = (stats.text_bytes - stats.lines) as f64;
    println!(
        "{when}: {} segments, {} blocks, {:.4} of the text on disk",
        stats.segments,
        stats.blocks,
        stats.disk_bytes as f64 / text
    );
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    for segment in std::fs::read_dir(folder.join("logs/segments"))? {
        for file in std::fs::read_dir(segment?.path())? {
            let file = file?;
            *parts.entry(file.file_name().to_string_lossy().into_owned()).or_default() +=
                size_of(&file.path())?;
        }
    }
    for (name, bytes) in parts {
        println!("  {name}: {:.4}", bytes as f64 / text);
    }
    Ok(())
}

fn size_of(path: &Path) -> std::io::Result<u64> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    std::fs::read_dir(path)?.map(|entry| size_of(&entry?.path())).sum()
}

fn queries(store: &Arc<LogStore>, newest: i64, only: &str) -> anyhow::Result<()> {
    let asked = [
        ("newest 100 of an app, 1 h", r#"{app="checkout"}"#, 1),
        ("newest 100 of an app with a word", r#"{app="storefront"} |= "POST""#, 6),
        ("a word with no hit", r#"{namespace=~".+"} |= "nosuchwordanywhere""#, 6),
        ("an id with no hit", r#"{namespace=~".+"} |= "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f""#, 6),
        ("a UUID with no hit", r#"{namespace=~".+"} |= "0f0f0f0f-1234-4bcd-9abc-0f0f0f0f0f0f""#, 6),
        (
            "phrase, count",
            r#"sum(count_over_time({namespace=~".+"} |= "connection acquire timed out" [1m]))"#,
            6,
        ),
        (
            "substring of letters, count",
            r#"sum(count_over_time({namespace=~".+"} |= "imeou" [1m]))"#,
            6,
        ),
        (
            "regex with a literal, count",
            r#"sum(count_over_time({namespace=~".+"} |~ "timed? out after \\d+" [1m]))"#,
            6,
        ),
        (
            "regex of any case, count",
            r#"sum(count_over_time({namespace=~".+"} |~ "(?i)timeout" [1m]))"#,
            6,
        ),
        ("count by app, no filter", r#"sum by (app) (count_over_time({namespace=~".+"}[1m]))"#, 6),
        ("bytes by app, no filter", r#"sum by (app) (bytes_over_time({namespace=~".+"}[1m]))"#, 6),
        (
            "count of a common word by app",
            r#"sum by (app) (count_over_time({namespace=~".+"} |= "error" [1m]))"#,
            6,
        ),
        (
            "count without a common word by app",
            r#"sum by (app) (count_over_time({namespace=~".+"} != "info" [1m]))"#,
            6,
        ),
        (
            "count by level",
            r#"sum by (detected_level) (count_over_time({namespace=~".+"} | drop __error__ [1m]))"#,
            6,
        ),
        (
            "count of a number by app",
            r#"sum by (app) (count_over_time({namespace=~".+"} |= "500" [1m]))"#,
            6,
        ),
    ];
    for (what, text, hours) in asked.into_iter().filter(|(what, ..)| what.contains(only)) {
        let range = (newest - hours * HOUR, newest + 1);
        let (mut times, mut costs) = (Vec::new(), Vec::new());
        let mut seen = (0.0, ScanStats::default());
        for _ in 0..RUNS {
            let (began, cpu) = (Instant::now(), cpu_seconds()?);
            seen = ask(store, text, range).with_context(|| what.to_owned())?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
            costs.push((cpu_seconds()? - cpu) * 1e3);
        }
        let (first, first_cost) = (times.remove(0), costs.remove(0));
        times.sort_by(f64::total_cmp);
        println!(
            "  {what}: first {first:.2} ms, {first_cost:.0} CPU; then median {:.2}, least {:.2} ms, \
             {:.1} CPU; {} of {} blocks, answer {}",
            times[times.len() / 2],
            times[0],
            costs.iter().sum::<f64>() / costs.len() as f64,
            seen.1.blocks_scanned,
            seen.1.blocks,
            seen.0
        );
    }
    Ok(())
}

/// Runs a query; the number of lines, or the sum of all values.
fn ask(store: &LogStore, text: &str, (start, end): (i64, i64)) -> anyhow::Result<(f64, ScanStats)> {
    match parse(text, LogqlOptions::default())? {
        Expr::Log(log) => {
            let params = LogParams {
                range: taffrail_model::TimeRange::new(start, end),
                direction: Direction::Backward,
                limit: Some(100),
                interval: 0,
                cancel: Cancel::new(),
            };
            let mut lines = 0.0;
            let stats = run_log(store, &LogPlan::new(&log)?, &params, &mut |_| {
                lines += 1.0;
                ControlFlow::Continue(())
            })?;
            Ok((lines, stats))
        }
        Expr::Metric(metric) => {
            let steps = Steps::range(start, end, 60_000_000_000, 11_000).context("steps")?;
            let cancel = Cancel::new();
            let params = MetricParams { steps, instant: false, series_max: 500, cancel };
            let answer = run_metric(store, &metric, &params)?;
            let taffrail_query::logql::metric::MetricValue::Series(series) = answer.value else {
                return Ok((0.0, answer.stats));
            };
            Ok((series.iter().flat_map(|s| s.values.iter().flatten()).sum(), answer.stats))
        }
    }
}

/// CPU seconds of this process, ended threads included.
fn cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let rest = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn status(field: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(field)).context("no such field")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}
