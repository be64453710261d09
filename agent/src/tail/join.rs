//! Joins the pieces of a container's long lines, each output (stdout, stderr) for itself, across the
//! files of one container.
//!
//! Invariants:
//! - Nothing is lost to a parse error: a line that is neither CRI nor docker's JSON comes out as it
//!   is, marked raw, with the time of reading.
//! - A joined line is at most `line_max` bytes long; what is over is dropped and the line says so.
//! - A [`Sink::cut`] never passes the first byte of a line that is still open, so an agent that
//!   starts again there reads that line again, whole. Lines that end behind an open line of the
//!   other output wait for it, so that they do not come twice.
//! - What waits is bounded: beyond `hold_max` bytes or `hold_time` the open line comes out as it is,
//!   marked partial.
//!
//! Pure: no I/O and no clock. `tail::lines` cuts the bytes, `batch` takes the records.

use taffrail_model::{Level, Nanos};

use super::cri::{self, Piece};
use super::lines::RawLine;
use super::{FileNumber, LogStream};

/// One finished line on its way into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it came from.
    pub stream: LogStream,
    /// When it was written (or read, when the line does not say).
    pub ts: Nanos,
    /// The bytes, not checked to be UTF-8.
    pub text: &'a [u8],
    /// What the reader has to say about it.
    pub marks: Marks,
}

/// What was odd about a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The line was longer than the limit: its length in bytes before the cut.
    pub cut: Option<u64>,
    /// The end of the line never came.
    pub partial: bool,
    /// The line was not in the format of its file.
    pub raw: bool,
}

/// What was found out about a record beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meaning<'a> {
    /// Its severity.
    pub level: Level,
    /// Structured metadata: names and values.
    pub fields: &'a [(&'a str, &'a str)],
}

/// Takes what a [`Joiner`] gives.
pub trait Sink {
    /// A finished line, found in `file`.
    fn record(&mut self, file: FileNumber, record: Record<'_>);
    /// Likewise, when it is already known what the record means.
    fn meant(&mut self, file: FileNumber, record: Record<'_>, meaning: Meaning<'_>) {
        let _ = meaning;
        self.record(file, record);
    }
    /// More than one record follows before the next cut.
    fn several(&mut self) {}
    /// All records since the last cut belong together with these new positions: a batch holds all
    /// of them or none.
    fn cut(&mut self, moves: &[(FileNumber, u64)]);
}

/// How the lines of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// By a container runtime: CRI or docker's JSON, told apart line by line.
    Container,
    /// By the program itself: a line is a line.
    Plain,
}

/// What bounds a [`Joiner`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest joined line, in bytes.
    pub line_max: usize,
    /// Most bytes that wait behind an open line of the other output.
    pub hold_max: usize,
}

/// The open lines of one container.
#[derive(Debug)]
pub struct Joiner {
    bounds: Bounds,
    open: [Option<Open>; 2],
    held: Vec<Held>,
    held_bytes: usize,
    /// Counts up each time that lines begin to wait.
    holds: u64,
    moves: Vec<(FileNumber, u64)>,
}

#[derive(Debug)]
struct Open {
    /// Of the first piece.
    ts: Nanos,
    text: Vec<u8>,
    /// Bytes of the line so far, kept or not.
    len: u64,
}

#[derive(Debug)]
struct Held {
    file: FileNumber,
    stream: LogStream,
    ts: Nanos,
    text: Vec<u8>,
    marks: Marks,
}

impl Joiner {
    /// Without an open line.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            open: [None, None],
            held: Vec::new(),
            held_bytes: 0,
            holds: 0,
            moves: Vec::new(),
        }
    }

    /// What bounds it.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether a line is open: its end is not yet read.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.iter().any(Option::is_some)
    }

    /// Takes one line of `file`, read at `now`.
    pub fn push(
        &mut self,
        file: FileNumber,
        format: Format,
        line: RawLine<'_>,
        now: Nanos,
        sink: &mut impl Sink,
    ) {
        let piece = match format {
            Format::Container => cri::parse(line.text),
            Format::Plain => None,
        };
        match piece {
            Some(piece) => self.take(file, &piece, line.dropped, sink),
            None => self.whole(file, unparsed(format, line, self.bounds.line_max, now), sink),
        }
        self.advance(file, line.end, sink);
        if self.held_bytes > self.bounds.hold_max {
            self.give_up(sink);
        }
    }

    /// Whether whole lines wait for an open one: another number each time that some begin to. The clock
    /// by which they wait is the caller's: that of the day may step.
    #[must_use]
    pub fn holds(&self) -> Option<u64> {
        (!self.held.is_empty()).then_some(self.holds)
    }

    /// Gives out the open lines as they are: their ends will not come.
    pub fn give_up(&mut self, sink: &mut impl Sink) {
        // They go with the file that was read last: its position moves, so a collector that has
        // the lines knows it by the range.
        let Some((file, _)) = self.moves.last().copied() else { return };
        for (at, stream) in [LogStream::Stdout, LogStream::Stderr].into_iter().enumerate() {
            let Some(open) = self.open[at].take() else { continue };
            let marks = Marks { partial: true, ..open.marks() };
            self.held.push(Held { file, stream, ts: open.ts, text: open.text, marks });
        }
        self.release(sink);
    }

    /// Forgets everything: the files are read again from their committed positions.
    pub fn clear(&mut self) {
        *self = Self { holds: self.holds, ..Self::new(self.bounds) };
    }

    fn take(&mut self, file: FileNumber, piece: &Piece<'_>, dropped: u64, sink: &mut impl Sink) {
        let at = usize::from(piece.stream == LogStream::Stderr);
        let line_max = self.bounds.line_max;
        if piece.partial {
            let open = self.open[at].get_or_insert_with(|| Open::new(piece.ts));
            open.append(&piece.text, dropped, line_max);
        } else if let Some(mut open) = self.open[at].take() {
            open.append(&piece.text, dropped, line_max);
            let record =
                Record { stream: piece.stream, ts: open.ts, text: &open.text, marks: open.marks() };
            self.whole(file, record, sink);
        } else {
            let (text, marks) = shorten(&piece.text, dropped, line_max);
            let record = Record { stream: piece.stream, ts: piece.ts, text, marks };
            self.whole(file, record, sink);
        }
    }

    /// A finished line: it goes on at once unless it must wait for an open one.
    fn whole(&mut self, file: FileNumber, record: Record<'_>, sink: &mut impl Sink) {
        if self.held.is_empty() && !self.is_open() {
            sink.record(file, record);
            return;
        }
        self.holds += u64::from(self.held.is_empty());
        let Record { stream, ts, text, marks } = record;
        self.held_bytes += text.len() + size_of::<Held>();
        self.held.push(Held { file, stream, ts, text: text.to_vec(), marks });
    }

    fn advance(&mut self, file: FileNumber, end: u64, sink: &mut impl Sink) {
        if !self.is_open() && self.held.is_empty() && self.moves.is_empty() {
            sink.cut(&[(file, end)]);
            return;
        }
        match self.moves.iter_mut().find(|(f, _)| *f == file) {
            Some(known) => known.1 = end,
            None => self.moves.push((file, end)),
        }
        if !self.is_open() {
            self.release(sink);
        }
    }

    fn release(&mut self, sink: &mut impl Sink) {
        if self.held.len() > 1 {
            sink.several();
        }
        for held in self.held.drain(..) {
            let Held { file, stream, ts, text, marks } = &held;
            sink.record(*file, Record { stream: *stream, ts: *ts, text, marks: *marks });
        }
        self.held_bytes = 0;
        if !self.moves.is_empty() {
            sink.cut(&self.moves);
            self.moves.clear();
        }
    }
}

impl Open {
    fn new(ts: Nanos) -> Self {
        Self { ts, text: Vec::new(), len: 0 }
    }

    fn append(&mut self, text: &[u8], dropped: u64, line_max: usize) {
        // Once bytes were dropped in the middle nothing may follow them.
        let room = if self.len == self.text.len() as u64 { line_max - self.text.len() } else { 0 };
        let kept = if text.len() > room { cut_between_characters(text, room) } else { text };
        self.text.extend_from_slice(kept);
        self.len += text.len() as u64 + dropped;
    }

    fn marks(&self) -> Marks {
        let cut = (self.len > self.text.len() as u64).then_some(self.len);
        Marks { cut, ..Marks::default() }
    }
}

/// A line that has no header that could be understood.
fn unparsed<'a>(format: Format, line: RawLine<'a>, line_max: usize, now: Nanos) -> Record<'a> {
    let (text, marks) = shorten(line.text, line.dropped, line_max);
    let (stream, raw) = match format {
        Format::Container => (LogStream::Stdout, true),
        Format::Plain => (LogStream::File, false),
    };
    Record { stream, ts: now, text, marks: Marks { raw, ..marks } }
}

fn shorten(text: &[u8], dropped: u64, line_max: usize) -> (&[u8], Marks) {
    let kept = if text.len() > line_max || dropped > 0 {
        cut_between_characters(text, text.len().min(line_max))
    } else {
        text
    };
    let len = text.len() as u64 + dropped;
    let cut = (len > kept.len() as u64).then_some(len);
    (kept, Marks { cut, ..Marks::default() })
}

/// The first `max` bytes, or up to three fewer, so that no character of UTF-8 is cut in two.
fn cut_between_characters(text: &[u8], max: usize) -> &[u8] {
    let head = &text[..max.min(text.len())];
    let start = head.len().saturating_sub(3);
    // The last byte that begins a character, if it is near, tells how long that character is.
    let Some(last) = head[start..].iter().rposition(|b| b & 0xC0 != 0x80) else { return head };
    let (last, lead) = (start + last, head[start + last]);
    let len = match lead {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    };
    if last + len > head.len() { &head[..last] } else { head }
}

#[cfg(test)]
mod tests;
