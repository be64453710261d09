//! A deletion request on disk: one checked file with one JSON object, and a copy of it beside.
//!
//! ```text
//! deletions/00000007.json
//! deletions/00000007.copy
//! ```
//! What a request hides must not come to light because one file is damaged, so each is written twice;
//! either is enough, and what is missing is written again when the store is opened. The copy may be one
//! step behind: then the step is done again.
//!
//! Invariant: a step counts when both files are synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taffrail_model::{Nanos, TimeRange};

use super::super::{Error, files};

/// Folder of the requests.
const FOLDER: &str = "deletions";
/// Version of these files.
const FORMAT: u32 = 1;
const ENDINGS: [&str; 2] = ["json", "copy"];

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Step {
    /// Its lines are hidden.
    Received,
    /// Its lines are hidden and being erased.
    Erasing(Begun),
    /// Its lines are gone.
    Processed {
        /// What they were.
        begun: Begun,
        /// When the last file that had them was gone.
        ended: Nanos,
    },
    /// Its lines are shown again.
    Cancelled {
        /// Since when.
        at: Nanos,
    },
}

/// What is known once erasing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Begun {
    /// When that was.
    pub(in super::super) at: Nanos,
    /// Segments below this number had all lines that are to be erased.
    pub(in super::super) cut: u64,
    /// The write-ahead log has nothing of them from this frame on.
    #[serde(default)]
    pub(in super::super) wal: u64,
    /// How many lines.
    pub(in super::super) lines: u64,
    /// Bytes of their text.
    pub(in super::super) bytes: u64,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Record {
    format: u32,
    /// Its number.
    pub(in super::super) id: u64,
    /// The query as it came.
    pub(in super::super) query: String,
    /// Time of the first line.
    pub(in super::super) start: Nanos,
    /// Time of the last line, included.
    pub(in super::super) end: Nanos,
    /// When it was accepted.
    pub(in super::super) created: Nanos,
    /// How far it is.
    pub(in super::super) step: Step,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u32,
}

impl Record {
    /// A request that was just received.
    pub(in super::super) fn new(id: u64, query: &str, times: (Nanos, Nanos), now: Nanos) -> Self {
        let (start, end) = times;
        let query = query.to_owned();
        Self { format: FORMAT, id, query, start, end, created: now, step: Step::Received }
    }

    /// The time of its lines.
    pub(in super::super) fn range(&self) -> TimeRange {
        TimeRange::new(self.start, self.end.saturating_add(1))
    }

    /// Whether its lines are hidden.
    pub(in super::super) fn is_active(&self) -> bool {
        matches!(self.step, Step::Received | Step::Erasing(_))
    }

    /// Whether it is being erased.
    pub(in super::super) fn begun(&self) -> Option<Begun> {
        match self.step {
            Step::Erasing(begun) => Some(begun),
            _ => None,
        }
    }

    /// Its name.
    pub(in super::super) fn name(&self) -> String {
        format!("{:08x}", self.id)
    }
}

/// The folder of the requests.
pub(in super::super) struct Folder(PathBuf);

impl Folder {
    /// Opens the folder, which is made when it is not there, and reads all requests.
    pub(in super::super) fn open(store: &Path) -> Result<(Self, BTreeMap<u64, Record>), Error> {
        let dir = store.join(FOLDER);
        if !dir.exists() {
            files::create_dir(&dir)?;
        }
        let folder = Self(dir);
        let mut records = BTreeMap::new();
        for id in folder.ids()? {
            records.insert(id, folder.read(id)?);
        }
        Ok((folder, records))
    }

    fn ids(&self) -> Result<BTreeSet<u64>, Error> {
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(&self.0).map_err(Error::io("list", &self.0))? {
            let path = entry.map_err(Error::io("list", &self.0))?.path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            match u64::from_str_radix(stem, 16) {
                Ok(id) if ENDINGS.contains(&ending) => {
                    ids.insert(id);
                }
                // What a crash has left of a step that did not count.
                Ok(_) => fs::remove_file(&path).map_err(Error::io("remove", &path))?,
                Err(_) => {}
            }
        }
        Ok(ids)
    }

    fn path(&self, id: u64, ending: &str) -> PathBuf {
        self.0.join(format!("{id:08x}.{ending}"))
    }

    /// Reads a request from either file; if only one is whole, the other is made anew.
    fn read(&self, id: u64) -> Result<Record, Error> {
        let [one, other] = ENDINGS.map(|ending| read_file(&self.path(id, ending), id));
        if let (Ok(Some(one)), Ok(Some(other))) = (&one, &other)
            && one == other
        {
            return Ok(one.clone());
        }
        let (found, failed) = match (one, other) {
            (Ok(Some(record)), other) => (record, other.err()),
            (one, Ok(Some(record))) => (record, one.err()),
            (Err(error), _) | (_, Err(error)) => return Err(error),
            (Ok(None), Ok(None)) => {
                let path = self.path(id, ENDINGS[0]);
                return Err(Error::Damaged { path, what: "it is gone".into() });
            }
        };
        match failed {
            // A newer version has written there: nothing of it may be overwritten.
            Some(error @ Error::Format { .. }) => return Err(error),
            Some(error) => tracing::error!(%error, "a deletion request is read from its copy"),
            None => {}
        }
        self.write(&found)?;
        Ok(found)
    }

    /// Makes a step of a request durable.
    pub(in super::super) fn write(&self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_string(record).expect("numbers and strings are always JSON");
        ENDINGS
            .iter()
            .try_for_each(|ending| files::replace_checked(&self.path(record.id, ending), &text))
    }

    /// Forgets a request.
    pub(in super::super) fn remove(&self, id: u64) -> Result<(), Error> {
        for ending in ENDINGS.iter().rev() {
            let path = self.path(id, ending);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        files::sync_dir(&self.0)
    }
}

fn read_file(path: &Path, id: u64) -> Result<Option<Record>, Error> {
    let Some(text) = files::read_checked(path)? else { return Ok(None) };
    let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
    let OnlyFormat { format } =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if format != FORMAT {
        return Err(Error::Format { path: path.to_owned(), found: format, known: FORMAT });
    }
    let record: Record = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if record.id == id { Ok(Some(record)) } else { Err(damaged("another request's".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> [Step; 4] {
        let begun = Begun { at: 5, cut: 3, wal: 4, lines: 2, bytes: 9 };
        [
            Step::Received,
            Step::Erasing(begun),
            Step::Processed { begun, ended: 8 },
            Step::Cancelled { at: 7 },
        ]
    }

    #[test]
    fn each_step_comes_back_from_either_file_and_both_gone_bad_is_said() {
        let dir = tempfile::tempdir().unwrap();
        for (id, step) in (1..).zip(steps()) {
            let (folder, _) = Folder::open(dir.path()).unwrap();
            let record = Record { step, ..Record::new(id, "{a=\"b\"}", (1, 2), 3) };
            folder.write(&record).unwrap();
            for ending in ENDINGS {
                let path = folder.path(id, ending);
                fs::write(&path, "nonsense").unwrap();
                assert_eq!(Folder::open(dir.path()).unwrap().1[&id], record);
                fs::remove_file(&path).unwrap();
                assert_eq!(Folder::open(dir.path()).unwrap().1[&id], record);
                assert!(path.exists(), "it is made anew");
            }
        }
        let (folder, records) = Folder::open(dir.path()).unwrap();
        assert_eq!(records.len(), 4);
        ENDINGS.iter().for_each(|ending| fs::write(folder.path(2, ending), "nonsense").unwrap());
        let error = Folder::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("00000002") && error.contains("damaged"), "{error}");
        folder.remove(2).unwrap();
        assert_eq!(Folder::open(dir.path()).unwrap().1.len(), 3);
    }

    #[test]
    fn another_version_and_what_a_crash_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = Folder::open(dir.path()).unwrap();
        fs::write(folder.0.join("00000001.tmp"), "half").unwrap();
        assert!(Folder::open(dir.path()).unwrap().1.is_empty());
        assert!(!folder.0.join("00000001.tmp").exists());
        folder.write(&Record::new(1, "{a=\"b\"}", (1, 2), 3)).unwrap();
        files::replace_checked(&folder.path(1, "json"), r#"{"format":9}"#).unwrap();
        assert!(matches!(Folder::open(dir.path()), Err(Error::Format { found: 9, .. })));
    }
}
