//! Deletion requests: received, listed, cancelled. What they hide is in `hidden`, how their lines are
//! erased in `erase`, how they lie on disk in [`record`].
//!
//! Invariants: a request is durable before its lines are hidden, and hidden before it is answered; it
//! covers every line of its streams and time that comes before erasing begins, whenever it comes; its
//! lines are shown again only after a cancellation is durable.

pub(super) mod record;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use taffrail_kit::clock;
use taffrail_model::Nanos;
use taffrail_query::deletion::{Deletion, DeletionError, Erasure, Lines, LogDeletion, Stage};

use super::hidden::Hide;
use super::{Error, LogStore};
use record::{Folder, Record, Step};

/// Most requests whose lines are hidden: each costs every query of their time something.
const ACTIVE_MAX: usize = 100;
/// Most requests that are kept; beyond, the oldest of those that are done are forgotten.
const KEPT_MAX: usize = 10_000;

/// Why a request that is being erased does not get on.
const STUCK: &str =
    "segments with lines of it are damaged and cannot be rewritten; the lines stay hidden";

/// All requests that are kept.
pub(super) struct Deletions {
    folder: Folder,
    records: BTreeMap<u64, Record>,
}

impl Deletions {
    /// Reads the requests of a store, and what they hide.
    pub(super) fn open(store: &Path) -> Result<(Self, Vec<Arc<Hide>>), Error> {
        let (folder, records) = Folder::open(store)?;
        let active = records.values().filter(|record| record.is_active());
        let hides = active.map(|record| {
            let lines = Lines::of_query(&record.query).map_err(|error| Error::Damaged {
                path: store.join("deletions").join(record.name()),
                what: error.to_string(),
            })?;
            Ok(Arc::new(Hide::new(record, lines)))
        });
        let hides = hides.collect::<Result<_, Error>>()?;
        Ok((Self { folder, records }, hides))
    }

    /// Numbers from here on no segment has that a request is erased from.
    pub(super) fn highest_cut(&self) -> u64 {
        let cuts = self.records.values().filter_map(|record| Some(record.begun()?.cut));
        cuts.max().unwrap_or_default()
    }

    /// How many requests hide lines.
    pub(super) fn active(&self) -> usize {
        self.records.values().filter(|record| record.is_active()).count()
    }

    /// Makes room for one more.
    fn forget(&mut self) -> Result<(), Error> {
        while self.records.len() >= KEPT_MAX {
            let done = self.records.values().find(|record| !record.is_active());
            let Some(id) = done.map(|record| record.id) else { break };
            self.folder.remove(id)?;
            self.records.remove(&id);
        }
        Ok(())
    }

    fn add(&mut self, query: &str, times: (Nanos, Nanos)) -> Result<Record, Error> {
        self.forget()?;
        let id = self.records.last_key_value().map_or(1, |(id, _)| id + 1);
        let record = Record::new(id, query, times, clock::unix_nanos());
        if let Err(error) = self.folder.write(&record) {
            // Half of it may be there; the caller is told that nothing is.
            self.folder.remove(id)?;
            return Err(error);
        }
        self.records.insert(id, record.clone());
        Ok(record)
    }

    /// Takes a request to its next step, durably.
    pub(super) fn advance(&mut self, id: u64, step: Step) -> Result<(), Error> {
        let Some(record) = self.records.get_mut(&id) else { return Ok(()) };
        let mut next = record.clone();
        next.step = step;
        self.folder.write(&next)?;
        *record = next;
        Ok(())
    }

    /// The requests that are received and old enough to be erased.
    pub(super) fn due(&self, created_before: Nanos) -> Vec<Record> {
        let is_due =
            |record: &&Record| record.step == Step::Received && record.created <= created_before;
        self.records.values().filter(is_due).cloned().collect()
    }

    /// A request.
    pub(super) fn get(&self, id: u64) -> Option<&Record> {
        self.records.get(&id)
    }
}

impl LogStore {
    pub(super) fn deletions(&self) -> MutexGuard<'_, Deletions> {
        self.deletions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is hidden.
    pub(super) fn change_hides(&self, change: impl FnOnce(&mut Vec<Arc<Hide>>)) {
        let mut state = self.state();
        let mut hides = state.hides.to_vec();
        change(&mut hides);
        state.hides = Arc::new(hides);
    }
}

impl LogDeletion for LogStore {
    fn request(&self, query: &str, start: Nanos, end: Nanos) -> Result<String, DeletionError> {
        let lines = Lines::of_query(query)?;
        let mut deletions = self.deletions();
        if deletions.active() >= ACTIVE_MAX {
            return Err(DeletionError::TooMany(format!(
                "{ACTIVE_MAX} delete requests wait to be carried out; try again when some are done, \
                 or cancel some"
            )));
        }
        let record = deletions.add(query, (start, end)).map_err(|error| storage(&error))?;
        self.change_hides(|hides| hides.push(Arc::new(Hide::new(&record, lines))));
        drop(deletions);
        tracing::info!(id = record.name(), query, start, end, "delete request is received");
        Ok(record.name())
    }

    fn list(&self) -> Vec<Deletion> {
        let records: Vec<Record> = self.deletions().records.values().cloned().collect();
        records.iter().map(|record| self.shown(record)).collect()
    }

    fn cancel(&self, id: &str) -> Result<(), DeletionError> {
        let mut deletions = self.deletions();
        let number = u64::from_str_radix(id, 16).map_err(|_| DeletionError::Unknown)?;
        let record = deletions.get(number).filter(|record| record.name() == id);
        match record.ok_or(DeletionError::Unknown)?.step {
            Step::Received => {}
            Step::Cancelled { .. } => return Ok(()),
            Step::Erasing(_) | Step::Processed { .. } => {
                let message = "deletion of request which is in process or already processed is not \
                               allowed: lines that are gone cannot be brought back";
                return Err(DeletionError::TooLate(message.into()));
            }
        }
        let step = Step::Cancelled { at: clock::unix_nanos() };
        deletions.advance(number, step).map_err(|error| storage(&error))?;
        self.change_hides(|hides| hides.retain(|hide| hide.id() != number));
        tracing::info!(id, "delete request is cancelled");
        Ok(())
    }
}

fn storage(error: &Error) -> DeletionError {
    DeletionError::Storage(error.to_string())
}

impl LogStore {
    fn shown(&self, record: &Record) -> Deletion {
        let (stage, begun, ended) = match record.step {
            Step::Received => (Stage::Received, None, None),
            Step::Erasing(begun) => (Stage::Erasing, Some(begun), None),
            Step::Processed { begun, ended } => (Stage::Processed, Some(begun), Some(ended)),
            Step::Cancelled { .. } => (Stage::Cancelled, None, None),
        };
        let is_stuck = stage == Stage::Erasing && self.is_stuck(record.id);
        let erasure = begun.map(|begun| Erasure {
            began: begun.at,
            lines: begun.lines,
            bytes: begun.bytes,
            ended,
            problem: is_stuck.then_some(STUCK),
        });
        let Record { start, end, created, .. } = *record;
        let (id, query) = (record.name(), record.query.clone());
        Deletion { id, query, start, end, created, stage, erasure }
    }
}
