//! A file system that answers or does not, as it is told: a folder seen through FUSE, read only.
//!
//! While it hangs, what is asked of it stays with the kernel, as with a network file system whose
//! server is away: whoever asks can still be killed. The answers allow the kernel to keep nothing.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::world::skip;

/// Length of the head of a request.
const HEAD: usize = 40;
/// Room for one request. It must hold more than the longest write, which is told in [`greeting`].
const REQUEST_BYTES: usize = 128 << 10;
/// The number of the root.
const ROOT: u64 = 1;
/// Answers with data go past the kernel's cache.
const DIRECT_IO: u32 = 1;
const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;

/// A mounted file system; taken away in the end, whatever happens.
pub(super) struct Fuse {
    point: PathBuf,
    flags: Arc<Flags>,
}

#[derive(Default)]
struct Flags {
    hangs: AtomicBool,
    ends: AtomicBool,
}

struct Server {
    device: File,
    folder: PathBuf,
    files: HashMap<u64, File>,
}

impl Fuse {
    /// Shows `folder` at `point`.
    pub(super) fn new(folder: &Path, point: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::create_dir_all(point)?;
        let Ok(device) = File::options().read(true).write(true).open("/dev/fuse") else {
            return skip("no FUSE here");
        };
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
        if mount("test", point, "fuse.test", flags, CString::new(data)?.as_c_str()).is_err() {
            return skip("no file system can be mounted here");
        }
        let flags = Arc::<Flags>::default();
        let fuse = Self { point: point.to_owned(), flags: flags.clone() };
        let server = Server { device, folder: folder.to_owned(), files: HashMap::new() };
        std::thread::spawn(move || server.run(&flags));
        Ok(fuse)
    }

    /// Whether it answers from now on.
    pub(super) fn hang(&self, hangs: bool) {
        self.flags.hangs.store(hangs, Ordering::SeqCst);
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // With its device closed, it fails everything that waits.
        self.flags.ends.store(true, Ordering::SeqCst);
        let _done = unmount(&self.point, UnmountFlags::DETACH).is_ok();
    }
}

impl Server {
    fn run(mut self, flags: &Flags) {
        let mut request = vec![0; REQUEST_BYTES];
        let moment = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        while !flags.ends.load(Ordering::SeqCst) {
            // While it hangs nothing is looked for.
            let waits_for =
                if flags.hangs.load(Ordering::SeqCst) { PollFlags::empty() } else { PollFlags::IN };
            let ready = poll(&mut [PollFd::new(&self.device, waits_for)], Some(&moment));
            if ready != Ok(1) || waits_for.is_empty() {
                continue;
            }
            match self.device.read(&mut request) {
                Ok(length) if length >= HEAD => self.serve(&request[..length]),
                // What was asked was withdrawn.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn serve(&mut self, request: &[u8]) {
        let (operation, node) = (u32_at(request, 4), u64_at(request, 16));
        let body = &request[HEAD..];
        let answer = match operation {
            1 => self.look_up(node, body),
            2 | 36 | 42 => return,
            3 => self.metadata(node).map(|found| [vec![0; 16], attributes(node, &found)].concat()),
            14 => Ok(opened(DIRECT_IO)),
            15 => self.data(node, body),
            18 | 25 | 29 | 34 => Ok(Vec::new()),
            26 => Ok(greeting()),
            27 => Ok(opened(0)),
            28 => self.names(body),
            _ => Err(ENOSYS),
        };
        let (error, answer) = match answer {
            Ok(answer) => (0, answer),
            Err(error) => (-error, Vec::new()),
        };
        let mut message = Vec::with_capacity(16 + answer.len());
        message.extend((16 + answer.len() as u32).to_le_bytes());
        message.extend(error.to_le_bytes());
        message.extend(&request[8..16]);
        message.extend(answer);
        // Who asked may have gone.
        let _gone = self.device.write(&message).is_err();
    }

    fn metadata(&self, node: u64) -> Result<Metadata, i32> {
        let found = if node == ROOT {
            fs::metadata(&self.folder)
        } else {
            self.files.get(&node).ok_or(ENOENT)?.metadata()
        };
        found.map_err(|_| EIO)
    }

    fn look_up(&mut self, folder: u64, name: &[u8]) -> Result<Vec<u8>, i32> {
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let path = self.folder.join(std::ffi::OsStr::from_bytes(name));
        if folder != ROOT {
            return Err(ENOENT);
        }
        let file = File::open(path).map_err(|_| ENOENT)?;
        let found = file.metadata().map_err(|_| EIO)?;
        let node = found.ino();
        self.files.insert(node, file);
        let mut answer = node.to_le_bytes().to_vec();
        answer.extend([0; 32]);
        answer.extend(attributes(node, &found));
        Ok(answer)
    }

    fn data(&self, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        let file = self.files.get(&node).ok_or(ENOENT)?;
        let mut data = vec![0; u32_at(body, 16) as usize];
        let count = file.read_at(&mut data, u64_at(body, 8)).map_err(|_| EIO)?;
        data.truncate(count);
        Ok(data)
    }

    fn names(&self, body: &[u8]) -> Result<Vec<u8>, i32> {
        let (from, room) = (u64_at(body, 8) as usize, u32_at(body, 16) as usize);
        let mut names: Vec<_> =
            fs::read_dir(&self.folder).map_err(|_| EIO)?.filter_map(Result::ok).collect();
        names.sort_by_key(fs::DirEntry::file_name);
        let mut answer = Vec::new();
        for (at, entry) in names.iter().enumerate().skip(from) {
            const FILE: u32 = 8;
            let inode = entry.metadata().map_or(0, |found| found.ino());
            let name = entry.file_name().into_vec();
            let mut record = Vec::new();
            record.extend(inode.to_le_bytes());
            record.extend((at as u64 + 1).to_le_bytes());
            record.extend((name.len() as u32).to_le_bytes());
            record.extend(FILE.to_le_bytes());
            record.extend(&name);
            record.resize(record.len().next_multiple_of(8), 0);
            if answer.len() + record.len() > room {
                break;
            }
            answer.extend(record);
        }
        Ok(answer)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Version 7.31, and nothing that need not be.
fn greeting() -> Vec<u8> {
    let mut answer = Vec::new();
    for number in [7_u32, 31, 128 << 10, 0, 0, 4 << 10, 1, 0, 0] {
        answer.extend(number.to_le_bytes());
    }
    answer.resize(64, 0);
    answer
}

fn opened(flags: u32) -> Vec<u8> {
    let mut answer = vec![0; 8];
    answer.extend(flags.to_le_bytes());
    answer.extend([0; 4]);
    answer
}

fn attributes(node: u64, found: &Metadata) -> Vec<u8> {
    let mut answer = Vec::with_capacity(88);
    let [atime, mtime, ctime] = [found.atime(), found.mtime(), found.ctime()];
    let times = [atime as u64, mtime as u64, ctime as u64];
    for number in [node, found.size(), found.blocks()].into_iter().chain(times) {
        answer.extend(number.to_le_bytes());
    }
    let nanos = [found.atime_nsec(), found.mtime_nsec(), found.ctime_nsec()];
    let rest = [found.mode(), found.nlink() as u32, 0, 0, 0, 4096, 0];
    for number in nanos.map(|nanos| nanos as u32).into_iter().chain(rest) {
        answer.extend(number.to_le_bytes());
    }
    answer
}
