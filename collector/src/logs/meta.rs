//! What a segment says of itself: `segment.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use taffrail_model::Nanos;

use super::memtable::Committed;

/// What is written about a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The format of the segment's files.
    pub(super) format: u32,
    /// The UTC day of its rows, in days since the epoch; the last of several if its flush had rows of
    /// too many days.
    pub(super) day: i32,
    /// Its place in the order of arrival.
    pub(super) order: u64,
    /// How many rows it has.
    pub(super) rows: u64,
    /// Bytes of text, with separators.
    pub(super) text_bytes: u64,
    /// Time of its first row.
    pub(super) first: Nanos,
    /// Time of its last row.
    pub(super) last: Nanos,
    /// Its files, by path within the folder.
    pub(super) files: Vec<FileMeta>,
    /// Names of the segments that were merged into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) inputs: Vec<String>,
    /// Deletion requests whose lines were left out when it was merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rid_of: Vec<u64>,
    /// The flush that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) flush: Option<FlushNote>,
}

/// What a segment says of its flush, should the manifest be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FlushNote {
    /// Which of the flush's segments it is.
    pub(super) part: u32,
    /// How many segments the flush wrote.
    pub(super) parts: u32,
    /// Frames of the write-ahead log below are in them, or in earlier ones.
    pub(super) end_seq: u64,
    /// Positions that the flush moved; in its first segment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) positions: BTreeMap<String, Committed>,
}

/// Where a segment comes from.
pub(super) enum Origin {
    /// A flush.
    Flush(FlushNote),
    /// A merge.
    Merge {
        /// Names of the segments.
        inputs: Vec<String>,
        /// The deletion requests whose lines were left out.
        rid_of: Vec<u64>,
    },
}

/// Length and checksum of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMeta {
    /// Path within the segment's folder.
    pub(super) name: String,
    /// Length in bytes.
    pub(super) bytes: u64,
    /// Checksum of the whole file.
    pub(super) crc: u32,
}
