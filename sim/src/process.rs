//! Starts the real binaries on loopback and ends them: kindly, or with SIGKILL.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use taffrail_kit::http::Client;

/// How long a binary may take until it is ready, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A binary of the workspace, beside the one that runs now (in `target/debug` or `target/release`).
///
/// # Errors
/// When it was not built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let mut folder = std::env::current_exe().context("find the running binary")?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "{} is not built; `cargo build --workspace --all-targets` builds it",
        path.display()
    );
    Ok(path)
}

/// An address on loopback that nobody listened on a moment ago.
///
/// # Errors
/// When no port is free.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind a free port")?;
    Ok(listener.local_addr()?)
}

/// Looks until `condition` gives something, for a minute at the most.
///
/// # Errors
/// When it never does, naming `what`.
pub async fn wait_for<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        if let Some(found) = condition().await {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        look.tick().await;
    }
}

/// CPU seconds (user and system) of all processes that this one has started and seen end.
///
/// # Errors
/// When the kernel does not tell.
pub fn ended_cpu_seconds() -> anyhow::Result<f64> {
    cpu_seconds("/proc/self/stat", 16)
}

/// The sum of a user and a system time: field `user` of proc(5)'s `stat` and the one after it.
fn cpu_seconds(stat: &str, user: usize) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(stat).with_context(|| format!("read {stat}"))?;
    // The command, field 2, may hold spaces; after its closing parenthesis comes field 3.
    let fields = text.rsplit_once(')').context("a closing parenthesis")?.1;
    let mut times = fields.split_whitespace().skip(user - 3).map(str::parse::<u64>);
    let ticks = times.next().context("user time")?? + times.next().context("system time")??;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A running binary. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a binary of the workspace; what it prints is appended to `<log_dir>/<name>.log`.
    ///
    /// # Errors
    /// When it is not built or cannot be started.
    pub fn start(name: &str, args: &[String], log_dir: &Path) -> anyhow::Result<Self> {
        Self::start_program(&binary(name)?, name, args, log_dir)
    }

    /// Starts any program likewise.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_program(
        program: &Path,
        name: &str,
        args: &[String],
        log_dir: &Path,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(log_dir)?;
        let log = log_dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `url` answers 200.
    ///
    /// # Errors
    /// When the process ends before, or it takes too long.
    pub async fn ready(&mut self, url: &str) -> anyhow::Result<()> {
        let client = Client::new(url)?.with_timeout(Duration::from_secs(2));
        let name = self.name.clone();
        let ended = wait_for(&format!("{name} at {url}"), async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(Some(status));
            }
            let ready = client.get(url, &[]).await.is_ok_and(|answer| answer.status == 200);
            ready.then_some(None)
        })
        .await
        .with_context(|| self.log())?;
        match ended {
            None => Ok(()),
            Some(status) => {
                bail!("{name} ended with {status} before it was ready:\n{}", self.log())
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// How many descriptors it holds whose names satisfy `wanted`.
    ///
    /// # Errors
    /// When it is not running.
    pub fn descriptors(&self, wanted: impl Fn(&Path) -> bool) -> anyhow::Result<usize> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?;
        let names = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        Ok(names.filter(|name| wanted(name)).count())
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        kill_process(self.pid(), Signal::TERM)?;
        let name = self.name.clone();
        let ended =
            wait_for(&format!("the end of {name}"), async || self.child.try_wait().ok().flatten())
                .await;
        if ended.is_err() {
            self.kill()?;
        }
        ended.with_context(|| self.log())
    }

    /// SIGHUP: it is to read its settings again.
    ///
    /// # Errors
    /// When it is not running.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        Ok(kill_process(self.pid(), Signal::HUP)?)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let name = self.name.clone();
        wait_for(&format!("the end of {name}"), async || self.child.try_wait().ok().flatten()).await
    }

    /// CPU seconds (user and system) that it has used so far.
    ///
    /// # Errors
    /// When it is not running.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(&format!("/proc/{}/stat", self.child.id()), 14)
    }

    /// A size from `/proc/<pid>/status` in bytes: `VmHWM` (peak resident) or `VmRSS` (resident now).
    ///
    /// # Errors
    /// When it is not running.
    pub fn memory(&self, field: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|l| l.starts_with(field)).context("the field is there")?;
        let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also when a test fails half way nothing is left behind.
        let _gone = self.kill().is_ok();
    }
}
