//! Blocks as they are written and read, within a segment of one block.

use super::super::rows::tests::entries;
use super::*;
use proptest::prelude::*;
use taffrail_model::LogEntry;

fn encoded(mut entries: Vec<LogEntry>) -> (Rows, Header, Vec<u8>) {
    entries.sort_by_key(|e| e.ts);
    let mut rows = Rows::default();
    entries.iter().for_each(|e| rows.push_entry(e));
    let mut payload = Vec::new();
    let mut terms = Terms::new();
    let header = Encoder::new(1).unwrap().encode(7, &rows, &mut terms, &mut payload).unwrap();
    (rows, header, payload)
}

#[test]
fn columns_hold_what_they_should() {
    let line = |n: u32| LogEntry {
        ts: n.into(),
        line: format!(
            "took {n}ms id={:016x} by web-{} at 2026",
            u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            n % 3
        ),
        level: taffrail_model::Level::Info,
        metadata: Vec::new(),
    };
    let (rows, header, payload) = encoded((0..1000).map(line).collect());
    assert_eq!(header.payload_bytes(), payload.len());
    assert_eq!(header.columns[NIBBLES].bytes, 8000);
    assert_eq!((header.columns[ROWS].bytes, header.columns[LEVELS].bytes), (0, 0));
    assert!(payload.len() < rows.text.len() / 3, "{}", payload.len());
}

proptest! {
    #[test]
    fn template_numbers_come_back(raw in proptest::collection::vec(0_u32..400, 1..600)) {
        let count = raw.iter().max().map_or(0, |&most| most as usize + 1);
        let mut counts = vec![0_u32; count];
        raw.iter().for_each(|&row| counts[row as usize] += 1);
        let column = zstd::bulk::compress(&row_bytes(&raw, count), 1).unwrap();
        let mut decoder = Decoder::new().unwrap();
        prop_assert_eq!(decode_rows(&column, raw.len(), &counts, &mut decoder), Ok(raw.clone()));
        counts[raw[0] as usize] -= 1;
        if count > 1 {
            prop_assert!(decode_rows(&column, raw.len(), &counts, &mut decoder).is_err());
        }
    }

    #[test]
    fn headers_count_what_is_there(entries in entries()) {
        let (rows, header, payload) = encoded(entries);
        prop_assert_eq!(header.payload_bytes(), payload.len());
        prop_assert_eq!((header.rows as usize, header.text_bytes as usize), (rows.len(), rows.text.len()));
        prop_assert_eq!((Some(&header.first), Some(&header.last)), (rows.ts.first(), rows.ts.last()));
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        prop_assert_eq!(read_headers(2, &bytes), Some(vec![header]));
    }
}
