//! Writes container logs until its standard input closes, or so many lines are written. Prints how
//! many lines there are now and then, and at the end one line of JSON: each token prefix and its
//! count of lines.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use taffrail_sim::podlog::Container;
use taffrail_sim::rng::Rng;

/// Writes container logs under a `/var/log/pods`-shaped folder.
#[derive(Parser)]
struct Args {
    /// The folder.
    #[arg(long)]
    root: PathBuf,
    /// Names of the pods, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pods: Vec<String>,
    /// Seed of the run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Lines a second, all pods together; 0 is as fast as it goes.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Ends after so many lines, all pods together.
    #[arg(long, default_value_t = u64::MAX)]
    lines: u64,
    /// Rotates a file after so many lines.
    #[arg(long, default_value_t = 500)]
    rotate_after: u64,
    /// Rotated files that stay.
    #[arg(long, default_value_t = 50)]
    keep: usize,
}

/// Lines between two looks at the clock and two reports of progress.
const BURST: u64 = 50;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    std::thread::spawn(move || {
        // Whatever comes, and its end, mean: stop.
        let _end = std::io::stdin().read(&mut [0_u8; 16]).is_ok();
        told.store(true, Ordering::Relaxed);
    });
    let mut rng = Rng::new(args.seed);
    let mut containers = Vec::new();
    for pod in &args.pods {
        let seed = rng.next_u64();
        let container = Container::create(&args.root, pod, seed, args.rotate_after, args.keep)?;
        containers.push(container);
    }
    anyhow::ensure!(!containers.is_empty(), "--pods names no pod");
    let mut out = std::io::stdout().lock();
    let mut written = 0;
    let (_never, pace) = std::sync::mpsc::channel::<()>();
    while written < args.lines && !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST.min(args.lines - written) {
            let which = rng.below(containers.len() as u64);
            containers[usize::try_from(which)?].write_line()?;
            written += 1;
        }
        writeln!(out, "{written}")?;
        out.flush()?;
        if args.rate > 0 {
            // Nothing ever comes: this is the pause between two bursts.
            let pause = Duration::from_secs_f64(BURST as f64 / args.rate as f64);
            let _elapsed = pace.recv_timeout(pause).is_err();
        }
    }
    let totals: serde_json::Map<String, serde_json::Value> = containers
        .iter()
        .flat_map(Container::totals)
        .map(|(prefix, lines)| (prefix, lines.into()))
        .collect();
    writeln!(out, "{}", serde_json::Value::Object(totals))?;
    Ok(())
}
