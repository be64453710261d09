//! One node with one folder of pods, an agent's log path that can be started, stopped and killed,
//! and the collector behind it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::Registry;
use rustix::fs::{FlockOperation, flock};
use taffrail_kit::shutdown::{self, Trigger};
use taffrail_model::Labels;
use tokio::task::JoinHandle;

use crate::ship::fake::Fake;
use crate::spool;
use crate::tail::lane::{Lane, Lanes};
use crate::tail::{
    Config, FileKind, FileStatus, Labeler, Labeling, LogPipeline, LogStream, StatusHandle,
    VolumeRule,
};

pub(super) const STDOUT: &str = "stdout F";

pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) fake: Fake,
    pub(super) config: Config,
    pub(super) labeler: Labeler,
    pub(super) rules: Arc<std::sync::Mutex<Vec<VolumeRule>>>,
    network: Arc<std::sync::Mutex<Network>>,
    agent: Option<(Trigger, JoinHandle<()>, StatusHandle, Registry, spool::View)>,
}

/// Folders that are said to be network file systems, and the lanes that they have got.
#[derive(Default)]
struct Network {
    /// Where, and whether a process serves it.
    points: Vec<(PathBuf, bool)>,
    lanes: Vec<Lane>,
}

/// Labels by the file's kind alone, as a labeler without Kubernetes would give them.
pub(super) fn plain_labels(kind: &FileKind, stream: LogStream) -> Labels {
    let name = match kind {
        FileKind::Container { container, restart, .. } => format!("{container}-{restart}"),
        FileKind::Volume { path, .. } | FileKind::Plain { path } => path.clone(),
    };
    Labels::from_pairs([("name", name), ("stream", format!("{stream:?}"))])
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            pods_root: Some(folder.path().join("pods")),
            scan_interval: Duration::from_millis(20),
            poll_min: Duration::from_millis(5),
            poll_max: Duration::from_millis(20),
            settle: Duration::from_millis(60),
            linger: Duration::from_millis(150),
            batch_bytes: 4 << 10,
            batch_age: Duration::from_millis(10),
            grace: Duration::from_secs(20),
            ..Config::new("node-1")
        };
        fs::create_dir_all(folder.path().join("pods/ns_pod_uid/app")).unwrap();
        Self {
            folder,
            fake: Fake::start().await,
            config,
            labeler: Arc::new(|kind, stream| Labeling::Ready(plain_labels(kind, stream))),
            rules: Arc::default(),
            network: Arc::default(),
            agent: None,
        }
    }

    /// Says that a folder of this name is a network file system, served by a process or not.
    pub(super) fn on_network(self, name: &str, served: bool) -> Self {
        self.network.lock().unwrap().points.push((self.folder.path().join(name), served));
        self
    }

    /// Whether files of volumes may be held open.
    pub(super) fn may_hold(&self) -> bool {
        !self.network.lock().unwrap().points.iter().any(|(_, served)| *served)
    }

    /// From now on no network file system answers, until what is returned is dropped.
    pub(super) async fn hang(&self) -> Vec<std::sync::mpsc::Sender<()>> {
        let lanes = self.network.lock().unwrap().lanes.clone();
        assert!(!lanes.is_empty(), "nobody has looked yet");
        let hold = |lane: &Lane| {
            let (release, held) = std::sync::mpsc::channel();
            let hangs = lane.run(move || Ok(held.recv().is_ok()));
            assert!(hangs.is_err());
            release
        };
        let held = lanes.iter().map(hold).collect();
        while lanes.iter().any(|lane| lane.hangs().is_none()) {
            tokio::task::yield_now().await;
        }
        held
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("pods/ns_pod_uid/app").join(name)
    }

    pub(super) fn start(&mut self) {
        let registry = Registry::new();
        let (rules, network) = (self.rules.clone(), self.network.clone());
        let rules = move |lanes: &mut Lanes| {
            let mut network = network.lock().unwrap();
            network.points.iter().for_each(|(point, served)| lanes.pretend(point, *served));
            network.lanes =
                network.points.iter().filter_map(|(point, _)| lanes.of(point)).collect();
            rules.lock().unwrap().clone()
        };
        let pipeline = LogPipeline::new(
            self.config.clone(),
            self.labeler.clone(),
            Arc::new(rules),
            self.fake.client(),
            &registry,
        )
        .unwrap();
        let (status, view) = (pipeline.status_handle(), pipeline.spool_view());
        let (trigger, shutdown) = shutdown::channel();
        let task = tokio::spawn(async move { pipeline.run(shutdown).await.unwrap() });
        self.agent = Some((trigger, task, status, registry, view));
    }

    /// From the next start on there is a spool of so many bytes.
    pub(super) fn with_spool(&mut self, bytes_max: u64) {
        let dir = self.folder.path().join("spool");
        self.config.spool =
            Some(spool::Config { dir, bytes_max, after: Duration::from_millis(40) });
    }

    pub(super) fn spool(&self) -> spool::Overview {
        self.agent.as_ref().unwrap().4.now()
    }

    /// Waits until something holds of the spool.
    pub(super) async fn until_spool(&self, what: &str, holds: impl Fn(&spool::Overview) -> bool) {
        let wait = async {
            while !holds(&self.spool()) {
                self.status().status().await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let timeout = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(timeout.is_ok(), "{what}: {:?}", self.spool());
    }

    /// Waits until the reader knows so many files.
    pub(super) async fn until_known(&self, count: usize) {
        let wait = async {
            while self.status().status().await.len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    }

    /// Waits until the reader has read all that is to be read while the collector is away.
    pub(super) async fn until_read(&self, names: &[&str]) {
        let paths: Vec<PathBuf> = names.iter().map(|n| self.path(n)).collect();
        self.until_safe(&paths).await;
    }

    /// Waits until these files are in the store or in the spool.
    pub(super) async fn until_safe(&self, paths: &[PathBuf]) {
        let wait = async {
            loop {
                let files = self.status().status().await;
                let here = paths.iter().all(|p| files.iter().any(|f| f.path == *p));
                let safe = |f: &FileStatus| !paths.contains(&f.path) || f.lag == 0;
                if here && files.iter().all(safe) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let timeout = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(timeout.is_ok(), "{:#?}", self.status().status().await);
    }

    /// A graceful end: what is read is delivered.
    pub(super) async fn stop(&mut self) {
        let (trigger, task, ..) = self.agent.take().unwrap();
        trigger.stop();
        task.await.unwrap();
    }

    /// As SIGKILL: what is under way is forgotten.
    pub(super) async fn kill(&mut self) {
        let (_trigger, task, ..) = self.agent.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        // What it does on the disk just now comes to its end first, unlike after SIGKILL.
        if let Some(config) = &self.config.spool
            && let Ok(lock) = File::open(config.dir.join("lock"))
        {
            flock(&lock, FlockOperation::LockExclusive).unwrap();
        }
    }

    pub(super) fn status(&self) -> StatusHandle {
        self.agent.as_ref().unwrap().2.clone()
    }

    pub(super) fn gauge(&self, name: &str) -> f64 {
        let families = self.agent.as_ref().unwrap().3.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        family.get_metric().iter().map(|m| m.get_gauge().get_value()).sum()
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        let families = self.agent.as_ref().unwrap().3.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        family.get_metric().iter().map(|m| m.get_counter().get_value() as u64).sum()
    }

    /// Appends lines with the runtime's header, creating the file if need be.
    pub(super) fn write(&self, name: &str, header: &str, texts: &[&str]) {
        let lines: String = texts.iter().map(|t| cri(header, t)).collect();
        append(&self.path(name), &lines);
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub(super) fn compress(&self, name: &str) {
        compress(&self.path(name));
    }

    /// Waits until just these texts have come, and looks a little longer whether more come.
    pub(super) async fn expect(&mut self, texts: &[&str]) {
        self.fake.until("too few lines", |k| k.lines.len() >= texts.len()).await;
        assert_eq!(
            self.fake.with(|k| k.lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>()),
            texts
        );
    }

    /// Waits until the reader has looked at everything and the collector has it all.
    pub(super) async fn settled(&self) {
        self.settled_but(0).await;
    }

    /// Likewise, but for the open lines of some files.
    pub(super) async fn settled_but(&self, open: usize) {
        let wait = async {
            loop {
                let files = self.status().status().await;
                if files.iter().filter(|f| f.lag != 0).count() <= open {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    }

    /// Waits until the status tells of such a file.
    pub(super) async fn until_file(&self, what: &str, holds: impl Fn(&FileStatus) -> bool) {
        let wait = async {
            while !self.status().status().await.iter().any(&holds) {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "{what}");
    }
}

static CLOCK: AtomicU64 = AtomicU64::new(0);

/// A line as the runtime writes it, each a nanosecond later than the one before.
pub(super) fn cri(header: &str, text: &str) -> String {
    let nanos = CLOCK.fetch_add(1, Ordering::Relaxed);
    format!(
        "2026-11-20T10:{:02}:{:02}.{:09}Z {header} {text}\n",
        nanos / 60 % 60,
        nanos % 60,
        nanos
    )
}

pub(super) fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Compresses as the kubelet does: beside, renamed, and the plain file removed.
pub(super) fn compress(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let temporary = path.with_added_extension("tmp");
    let file = File::create(&temporary).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap();
    fs::rename(temporary, path.with_added_extension("gz")).unwrap();
    fs::remove_file(path).unwrap();
}
