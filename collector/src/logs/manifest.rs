//! The manifest: the one file that says what the store consists of.
//!
//! A checked file (see [`super::files`]) with one JSON object: the format, the segments that count,
//! length and count of the table of streams, the write-ahead log's sequence number from which frames
//! are not in segments, and the positions of all sources as of that number. It is replaced as a
//! whole, after everything it names is synced: so lines and positions become durable in one step.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, FORMAT, files};

/// Name of the manifest in the store's folder.
pub(super) const NAME: &str = "manifest.json";

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
    let path = dir.join(NAME);
    let Some(text) = files::read_checked(&path)? else { return Ok(None) };
    let damaged = |e: serde_json::Error| Error::Damaged { path: path.clone(), what: e.to_string() };
    let OnlyFormat { format } = serde_json::from_str(&text).map_err(damaged)?;
    if format != FORMAT {
        return Err(Error::Format { path, found: format, known: FORMAT });
    }
    serde_json::from_str(&text).map(Some).map_err(damaged)
}

/// Replaces the manifest, durably.
pub(super) fn write(dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    let text = serde_json::to_string(manifest)
        .expect("numbers, strings and maps with string keys are always JSON");
    files::replace_checked(&dir.join(NAME), &text)
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
