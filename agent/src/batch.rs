//! Lines with their file ranges on the way into one request.
//!
//! A [`Batch`] is the content of one OTLP `ExportLogsServiceRequest`: for each file the range of
//! bytes that it covers, for each stream of a file its records, already encoded. See
//! `taffrail_model::wire` for the rules.
//!
//! Invariants:
//! - Ranges of one file follow each other from batch to batch without gap or overlap.
//! - The records of a group (all records between two cuts, see [`crate::tail::join::Sink`]) and the positions that it
//!   moves are in the same batch, also after [`Batch::split`] and [`Batch::after`].
//! - A batch decodes with the generated OTLP code, whatever bytes the lines held.
//!
//! Pure: no I/O and no clock. `tail::reader` fills it, `ship` sends it.

mod builder;
mod codec;
mod cut;
mod gap;
mod proto;

use std::sync::Arc;

use taffrail_model::{Labels, wire};

use crate::tail::{FileNumber, LogStream};

pub use builder::{Builder, FileMeta, Taken};
pub(crate) use codec::{put_labels, take_labels};
pub use cut::Rest;
pub use gap::Loss;

/// The range of one file in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The reader's number of the file.
    pub file: FileNumber,
    /// Identity of the file.
    pub source: Arc<str>,
    /// Path, for people.
    pub path: Arc<str>,
    /// First byte.
    pub begin: u64,
    /// First byte after it.
    pub end: u64,
    /// Hash of the bytes before `end`; 0 when it is not known.
    pub check: u64,
}

/// One request in the making.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    spans: Vec<Span>,
    sections: Vec<Section>,
    /// Section and length of each record, in order.
    records: Vec<(u32, u32)>,
    /// Span and new end, in order.
    moves: Vec<(u32, u64)>,
    /// Ends of each group in `records` and `moves`.
    groups: Vec<(u32, u32)>,
    bytes: usize,
}

/// The records of one stream of one file.
#[derive(Clone, Debug)]
struct Section {
    span: u32,
    stream: LogStream,
    labels: Labels,
    encoded: Vec<u8>,
}

impl Batch {
    /// The ranges that the batch covers, each file once.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// How many lines there are.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.records.len()
    }

    /// How many bytes the records take before compression.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The request, uncompressed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes + self.sections.len() * 1024 + 64);
        let mut scope = Vec::new();
        proto::string(&mut scope, proto::SCOPE_NAME, wire::AGENT_SCOPE);
        for section in &self.sections {
            let resource = self.resource(section);
            let scope_logs = proto::message_len(scope.len()) + section.encoded.len();
            let len = proto::message_len(resource.len()) + proto::message_len(scope_logs);
            proto::message_head(&mut out, proto::REQUEST_RESOURCE_LOGS, len);
            proto::message(&mut out, proto::RESOURCE_LOGS_RESOURCE, &resource);
            proto::message_head(&mut out, proto::RESOURCE_LOGS_SCOPE_LOGS, scope_logs);
            proto::message(&mut out, proto::SCOPE_LOGS_SCOPE, &scope);
            out.extend_from_slice(&section.encoded);
        }
        out
    }

    fn resource(&self, section: &Section) -> Vec<u8> {
        const FIELD: u32 = proto::RESOURCE_ATTRIBUTES;
        let span = &self.spans[section.span as usize];
        let mut out = Vec::with_capacity(512);
        for (name, value) in section.labels.iter() {
            proto::string_attribute(&mut out, FIELD, name, value);
        }
        proto::string_attribute(&mut out, FIELD, wire::SOURCE, &span.source);
        proto::int_attribute(&mut out, FIELD, wire::BEGIN, span.begin);
        proto::int_attribute(&mut out, FIELD, wire::END, span.end);
        if span.check != 0 {
            proto::int_attribute(&mut out, FIELD, wire::CHECK, span.check);
        }
        proto::string_attribute(&mut out, FIELD, wire::FILE_PATH, &span.path);
        out
    }

    /// The batch without its records: it only moves the positions.
    #[must_use]
    pub fn hollow(mut self) -> Self {
        let mut seen = vec![false; self.spans.len()];
        self.sections.retain(|s| !std::mem::replace(&mut seen[s.span as usize], true));
        for section in &mut self.sections {
            section.encoded.clear();
        }
        self.records.clear();
        self.groups = vec![(0, self.moves.len() as u32)];
        self.bytes = 0;
        self
    }

    fn span_like(&mut self, like: &Span, begin: u64) -> u32 {
        if let Some(at) = self.spans.iter().position(|s| s.file == like.file) {
            return at as u32;
        }
        self.spans.push(Span { begin, end: begin, check: 0, ..like.clone() });
        self.spans.len() as u32 - 1
    }

    fn section(&mut self, span: u32, stream: LogStream, labels: &Labels) -> u32 {
        let known = self.sections.iter().position(|s| s.span == span && s.stream == stream);
        known.map_or_else(|| self.add_section(span, stream, labels), |at| at as u32)
    }

    fn add_section(&mut self, span: u32, stream: LogStream, labels: &Labels) -> u32 {
        self.sections.push(Section { span, stream, labels: labels.clone(), encoded: Vec::new() });
        self.sections.len() as u32 - 1
    }

    fn append(&mut self, section: u32, encoded: &[u8]) {
        self.sections[section as usize].encoded.extend_from_slice(encoded);
        self.records.push((section, encoded.len() as u32));
        self.bytes += encoded.len();
    }

    fn advance(&mut self, span: u32, end: u64) {
        self.spans[span as usize].end = end;
        self.moves.push((span, end));
    }

    /// A range without a record still needs its `ResourceLogs`, to move the position.
    fn give_each_span_a_section(&mut self, labels: impl Fn(&Span) -> Labels) {
        let mut has_section = vec![false; self.spans.len()];
        for section in &self.sections {
            has_section[section.span as usize] = true;
        }
        for span in (0..self.spans.len()).filter(|span| !has_section[*span]) {
            let labels = labels(&self.spans[span]);
            self.add_section(span as u32, LogStream::Stdout, &labels);
        }
    }
}

#[cfg(test)]
mod tests;
