//! A folder of pods' logs that grows and shrinks.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use taffrail_kit::clock;
use taffrail_sim::podlog::{cri_time, pod_list, uid};

/// Logs of pods with one container each, under `<folder>/pods`, and their list.
pub(crate) struct Tree {
    folder: PathBuf,
    written: u64,
}

impl Tree {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join("pods"))?;
        Ok(Self { folder: folder.to_owned(), written: 0 })
    }

    /// Bytes of all files so far, those that were removed included.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Says which pods there are.
    pub(crate) fn list(&self, pods: &[String]) -> anyhow::Result<()> {
        let path = self.folder.join("pods.json");
        let new = self.folder.join("pods.json.new");
        fs::write(&new, pod_list(pods, "bench"))?;
        Ok(fs::rename(new, path)?)
    }

    fn pod_folder(&self, pod: &str) -> PathBuf {
        self.folder.join("pods").join(format!("sim_{pod}_{}", uid(pod)))
    }

    /// Makes a pod's log with so many lines; the open file.
    pub(crate) fn add(&mut self, pod: &str, lines: u32) -> anyhow::Result<File> {
        let folder = self.pod_folder(pod).join("main");
        fs::create_dir_all(&folder)?;
        let file = File::options().create(true).append(true).open(folder.join("0.log"))?;
        self.append(&file, pod, 0..lines)?;
        Ok(file)
    }

    /// Appends lines to a pod's log, with one write.
    pub(crate) fn append(
        &mut self,
        mut file: &File,
        pod: &str,
        numbers: std::ops::Range<u32>,
    ) -> anyhow::Result<()> {
        let time = cri_time(clock::unix_nanos());
        let mut text = String::new();
        for number in numbers {
            writeln!(
                text,
                "{time} stdout F level=info msg=\"served request\" pod={pod} number={number} \
                 path=/api/v1/orders/{} status=200 duration_ms={}",
                number.wrapping_mul(2_654_435_761),
                number % 97
            )?;
        }
        file.write_all(text.as_bytes())?;
        self.written += text.len() as u64;
        Ok(())
    }

    /// Removes a pod's logs.
    pub(crate) fn remove(&self, pod: &str) -> anyhow::Result<()> {
        Ok(fs::remove_dir_all(self.pod_folder(pod))?)
    }
}

/// Names `<prefix>-<number>`.
pub(crate) fn names(prefix: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}-{number}")).collect()
}

/// The last so many lists of names, joined.
pub(crate) fn joined(lists: &VecDeque<Vec<String>>) -> Vec<String> {
    lists.iter().flatten().cloned().collect()
}
