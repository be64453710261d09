//! Files on network file systems, from the listing of their folder until they are read: what is asked
//! of their lanes, and what holds as long as there is no answer.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Reader;
use crate::discover::Found;
use crate::tail::chain::physical_line_max;
use crate::tail::file::{self, TailFile, bytes_before};
use crate::tail::identity::{self, FileId, Look, look_at};
use crate::tail::lane::{Asked, Held, Lane};
use crate::tail::positions::Known;

/// How long what was asked for is kept for a file that is not looked for any more.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// What is asked for, by path: no more than files were found.
#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<PathBuf, Questions>);

#[derive(Debug)]
struct Questions {
    look: Asked<Look>,
    open: Asked<Opened>,
    touched: Instant,
}

/// A file that was opened, and whether what is before its position is what it was.
#[derive(Debug)]
struct Opened {
    held: Option<Held>,
    look: Look,
    known: Option<Known>,
    same: bool,
}

impl Pending {
    fn of(&mut self, path: &Path, now: Instant) -> &mut Questions {
        let new = || Questions { look: Asked::default(), open: Asked::default(), touched: now };
        let questions = self.0.entry(path.to_owned()).or_insert_with(new);
        questions.touched = now;
        questions
    }

    /// Forgets what was answered, and what nobody comes for.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.0.retain(|_, questions| {
            let waits = questions.look.is_under_way() || questions.open.is_under_way();
            waits && now.saturating_duration_since(questions.touched) < KEPT_FOR
        });
    }
}

fn open(
    path: &Path,
    beneath: Option<&Path>,
    known: Option<Known>,
    lane: Lane,
) -> io::Result<Opened> {
    let held = Held::new(file::open(path, beneath)?, lane);
    let look = identity::look(held.file())?;
    let same = match known {
        None => true,
        Some(Known { committed, check, .. }) => match bytes_before(held.file(), committed) {
            Ok(bytes) => check == 0 || identity::check(&bytes) == check,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        },
    };
    Ok(Opened { held: held.keep(), look, known, same })
}

impl Reader {
    /// Looks at a file of a rule, wherever it is.
    pub(super) fn look_at(&mut self, path: &Path, now: Instant) -> io::Result<Look> {
        let Some(lane) = self.scanner.lanes.of(path) else { return look_at(path, false) };
        let own = path.to_owned();
        self.pending.of(path, now).look.get(&lane, move || look_at(&own, false))
    }

    /// Opens a file with a lane, at its position. `None` when it is not the one that was looked at.
    pub(super) fn open_remote(
        &mut self,
        lane: &Lane,
        chain: u64,
        found: Found,
        id: FileId,
    ) -> io::Result<Option<TailFile>> {
        let known = self.positions.as_ref().and_then(|p| p.peek(id));
        let (path, beneath, own) = (found.path.clone(), found.beneath.clone(), lane.clone());
        let asked = &mut self.pending.of(&found.path, Instant::now()).open;
        let opened = asked.get(lane, move || open(&path, beneath.as_deref(), known, own))?;
        if opened.known != known {
            // It was opened before this was known.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if opened.look.id != id || !opened.look.regular {
            return Ok(None);
        }
        let line_max = physical_line_max(&self.config);
        let head = self.head(chain, found, id);
        let opened_file = (opened.held, opened.look);
        let mut file = TailFile::remote(lane.clone(), opened_file, head, line_max);
        if let Some(known) = known {
            file.resume_as(known, opened.same, &self.config.node, line_max)?;
            self.claim(id);
        }
        Ok(Some(file))
    }

    /// Files of a folder that could not be looked at are what they were; the folder is told again.
    pub(super) fn keep_listed(&mut self, folder: &Path, absent: &HashSet<PathBuf>) {
        if absent.is_empty() {
            return;
        }
        self.scanner.forget(folder);
        let chains = self.chains.values_mut().filter(|c| c.folder == folder);
        let files = chains.flat_map(|c| &mut c.files).filter(|f| absent.contains(&f.path));
        files.for_each(|file| file.listed = true);
    }

    /// Files with a lane that were found before their positions were known are found again.
    pub(super) fn forget_unread_remote(&mut self) {
        for chain in self.chains.values_mut() {
            let before = chain.files.len();
            chain.files.retain(|f| !f.is_remote() || f.labelled.is_some());
            if chain.files.len() < before {
                self.scanner.forget(&chain.folder);
            }
        }
    }
}
