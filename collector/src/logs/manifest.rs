//! The manifest: the one file that says what the store consists of.
//!
//! A checked file (see [`super::files`]) with one JSON object: the format, the segments that count,
//! length and count of the table of streams, the write-ahead log's sequence number from which frames
//! are not in segments, and the positions of all sources as of that number. It is replaced as a
//! whole, after everything it names is synced: so lines and positions become durable in one step. The
//! one before stays as `manifest.prev`, from which `recover` makes a damaged one anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::{Error, FORMAT, FORMAT_OLDEST, files};

/// Name of the manifest in the store's folder.
pub(super) const NAME: &str = "manifest.json";

/// Name of the manifest before it.
pub(super) const PREVIOUS: &str = "manifest.prev";

/// What the store consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The format of everything in the folder.
    pub(super) format: u32,
    /// First sequence number of the write-ahead log that is not in segments.
    pub(super) replay_from: u64,
    /// The number that the next segment gets.
    pub(super) next_segment: u64,
    /// Length of the table of streams, in bytes.
    pub(super) streams_bytes: u64,
    /// How many streams it holds.
    pub(super) streams_count: u32,
    /// Names of the segments' folders, in the order of their rows' arrival.
    pub(super) segments: Vec<String>,
    /// Source -> (committed position, check).
    pub(super) positions: BTreeMap<String, (u64, u64)>,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u32,
}

/// Reads the manifest of a store. `None` if there is none.
pub(super) fn read(dir: &Path) -> Result<Option<Manifest>, Error> {
    read_file(dir.join(NAME))
}

/// Reads the manifest that the present one has replaced. `None` if there is none.
pub(super) fn read_previous(dir: &Path) -> Result<Option<Manifest>, Error> {
    read_file(dir.join(PREVIOUS))
}

fn read_file(path: PathBuf) -> Result<Option<Manifest>, Error> {
    let Some(text) = files::read_checked(&path)? else { return Ok(None) };
    let damaged = |e: serde_json::Error| Error::Damaged { path: path.clone(), what: e.to_string() };
    let OnlyFormat { format } = serde_json::from_str(&text).map_err(damaged)?;
    if !(FORMAT_OLDEST..=FORMAT).contains(&format) {
        return Err(Error::Format { path, found: format, known: FORMAT });
    }
    let manifest: Manifest = serde_json::from_str(&text).map_err(damaged)?;
    // Whatever is written next is of this format.
    Ok(Some(Manifest { format: FORMAT, ..manifest }))
}

/// Replaces the manifest, durably. The one before stays under another name.
pub(super) fn write(dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    let text = serde_json::to_string(manifest)
        .expect("numbers, strings and maps with string keys are always JSON");
    keep_previous(dir)?;
    files::replace_checked(&dir.join(NAME), &text)
}

/// A second name for the manifest that is about to be replaced; made durable with the new one.
fn keep_previous(dir: &Path) -> Result<(), Error> {
    let (path, previous) = (dir.join(NAME), dir.join(PREVIOUS));
    let keep = || {
        match fs::remove_file(&previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::hard_link(&path, &previous) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) => fs::copy(&path, &previous).map(drop),
            Ok(()) => Ok(()),
        }
    };
    keep().map_err(Error::io("keep a copy of", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        Manifest {
            format: FORMAT,
            replay_from: 7,
            next_segment: 3,
            streams_bytes: 99,
            streams_count: 2,
            segments: vec!["2026-11-20-00000001".into()],
            positions: BTreeMap::from([("node/a".into(), (u64::MAX, 5))]),
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        write(dir.path(), &example()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(example()));
        assert_eq!(read_previous(dir.path()).unwrap(), None);
        let next = Manifest { replay_from: 8, ..example() };
        write(dir.path(), &next).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(next));
        assert_eq!(read_previous(dir.path()).unwrap(), Some(example()));
    }

    #[test]
    fn another_format_is_named_before_anything_else_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        files::replace_checked(&path, r#"{"format":900,"tables":[]}"#).unwrap();
        let text = read(dir.path()).expect_err("a newer format").to_string();
        assert!(text.contains("900") && text.contains(&FORMAT.to_string()), "{text}");
    }
}
