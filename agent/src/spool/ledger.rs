//! What the agent knows of its files when it cannot tell the collector: up to where each is safe, and
//! how much of it is not.
//!
//! It is written when the collector goes away, now and then while it is away, and at the end of the
//! process. The next agent begins to read by it when no collector answers; and when a file has gone
//! whose bytes were never safe, it tells how many are lost.
//!
//! Pure. Invariant: a stale ledger costs work, never a line: what is read twice is cut at what is
//! committed.

use taffrail_model::Labels;

use super::bytes::{Malformed, Take, put_bytes, put_number};
use crate::batch::{put_labels, take_labels};

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Identity of the file on the wire.
    pub source: String,
    /// Everything before this offset is in the store or in the spool.
    pub safe: u64,
    /// Hash of the bytes before it; 0 when it is not known.
    pub check: u64,
    /// What is behind it.
    pub unread: Option<Unread>,
}

impl Entry {
    /// A file that is safe up to a position with its check, and of which nothing more is known.
    pub(super) fn safe(source: &str, (safe, check): (u64, u64)) -> Self {
        Self { source: source.to_owned(), safe, check, unread: None }
    }
}

/// A file with bytes that are not safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// How long the file is at the least.
    pub size: u64,
    /// Where it was.
    pub path: String,
    /// The labels of a record of what is lost.
    pub labels: Labels,
}

/// Writes entries.
#[must_use]
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, entries.len() as u64);
    for Entry { source, safe, check, unread } in entries {
        put_bytes(&mut out, source.as_bytes());
        put_number(&mut out, *safe);
        out.extend_from_slice(&check.to_le_bytes());
        out.push(u8::from(unread.is_some()));
        if let Some(Unread { size, path, labels }) = unread {
            put_number(&mut out, *size);
            put_bytes(&mut out, path.as_bytes());
            put_labels(&mut out, labels);
        }
    }
    out
}

/// Reads entries.
///
/// # Errors
/// When the bytes are not those of a ledger.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let mut take = Take::new(bytes);
    let mut entries = Vec::new();
    for _ in 0..take.count("entries")? {
        let source = take.text("source")?.to_owned();
        let safe = take.number("position")?;
        let check = take.fixed("check")?;
        let unread = match take.raw(1, "flag")?[0] {
            0 => None,
            1 => Some(Unread {
                size: take.number("size")?,
                path: take.text("path")?.to_owned(),
                labels: take_labels(&mut take)?,
            }),
            _ => return Err(Malformed::of("flag")),
        };
        entries.push(Entry { source, safe, check, unread });
    }
    take.end("ledger")?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let unread = (any::<u64>(), ".{0,20}", "[a-z]{1,5}", "[a-z]{1,5}").prop_map(
            |(size, path, name, value)| Unread {
                size,
                path,
                labels: Labels::from_pairs([(name, value)]),
            },
        );
        (".{0,20}", any::<u64>(), any::<u64>(), proptest::option::of(unread))
            .prop_map(|(source, safe, check, unread)| Entry { source, safe, check, unread })
    }

    proptest! {
        #[test]
        fn round_trip(entries in proptest::collection::vec(entry(), 0..8), garbage: Vec<u8>) {
            let bytes = encode(&entries);
            prop_assert_eq!(decode(&bytes), Ok(entries));
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err());
            }
            let _any = decode(&garbage);
        }
    }
}
