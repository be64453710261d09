//! `taffrail up`: a whole Taffrail on this machine. Starts the collector, then the agent, with the
//! demo's pods if wanted, and ends them in the order of the flow: first what writes, then what
//! reads, then what keeps.

mod child;
mod guide;
pub(super) mod leash;
mod ports;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taffrail_kit::shutdown::signalled;
use taffrail_query::demo::{self, Demo};

use super::Error;
use super::screen::Screen;
use super::server::Server;
use child::{Child, Programs};
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
    let own = std::env::current_exe().map_err(Error::Start)?;
    let folder = own.parent().unwrap_or_else(|| Path::new(""));
    let programs = Programs { folder, leash: Some(&own) };
    let asked = async { signalled().await.map(|_| ()).map_err(Error::Start) };
    run_until(arguments, programs, asked, screen).await
}

/// The same with the programs of a folder, until `asked` to end.
async fn run_until(
    arguments: &Arguments,
    programs: Programs<'_>,
    asked: impl Future<Output = Result<(), Error>>,
    screen: &mut Screen,
) -> Result<(), Error> {
    let mut running = Running::default();
    let result = tokio::select! {
        // Listened for first: who asks during the start ends what has been started.
        biased;
        result = asked => result,
        error = start_and_watch(arguments, programs, screen, &mut running) => Err(error),
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

/// Returns why it cannot go on.
async fn start_and_watch(
    arguments: &Arguments,
    programs: Programs<'_>,
    screen: &mut Screen,
    running: &mut Running,
) -> Error {
    match start(arguments, programs, screen, running).await {
        Ok(()) => running.failed().await,
        Err(error) => error,
    }
}

async fn start(
    arguments: &Arguments,
    programs: Programs<'_>,
    screen: &mut Screen,
    running: &mut Running,
) -> Result<(), Error> {
    let ports = Ports::find(&Wanted {
        http: arguments.http.as_deref(),
        otlp_grpc: arguments.otlp_grpc.as_deref(),
        autoscale: arguments.autoscale_https.as_deref(),
    })?;
    let data = &std::path::absolute(&arguments.data_dir).map_err(Error::Start)?;
    std::fs::create_dir_all(data).map_err(|source| Error::File { path: data.clone(), source })?;
    screen.note(&format!("starting; what the programs say is in {}", data.join("logs").display()));
    running.start_collector(programs, &ports, data).await?;
    let pods = running.pods(arguments, data).await?;
    match &pods {
        Some(flags) => running.start_agent(programs, &ports, data, flags).await?,
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
    screen.text(&guide::text(&ports, data, pods.is_some(), arguments.demo))?.flush()
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

impl Running {
    async fn start_collector(
        &mut self,
        programs: Programs<'_>,
        ports: &Ports,
        data: &Path,
    ) -> Result<(), Error> {
        let flags = flags(&[
            ("--data-dir", data.join("collector").into()),
            ("--http", ports.http.to_string().into()),
            ("--otlp-grpc", ports.otlp_grpc.to_string().into()),
            ("--autoscale-https", ports.autoscale.to_string().into()),
            ("--telemetry-otlp-endpoint", format!("http://{}", ports.otlp_grpc).into()),
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
        programs: Programs<'_>,
        ports: &Ports,
        data: &Path,
        pods: &[OsString],
    ) -> Result<(), Error> {
        let mut all = flags(&[
            ("--collector", ports.url().into()),
            ("--state-dir", data.join("agent").into()),
            ("--http", ports.agent.to_string().into()),
            ("--telemetry-otlp-endpoint", format!("http://{}", ports.otlp_grpc).into()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{PROGRAMS, Written};
    use crate::cli::screen::Format;
    use axum::routing::get;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt;

    /// How a script tells [`stand_in`] that it is one.
    const STAND_IN: &str = "TAFFRAIL_TEST_STAND_IN";

    /// Not a test but a program: what the scripts of the tests run in place of agent and collector.
    /// It is ready at once, knows one namespace, and notes in a file when it is asked to end.
    #[tokio::test]
    async fn stand_in() {
        let Some(words) = std::env::var_os(STAND_IN) else { return };
        let words = words.into_string().unwrap();
        let words: Vec<&str> = words.split(' ').collect();
        let after = |flag| words[words.iter().position(|word| *word == flag).expect(flag) + 1];
        let (role, folder) = match words[0].contains("agent") {
            true => ("agent", after("--state-dir")),
            false => ("collector", after("--data-dir")),
        };
        let listener = tokio::net::TcpListener::bind(after("--http")).await.unwrap();
        let router = axum::Router::new().route("/readyz", get(|| async {})).route(
            "/loki/api/v1/label/namespace/values",
            get(|| async { "{\"status\":\"success\",\"data\":[\"shop\"]}" }),
        );
        let signal = signalled();
        tokio::select! {
            _ = axum::serve(listener, router) => {}
            _ = signal => {}
        }
        let order = Path::new(folder).parent().unwrap().join("order");
        let mut order = fs::OpenOptions::new().create(true).append(true).open(order).unwrap();
        writeln!(order, "{role}").unwrap();
    }

    /// A folder with scripts as programs.
    fn programs(collector: &str, agent: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in [("taffrail-collector", collector), ("taffrail-agent", agent)] {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    fn scripts(folder: &tempfile::TempDir) -> Programs<'_> {
        Programs { folder: folder.path(), leash: None }
    }

    fn stand_in_script() -> String {
        let own = std::env::current_exe().unwrap();
        let own = own.display();
        format!("{STAND_IN}=\"$0 $*\" exec '{own}' --exact cli::up::tests::stand_in --nocapture")
    }

    fn arguments(folder: &Path) -> Arguments {
        Arguments {
            data_dir: folder.join("data"),
            http: Some("127.0.0.1:0".into()),
            otlp_grpc: None,
            autoscale_https: None,
            pod_logs: None,
            demo: true,
            demo_rate: 100,
        }
    }

    #[tokio::test]
    async fn starts_in_order_and_ends_in_order() {
        let _turn = PROGRAMS.lock().await;
        let programs = programs(&stand_in_script(), &stand_in_script());
        let arguments = arguments(programs.path());
        let (written, (ask, asked)) = (Written::default(), tokio::sync::oneshot::channel());
        let mut screen = written.screen(Format::Default, false);
        let asked = async { asked.await.map_err(|_| Error::Answer("never asked".into())) };
        let up = run_until(&arguments, scripts(&programs), asked, &mut screen);
        let watch = async {
            while !written.text().contains("Try in another terminal") {
                tokio::task::yield_now().await;
            }
            ask.send(()).unwrap();
        };
        let both = async { tokio::join!(up, watch).0 };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("in time").unwrap();
        let data = &arguments.data_dir;
        assert_eq!(fs::read_to_string(data.join("order")).unwrap(), "agent\ncollector\n");
        assert!(data.join("demo/pods.json").exists() && data.join("logs/agent.log").exists());
        assert!(written.text().contains("taffrail --addr http://127.0.0.1:"), "{}", written.text());
    }

    #[tokio::test]
    async fn a_collector_that_dies_ends_the_start_with_its_last_words() {
        let _turn = PROGRAMS.lock().await;
        let programs = programs("echo the data folder is locked >&2; exit 1", "exit 0");
        let mut screen = Written::default().screen(Format::Default, false);
        let never = std::future::pending();
        let ended =
            run_until(&arguments(programs.path()), scripts(&programs), never, &mut screen).await;
        let text = ended.unwrap_err().to_string();
        assert!(text.contains("taffrail-collector ended (exit status: 1)"), "{text}");
        assert!(text.ends_with("  the data folder is locked"), "{text}");
    }

    #[tokio::test]
    async fn an_agent_that_dies_ends_the_collector_too() {
        let _turn = PROGRAMS.lock().await;
        let programs = programs(&stand_in_script(), "echo no >&2; exit 4");
        let arguments = arguments(programs.path());
        let mut screen = Written::default().screen(Format::Default, false);
        let never = std::future::pending();
        let ended = run_until(&arguments, scripts(&programs), never, &mut screen).await;
        assert!(ended.unwrap_err().to_string().contains("taffrail-agent ended (exit status: 4)"));
        let order = fs::read_to_string(arguments.data_dir.join("order")).unwrap();
        assert_eq!(order, "collector\n");
    }
}
