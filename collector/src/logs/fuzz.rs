//! What fuzzers call: a block made of any bytes, looked at in every way there is.
//!
//! ```text
//! input   flags u8, header (as `header` writes it), payload
//! flags   bit 0: columns stand as they are before zstd, and are compressed here, so that what comes
//!                after zstd is reached
//!         bit 1: a block of format 1
//! ```
//! Checksums are made right, since they would refuse nearly every input; rows and text are bounded, so
//! that an input costs little.

use std::fs::File;
use std::io::Write;

use regex::Regex;
use taffrail_model::TimeRange;
use taffrail_query::source::LineFilter;

use super::block::Decoder;
use super::filter::Filter;
use super::header::{
    Column, DIGITS, Header, LEVELS, METADATA, ROWS, TEMPLATES, TEXTS, header_bytes,
};
use super::opened::Opened;
use super::rows::Rows;
use super::segment::Segment;

const PLAIN: u8 = 1;
const FORMAT_1: u8 = 2;
/// Most rows and bytes of text of an input.
const ROWS_MAX: u32 = 1 << 14;
const TEXT_MAX: u32 = 1 << 20;

/// Looks at a block: damage is an error, never a panic.
pub fn block(data: &[u8]) {
    look(data).ok();
}

/// The rows of a block, if it is whole.
fn look(data: &[u8]) -> std::io::Result<Option<Rows>> {
    let Some((header, payload)) = read(data) else { return Ok(None) };
    let mut file = File::from(rustix::fs::memfd_create("block", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(&payload)?;
    let segment = Segment::of_block(file, payload.len() as u64, header);
    let mut decoder = Decoder::new()?;
    let Some(header) = segment.headers().first() else { return Ok(None) };
    for filter in filters() {
        let passing = Opened::new(&segment, header, &mut decoder)
            .and_then(|mut block| block.passing(&filter, &mut decoder));
        if let Ok(passing) = passing {
            let numbers = passing.into_numbers();
            assert!(numbers.iter().all(|&row| row < header.rows));
            Opened::new(&segment, header, &mut decoder)?.rows(&numbers, &mut decoder).ok();
        }
    }
    let mut block = Opened::new(&segment, header, &mut decoder)?;
    block.count_by_template(&Filter::everything());
    block.times().ok();
    block.levels(&mut decoder).ok();
    block.lengths(&mut decoder).ok();
    block.rows(&(0..header.rows).collect::<Vec<_>>(), &mut decoder).map(Some)
}

/// Filters of every kind.
fn filters() -> Vec<Filter> {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let expression = || Regex::new("(?i)e[0-9]+r").into_iter().collect();
    let all = [
        vec![LineFilter::Contains(texts(&["error"]))],
        vec![LineFilter::Contains(texts(&["1", " 2 "])), LineFilter::NotContains(texts(&["x"]))],
        vec![LineFilter::Matches(expression())],
        vec![LineFilter::NotMatches(expression())],
    ];
    all.iter().map(|filters| Filter::new(filters, TimeRange::new(0, 1 << 40))).collect()
}

fn read(data: &[u8]) -> Option<(Header, Vec<u8>)> {
    let (&flags, rest) = data.split_first()?;
    let format = if flags & FORMAT_1 == 0 { 2 } else { 1 };
    let (head, mut rest) = rest.split_at_checked(header_bytes(format)?)?;
    let mut header = Header::read(format, head)?;
    header.rows = header.rows.clamp(1, ROWS_MAX);
    header.text_bytes = header.text_bytes.min(TEXT_MAX);
    header.offset = 0;
    let mut order: Vec<usize> = (0..header.columns.len()).collect();
    order.sort_by_key(|&column| header.columns[column].at);
    let mut payload = Vec::new();
    for index in order {
        let length = (header.columns[index].bytes as usize).min(rest.len());
        let (column, behind) = rest.split_at(length);
        rest = behind;
        let is_zstd = [TEMPLATES, ROWS, LEVELS, DIGITS, TEXTS, METADATA].contains(&index);
        let bytes = match flags & PLAIN != 0 && is_zstd && length > 0 {
            true => zstd::bulk::compress(column, 1).ok()?,
            false => column.to_vec(),
        };
        let crc = crc32fast::hash(&bytes);
        let at = payload.len() as u32;
        header.columns[index] = Column { at, bytes: bytes.len() as u32, crc };
        payload.extend_from_slice(&bytes);
    }
    Some((header, payload))
}

#[cfg(test)]
mod tests {
    use super::super::block::Encoder;
    use super::super::rows::tests::{entries, entry_of};
    use super::super::terms::Terms;
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use taffrail_model::LogEntry;

    /// An input that is a whole block.
    fn whole(rows: &Rows, is_plain: bool) -> Vec<u8> {
        let (mut payload, mut terms) = (Vec::new(), Terms::new());
        let mut header =
            Encoder::new(1).unwrap().encode(7, rows, &mut terms, &mut payload).unwrap();
        if is_plain {
            let mut decoder = Decoder::new().unwrap();
            let mut plain = Vec::new();
            for index in 0..header.columns.len() {
                let column = header.columns[index];
                let bytes = &payload[column.at as usize..][..column.bytes as usize];
                let is_zstd = [TEMPLATES, ROWS, LEVELS, DIGITS, TEXTS, METADATA].contains(&index);
                let bytes = if is_zstd { decoder.unzstd(bytes).unwrap() } else { bytes.to_vec() };
                header.columns[index].at = plain.len() as u32;
                header.columns[index].bytes = bytes.len() as u32;
                plain.extend_from_slice(&bytes);
            }
            payload = plain;
        }
        let mut input = vec![u8::from(is_plain)];
        header.write(&mut input);
        input.extend_from_slice(&payload);
        input
    }

    #[derive(Clone, Debug)]
    enum Mutation {
        Set(Index, u8),
        Flip(Index, u8),
        Cut(Index),
        Insert(Index, Vec<u8>),
        Remove(Index, usize),
    }

    fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
        let mutation = prop_oneof![
            3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
            3 => (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
            1 => any::<Index>().prop_map(Mutation::Cut),
            1 => (any::<Index>(), proptest::collection::vec(any::<u8>(), 1..8))
                .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
            1 => (any::<Index>(), 1_usize..8).prop_map(|(at, count)| Mutation::Remove(at, count)),
        ];
        proptest::collection::vec(mutation, 1..6)
    }

    fn mutate(input: &mut Vec<u8>, mutations: &[Mutation]) {
        for mutation in mutations {
            if input.is_empty() {
                return;
            }
            match mutation {
                Mutation::Set(at, byte) => *at.get_mut(input) = *byte,
                Mutation::Flip(at, bit) => *at.get_mut(input) ^= 1 << bit,
                Mutation::Cut(at) => input.truncate(at.index(input.len())),
                Mutation::Insert(at, bytes) => {
                    let at = at.index(input.len());
                    input.splice(at..at, bytes.iter().copied());
                }
                Mutation::Remove(at, count) => {
                    let at = at.index(input.len());
                    let end = input.len().min(at + count);
                    input.drain(at..end);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_block_is_rows_or_an_error(
            entries in entries(), is_plain in any::<bool>(), mutations in mutations(),
        ) {
            let mut entries = entries;
            entries.sort_by_key(|entry| entry.ts);
            let mut rows = Rows::default();
            entries.iter().for_each(|entry| rows.push_entry(entry));
            let mut input = whole(&rows, is_plain);
            let found = look(&input).unwrap().unwrap();
            let found: Vec<LogEntry> = (0..found.len()).map(|row| entry_of(&found, row)).collect();
            prop_assert_eq!(found, entries);
            mutate(&mut input, &mutations);
            block(&input);
        }

        #[test]
        fn any_bytes_are_rows_or_an_error(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            block(&data);
        }
    }
}
