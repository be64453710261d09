//! Log files on disk as a node has them: a container's, rotated as the kubelet does, and an
//! application's own in a volume, rotated as logging libraries do.
//!
//! A file that is there already is continued. A torn last line (the process was killed) is ended
//! first, so that it stays one line of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use taffrail_model::Nanos;
use taffrail_model::time::NANOS_PER_SEC;

use super::cri::{self, Output};

/// Size at which a file is rotated, and how many files stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes from which on a file is rotated.
    pub(super) bytes_max: u64,
    /// Files kept, the live one among them (kubelet's `containerLogMaxFiles`).
    pub(super) files_max: usize,
}

/// The log of one run of a container: `<directory>/<restart>.log`.
#[derive(Debug)]
pub(super) struct ContainerLog {
    directory: PathBuf,
    restart: u32,
    limits: Limits,
    file: File,
    size: u64,
    pending: Vec<u8>,
}

impl ContainerLog {
    pub(super) fn open(directory: &Path, restart: u32, limits: Limits) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let (file, size) = open_to_append(&directory.join(format!("{restart}.log")))?;
        let directory = directory.to_owned();
        Ok(Self { directory, restart, limits, file, size, pending: Vec::new() })
    }

    /// Adds a line; [`ContainerLog::flush`] writes it.
    pub(super) fn push(&mut self, ts: Nanos, output: Output, text: &str) {
        cri::push_line(&mut self.pending, ts, output, text);
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.size += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// What the kubelet does every ten seconds: when the file is big, drop the oldest, compress
    /// those rotated before, rename the live one and begin a new one. Says whether it did.
    pub(super) fn rotate_if_big(&mut self, now: Nanos) -> io::Result<bool> {
        self.flush()?;
        if self.size < self.limits.bytes_max {
            return Ok(false);
        }
        let live = self.directory.join(format!("{}.log", self.restart));
        let aside = self.directory.join(format!("{}.log.{}", self.restart, stamp(now)));
        if aside.exists() {
            // The name has a resolution of a second; the next look finds a free one.
            return Ok(false);
        }
        self.clean_up()?;
        fs::rename(&live, aside)?;
        (self.file, self.size) = open_to_append(&live)?;
        Ok(true)
    }

    fn clean_up(&self) -> io::Result<()> {
        let mut rotated = self.rotated()?;
        // One place is the live file's, one that of the file about to be rotated.
        let excess = rotated.len().saturating_sub(self.limits.files_max.saturating_sub(2));
        for path in rotated.drain(..excess) {
            fs::remove_file(path)?;
        }
        for path in rotated.iter().filter(|path| path.extension().is_none_or(|e| e != "gz")) {
            compress(path)?;
        }
        Ok(())
    }

    /// The rotated files of this run, oldest first; what a broken compression left is removed.
    fn rotated(&self) -> io::Result<Vec<PathBuf>> {
        let prefix = format!("{}.log.", self.restart);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if !name.starts_with(&prefix) {
                continue;
            }
            if name.ends_with(".tmp") || with_suffix(&path, ".gz").exists() {
                fs::remove_file(&path)?;
            } else {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// A log that an application writes itself: plain lines, moved to `<name>.1.log`, `<name>.2.log`, …
/// when big, as logback does it. The names still end in `.log`, so that whoever looks for `*.log`
/// finds what it has not read.
#[derive(Debug)]
pub(super) struct PlainLog {
    path: PathBuf,
    limits: Limits,
    file: File,
    size: u64,
    pending: Vec<u8>,
}

impl PlainLog {
    pub(super) fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let (file, size) = open_to_append(path)?;
        Ok(Self { path: path.to_owned(), limits, file, size, pending: Vec::new() })
    }

    pub(super) fn push(&mut self, text: &str) {
        self.pending.extend_from_slice(text.as_bytes());
        self.pending.push(b'\n');
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.size += self.pending.len() as u64;
        self.pending.clear();
        if self.size < self.limits.bytes_max {
            return Ok(());
        }
        let numbered = |n: usize| self.path.with_extension(format!("{n}.log"));
        for n in (1..self.limits.files_max.saturating_sub(1)).rev() {
            if numbered(n).exists() {
                fs::rename(numbered(n), numbered(n + 1))?;
            }
        }
        fs::rename(&self.path, numbered(1))?;
        (self.file, self.size) = open_to_append(&self.path)?;
        Ok(())
    }
}

fn open_to_append(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut size = file.seek(SeekFrom::End(0))?;
    if size > 0 {
        let mut last = [0_u8];
        file.seek(SeekFrom::Start(size - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

/// `.tmp`, then `.gz`, then the plain file goes: at each moment one of them is whole.
fn compress(path: &Path) -> io::Result<()> {
    let partial = with_suffix(path, ".tmp");
    let mut encoder = GzEncoder::new(File::create(&partial)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(partial, with_suffix(path, ".gz"))?;
    fs::remove_file(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `20261120-145132`, the form of the kubelet's names.
fn stamp(now: Nanos) -> String {
    jiff::Timestamp::from_second(now.div_euclid(NANOS_PER_SEC)).map_or_else(
        |_| "00000000-000000".into(),
        |time| time.strftime("%Y%m%d-%H%M%S").to_string(),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SECOND: Nanos = NANOS_PER_SEC;
    const START: Nanos = 1_795_186_292 * SECOND;

    /// The text of a file, decompressed.
    pub(in crate::demo) fn read(path: &Path) -> Vec<u8> {
        let bytes = fs::read(path).unwrap();
        if path.extension().is_none_or(|e| e != "gz") {
            return bytes;
        }
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        plain
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_chain_of_rotated_files_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { bytes_max: 1000, files_max: 5 };
        let mut log = ContainerLog::open(folder.path(), 0, limits).unwrap();
        let mut rotations = 0;
        for n in 0..200_i64 {
            log.push(START + n * SECOND, Output::Stdout, &format!("line {n}"));
            rotations += usize::from(log.rotate_if_big(START + n * SECOND).unwrap());
        }
        log.flush().unwrap();
        assert!(rotations > 4);
        let names = names(folder.path());
        // As on a node: three compressed, the newest rotated one plain, the live one.
        assert_eq!(names.len(), 5, "{names:?}");
        assert_eq!(names.iter().filter(|n| n.ends_with(".gz")).count(), 3, "{names:?}");
        assert_eq!(names[0], "0.log");
        assert!(!names[4].ends_with(".gz"), "{names:?}");

        let mut text = Vec::new();
        for name in names[1..].iter().chain(&names[..1]) {
            text.extend(read(&folder.path().join(name)));
        }
        let lines = cri::parse(&text).unwrap();
        // The oldest are deleted; what is left has no hole and ends with the last line.
        let first = 200 - lines.len();
        for (at, (_, line)) in lines.iter().enumerate() {
            assert_eq!(*line, format!("line {}", first + at));
        }
        assert!(lines.len() > 50);
    }

    #[test]
    fn a_taken_name_puts_rotation_off() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { bytes_max: 1, files_max: 5 };
        let mut log = ContainerLog::open(folder.path(), 0, limits).unwrap();
        for (expected, at) in [(true, 0), (false, 1), (true, SECOND)] {
            log.push(START, Output::Stdout, "x");
            assert_eq!(log.rotate_if_big(START + at).unwrap(), expected);
        }
    }

    #[test]
    fn a_torn_line_is_ended_before_the_file_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("3.log"), "2026-11-20T14:51:32Z stdout F who").unwrap();
        let limits = Limits { bytes_max: 1000, files_max: 5 };
        let mut log = ContainerLog::open(folder.path(), 3, limits).unwrap();
        log.push(START, Output::Stdout, "next");
        log.flush().unwrap();
        let lines = cri::parse(&read(&folder.path().join("3.log"))).unwrap();
        let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["who", "next"]);
    }

    #[test]
    fn an_applications_file_moves_to_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/billing.log");
        let mut log = PlainLog::open(&path, Limits { bytes_max: 10, files_max: 3 }).unwrap();
        for n in 0..6 {
            log.push(&format!("number {n}"));
            log.flush().unwrap();
        }
        log.push("last");
        log.flush().unwrap();
        assert_eq!(
            names(&folder.path().join("logs")),
            ["billing.1.log", "billing.2.log", "billing.log"]
        );
        assert_eq!(read(&path), b"last\n");
        assert_eq!(read(&path.with_extension("1.log")), b"number 4\nnumber 5\n");
    }
}
