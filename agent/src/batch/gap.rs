//! The record that stands for bytes that are lost.
//!
//! It lies in the stream of the file whose bytes they were, in the range that they would have had:
//! so the range has no hole, it is committed once like any other, and whoever reads the log sees
//! where something is missing, how much, and why.
//!
//! Pure.

use taffrail_model::{Level, Nanos, wire};

use super::proto;

/// Why bytes of a file never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The file went before it was read to its end.
    Removed,
    /// The file became shorter than what was read and not delivered.
    Truncated,
    /// The file cannot be read, and never will be.
    Damaged,
    /// The spool does not hold what came before.
    Spool,
}

impl Loss {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Removed, Self::Truncated, Self::Damaged, Self::Spool];

    /// Its name in metrics and metadata.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Truncated => "truncated",
            Self::Damaged => "damaged",
            Self::Spool => "spool",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Removed => "removed before it was read",
            Self::Truncated => "truncated before it was delivered",
            Self::Damaged => "the file is damaged",
            Self::Spool => "neither the collector nor the spool has them",
        }
    }
}

/// Writes the record as an entry of `ScopeLogs.log_records`.
pub(super) fn encode(out: &mut Vec<u8>, path: &str, bytes: u64, loss: Loss, now: Nanos) {
    const FIELD: u32 = proto::RECORD_ATTRIBUTES;
    let mut attributes = Vec::new();
    proto::string_attribute(&mut attributes, FIELD, wire::META_GAP_BYTES, &bytes.to_string());
    proto::string_attribute(&mut attributes, FIELD, wire::META_GAP_PATH, path);
    proto::string_attribute(&mut attributes, FIELD, wire::META_GAP_REASON, loss.name());
    let name = path.rsplit('/').next().unwrap_or(path);
    let body = format!("taffrail: {bytes} bytes of {name} are lost ({})", loss.text());
    let now = u64::try_from(now).unwrap_or(0);
    let severity = u64::try_from(Level::Warn.otlp_number()).unwrap_or(0);
    let head = proto::RecordHead { time: now, observed: now, severity, body: &body };
    proto::log_record(out, &head, &attributes);
}
