//! The pods of this node: one writer, many readers.
//!
//! A source ([`cluster`] or [`mod@file`]) feeds [`table::Table`], which publishes a [`Snapshot`] after
//! every change; readers hold a [`Pods`] and never wait. Pods are found by the uid that names their
//! folders, static pods also by their config hash. A deleted pod stays findable for some minutes,
//! because its last lines are read after it has gone; [`memory`] keeps the pods across a restart.
//!
//! What is made of a pod (labels, targets, volumes to read) lives with those who need it.

mod claims;
pub mod cluster;
pub mod file;
pub mod memory;
pub mod metrics;
pub mod namespaces;
pub mod object;
pub mod source;
pub mod table;
pub mod volumes;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Where the pods come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: labels come from paths only.
    None,
    /// The Kubernetes API.
    Cluster,
    /// A pod list file.
    File,
}

/// What is needed of one pod. What is true for a moment only is not kept by [`memory`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// The uid in the API.
    pub uid: String,
    /// The uid that the kubelet uses for a static pod, in place of the API's.
    pub config_hash: Option<String>,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Node, once it is scheduled.
    pub node: Option<String>,
    /// Address, once it has one.
    #[serde(skip)]
    pub ip: Option<String>,
    /// Its further addresses, where it has more than one.
    #[serde(skip)]
    pub more_ips: Vec<String>,
    /// Whether it shares the addresses of its node.
    pub host_network: bool,
    /// Whether it is being deleted: its volumes are about to be taken away.
    #[serde(skip)]
    pub ending: bool,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(skip)]
    pub phase: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Those annotations that are for us.
    pub annotations: BTreeMap<String, String>,
    /// The controller that made it.
    pub owner: Option<Owner>,
    /// Its containers.
    pub containers: Vec<Container>,
    /// What those of its containers are that are not just containers, by name.
    pub kinds: BTreeMap<String, ContainerKind>,
    /// Those labels of its namespace that were asked for.
    pub namespace_labels: BTreeMap<String, String>,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// Volumes that its containers see parts of only (`subPath`), with the container and the number
    /// of each such mount.
    pub sub_paths: BTreeMap<String, Vec<(String, usize)>>,
}

impl Pod {
    /// The uid in the names of its folders on the node.
    #[must_use]
    pub fn folder_uid(&self) -> &str {
        self.config_hash.as_deref().unwrap_or(&self.uid)
    }

    /// Whether its containers have ended for good.
    #[must_use]
    pub fn finished(&self) -> bool {
        matches!(&*self.phase, "Succeeded" | "Failed")
    }
}

/// The controller of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// For example `ReplicaSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What a container is that is not just one of a pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerKind {
    /// It runs to its end before the others start.
    Init,
    /// It starts before the others and runs beside them.
    Sidecar,
    /// Somebody has added it to look into the pod.
    Ephemeral,
}

impl ContainerKind {
    /// Its name in the structured metadata.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Sidecar => "sidecar",
            Self::Ephemeral => "ephemeral",
        }
    }
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The TCP ports that it declares, with their names.
    pub ports: Vec<(u16, Option<String>)>,
}

/// One volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name in the pod.
    pub name: String,
    /// Where it is on the node.
    pub source: VolumeSource,
}

/// Where a volume is on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// `kubernetes.io~empty-dir/<name>` below the pod's folder.
    EmptyDir,
    /// A path of the node.
    HostPath(PathBuf),
    /// A claim; its folder carries the name of the persistent volume.
    Claim {
        /// Name of the claim.
        claim: String,
        /// What it is bound to, if that is known.
        bound: Option<Bound>,
    },
    /// An inline CSI volume: `kubernetes.io~csi/<name>/mount`.
    InlineCsi,
    /// Nothing that holds logs (secrets, config maps, projections), or not known.
    Other,
}

/// The persistent volume behind a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Its name.
    pub volume: String,
    /// Its path, if it is a folder of the node.
    pub path: Option<PathBuf>,
}

/// One pod of a snapshot.
#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<Pod>,
    live: bool,
}

/// All pods at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where they come from.
    pub origin: Origin,
    /// Whether the first whole list has come.
    pub synced: bool,
    /// Why the source does not answer at the moment, if so.
    pub problem: Option<String>,
    /// Whether labels of namespaces are asked for and have not come yet.
    pub awaits_namespaces: bool,
    by_uid: HashMap<String, Entry>,
}

impl Snapshot {
    fn empty(origin: Origin) -> Self {
        Self {
            origin,
            synced: origin == Origin::None,
            problem: None,
            awaits_namespaces: false,
            by_uid: HashMap::new(),
        }
    }

    /// The pod whose folders carry this uid. Also finds pods that were deleted lately.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.by_uid.get(uid).map(|entry| &entry.pod)
    }

    /// How many pods are known, each once, deleted ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_uid.iter().filter(|(uid, entry)| **uid == entry.pod.uid).count()
    }

    /// The pods that exist, each once.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.known().filter(|(_, live)| *live).map(|(pod, _)| pod)
    }

    /// The pods that exist or were deleted lately, each once, and whether they exist.
    pub fn known(&self) -> impl Iterator<Item = (&Arc<Pod>, bool)> {
        let own = self.by_uid.iter().filter(|(uid, entry)| **uid == entry.pod.uid);
        own.map(|(_, entry)| (&entry.pod, entry.live))
    }
}

/// Reads the pods. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pods(watch::Receiver<Arc<Snapshot>>);

impl Pods {
    /// The pods of a node without any source.
    #[must_use]
    pub fn none() -> Self {
        Self(watch::channel(Arc::new(Snapshot::empty(Origin::None))).1)
    }

    /// The pods as they are now.
    #[must_use]
    pub fn now(&self) -> Arc<Snapshot> {
        self.0.borrow().clone()
    }

    /// Returns after the next change. When there will be none any more it never returns.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
