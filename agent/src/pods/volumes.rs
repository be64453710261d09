//! Which files of which volumes are logs: the annotation `taffrail.dev/log-volumes` and where the
//! kubelet keeps the volume.
//!
//! `app-logs:/**/*.log, audit:*.json` names volumes of the pod with a pattern each; without a
//! pattern [`DEFAULT_GLOB`] is meant. A rule never leaves the folders that the kubelet made for the
//! pod, but for a hostPath, which the pod itself reads. What cannot be resolved is told, not
//! guessed: a claim is found only when it is the pod's only one, because its folder carries the name
//! of the persistent volume, which the pod does not know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Pod, Pods, Snapshot, Volume, VolumeSource};
use crate::tail::{RuleKind, VolumeRule, VolumeRules};

/// The annotation.
pub const ANNOTATION: &str = "taffrail.dev/log-volumes";
/// The files that are logs when the annotation gives no pattern.
pub const DEFAULT_GLOB: &str = "**/*.log";
/// Most volumes that one pod may name; more are left out, and told.
const RULES_MAX: usize = 32;

/// Folders of volume plugins that hold no claim.
const NOT_CLAIMS: [&str; 5] = [
    "kubernetes.io~empty-dir",
    "kubernetes.io~secret",
    "kubernetes.io~configmap",
    "kubernetes.io~projected",
    "kubernetes.io~downward-api",
];

/// Why a volume's logs are not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The pod has no volume of this name.
    #[error("the pod has no volume {0:?}")]
    NoVolume(String),
    /// The pattern leaves the volume.
    #[error("the pattern {0:?} leaves the volume")]
    Glob(String),
    /// Volumes of this kind hold no logs, or their folder cannot be known.
    #[error("volume {0:?} is not an emptyDir, a hostPath, a claim or a CSI volume")]
    Kind(String),
    /// The folder of the claim cannot be told from others, or is not mounted yet.
    #[error("volume {volume:?}: {found} folders could be claim {claim:?}; expected one")]
    Claim {
        /// Name of the volume.
        volume: String,
        /// Name of the claim.
        claim: String,
        /// How many there are.
        found: usize,
    },
    /// A uid or name that cannot be a folder's.
    #[error("{0:?} is not the name of a folder")]
    Name(String),
    /// The annotation names more volumes than are read.
    #[error("more than {RULES_MAX} volumes are named")]
    TooMany,
}

/// What cannot be read at the moment, by pod. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Problems(Arc<Mutex<BTreeMap<String, String>>>);

impl Problems {
    /// The problems, the pod's `namespace/name` before each.
    #[must_use]
    pub fn now(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, found: Vec<(String, Problem)>) {
        let found: BTreeMap<String, String> =
            found.into_iter().map(|(pod, problem)| (pod, problem.to_string())).collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (pod, problem) in found.iter().filter(|(pod, p)| known.get(*pod) != Some(*p)) {
            tracing::warn!(pod, problem, "a volume's logs are not read");
        }
        *known = found;
    }
}

/// The function that gives the rules of the moment, and what it could not resolve.
#[must_use]
pub fn provider(pods: Pods, kubelet_root: PathBuf) -> (VolumeRules, Problems) {
    let problems = Problems::default();
    let told = problems.clone();
    let provide = move || {
        let (found, problems) = rules(&pods.now(), &kubelet_root);
        told.replace(problems);
        found
    };
    (Arc::new(provide), problems)
}

/// All rules of the pods that exist, and what could not be resolved, with the pod's name. Lists
/// folders of the pods that carry the annotation.
#[must_use]
pub fn rules(pods: &Snapshot, kubelet_root: &Path) -> (Vec<VolumeRule>, Vec<(String, Problem)>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for pod in pods.live() {
        let Some(text) = pod.annotations.get(ANNOTATION) else { continue };
        for (at, entry) in text.split(',').map(str::trim).filter(|e| !e.is_empty()).enumerate() {
            let rule =
                if at < RULES_MAX { rule(pod, entry, kubelet_root) } else { Err(Problem::TooMany) };
            match rule {
                Ok(rule) => found.push(rule),
                Err(problem) => {
                    problems.push((format!("{}/{}", pod.namespace, pod.name), problem));
                    if at >= RULES_MAX {
                        break;
                    }
                }
            }
        }
    }
    found.sort_by(|a, b| (&a.root, &a.glob).cmp(&(&b.root, &b.glob)));
    (found, problems)
}

fn rule(pod: &Pod, entry: &str, kubelet_root: &Path) -> Result<VolumeRule, Problem> {
    let (name, glob) = entry.split_once(':').unwrap_or((entry, DEFAULT_GLOB));
    let (name, glob) = (name.trim(), glob.trim().trim_start_matches('/'));
    let glob = if glob.is_empty() { DEFAULT_GLOB } else { glob };
    if glob.split('/').any(|part| part == "..") {
        return Err(Problem::Glob(glob.to_owned()));
    }
    let volume = pod.volumes.iter().find(|volume| volume.name == name);
    let volume = volume.ok_or_else(|| Problem::NoVolume(name.to_owned()))?;
    let kind = RuleKind::Volume {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.folder_uid().to_owned(),
        volume: name.to_owned(),
    };
    Ok(VolumeRule { root: folder(pod, volume, kubelet_root)?, glob: glob.to_owned(), kind })
}

fn folder(pod: &Pod, volume: &Volume, kubelet_root: &Path) -> Result<PathBuf, Problem> {
    for name in [pod.folder_uid(), &volume.name] {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(Problem::Name(name.to_owned()));
        }
    }
    let volumes = kubelet_root.join("pods").join(pod.folder_uid()).join("volumes");
    match &volume.source {
        VolumeSource::EmptyDir => Ok(volumes.join("kubernetes.io~empty-dir").join(&volume.name)),
        VolumeSource::HostPath(path) => Ok(path.clone()),
        VolumeSource::InlineCsi => {
            Ok(volumes.join("kubernetes.io~csi").join(&volume.name).join("mount"))
        }
        VolumeSource::Claim(claim) => claim_folder(pod, volume, claim, &volumes),
        VolumeSource::Other => Err(Problem::Kind(volume.name.clone())),
    }
}

/// The one folder that can be the claim's.
fn claim_folder(
    pod: &Pod,
    volume: &Volume,
    claim: &str,
    volumes: &Path,
) -> Result<PathBuf, Problem> {
    let inline = |name: &str| {
        pod.volumes.iter().any(|v| v.source == VolumeSource::InlineCsi && v.name == name)
    };
    let mut folders = Vec::new();
    for plugin in names(volumes).filter(|name| !NOT_CLAIMS.contains(&&**name)) {
        for name in names(&volumes.join(&plugin)).filter(|name| !inline(name)) {
            let folder = volumes.join(&plugin).join(&name);
            folders.push(if plugin == "kubernetes.io~csi" { folder.join("mount") } else { folder });
        }
    }
    let claims = pod.volumes.iter().filter(|v| matches!(v.source, VolumeSource::Claim(_))).count();
    match (claims, folders.pop()) {
        (1, Some(folder)) if folders.is_empty() => Ok(folder),
        (_, last) => Err(Problem::Claim {
            volume: volume.name.clone(),
            claim: claim.to_owned(),
            found: folders.len() + usize::from(last.is_some()),
        }),
    }
}

/// Names in a folder; none if it is not there (yet).
fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Origin;
    use crate::pods::table::{Event, Table};

    fn volume(name: &str, source: VolumeSource) -> Volume {
        Volume { name: name.into(), source }
    }

    fn pod(annotation: &str, volumes: Vec<Volume>) -> Pod {
        Pod {
            uid: "u-1".into(),
            namespace: "shop".into(),
            name: "web".into(),
            annotations: [(ANNOTATION.to_owned(), annotation.to_owned())].into(),
            volumes,
            ..Pod::default()
        }
    }

    fn resolve(pod: Pod, root: &Path) -> (Vec<(PathBuf, String)>, Vec<Problem>) {
        let (mut table, pods) = Table::new(Origin::File);
        table.apply(Event::Applied(pod.into()), tokio::time::Instant::now());
        let (found, problems) = rules(&pods.now(), root);
        let short = |rule: VolumeRule| {
            let RuleKind::Volume { namespace, pod, uid, .. } = rule.kind else { panic!("a pod's") };
            assert_eq!((&*namespace, &*pod, &*uid), ("shop", "web", "u-1"));
            (rule.root, rule.glob)
        };
        (found.into_iter().map(short).collect(), problems.into_iter().map(|p| p.1).collect())
    }

    #[test]
    fn volumes_are_found_where_the_kubelet_keeps_them() {
        let base = "/k/pods/u-1/volumes";
        let cases = [
            ("a", VolumeSource::EmptyDir, "kubernetes.io~empty-dir/a", DEFAULT_GLOB),
            ("a:/**/*.txt", VolumeSource::EmptyDir, "kubernetes.io~empty-dir/a", "**/*.txt"),
            (" a : *.log ,", VolumeSource::InlineCsi, "kubernetes.io~csi/a/mount", "*.log"),
            ("a:", VolumeSource::HostPath("/srv/logs".into()), "/srv/logs", DEFAULT_GLOB),
        ];
        for (annotation, source, folder, glob) in cases {
            let found = resolve(pod(annotation, vec![volume("a", source)]), Path::new("/k"));
            let expected = (Path::new(base).join(folder), glob.to_owned());
            assert_eq!(found, (vec![expected], vec![]), "{annotation}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let cases = [
            ("b", Problem::NoVolume("b".into())),
            ("a:../../*", Problem::Glob("../../*".into())),
            ("secret", Problem::Kind("secret".into())),
            ("../a", Problem::NoVolume("../a".into())),
            ("..", Problem::Name("..".into())),
        ];
        for (annotation, problem) in cases {
            let volumes = vec![
                volume("a", VolumeSource::EmptyDir),
                volume("secret", VolumeSource::Other),
                volume("..", VolumeSource::EmptyDir),
            ];
            let found = resolve(pod(annotation, volumes), Path::new("/k"));
            assert_eq!(found, (vec![], vec![problem]), "{annotation}");
        }
        let many = vec!["a"; RULES_MAX + 9].join(",");
        let found = resolve(pod(&many, vec![volume("a", VolumeSource::EmptyDir)]), Path::new("/k"));
        assert_eq!((found.0.len(), found.1), (RULES_MAX, vec![Problem::TooMany]));
    }

    #[test]
    fn a_claim_is_found_only_when_there_is_no_doubt() {
        let folder = tempfile::tempdir().expect("folder");
        let volumes = folder.path().join("pods/u-1/volumes");
        let claim = || volume("a", VolumeSource::Claim("logs-db-0".into()));
        let problem =
            |found| Problem::Claim { volume: "a".into(), claim: "logs-db-0".into(), found };

        assert_eq!(resolve(pod("a", vec![claim()]), folder.path()).1, [problem(0)]);
        for made in
            ["kubernetes.io~csi/pv-7/mount", "kubernetes.io~empty-dir/x", "kubernetes.io~secret/s"]
        {
            std::fs::create_dir_all(volumes.join(made)).expect("create");
        }
        let found = resolve(pod("a", vec![claim()]), folder.path()).0;
        assert_eq!(found[0].0, volumes.join("kubernetes.io~csi/pv-7/mount"));

        let two = vec![claim(), volume("b", VolumeSource::Claim("other".into()))];
        assert_eq!(resolve(pod("a", two), folder.path()).1, [problem(1)]);
        std::fs::create_dir_all(volumes.join("kubernetes.io~local-volume/pv-8")).expect("create");
        assert_eq!(resolve(pod("a", vec![claim()]), folder.path()).1, [problem(2)]);
    }
}
