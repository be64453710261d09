//! What the names of a container's log file and of its folders tell. Pure.

use std::path::Path;

/// The place of a container's file in the order in which the files were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// How often the container was started before.
    pub restart: u32,
    /// When the file was rotated, as the kubelet writes it (`20261120-101112`); none: it is live.
    pub rotated: Option<String>,
    /// Whether it is compressed.
    pub packed: bool,
}

/// What the path of a container's log file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLogPath {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID in the folder's name.
    pub uid: String,
    /// Name of the container.
    pub container: String,
    /// Which of the container's files.
    pub place: Place,
}

/// Reads the last three parts of `<root>/<namespace>_<pod>_<uid>/<container>/<restart>.log[.<time>][.gz]`.
#[must_use]
pub fn parse_pod_log_path(path: &Path) -> Option<PodLogPath> {
    let place = parse_file_name(path.file_name()?.to_str()?)?;
    let container = path.parent()?.file_name()?.to_str()?;
    let folder = path.parent()?.parent()?.file_name()?.to_str()?;
    let (namespace, pod, uid) = parse_pod_folder(folder)?;
    Some(PodLogPath {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: uid.to_owned(),
        container: container.to_owned(),
        place,
    })
}

/// Names in Kubernetes hold no `_`, so the two are where they must be.
pub(super) fn parse_pod_folder(name: &str) -> Option<(&str, &str, &str)> {
    let mut parts = name.split('_');
    let found = (parts.next()?, parts.next()?, parts.next()?);
    let (namespace, pod, uid) = found;
    let whole = [namespace, pod, uid].iter().all(|p| !p.is_empty());
    (whole && parts.next().is_none()).then_some(found)
}

pub(super) fn parse_file_name(name: &str) -> Option<Place> {
    let (restart, rest) = name.split_once(".log")?;
    if restart.is_empty() || !restart.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let restart = restart.parse().ok()?;
    let (rest, packed) = rest.strip_suffix(".gz").map_or((rest, false), |rest| (rest, true));
    let rotated = match rest.strip_prefix('.') {
        Some(time) if is_rotation_time(time) => Some(time.to_owned()),
        None if rest.is_empty() && !packed => None,
        _ => return None,
    };
    Some(Place { restart, rotated, packed })
}

fn is_rotation_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 15
        && bytes.len() <= 32
        && bytes[8] == b'-'
        && bytes.iter().enumerate().all(|(at, b)| at == 8 || b.is_ascii_digit() || at > 14)
        && bytes.iter().all(|b| b.is_ascii_digit() || *b == b'-' || *b == b'.')
}
