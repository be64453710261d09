//! Takes the records of all files and closes one batch after the other.
//!
//! Invariant: a file's range in a batch begins where its range in the batch before ended, or at what
//! is committed after [`Builder::rewind`].
//!
//! Pure: the time of reading is handed in by [`Builder::observe`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use taffrail_model::{Labels, Nanos, limits, wire};

use super::{Batch, Loss, Span, gap, proto};
use crate::tail::join::{Marks, Record, Sink};
use crate::tail::{FileNumber, LogStream, level};

/// What a batch says of the file that a range belongs to.
#[derive(Clone, Debug)]
pub struct FileMeta {
    /// Identity of the file.
    pub source: Arc<str>,
    /// Path, for people.
    pub path: Arc<str>,
    /// Labels of the file's streams, by [`LogStream`].
    pub labels: [Labels; 3],
    /// Everything before this offset is in an earlier batch or in this one.
    pub released: u64,
}

/// Fills one batch after the other.
#[derive(Debug, Default)]
pub struct Builder {
    files: HashMap<FileNumber, FileMeta>,
    batch: Batch,
    spans: HashMap<FileNumber, u32>,
    sections: HashMap<(FileNumber, LogStream), u32>,
    /// The section of the last record: nearly always that of the next one too.
    last: Option<(FileNumber, LogStream, u32)>,
    observed: Nanos,
    attributes: Vec<u8>,
    serial: u64,
    /// Lines and bytes of text taken since the process began.
    taken: Taken,
}

/// What a [`Builder`] has taken in so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Lines.
    pub lines: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Lines cut at the limit.
    pub cut: u64,
    /// Lines whose end never came.
    pub partial: u64,
    /// Lines not in the format of their file.
    pub raw: u64,
}

impl Builder {
    /// Tells what a file is. Before its first record and again when its labels change.
    pub fn declare(&mut self, file: FileNumber, meta: FileMeta) {
        self.files.insert(file, meta);
    }

    /// Changes the labels that the next batch gives to a file's streams.
    pub fn relabel(&mut self, file: FileNumber, labels: [Labels; 3]) {
        if let Some(meta) = self.files.get_mut(&file) {
            meta.labels = labels;
        }
    }

    /// The labels of a file's streams, by [`LogStream`].
    #[must_use]
    pub fn labels(&self, file: FileNumber) -> Option<&[Labels; 3]> {
        self.files.get(&file).map(|f| &f.labels)
    }

    /// Forgets a file of which nothing more will come.
    pub fn forget(&mut self, file: FileNumber) {
        self.files.remove(&file);
    }

    /// Up to where a file is in this batch or an earlier one.
    #[must_use]
    pub fn released(&self, file: FileNumber) -> Option<u64> {
        self.files.get(&file).map(|f| f.released)
    }

    /// The time that is given to the next records as that of their reading.
    pub fn observe(&mut self, now: Nanos) {
        self.observed = now;
    }

    /// Counts up with each batch: when it differs, labels should be looked up again.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Puts in a record of what is lost of a file from where it stands up to `end`.
    pub fn gap(&mut self, file: FileNumber, stream: LogStream, end: u64, loss: Loss) {
        let Some(meta) = self.files.get(&file) else { return };
        let (path, bytes) = (meta.path.clone(), end.saturating_sub(meta.released));
        let Some(section) = self.section(file, stream) else { return };
        let encoded = &mut self.batch.sections[section as usize].encoded;
        let before = encoded.len();
        gap::encode(encoded, &path, bytes, loss, self.observed);
        let len = encoded.len() - before;
        self.batch.records.push((section, len as u32));
        self.batch.bytes += len;
        self.cut(&[(file, end)]);
    }

    /// What was taken in so far.
    #[must_use]
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// How many bytes wait in the batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // Positions that move without a record cost something too.
        self.batch.bytes + self.batch.moves.len() * 16
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.groups.is_empty()
    }

    /// Throws the open batch away and sets the position of every file anew; a file without one is
    /// forgotten.
    pub fn rewind(&mut self, mut committed: impl FnMut(FileNumber) -> Option<u64>) {
        self.clear();
        self.files.retain(|file, meta| {
            let position = committed(*file);
            meta.released = position.unwrap_or_default();
            position.is_some()
        });
    }

    /// Takes the batch, if there is one, and asks for the check of each range's end.
    pub fn finish(&mut self, mut check: impl FnMut(FileNumber, u64) -> u64) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        let mut batch = self.clear();
        batch.give_each_span_a_section(|span| {
            let labels = self.files.get(&span.file).map(|f| &f.labels);
            let some = labels.and_then(|l| l.iter().find(|l| !l.is_empty()));
            some.cloned().unwrap_or_default()
        });
        for span in &mut batch.spans {
            span.check = check(span.file, span.end);
        }
        Some(batch)
    }

    fn clear(&mut self) -> Batch {
        self.spans.clear();
        self.sections.clear();
        self.last = None;
        self.serial += 1;
        std::mem::take(&mut self.batch)
    }

    fn span(&mut self, file: FileNumber) -> Option<u32> {
        if let Some(span) = self.spans.get(&file) {
            return Some(*span);
        }
        let meta = self.files.get(&file)?;
        let FileMeta { source, path, released, .. } = meta;
        let span = self.batch.spans.len() as u32;
        self.batch.spans.push(Span {
            file,
            source: source.clone(),
            path: path.clone(),
            begin: *released,
            end: *released,
            check: 0,
        });
        self.spans.insert(file, span);
        Some(span)
    }

    fn section(&mut self, file: FileNumber, stream: LogStream) -> Option<u32> {
        if let Some((last_file, last_stream, section)) = self.last
            && last_file == file
            && last_stream == stream
        {
            return Some(section);
        }
        let section = match self.sections.get(&(file, stream)) {
            Some(section) => *section,
            None => {
                let span = self.span(file)?;
                let labels = self.files.get(&file)?.labels[stream as usize].clone();
                let section = self.batch.add_section(span, stream, &labels);
                self.sections.insert((file, stream), section);
                section
            }
        };
        self.last = Some((file, stream, section));
        Some(section)
    }

    fn count(&mut self, record: &Record<'_>) {
        self.taken.lines += 1;
        self.taken.bytes += record.text.len() as u64;
        self.taken.cut += u64::from(record.marks.cut.is_some());
        self.taken.partial += u64::from(record.marks.partial);
        self.taken.raw += u64::from(record.marks.raw);
    }
}

impl Sink for Builder {
    fn record(&mut self, file: FileNumber, record: Record<'_>) {
        let Some(section) = self.section(file, record.stream) else {
            debug_assert!(false, "a file is declared before its first record");
            return;
        };
        let body = match std::str::from_utf8(record.text) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(record.text),
        };
        let (body, marks) = fit(&body, record);
        let record = Record { marks, ..record };
        self.count(&record);
        encode_marks(&mut self.attributes, marks);
        let head = proto::RecordHead {
            time: u64::try_from(record.ts).unwrap_or(0),
            observed: u64::try_from(self.observed).unwrap_or(0),
            severity: u64::try_from(level::detect(record.text).otlp_number()).unwrap_or(0),
            body,
        };
        let encoded = &mut self.batch.sections[section as usize].encoded;
        let before = encoded.len();
        proto::log_record(encoded, &head, &self.attributes);
        let len = encoded.len() - before;
        self.batch.records.push((section, len as u32));
        self.batch.bytes += len;
    }

    fn cut(&mut self, moves: &[(FileNumber, u64)]) {
        for (file, end) in moves {
            let Some(span) = self.span(*file) else { continue };
            self.batch.advance(span, *end);
            if let Some(meta) = self.files.get_mut(file) {
                meta.released = *end;
            }
        }
        self.batch.groups.push((self.batch.records.len() as u32, self.batch.moves.len() as u32));
    }
}

/// Bytes that are not UTF-8 take up to three times their room as text: what is then over the limit of
/// the wire is cut, since a collector refuses longer lines.
fn fit<'a>(body: &'a str, record: Record<'_>) -> (&'a str, Marks) {
    if body.len() <= limits::LINE_BYTES_MAX {
        return (body, record.marks);
    }
    let len = record.marks.cut.unwrap_or(record.text.len() as u64);
    let kept = &body[..body.floor_char_boundary(limits::LINE_BYTES_MAX)];
    (kept, Marks { cut: Some(len), ..record.marks })
}

fn encode_marks(out: &mut Vec<u8>, marks: Marks) {
    const FIELD: u32 = proto::RECORD_ATTRIBUTES;
    out.clear();
    if let Some(len) = marks.cut {
        proto::string_attribute(out, FIELD, wire::META_CUT, &len.to_string());
    }
    if marks.partial {
        proto::string_attribute(out, FIELD, wire::META_PARTIAL, "true");
    }
    if marks.raw {
        proto::string_attribute(out, FIELD, wire::META_RAW, "true");
    }
}
