//! What is done with the lines of one container: the outcome of settings and annotations.

use std::sync::{Arc, LazyLock};

use regex::bytes::Regex;

use super::drops::{Rate, Sample};
use super::recognise::Parser;
use super::redact::Redactor;
use super::trace::Languages;

/// Which lines become one record.
#[derive(Clone, Debug)]
pub enum Multiline {
    /// Each its own.
    Off,
    /// Stack traces of these languages.
    Traces(Languages),
    /// Everything from a line that matches up to the next that does.
    Start(Regex),
}

/// Which time a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOf {
    /// That of the runtime; of a file: that of its reading.
    Runtime,
    /// That which the line itself tells, if it does.
    Line,
}

/// What is done with the lines of one container.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Nothing of it is kept.
    pub exclude: bool,
    /// Which streams are kept, by [`crate::tail::LogStream`].
    pub streams: [bool; 3],
    /// Which lines become one record.
    pub multiline: Multiline,
    /// How a line is read.
    pub parser: Parser,
    /// Which time a record has.
    pub time: TimeOf,
    /// What part of the records is kept.
    pub sample: Option<Sample>,
    /// How many records are kept.
    pub rate: Option<Rate>,
    /// What is taken out of the text.
    pub redactor: Arc<Redactor>,
    /// What is taken out instead while the pod, and so its annotations, are not known.
    pub unknown: Arc<Redactor>,
    /// Structured metadata of every record: names and values.
    pub fields: Vec<(&'static str, String)>,
}

impl Rules {
    /// Whether anything is looked for in a line.
    #[must_use]
    pub fn reads_lines(&self) -> bool {
        self.parser != Parser::None
    }
}

/// What is done where nothing else is said.
impl Default for Rules {
    fn default() -> Self {
        Self {
            exclude: false,
            streams: [true; 3],
            multiline: Multiline::Traces(Languages::ALL),
            parser: Parser::Auto,
            time: TimeOf::Runtime,
            sample: None,
            rate: None,
            redactor: Arc::default(),
            unknown: Arc::default(),
            fields: Vec::new(),
        }
    }
}

/// The rules of containers without a word about them.
pub(super) fn usual() -> Arc<Rules> {
    static USUAL: LazyLock<Arc<Rules>> = LazyLock::new(Arc::default);
    USUAL.clone()
}
