//! Beside an app: reads the log files of one shared volume, with the labels that the downward API
//! tells, and ends when the app has ended and everything is delivered.
//!
//! The end is told by SIGTERM (a native sidecar gets it after the app has ended; another one together
//! with it) or by a file that the app's container leaves behind. From then on one more look is taken
//! at the folders; then all files are read to their ends, last lines without an end included, and
//! closed as soon as they are in the store.
//!
//! No API server is asked. What the pod is part of is told from the labels that controllers give.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taffrail_kit::shutdown::Shutdown;
use tokio::time::Instant;

use crate::enrich::{Place, stream_labels};
use crate::pods::{Owner, Pod};
use crate::tail::{
    FileKind, Labeler, Labeling, LogStream, RuleKind, StatusHandle, VolumeRule, VolumeRules,
};

/// How often the files of the downward API are looked at: labels may change.
const REFRESH: Duration = Duration::from_secs(10);
/// Longest file of the downward API that is read, in bytes: labels and annotations are bounded by
/// the size of an object, 1.5 MiB.
const INFO_BYTES_MAX: u64 = 2 << 20;
/// How often the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often nothing must be left: a status may be empty because nobody had the time to answer.
const NOTHING_LEFT: usize = 3;

/// Nobody has asked for the end.
const GOING_ON: u8 = 0;
/// The end is asked for: one more look.
const LAST_LOOK: u8 = 1;
/// The last look was taken.
const LOOKED: u8 = 2;
/// Nothing is a log file any more: what is open is read to its end.
const OVER: u8 = 3;

/// Settings of a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Folders and the patterns below them.
    pub files: Vec<(PathBuf, String)>,
    /// The folder of the downward API.
    pub podinfo: PathBuf,
    /// What says that the app has ended.
    pub done_file: Option<PathBuf>,
    /// Namespace, name and uid of the pod, as the environment has them.
    pub named: [Option<String>; 3],
}

/// The app's side: what it logs, who it is, when it ends.
pub struct Sidecar {
    config: Config,
    pod: Arc<Pod>,
    stage: Arc<AtomicU8>,
}

impl Sidecar {
    /// Looks at the downward API. Gives the labels of all files, too.
    #[must_use]
    pub fn beside(config: Config, place: Place) -> (Labeler, Option<Self>) {
        let pod = Arc::new(read(&config));
        let known = Mutex::new((pod.clone(), Instant::now()));
        let own = config.clone();
        let labeler: Labeler = Arc::new(move |file: &FileKind, stream: LogStream| {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.1.elapsed() >= REFRESH {
                *known = (read(&own).into(), Instant::now());
            }
            Labeling::Ready(stream_labels(&place, &known.0, file, stream))
        });
        (labeler, Some(Self { config, pod, stage: Arc::new(AtomicU8::new(GOING_ON)) }))
    }

    /// The rules of the moment.
    #[must_use]
    pub fn rules(&self) -> VolumeRules {
        let kind = RuleKind::Volume {
            namespace: self.pod.namespace.clone(),
            pod: self.pod.name.clone(),
            uid: self.pod.uid.clone(),
            volume: String::new(),
        };
        let rule = |(root, glob): &(PathBuf, String)| VolumeRule::new(root, glob, kind.clone());
        let rules: Vec<VolumeRule> = self.config.files.iter().map(rule).collect();
        let stage = self.stage.clone();
        Arc::new(move |lanes| match stage.load(Ordering::Acquire) {
            GOING_ON => rules.clone(),
            LAST_LOOK => {
                stage.store(LOOKED, Ordering::Release);
                rules.clone()
            }
            // A slow volume has not told everything yet.
            LOOKED if lanes.wait() => rules.clone(),
            _ => {
                stage.store(OVER, Ordering::Release);
                Vec::new()
            }
        })
    }

    /// Waits for the end of the app, and then until everything is delivered or `grace` is over.
    pub async fn until_delivered(
        self,
        mut shutdown: Shutdown,
        files: &StatusHandle,
        grace: Duration,
    ) {
        tokio::select! {
            () = shutdown.wait() => tracing::info!("told to end, delivering what is left"),
            () = self.done() => tracing::info!("the app has ended, delivering what is left"),
        }
        self.stage.store(LAST_LOOK, Ordering::Release);
        let delivered = async {
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            let mut nothing = 0;
            while nothing < NOTHING_LEFT {
                ticks.tick().await;
                let over = self.stage.load(Ordering::Acquire) == OVER;
                let left = files.status().await.iter().any(|file| !file.source.is_empty());
                nothing = if over && !left { nothing + 1 } else { 0 };
            }
        };
        let wait = async {
            tokio::select! {
                () = delivered => true,
                // Once more: whoever was waiting for the app is now told to end.
                () = async { shutdown.wait().await; tokio::time::sleep(grace).await } => false,
            }
        };
        if !wait.await {
            tracing::warn!("not everything was delivered in time");
        }
    }

    async fn done(&self) {
        let Some(file) = &self.config.done_file else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            if tokio::fs::try_exists(file).await.unwrap_or(false) {
                return;
            }
        }
    }
}

/// What the downward API tells of the pod.
fn read(config: &Config) -> Pod {
    let text = |name: &str| info(&config.podinfo.join(name));
    let field = |name: &str, at: usize| {
        let told = text(name).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        told.or_else(|| config.named[at].clone()).unwrap_or_default()
    };
    let pairs = |name: &str| text(name).map(|t| pairs(&t)).unwrap_or_default();
    let mut pod = Pod {
        namespace: field("namespace", 0),
        name: field("name", 1),
        uid: field("uid", 2),
        labels: pairs("labels").into_iter().collect(),
        annotations: pairs("annotations").into_iter().collect(),
        ..Pod::default()
    };
    pod.owner = owner(&pod);
    pod
}

fn info(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(INFO_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Reads `name="value"` lines, values quoted as Go does.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((name.to_owned(), unquote(value)))
    };
    text.lines().filter_map(pair).collect()
}

/// What is between Go's quotes. An escape that is none stays as it is.
fn unquote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let mut chars = escape.chars();
        let coded = |digits: usize| {
            let code = u32::from_str_radix(escape.get(1..=digits)?, 16).ok()?;
            Some((char::from_u32(code)?, digits + 1))
        };
        let found = match chars.next() {
            Some('n') => Some(('\n', 1)),
            Some('t') => Some(('\t', 1)),
            Some('r') => Some(('\r', 1)),
            Some(c @ ('"' | '\\')) => Some((c, 1)),
            Some('x') => coded(2),
            Some('u') => coded(4),
            Some('U') => coded(8),
            _ => None,
        };
        let (character, used) = found.unwrap_or(('\\', 0));
        out.push(character);
        rest = &escape[used..];
    }
    out.push_str(rest);
    out
}

/// What made the pod, as far as the labels that controllers give tell.
fn owner(pod: &Pod) -> Option<Owner> {
    let label = |name: &str| pod.labels.get(name).filter(|value| !value.is_empty());
    let named = |kind: &str, name: &str| Some(Owner { kind: kind.into(), name: name.into() });
    let stem = || pod.name.rsplit_once('-').map(|(stem, _)| stem);
    if label("pod-template-hash").is_some() {
        return named("ReplicaSet", stem()?);
    }
    if let Some(job) = label("batch.kubernetes.io/job-name").or_else(|| label("job-name")) {
        return named("Job", job);
    }
    if label("statefulset.kubernetes.io/pod-name").is_some() {
        return named("StatefulSet", stem()?);
    }
    label("controller-revision-hash").and_then(|_| named("DaemonSet", stem()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::lane::Lanes;
    use proptest::prelude::*;

    #[test]
    fn the_downward_api_is_read() {
        let folder = tempfile::tempdir().expect("folder");
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("write");
        write(
            "labels",
            "app=\"web\"\npod-template-hash=\"7d9\"\nnote=\"a\\\"b\\\\n\\u00e9=\\x41\\q\"\nbroken\n",
        );
        write("name", "web-7d9-x2x\n");
        let named = ["shop", "other", "u-1"].map(|name| Some(name.to_owned()));
        let config = Config { podinfo: folder.path().to_owned(), named, ..Config::default() };
        let pod = read(&config);
        assert_eq!((&*pod.namespace, &*pod.name, &*pod.uid), ("shop", "web-7d9-x2x", "u-1"));
        assert_eq!(pod.labels["note"], "a\"b\\né=A\\q");
        assert_eq!(pod.labels.len(), 3);
        let place = Place { cluster: String::new(), node: "n".into() };
        let (labeler, sidecar) = Sidecar::beside(config, place);
        let sidecar = sidecar.expect("a sidecar");
        assert!(sidecar.rules()(&mut Lanes::default()).is_empty());
        let file = FileKind::Volume {
            namespace: "shop".into(),
            pod: "web-7d9-x2x".into(),
            uid: "u-1".into(),
            volume: String::new(),
            path: "a.log".into(),
        };
        let Labeling::Ready(labels) = labeler(&file, LogStream::File) else { panic!("ready") };
        for (name, value) in [
            ("app", "web"),
            ("workload", "web"),
            ("workload_kind", "Deployment"),
            ("filename", "a.log"),
        ] {
            assert_eq!(labels.get(name), Some(value), "{labels}");
        }
    }

    #[test]
    fn owners_by_their_labels() {
        let cases = [
            ("web-7d9-x", "pod-template-hash", Some(("ReplicaSet", "web-7d9"))),
            ("db-0", "statefulset.kubernetes.io/pod-name", Some(("StatefulSet", "db"))),
            ("agent-x2x", "controller-revision-hash", Some(("DaemonSet", "agent"))),
            ("once-x", "job-name", Some(("Job", "value"))),
            ("bare", "app", None),
        ];
        for (name, label, expected) in cases {
            let labels = [(label.to_owned(), "value".to_owned())].into();
            let found = owner(&Pod { name: name.into(), labels, ..Pod::default() });
            let found = found.as_ref().map(|o| (&*o.kind, &*o.name));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn one_more_look_then_nothing() {
        let config = Config { files: vec![("/logs".into(), "*.log".into())], ..Config::default() };
        let (_, sidecar) = Sidecar::beside(config, Place::default());
        let sidecar = sidecar.expect("a sidecar");
        let rules = sidecar.rules();
        let rules = || rules(&mut Lanes::default());
        assert_eq!([rules().len(), rules().len()], [1, 1]);
        sidecar.stage.store(LAST_LOOK, Ordering::Release);
        assert_eq!([rules().len(), rules().len(), rules().len()], [1, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,40}", odd in "[\\\\xuU\"a0é]{0,12}") {
            let _ = (pairs(&text), unquote(&text));
            let _ = unquote(&odd);
            prop_assert_eq!(unquote(&text.replace('\\', "\\\\").replace('"', "\\\"")), text);
        }
    }
}
