use super::*;
use crate::tail::join::{Marks, Record, Sink};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use proptest::prelude::*;
use prost::Message;
use std::collections::HashMap;

const A: FileNumber = FileNumber(1);
const B: FileNumber = FileNumber(2);

fn builder() -> Builder {
    let mut builder = Builder::default();
    builder.observe(99);
    for (file, name) in [(A, "a"), (B, "b")] {
        let labels = |stream: &str| Labels::from_pairs([("file", name), ("stream", stream)]);
        builder.declare(
            file,
            FileMeta {
                source: format!("node/{name}").into(),
                path: format!("/{name}.log").into(),
                labels: [labels("stdout"), labels("stderr"), Labels::default()],
                released: 0,
            },
        );
    }
    builder
}

fn record(builder: &mut Builder, file: FileNumber, stream: LogStream, text: &[u8], marks: Marks) {
    builder.record(file, Record { stream, ts: 5, text, marks });
}

fn decode(batch: &Batch) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest::decode(&batch.encode()[..]).unwrap()
}

fn value<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Value> {
    attributes.iter().find(|a| a.key == name)?.value.as_ref()?.value.as_ref()
}

fn int(attributes: &[KeyValue], name: &str) -> Option<u64> {
    match value(attributes, name) {
        Some(Value::IntValue(v)) => Some(*v as u64),
        _ => None,
    }
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("not text: {other:?}"),
    }
}

/// Source, begin, end and texts of each `ResourceLogs`.
fn rows(batch: &Batch) -> Vec<(String, u64, u64, Vec<String>)> {
    let rows = decode(batch).resource_logs.into_iter().map(|r| {
        let attributes = &r.resource.as_ref().unwrap().attributes;
        let source = attributes.iter().find(|a| a.key == wire::SOURCE).unwrap();
        let records = &r.scope_logs[0].log_records;
        (
            text(source.value.as_ref()),
            int(attributes, wire::BEGIN).unwrap(),
            int(attributes, wire::END).unwrap(),
            records.iter().map(|l| text(l.body.as_ref())).collect(),
        )
    });
    rows.collect()
}

#[test]
fn decodes_with_the_generated_code() {
    let mut builder = builder();
    let marks = Marks { cut: Some(300), partial: true, raw: true };
    record(&mut builder, A, LogStream::Stderr, b"ERROR b\xFFd \0", marks);
    builder.cut(&[(A, 10)]);
    let batch = builder.finish(|file, end| u64::from(file.0) << 63 | end).unwrap();
    let request = decode(&batch);
    let resource = &request.resource_logs[0].resource.as_ref().unwrap().attributes;
    assert_eq!(int(resource, wire::CHECK), Some(1 << 63 | 10));
    assert_eq!(value(resource, "stream"), Some(&Value::StringValue("stderr".into())));
    assert_eq!(value(resource, wire::FILE_PATH), Some(&Value::StringValue("/a.log".into())));
    assert_eq!(value(resource, wire::ORIGIN), None);
    let scope = &request.resource_logs[0].scope_logs[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, wire::AGENT_SCOPE);
    let line = &scope.log_records[0];
    assert_eq!((line.time_unix_nano, line.observed_time_unix_nano), (5, 99));
    assert_eq!(line.severity_number, 17);
    assert_eq!(text(line.body.as_ref()), "ERROR b\u{FFFD}d \0");
    let marks: Vec<(&str, String)> =
        line.attributes.iter().map(|a| (a.key.as_str(), text(a.value.as_ref()))).collect();
    let expected =
        [(wire::META_CUT, "300"), (wire::META_PARTIAL, "true"), (wire::META_RAW, "true")];
    assert_eq!(marks, expected.map(|(k, v)| (k, v.to_owned())));
}

#[test]
fn text_that_grows_over_the_limit_is_cut() {
    let max = taffrail_model::limits::LINE_BYTES_MAX;
    let mut builder = builder();
    record(&mut builder, A, LogStream::Stdout, &vec![0xFF; max], Marks::default());
    let cut = Marks { cut: Some(7 << 20), ..Marks::default() };
    record(&mut builder, A, LogStream::Stdout, &vec![0xFF; max / 2], cut);
    record(&mut builder, A, LogStream::Stdout, &vec![0xFF; max / 3], Marks::default());
    builder.cut(&[(A, 10)]);
    let batch = builder.finish(|_, _| 0).unwrap();
    let lines = &decode(&batch).resource_logs[0].scope_logs[0].log_records;
    let found: Vec<(usize, Option<&Value>)> = lines
        .iter()
        .map(|l| (text(l.body.as_ref()).len(), value(&l.attributes, wire::META_CUT)))
        .collect();
    let (whole, longer) = (Value::StringValue(max.to_string()), (7 << 20).to_string());
    let longer = Value::StringValue(longer);
    assert_eq!(found, [(max - 1, Some(&whole)), (max - 1, Some(&longer)), (max - 1, None)]);
    assert_eq!(builder.taken().cut, 2);
}

#[test]
fn ranges_follow_each_other_and_move_without_records() {
    let mut builder = builder();
    builder.cut(&[(A, 7)]);
    let first = builder.finish(|_, _| 0).unwrap();
    record(&mut builder, A, LogStream::Stdout, b"x", Marks::default());
    record(&mut builder, A, LogStream::Stderr, b"y", Marks::default());
    builder.cut(&[(A, 9), (B, 3)]);
    let second = builder.finish(|_, _| 0).unwrap();
    assert_eq!(rows(&first), [("node/a".into(), 0, 7, vec![])]);
    let expected = [
        ("node/a".into(), 7, 9, vec!["x".into()]),
        ("node/a".into(), 7, 9, vec!["y".into()]),
        ("node/b".into(), 0, 3, vec![]),
    ];
    assert_eq!(rows(&second), expected);
    assert!(builder.finish(|_, _| 0).is_none());
}

#[test]
fn hollow_moves_only() {
    let mut builder = builder();
    record(&mut builder, A, LogStream::Stdout, b"x", Marks::default());
    record(&mut builder, A, LogStream::Stderr, b"y", Marks::default());
    builder.cut(&[(A, 9)]);
    let hollow = builder.finish(|_, _| 4).unwrap().hollow();
    assert_eq!(rows(&hollow), [("node/a".into(), 0, 9, vec![])]);
    assert_eq!(hollow.spans()[0].check, 4);
}

#[test]
fn rewinding_starts_at_what_is_committed() {
    let mut builder = builder();
    record(&mut builder, A, LogStream::Stdout, b"x", Marks::default());
    builder.cut(&[(A, 9)]);
    builder.rewind(|file| (file == A).then_some(4));
    assert!(builder.is_empty());
    builder.cut(&[(A, 9)]);
    assert_eq!(rows(&builder.finish(|_, _| 0).unwrap()), [("node/a".into(), 4, 9, vec![])]);
}

type Line = (bool, bool, String);

#[test]
fn what_is_cut_never_overlaps_and_has_the_check_of_its_end() {
    let mut builder = builder();
    record(&mut builder, A, LogStream::Stdout, b"begins in a", Marks::default());
    builder.cut(&[(A, 20), (B, 5)]);
    let batch = builder.finish(|_, _| 3).unwrap();
    // The collector is behind the end of `b` already, and has its own check there.
    let rest = batch.after(&[position("node/a", 10), position("node/b", 30)], 9);
    let spans = rest.batch.unwrap().spans().to_vec();
    let of = |at: usize| (spans[at].begin, spans[at].end, spans[at].check);
    assert_eq!((of(0), of(1)), ((10, 20, 3), (30, 30, position("node/b", 30).check)));

    // Two ranges of one file: what is lost of it, and what follows.
    let mut builder = Builder::default();
    for (number, released) in [(A, 0), (B, 40)] {
        let labels = [Labels::default(), Labels::default(), Labels::default()];
        let (source, path) = ("node/a".into(), "/a".into());
        builder.declare(number, FileMeta { source, path, labels, released });
    }
    for (number, end) in [(A, 40), (B, 60)] {
        record(&mut builder, number, LogStream::Stdout, b"x", Marks::default());
        builder.cut(&[(number, end)]);
    }
    let rest = builder.finish(|_, _| 3).unwrap().after(&[position("node/a", 10)], 9);
    let spans: Vec<_> = rest.batch.unwrap().spans().iter().map(|s| (s.begin, s.end)).collect();
    assert_eq!(spans, [(10, 40), (40, 60)]);
}

proptest! {
    /// Splitting down to single groups gives the same lines, and ranges without gap or overlap.
    #[test]
    fn splitting_keeps_lines_and_ranges(
        groups in proptest::collection::vec(proptest::collection::vec(
            (any::<bool>(), any::<bool>(), "\\PC{0,6}"), 0..4), 1..20),
    ) {
        let mut builder = builder();
        let mut end = 0;
        for group in &groups {
            for (b, err, text) in group {
                let stream = if *err { LogStream::Stderr } else { LogStream::Stdout };
                record(&mut builder, if *b { B } else { A }, stream, text.as_bytes(), Marks::default());
            }
            end += 10;
            let both = group.iter().any(|g| g.0);
            let moves: &[_] = if both { &[(A, end), (B, end)] } else { &[(A, end)] };
            builder.cut(moves);
        }
        let whole = builder.finish(|_, _| 9).unwrap();
        let mut parts = vec![whole];
        while let Some(at) = parts.iter().position(|p| p.groups.len() > 1) {
            let (first, second) = parts.remove(at).split().unwrap();
            parts.insert(at, second);
            parts.insert(at, first);
        }
        prop_assert_eq!(parts.len(), groups.len());
        let mut positions: HashMap<String, u64> = HashMap::new();
        let mut lines: Vec<Line> = Vec::new();
        for (part, group) in parts.iter().zip(&groups) {
            let mut ends = HashMap::new();
            let mut count = 0;
            for (source, begin, end, texts) in rows(part) {
                prop_assert_eq!(begin, positions.get(&source).copied().unwrap_or(0));
                count += texts.len();
                ends.insert(source, end);
            }
            positions.extend(ends);
            prop_assert_eq!(count, group.len());
            for (source, _, _, texts) in rows(part) {
                lines.extend(texts.into_iter().map(|t| (source == "node/b", false, t)));
            }
        }
        for b in [false, true] {
            let mut found: Vec<&str> = lines.iter().filter(|l| l.0 == b).map(|l| &*l.2).collect();
            let mut sent: Vec<&str> = groups.iter().flatten().filter(|l| l.0 == b).map(|l| &*l.2).collect();
            found.sort_unstable();
            sent.sort_unstable();
            prop_assert_eq!(found, sent);
        }
        let last = parts.last().unwrap().spans().iter().find(|s| s.file == A).unwrap();
        prop_assert_eq!(last.check, 9);
    }
}

fn position(source: &str, committed: u64) -> taffrail_model::record::Position {
    taffrail_model::record::Position { source: source.into(), committed, check: 0 }
}

#[test]
fn what_is_missing_before_a_batch_is_told_in_a_record() {
    let mut builder = builder();
    builder.rewind(|_| Some(100));
    record(&mut builder, A, LogStream::Stdout, b"x", Marks::default());
    builder.cut(&[(A, 110)]);
    record(&mut builder, B, LogStream::Stdout, b"y", Marks::default());
    builder.cut(&[(B, 110)]);
    let rest = builder.finish(|_, _| 3).unwrap().after(&[position("node/a", 40)], 9);
    assert_eq!(rest.lost, 60);
    let batch = rest.batch.unwrap();
    let gap = "taffrail: 60 bytes of a.log are lost (neither the collector nor the spool has them)";
    let expected = [
        ("node/a".into(), 40, 110, vec![gap.to_owned(), "x".to_owned()]),
        ("node/b".into(), 100, 110, vec!["y".to_owned()]),
    ];
    assert_eq!(rows(&batch), expected);
    let line = decode(&batch).resource_logs[0].scope_logs[0].log_records[0].clone();
    assert_eq!(line.severity_number, 13);
    let meta: Vec<(&str, String)> =
        line.attributes.iter().map(|a| (a.key.as_str(), text(a.value.as_ref()))).collect();
    let expected = [
        (wire::META_GAP_BYTES, "60"),
        (wire::META_GAP_PATH, "/a.log"),
        (wire::META_GAP_REASON, "spool"),
    ];
    assert_eq!(meta, expected.map(|(k, v)| (k, v.to_owned())));
    let (first, second) = batch.split().unwrap();
    assert_eq!((first.lines(), second.lines()), (2, 1));
}

#[test]
fn a_gap_of_the_reader_covers_its_range() {
    let mut builder = builder();
    builder.gap(B, LogStream::Stdout, 50, Loss::Removed);
    let text = "taffrail: 50 bytes of b.log are lost (removed before it was read)";
    let batch = builder.finish(|_, _| 0).unwrap();
    assert_eq!(rows(&batch), [("node/b".into(), 0, 50, vec![text.into()])]);
}

proptest! {
    /// A batch survives its bytes, whatever was in it; other bytes are an error or a batch.
    #[test]
    fn batch_round_trip(
        groups in proptest::collection::vec(proptest::collection::vec(
            (any::<bool>(), any::<bool>(), "\\PC{0,6}"), 0..4), 1..12),
        garbage: Vec<u8>, at in any::<prop::sample::Index>(), flip: u8,
    ) {
        let whole = filled(&groups);
        let (ranges, content) = (whole.encode_ranges(), whole.encode_content());
        let back = Batch::decode(&ranges, &content).unwrap();
        prop_assert_eq!(back.encode(), whole.encode());
        prop_assert_eq!((back.lines(), back.bytes()), (whole.lines(), whole.bytes()));
        prop_assert_eq!(&back.groups, &whole.groups);
        let parts = |batch: Batch| batch.split().map(|(a, b)| (rows(&a), rows(&b))).ok();
        prop_assert_eq!(parts(back), parts(filled(&groups)));
        let _any = Batch::decode(&garbage, &content).is_ok();
        let _any = Batch::decode(&ranges, &garbage).is_ok();
        let mut changed = content;
        let at = at.index(changed.len());
        changed[at] ^= flip;
        if let Ok(batch) = Batch::decode(&ranges, &changed) {
            let _bytes = batch.encode();
            let _any = batch.split().is_ok();
        }
    }

    /// What is left behind any committed positions is what lies behind them, as a filter of the
    /// lines by their groups would give it.
    #[test]
    fn the_rest_is_what_is_not_committed(
        groups in proptest::collection::vec(proptest::collection::vec(
            (any::<bool>(), any::<bool>(), "\\PC{0,6}"), 0..4), 1..12),
        done in 0_usize..13,
    ) {
        let done = done.min(groups.len());
        let last = |of: FileNumber| {
            let moved = groups.iter().take(done).rposition(|g| files_of(g).contains(&of));
            moved.map_or(0, |at| (at as u64 + 1) * 10)
        };
        let (a, b) = (last(A), last(B));
        // As the collector tells: the positions of all files of the batch.
        let committed = |source: &str| if source == "node/a" { a } else { b };
        let whole = filled(&groups);
        let conflicts: Vec<_> = whole
            .spans()
            .iter()
            .map(|s| position(&s.source, committed(&s.source)))
            .collect();
        let rest = whole.after(&conflicts, 1);
        prop_assert_eq!(rest.lost, 0);
        let mut left: Vec<String> =
            groups[done..].iter().flatten().map(|l| l.2.clone()).collect();
        let mut found = Vec::new();
        for (source, begin, end, texts) in rest.batch.iter().flat_map(rows) {
            if end > committed(&source) {
                prop_assert_eq!(begin, committed(&source));
                found.extend(texts);
            }
        }
        left.sort_unstable();
        found.sort_unstable();
        prop_assert_eq!(found, left);
    }
}

/// The files whose lines a group holds; without lines it is of A.
fn files_of(group: &[Line]) -> Vec<FileNumber> {
    let has = |b: bool| group.iter().any(|line| line.0 == b);
    let mut files = Vec::new();
    files.extend((has(false) || group.is_empty()).then_some(A));
    files.extend(has(true).then_some(B));
    files
}

/// A batch of these groups, each up to ten bytes later.
fn filled(groups: &[Vec<Line>]) -> Batch {
    let mut builder = builder();
    let mut end = 0;
    for group in groups {
        for (b, err, text) in group {
            let stream = if *err { LogStream::Stderr } else { LogStream::Stdout };
            record(&mut builder, if *b { B } else { A }, stream, text.as_bytes(), Marks::default());
        }
        end += 10;
        let moves: Vec<_> = files_of(group).into_iter().map(|file| (file, end)).collect();
        builder.cut(&moves);
    }
    builder.finish(|_, _| 9).unwrap()
}
