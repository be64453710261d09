//! Pod → labels. Pure, but for [`labeler`], which looks into the pods as they are now.
//!
//! The names in [`RESERVED`] mean the same on every stream and series and are never overridden by a
//! label of a pod: a pod label whose sanitised name is one of them becomes `label_<name>`. Every
//! other pod label stands under its own sanitised name, and the labels of its namespace that were
//! asked for under `namespace_<name>`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taffrail_model::Labels;
use taffrail_model::labels::sanitize_name;
use taffrail_model::limits::{LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, STREAM_LABELS_MAX};
use tokio::time::Instant;

use crate::pods::{Origin, Owner, Pod, Pods};
use crate::tail::{FileKind, Labeler, Labeling, LogStream};

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
/// How long files wait for the first list of pods before they are labelled by what was known before
/// (see [`crate::pods::memory`]), or by their paths.
const WAIT_FOR_LIST: Duration = Duration::from_secs(30);
/// How many files there are at least before labels that nobody uses any more are dropped.
const SWEEP_MIN: usize = 1024;
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
    for (label, value) in &pod.namespace_labels {
        gathered.set(&format!("namespace_{}", sanitize_name(label)), value);
    }
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
            let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
            gathered.set("app", &stem);
            gathered.set("service_name", &stem);
            gathered.set("job", "files");
        }
    }
    gather_file(&mut gathered, file, stream);
    gathered.finish()
}

fn gather_file(gathered: &mut Gathered, file: &FileKind, stream: LogStream) {
    match file {
        FileKind::Container { container, .. } => gathered.set("container", container),
        FileKind::Volume { volume, path, .. } => {
            gathered.set("volume", volume);
            gathered.set("filename", path);
        }
        FileKind::Plain { path } => gathered.set("filename", path),
    }
    gathered.set("stream", name_of(stream));
}

fn name_of(stream: LogStream) -> &'static str {
    match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
        LogStream::File => "file",
    }
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
/// pod may still become known; then it gives what the path tells. It is asked for each batch and
/// makes labels only when the pod has changed.
#[must_use]
pub fn labeler(place: Place, pods: Pods) -> Labeler {
    let waiting = Waiting { start: Instant::now(), since: Mutex::new(HashMap::new()) };
    let made = Mutex::new(AllMade::new());
    Arc::new(move |file: &FileKind, stream: LogStream| {
        let (FileKind::Container { uid, .. } | FileKind::Volume { uid, .. }) = file else {
            return Labeling::Ready(path_labels(&place, file, stream));
        };
        let now = pods.now();
        // Without a list pods are known from before at best: their labels and annotations may be others.
        if now.origin != Origin::None && !now.synced && waiting.list_may_come() {
            return Labeling::Wait;
        }
        let mut all = made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = &mut all.files;
        // A pod that is long gone is remembered by its files: the collector may have been away for
        // longer than deleted pods are kept.
        let known = now.get(uid).cloned().or_else(|| made.get(file).map(|made| made.pod.clone()));
        let Some(pod) = known else {
            if now.origin != Origin::None && now.synced && waiting.longer(uid) {
                return Labeling::Wait;
            }
            return Labeling::Ready(path_labels(&place, file, stream));
        };
        if let Some(labels) = made.get(file).and_then(|made| made.labels(&pod, stream)) {
            return Labeling::Ready(labels);
        }
        // Labels that were asked for should not come and go.
        if now.awaits_namespaces && waiting.list_may_come() {
            return Labeling::Wait;
        }
        waiting.forget(uid);
        let labels = made.get(file).and_then(|made| made.sibling(&pod, stream));
        let labels = labels.unwrap_or_else(|| stream_labels(&place, &pod, file, stream));
        Labeling::Ready(all.keep(file, &pod, stream, &labels))
    })
}

/// The labels of all files, for as long as somebody uses them.
struct AllMade {
    files: HashMap<FileKind, Made>,
    /// Each name and value once: most labels of most pods are the same.
    texts: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl AllMade {
    fn new() -> Self {
        Self { files: HashMap::new(), texts: HashSet::new(), sweep_at: SWEEP_MIN }
    }

    /// Keeps the labels of a stream, and returns them made of texts that are there already.
    fn keep(
        &mut self,
        file: &FileKind,
        pod: &Arc<Pod>,
        stream: LogStream,
        labels: &Labels,
    ) -> Labels {
        let mut once = |text: &Arc<str>| match self.texts.get(text) {
            Some(known) => known.clone(),
            None => {
                self.texts.insert(text.clone());
                text.clone()
            }
        };
        let pairs = labels.shared().iter().map(|(name, value)| (once(name), once(value)));
        let labels: Labels = pairs.collect();
        let entry = self.files.entry(file.clone()).or_insert_with(|| Made::new(pod));
        entry.keep(pod, stream, &labels);
        self.sweep();
        labels
    }

    /// Drops what belongs to files that are read no more, whenever there are twice as many as after
    /// the last time.
    fn sweep(&mut self) {
        if self.files.len() >= self.sweep_at {
            self.files.retain(|_, made| made.streams.iter().flatten().any(Labels::is_shared));
            self.files.shrink_to_fit();
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.texts.shrink_to_fit();
            self.sweep_at = SWEEP_MIN.max(2 * self.files.len());
        }
    }
}

/// The labels of a file's streams, as long as its pod is the same object.
struct Made {
    pod: Arc<Pod>,
    streams: [Option<Labels>; 3],
}

impl Made {
    fn new(pod: &Arc<Pod>) -> Self {
        Self { pod: pod.clone(), streams: [None, None, None] }
    }

    fn labels(&self, pod: &Arc<Pod>, stream: LogStream) -> Option<Labels> {
        let same = Arc::ptr_eq(&self.pod, pod);
        self.streams[stream as usize].clone().filter(|_| same)
    }

    /// The labels of a stream, made from those of another one of the same file.
    fn sibling(&self, pod: &Arc<Pod>, stream: LogStream) -> Option<Labels> {
        let same = Arc::ptr_eq(&self.pod, pod);
        let sibling = self.streams.iter().flatten().next().filter(|_| same)?;
        Some(sibling.with("stream", name_of(stream)))
    }

    fn keep(&mut self, pod: &Arc<Pod>, stream: LogStream, labels: &Labels) {
        if !Arc::ptr_eq(&self.pod, pod) {
            *self = Self::new(pod);
        }
        self.streams[stream as usize] = Some(labels.clone());
    }
}

/// Since when the pods that are not known are asked for.
struct Waiting {
    start: Instant,
    since: Mutex<HashMap<String, Instant>>,
}

impl Waiting {
    /// Whether it is not too late for the first list.
    fn list_may_come(&self) -> bool {
        self.start.elapsed() < WAIT_FOR_LIST
    }

    /// Whether this pod is worth waiting for.
    fn longer(&self, uid: &str) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.len() >= WAITING_MAX {
            since.retain(|_, first| first.elapsed() < WAIT_FOR_POD);
        }
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
