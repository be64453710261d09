//! A program that `up` has started: its output goes to a file, and it is ended by SIGTERM.
//!
//! It is in a process group of its own, so that Ctrl-C in a terminal reaches `up` alone, which then
//! ends its children in order.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use taffrail_kit::http::Client;
use tokio::process::{Child as Process, Command};

use super::super::Error;
use super::leash;

/// How many of the last lines of a log are shown.
const TAIL_LINES: usize = 12;
/// How much of a log is read for them.
const TAIL_BYTES: u64 = 16 * 1024;
/// A log that is longer when its program starts is put aside.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How often a program is asked whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(100);

/// Where the programs are that `up` starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Programs<'a> {
    /// Their folder.
    pub(super) folder: &'a Path,
    /// This program, through which they are started so that they end with it; see [`leash`].
    pub(super) leash: Option<&'a Path>,
}

impl Programs<'_> {
    fn command(&self, program: &Path) -> Command {
        let Some(own) = self.leash else { return Command::new(program) };
        let mut command = Command::new(own);
        command.arg(leash::NAME).arg(std::process::id().to_string()).arg(program);
        command
    }
}

/// A running program.
#[derive(Debug)]
pub(super) struct Child {
    name: &'static str,
    process: Process,
    log: PathBuf,
    /// Where in the log the words of this run begin.
    log_start: u64,
}

impl Child {
    /// Starts the program of that name, with its output appended to `log`.
    pub(super) fn start(
        programs: Programs<'_>,
        name: &'static str,
        arguments: &[OsString],
        log: &Path,
    ) -> Result<Self, Error> {
        let program = programs.folder.join(name);
        if !program.is_file() {
            return Err(Error::Missing { name, folder: programs.folder.to_owned() });
        }
        let file = |source| Error::File { path: log.to_owned(), source };
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent).map_err(file)?;
        }
        if fs::metadata(log).is_ok_and(|file| file.len() > LOG_BYTES_MAX) {
            fs::rename(log, log.with_extension("log.1")).map_err(file)?;
        }
        let output = OpenOptions::new().create(true).append(true).open(log).map_err(file)?;
        let errors = output.try_clone().map_err(file)?;
        let log_start = output.metadata().map_err(file)?.len();
        let process = programs
            .command(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::File { path: program, source })?;
        Ok(Self { name, process, log: log.to_owned(), log_start })
    }

    /// Returns when the program has ended. Cancel safe.
    pub(super) async fn ended(&mut self) -> Error {
        let status = match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Error::ChildEnded {
            name: self.name,
            status,
            log: self.log.clone(),
            tail: tail(&self.log, self.log_start),
        }
    }

    /// Waits until the program is ready, while it may end.
    pub(super) fn readiness(&self) -> Readiness {
        Readiness { name: self.name, log: self.log.clone() }
    }

    /// Asks the program to end and waits for it; after `grace` it is killed.
    pub(super) async fn stop(mut self, grace: Duration) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { return };
        // An error means that it has ended already, which the wait then sees.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err();
        if tokio::time::timeout(grace, self.process.wait()).await.is_err() {
            tracing::warn!(name = self.name, "does not end, killing it");
            let _gone = self.process.kill().await.is_err();
        }
    }
}

/// Asks a program whether it is ready, apart from [`Child`], which is being watched meanwhile.
#[derive(Debug)]
pub(super) struct Readiness {
    name: &'static str,
    log: PathBuf,
}

impl Readiness {
    /// Returns once `url` answers `/readyz` with success.
    pub(super) async fn wait(self, url: &str, patience: Duration) -> Result<(), Error> {
        let client = Client::new(url)
            .map_err(|e| Error::Argument { flag: "--http", reason: e.to_string() })?
            .with_timeout(patience);
        let asking = async {
            let mut interval = tokio::time::interval(READY_INTERVAL);
            loop {
                interval.tick().await;
                if client.get("/readyz", &[]).await.is_ok_and(|answer| answer.status.is_success()) {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, asking).await.map_err(|_| Error::NotReady {
            name: self.name,
            seconds: patience.as_secs(),
            log: self.log,
        })
    }
}

/// The last lines of a file after `start`, indented; empty when it cannot be read.
fn tail(path: &Path, start: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES).max(start)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::PROGRAMS;
    use std::os::unix::fs::PermissionsExt;

    const NAME: &str = "taffrail-collector";

    /// A program that is a shell script.
    fn start(folder: &Path, script: &str) -> Child {
        let program = folder.join(NAME);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let log = folder.join("logs/child.log");
        Child::start(Programs { folder, leash: None }, NAME, &["--flag".into()], &log).unwrap()
    }

    #[tokio::test]
    async fn a_program_that_dies_is_quoted() {
        let _turn = PROGRAMS.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), "seq 20; echo \"no port for $1\" >&2; exit 3");
        let error = child.ended().await.to_string();
        assert!(
            error.starts_with("taffrail-collector ended (exit status: 3); the end of "),
            "{error}"
        );
        assert!(error.ends_with("  20\n  no port for --flag"), "{error}");
        assert!(!error.contains("  9\n"), "only the last lines: {error}");
    }

    #[tokio::test]
    async fn earlier_runs_are_not_quoted() {
        let _turn = PROGRAMS.lock().await;
        let folder = tempfile::tempdir().unwrap();
        for word in ["first", "second"] {
            let error = start(folder.path(), &format!("echo {word}")).ended().await.to_string();
            assert!(error.ends_with(&format!(":\n  {word}")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_program_is_asked_to_end() {
        let _turn = PROGRAMS.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/child.log");
        let script = "trap 'echo ended; exit 0' TERM; echo begun; while :; do read x; done";
        let child = start(folder.path(), script);
        let begun = async {
            while !fs::read_to_string(&log).unwrap_or_default().contains("begun") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), begun).await.expect("it begins");
        child.stop(Duration::from_secs(20)).await;
        assert_eq!(fs::read_to_string(&log).unwrap(), "begun\nended\n");
    }

    #[tokio::test]
    async fn a_program_that_does_not_listen_is_killed() {
        let _turn = PROGRAMS.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let child = start(folder.path(), "trap '' TERM; while :; do read x; done");
        child.stop(Duration::from_millis(50)).await;
    }

    #[tokio::test]
    async fn readiness_is_waited_for() {
        let _turn = PROGRAMS.lock().await;
        use axum::http::StatusCode;
        use std::sync::atomic::{AtomicU32, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let child = start(folder.path(), "while :; do read x; done");
        let asked = std::sync::Arc::new(AtomicU32::new(0));
        let answer = move || async move {
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::OK,
            }
        };
        let router = axum::Router::new().route("/readyz", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        child.readiness().wait(&url, Duration::from_secs(20)).await.unwrap();
        let never = child.readiness().wait("http://127.0.0.1:1", Duration::from_millis(30)).await;
        assert!(matches!(never, Err(Error::NotReady { .. })));
    }

    #[test]
    fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs { folder: folder.path(), leash: None };
        let error = Child::start(programs, NAME, &[], &folder.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("taffrail-collector is not beside"), "{error}");
    }
}
