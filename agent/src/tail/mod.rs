//! Reads the node's log files forward from their committed positions, and ships each line once.
//!
//! ```text
//! discover -> chain -> file -> lines -> join -> batch -> ship -> collector
//!                ^                                         |
//!                +------ acknowledged, or go back ---------+
//! ```
//!
//! One thread reads all files ([`reader`]), one task sends ([`crate::ship`]); between them is a
//! bounded channel, and when it is full reading stops while new files are still found and held open.
//!
//! Invariants:
//! - The position of a file is kept by the collector, beside the lines. Here nothing is stored while
//!   the collector answers; when it is away, what would vanish goes to the [`crate::spool`].
//! - A file that is held open is read to its end, whatever happens to its name.
//! - Nothing is given up because of time alone.

pub mod chain;
pub mod cri;
pub mod file;
mod hint;
pub mod identity;
pub mod join;
pub mod lag;
pub mod lane;
pub mod level;
pub mod lines;
pub mod metrics;
pub mod packed;
mod pipeline;
pub mod positions;
pub mod reader;
pub mod timestamp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use taffrail_model::Labels;

use crate::process::Source;
use crate::spool;

use lane::Lanes;

pub use pipeline::{Error, FileStatus, LogPipeline, StatusHandle};

/// Settings of the log path.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the node: identities of files begin with it.
    pub node: String,
    /// Where the kubelet keeps the logs of pods; none: only what the volume rules name is read.
    pub pods_root: Option<PathBuf>,
    /// How often the folders are looked at without a hint.
    pub scan_interval: Duration,
    /// How soon a file that has just grown is looked at again. Fresh lines gather for that long.
    pub poll_min: Duration,
    /// How often a file that does not grow is looked at.
    pub poll_max: Duration,
    /// How long a rotated file must be silent before the next one is read.
    pub settle: Duration,
    /// How long a rotated file is held open after that, in case its writer is slow.
    pub linger: Duration,
    /// Longest line, in bytes.
    pub line_bytes_max: usize,
    /// Text in one batch, in bytes before compression. At most `limits::BATCH_BYTES_MAX`.
    pub batch_bytes: usize,
    /// How long a line waits for its batch to fill.
    pub batch_age: Duration,
    /// Level of zstd for batches.
    pub zstd_level: i32,
    /// Most files held open at a time.
    pub open_files_max: usize,
    /// How long the end of the process waits for the last acknowledgement.
    pub grace: Duration,
    /// What is kept while the collector is away; none: log files are held open, and that is all.
    pub spool: Option<spool::Config>,
    /// What is done with the lines of each container.
    pub meaning: Source,
}

impl Config {
    /// What suits a node of a cluster.
    #[must_use]
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            pods_root: Some(PathBuf::from("/var/log/pods")),
            scan_interval: Duration::from_secs(1),
            poll_min: Duration::from_millis(150),
            poll_max: Duration::from_secs(1),
            settle: Duration::from_millis(500),
            linger: Duration::from_secs(10),
            line_bytes_max: taffrail_model::limits::LINE_BYTES_MAX,
            batch_bytes: 1 << 20,
            batch_age: Duration::from_millis(500),
            zstd_level: 1,
            open_files_max: 8192,
            grace: Duration::from_secs(20),
            spool: None,
            meaning: Source::default(),
        }
    }
}

/// The reader's number of a file and generation; never given twice in the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileNumber(pub u32);

/// Which output a line came from. The numbers index [`crate::batch::FileMeta::labels`].
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
    /// Which of these are left out all the same.
    pub exclude: Vec<String>,
    /// What they are.
    pub kind: RuleKind,
    /// Whether somebody is about to take the folder away: its files are opened for each look only,
    /// so that it is not kept busy.
    pub lent: bool,
}

impl VolumeRule {
    /// A rule about a folder that stays.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, glob: impl Into<String>, kind: RuleKind) -> Self {
        Self { root: root.into(), glob: glob.into(), exclude: Vec::new(), kind, lent: false }
    }
}

/// Gives the rules of the moment: asked at each scan, so that volumes come and go. What it touches on
/// network file systems it touches through the lanes.
pub type VolumeRules = Arc<dyn Fn(&mut Lanes) -> Vec<VolumeRule> + Send + Sync>;

#[cfg(test)]
mod scenarios;
