//! Log lines on their way from a file to the store.

use crate::{Labels, Level, Nanos};

/// One log line (or one joined stack trace) with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Time of the event, nanoseconds since the epoch.
    pub ts: Nanos,
    /// The text, without its final newline. Bytes that were not UTF-8 have become U+FFFD.
    pub line: String,
    /// Detected severity.
    pub level: Level,
    /// Structured metadata of this line (trace id, flags of the reader, …), sorted by name, without
    /// `detected_level`, which is [`LogEntry::level`].
    pub metadata: Vec<(String, String)>,
}

/// Consecutive lines of one stream, in the order in which they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntries {
    /// The labels of the stream.
    pub labels: Labels,
    /// The lines.
    pub entries: Vec<LogEntry>,
}

/// A range of bytes of one file that a batch covers, whole: every line in it is in the batch, was
/// in an earlier one, or was left out on purpose.
///
/// The collector commits `end` in the same write-ahead record as the lines. It accepts a range only
/// if `begin` is the position that it has committed for the file (or `origin`, when it knows
/// nothing of the file). That makes delivery exactly-once: a repeated range is recognised, a gap is
/// refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRange {
    /// Identity of the file, chosen by the agent; opaque to the collector. It survives renames and
    /// is not used again for another file.
    pub source: String,
    /// First byte of the range.
    pub begin: u64,
    /// First byte after the range.
    pub end: u64,
    /// Where reading of this file began. 0, unless the agent was told to start elsewhere.
    pub origin: u64,
    /// Hash of the file's bytes just before `end`, chosen by the agent and given back to it with
    /// the position, so that it can tell whether the file is still the one it was.
    pub check: u64,
}

/// What the collector knows of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Identity of the file, as in [`SourceRange::source`].
    pub source: String,
    /// Every byte before this one is in the store.
    pub committed: u64,
    /// The `check` of the range that ended here.
    pub check: u64,
}
