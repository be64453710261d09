//! One log file (or the unpacked content of a compressed one): open it, read forward, notice that
//! it is not the file it was.
//!
//! Each read begins a few bytes before the position and compares them with what was there before. So
//! one `pread` tells of growth, of truncation and of a file written anew under the same inode, and a
//! file that does not change costs nothing else.
//!
//! Invariants:
//! - Bytes are given out in order, each once, until [`TailFile::rewind`].
//! - A file that is open stays readable to its end, whatever becomes of its name.

mod check;
mod disk;
mod hold;
mod remote;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::identity::{self, FileId, Look, Version};
use super::lag::Marks;
use super::lane::{Held, Lane};
use super::lines::Lines;
use super::packed::Unpacked;
use super::positions::Known;
use super::{FileKind, FileNumber};
use crate::discover::{Found, Place};

use disk::{Fetched, append_tail, fetch, read_at};
pub use disk::{bytes_before, open};
use remote::{Remote, Spot};

/// What one read gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A hole was left out, after so many bytes were looked at for it.
    Skipped(usize),
    /// New bytes, at this range of the buffer.
    Data(std::ops::Range<usize>),
    /// Nothing new.
    End,
    /// What was read before is not there any more: the content began anew.
    Replaced,
}

/// One file that is tailed.
#[derive(Debug)]
pub struct TailFile {
    /// The reader's number.
    pub number: FileNumber,
    /// Which file.
    pub id: FileId,
    /// Identity on the wire.
    pub source: Arc<str>,
    /// Counts how often the content began anew.
    pub generation: u32,
    /// Where it was seen last.
    pub path: PathBuf,
    /// The folder that it must not leave, links included.
    pub beneath: Option<PathBuf>,
    /// What it is.
    pub kind: FileKind,
    /// Its place among the files of its container.
    pub place: Place,
    /// Whether it has a name in its folder that belongs to a log file.
    pub listed: bool,
    /// Everything before this offset is in the store.
    pub committed: u64,
    /// The open line.
    pub lines: Lines,
    /// Since when it has been at its end while the next file of the container waits.
    pub quiet_since: Option<Instant>,
    /// When it was left for the next file.
    pub passed_at: Option<Instant>,
    /// Why it is not read.
    pub error: Option<String>,
    /// Whether its folder must not be kept busy: it is opened for each look only.
    pub lent: bool,
    /// What the file is from a position on: a volume has gone over to another pod.
    pub heir: Option<(FileKind, u64)>,
    /// Whether it had no name left when it was let go of.
    pub unlinked: bool,
    /// For which batch its labels were looked up last; none: it has no labels yet.
    pub labelled: Option<u64>,
    /// Ends that it had, to tell how long its bytes wait.
    pub marks: Marks,
    content: Content,
    /// The last bytes before the position.
    tail: Vec<u8>,
    /// Of unpacked content, which cannot be read at any place: the last bytes before the open line.
    line_tail: Vec<u8>,
    /// Of unpacked content: an offset and the check of the bytes before it.
    checked: Cell<Option<(u64, u64)>>,
}

#[derive(Debug)]
enum Content {
    Plain(File),
    Packed(Box<Unpacked>),
    /// On a network file system.
    Remote(Box<Remote>),
    /// Read to its end and let go of for a while, to make room; opened again when it grows.
    Parked,
    /// Done with; the lane is that of the file system, if it has one.
    Closed(Option<Lane>),
}

impl TailFile {
    /// A plain file that is open, to be read from `position`.
    ///
    /// # Errors
    /// When the bytes before the position cannot be read.
    pub fn plain(file: File, head: Head, position: u64, line_max: usize) -> io::Result<Self> {
        let tail = bytes_before(&file, position)?;
        Ok(Self::new(Content::Plain(file), head, position, tail, line_max))
    }

    /// The unpacked content of a compressed file.
    #[must_use]
    pub fn packed(content: Unpacked, head: Head, line_max: usize) -> Self {
        let position = content.position();
        Self::new(Content::Packed(Box::new(content)), head, position, Vec::new(), line_max)
    }

    /// A file on a network file system, to be read from its begin.
    #[must_use]
    pub fn remote(lane: Lane, opened: (Option<Held>, Look), head: Head, line_max: usize) -> Self {
        let (held, look) = opened;
        let content = Content::Remote(Remote::new(lane, held, Some(look)));
        Self::new(content, head, 0, Vec::new(), line_max)
    }

    fn new(content: Content, head: Head, position: u64, tail: Vec<u8>, line_max: usize) -> Self {
        let Head { number, id, source, generation, found } = head;
        Self {
            number,
            id,
            source,
            generation,
            path: found.path,
            beneath: found.beneath,
            kind: found.kind,
            place: found.place,
            listed: true,
            committed: position,
            lines: Lines::new(position, line_max),
            quiet_since: None,
            passed_at: None,
            error: None,
            lent: false,
            heir: None,
            unlinked: false,
            labelled: None,
            marks: Marks::default(),
            content,
            tail,
            line_tail: Vec::new(),
            checked: Cell::new(None),
        }
    }

    /// Goes to the committed position, if the bytes before it are those that were committed; else
    /// the content is another one, of the next generation.
    ///
    /// # Errors
    /// What the system says.
    pub fn resume(&mut self, known: Known, node: &str, line_max: usize) -> io::Result<()> {
        if matches!(self.content, Content::Parked) {
            self.reopen()?;
        }
        let Content::Plain(file) = &self.content else { return Ok(()) };
        let same = bytes_before(file, known.committed)
            .is_ok_and(|bytes| known.check == 0 || identity::check(&bytes) == known.check);
        self.resume_as(known, same, node, line_max)
    }

    /// Likewise, when it is known whether the bytes are the `same`.
    ///
    /// # Errors
    /// What the system says.
    pub fn resume_as(
        &mut self,
        known: Known,
        same: bool,
        node: &str,
        line_max: usize,
    ) -> io::Result<()> {
        let (generation, position) =
            if same { (known.generation, known.committed) } else { (known.generation + 1, 0) };
        self.generation = generation;
        let (family, version) = (identity::family(&self.kind), Version::Generation(generation));
        self.source = identity::source(node, self.id, family, version).into();
        self.rewind(position, line_max)
    }

    /// Offset of the next byte to read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.lines.position()
    }

    /// How many bytes of a buffer may be filled: what follows belongs to the heir.
    #[must_use]
    pub fn room(&self, buffer: usize) -> usize {
        let own = self.heir.as_ref().map(|(_, until)| until.saturating_sub(self.position()));
        let room = own.and_then(|own| usize::try_from(own).ok()).filter(|own| *own > 0);
        room.map_or(buffer, |room| buffer.min(room + self.tail.len()))
    }

    /// Becomes what its heir is, if everything before has been read.
    #[must_use]
    pub fn inherited(&mut self) -> bool {
        match self.heir.take_if(|(_, until)| *until <= self.lines.position()) {
            Some((kind, _)) => {
                self.kind = kind;
                true
            }
            None => false,
        }
    }

    /// Whether it is the unpacked content of a compressed file.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.place.packed
    }

    /// Reads what comes next into `buffer`, which is longer than [`identity::CHECK_BYTES`].
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        if matches!(self.content, Content::Parked) {
            self.unpark()?;
        }
        let position = self.lines.position();
        let between_lines = self.lines.resume() == position;
        let fetched = match &mut self.content {
            Content::Plain(file) => fetch(file, buffer, &self.tail, position, between_lines)?,
            Content::Remote(_) => {
                let spot = self.spot(position);
                let Content::Remote(remote) = &mut self.content else { return Ok(Read::End) };
                remote.read(spot, &mut self.tail, buffer)?
            }
            Content::Packed(unpacked) => match unpacked.read(buffer)? {
                0 => Fetched::End,
                count => Fetched::Data(0..count),
            },
            Content::Parked | Content::Closed(_) => Fetched::End,
        };
        Ok(match fetched {
            Fetched::Data(range) => Read::Data(range),
            Fetched::Hole { to, tail, examined } => {
                self.lines.skip(to - position);
                self.tail = tail;
                Read::Skipped(examined)
            }
            Fetched::End => Read::End,
            Fetched::Replaced => Read::Replaced,
        })
    }

    /// Which file it is, and a place in it.
    fn spot(&self, position: u64) -> Spot {
        let between_lines = self.lines.resume() == position;
        let (path, beneath) = (self.path.clone(), self.beneath.clone());
        Spot { id: self.id, path, beneath, position, between_lines }
    }

    /// Reads at an offset of a plain file that is held open, without moving; how many bytes.
    #[must_use]
    pub fn peek(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let Content::Plain(file) = &self.content else { return None };
        read_at(file, buffer, offset).ok()
    }

    /// Remembers the end of the bytes that were just read and pushed to the lines.
    pub fn remember(&mut self, bytes: &[u8]) {
        let start = self.lines.position() - bytes.len() as u64;
        if let (Content::Packed(_), Some(upto)) =
            (&self.content, self.lines.resume().checked_sub(start))
        {
            let line_end = &bytes[..usize::try_from(upto).unwrap_or(0).min(bytes.len())];
            self.line_tail.clone_from(&self.tail);
            append_tail(&mut self.line_tail, line_end);
        }
        append_tail(&mut self.tail, bytes);
    }

    /// What the system says of the open file; of one with a lane, what was seen last.
    ///
    /// # Errors
    /// What the system says; also when the file is closed.
    pub fn look(&self) -> io::Result<Look> {
        match &self.content {
            Content::Plain(file) => identity::look(file),
            Content::Packed(_) => identity::look_at(&self.path, true),
            Content::Remote(remote) => remote.look.ok_or_else(|| io::ErrorKind::WouldBlock.into()),
            Content::Closed(Some(_)) => Err(io::ErrorKind::WouldBlock.into()),
            Content::Parked | Content::Closed(None) => identity::look_at(&self.path, true)
                .and_then(|l| {
                    if l.id == self.id { Ok(l) } else { Err(io::ErrorKind::NotFound.into()) }
                }),
        }
    }

    /// Starts again at `position`, opening the file anew if it was closed.
    ///
    /// # Errors
    /// When the bytes are not to be had any more.
    pub fn rewind(&mut self, position: u64, line_max: usize) -> io::Result<()> {
        if position == self.position() && self.lines.resume() == position {
            self.committed = position;
            return Ok(());
        }
        self.go_to(position, line_max)
    }

    /// Takes up a file that was done with and has grown all the same.
    ///
    /// # Errors
    /// When it is not to be had any more.
    pub fn take_up(&mut self, line_max: usize) -> io::Result<()> {
        self.go_to(self.lines.resume(), line_max)
    }

    fn go_to(&mut self, position: u64, line_max: usize) -> io::Result<()> {
        self.tail.clear();
        self.line_tail.clear();
        match &mut self.content {
            Content::Plain(file) => self.tail = bytes_before(file, position)?,
            Content::Remote(remote) => remote.turn_to(),
            Content::Closed(Some(lane)) => {
                self.content = Content::Remote(Remote::new(lane.clone(), None, None));
            }
            Content::Parked | Content::Closed(None) if !self.place.packed => {
                let file = open(&self.path, self.beneath.as_deref())?;
                if identity::look(&file)?.id != self.id {
                    return Err(io::ErrorKind::NotFound.into());
                }
                self.tail = bytes_before(&file, position)?;
                self.content = Content::Plain(file);
            }
            Content::Packed(_) | Content::Parked | Content::Closed(None) => {
                let unpacked = Unpacked::open(&self.path, position)?;
                self.content = Content::Packed(Box::new(unpacked));
            }
        }
        self.committed = position;
        self.lines = Lines::new(position, line_max);
        self.quiet_since = None;
        self.passed_at = None;
        Ok(())
    }

    /// Begins the next generation: the same file, new content, from its first byte.
    pub fn begin_anew(&mut self, number: FileNumber, source: Arc<str>, line_max: usize) {
        self.number = number;
        self.source = source;
        self.generation += 1;
        self.committed = 0;
        self.lines = Lines::new(0, line_max);
        self.tail.clear();
        if let Content::Remote(remote) = &mut self.content {
            remote.turn_to();
        }
        self.quiet_since = None;
        self.passed_at = None;
        self.labelled = None;
        if let Some((kind, _)) = self.heir.take() {
            self.kind = kind;
        }
    }
}

/// What a new [`TailFile`] is told.
#[derive(Clone, Debug)]
pub struct Head {
    /// The reader's number.
    pub number: FileNumber,
    /// Which file.
    pub id: FileId,
    /// Identity on the wire.
    pub source: Arc<str>,
    /// Counts how often the content began anew.
    pub generation: u32,
    /// Where it was found.
    pub found: Found,
}

#[cfg(test)]
mod tests;
