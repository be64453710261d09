//! A part of a batch: one half of it, or what a collector does not have yet.
//!
//! Invariant: a part holds whole groups, so the records of a group and the positions that it moves
//! stay together.
//!
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;

use taffrail_model::record::Position;
use taffrail_model::{Labels, Nanos};

use super::{Batch, Span, gap};

/// What [`Batch::after`] leaves of a batch.
#[derive(Debug, Default)]
pub struct Rest {
    /// What is to be sent; none: the collector has it all.
    pub batch: Option<Batch>,
    /// Bytes before the batch that the collector does not have, and nobody else has either.
    pub lost: u64,
}

impl Batch {
    /// Two batches that, sent one after the other, do what this one does. `Err` gives the batch back
    /// when it is a single group.
    ///
    /// The ranges of the first have no check: the place of the cut was not foreseen.
    ///
    /// # Errors
    /// The batch itself, when there is nothing to split.
    pub fn split(self) -> Result<(Self, Self), Box<Self>> {
        if self.groups.len() < 2 {
            return Err(Box::new(self));
        }
        let half = self.groups.len() / 2;
        let first = self.pick(|group, _| group < half);
        let second = self.pick(|group, _| group >= half);
        Ok((first, second))
    }

    /// What continues these committed positions, of those of its files that are in conflict. Groups that are committed are
    /// left out; where the batch begins behind what is committed, a record says what is missing.
    #[must_use]
    pub fn after(self, committed: &[Position], now: Nanos) -> Rest {
        let told = |source: &str| committed.iter().find(|p| p.source == source);
        let known: Vec<Option<u64>> =
            self.spans.iter().map(|s| told(&s.source).map(|p| p.committed)).collect();
        // A group is committed whole: of its files those that are told decide. One that is not told
        // is committed up to its end, or not at all.
        let is_new = |moves: &[(u32, u64)]| {
            let mut told = moves
                .iter()
                .filter_map(|(span, end)| Some(*end > known[*span as usize]?))
                .peekable();
            told.peek().is_none() || told.any(|new| new)
        };
        let mut rest = self.pick(|_, moves| is_new(moves));
        if rest.groups.is_empty() {
            return Rest::default();
        }
        let mut lost = 0;
        let mut at_end: HashMap<Arc<str>, u64> = HashMap::new();
        for at in 0..rest.spans.len() {
            let span = &mut rest.spans[at];
            let Some(Position { committed: known, check, .. }) = told(&span.source) else {
                continue;
            };
            // A file may have two ranges: what is lost of it, and what follows.
            let known = *at_end.get(&span.source).unwrap_or(known);
            let missing = span.begin.saturating_sub(known);
            span.begin = known;
            if span.end < known {
                (span.end, span.check) = (known, *check);
            }
            at_end.insert(span.source.clone(), span.end);
            if missing > 0 {
                lost += missing;
                rest.prepend_gap(at as u32, missing, now);
            }
        }
        Rest { batch: Some(rest), lost }
    }

    /// A record in front of all others that says what is missing of a file.
    fn prepend_gap(&mut self, span: u32, bytes: u64, now: Nanos) {
        let mut encoded = Vec::new();
        let path = self.spans[span as usize].path.clone();
        gap::encode(&mut encoded, &path, bytes, gap::Loss::Spool, now);
        let section = self.sections.iter_mut().position(|s| s.span == span);
        let section = section.expect("each range has a section");
        self.sections[section].encoded.splice(0..0, encoded.iter().copied());
        self.records.insert(0, (section as u32, encoded.len() as u32));
        self.groups.iter_mut().for_each(|group| group.0 += 1);
        self.bytes += encoded.len();
    }

    /// Copies those groups for which `keep` says so, with the ranges and sections that they need.
    fn pick(&self, keep: impl Fn(usize, &[(u32, u64)]) -> bool) -> Self {
        let mut part = Self::default();
        // Where each range and each section stands before the group.
        let mut begins: Vec<u64> = self.spans.iter().map(|s| s.begin).collect();
        let mut read = vec![0_usize; self.sections.len()];
        let mut start = (0_u32, 0_u32);
        for (group, stop) in self.groups.iter().enumerate() {
            let records = &self.records[start.0 as usize..stop.0 as usize];
            let moves = &self.moves[start.1 as usize..stop.1 as usize];
            start = *stop;
            let kept = keep(group, moves);
            for (section, len) in records {
                let source = &self.sections[*section as usize];
                let offset = read[*section as usize];
                read[*section as usize] += *len as usize;
                if kept {
                    let span = source.span as usize;
                    let here = part.span_like(&self.spans[span], begins[span]);
                    let here = part.section(here, source.stream, &source.labels);
                    part.append(here, &source.encoded[offset..offset + *len as usize]);
                }
            }
            for (span, end) in moves {
                let at = *span as usize;
                if kept {
                    let here = part.span_like(&self.spans[at], begins[at]);
                    part.advance(here, *end);
                }
                begins[at] = *end;
            }
            if kept {
                part.groups.push((part.records.len() as u32, part.moves.len() as u32));
            }
        }
        let whole = |span: &Span| self.spans.iter().find(|s| s.file == span.file);
        for span in &mut part.spans {
            span.check = whole(span).filter(|s| s.end == span.end).map_or(0, |s| s.check);
        }
        part.give_each_span_a_section(|span| {
            let of_file = |s: &&super::Section| self.spans[s.span as usize].file == span.file;
            self.sections.iter().find(of_file).map_or_else(Labels::default, |s| s.labels.clone())
        });
        part
    }
}
