//! `taffrail up`: a whole Taffrail on this machine. Starts the collector, then the agent, with the
//! demo's pods if wanted, and ends them in the order of the flow: first what writes, then what
//! reads, then what keeps.

mod child;
mod guide;
mod ports;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taffrail_kit::shutdown::signalled;
use taffrail_query::demo::{self, Demo};

use super::Error;
use super::screen::Screen;
use super::server::Server;
use child::Child;
use ports::{Ports, Wanted};

/// How long a program may take to become ready; a collector replays its journal first.
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// How long a program may take to end; an agent waits for its last acknowledgement.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// A signal so soon after the first is the same one.
const SAME_SIGNAL: Duration = Duration::from_secs(1);
/// How long the demo's first line may take before the commands to try are shown all the same.
const FIRST_LINE_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for.
const FIRST_LINE_INTERVAL: Duration = Duration::from_millis(200);
/// Where nodes keep the logs of pods.
const POD_LOGS: &str = "/var/log/pods";

/// How it is started.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder of all data; a second start goes on with what is there.
    #[arg(long, value_name = "DIR", default_value = "taffrail-data")]
    data_dir: PathBuf,
    /// Where queries are answered and logs and metrics are taken [default: 127.0.0.1:4100].
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where OTLP over gRPC is taken [default: 127.0.0.1:4317, or any free port].
    #[arg(long, value_name = "ADDR")]
    otlp_grpc: Option<String>,
    /// Where the autoscaling API answers [default: 127.0.0.1:4143, or any free port].
    #[arg(long, value_name = "ADDR")]
    autoscale_https: Option<String>,
    /// Folder of the pods' logs [default: /var/log/pods, if there is one].
    #[arg(long, value_name = "DIR", conflicts_with = "demo")]
    pod_logs: Option<PathBuf>,
    /// Runs a small shop whose pods log and serve metrics.
    #[arg(long)]
    demo: bool,
    /// How many lines a second the demo's pods log.
    #[arg(long, value_name = "N", default_value_t = 200, requires = "demo")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(demo::LINES_PER_SECOND_MAX)))]
    demo_rate: u32,
}

/// What runs.
#[derive(Debug, Default)]
struct Running {
    demo: Option<Demo>,
    agent: Option<Child>,
    collector: Option<Child>,
}

/// Starts everything, says where it is, and waits for Ctrl-C.
pub(super) async fn run(arguments: &Arguments, screen: &mut Screen) -> Result<(), Error> {
    // Installed first: a signal during the start must end what has been started.
    let signal = signalled();
    tokio::pin!(signal);
    let mut running = Running::default();
    let result = tokio::select! {
        result = start_and_watch(arguments, screen, &mut running) => result,
        name = &mut signal => name.map(|_| ()).map_err(Error::Output),
    };
    tokio::select! {
        ended = running.stop() => result.and(ended),
        () = second_signal() => result,
    }
}

/// Whoever asks again does not want to wait. One Ctrl-C may come twice (a parent that passes it on),
/// so what comes at once does not count.
async fn second_signal() {
    tokio::time::sleep(SAME_SIGNAL).await;
    if signalled().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn start_and_watch(
    arguments: &Arguments,
    screen: &mut Screen,
    running: &mut Running,
) -> Result<(), Error> {
    let ports = Ports::find(&Wanted {
        http: arguments.http.as_deref(),
        otlp_grpc: arguments.otlp_grpc.as_deref(),
        autoscale: arguments.autoscale_https.as_deref(),
    })?;
    let data = &arguments.data_dir;
    std::fs::create_dir_all(data).map_err(|source| Error::File { path: data.clone(), source })?;
    let programs = own_folder()?;
    running.start_collector(&programs, &ports, data).await?;
    let pods = running.pods(arguments, data).await?;
    match &pods {
        Some(flags) => running.start_agent(&programs, &ports, data, flags).await?,
        None => _ = screen.text(&no_pods())?,
    }
    if arguments.demo {
        let server = Server::new(&ports.url())?;
        let first = tokio::time::timeout(FIRST_LINE_PATIENCE, first_line(&server));
        tokio::select! {
            error = running.failed() => return Err(error),
            // With or without a line: the commands may be tried.
            _ = first => {}
        }
    }
    screen.text(&guide::text(&ports, data, pods.is_some(), arguments.demo))?.flush()?;
    Err(running.failed().await)
}

/// Returns once a line of the demo can be found.
async fn first_line(server: &Server) {
    let mut interval = tokio::time::interval(FIRST_LINE_INTERVAL);
    loop {
        interval.tick().await;
        let data = server.data("/loki/api/v1/label/namespace/values", &[]).await;
        if data.is_ok_and(|data| data.as_array().is_some_and(|values| !values.is_empty())) {
            return;
        }
    }
}

fn no_pods() -> String {
    format!(
        "There is no {POD_LOGS} here, so no agent was started. For something to see: --demo.\n\n"
    )
}

/// The folder of this program, where the other two are.
fn own_folder() -> Result<PathBuf, Error> {
    let own = std::env::current_exe()?;
    Ok(own.parent().map_or_else(PathBuf::new, Path::to_owned))
}

impl Running {
    async fn start_collector(
        &mut self,
        programs: &Path,
        ports: &Ports,
        data: &Path,
    ) -> Result<(), Error> {
        let flags = flags(&[
            ("--data-dir", data.join("collector").into()),
            ("--http", ports.http.to_string().into()),
            ("--otlp-grpc", ports.otlp_grpc.to_string().into()),
            ("--autoscale-https", ports.autoscale.to_string().into()),
        ]);
        let log = data.join("logs/collector.log");
        let child =
            self.collector.insert(Child::start(programs, "taffrail-collector", &flags, &log)?);
        until_ready(child, &ports.url()).await
    }

    /// The agent's flags that say where the pods are; `None`: there are none.
    async fn pods(
        &mut self,
        arguments: &Arguments,
        data: &Path,
    ) -> Result<Option<Vec<OsString>>, Error> {
        if arguments.demo {
            let root = data.join("demo");
            let config = demo::Config { root, lines_per_second: arguments.demo_rate };
            let paths = self.demo.insert(Demo::start(&config).await?).paths();
            return Ok(Some(flags(&[
                ("--pod-logs", paths.pod_logs.clone().into()),
                ("--pods-file", paths.pods_file.clone().into()),
                ("--kubelet-root", paths.kubelet_root.clone().into()),
                ("--node", demo::NODE.into()),
            ])));
        }
        let default = Path::new(POD_LOGS);
        let folder = arguments.pod_logs.as_deref().or_else(|| default.is_dir().then_some(default));
        Ok(folder.map(|folder| flags(&[("--pod-logs", folder.into())])))
    }

    async fn start_agent(
        &mut self,
        programs: &Path,
        ports: &Ports,
        data: &Path,
        pods: &[OsString],
    ) -> Result<(), Error> {
        let mut all = flags(&[
            ("--collector", ports.url().into()),
            ("--state-dir", data.join("agent").into()),
            ("--http", ports.agent.to_string().into()),
        ]);
        all.extend_from_slice(pods);
        let log = data.join("logs/agent.log");
        let child = self.agent.insert(Child::start(programs, "taffrail-agent", &all, &log)?);
        until_ready(child, &format!("http://{}", ports.agent)).await
    }

    /// Returns when something that should run has ended.
    async fn failed(&mut self) -> Error {
        async fn ended(child: Option<&mut Child>) -> Error {
            match child {
                Some(child) => child.ended().await,
                None => std::future::pending().await,
            }
        }
        let demo = async {
            match &mut self.demo {
                Some(demo) => Error::Demo(demo.failed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = demo => error,
            error = ended(self.agent.as_mut()) => error,
            error = ended(self.collector.as_mut()) => error,
        }
    }

    /// Ends what runs, in the order of the flow.
    async fn stop(self) -> Result<(), Error> {
        let demo = match self.demo {
            Some(demo) => demo.stop().await,
            None => Ok(()),
        };
        for child in [self.agent, self.collector].into_iter().flatten() {
            child.stop(STOP_GRACE).await;
        }
        Ok(demo?)
    }
}

/// Waits until a program is ready, or has ended instead.
async fn until_ready(child: &mut Child, url: &str) -> Result<(), Error> {
    let readiness = child.readiness();
    tokio::select! {
        error = child.ended() => Err(error),
        ready = readiness.wait(url, READY_PATIENCE) => ready,
    }
}

fn flags(pairs: &[(&str, OsString)]) -> Vec<OsString> {
    pairs.iter().flat_map(|(flag, value)| [OsString::from(flag), value.clone()]).collect()
}
