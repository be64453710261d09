//! Pod → labels. Pure, but for [`labeler`], which looks into the pods as they are now.
//!
//! The names in [`RESERVED`] mean the same on every stream and series and are never overridden by a
//! label of a pod: a pod label whose sanitised name is one of them becomes `label_<name>`. Every
//! other pod label stands under its own sanitised name.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taffrail_model::Labels;
use taffrail_model::labels::sanitize_name;
use taffrail_model::limits::{LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, STREAM_LABELS_MAX};
use tokio::time::Instant;

use crate::pods::{Origin, Owner, Pod, Pods};

/// Names that only the agent gives. `instance`, `le`, `quantile` and `__name__` belong to metrics,
/// `detected_level` to lines.
pub const RESERVED: [&str; 18] = [
    "__name__",
    "app",
    "cluster",
    "container",
    "detected_level",
    "filename",
    "instance",
    "job",
    "le",
    "namespace",
    "node",
    "pod",
    "quantile",
    "service_name",
    "stream",
    "volume",
    "workload",
    "workload_kind",
];

/// How long a file waits for a pod that is not known, or for the first list of pods.
const WAIT_FOR_POD: Duration = Duration::from_secs(10);
/// How long files wait for the first list of pods before they are labelled by their paths.
const WAIT_FOR_LIST: Duration = Duration::from_secs(30);
/// Most unknown pods that are waited for at once; beyond, files are labelled by their paths.
const WAITING_MAX: usize = 10_000;

/// What all labels of an agent have in common.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Name of the cluster; empty when it has none.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
}

/// A set that is being gathered: reserved names first, pod labels where there is room.
struct Gathered(BTreeMap<String, String>);

impl Gathered {
    fn new(place: &Place) -> Self {
        let mut gathered = Self(BTreeMap::new());
        gathered.set("cluster", &place.cluster);
        gathered.set("node", &place.node);
        gathered
    }

    fn set(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.insert(name.to_owned(), cut(value, LABEL_VALUE_BYTES_MAX).to_owned());
        }
    }

    fn add_pod_label(&mut self, label: &str, value: &str) {
        let mut name = sanitize_name(label);
        if self.0.get(&name).is_some_and(|own| own == value) {
            return;
        }
        if RESERVED.contains(&&*name) || self.0.contains_key(&name) {
            name.insert_str(0, "label_");
        }
        let room = self.0.len() < STREAM_LABELS_MAX && name.len() <= LABEL_NAME_BYTES_MAX;
        if room && !self.0.contains_key(&name) {
            self.set(&name, value);
        }
    }

    fn finish(self) -> Labels {
        self.0.into_iter().collect()
    }
}

/// The longest start of `text` that is no longer than `bytes`.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn gather_pod(place: &Place, pod: &Pod) -> Gathered {
    let mut gathered = Gathered::new(place);
    if let Some(node) = &pod.node {
        gathered.set("node", node);
    }
    gathered.set("namespace", &pod.namespace);
    gathered.set("pod", &pod.name);
    let workload = workload(pod);
    gathered.set("workload", &workload.name);
    gathered.set("workload_kind", &workload.kind);
    let app = ["app", "app.kubernetes.io/name", "k8s-app"]
        .iter()
        .find_map(|label| pod.labels.get(*label).filter(|value| !value.is_empty()))
        .unwrap_or(&workload.name);
    gather_app(&mut gathered, &pod.namespace, app);
    gathered
}

fn gather_app(gathered: &mut Gathered, namespace: &str, app: &str) {
    gathered.set("app", app);
    gathered.set("service_name", app);
    gathered.set("job", &format!("{namespace}/{app}"));
}

/// The labels of a pod's metrics, without `instance`. `container` is empty when it is not known.
#[must_use]
pub fn target_labels(place: &Place, pod: &Pod, container: &str) -> Labels {
    let mut gathered = gather_pod(place, pod);
    gathered.set("container", container);
    add_pod_labels(gathered, pod)
}

fn add_pod_labels(mut gathered: Gathered, pod: &Pod) -> Labels {
    for (label, value) in &pod.labels {
        gathered.add_pod_label(label, value);
    }
    gathered.finish()
}

/// The labels of a stream whose pod is known.
#[must_use]
pub fn stream_labels(place: &Place, pod: &Pod, file: &FileKind, stream: LogStream) -> Labels {
    let mut gathered = gather_pod(place, pod);
    gather_file(&mut gathered, file, stream);
    add_pod_labels(gathered, pod)
}

/// The labels of a stream of which no more is known than the path.
#[must_use]
pub fn path_labels(place: &Place, file: &FileKind, stream: LogStream) -> Labels {
    let mut gathered = Gathered::new(place);
    match file {
        FileKind::Container { namespace, pod, container: app, .. }
        | FileKind::Volume { namespace, pod, volume: app, .. } => {
            gathered.set("namespace", namespace);
            gathered.set("pod", pod);
            gather_app(&mut gathered, namespace, app);
        }
        FileKind::Plain { path } => {
            let stem = path.file_stem().map(|s| s.to_string_lossy()).unwrap_or_default();
            gathered.set("app", &stem);
            gathered.set("service_name", &stem);
            gathered.set("job", "files");
        }
    }
    gather_file(&mut gathered, file, stream);
    gathered.finish()
}

fn gather_file(gathered: &mut Gathered, file: &FileKind, stream: LogStream) {
    let filename = |path: &Path| path.to_string_lossy().into_owned();
    match file {
        FileKind::Container { container, .. } => gathered.set("container", container),
        FileKind::Volume { volume, path, .. } => {
            gathered.set("volume", volume);
            gathered.set("filename", &filename(path));
        }
        FileKind::Plain { path } => gathered.set("filename", &filename(path)),
    }
    gathered.set("stream", stream.name());
}

/// What a pod is a part of: the thing that a person deployed, not what a controller made of it.
fn workload(pod: &Pod) -> Owner {
    let named = |kind: &str, name: &str| Owner { kind: kind.to_owned(), name: name.to_owned() };
    let Some(owner) = &pod.owner else { return named("Pod", &pod.name) };
    match &*owner.kind {
        "ReplicaSet" => {
            let hash = pod.labels.get("pod-template-hash").filter(|hash| !hash.is_empty());
            let deployment =
                hash.and_then(|hash| owner.name.strip_suffix(&**hash)?.strip_suffix('-'));
            deployment.map_or_else(|| owner.clone(), |name| named("Deployment", name))
        }
        // A CronJob names its jobs after the minute (or, before 1.21, the second) of their schedule.
        "Job" => match owner.name.rsplit_once('-') {
            Some((name, time))
                if (8..=10).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit()) =>
            {
                named("CronJob", name)
            }
            _ => owner.clone(),
        },
        // The mirror of a static pod: its name is the manifest's and the node's.
        "Node" => {
            let name = pod.name.strip_suffix(&*owner.name).and_then(|name| name.strip_suffix('-'));
            named("StaticPod", name.unwrap_or(&pod.name))
        }
        _ => owner.clone(),
    }
}

/// The function that gives a file its labels. It says [`Labeling::Wait`] for some seconds while the
/// pod may still become known; then it gives what the path tells.
#[must_use]
pub fn labeler(place: Place, pods: Pods) -> Labeler {
    let waiting = Waiting { start: Instant::now(), since: Mutex::new(HashMap::new()) };
    Arc::new(move |file: &FileKind, stream: LogStream| {
        let (FileKind::Container { uid, .. } | FileKind::Volume { uid, .. }) = file else {
            return Labeling::Ready(path_labels(&place, file, stream));
        };
        let now = pods.now();
        if let Some(pod) = now.get(uid) {
            waiting.forget(uid);
            return Labeling::Ready(stream_labels(&place, pod, file, stream));
        }
        if now.origin != Origin::None && waiting.longer(uid, now.synced) {
            return Labeling::Wait;
        }
        Labeling::Ready(path_labels(&place, file, stream))
    })
}

/// Since when the pods that are not known are asked for.
struct Waiting {
    start: Instant,
    since: Mutex<HashMap<String, Instant>>,
}

impl Waiting {
    /// Whether this pod is worth waiting for.
    fn longer(&self, uid: &str, synced: bool) -> bool {
        if !synced {
            return self.start.elapsed() < WAIT_FOR_LIST;
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match since.get(uid) {
            Some(first) => first.elapsed() < WAIT_FOR_POD,
            None if since.len() >= WAITING_MAX => false,
            None => {
                since.insert(uid.to_owned(), Instant::now());
                true
            }
        }
    }

    fn forget(&self, uid: &str) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if !since.is_empty() {
            since.remove(uid);
        }
    }
}

#[cfg(test)]
#[path = "enrich_tests.rs"]
mod tests;

/// What a file holds.
#[derive(Clone, Debug)]
pub enum FileKind {
    /// Output of a container.
    Container {
        /// Namespace.
        namespace: String,
        /// Pod.
        pod: String,
        /// uid in the path.
        uid: String,
        /// Container.
        container: String,
        /// Restart.
        restart: u32,
    },
    /// A log file of a volume.
    Volume {
        /// Namespace.
        namespace: String,
        /// Pod.
        pod: String,
        /// uid in the path.
        uid: String,
        /// Volume.
        volume: String,
        /// Path.
        path: std::path::PathBuf,
    },
    /// Any file.
    Plain {
        /// Path.
        path: std::path::PathBuf,
    },
}

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// stdout
    Stdout,
    /// stderr
    Stderr,
    /// file
    File,
}

impl LogStream {
    /// Name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::File => "file",
        }
    }
}

/// Labels, or not yet.
#[derive(Clone, Debug)]
pub enum Labeling {
    /// Labels.
    Ready(Labels),
    /// Not yet.
    Wait,
}

/// Gives labels.
pub type Labeler = Arc<dyn Fn(&FileKind, LogStream) -> Labeling + Send + Sync>;
