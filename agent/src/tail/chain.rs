//! The files of one container, in the order in which they were written, or one file alone.
//!
//! A rotated file is read to its end before the next is begun, pieces of a line join across the two,
//! and a file that was left is looked at for a while longer, since a runtime may still write to it.
//! After a restart of the agent the same order is found by the names in the folder.
//!
//! Invariants:
//! - A file is begun only when the one before it is at its end and silent.
//! - A file is closed only when it was left, all its bytes are committed and it was silent for
//!   `linger`.
//! - When a container has died (its next start has a file, or its file has no name any more), its
//!   open lines come out as they are.
//!
//! Runs on the reader's thread; the clock is handed in.

mod anew;
mod end;
mod gap;
mod label;
mod marker;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use taffrail_model::Nanos;

use super::file::{Read, TailFile};
use super::identity::FileId;
use super::join::{Bounds, Format, Joiner};
use super::metrics::Metrics;
use super::positions::Known;
use super::{Config, FileKind, FileNumber, Labeler};
use crate::batch::Builder;
use crate::discover::Place;
use crate::process::Processor;

pub use gap::Gap;
use label::label;
pub use marker::Marker;

/// What one chain reads before the next has its turn, in bytes.
pub const TURN_BYTES: usize = 256 << 10;
/// What may wait behind an open line of the other output, in bytes.
const HOLD_BYTES: usize = 1 << 20;
/// What a physical line may have in front of its text.
const HEADER_BYTES: usize = 256;

/// What a chain is given for its turn.
pub struct Turn<'a> {
    /// Room for one read.
    pub buffer: &'a mut [u8],
    /// Takes the records.
    pub builder: &'a mut Builder,
    /// Gives the labels.
    pub labeler: &'a Labeler,
    /// Settings.
    pub config: &'a Config,
    /// Counters.
    pub metrics: &'a Metrics,
    /// The next file number.
    pub next_number: &'a mut u32,
    /// Which files are read.
    pub reach: Reach,
    /// Whether the process ends: no file is waited for.
    pub hasty: bool,
    /// Now, for waiting.
    pub now: Instant,
    /// Now, for records.
    pub today: Nanos,
}

/// Which files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Those that only we still hold.
    Gone,
    /// And those that will go: rotated, or of a container that was started again.
    Vanishing,
    /// All.
    Everything,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were read.
    pub bytes: usize,
    /// Whether there is more to read at once.
    pub more: bool,
    /// Whether a file system is slow to tell.
    pub waits: bool,
}

/// Files that continue each other.
#[derive(Debug)]
pub struct Chain {
    /// The folder that the files were found in.
    pub folder: PathBuf,
    /// In order.
    pub files: Vec<TailFile>,
    /// Places whose content is being read, or was.
    pub covered: HashSet<(u32, String)>,
    /// Compressed files to be marked as read.
    pub markers: Vec<Marker>,
    /// Compressed files that were looked into.
    pub packed: HashSet<FileId>,
    /// Whether the folder has gone: nothing new will come.
    pub gone: bool,
    /// Whether it is one file alone.
    pub alone: bool,
    /// Whether all files of the folder are known. If not, the next in order may be missing.
    pub whole: bool,
    /// When it should be looked at again.
    pub next_look: Instant,
    /// How long after the last look that is.
    pub pause: Duration,
    /// Files that are not read any more and may come again, and how far they are.
    pub left: Vec<(FileId, Known)>,
    joiner: Joiner,
    processor: Processor,
    last_data: Option<Instant>,
    /// Which lines wait behind an open one, and since when.
    waiting: Option<(u64, Instant)>,
    /// What is lost and has no record yet.
    gaps: Vec<Gap>,
}

enum Step {
    /// On to the next file.
    Next,
    /// Nothing more now.
    Stop,
    /// The turn is used up.
    More,
    /// It is not known yet whether there is more.
    Wait,
}

impl Turn<'_> {
    fn number(&mut self) -> FileNumber {
        take_number(self.next_number)
    }
}

/// The next file number.
pub fn take_number(next: &mut u32) -> FileNumber {
    *next += 1;
    FileNumber(*next)
}

/// Longest physical line for a longest line of text, in bytes.
#[must_use]
pub fn physical_line_max(config: &Config) -> usize {
    config.line_bytes_max + HEADER_BYTES
}

impl Chain {
    /// Without files yet.
    #[must_use]
    pub fn new(folder: PathBuf, config: &Config, now: Instant) -> Self {
        let bounds = Bounds { line_max: config.line_bytes_max, hold_max: HOLD_BYTES };
        Self {
            folder,
            files: Vec::new(),
            covered: HashSet::new(),
            markers: Vec::new(),
            packed: HashSet::new(),
            gone: false,
            alone: false,
            whole: true,
            next_look: now,
            pause: config.poll_min,
            left: Vec::new(),
            joiner: Joiner::new(bounds),
            processor: Processor::new(config.meaning.clone(), config.line_bytes_max),
            last_data: None,
            waiting: None,
            gaps: Vec::new(),
        }
    }

    /// Puts the files in the order of their names. A file that has no name any more is older than all
    /// that have one: what is removed first was written first. Such files stay in the order that they
    /// are in: the last name that was seen of one may be older than that of a later one.
    pub fn sort(&mut self) {
        self.files.sort_by_cached_key(|f| {
            let Place { restart, rotated, packed } = f.place.clone();
            let name = f.listed.then_some((rotated.is_none(), rotated, packed, f.number));
            (restart, name)
        });
    }

    /// How many files are held open.
    #[must_use]
    pub fn held(&self) -> usize {
        self.files.iter().filter(|f| f.is_held()).count()
    }

    /// Reads up to [`TURN_BYTES`] of what is new.
    pub fn turn(&mut self, turn: &mut Turn<'_>) -> Progress {
        for gap in self.gaps.drain(..) {
            gap.put(turn);
        }
        if !self.whole {
            return Progress::default();
        }
        let mut bytes = 0;
        let (mut more, mut waits) = (false, false);
        let mut at = 0;
        while at < self.files.len() {
            match self.step(at, turn, &mut bytes) {
                Step::Next => at += 1,
                Step::Stop => break,
                Step::More => {
                    more = true;
                    break;
                }
                Step::Wait => {
                    waits = true;
                    break;
                }
            }
        }
        self.let_go_of_open_lines(turn);
        self.mark(turn);
        self.files.iter_mut().for_each(TailFile::hand_back);
        for file in self.files.iter().filter(|f| !f.is_open() && !f.listed) {
            turn.builder.forget(file.number);
            self.left.extend(file.left_at().map(|known| (file.id, known)));
        }
        self.files.retain(|f| f.is_open() || f.listed);
        Progress { bytes, more, waits }
    }

    /// Notes what is in the store. Returns whether the file is one of this chain.
    pub fn acknowledge(&mut self, number: FileNumber, end: u64) -> bool {
        let Some(file) = self.files.iter_mut().find(|f| f.number == number) else { return false };
        file.committed = file.committed.max(end);
        true
    }

    /// Goes back to what is committed, or to what `conflict` says of a file: a position and its
    /// check. Calls `each` with the new position of each file.
    pub fn rewind(
        &mut self,
        turn: &mut Turn<'_>,
        conflict: impl Fn(&str) -> Option<(u64, u64)>,
        mut each: impl FnMut(FileNumber, u64),
    ) {
        self.joiner.clear();
        self.processor.clear();
        self.last_data = None;
        let line_max = physical_line_max(turn.config);
        for at in 0..self.files.len() {
            let file = &mut self.files[at];
            let (target, check) = conflict(&file.source).unwrap_or((file.committed, 0));
            let other = |f: &TailFile| check != 0 && ![0, check].contains(&f.check(target));
            match file.rewind(target, line_max) {
                Ok(()) if file.is_open() && other(file) => self.begin_anew(at, turn),
                Ok(()) => {}
                Err(error) => {
                    let reason = error.to_string();
                    let path = file.path.display();
                    tracing::warn!(%path, target, reason, "cannot go back in file");
                    self.gaps.extend(Gap::behind(file, target, turn));
                    let file = &mut self.files[at];
                    if file.is_packed() {
                        // What is unpacked already is told as lost; the rest follows it.
                        file.committed = file.committed.max(file.position());
                    } else if file.is_open() {
                        self.begin_anew(at, turn);
                    }
                }
            }
            let file = &self.files[at];
            each(file.number, file.committed);
        }
    }

    fn step(&mut self, at: usize, turn: &mut Turn<'_>, bytes: &mut usize) -> Step {
        let file = &mut self.files[at];
        if !file.is_open() {
            return Step::Next;
        }
        if file.passed_at.is_some() {
            self.linger(at, turn);
            return Step::Next;
        }
        if !self.is_within(at, turn.reach) {
            return Step::Stop;
        }
        let file = &mut self.files[at];
        if file.labelled.is_none() {
            if !label(file, turn) {
                return Step::Stop;
            }
            self.processor.follow(&file.kind);
        }
        while *bytes < TURN_BYTES {
            if !self.is_within(at, turn.reach) {
                return Step::Stop;
            }
            let file = &mut self.files[at];
            // The batch at hand says whose the lines before are: the heir's go into the next one.
            if file.heir.as_ref().is_some_and(|(_, until)| *until <= file.position()) {
                if turn.builder.holds(file.number) {
                    return Step::Stop;
                }
                if file.inherited() {
                    label(file, turn);
                }
            }
            let room = file.room(turn.buffer.len());
            match file.read(&mut turn.buffer[..room]) {
                Ok(Read::Data(range)) => {
                    *bytes += range.len();
                    self.take(at, range, turn);
                }
                Ok(Read::Skipped(examined)) => *bytes += examined,
                Ok(Read::End) => {
                    file.error = None;
                    return self.at_end(at, turn);
                }
                Ok(Read::Replaced) => {
                    tracing::info!(path = %file.path.display(), "file begins anew");
                    turn.metrics.truncations.inc();
                    self.begin_anew(at, turn);
                    if !label(&mut self.files[at], turn) {
                        return Step::Stop;
                    }
                }
                Err(error) => return self.unreadable(at, &error, turn),
            }
        }
        Step::More
    }

    /// Whether a file is one of those that are read. A line that is open is read on until it is
    /// whole, wherever that leads: else its begin would vanish.
    fn is_within(&self, at: usize, reach: Reach) -> bool {
        let file = &self.files[at];
        // A volume that is lent may be taken away at any time.
        let gone = self.gone || !file.listed || file.lent;
        match reach {
            Reach::Everything => true,
            Reach::Gone => gone || self.has_open_line(),
            Reach::Vanishing => {
                let rotated = file.place.rotated.is_some() || at + 1 < self.files.len();
                gone || rotated || self.has_open_line()
            }
        }
    }

    /// The open lines of files that nobody will find again, as they are.
    pub fn last_words(&mut self, turn: &mut Turn<'_>) {
        let Self { joiner, processor, files, gone, .. } = self;
        let mut open = false;
        for file in files.iter_mut().filter(|f| f.is_open() && (*gone || !f.listed)) {
            let (number, format) = (file.number, format(&file.kind));
            if file.labelled.is_some() {
                let mut sink = processor.over(turn.now, turn.builder);
                file.lines.finish(|l| joiner.push(number, format, l, turn.today, &mut sink));
            }
            open |= turn.builder.released(number).is_some_and(|r| r < file.lines.resume());
        }
        if open {
            joiner.give_up(&mut processor.over(turn.now, turn.builder));
            processor.flush(turn.now, turn.builder);
        }
    }

    fn take(&mut self, at: usize, range: std::ops::Range<usize>, turn: &mut Turn<'_>) {
        let file = &mut self.files[at];
        if file.labelled != Some(turn.builder.serial()) {
            label(file, turn);
            self.processor.follow(&file.kind);
        }
        let Self { joiner, processor, .. } = self;
        let (number, format) = (file.number, format(&file.kind));
        let bytes = &turn.buffer[range];
        let mut sink = processor.over(turn.now, turn.builder);
        file.lines.push(bytes, |line| joiner.push(number, format, line, turn.today, &mut sink));
        file.remember(bytes);
        file.quiet_since = None;
        file.error = None;
        self.last_data = Some(turn.now);
    }
}

fn format(kind: &FileKind) -> Format {
    match kind {
        FileKind::Container { .. } => Format::Container,
        FileKind::Volume { .. } | FileKind::Plain { .. } => Format::Plain,
    }
}
