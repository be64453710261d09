//! Log files of a node, written step by step: containers as the runtime and the kubelet write them,
//! and programs that write to a volume themselves.
//!
//! Every line carries a token `@@<writer>:<number>@@` with numbers from 0 without a gap; a [`Ledger`]
//! counts them, so that [`crate::oracle::judge`] can tell what is missing, double or out of order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use taffrail_kit::clock;

use crate::podlog::{cri_time, uid};

/// How many lines each writer has written. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, u64>>>);

impl Ledger {
    /// The token of the writer's next line.
    #[must_use]
    pub fn token(&self, writer: &str) -> String {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = all.entry(writer.to_owned()).or_default();
        *number += 1;
        format!("@@{writer}:{}@@", *number - 1)
    }

    /// Each writer with its count of lines.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The log of one container of a pod in namespace `sim`.
#[derive(Clone, Debug)]
pub struct ContainerLog {
    /// The container's folder.
    pub folder: PathBuf,
    writer: String,
    restart: u32,
    rotations: u32,
    filler: String,
    ledger: Ledger,
}

impl ContainerLog {
    /// Container `container` of a pod, below `/var/log/pods` or what stands for it. No file yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(root: &Path, pod: &str, container: &str, ledger: &Ledger) -> io::Result<Self> {
        Self::with_uid(root, pod, &uid(pod), container, ledger)
    }

    /// Likewise with this uid of the pod, which then is a part of the tokens.
    ///
    /// # Errors
    /// What the system says.
    pub fn with_uid(
        root: &Path,
        pod: &str,
        uid: &str,
        container: &str,
        ledger: &Ledger,
    ) -> io::Result<Self> {
        let folder = root.join(format!("sim_{pod}_{uid}")).join(container);
        fs::create_dir_all(&folder)?;
        let writer = format!("{pod}/{container}/{uid}");
        let ledger = ledger.clone();
        Ok(Self { folder, writer, restart: 0, rotations: 0, filler: String::new(), ledger })
    }

    /// Lines get this behind their token from now on.
    pub fn fill(&mut self, filler: impl Into<String>) {
        self.filler = filler.into();
    }

    /// The live file.
    #[must_use]
    pub fn live(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.restart))
    }

    /// A text with the token of the next line of this output.
    #[must_use]
    pub fn text(&self, stream: &str) -> String {
        let token = self.ledger.token(&format!("{}/{stream}", self.writer));
        format!("served {token}{}", self.filler)
    }

    /// Appends lines to standard output, in one write.
    ///
    /// # Errors
    /// What the system says.
    pub fn lines(&self, count: usize) -> io::Result<()> {
        append(&self.live(), &self.some_lines(count))
    }

    /// Lines that are in no file yet, as the runtime would write them.
    #[must_use]
    pub fn some_lines(&self, count: usize) -> Vec<u8> {
        (0..count).flat_map(|_| cri("stdout F", &self.text("stdout"))).collect()
    }

    /// Appends one physical line with this header behind its time (`stdout F`).
    ///
    /// # Errors
    /// What the system says.
    pub fn piece(&self, header: &str, text: &str) -> io::Result<()> {
        append(&self.live(), &cri(header, text))
    }

    /// Appends these bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        append(&self.live(), bytes)
    }

    /// What the kubelet does first: renames the live file. Gives its new path.
    ///
    /// # Errors
    /// What the system says.
    pub fn rename(&mut self) -> io::Result<PathBuf> {
        self.rotations += 1;
        let stamp = format!("{}.log.20261120-{:06}", self.restart, self.rotations);
        let rotated = self.folder.join(stamp);
        fs::rename(self.live(), &rotated)?;
        Ok(rotated)
    }

    /// A whole rotation: the live file is renamed, the runtime opens a new one.
    ///
    /// # Errors
    /// What the system says.
    pub fn rotate(&mut self) -> io::Result<PathBuf> {
        let rotated = self.rename()?;
        File::create_new(self.live())?;
        Ok(rotated)
    }

    /// A rotation as the kubelet does it: what was rotated before is compressed, the oldest are
    /// removed until `keep` rotated files are left, then the live file is rotated.
    ///
    /// # Errors
    /// What the system says.
    pub fn rotate_like_kubelet(&mut self, keep: usize) -> io::Result<()> {
        let mut rotated = self.rotated()?;
        while rotated.len() >= keep {
            fs::remove_file(rotated.remove(0))?;
        }
        for plain in rotated.iter().filter(|p| p.extension().is_none_or(|e| e != "gz")) {
            compress(plain)?;
        }
        self.rotate().map(|_| ())
    }

    /// The rotated files, oldest first.
    ///
    /// # Errors
    /// What the system says.
    pub fn rotated(&self) -> io::Result<Vec<PathBuf>> {
        let live = self.live();
        let mut all: Vec<PathBuf> =
            fs::read_dir(&self.folder)?.filter_map(|e| Some(e.ok()?.path())).collect();
        all.retain(|path| *path != live && path.extension().is_none_or(|e| e != "tmp"));
        all.sort();
        Ok(all)
    }

    /// The container starts again: the next line goes to the next file.
    pub fn restart(&mut self) {
        self.restart += 1;
    }

    /// The kubelet removes the pod's folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_pod(&self) -> io::Result<()> {
        fs::remove_dir_all(self.folder.parent().unwrap_or(&self.folder))
    }
}

/// A file that a program writes itself, line by line.
#[derive(Clone, Debug)]
pub struct PlainLog {
    /// Where it is.
    pub path: PathBuf,
    writer: String,
    ledger: Ledger,
}

impl PlainLog {
    /// A file that is not there yet.
    #[must_use]
    pub fn new(path: PathBuf, writer: &str, ledger: &Ledger) -> Self {
        Self { path, writer: writer.to_owned(), ledger: ledger.clone() }
    }

    /// A text with the token of the next line.
    #[must_use]
    pub fn text(&self) -> String {
        format!("worked {}", self.ledger.token(&self.writer))
    }

    /// Lines that are in no file yet.
    #[must_use]
    pub fn some_lines(&self, count: usize) -> Vec<u8> {
        (0..count).flat_map(|_| format!("{}\n", self.text()).into_bytes()).collect()
    }

    /// Appends lines in one write.
    ///
    /// # Errors
    /// What the system says.
    pub fn lines(&self, count: usize) -> io::Result<()> {
        append(&self.path, &self.some_lines(count))
    }
}

/// One physical line as containerd writes it, with the time of now.
#[must_use]
pub fn cri(header: &str, text: &str) -> Vec<u8> {
    format!("{} {header} {text}\n", cri_time(clock::unix_nanos())).into_bytes()
}

/// Appends in one write; the file is made if need be.
///
/// # Errors
/// What the system says.
pub fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::options().append(true).create(true).open(path)?.write_all(bytes)
}

/// What the kubelet does to a rotated file: `.tmp` beside it, renamed to `.gz`, the plain one
/// removed.
///
/// # Errors
/// What the system says.
pub fn compress(plain: &Path) -> io::Result<PathBuf> {
    let (temporary, packed) = (plain.with_added_extension("tmp"), plain.with_added_extension("gz"));
    let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::fast());
    encoder.write_all(&fs::read(plain)?)?;
    encoder.finish()?;
    fs::rename(&temporary, &packed)?;
    fs::remove_file(plain)?;
    Ok(packed)
}

/// A running pod in namespace `sim` as the API shows it, with an emptyDir `logs`, whose files named
/// `*.log` are logs.
#[must_use]
pub fn pod(name: &str, uid: &str, labels: &[(&str, &str)], node: &str) -> serde_json::Value {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "sim", "uid": uid, "labels": labels,
            "annotations": {"taffrail.dev/log-volumes": "logs:**/*.log"},
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "image": "sim"}],
            "volumes": [{"name": "logs", "emptyDir": {}}],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    })
}

/// Where the files of [`pod`]'s volume are below the kubelet's folder.
#[must_use]
pub fn volume_folder(kubelet_root: &Path, uid: &str) -> PathBuf {
    kubelet_root.join("pods").join(uid).join("volumes/kubernetes.io~empty-dir/logs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_keeps_so_many_files() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::default();
        let mut log = ContainerLog::create(folder.path(), "web", "main", &ledger).unwrap();
        for _ in 0..5 {
            log.lines(2).unwrap();
            log.rotate_like_kubelet(3).unwrap();
        }
        let names: Vec<String> = log
            .rotated()
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            names,
            ["0.log.20261120-000003.gz", "0.log.20261120-000004.gz", "0.log.20261120-000005"]
        );
        assert_eq!(ledger.totals().values().copied().collect::<Vec<_>>(), [10]);
    }
}
