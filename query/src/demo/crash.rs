//! The pod that crashes and is started again: each start is a file of its own, `<n>.log`, and the
//! kubelet keeps the last two.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use taffrail_model::Nanos;
use taffrail_model::time::NANOS_PER_SEC;

use super::corpus::{Corpus, Voice};
use super::cri::Output;
use super::files::{ContainerLog, Limits};

/// How long it lives each time.
const LIFE: Nanos = 12 * NANOS_PER_SEC;
/// First wait before it is started again; doubled each time, as the kubelet does.
const WAIT_FIRST: Nanos = 10 * NANOS_PER_SEC;
/// Longest wait (the kubelet's is five minutes; a demo is shorter).
const WAIT_MAX: Nanos = 80 * NANOS_PER_SEC;
/// What it says when it dies: a Go panic.
const PANIC: [&str; 9] = [
    "panic: runtime error: invalid memory address or nil pointer dereference",
    "[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x6a41d2]",
    "",
    "goroutine 1 [running]:",
    "main.(*Importer).next(0x0, {0xc00011e000, 0x400})",
    "\t/src/importer/next.go:88 +0x42",
    "main.main()",
    "\t/src/importer/main.go:31 +0x1e5",
    "exit status 2",
];

/// Where the pod is between a start and the next.
#[derive(Debug)]
pub(super) struct CrashLoop {
    directory: PathBuf,
    restarts: u32,
    wait: Nanos,
    is_running: bool,
    /// When it dies, or is started again.
    turn_at: Nanos,
    speaks_at: Nanos,
}

impl CrashLoop {
    /// Starts the container after the last run that left a file.
    pub(super) fn begin(directory: &Path, now: Nanos) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let restarts = runs(directory)?.last().map_or(0, |(run, _)| run.saturating_add(1));
        let directory = directory.to_owned();
        let (wait, turn_at) = (WAIT_FIRST, now + LIFE);
        let mut crash =
            Self { directory, restarts, wait, is_running: true, turn_at, speaks_at: now };
        crash.remove_old()?;
        Ok(crash)
    }

    /// Which run this is, from 0.
    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Goes on to `now`. Returns the log of the next run when it begins.
    pub(super) fn step(
        &mut self,
        now: Nanos,
        limits: Limits,
        voice: &mut Voice,
        corpus: &mut Corpus,
        log: &mut ContainerLog,
    ) -> io::Result<Option<ContainerLog>> {
        if self.is_running && now >= self.speaks_at && now < self.turn_at {
            self.speaks_at = now + NANOS_PER_SEC / 2;
            let mut line = String::new();
            corpus.write_voice(voice, &mut line);
            log.push(now, Output::Stdout, &line);
        }
        if now < self.turn_at {
            return Ok(None);
        }
        if self.is_running {
            for (line, after) in PANIC.iter().zip(0..) {
                log.push(now + after * 1000, Output::Stderr, line);
            }
            self.is_running = false;
            self.turn_at = now + self.wait;
            self.wait = (self.wait * 2).min(WAIT_MAX);
            return Ok(None);
        }
        self.is_running = true;
        self.turn_at = now + LIFE;
        self.restarts = self.restarts.saturating_add(1);
        let next = ContainerLog::open(&self.directory, self.restarts, limits)?;
        self.remove_old()?;
        Ok(Some(next))
    }

    /// Removes the files of all runs but this and the one before.
    fn remove_old(&mut self) -> io::Result<()> {
        for (run, path) in runs(&self.directory)? {
            if run.saturating_add(1) < self.restarts {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// The files of a container's runs, by the number of the run.
fn runs(directory: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(run) = name.split(".log").next().and_then(|n| n.parse().ok()) {
            runs.push((run, path));
        }
    }
    runs.sort();
    Ok(runs)
}
