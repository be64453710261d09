//! Lines of one stream as columns in memory: what the memtable holds, what a block is made of and
//! what it becomes again.
//!
//! Invariants: every column has one entry a row, but for metadata, which is absent as a whole when
//! no row has any; each row's text is followed by one [`SEPARATOR`], so that words never join over
//! the edge of a row.

use taffrail_model::{Level, LogEntry, Nanos};
use taffrail_query::source::LogRow;

/// Stands after each row's text. Rows may contain it too; the row ends tell.
pub(super) const SEPARATOR: u8 = b'\n';

/// What a row costs beside its text, in bytes, for accounting.
const ROW_OVERHEAD: usize = 8 + 4 + 1;

/// Lines of one stream, in columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// The rows' texts, each followed by the separator.
    pub(super) text: String,
    /// Where each row's text ends; its separator lies there.
    pub(super) ends: Vec<u32>,
    /// Time of each row.
    pub(super) ts: Vec<Nanos>,
    /// Severity of each row, as its number.
    pub(super) levels: Vec<u8>,
    /// Structured metadata of the rows.
    pub(super) metadata: Metadata,
}

/// Metadata of rows: all names and values in one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Name, value, name, value, without anything between.
    pub(super) text: String,
    /// Where each pair's name and value end in the text.
    pub(super) pairs: Vec<(u32, u32)>,
    /// Where each row's pairs end; empty when no row has a pair.
    pub(super) ends: Vec<u32>,
}

impl Rows {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.ts.len()
    }

    /// Where the text of a row begins.
    pub(super) fn start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1)
    }

    /// The text of a row.
    pub(super) fn line(&self, row: usize) -> &str {
        self.text.get(self.start(row)..self.ends[row] as usize).unwrap_or_default()
    }

    /// Adds a row. The caller keeps all text of the rows below 4 GiB.
    pub(super) fn push(&mut self, ts: Nanos, line: &str, level: u8) {
        self.text.push_str(line);
        self.ends.push(self.text.len() as u32);
        self.text.push(char::from(SEPARATOR));
        self.ts.push(ts);
        self.levels.push(level);
    }

    /// Adds a row with its metadata.
    pub(super) fn push_entry(&mut self, entry: &LogEntry) {
        let pairs = entry.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        self.metadata.push(self.ts.len(), pairs);
        self.push(entry.ts, &entry.line, entry.level as u8);
    }

    /// Adds a copy of a row of others.
    pub(super) fn push_from(&mut self, other: &Self, row: usize) {
        self.metadata.push(self.ts.len(), other.metadata.of(row));
        self.push(other.ts[row], other.line(row), other.levels[row]);
    }

    /// Gives the row as others see it.
    pub(super) fn with_row<R>(&self, row: usize, see: impl FnOnce(LogRow<'_>) -> R) -> R {
        let pairs: Vec<(&str, &str)> = self.metadata.of(row).collect();
        see(LogRow {
            ts: self.ts[row],
            line: self.line(row),
            level: Level::from_number(self.levels[row]),
            metadata: &pairs,
        })
    }

    /// Forgets all rows and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.ts.clear();
        self.levels.clear();
        self.metadata.text.clear();
        self.metadata.pairs.clear();
        self.metadata.ends.clear();
    }

    /// What the rows take in memory, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
            + self.len() * ROW_OVERHEAD
            + self.metadata.text.len()
            + self.metadata.pairs.len() * 8
            + self.metadata.ends.len() * 4
    }

    /// What the rows take in memory with the room they have for more, in bytes, about.
    pub(super) fn memory(&self) -> usize {
        let metadata = &self.metadata;
        self.text.capacity()
            + self.ts.capacity() * 8
            + (self.ends.capacity() + metadata.ends.capacity()) * 4
            + self.levels.capacity()
            + metadata.text.capacity()
            + metadata.pairs.capacity() * 8
    }

    /// Rows with room for so much text in about as long lines as these have.
    pub(super) fn with_room_like(&self, text_bytes: usize) -> Self {
        let rows = self.len() * text_bytes / self.text.len().max(1) + 1;
        let rows = rows.min(text_bytes);
        Self {
            text: String::with_capacity(text_bytes),
            ends: Vec::with_capacity(rows),
            ts: Vec::with_capacity(rows),
            levels: Vec::with_capacity(rows),
            metadata: Metadata::default(),
        }
    }

    /// Gives back the room for more.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ts.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.levels.shrink_to_fit();
        self.metadata.text.shrink_to_fit();
        self.metadata.pairs.shrink_to_fit();
        self.metadata.ends.shrink_to_fit();
    }

    /// Whether times never go back from row to row.
    pub(super) fn is_sorted(&self) -> bool {
        self.ts.is_sorted()
    }
}

impl Metadata {
    /// Adds the pairs of the row with this number, which must be the next one.
    pub(super) fn push<'a>(&mut self, row: usize, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        let before = self.pairs.len();
        for (name, value) in pairs {
            self.text.push_str(name);
            let name_end = self.text.len() as u32;
            self.text.push_str(value);
            self.pairs.push((name_end, self.text.len() as u32));
        }
        if self.ends.is_empty() && self.pairs.len() == before {
            return;
        }
        self.ends.resize(row, before as u32);
        self.ends.push(self.pairs.len() as u32);
    }

    /// The pairs of a row.
    pub(super) fn of(&self, row: usize) -> impl Iterator<Item = (&str, &str)> {
        let end = self.ends.get(row).map_or(0, |&end| end as usize);
        let start = row.checked_sub(1).and_then(|r| self.ends.get(r)).map_or(0, |&e| e as usize);
        (start..end).map(|pair| {
            let from = pair.checked_sub(1).map_or(0, |p| self.pairs[p].1 as usize);
            let (name_end, value_end) = self.pairs[pair];
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            let name = self.text.get(from..name_end).unwrap_or_default();
            (name, self.text.get(name_end..value_end).unwrap_or_default())
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Entries as they may come in: any text, any time, few names.
    pub(in super::super) fn entries() -> impl Strategy<Value = Vec<LogEntry>> {
        let metadata = proptest::collection::btree_map("[a-c]{1,2}", "[x-zé\n]{0,3}", 0..3);
        let entry = (any::<i64>(), "(\\PC|\n){0,20}", 0_usize..8, metadata);
        let to_entry = |(ts, line, level, metadata): (i64, String, usize, _)| LogEntry {
            ts,
            line,
            level: Level::ALL[level],
            metadata: std::collections::BTreeMap::into_iter(metadata).collect(),
        };
        proptest::collection::vec(entry.prop_map(to_entry), 1..40)
    }

    /// The row as the entry it came from.
    pub(in super::super) fn entry_of(rows: &Rows, row: usize) -> LogEntry {
        rows.with_row(row, |row| LogEntry {
            ts: row.ts,
            line: row.line.to_owned(),
            level: row.level,
            metadata: row.metadata.iter().map(|&(n, v)| (n.into(), v.into())).collect(),
        })
    }

    proptest! {
        #[test]
        fn rows_come_out_as_they_went_in(entries in entries()) {
            let mut rows = Rows::default();
            entries.iter().for_each(|e| rows.push_entry(e));
            let mut copy = Rows::default();
            for (row, entry) in entries.iter().enumerate() {
                prop_assert_eq!(&entry_of(&rows, row), entry);
                copy.push_from(&rows, row);
            }
            prop_assert_eq!(copy, rows);
        }
    }
}
