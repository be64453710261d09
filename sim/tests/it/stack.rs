//! One collector and one agent on loopback over a temporary folder.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use taffrail_kit::clock;
use taffrail_kit::http::Client;
use taffrail_sim::http1::Port;
use taffrail_sim::podlog::{cri_time, uid};
use taffrail_sim::process::Process;
use tempfile::TempDir;

/// Addresses and folders of one installation; its processes may come and go.
pub(crate) struct Stack {
    pub(crate) dir: TempDir,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) autoscale: SocketAddr,
    pub(crate) agent_http: SocketAddr,
    pub(crate) client: Client,
    /// Held, or another test's process might be given one of them.
    _ports: [Port; 4],
}

impl Stack {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let take = || Port::take([127, 0, 0, 1]);
        let ports = [take()?, take()?, take()?, take()?];
        let [http, grpc, autoscale, agent_http] = ports.each_ref().map(Port::address);
        Ok(Self {
            dir: tempfile::tempdir()?,
            http,
            grpc,
            autoscale,
            agent_http,
            client: Client::new(&format!("http://{http}"))?,
            _ports: ports,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn collector_args(&self) -> Vec<String> {
        args(&[
            ("--data-dir", &self.path("collector").display()),
            ("--http", &self.http),
            ("--otlp-grpc", &self.grpc),
            ("--autoscale-https", &self.autoscale),
        ])
    }

    pub(crate) fn agent_args(&self) -> Vec<String> {
        args(&[
            ("--collector", &self.client.base()),
            ("--pod-logs", &self.path("pods").display()),
            ("--pods-file", &self.path("pods.json").display()),
            ("--state-dir", &self.path("agent").display()),
            ("--node", &"node-1"),
            ("--http", &self.agent_http),
        ])
    }

    /// Appends a line to the log of a pod's container `main`.
    pub(crate) fn write_line(&self, pod: &str, text: &str) -> anyhow::Result<()> {
        let folder = self.path("pods").join(format!("sim_{pod}_{}/main", uid(pod)));
        std::fs::create_dir_all(&folder)?;
        let file = std::fs::File::options().create(true).append(true).open(folder.join("0.log"));
        let time = cri_time(clock::unix_nanos());
        Ok(file?.write_all(format!("{time} stdout F {text}\n").as_bytes())?)
    }

    pub(crate) async fn start_collector(&self) -> anyhow::Result<Process> {
        let mut process =
            Process::start("taffrail-collector", &self.collector_args(), &self.path("logs"))?;
        process.ready(&format!("http://{}/readyz", self.http)).await?;
        Ok(process)
    }

    /// Starts the agent with further arguments, without waiting for it.
    pub(crate) fn start_agent_with(&self, more: &[&str]) -> anyhow::Result<Process> {
        let mut arguments = self.agent_args();
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        Process::start("taffrail-agent", &arguments, &self.path("logs"))
    }

    /// An instant PromQL query: each series' labels and value.
    pub(crate) async fn prom(
        &self,
        query: &str,
    ) -> anyhow::Result<Vec<(serde_json::Value, String)>> {
        let path = format!("/api/v1/query?query={}", encode(query));
        let answer: serde_json::Value =
            serde_json::from_slice(&self.client.get(&path, &[]).await?.body)?;
        let result = answer["data"]["result"].as_array().with_context(|| answer.to_string())?;
        Ok(result
            .iter()
            .map(|s| (s["metric"].clone(), s["value"][1].as_str().unwrap_or_default().to_owned()))
            .collect())
    }

    /// All lines of a LogQL query since the epoch, oldest first, from the streaming endpoint.
    pub(crate) async fn lines(&self, query: &str) -> anyhow::Result<Vec<serde_json::Value>> {
        let path = format!(
            "/api/v1/logs/query?query={}&start=0&direction=forward&limit=100000000",
            encode(query)
        );
        let client = self.client.clone().with_body_max(1 << 30);
        let answer = client.get(&path, &[]).await?;
        anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        answer
            .body
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).context("a line of JSON"))
            .collect()
    }
}

fn args(pairs: &[(&str, &dyn std::fmt::Display)]) -> Vec<String> {
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.to_string()]).collect()
}

/// Percent-encodes a query parameter.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("sim/ lies in the workspace")
}
