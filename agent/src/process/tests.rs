//! The whole stage: from a joiner's records to what a builder is given.

use std::time::Duration;

use proptest::prelude::*;
use taffrail_model::Level;
use taffrail_model::time::NANOS_PER_SEC;

use super::drops::{Rate, Sample};
use super::metrics::Metrics;
use super::redact::{Action, Detector, Redactor};
use super::rules::TimeOf;
use super::*;
use crate::pods::Pods;
use crate::tail::LogStream;
use crate::tail::join::{Marks, Meaning};

/// Time, text, level and metadata of a record.
type Passed = (i64, String, Level, Vec<(String, String)>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Out {
    records: Vec<Passed>,
    cuts: Vec<Vec<(u32, u64)>>,
}

impl Sink for Out {
    fn record(&mut self, file: FileNumber, record: Record<'_>) {
        self.meant(file, record, Meaning::default());
    }
    fn meant(&mut self, _: FileNumber, record: Record<'_>, meaning: Meaning<'_>) {
        let fields = meaning.fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let text = String::from_utf8_lossy(record.text).into_owned();
        self.records.push((record.ts, text, meaning.level, fields.collect()));
    }
    fn cut(&mut self, moves: &[(FileNumber, u64)]) {
        self.cuts.push(moves.iter().map(|(f, end)| (f.0, *end)).collect());
    }
}

impl Out {
    fn texts(&self) -> Vec<&str> {
        self.records.iter().map(|r| r.1.as_str()).collect()
    }
}

struct Stage {
    processor: Processor,
    out: Out,
    now: Instant,
    count: u64,
}

impl Stage {
    fn new(rules: Rules) -> Self {
        let source = Source::new(rules, Pods::none(), Metrics::default());
        let mut processor = Processor::new(source, 10_000);
        processor.follow(&FileKind::Container {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            container: "c".into(),
            restart: 0,
        });
        Self { processor, out: Out::default(), now: Instant::now(), count: 0 }
    }

    fn line(&mut self, ts: i64, stream: LogStream, text: &str) {
        self.count += 1;
        let mut sink = self.processor.over(self.now, &mut self.out);
        let record = Record { stream, ts, text: text.as_bytes(), marks: Marks::default() };
        sink.record(FileNumber(1), record);
        sink.cut(&[(FileNumber(1), self.count)]);
    }

    fn lines(&mut self, texts: &[&str]) {
        for (at, text) in texts.iter().enumerate() {
            self.line(at as i64, LogStream::Stdout, text);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.processor.tick(self.now, false, &mut self.out);
    }
}

#[test]
fn lines_pass_with_what_they_say() {
    let mut stage = Stage::new(Rules::default());
    stage.lines(&["plain", r#"{"level":"warning","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}"#]);
    assert_eq!(stage.out.records[0], (0, "plain".into(), Level::Unknown, vec![]));
    let (_, _, level, fields) = &stage.out.records[1];
    assert_eq!(*level, Level::Warn);
    assert_eq!(fields[..], [("trace_id".into(), "4bf92f3577b34da6a3ce929d0e0e4736".into())]);
    assert_eq!(stage.out.cuts, [[(1, 1)], [(1, 2)]]);
    assert!(!stage.processor.is_open());
}

#[test]
fn a_trace_has_the_time_of_its_first_line_and_is_an_error() {
    let mut stage = Stage::new(Rules::default());
    stage.lines(&[
        "Traceback (most recent call last):",
        "  File \"a.py\", line 1, in x",
        "ValueError: y",
        "done",
    ]);
    let (ts, text, level, _) = &stage.out.records[0];
    assert_eq!((*ts, *level, text.lines().count()), (0, Level::Error, 3));
}

#[test]
fn excluded_lines_move_the_position_only() {
    let mut stage = Stage::new(Rules { exclude: true, ..Rules::default() });
    stage.lines(&["a", "b"]);
    assert!(stage.processor.is_open());
    stage.wait(Duration::ZERO);
    assert_eq!(stage.out, Out { records: vec![], cuts: vec![vec![(1, 2)]] });
    assert!(!stage.processor.is_open());
}

#[test]
fn one_stream_only() {
    let mut stage = Stage::new(Rules { streams: [false, true, true], ..Rules::default() });
    stage.line(1, LogStream::Stdout, "out");
    stage.line(2, LogStream::Stderr, "err");
    stage.line(3, LogStream::Stdout, "out");
    stage.wait(Duration::ZERO);
    assert_eq!(stage.out.texts(), ["err"]);
    assert_eq!(stage.out.cuts, [[(1, 2)], [(1, 3)]]);
}

#[test]
fn drops_are_told_once_a_minute() {
    let rate = Rate::parse("2/s");
    let mut stage = Stage::new(Rules { rate, ..Rules::default() });
    for text in ["a", "b", "c", "d", "e"] {
        stage.line(NANOS_PER_SEC, LogStream::Stdout, text);
    }
    stage.wait(Duration::from_secs(59));
    assert_eq!(stage.out.texts(), ["a", "b"]);
    // The positions of what was dropped wait with the word about it.
    assert_eq!(stage.out.cuts.last().map(Vec::as_slice), Some(&[(1, 2)][..]));
    stage.wait(Duration::from_secs(1));
    let told = &stage.out.records[2];
    assert_eq!(told.1, "taffrail: 3 records were dropped (rate limit 2/s)");
    assert_eq!((told.0, told.2), (NANOS_PER_SEC, Level::Warn));
    assert_eq!(told.3, [(META_DROPPED.to_owned(), "3".to_owned())]);
    assert_eq!(stage.out.cuts.last().map(Vec::as_slice), Some(&[(1, 5)][..]));
    stage.wait(Duration::from_secs(60));
    assert_eq!(stage.out.records.len(), 3, "told once");

    // A line that is kept does not wait, and takes the positions before it along.
    stage.line(NANOS_PER_SEC, LogStream::Stdout, "dropped");
    stage.line(9 * NANOS_PER_SEC, LogStream::Stdout, "kept");
    assert_eq!(stage.out.texts()[3..], ["kept"]);
    assert_eq!(stage.out.cuts.last().map(Vec::as_slice), Some(&[(1, 7)][..]));
    stage.processor.flush(stage.now, &mut stage.out);
    assert_eq!(stage.out.texts()[4..], ["taffrail: 1 records were dropped (rate limit 2/s)"]);
}

#[test]
fn a_sample_is_the_same_when_it_is_read_again() {
    let texts: Vec<String> = (0..200).map(|n| format!("line {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let rules = || Rules { sample: Sample::parse("30%"), ..Rules::default() };
    let mut whole = Stage::new(rules());
    whole.lines(&texts);
    let mut parts = Stage::new(rules());
    for (at, text) in texts.iter().enumerate() {
        // An agent that starts again at any line.
        if at % 7 == 0 {
            parts.processor.clear();
        }
        parts.line(at as i64, LogStream::Stdout, text);
    }
    assert_eq!(whole.out.texts(), parts.out.texts());
    assert!((20..100).contains(&whole.out.records.len()));
}

#[test]
fn redaction_is_before_everything_that_goes_on() {
    let redactor = Redactor::new(
        [
            (Detector::Email, Action::Mask),
            (Detector::PrivateKey, Action::Mask),
            (Detector::Jwt, Action::Drop),
        ],
        Vec::new(),
        None,
    );
    let mut stage = Stage::new(Rules {
        redactor: redactor.into(),
        multiline: rules::Multiline::Off,
        ..Rules::default()
    });
    stage.lines(&[
        "mail to a@example.org",
        "-----BEGIN PRIVATE KEY-----",
        "MIIEpAIBAAKCAQEA7",
        "-----END PRIVATE KEY-----",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.abc",
        "done",
    ]);
    assert_eq!(stage.out.texts(), ["mail to [email]", "[private-key]", "done"]);
    stage.processor.flush(stage.now, &mut stage.out);
    assert_eq!(stage.out.texts()[3], "taffrail: 1 records were dropped (redaction)");
}

#[test]
fn the_lines_own_time_when_it_is_asked_for() {
    let at = taffrail_model::time::parse_rfc3339("2026-11-20T14:51:33Z").expect("a time");
    let own = taffrail_model::time::parse_rfc3339("2026-11-20T14:51:32Z").expect("a time");
    for (time, expected) in [(TimeOf::Runtime, at), (TimeOf::Line, own)] {
        let mut stage = Stage::new(Rules { time, ..Rules::default() });
        stage.line(at, LogStream::Stdout, "2026-11-20T14:51:32Z INFO x");
        stage.line(at, LogStream::Stdout, "no time");
        assert_eq!(stage.out.records[0].0, expected);
        assert_eq!(stage.out.records[1].0, at);
    }
}

#[test]
fn a_rewind_forgets_what_waits() {
    let mut stage = Stage::new(Rules::default());
    stage.lines(&["panic: boom"]);
    assert!(stage.processor.is_open());
    stage.processor.clear();
    assert!(!stage.processor.is_open());
    stage.wait(Duration::from_secs(9));
    assert_eq!(stage.out, Out::default());
}

proptest! {
    /// Whatever is dropped: positions never go back, end where the input ends, and each cut covers
    /// what came out before it.
    #[test]
    fn positions_are_exact(
        lines in proptest::collection::vec((any::<bool>(), "(a|b|ERROR x|\tat a.b\\(C\\)|java.lang.Error: x|a@b.cd)", 0_u64..2000), 1..80),
        sampled in any::<bool>(), limited in any::<bool>(), redacted in any::<bool>(), excluded in any::<bool>(),
    ) {
        let action = (Detector::Email, Action::Drop);
        let redactor = Redactor::new(redacted.then_some(action), Vec::new(), None);
        let mut stage = Stage::new(Rules {
            sample: sampled.then(|| Sample::parse("50%")).flatten(),
            rate: limited.then(|| Rate::parse("3/s")).flatten(),
            streams: [true, !excluded, true],
            redactor: redactor.into(),
            ..Rules::default()
        });
        for (stderr, text, pause) in &lines {
            let stream = if *stderr { LogStream::Stderr } else { LogStream::Stdout };
            let ts = stage.count.cast_signed() * 100_000_000;
            stage.line(ts, stream, text);
            stage.wait(Duration::from_millis(*pause));
        }
        stage.processor.flush(stage.now, &mut stage.out);
        prop_assert!(!stage.processor.is_open());
        let ends: Vec<u64> = stage.out.cuts.iter().filter_map(|c| c.first()).map(|m| m.1).collect();
        prop_assert!(ends.is_sorted(), "{:?}", ends);
        prop_assert_eq!(ends.last().copied(), Some(lines.len() as u64));
        let told = stage.out.records.iter().filter(|r| !r.3.is_empty() && r.3[0].0 == META_DROPPED);
        let told: usize = told.map(|r| r.3[0].1.parse::<usize>().expect("a number")).sum();
        if !excluded {
            let kept = stage.out.records.iter().filter(|r| r.3.is_empty()).map(|r| r.1.lines().count());
            // Dropped records may have had more than one line.
            prop_assert!(kept.sum::<usize>() + told <= lines.len());
        }
    }
}
