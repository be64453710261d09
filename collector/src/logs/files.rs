//! Files that survive a power cut: written, synced, and only then named.
//!
//! A checked file (see [`crate::checked`]) is replaced as a whole: a new file, its fsync, the rename,
//! the fsync of the folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::Error;
use crate::checked;

/// Makes the names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(Error::io("sync", dir))
}

/// Creates a folder and its parents, durably as far as its own name goes.
pub(super) fn create_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    dir.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
}

/// Writes a new file and syncs it. The folder is not synced.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", path))
}

/// Replaces a checked file, durably: after a crash there is the old text or the new one.
pub(super) fn replace_checked(path: &Path, text: &str) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    write_synced(&temporary, &checked::with_checksum(text))?;
    fs::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Reads a checked file. `None` if there is no such file.
pub(super) fn read_checked(path: &Path) -> Result<Option<String>, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("read", path))?,
    };
    let text = checked::text_of(&bytes);
    let damaged = || Error::Damaged { path: path.to_owned(), what: "checksum".into() };
    text.map(str::to_owned).map(Some).ok_or_else(damaged)
}

/// Checksum and length of a file, read once from begin to end.
pub(super) fn checksum(path: &Path) -> Result<(u32, u64), Error> {
    let read = || {
        let mut file = File::open(path)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        let mut bytes = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok((hasher.finalize(), bytes));
            }
            hasher.update(&buffer[..count]);
            bytes += count as u64;
        }
    };
    read().map_err(Error::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checked_file_is_whole_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.json");
        assert!(read_checked(&path).unwrap().is_none());
        replace_checked(&path, "old").unwrap();
        replace_checked(&path, "{\"a\":1}").unwrap();
        assert_eq!(read_checked(&path).unwrap().as_deref(), Some("{\"a\":1}"));
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            read_checked(&path).expect_err("a flipped byte");
            fs::write(&path, &bytes[..at]).unwrap();
            read_checked(&path).expect_err("a cut file");
        }
        fs::write(&path, &bytes).unwrap();
        let (crc, len) = checksum(&path).unwrap();
        assert_eq!((crc, len), (crc32fast::hash(&bytes), bytes.len() as u64));
    }
}
