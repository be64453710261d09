//! Reads files forward from their committed position.

use std::path::PathBuf;
use std::sync::Arc;

use taffrail_model::Labels;

/// Which output a line came from. The numbers index the labels of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LogStream {
    /// A container's standard output.
    Stdout = 0,
    /// A container's standard error.
    Stderr = 1,
    /// A file that the program writes itself.
    File = 2,
}

/// What a file is, as far as its place tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Output of a container, written by its runtime.
    Container {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// UID in the folder's name (of a static pod: the hash of its manifest).
        uid: String,
        /// Name of the container.
        container: String,
        /// How often the container was started before.
        restart: u32,
    },
    /// A log file in a pod's volume.
    Volume {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// UID of the pod.
        uid: String,
        /// Name of the volume in the pod.
        volume: String,
        /// Path below the volume's root.
        path: String,
    },
    /// A file that belongs to no pod.
    Plain {
        /// Its path.
        path: String,
    },
}

/// What the labeler says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labeling {
    /// The labels of the stream.
    Ready(Labels),
    /// The pod is not known yet and may still come: ask again. The file is held open, not read.
    Wait,
}

/// Gives a stream its labels. Asked again for each batch, so that changes of labels are followed;
/// must be quick.
pub type Labeler = Arc<dyn Fn(&FileKind, LogStream) -> Labeling + Send + Sync>;

/// What the files below a [`VolumeRule`]'s root are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RuleKind {
    /// A volume of a pod.
    Volume {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// UID of the pod.
        uid: String,
        /// Name of the volume in the pod.
        volume: String,
    },
    /// Files of the node itself.
    Plain,
}

/// A folder whose files are logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeRule {
    /// The folder.
    pub root: PathBuf,
    /// Which files below it, as paths relative to it: `*` and `?` within a name, `**` any folders.
    pub glob: String,
    /// What they are.
    pub kind: RuleKind,
}

/// Gives the rules of the moment: asked at each scan, so that volumes come and go.
pub type VolumeRules = Arc<dyn Fn() -> Vec<VolumeRule> + Send + Sync>;
