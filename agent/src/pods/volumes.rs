//! Which files of which volumes are logs: the annotation `taffrail.dev/log-volumes` and where the
//! kubelet keeps the volume.
//!
//! `app-logs:/**/*.log, audit:*.json` names volumes of the pod with a pattern each, below what the
//! containers see of the volume; without a pattern [`DEFAULT_GLOB`] is meant. A rule never leaves
//! the folders that the kubelet made for the pod, but for a hostPath, which the pod itself reads.
//! What cannot be resolved is told, not guessed: the folder of a claim carries the name of the
//! persistent volume, which the pod does not know; where nobody else does either, a claim is found
//! only when it is the pod's only one.
//!
//! The folders of a pod that ends, has ended or was deleted are lent (see [`VolumeRule::lent`]), and
//! so are all when nobody tells how the pods are: whoever unmounts a volume never waits for us. A
//! deleted pod's rules stay as long as the pod is remembered, so that what it has left on a claim
//! is read with its labels. A folder that several pods see is read once, as the live ones' first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Bound, Pod, Pods, Snapshot, Volume, VolumeSource};
use crate::discover::is_pattern;
use crate::tail::identity::FileId;
use crate::tail::lane::Lanes;
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

/// Where this process sees the node's folders.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The kubelet's folder.
    pub kubelet: PathBuf,
    /// The node's root; none: the node's paths are our own.
    pub host: Option<PathBuf>,
}

/// The function that gives the rules of the moment, and what it could not resolve.
#[must_use]
pub fn provider(pods: Pods, roots: Roots) -> (VolumeRules, Problems) {
    let problems = Problems::default();
    let told = problems.clone();
    let provide = move |lanes: &mut Lanes| {
        let (found, problems) = rules(&pods.now(), &roots, lanes);
        told.replace(problems);
        found
    };
    (Arc::new(provide), problems)
}

/// All rules of the pods, and what could not be resolved, with the pod's name. Lists folders of the
/// pods that carry the annotation.
#[must_use]
pub fn rules(
    pods: &Snapshot,
    roots: &Roots,
    lanes: &mut Lanes,
) -> (Vec<VolumeRule>, Vec<(String, Problem)>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (pod, live) in pods.known() {
        let Some(text) = pod.annotations.get(ANNOTATION) else { continue };
        let lent = !live || pod.ending || pod.finished() || pods.problem.is_some();
        for (at, entry) in text.split(',').map(str::trim).filter(|e| !e.is_empty()).enumerate() {
            let rules = if at < RULES_MAX {
                of_entry(pod, entry, roots, lanes)
            } else {
                Err(Problem::TooMany)
            };
            match rules {
                Ok(rules) => {
                    let rules = rules.into_iter().map(|rule| VolumeRule { lent, ..rule });
                    found.extend(rules.map(|rule| (!live, pod.uid.clone(), rule)));
                }
                // Of a pod that was deleted nothing has to be there any more.
                Err(_) if !live => {}
                Err(problem) => {
                    problems.push((format!("{}/{}", pod.namespace, pod.name), problem));
                }
            }
            if at >= RULES_MAX {
                break;
            }
        }
    }
    found.sort_by(|(a_dead, a_uid, a), (b_dead, b_uid, b)| {
        (a_dead, a_uid, &a.root, &a.glob).cmp(&(b_dead, b_uid, &b.root, &b.glob))
    });
    (once(found.into_iter().map(|(_, _, rule)| rule), lanes), problems)
}

/// The rules without those that give to a folder, by whatever path, a pattern that it has already.
fn once(rules: impl Iterator<Item = VolumeRule>, lanes: &mut Lanes) -> Vec<VolumeRule> {
    let mut seen: Vec<(Option<FileId>, PathBuf, String)> = Vec::new();
    let mut kept = Vec::new();
    for rule in rules {
        let id = lanes.folder(&rule.root);
        let same = |(other, root, glob): &(Option<FileId>, PathBuf, String)| {
            *glob == rule.glob && (*root == rule.root || (id.is_some() && *other == id))
        };
        if !seen.iter().any(same) {
            seen.push((id, rule.root.clone(), rule.glob.clone()));
            kept.push(rule);
        }
    }
    kept
}

/// The rules of one entry of the annotation: one for each folder that the containers see of it.
fn of_entry(
    pod: &Pod,
    entry: &str,
    roots: &Roots,
    lanes: &Lanes,
) -> Result<Vec<VolumeRule>, Problem> {
    let (name, glob) = entry.split_once(':').unwrap_or((entry, DEFAULT_GLOB));
    let (name, glob) = (name.trim(), glob.trim().trim_start_matches('/'));
    let glob = if glob.is_empty() { DEFAULT_GLOB } else { glob };
    if !is_pattern(glob) {
        return Err(Problem::Glob(glob.to_owned()));
    }
    let volume = pod.volumes.iter().find(|volume| volume.name == name);
    let volume = volume.ok_or_else(|| Problem::NoVolume(name.to_owned()))?;
    for name in [pod.folder_uid(), &volume.name] {
        if !is_folder_name(name) {
            return Err(Problem::Name(name.to_owned()));
        }
    }
    let kind = RuleKind::Volume {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.folder_uid().to_owned(),
        volume: name.to_owned(),
    };
    let folders = match pod.sub_paths.get(name) {
        // Refused for a volume that holds no logs whether or not it is seen whole.
        Some(_) if volume.source == VolumeSource::Other => {
            return Err(Problem::Kind(name.to_owned()));
        }
        Some(parts) => parts_of(pod, name, parts, roots)?,
        None => vec![folder(pod, volume, roots, lanes)?],
    };
    Ok(folders.into_iter().map(|root| VolumeRule::new(root, glob, kind.clone())).collect())
}

fn is_folder_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/')
}

/// What the containers see of a volume that none of them sees whole: the rest is others'.
fn parts_of(
    pod: &Pod,
    volume: &str,
    parts: &[(String, usize)],
    roots: &Roots,
) -> Result<Vec<PathBuf>, Problem> {
    let base = roots.kubelet.join("pods").join(pod.folder_uid()).join("volume-subpaths");
    let folder = |(container, at): &(String, usize)| {
        let name = is_folder_name(container).then_some(container);
        let name = name.ok_or_else(|| Problem::Name(container.clone()))?;
        Ok(base.join(volume).join(name).join(at.to_string()))
    };
    parts.iter().map(folder).collect()
}

fn folder(pod: &Pod, volume: &Volume, roots: &Roots, lanes: &Lanes) -> Result<PathBuf, Problem> {
    let volumes = roots.kubelet.join("pods").join(pod.folder_uid()).join("volumes");
    match &volume.source {
        VolumeSource::EmptyDir => Ok(volumes.join("kubernetes.io~empty-dir").join(&volume.name)),
        VolumeSource::HostPath(path) => Ok(of_host(path, roots, lanes)),
        VolumeSource::InlineCsi => {
            Ok(volumes.join("kubernetes.io~csi").join(&volume.name).join("mount"))
        }
        VolumeSource::Claim { bound: Some(Bound { path: Some(path), .. }), .. } => {
            Ok(of_host(path, roots, lanes))
        }
        VolumeSource::Claim { claim, bound } => {
            let mut folders = claim_folders(pod, &volumes);
            match bound {
                Some(bound) => folders.retain(|(name, _)| *name == bound.volume),
                None if claims(pod) > 1 => return Err(unclear(volume, claim, folders.len())),
                None => {}
            }
            match &*folders {
                [(_, folder)] => Ok(folder.clone()),
                other => Err(unclear(volume, claim, other.len())),
            }
        }
        VolumeSource::Other => Err(Problem::Kind(volume.name.clone())),
    }
}

/// A path of the node as this process sees it, its links followed as the node would.
fn of_host(path: &Path, roots: &Roots, lanes: &Lanes) -> PathBuf {
    roots.host.as_ref().map_or_else(|| path.to_owned(), |host| lanes.follow(host, path))
}

fn unclear(volume: &Volume, claim: &str, found: usize) -> Problem {
    Problem::Claim { volume: volume.name.clone(), claim: claim.to_owned(), found }
}

/// How many volumes of the pod are claims.
fn claims(pod: &Pod) -> usize {
    pod.volumes.iter().filter(|v| matches!(v.source, VolumeSource::Claim { .. })).count()
}

/// The folders that can be those of claims, with the names of their persistent volumes.
fn claim_folders(pod: &Pod, volumes: &Path) -> Vec<(String, PathBuf)> {
    let inline = |name: &str| {
        pod.volumes.iter().any(|v| v.source == VolumeSource::InlineCsi && v.name == name)
    };
    let mut folders = Vec::new();
    for plugin in names(volumes).filter(|name| !NOT_CLAIMS.contains(&&**name)) {
        for name in names(&volumes.join(&plugin)).filter(|name| !inline(name)) {
            let folder = volumes.join(&plugin).join(&name);
            let mounted = plugin == "kubernetes.io~csi";
            folders.push((name, if mounted { folder.join("mount") } else { folder }));
        }
    }
    folders
}

/// Names in a folder; none if it is not there (yet).
fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests;
