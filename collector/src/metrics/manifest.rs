//! The one small file that says which blocks there are and which part of the WAL they hold.
//!
//! `manifest.json`, a [`checked`] text that is replaced as a whole (temporary file, sync, rename, sync
//! of the folder). A block that it does not name is a leftover of a crash and is removed. When it is
//! lost or is not what was written, it is rebuilt from the blocks: each says itself up to where the WAL is in it or in older ones, and a
//! sample that is found twice is answered once.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::Error;
use crate::checked;

/// Version of the file.
const FORMAT: u64 = 1;
const NAME: &str = "manifest.json";

/// What the manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// First sequence number that is in no block.
    pub(super) durable_seq: u64,
    /// Numbers of the blocks, oldest first.
    pub(super) blocks: Vec<u64>,
}

/// What was found on disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole(Manifest),
    /// There is none, or it cannot be read.
    Lost,
}

/// File name of a block.
pub(super) fn block_name(number: u64) -> String {
    format!("{number:012}.block")
}

/// Number of a block from its file name.
pub(super) fn block_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".block")?;
    (digits.len() == 12).then(|| digits.parse().ok())?
}

impl Manifest {
    /// Reads the manifest of a folder.
    pub(super) fn read(folder: &Path) -> Result<Found, Error> {
        let path = folder.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Lost),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        let Some(text) = checked::text_of(&bytes) else { return Ok(Found::Lost) };
        let Ok(document) = serde_json::from_str::<serde_json::Value>(text) else {
            return Ok(Found::Lost);
        };
        let version = document["version"].as_u64();
        if let Some(found) = version.filter(|v| *v != FORMAT) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(Error::Version { path, found, known: FORMAT as u32 });
        }
        let blocks = document["blocks"].as_array();
        let numbers: Option<Vec<u64>> =
            blocks.and_then(|list| list.iter().map(serde_json::Value::as_u64).collect());
        let parts = version.and_then(|_| document["durable_seq"].as_u64()).zip(numbers);
        Ok(parts.map_or(Found::Lost, |(durable_seq, blocks)| {
            Found::Whole(Self { durable_seq, blocks })
        }))
    }

    /// Puts this manifest in the place of the one before.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(NAME);
        let temporary = folder.join("manifest.tmp");
        let document = json!({
            "version": FORMAT, "durable_seq": self.durable_seq, "blocks": self.blocks,
        });
        let step = |e| Error::io("write", &temporary, e);
        let mut file = File::create(&temporary).map_err(step)?;
        file.write_all(&checked::with_checksum(&document.to_string())).map_err(step)?;
        file.sync_all().map_err(step)?;
        std::fs::rename(&temporary, &path).map_err(|e| Error::io("rename", &temporary, e))?;
        sync_folder(&path)
    }
}

/// Makes a rename in the folder of `path` survive a power cut.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    let synced = File::open(folder).and_then(|f| f.sync_all());
    synced.map_err(|e| Error::io("sync", folder, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_bad_ones_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), Found::Lost);
        let manifest = Manifest { durable_seq: 7, blocks: vec![1, 4] };
        manifest.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), Found::Whole(manifest));
        let path = folder.path().join(NAME);
        for text in
            ["", "{", "[]", r#"{"version":1}"#, r#"{"version":1,"durable_seq":1,"blocks":["x"]}"#]
        {
            std::fs::write(&path, checked::with_checksum(text)).unwrap();
            assert_eq!(Manifest::read(folder.path()).unwrap(), Found::Lost, "{text}");
        }
        std::fs::write(&path, checked::with_checksum(r#"{"version":2}"#)).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
    }

    #[test]
    fn no_changed_byte_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        // A sequence number that is too high would let the WAL go before its samples are in a block.
        Manifest { durable_seq: 10, blocks: vec![1, 4] }.write(folder.path()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert_eq!(Manifest::read(folder.path()).unwrap(), Found::Lost, "byte {at}");
        }
    }

    #[test]
    fn block_names() {
        assert_eq!(block_number(&block_name(42)), Some(42));
        for name in ["42.block", "x00000000042.block", "000000000042.tmp", ".block"] {
            assert_eq!(block_number(name), None, "{name}");
        }
    }
}
