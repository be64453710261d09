//! What is asked of the file system for one log file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, SeekFrom};

use crate::tail::identity::{self, CHECK_BYTES};

/// Opens a file to be tailed, without blocking on what is no file. With `beneath` no link is
/// followed and the folder is not left.
///
/// # Errors
/// What the system says.
pub fn open(path: &Path, beneath: Option<&Path>) -> io::Result<File> {
    let Some(root) = beneath else {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        return File::options().read(true).custom_flags(flags.bits() as i32).open(path);
    };
    let relative = path.strip_prefix(root).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    let flags =
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let folder = File::open(root)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(&folder, relative, flags, Mode::empty(), resolve) {
        // Old kernels and some sandboxes have no openat2: the last part at least is no link.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            Ok(rustix::fs::openat(&folder, relative, flags, Mode::empty())?.into())
        }
        opened => Ok(opened?.into()),
    }
}

/// Up to [`CHECK_BYTES`] bytes before `position`.
///
/// # Errors
/// When the file is shorter, or cannot be read.
pub fn bytes_before(file: &File, position: u64) -> io::Result<Vec<u8>> {
    let count = position.min(CHECK_BYTES as u64);
    let mut bytes = vec![0; count as usize];
    file.read_exact_at(&mut bytes, position - count)?;
    Ok(bytes)
}

/// Appends to the last bytes, of which no more than [`CHECK_BYTES`] are kept.
pub(super) fn append_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    let kept = CHECK_BYTES.saturating_sub(bytes.len()).min(tail.len());
    tail.drain(..tail.len() - kept);
    tail.extend_from_slice(&bytes[bytes.len().saturating_sub(CHECK_BYTES)..]);
}

/// Reads at an offset, whatever interrupts it.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// What came of reading behind a position.
#[derive(Debug)]
pub(super) enum Fetched {
    /// New bytes, at this range of the buffer.
    Data(Range<usize>),
    /// A hole up to an offset, the bytes before which are these; so many bytes were looked at.
    Hole { to: u64, tail: Vec<u8>, examined: usize },
    /// Nothing new.
    End,
    /// The bytes before the position are others than `tail`.
    Replaced,
}

/// Reads behind `position`, and looks whether what is before it is still `tail`. A hole is looked
/// for only between lines.
pub(super) fn fetch(
    file: &File,
    buffer: &mut [u8],
    tail: &[u8],
    position: u64,
    between_lines: bool,
) -> io::Result<Fetched> {
    let before = tail.len();
    let count = read_at(file, buffer, position - before as u64)?;
    if count < before || buffer[..before] != *tail {
        return Ok(Fetched::Replaced);
    }
    if count == before {
        return Ok(Fetched::End);
    }
    let skipped = || hole(file, &buffer[before..count], position);
    if let Some(to) = between_lines.then(skipped).flatten() {
        // One hole a call: zeros and holes by turns must not become a deep stack.
        let tail = bytes_before(file, to)?;
        return Ok(Fetched::Hole { to, tail, examined: count - before });
    }
    Ok(Fetched::Data(before..count))
}

/// The end of the hole in the file that the zeros at the start of `bytes`, read at `position`, reach
/// into, if they do. A hole mostly begins behind the zeros that fill up a page.
fn hole(file: &File, bytes: &[u8], position: u64) -> Option<u64> {
    const PAGE: usize = 4096;
    let first = &bytes[..bytes.len().min(PAGE)];
    if first.is_empty() || first.iter().any(|b| *b != 0) {
        return None;
    }
    let zeros = bytes.iter().take_while(|b| **b == 0).count() as u64;
    // The end of the file counts as the begin of a hole: it must lie before the last zero.
    let start = rustix::fs::seek(file, SeekFrom::Hole(position)).ok()?;
    if start >= position + zeros {
        return None;
    }
    let data = match rustix::fs::seek(file, SeekFrom::Data(start)) {
        Ok(data) => data,
        // No data up to the end: the hole reaches to where the next byte will be written.
        Err(rustix::io::Errno::NXIO) => identity::look(file).ok()?.size,
        Err(_) => return None,
    };
    (data > position).then_some(data)
}
