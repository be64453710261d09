//! The two seams between the query languages and what they read: [`LogSource`] and
//! [`SeriesSource`].
//!
//! The stores know best how to answer a scan (what is indexed, what is still in memory), so they
//! implement these traits; the engines push down what prunes and keep the rest for themselves. In
//! tests a plain `Vec` implements them and is the oracle.
//!
//! Both are synchronous and push their results: an engine runs on a thread of its own, never on a
//! runtime worker.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use regex::Regex;
use taffrail_model::time::Millis;
use taffrail_model::{Labels, Level, Matcher, Nanos, StreamEntries, TimeRange};

/// Why a source could not answer. The API turns each into one HTTP status.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The client has gone, or the deadline has passed.
    #[error("the query was cancelled: {0}")]
    Cancelled(String),
    /// The query needs more than its budget allows. The text says what to ask instead.
    #[error("{0}")]
    TooMuch(String),
    /// The store cannot read what it should hold.
    #[error("storage: {0}")]
    Storage(String),
}

/// Tells a running query to stop: set when its client goes or its deadline passes. Sources look at
/// it between blocks.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A query that goes on until it is told to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the query to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error once the query should stop.
    ///
    /// # Errors
    /// [`SourceError::Cancelled`] after [`Cancel::cancel`].
    pub fn check(&self) -> Result<(), SourceError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(SourceError::Cancelled("timeout, or the client went away".into()));
        }
        Ok(())
    }
}

/// In which order rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first: by (time, stream fingerprint, position).
    Forward,
    /// Newest first: exactly the reverse of [`Direction::Forward`].
    Backward,
}

/// A condition on the text of a line. All filters of a scan must hold (AND).
#[derive(Clone, Debug)]
pub enum LineFilter {
    /// The line contains one of these texts (`|= "a" or "b"`).
    Contains(Vec<String>),
    /// The line contains none of these texts (`!= "a" or "b"`).
    NotContains(Vec<String>),
    /// The line matches one of these expressions, unanchored.
    Matches(Vec<Regex>),
    /// The line matches none of these expressions.
    NotMatches(Vec<Regex>),
}

impl LineFilter {
    /// Whether a line passes.
    #[must_use]
    pub fn passes(&self, line: &str) -> bool {
        match self {
            Self::Contains(texts) => texts.iter().any(|t| contains(line, t)),
            Self::NotContains(texts) => !texts.iter().any(|t| contains(line, t)),
            Self::Matches(expressions) => expressions.iter().any(|r| r.is_match(line)),
            Self::NotMatches(expressions) => !expressions.iter().any(|r| r.is_match(line)),
        }
    }
}

fn contains(line: &str, text: &str) -> bool {
    memchr::memmem::find(line.as_bytes(), text.as_bytes()).is_some()
}

/// What an engine asks of a log store.
#[derive(Clone, Debug)]
pub struct LogScan {
    /// Conditions on the stream's labels; all must hold. May be empty: every stream.
    pub matchers: Vec<Matcher>,
    /// Time of the lines, half-open.
    pub range: TimeRange,
    /// Conditions on the text. The source applies them exactly: only rows that pass come out.
    pub filters: Vec<LineFilter>,
    /// The order of the rows over all streams together; `None`: any order, which is faster.
    pub order: Option<Direction>,
    /// The caller will stop after about so many rows. A hint to decode less at a time.
    pub limit: Option<usize>,
    /// Looked at between blocks.
    pub cancel: Cancel,
}

/// What an engine asks a log store to count.
#[derive(Clone, Debug)]
pub struct LogCount {
    /// Conditions on the stream's labels; all must hold.
    pub matchers: Vec<Matcher>,
    /// Conditions on the text; only lines that pass are counted.
    pub filters: Vec<LineFilter>,
    /// The ranges of time, sorted, not overlapping.
    pub ranges: Vec<TimeRange>,
    /// Whether lines of each level are counted apart.
    pub by_level: bool,
    /// Whether the bytes of the lines are added up too.
    pub bytes: bool,
    /// The count is of use only if no line of the streams in the ranges has structured metadata.
    pub only_plain: bool,
    /// Looked at between blocks.
    pub cancel: Cancel,
}

/// Lines counted in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The labels of the stream.
    pub labels: Labels,
    /// The level of the lines, when levels are counted apart.
    pub level: Option<Level>,
    /// How many lines there are in each range.
    pub lines: Vec<u64>,
    /// How many bytes they have in each range, without separators; empty if that was not asked.
    pub bytes: Vec<u64>,
}

/// One line as it lies in the store.
#[derive(Clone, Copy, Debug)]
pub struct LogRow<'a> {
    /// Nanoseconds since the epoch.
    pub ts: Nanos,
    /// The text.
    pub line: &'a str,
    /// Detected severity; the engine shows it as structured metadata `detected_level`, unless it is
    /// unknown.
    pub level: Level,
    /// Structured metadata, sorted by name.
    pub metadata: &'a [(&'a str, &'a str)],
}

/// What a scan has cost, for the user and for `stats` in answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Streams that the labels selected.
    pub streams: u64,
    /// Blocks that time and labels left over.
    pub blocks: u64,
    /// Blocks that had to be decompressed and looked at.
    pub blocks_scanned: u64,
    /// Uncompressed bytes of text looked at.
    pub bytes_scanned: u64,
    /// Lines looked at.
    pub lines_scanned: u64,
}

/// Receives the rows of a scan: the labels of the row's stream (the same `Arc` inside for all rows
/// of a stream) and the row. `Break` ends the scan early; that is no error.
pub type RowSink<'s> = dyn FnMut(&Labels, LogRow<'_>) -> ControlFlow<()> + 's;

/// A store of log lines.
pub trait LogSource: Send + Sync {
    /// Gives each line that satisfies `scan` to `sink`, once. A line is seen as soon as it was
    /// acknowledged.
    ///
    /// # Errors
    /// When cancelled, over budget, or the store cannot be read.
    fn scan(&self, scan: &LogScan, sink: &mut RowSink<'_>) -> Result<ScanStats, SourceError>;

    /// Counts lines by stream and range of time: from what is known of whole blocks where that is
    /// enough. `None` when the count has to leave out lines with metadata and there are some: then lines
    /// must be read.
    ///
    /// # Errors
    /// As [`LogSource::scan`].
    fn count(&self, count: &LogCount) -> Result<Option<Vec<Counted>>, SourceError>;

    /// The label sets of the streams that satisfy all matchers and have lines in `range` (or in the
    /// same block or day as it: a superset is allowed), sorted.
    ///
    /// # Errors
    /// As [`LogSource::scan`].
    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, SourceError>;

    /// Every batch of lines from now on, as it becomes visible. A receiver that falls behind is told
    /// how many batches it missed (`RecvError::Lagged`).
    fn subscribe(&self) -> tokio::sync::broadcast::Receiver<Arc<Vec<StreamEntries>>>;
}

/// What an engine asks of a metric store.
#[derive(Clone, Debug)]
pub struct SeriesSelect {
    /// Conditions on the labels, the metric name (`__name__`) among them; all must hold.
    pub matchers: Vec<Matcher>,
    /// First millisecond wanted.
    pub start: Millis,
    /// Last millisecond wanted, included.
    pub end: Millis,
    /// Looked at between series.
    pub cancel: Cancel,
}

/// Receives one series: its labels, its times in ascending order without duplicates, and as many
/// values (staleness markers among them). Series come in no particular order, each once.
pub type SeriesSink<'s> = dyn FnMut(&Labels, &[Millis], &[f64]) -> ControlFlow<()> + 's;

/// A store of metric series.
pub trait SeriesSource: Send + Sync {
    /// Gives each series that has a sample in the range to `sink`. A sample is seen as soon as it was
    /// acknowledged.
    ///
    /// # Errors
    /// When cancelled, over budget, or the store cannot be read.
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError>;

    /// The label sets of all series that satisfy the matchers and have (or may have) samples from
    /// `start` to `end`, sorted.
    ///
    /// # Errors
    /// As [`SeriesSource::select`].
    fn series(
        &self,
        matchers: &[Matcher],
        start: Millis,
        end: Millis,
    ) -> Result<Vec<Labels>, SourceError>;

    /// Declared type of each metric name that is known, for `/api/v1/metadata`.
    fn metadata(&self) -> BTreeMap<String, taffrail_model::MetricKind>;
}
