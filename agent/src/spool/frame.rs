//! A frame of the spool to bytes and back. The format is drawn in the header of [`super`].
//!
//! Pure. Invariant: decoding takes no more memory than a batch may have, whatever the bytes are.

use std::io::Read;

use taffrail_model::{Nanos, limits};

use super::bytes::Malformed;
use super::ledger::{self, Entry};
use crate::batch::{Batch, Span};

const BATCH: u8 = 1;
const LEDGER: u8 = 2;
const ZSTD_LEVEL: i32 = 1;

/// What a payload is.
pub(super) enum Frame {
    /// A batch, written then, that covers these ranges.
    Batch {
        written: Nanos,
        spans: Vec<Span>,
    },
    Ledger {
        delivered: u64,
        entries: Vec<Entry>,
    },
}

/// The payload of a batch.
pub(super) fn encode_batch(batch: &Batch, written: Nanos) -> Vec<u8> {
    let (ranges, content) = (batch.encode_ranges(), pack(&batch.encode_content()));
    let len = u32::try_from(ranges.len()).expect("the ranges of a batch are far below 4 GiB");
    let mut out = Vec::with_capacity(13 + ranges.len() + content.len());
    out.push(BATCH);
    out.extend_from_slice(&written.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&ranges);
    out.extend_from_slice(&content);
    out
}

/// The payload of a ledger.
pub(super) fn encode_ledger(delivered: u64, entries: &[Entry]) -> Vec<u8> {
    let mut out = vec![LEDGER];
    out.extend_from_slice(&delivered.to_le_bytes());
    out.extend_from_slice(&pack(&ledger::encode(entries)));
    out
}

/// Reads a payload, but for the content of a batch.
pub(super) fn decode(payload: &[u8]) -> Result<Frame, Malformed> {
    let (kind, first, rest) = head(payload)?;
    match kind {
        BATCH => {
            let (ranges, _) = ranges_and_content(rest)?;
            let (written, spans) = (Nanos::from_le_bytes(first), Batch::decode_ranges(ranges)?);
            Ok(Frame::Batch { written, spans })
        }
        LEDGER => {
            let entries = ledger::decode(&unpack(rest)?)?;
            Ok(Frame::Ledger { delivered: u64::from_le_bytes(first), entries })
        }
        _ => Err(Malformed::of("kind of a frame")),
    }
}

/// Reads the payload of a batch.
pub(super) fn decode_batch(payload: &[u8]) -> Result<Batch, Malformed> {
    let (kind, _, rest) = head(payload)?;
    if kind != BATCH {
        return Err(Malformed::of("kind of a frame"));
    }
    let (ranges, content) = ranges_and_content(rest)?;
    Batch::decode(ranges, &unpack(content)?)
}

fn head(payload: &[u8]) -> Result<(u8, [u8; 8], &[u8]), Malformed> {
    let (kind, rest) = payload.split_first().ok_or(Malformed::of("frame"))?;
    let (first, rest) = rest.split_first_chunk().ok_or(Malformed::of("frame"))?;
    Ok((*kind, *first, rest))
}

fn ranges_and_content(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (len, rest) = bytes.split_first_chunk().ok_or(Malformed::of("frame"))?;
    let len = u32::from_le_bytes(*len) as usize;
    rest.split_at_checked(len).ok_or(Malformed::of("frame"))
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).expect("compressing fails without memory only")
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let malformed = |_| Malformed::of("zstd");
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(malformed)?;
    let mut out = Vec::new();
    let limit = limits::BODY_BYTES_MAX as u64;
    decoder.take(limit + 1).read_to_end(&mut out).map_err(malformed)?;
    if out.len() as u64 > limit { Err(Malformed::of("size of a frame")) } else { Ok(out) }
}
