//! A batch as the spool keeps it: its ranges, and apart from them its content.
//!
//! Not the request that is sent: a collector may have a part of it already, and only the groups tell
//! where it can be cut (see [`Batch::after`]).
//!
//! ```text
//! ranges   count, of each: source, path, begin, end, check (8 bytes)
//! content  sections: count, of each: range, stream, labels, encoded records
//!          groups:   count, of each: records (section, length), moves (range, end)
//! ```
//!
//! Numbers take seven bits a byte; texts and bytes stand behind their length; a list behind its count.
//!
//! Pure. Invariant: [`Batch::decode`] gives a batch that keeps all rules of one, or an error.

use std::sync::Arc;

use taffrail_model::{Labels, limits};

use super::{Batch, Section, Span};
use crate::spool::bytes::{Malformed, Take, put_bytes, put_number};
use crate::tail::{FileNumber, LogStream};

impl Batch {
    /// The ranges as bytes.
    #[must_use]
    pub fn encode_ranges(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, self.spans.len() as u64);
        for span in &self.spans {
            put_bytes(&mut out, span.source.as_bytes());
            put_bytes(&mut out, span.path.as_bytes());
            put_number(&mut out, span.begin);
            put_number(&mut out, span.end);
            out.extend_from_slice(&span.check.to_le_bytes());
        }
        out
    }

    /// All but the ranges as bytes.
    #[must_use]
    pub fn encode_content(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes + self.records.len() * 4 + 1024);
        put_number(&mut out, self.sections.len() as u64);
        for section in &self.sections {
            put_number(&mut out, u64::from(section.span));
            out.push(section.stream as u8);
            put_labels(&mut out, &section.labels);
            put_bytes(&mut out, &section.encoded);
        }
        put_number(&mut out, self.groups.len() as u64);
        let mut start = (0, 0);
        for stop in &self.groups {
            put_pairs(&mut out, &self.records[start.0 as usize..stop.0 as usize], u64::from);
            put_pairs(&mut out, &self.moves[start.1 as usize..stop.1 as usize], |end| end);
            start = *stop;
        }
        out
    }

    /// The ranges alone.
    ///
    /// # Errors
    /// When the bytes are not those of ranges.
    pub fn decode_ranges(bytes: &[u8]) -> Result<Vec<Span>, Malformed> {
        let mut take = Take::new(bytes);
        let mut spans = Vec::new();
        for number in 0..take.count("ranges")? {
            let span = Span {
                file: FileNumber(u32::try_from(number).map_err(|_| Malformed::of("ranges"))?),
                source: take.text("source")?.into(),
                path: take.text("path")?.into(),
                begin: take.number("begin")?,
                end: take.number("end")?,
                check: take.fixed("check")?,
            };
            if span.begin > span.end {
                return Err(Malformed::of("range"));
            }
            spans.push(span);
        }
        take.end("ranges")?;
        Ok(spans)
    }

    /// The whole batch. Its files have numbers of their own, which are not the reader's.
    ///
    /// # Errors
    /// When the bytes are not those of a batch.
    pub fn decode(ranges: &[u8], content: &[u8]) -> Result<Self, Malformed> {
        let mut batch = Self { spans: Self::decode_ranges(ranges)?, ..Self::default() };
        let mut take = Take::new(content);
        for _ in 0..take.count("sections")? {
            let span = take.small("range of a section")?;
            let stream = take_stream(&mut take)?;
            let labels = take_labels(&mut take)?;
            let encoded = take.bytes("records")?.to_vec();
            if span as usize >= batch.spans.len() {
                return Err(Malformed::of("range of a section"));
            }
            batch.bytes += encoded.len();
            batch.sections.push(Section { span, stream, labels, encoded });
        }
        for _ in 0..take.count("groups")? {
            for _ in 0..take.count("records of a group")? {
                let section = take.small("section of a record")?;
                batch.records.push((section, take.small("length of a record")?));
            }
            for _ in 0..take.count("moves of a group")? {
                let span = take.small("range of a move")?;
                batch.moves.push((span, take.number("end of a move")?));
            }
            let ends = (batch.records.len(), batch.moves.len());
            let end = |count| u32::try_from(count).map_err(|_| Malformed::of("groups"));
            batch.groups.push((end(ends.0)?, end(ends.1)?));
        }
        take.end("content")?;
        batch.check()?;
        Ok(batch)
    }

    /// That records and moves fit to the sections and the ranges.
    fn check(&self) -> Result<(), Malformed> {
        let mut left: Vec<usize> = self.sections.iter().map(|s| s.encoded.len()).collect();
        for (section, len) in &self.records {
            let left = left.get_mut(*section as usize).ok_or(Malformed::of("records"))?;
            *left = left.checked_sub(*len as usize).ok_or(Malformed::of("records"))?;
        }
        let mut at: Vec<u64> = self.spans.iter().map(|s| s.begin).collect();
        for (span, end) in &self.moves {
            let at = at.get_mut(*span as usize).ok_or(Malformed::of("moves"))?;
            if end < at {
                return Err(Malformed::of("moves"));
            }
            *at = *end;
        }
        let whole = left.iter().all(|bytes| *bytes == 0)
            && self.spans.iter().zip(at).all(|(span, at)| span.end == at);
        if whole { Ok(()) } else { Err(Malformed::of("batch")) }
    }
}

fn put_pairs<T: Copy>(out: &mut Vec<u8>, pairs: &[(u32, T)], number: impl Fn(T) -> u64) {
    put_number(out, pairs.len() as u64);
    for (index, value) in pairs {
        put_number(out, u64::from(*index));
        put_number(out, number(*value));
    }
}

/// Writes labels.
pub(crate) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_number(out, labels.len() as u64);
    for (name, value) in labels.iter() {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// Reads labels.
pub(crate) fn take_labels(take: &mut Take<'_>) -> Result<Labels, Malformed> {
    let count = take.count("labels")?;
    if count > limits::STREAM_LABELS_MAX {
        return Err(Malformed::of("labels"));
    }
    let mut pairs: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((take.text("label")?.into(), take.text("label")?.into()));
    }
    Ok(Labels::from_pairs(pairs))
}

fn take_stream(take: &mut Take<'_>) -> Result<LogStream, Malformed> {
    match take.raw(1, "stream")?[0] {
        0 => Ok(LogStream::Stdout),
        1 => Ok(LogStream::Stderr),
        2 => Ok(LogStream::File),
        _ => Err(Malformed::of("stream")),
    }
}
