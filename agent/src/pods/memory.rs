//! The pods that were known, in a file of the state folder: what their lines are called and what must
//! be taken out of them is known again after a restart, also when a pod has gone meanwhile or the API
//! does not answer.
//!
//! ```text
//! {"taffrail_pods":1}
//! {"uid":"…","name":"…","annotations":{…},…}      one pod a line
//! {"pods":2,"crc32":3735928559}                   how many lines came before, and their checksum
//! ```
//!
//! The file is replaced as a whole, at most every [`PAUSE`], when something in it has changed. One that
//! is damaged or of another version is set aside and told: nothing is known then. It holds no more than
//! [`FILE_BYTES_MAX`]; pods with annotations for us come before others, then those that exist.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Crc;
use serde::{Deserialize, Serialize};
use taffrail_kit::shutdown::Shutdown;

use super::{Pod, Pods, Snapshot};

/// Name of the file in the state folder.
const NAME: &str = "pods";
/// Longest file, in bytes: a pod is about one KiB.
const FILE_BYTES_MAX: usize = 16 << 20;
/// Room for the last line.
const END_BYTES: usize = 64;
/// How long changes are gathered at least.
const PAUSE: Duration = Duration::from_secs(3);
/// The version that is written and read.
const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Begin {
    taffrail_pods: u32,
}

/// The last line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct End {
    pods: usize,
    crc32: u32,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error("a line is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    #[error("version {0}; expected {VERSION}")]
    Version(u32),
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

/// The file.
#[derive(Clone, Debug)]
pub struct Memory {
    path: PathBuf,
    /// The end of what is in it, as far as that is known.
    written: Option<u32>,
}

impl Memory {
    /// The file in a state folder.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(NAME), written: None }
    }

    /// The pods in it; none when it is not there or cannot be used, which is told.
    #[must_use]
    pub fn load(&mut self) -> Vec<Pod> {
        match read(&self.path) {
            Ok((pods, crc)) => {
                self.written = Some(crc);
                pods
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "pods of before are not known");
                let aside = self.path.with_extension("damaged");
                if let Err(error) = std::fs::rename(&self.path, aside) {
                    tracing::warn!(%error, "cannot set that file aside");
                }
                Vec::new()
            }
        }
    }

    /// Writes what is known whenever that has changed, until the end.
    pub async fn follow(mut self, mut pods: Pods, mut shutdown: Shutdown) {
        let mut told = false;
        loop {
            let ends = tokio::select! {
                () = shutdown.wait() => true,
                () = pods.changed() => false,
            };
            let now = pods.now();
            // Before the first list less is known than the file says.
            if now.synced {
                let mut memory = self.clone();
                let kept = tokio::task::spawn_blocking(move || {
                    let kept = memory.keep(&now);
                    (memory, kept)
                });
                // Only a panic in writing, or the end of the runtime, gets here.
                let Ok((memory, kept)) = kept.await else { return };
                self = memory;
                if let Err(error) = &kept
                    && !told
                {
                    tracing::warn!(%error, "pods cannot be kept for the next start, trying again");
                }
                told = kept.is_err();
            }
            if ends {
                return;
            }
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Writes the pods, unless they are what is in the file.
    fn keep(&mut self, now: &Snapshot) -> io::Result<()> {
        let pods = in_order(now);
        // Looked at first: most changes of pods change nothing that is kept.
        let crc = write(&mut io::sink(), &pods)?;
        if self.written == Some(crc) {
            return Ok(());
        }
        let temporary = self.path.with_extension("tmp");
        let mut file = BufWriter::new(File::create(&temporary)?);
        write(&mut file, &pods)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.written = Some(crc);
        Ok(())
    }
}

/// All pods, those first that matter most.
fn in_order(now: &Snapshot) -> Vec<Arc<Pod>> {
    let mut pods: Vec<(bool, bool, &Arc<Pod>)> =
        now.known().map(|(pod, live)| (!live, pod.annotations.is_empty(), pod)).collect();
    pods.sort_by(|(a_dead, a_plain, a), (b_dead, b_plain, b)| {
        (a_plain, a_dead, &a.uid).cmp(&(b_plain, b_dead, &b.uid))
    });
    pods.into_iter().map(|(_, _, pod)| pod.clone()).collect()
}

/// Writes as many pods as there is room for; returns their checksum.
fn write(out: &mut impl Write, pods: &[Arc<Pod>]) -> io::Result<u32> {
    let (mut crc, mut bytes, mut count) = (Crc::new(), 0, 0);
    let mut line = serde_json::to_vec(&Begin { taffrail_pods: VERSION })?;
    line.push(b'\n');
    for pod in std::iter::once(None).chain(pods.iter().map(Some)) {
        if let Some(pod) = pod {
            line.clear();
            serde_json::to_writer(&mut line, &**pod)?;
            line.push(b'\n');
            if bytes + line.len() + END_BYTES > FILE_BYTES_MAX {
                break;
            }
            count += 1;
        }
        bytes += line.len();
        crc.update(&line);
        out.write_all(&line)?;
    }
    let end = serde_json::to_string(&End { pods: count, crc32: crc.sum() })?;
    writeln!(out, "{end}")?;
    Ok(crc.sum())
}

fn read(path: &Path) -> Result<(Vec<Pod>, u32), Error> {
    let mut text = Vec::new();
    // One byte more shows that it is too long.
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    if text.len() > FILE_BYTES_MAX {
        return Err(Error::TooLong);
    }
    parse(&text)
}

fn parse(text: &[u8]) -> Result<(Vec<Pod>, u32), Error> {
    let begin = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let begin: Begin = serde_json::from_slice(begin)?;
    if begin.taffrail_pods != VERSION {
        return Err(Error::Version(begin.taffrail_pods));
    }
    let whole = text.strip_suffix(b"\n").ok_or(Error::Damaged("it has no end"))?;
    let at = whole.iter().rposition(|b| *b == b'\n').ok_or(Error::Damaged("it has no end"))? + 1;
    let end: End = serde_json::from_slice(&whole[at..])?;
    let mut crc = Crc::new();
    crc.update(&whole[..at]);
    if crc.sum() != end.crc32 {
        return Err(Error::Damaged("its checksum does not match"));
    }
    let lines = whole[..at].split(|b| *b == b'\n').filter(|line| !line.is_empty()).skip(1);
    let pods: Vec<Pod> = lines.map(serde_json::from_slice).collect::<Result<_, _>>()?;
    if pods.len() != end.pods {
        return Err(Error::Damaged("pods are missing"));
    }
    Ok((pods, end.crc32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::pods::object::tests::pods_of;
    use crate::pods::table::{Event, Table};
    use crate::pods::{Bound, Container, Origin, Owner, Volume, VolumeSource};

    /// What is kept of a pod.
    fn kept(pod: &Pod) -> Pod {
        let mut kept = pod.clone();
        kept.phase.clear();
        kept.ip = None;
        kept.more_ips.clear();
        kept.ending = false;
        kept
    }

    fn pod(uid: &str) -> Pod {
        let volume = |name: &str, source: VolumeSource| Volume { name: name.into(), source };
        Pod {
            uid: uid.into(),
            config_hash: Some("hash".into()),
            name: format!("name of {uid}"),
            namespace: "n".into(),
            ip: Some("10.0.0.1".into()),
            phase: "Running".into(),
            labels: [("app".to_owned(), "a\"\n".to_owned())].into(),
            annotations: [("taffrail.dev/redact".to_owned(), "email".to_owned())].into(),
            owner: Some(Owner { kind: "Job".into(), name: "j".into() }),
            containers: vec![Container { name: "c".into(), ports: vec![(80, None)] }],
            volumes: vec![
                volume("a", VolumeSource::EmptyDir),
                volume("b", VolumeSource::HostPath("/x".into())),
                volume(
                    "c",
                    VolumeSource::Claim {
                        claim: "cl".into(),
                        bound: Some(Bound { volume: "v".into(), path: None }),
                    },
                ),
            ],
            sub_paths: [("a".to_owned(), vec![("c".to_owned(), 1)])].into(),
            ..Pod::default()
        }
    }

    fn snapshot(pods: Vec<Pod>) -> Arc<Snapshot> {
        let (mut table, reader) = Table::new(Origin::Cluster);
        table.apply(Event::Listed(pods), Instant::now());
        reader.now()
    }

    fn encoded(pods: &[Pod]) -> Vec<u8> {
        let mut text = Vec::new();
        let pods: Vec<Arc<Pod>> = pods.iter().cloned().map(Arc::new).collect();
        write(&mut text, &pods).expect("a buffer takes all");
        text
    }

    #[test]
    fn pods_come_back_as_they_were() {
        let mut pods = vec![pod("1"), pod("2"), Pod { uid: "3".into(), ..Pod::default() }];
        pods.extend(pods_of("k136/obj_pods.json.gz").unwrap_or_default());
        let (read, _) = parse(&encoded(&pods)).expect("whole");
        assert_eq!(read, pods.iter().map(kept).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_is_written_when_something_has_changed() {
        let folder = tempfile::tempdir().expect("folder");
        let mut memory = Memory::new(folder.path());
        assert_eq!(memory.load(), []);
        memory.keep(&snapshot(vec![pod("1")])).expect("kept");
        let path = folder.path().join(NAME);
        let inode = || std::os::unix::fs::MetadataExt::ino(&path.metadata().expect("there"));
        let first = inode();
        let other_phase = Pod { phase: "Failed".into(), ..pod("1") };
        memory.keep(&snapshot(vec![other_phase])).expect("kept");
        assert_eq!(inode(), first, "nothing that is kept has changed");
        let mut again = Memory::new(folder.path());
        assert_eq!(again.load(), [kept(&pod("1"))]);
        again.keep(&snapshot(vec![pod("1"), pod("2")])).expect("kept");
        assert_ne!(inode(), first);
        assert_eq!(Memory::new(folder.path()).load().len(), 2);
    }

    #[test]
    fn what_is_damaged_is_set_aside() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(NAME);
        for bad in ["", "{}", "{\"taffrail_pods\":2}\n", "{\"taffrail_pods\":1}\n", "\n\n"] {
            std::fs::write(&path, bad).expect("write");
            assert_eq!(Memory::new(folder.path()).load(), [], "{bad}");
            assert!(!path.exists() && path.with_extension("damaged").exists());
        }
    }

    #[test]
    fn what_has_no_room_is_left_out_from_the_end() {
        let big = "x".repeat(1 << 20);
        let large = |n: u32, annotated: bool| {
            let mut pod = Pod { uid: format!("{n:02}"), ..Pod::default() };
            pod.labels.insert("l".into(), big.clone());
            if annotated {
                pod.annotations.insert("a".into(), "b".into());
            }
            pod
        };
        let pods = (0..20).map(|n| large(n, n == 19)).collect();
        let pods = in_order(&snapshot(pods));
        let mut text = Vec::new();
        write(&mut text, &pods).expect("a buffer takes all");
        assert!(text.len() <= FILE_BYTES_MAX);
        let (read, _) = parse(&text).expect("whole");
        assert_eq!((read.len(), &*read[0].uid), (15, "19"));
    }

    proptest! {
        #[test]
        fn a_damaged_byte_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut text = encoded(&[pod("1"), pod("2")]);
            let at = at.index(text.len());
            text[at] ^= 1 << bit;
            prop_assert!(parse(&text).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(text in any::<Vec<u8>>()) {
            let _any = parse(&text);
        }
    }
}
