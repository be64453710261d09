//! One node: folders of pods and volumes, the agent's binary, and a collector that fails as it is
//! told.
//!
//! [`World::finish`] ends every row: all lines that were written have come, each once and in order
//! per writer; the agent ends kindly; another one starts, is alive, and sends nothing again.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::Value;
use taffrail_kit::http::Client;
use taffrail_sim::http1::Port;
use taffrail_sim::logtree::{self, ContainerLog, Ledger, PlainLog, volume_folder};
use taffrail_sim::oracle::{Verdict, judge};
use taffrail_sim::podlog::uid;
use taffrail_sim::process::{Process, binary, wait_for};
use taffrail_sim::sink::{Kept, Sink};
use tempfile::TempDir;

/// The pod whose line shows that the agent reads.
pub(crate) const PROBE: &str = "probe";
/// The node's name.
pub(crate) const NODE: &str = "node-1";

/// Why a row cannot be run here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Skip(pub(crate) String);

/// Ends a row that cannot be run here.
pub(crate) fn skip<T>(why: &str) -> anyhow::Result<T> {
    Err(Skip(why.to_owned()).into())
}

/// One node.
pub(crate) struct World {
    pub(crate) dir: Arc<TempDir>,
    pub(crate) sink: Sink,
    pub(crate) ledger: Ledger,
    /// More flags of the agent, also in place of the usual ones.
    pub(crate) flags: Vec<String>,
    /// How lines begin that carry no token and are no concern of the oracle.
    pub(crate) untold: Option<&'static str>,
    /// What starts the agent, instead of starting it directly.
    pub(crate) wrapper: Vec<String>,
    agent: Option<Process>,
    http: Port,
    probes: ContainerLog,
}

impl World {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let dir = Arc::new(tempfile::tempdir()?);
        let ledger = Ledger::default();
        let pods = dir.path().join("pods");
        std::fs::create_dir_all(&pods)?;
        let probes = ContainerLog::create(&pods, PROBE, "main", &ledger)?;
        Ok(Self {
            sink: Sink::start()?,
            flags: Vec::new(),
            untold: None,
            wrapper: Vec::new(),
            agent: None,
            http: Port::take([127, 0, 0, 1])?,
            probes,
            dir,
            ledger,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn pods_root(&self) -> PathBuf {
        self.path("pods")
    }

    /// The log of the container `main` of a pod; the folder is there, no file yet.
    pub(crate) fn pod(&self, name: &str) -> anyhow::Result<ContainerLog> {
        Ok(ContainerLog::create(&self.pods_root(), name, "main", &self.ledger)?)
    }

    /// From now on the agent gets its pods from a list: these, and the one for probes.
    pub(crate) fn know_pods(&mut self, names: &[&str]) -> anyhow::Result<()> {
        let pod = |name: &&str| logtree::pod(name, &uid(name), &[("app", name)], NODE);
        let items: Vec<Value> = names.iter().chain([&PROBE]).map(pod).collect();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
        std::fs::write(self.path("pods.json"), list.to_string())?;
        self.flag("--pods-file", self.path("pods.json").display());
        Ok(())
    }

    /// A log file in the volume of a pod that [`World::know_pods`] knows.
    pub(crate) fn volume_log(&self, pod: &str, name: &str) -> anyhow::Result<PlainLog> {
        let folder = volume_folder(&self.path("kubelet"), &uid(pod));
        std::fs::create_dir_all(&folder)?;
        Ok(PlainLog::new(folder.join(name), &format!("{pod}/{name}"), &self.ledger))
    }

    /// Gives the agent a flag, in place of the same one of before.
    pub(crate) fn flag(&mut self, name: &str, value: impl std::fmt::Display) {
        if let Some(at) = self.flags.iter().position(|flag| flag == name) {
            self.flags.drain(at..at + 2);
        }
        self.flags.extend([name.to_owned(), value.to_string()]);
    }

    /// Runs the agent below this script, in which `"$0" "$@"` is the agent.
    pub(crate) fn wrap(&mut self, program: &[&str], script: &str) {
        self.wrapper =
            program.iter().chain(&["sh", "-ec", script]).map(|&p| p.to_owned()).collect();
    }

    /// Runs the agent as a user without rights; only root can do that.
    pub(crate) fn run_as_nobody(&mut self) -> anyhow::Result<()> {
        const NOBODY: &str = "65534";
        if !rustix::process::geteuid().is_root() {
            return skip("needs root, to run the agent without its rights");
        }
        self.wrapper = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
            .map(str::to_owned)
            .into();
        let state = self.path("state");
        std::fs::create_dir_all(&state)?;
        std::fs::set_permissions(self.dir.path(), PermissionsExt::from_mode(0o755))?;
        std::os::unix::fs::chown(&state, Some(65534), Some(65534))?;
        Ok(())
    }

    /// Starts the agent without waiting for it.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let show = |path: &str| self.path(path).display().to_string();
        let mut flags = Vec::new();
        for (flag, value) in [
            ("--collector", self.sink.url()),
            ("--pod-logs", show("pods")),
            ("--kubelet-root", show("kubelet")),
            ("--state-dir", show("state")),
            ("--node", NODE.to_owned()),
            ("--http", self.http.address().to_string()),
        ] {
            if !self.flags.iter().any(|given| given == flag) {
                flags.extend([flag.to_owned(), value]);
            }
        }
        flags.extend(self.flags.iter().cloned());
        let (logs, name) = (self.path("logs"), "taffrail-agent");
        self.agent = Some(match self.wrapper.split_first() {
            None => Process::start(name, &flags, &logs)?,
            Some((program, rest)) => {
                let mut arguments = rest.to_vec();
                arguments.push(binary(name)?.display().to_string());
                arguments.extend(flags);
                Process::start_program(Path::new(program), name, &arguments, &logs)?
            }
        });
        Ok(())
    }

    /// Starts the agent and waits until it has read and delivered a line.
    pub(crate) async fn start_reading(&mut self) -> anyhow::Result<()> {
        self.start()?;
        self.probe().await
    }

    /// Writes a line to the probe's log and waits until it has come.
    pub(crate) async fn probe(&mut self) -> anyhow::Result<()> {
        let text = self.probes.text("stdout");
        self.probes.piece("stdout F", &text)?;
        self.until("a line of the probe", |sink| {
            sink.with(|kept| kept.lines.iter().rev().any(|line| line.text == text))
        })
        .await
    }

    pub(crate) fn agent(&mut self) -> anyhow::Result<&mut Process> {
        self.agent.as_mut().context("the agent is running")
    }

    /// Takes the running agent out of the node's hands: another may be started beside it.
    pub(crate) fn take_agent(&mut self) -> anyhow::Result<Process> {
        self.agent.take().context("the agent is running")
    }

    /// The next agent answers at another address.
    pub(crate) fn http_elsewhere(&mut self) -> anyhow::Result<()> {
        self.http = Port::take([127, 0, 0, 1])?;
        Ok(())
    }

    /// Waits until the agent says that the collector is away and that the files whose paths satisfy
    /// `which` are safe all the same.
    pub(crate) async fn until_safe(&self, which: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        wait_for("files that are safe", async || {
            let status = self.status().await?;
            let mut files = status["files"].as_array()?.iter();
            let safe = files
                .all(|file| !which(file["path"].as_str().unwrap_or_default()) || file["lag"] == 0);
            (safe && status["spool"]["away"] == true).then_some(())
        })
        .await
    }

    /// Waits until something holds of what the agent says of a file.
    pub(crate) async fn until_file(
        &self,
        path: &Path,
        holds: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        wait_for(&format!("what should hold of {}", path.display()), async || {
            let status = self.status().await?;
            let mut files = status["files"].as_array()?.iter();
            let file = files.find(|file| file["path"].as_str().map(Path::new) == Some(path))?;
            holds(file).then_some(())
        })
        .await
    }

    /// What the agent has printed.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.path("logs/taffrail-agent.log")).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.agent.take().context("the agent is running")?.kill()
    }

    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let mut agent = self.agent.take().context("the agent is running")?;
        let status = agent.stop().await?;
        ensure!(status.success(), "the agent ended with {status}: {}", agent.log());
        Ok(())
    }

    /// SIGSTOP: from now on the agent sees and does nothing.
    pub(crate) fn freeze(&mut self) -> anyhow::Result<()> {
        self.agent()?.signal(Signal::STOP)
    }

    pub(crate) fn thaw(&mut self) -> anyhow::Result<()> {
        self.agent()?.signal(Signal::CONT)
    }

    /// A pause of a writer, or how long a fault lasts, where that is what the row is about.
    pub(crate) async fn pace(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Waits until something holds of what the sink has.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut holds: impl FnMut(&Sink) -> bool,
    ) -> anyhow::Result<()> {
        wait_for(what, async || holds(&self.sink).then_some(())).await
    }

    /// Waits until a text has come; how long that took.
    pub(crate) async fn until_text(&self, text: &str) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.until(text, |sink| {
            sink.with(|kept| kept.lines.iter().rev().any(|line| line.text.contains(text)))
        })
        .await?;
        Ok(start.elapsed())
    }

    /// Waits until as many lines have come as were written.
    pub(crate) async fn delivered(&self) -> anyhow::Result<()> {
        let settled = self
            .until("all lines", |sink| {
                let total: u64 = self.ledger.totals().values().sum();
                sink.with(|kept| self.told(kept).count() as u64) >= total
            })
            .await;
        settled.with_context(|| format!("{:?}", self.verdict()))
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let totals = self.ledger.totals();
        self.sink.with(|kept| judge(&totals, self.told(kept)))
    }

    fn is_told(&self, text: &str) -> bool {
        self.untold.is_none_or(|begin| !text.starts_with(begin))
    }

    /// The texts that the oracle judges.
    fn told<'a>(&self, kept: &'a Kept) -> impl Iterator<Item = &'a str> {
        kept.lines.iter().map(|line| line.text.as_str()).filter(|text| self.is_told(text))
    }

    /// The texts that it does not judge.
    pub(crate) fn untold_lines(&self) -> Vec<String> {
        self.sink.texts().into_iter().filter(|text| !self.is_told(text)).collect()
    }

    /// What the agent says of itself.
    pub(crate) async fn status(&self) -> Option<Value> {
        let base = format!("http://{}", self.http.address());
        let client = Client::new(&base).ok()?.with_timeout(Duration::from_secs(5));
        serde_json::from_slice(&client.get("/status", &[]).await.ok()?.body).ok()
    }

    /// The sum of the agent's counters of this name, with these labels if any.
    pub(crate) async fn counter(&self, name: &str, labels: &str) -> Option<f64> {
        let base = format!("http://{}", self.http.address());
        let client = Client::new(&base).ok()?.with_timeout(Duration::from_secs(5));
        let page = client.get("/metrics", &[]).await.ok()?.text();
        let lines = page.lines().filter(|l| l.starts_with(name) && l.contains(labels));
        Some(lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// Waits until the agent knows of nothing that is not yet in the store.
    pub(crate) async fn settled(&self) -> anyhow::Result<()> {
        wait_for("no lag", async || {
            let status = self.status().await?;
            let lag = |file: &Value| file["lag"].as_u64().unwrap_or(u64::MAX);
            status["files"].as_array()?.iter().all(|file| lag(file) == 0).then_some(())
        })
        .await
    }

    /// Waits until the agent says that it cannot read something whose path ends like this.
    pub(crate) async fn until_problem(&self, path: &str) -> anyhow::Result<String> {
        wait_for(&format!("a problem with {path}"), async || {
            let status = self.status().await?;
            let mut files = status["files"].as_array()?.iter();
            let file = files.find(|f| {
                f["error"].is_string() && f["path"].as_str().is_some_and(|p| p.ends_with(path))
            })?;
            file["error"].as_str().map(str::to_owned)
        })
        .await
    }

    /// Waits until the agent has printed something.
    pub(crate) async fn until_said(&self, text: &str) -> anyhow::Result<()> {
        wait_for(text, async || self.said().contains(text).then_some(())).await
    }

    /// What must hold in the end, always.
    pub(crate) async fn finish(&mut self) -> anyhow::Result<()> {
        if self.agent.is_none() {
            self.start()?;
        }
        self.delivered().await?;
        self.settled().await?;
        self.stop().await?;
        self.clean("at the end")?;
        self.start_reading().await.context("an agent after this one")?;
        self.settled().await?;
        self.stop().await?;
        self.clean("after another start")
    }

    pub(crate) fn clean(&self, when: &str) -> anyhow::Result<()> {
        let verdict = self.verdict();
        ensure!(verdict.is_clean(), "{when}: {verdict:?}");
        Ok(())
    }
}
