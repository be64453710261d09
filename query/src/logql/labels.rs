//! The labels of one line while it goes through a pipeline: those of its stream, its structured
//! metadata, and what parsers and formatters add.
//!
//! One [`LineLabels`] serves all lines of a query: names and values lie one after the other in one
//! buffer that is emptied, not freed, between lines. A name that the stream has stays the stream's:
//! metadata and parsed values of that name go to `<name>_extracted`, and so do parsed values whose
//! name is metadata. The first value that a parser gives to a name stays.

use std::ops::Range;

use taffrail_model::{Labels, Level};

use crate::source::LogRow;

/// The name of the label that holds the detected severity.
pub const LEVEL_LABEL: &str = "detected_level";
/// The name under which a stage's error is seen.
pub const ERROR_LABEL: &str = "__error__";
/// The name under which the reason of a stage's error is seen.
pub const ERROR_DETAILS_LABEL: &str = "__error_details__";

const EXTRACTED: &str = "_extracted";

/// Where a label comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// The stream's.
    Stream,
    /// Structured metadata of the line.
    Metadata,
    /// A stage's.
    Parsed,
}

struct Slot {
    name: Range<usize>,
    value: Range<usize>,
    category: Category,
    /// Removed slots stay, so that a second parser does not bring the name back.
    live: bool,
    by_parser: bool,
}

/// The labels of the line at hand.
#[derive(Default)]
pub struct LineLabels {
    stream: Labels,
    text: String,
    slots: Vec<Slot>,
    /// Indexes of stream labels that are no longer there.
    gone: Vec<usize>,
    error: Option<&'static str>,
    details: String,
}

impl LineLabels {
    /// Labels of no line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a line: only the labels of its stream, its metadata and its level are there.
    pub fn begin(&mut self, stream: &Labels, row: &LogRow<'_>) {
        self.text.clear();
        self.slots.clear();
        self.gone.clear();
        self.error = None;
        self.details.clear();
        if !std::ptr::eq(self.stream.shared(), stream.shared()) {
            self.stream = stream.clone();
        }
        let mut has_level = row.level == Level::Unknown;
        for (name, value) in row.metadata {
            has_level |= *name == LEVEL_LABEL;
            self.add_metadata(name, value);
        }
        if !has_level {
            self.add_metadata(LEVEL_LABEL, row.level.name());
        }
    }

    fn add_metadata(&mut self, name: &str, value: &str) {
        let suffix = if self.stream.get(name).is_some() { EXTRACTED } else { "" };
        self.push(name, suffix, value, Category::Metadata, false);
    }

    /// The labels of the stream as they were.
    #[must_use]
    pub fn stream(&self) -> &Labels {
        &self.stream
    }

    /// Whether the labels are exactly those of the stream.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.gone.is_empty() && self.error.is_none() && !self.slots.iter().any(|slot| slot.live)
    }

    /// The value of a label; the two names of errors among them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        if name == ERROR_LABEL {
            return self.error;
        }
        if name == ERROR_DETAILS_LABEL {
            return self.error.map(|_| self.details.as_str());
        }
        if let Some(slot) = self.live(name) {
            return Some(&self.text[slot.value.clone()]);
        }
        let value = self.stream.get(name)?;
        (self.gone.is_empty() || !self.gone.contains(&self.stream_index(name)?)).then_some(value)
    }

    fn live(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.live && &self.text[slot.name.clone()] == name)
    }

    fn stream_index(&self, name: &str) -> Option<usize> {
        self.stream.shared().binary_search_by(|(n, _)| (**n).cmp(name)).ok()
    }

    /// Sets a label, as a formatter does: whatever had the name before is replaced.
    pub fn set(&mut self, name: &str, value: &str) {
        self.forget(name);
        self.push(name, "", value, Category::Parsed, false);
    }

    /// Sets a label that a parser found, under the rules of the module for names that clash.
    pub fn set_parsed(&mut self, name: &str, value: &str) {
        let clash = self.stream.get(name).is_some()
            || self.live(name).is_some_and(|slot| slot.category == Category::Metadata);
        let suffix = if clash { EXTRACTED } else { "" };
        let is_it = |text: &str| text.strip_suffix(suffix) == Some(name);
        let mut replaced = None;
        for (at, slot) in self.slots.iter().enumerate() {
            if is_it(&self.text[slot.name.clone()]) {
                if slot.by_parser {
                    return;
                }
                replaced = Some(at);
            }
        }
        if let Some(at) = replaced {
            self.slots[at].live = false;
        }
        self.push(name, suffix, value, Category::Parsed, true);
    }

    fn push(&mut self, name: &str, suffix: &str, value: &str, category: Category, by_parser: bool) {
        let start = self.text.len();
        self.text.push_str(name);
        self.text.push_str(suffix);
        let middle = self.text.len();
        self.text.push_str(value);
        let (name, value) = (start..middle, middle..self.text.len());
        self.slots.push(Slot { name, value, category, live: true, by_parser });
    }

    fn forget(&mut self, name: &str) {
        for slot in &mut self.slots {
            if slot.live && &self.text[slot.name.clone()] == name {
                slot.live = false;
            }
        }
    }

    /// Removes a label; `__error__` too.
    pub fn remove(&mut self, name: &str) {
        match name {
            ERROR_LABEL => self.error = None,
            ERROR_DETAILS_LABEL => self.details.clear(),
            _ => {
                self.forget(name);
                if let Some(at) = self.stream_index(name)
                    && !self.gone.contains(&at)
                {
                    self.gone.push(at);
                }
            }
        }
    }

    /// Keeps the labels that satisfy `keep`; errors stay.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        for (at, (name, value)) in self.stream.iter().enumerate() {
            if !keep(name, value) && !self.gone.contains(&at) {
                self.gone.push(at);
            }
        }
        for slot in &mut self.slots {
            let (name, value) = (&self.text[slot.name.clone()], &self.text[slot.value.clone()]);
            slot.live &= keep(name, value);
        }
    }

    /// The error of an earlier stage.
    #[must_use]
    pub fn error(&self) -> Option<&'static str> {
        self.error
    }

    /// Marks the line as one that a stage could not read.
    pub fn set_error(&mut self, error: &'static str, details: &str) {
        self.error = Some(error);
        self.details.clear();
        self.details.push_str(details);
    }

    /// Gives every label with where it comes from: the stream's in order, then the others as they
    /// came, then the error.
    pub fn each<'s>(&'s self, mut sink: impl FnMut(&'s str, &'s str, Category)) {
        for (at, (name, value)) in self.stream.iter().enumerate() {
            let hidden = self.gone.contains(&at) || self.live(name).is_some();
            if !hidden {
                sink(name, value, Category::Stream);
            }
        }
        for slot in self.slots.iter().filter(|slot| slot.live) {
            sink(&self.text[slot.name.clone()], &self.text[slot.value.clone()], slot.category);
        }
        if let Some(error) = self.error {
            sink(ERROR_LABEL, error, Category::Parsed);
            if !self.details.is_empty() {
                sink(ERROR_DETAILS_LABEL, &self.details, Category::Parsed);
            }
        }
    }

    /// All labels, sorted by name.
    pub fn sorted<'s>(&'s self, out: &mut Vec<(&'s str, &'s str)>) {
        out.clear();
        self.each(|name, value, _| out.push((name, value)));
        out.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(stream: &[(&str, &str)], metadata: &[(&str, &str)]) -> LineLabels {
        let mut labels = LineLabels::new();
        let row = LogRow { ts: 0, line: "", level: Level::Unknown, metadata };
        labels.begin(&Labels::from_pairs(stream.iter().copied()), &row);
        labels
    }

    fn text(labels: &LineLabels) -> String {
        let mut pairs = Vec::new();
        labels.sorted(&mut pairs);
        pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_that_clash() {
        let mut labels = begin(
            &[("sm", "s"), ("sp", "s"), ("tri", "s")],
            &[("mp", "m"), ("sm", "m"), ("tri", "m")],
        );
        for name in ["sp", "mp", "tri"] {
            labels.set_parsed(name, "p");
            labels.set_parsed(name, "late");
        }
        let expected =
            "mp=m mp_extracted=p sm=s sm_extracted=m sp=s sp_extracted=p tri=s tri_extracted=p";
        assert_eq!(text(&labels), expected);
    }

    #[test]
    fn set_remove_retain() {
        let mut labels = begin(&[("a", "1"), ("b", "2")], &[("m", "3")]);
        assert!(!labels.is_plain());
        labels.set("a", "new");
        labels.set("a", "");
        assert_eq!(text(&labels), "a= b=2 m=3");
        labels.remove("a");
        assert_eq!((labels.get("a"), labels.get("b")), (None, Some("2")));
        labels.set_error("JSONParserErr", "why");
        labels.retain(|name, _| name == "m");
        assert_eq!(text(&labels), "__error__=JSONParserErr __error_details__=why m=3");
        labels.remove(ERROR_LABEL);
        labels.remove("m");
        assert_eq!(text(&labels), "");
    }

    #[test]
    fn the_level_is_metadata() {
        let mut labels = LineLabels::new();
        let row = LogRow { ts: 0, line: "", level: Level::Error, metadata: &[] };
        labels.begin(&Labels::from_pairs([("a", "1")]), &row);
        assert_eq!(labels.get(LEVEL_LABEL), Some("error"));
    }
}
