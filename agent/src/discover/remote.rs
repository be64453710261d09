//! Folders on network file systems: looked at by their lanes, one look after the other.
//!
//! What a lane answers may be older than this look. It is taken for what it was when it was asked
//! for; so it is not trusted longer than it should be.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use taffrail_model::Nanos;

use super::{Entry, Scan, Scanner, read_entries};
use crate::tail::identity::look_at;
use crate::tail::lane::{self, Lane, is_late};

/// What folders were asked for, and in which round somebody came for it last.
#[derive(Debug, Default)]
pub(super) struct Asked(HashMap<PathBuf, (u64, lane::Asked<Seen>)>);

impl Asked {
    /// Forgets those that nobody has come for since.
    pub(super) fn forget_before(&mut self, round: u64) {
        self.0.retain(|_, (asked, _)| *asked >= round);
    }
}

/// What a lane has seen of a folder.
#[derive(Debug)]
struct Seen {
    modified: Nanos,
    /// None: nothing has changed since this time, which was trusted.
    content: Option<(Vec<Entry>, bool)>,
    /// When it was asked for.
    asked: Nanos,
}

fn look(path: &Path, trusted: Option<Nanos>, asked: Nanos) -> io::Result<Seen> {
    let modified = look_at(path, true)?.modified;
    let content = if trusted == Some(modified) { None } else { Some(read_entries(path)?) };
    Ok(Seen { modified, content, asked })
}

impl Scanner {
    /// Takes up what the lane has seen of a folder.
    pub(super) fn ask(&mut self, lane: &Lane, path: &Path, now: Nanos) -> io::Result<()> {
        let known = self.folders.get(path).filter(|folder| folder.trusted);
        let trusted = known.map(|folder| folder.modified);
        let round = self.round;
        let (touched, asked) = self.asked.0.entry(path.to_owned()).or_default();
        *touched = round;
        let own = path.to_owned();
        let seen = asked.get(lane, move || look(&own, trusted, now))?;
        match (seen.content, self.folders.get_mut(path)) {
            (Some(content), _) => self.put(path, seen.modified, content, seen.asked),
            (None, Some(known)) if known.trusted && known.modified == seen.modified => {
                known.round = round;
                known.changed = false;
            }
            // It was to be reported again, which was not known when it was asked for.
            (None, _) => return Err(io::ErrorKind::WouldBlock.into()),
        }
        Ok(())
    }
}

/// Tells that a file system hangs, once for all its folders.
pub(super) fn tell(lane: Option<&Lane>, error: &io::Error, scan: &mut Scan) {
    let Some(point) = lane.map(Lane::point).filter(|_| !is_late(error)) else { return };
    if !scan.problems.iter().any(|(path, _)| path == point) {
        scan.problems.push((point.to_owned(), error.to_string()));
    }
}
