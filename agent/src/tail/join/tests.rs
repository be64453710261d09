use super::*;
use crate::tail::lines::Lines;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { line_max: 20, hold_max: 10_000 };
const NOW: Nanos = 77;

/// What came out, in order: records and cuts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Out {
    records: Vec<(u32, LogStream, String, Marks)>,
    cuts: Vec<Vec<(u32, u64)>>,
    /// How many records had come before each cut.
    at: Vec<usize>,
}

impl Sink for Out {
    fn record(&mut self, file: FileNumber, r: Record<'_>) {
        let text = String::from_utf8_lossy(r.text).into_owned();
        self.records.push((file.0, r.stream, text, r.marks));
    }
    fn cut(&mut self, moves: &[(FileNumber, u64)]) {
        self.cuts.push(moves.iter().map(|(f, end)| (f.0, *end)).collect());
        self.at.push(self.records.len());
    }
}

impl Out {
    fn texts(&self) -> Vec<&str> {
        self.records.iter().map(|r| r.2.as_str()).collect()
    }
}

fn cri(rest: &str) -> String {
    format!("2026-11-20T14:51:32Z {rest}\n")
}

/// Reads each text as one file of a container, in order.
fn join(bounds: Bounds, files: &[String]) -> (Out, Joiner) {
    let mut joiner = Joiner::new(bounds);
    let mut out = Out::default();
    for (number, text) in files.iter().enumerate() {
        let file = FileNumber(u32::try_from(number).unwrap());
        let mut lines = Lines::new(0, 1000);
        lines.push(text.as_bytes(), |line| {
            joiner.push(file, Format::Container, line, NOW, &mut out);
        });
    }
    (out, joiner)
}

#[test]
fn pieces_join_per_stream() {
    let text =
        [cri("stdout P a"), cri("stderr F x"), cri("stdout F b"), cri("stdout F c")].concat();
    let step = cri("stdout P a").len() as u64;
    let (out, _) = join(BOUNDS, std::slice::from_ref(&text));
    assert_eq!(out.texts(), ["x", "ab", "c"]);
    // Nothing is released while the line of stdout is open, then both lines with one move.
    assert_eq!(out.cuts, [vec![(0, 3 * step)], vec![(0, 4 * step)]]);
    assert_eq!(out.at, [2, 3]);
}

#[test]
fn pieces_join_across_files() {
    let first = [cri("stdout F 1"), cri("stdout P a")].concat();
    let second = [cri("stdout P b"), cri("stdout F c")].concat();
    let (out, _) = join(BOUNDS, &[first.clone(), second.clone()]);
    assert_eq!(out.texts(), ["1", "abc"]);
    let (half, whole) = (cri("stdout F 1").len() as u64, first.len() as u64);
    assert_eq!(out.cuts, [vec![(0, half)], vec![(0, whole), (1, second.len() as u64)]]);
}

#[test]
fn an_end_that_never_comes() {
    let text = [cri("stdout P a"), cri("stderr F x")].concat();
    let (mut out, mut joiner) = join(BOUNDS, std::slice::from_ref(&text));
    assert!(out.records.is_empty() && joiner.is_open());
    joiner.give_up(&mut out);
    assert_eq!(out.texts(), ["x", "a"]);
    assert!(out.records[1].3.partial && !out.records[0].3.partial);
    assert_eq!(out.cuts, [vec![(0, text.len() as u64)]]);
}

#[test]
fn what_waits_is_bounded_and_known() {
    let text = [cri("stdout P a"), cri("stderr F 1"), cri("stderr F 2")].concat();
    let (out, joiner) = join(Bounds { hold_max: 100, ..BOUNDS }, std::slice::from_ref(&text));
    assert_eq!(out.texts(), ["1", "2", "a"]);
    assert!(!joiner.is_open());
    let (mut out, mut joiner) = join(BOUNDS, std::slice::from_ref(&text));
    let first = joiner.holds();
    assert!(first.is_some() && out.records.is_empty());
    joiner.give_up(&mut out);
    assert_eq!((out.texts(), joiner.holds()), (vec!["1", "2", "a"], None));
    let open = [cri("stdout P a"), cri("stderr F 1")].concat();
    let (_, again) = join(BOUNDS, std::slice::from_ref(&open));
    assert!(again.holds().is_some());
}

#[test]
fn long_lines_are_cut_between_characters() {
    let cases = [
        (cri("stdout F 12345678901234567890"), "12345678901234567890", None),
        (cri("stdout F 123456789012345678901"), "12345678901234567890", Some(21)),
        (cri("stdout F 1234567890123456789é"), "1234567890123456789", Some(21)),
        (
            [cri("stdout P 123456789012345678"), cri("stdout F 9éx")].concat(),
            "1234567890123456789",
            Some(22),
        ),
    ];
    for (text, expected, cut) in cases {
        let (out, _) = join(BOUNDS, &[text]);
        assert_eq!(out.texts(), [expected]);
        assert_eq!(out.records[0].3.cut, cut);
    }
}

#[test]
fn what_is_not_understood_is_kept() {
    let text = [cri("stdout F a"), "garbage\n".into(), "\n".into(), cri("stdout F b")].concat();
    let (out, _) = join(BOUNDS, &[text]);
    assert_eq!(out.texts(), ["a", "garbage", "", "b"]);
    let raw: Vec<bool> = out.records.iter().map(|r| r.3.raw).collect();
    assert_eq!(raw, [false, true, true, false]);
}

/// A container's output: lines of one stream or the other, cut into pieces that alternate.
fn pieces() -> impl Strategy<Value = Vec<(bool, bool, String)>> {
    proptest::collection::vec((any::<bool>(), any::<bool>(), "[a-z]{0,4}"), 0..30)
}

proptest! {
    #[test]
    fn same_records_as_the_oracle(
        pieces in pieces(),
        cut_at in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let wide = Bounds { line_max: 10_000, ..BOUNDS };
        let rows: Vec<String> = pieces.iter().map(|(err, partial, text)| cri(&format!(
            "{} {} {text}", if *err { "stderr" } else { "stdout" }, if *partial { "P" } else { "F" },
        ))).collect();
        // Cut into up to four files between rows, as rotation does.
        let mut cuts: Vec<usize> = cut_at.iter().map(|i| i.index(rows.len() + 1)).collect();
        cuts.extend([0, rows.len()]);
        cuts.sort_unstable();
        let files: Vec<String> = cuts.windows(2).map(|w| rows[w[0]..w[1]].concat()).collect();
        let (out, joiner) = join(wide, &files);

        // Oracle: each stream for itself. Only lines before the first open one may have come out.
        for err in [false, true] {
            let mut whole = Vec::new();
            let mut open = String::new();
            for (_, partial, text) in pieces.iter().filter(|p| p.0 == err) {
                open.push_str(text);
                if !partial { whole.push(std::mem::take(&mut open)); }
            }
            let stream = if err { LogStream::Stderr } else { LogStream::Stdout };
            let found: Vec<&str> =
                out.records.iter().filter(|r| r.1 == stream).map(|r| r.2.as_str()).collect();
            prop_assert!(whole.iter().map(String::as_str).take(found.len()).eq(found.iter().copied()));
            if !joiner.is_open() {
                prop_assert_eq!(found.len(), whole.len());
            }
        }
    }

    #[test]
    fn starting_again_at_any_cut_gives_each_line_once(pieces in pieces(), at in any::<prop::sample::Index>()) {
        let text: String = pieces.iter().map(|(err, partial, text)| cri(&format!(
            "{} {} {text}", if *err { "stderr" } else { "stdout" }, if *partial { "P" } else { "F" },
        ))).collect();
        let (whole, _) = join(BOUNDS, std::slice::from_ref(&text));
        prop_assume!(!whole.cuts.is_empty());
        let at = at.index(whole.cuts.len());
        let resume = usize::try_from(whole.cuts[at][0].1).unwrap();
        let (rest, _) = join(BOUNDS, &[text[resume..].to_owned()]);
        let mut again: Vec<_> = whole.records[..whole.at[at]].to_vec();
        again.extend(rest.records);
        prop_assert_eq!(again, whole.records);
    }

    #[test]
    fn any_reads_give_the_same_records_and_ranges(
        rows in proptest::collection::vec(prop_oneof![
            (any::<bool>(), any::<bool>(), "[a-zé]{0,30}").prop_map(|(err, partial, text)| cri(&format!(
                "{} {} {text}", if err { "stderr" } else { "stdout" }, if partial { "P" } else { "F" },
            ))),
            "[a-z ]{0,12}\n".prop_map(|s| s),
        ], 0..20),
        sizes in proptest::collection::vec(1_usize..60, 1..20),
    ) {
        let text = rows.concat();
        let (whole, _) = join(BOUNDS, std::slice::from_ref(&text));
        let (mut joiner, mut lines) = (Joiner::new(BOUNDS), Lines::new(0, 1000));
        let mut out = Out::default();
        let mut rest = text.as_bytes();
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            lines.push(chunk, |l| joiner.push(FileNumber(0), Format::Container, l, NOW, &mut out));
            rest = after;
        }
        prop_assert_eq!(out, whole);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), max in 0_usize..30) {
        let _ = cut_between_characters(&bytes, max);
        let mut joiner = Joiner::new(BOUNDS);
        let mut out = Out::default();
        let mut lines = Lines::new(0, 10);
        lines.push(&bytes, |l| joiner.push(FileNumber(0), Format::Container, l, NOW, &mut out));
        prop_assert_eq!(out.records.len(), bytes.iter().filter(|b| **b == b'\n').count());
    }
}
