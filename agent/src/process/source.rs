//! Gives a file the rules of its container: the settings, changed by the annotations of its pod.
//!
//! Asked for each file and batch, so that annotations and settings hold from the moment that they are
//! known; rules are made anew only when the pod's annotations or the settings have changed. A pod that
//! is gone is remembered beside its rules, for its last lines.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::annotations::{self, Problem};
use super::metrics::{Metrics, Reason};
use super::rules::{Rules, TimeOf};
use crate::pods::{Origin, Pod, Pods, volumes};
use crate::tail::FileKind;

/// Most rules that are kept ready.
const MADE_MAX: usize = 20_000;
/// Most pods whose problems are kept, and most problems of one pod.
const PROBLEM_PODS_MAX: usize = 1000;
const PROBLEMS_MAX: usize = 16;

/// A pod with an annotation that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct PodProblem {
    /// `<namespace>/<name>` of the pod.
    pub pod: String,
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
}

/// Gives files their rules. Cheap to clone.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    usual: RwLock<Arc<Usual>>,
    pods: Pods,
    metrics: Metrics,
    made: Mutex<HashMap<Key, Made>>,
    problems: Mutex<Problems>,
}

/// What the settings say.
struct Usual {
    line: Arc<Rules>,
    /// Of files that programs write themselves.
    file: Arc<Rules>,
    /// Both, while the pod is not known.
    unknown_line: Arc<Rules>,
    unknown_file: Arc<Rules>,
}

impl Usual {
    fn new(line: Rules) -> Self {
        // The time of reading says little of a line in a file: its own is better.
        let file = Rules { time: TimeOf::Line, ..line.clone() };
        let unknown = |usual: &Rules| Rules { redactor: usual.unknown.clone(), ..usual.clone() };
        Self {
            unknown_line: unknown(&line).into(),
            unknown_file: unknown(&file).into(),
            line: line.into(),
            file: file.into(),
        }
    }
}

/// The pod's uid, and the container if it is one.
type Key = (String, Option<String>);

/// By uid: the pod that was looked at, and what is wrong with it.
type Problems = BTreeMap<String, (Arc<Pod>, Vec<Problem>)>;

struct Made {
    pod: Arc<Pod>,
    /// What they were made from.
    usual: Arc<Usual>,
    rules: Arc<Rules>,
}

/// The usual rules for everything.
impl Default for Source {
    fn default() -> Self {
        Self::new(Rules::default(), Pods::none(), Metrics::default())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("usual", &self.usual()).finish_non_exhaustive()
    }
}

impl Source {
    /// Rules are `usual` where the annotations of `pods` say nothing else.
    #[must_use]
    pub fn new(usual: Rules, pods: Pods, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            usual: RwLock::new(Usual::new(usual).into()),
            pods,
            metrics,
            made: Mutex::default(),
            problems: Mutex::default(),
        }))
    }

    /// The settings have changed: from the next batches on rules are `usual` where annotations say
    /// nothing else.
    pub fn change(&self, usual: Rules) {
        *self.0.usual.write().unwrap_or_else(PoisonError::into_inner) = Usual::new(usual).into();
    }

    fn settings(&self) -> Arc<Usual> {
        self.0.usual.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rules of what is no file and no pod's.
    #[must_use]
    pub fn usual(&self) -> Arc<Rules> {
        self.settings().line.clone()
    }

    /// The rules of what a pod sends by itself, as one of its containers if it says so. Without a
    /// pod: of somebody whose annotations are not known.
    #[must_use]
    pub fn of_sender(&self, pod: Option<(&str, Option<&str>)>) -> Arc<Rules> {
        match pod {
            Some((uid, container)) => self.of_pod(uid, container, true),
            None => self.of_nobody(&self.settings(), true),
        }
    }

    /// Counts what was taken out of things that are no lines, and how many of them were dropped.
    pub(crate) fn redacted(&self, taken_out: u64, dropped: u64) {
        self.0.metrics.redacted.inc_by(taken_out);
        self.0.metrics.dropped(Reason::Redaction, dropped);
    }

    /// Counts what a container that is excluded has sent.
    pub(crate) fn excluded(&self, records: u64) {
        self.0.metrics.dropped(Reason::Excluded, records);
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The rules of a file.
    #[must_use]
    pub fn rules(&self, file: &FileKind) -> Arc<Rules> {
        match file {
            FileKind::Container { uid, container, .. } => self.of_pod(uid, Some(container), true),
            FileKind::Volume { uid, .. } => self.of_pod(uid, None, false),
            FileKind::Plain { .. } => self.settings().file.clone(),
        }
    }

    /// The rules where the annotations are not known. Where there are no pods there are none.
    fn of_nobody(&self, usual: &Usual, timed: bool) -> Arc<Rules> {
        let rules = match (self.0.pods.now().origin == Origin::None, timed) {
            (true, true) => &usual.line,
            (true, false) => &usual.file,
            (false, true) => &usual.unknown_line,
            (false, false) => &usual.unknown_file,
        };
        rules.clone()
    }

    /// The rules of a container of a pod, or of the pod; `timed`: something else than the line tells
    /// the time.
    fn of_pod(&self, uid: &str, container: Option<&str>, timed: bool) -> Arc<Rules> {
        let usual = self.settings();
        // What a pod sends without the name of a container has rules of its own.
        let name = container.map(str::to_owned).or_else(|| timed.then(String::new));
        let key = (uid.to_owned(), name);
        let known = self.0.pods.now().get(uid).cloned();
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pod) = known.or_else(|| made.get(&key).map(|made| made.pod.clone())) else {
            return self.of_nobody(&usual, timed);
        };
        if let Some(made) = made.get_mut(&key) {
            let same_pod = Arc::ptr_eq(&made.pod, &pod)
                || (made.pod.annotations == pod.annotations && made.pod.kinds == pod.kinds);
            if same_pod && Arc::ptr_eq(&made.usual, &usual) {
                made.pod = pod;
                return made.rules.clone();
            }
        }
        let base = if timed { &usual.line } else { &usual.file };
        let rules = self.make(base, &pod, container);
        if made.len() >= MADE_MAX {
            let pods = self.0.pods.now();
            made.retain(|(uid, _), _| pods.get(uid).is_some());
            if made.len() >= MADE_MAX {
                made.clear();
            }
        }
        made.insert(key, Made { pod, usual, rules: rules.clone() });
        rules
    }

    /// Annotations that cannot be used, of pods that exist.
    #[must_use]
    pub fn problems(&self) -> Vec<PodProblem> {
        let pods = self.0.pods.now();
        let mut problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.retain(|uid, _| pods.get(uid).is_some());
        self.count(&problems);
        let all = problems.values().flat_map(|(pod, problems)| {
            let name = format!("{}/{}", pod.namespace, pod.name);
            problems.iter().map(move |p| PodProblem { pod: name.clone(), problem: p.clone() })
        });
        let mut all: Vec<PodProblem> = all.collect();
        all.sort();
        all
    }

    fn make(&self, usual: &Arc<Rules>, pod: &Arc<Pod>, container: Option<&str>) -> Arc<Rules> {
        let kind = container.and_then(|name| pod.kinds.get(name));
        if kind.is_none() && pod.annotations.is_empty() {
            self.note(pod, Vec::new());
            return usual.clone();
        }
        let mut rules = Rules::clone(usual);
        if let Some(kind) = kind {
            rules.fields.push(("container_kind", kind.name().to_owned()));
        }
        let mut problems = Vec::new();
        annotations::apply(&pod.annotations, container, &mut rules, &mut problems);
        let containers = pod.containers.iter().map(|container| &*container.name);
        let containers: Vec<&str> =
            containers.chain(pod.kinds.keys().map(|name| &**name)).collect();
        let others =
            [volumes::ANNOTATION].map(|name| name.split_once('/').map_or(name, |(_, key)| key));
        annotations::misnamed(&pod.annotations, &containers, &others, &mut problems);
        self.note(pod, problems);
        rules.into()
    }

    /// Keeps the problems of a pod and tells those that are new.
    fn note(&self, pod: &Arc<Pod>, found: Vec<Problem>) {
        let mut all = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((known_pod, known)) = all.get_mut(&pod.uid) else {
            if !found.is_empty() && all.len() < PROBLEM_PODS_MAX {
                found.iter().take(PROBLEMS_MAX).for_each(|problem| warn(pod, problem));
                let found = found.into_iter().take(PROBLEMS_MAX).collect();
                all.insert(pod.uid.clone(), (pod.clone(), found));
                self.count(&all);
            }
            return;
        };
        // Another container of the same pod adds its own; a pod that was changed begins anew.
        if known_pod.annotations != pod.annotations {
            *known_pod = pod.clone();
            let told = std::mem::take(known);
            known.extend(found.into_iter().take(PROBLEMS_MAX));
            known.iter().filter(|problem| !told.contains(problem)).for_each(|p| warn(pod, p));
        } else {
            for problem in found {
                if known.len() < PROBLEMS_MAX && !known.contains(&problem) {
                    warn(pod, &problem);
                    known.push(problem);
                }
            }
        }
        all.retain(|_, (_, problems)| !problems.is_empty());
        self.count(&all);
    }

    fn count(&self, problems: &Problems) {
        let count: usize = problems.values().map(|(_, problems)| problems.len()).sum();
        self.0.metrics.bad_annotations.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

fn warn(pod: &Pod, problem: &Problem) {
    tracing::warn!(
        namespace = pod.namespace,
        pod = pod.name,
        annotation = problem.annotation,
        value = problem.value,
        message = problem.message,
        "annotation cannot be used"
    );
}

#[cfg(test)]
mod tests;
