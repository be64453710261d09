//! The gatherer between a joiner's records and a list: what comes out, and with which cuts.

use proptest::prelude::*;
use taffrail_model::Level;

use super::*;
use crate::process::rules::usual;
use crate::process::trace::tests::samples;

/// What came out: records, and after how many of them which positions.
#[derive(Debug, Default)]
struct Out {
    records: Vec<(LogStream, String, u32, Level)>,
    cuts: Vec<(usize, Vec<(u32, u64)>)>,
}

impl Next for Out {
    fn whole(&mut self, whole: &Whole<'_>) {
        let text = String::from_utf8_lossy(whole.record.text).into_owned();
        self.records.push((whole.record.stream, text, whole.lines, whole.level));
    }
    fn cut(&mut self, moves: &[(FileNumber, u64)]) {
        self.cuts.push((self.records.len(), moves.iter().map(|(f, end)| (f.0, *end)).collect()));
    }
}

impl Out {
    fn texts(&self) -> Vec<&str> {
        self.records.iter().map(|r| r.1.as_str()).collect()
    }
}

/// Pushes lines as a joiner does: each a record and a cut at its number.
struct Feed {
    rules: Rules,
    gatherer: Gatherer,
    out: Out,
    now: Instant,
    count: u64,
}

impl Feed {
    fn new(rules: Rules) -> Self {
        let gatherer = Gatherer::new(10_000);
        Self { rules, gatherer, out: Out::default(), now: Instant::now(), count: 0 }
    }

    fn usual() -> Self {
        Self::new(Rules::clone(&usual()))
    }

    fn line(&mut self, file: u32, stream: LogStream, text: &str) {
        self.count += 1;
        let record = Record {
            stream,
            ts: self.count.cast_signed(),
            text: text.as_bytes(),
            marks: Marks::default(),
        };
        let file = FileNumber(file);
        self.gatherer.record(&self.rules, file, record, self.now, &mut self.out);
        self.gatherer.cut(&[(file, self.count)], &mut self.out);
    }

    fn lines(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(1, LogStream::Stdout, line));
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.gatherer.tick(self.now, false, &mut self.out);
    }
}

#[test]
fn each_trace_is_one_record_between_others() {
    for (language, traces) in samples() {
        for trace in traces {
            let mut feed = Feed::usual();
            feed.lines("served one");
            feed.lines(trace);
            feed.lines("served two");
            feed.wait(SILENCE);
            assert_eq!(feed.out.texts(), ["served one", trace, "served two"], "{language}");
            assert!(!feed.gatherer.is_open());
            // The cut of the trace is that of its last line, and there is none inside of it.
            let inside: Vec<u64> = feed.out.cuts.iter().map(|(_, moves)| moves[0].1).collect();
            assert_eq!(inside, [1, feed.count - 1, feed.count], "{language}");
        }
    }
}

#[test]
fn all_languages_in_one_stream() {
    let mut feed = Feed::usual();
    let mut expected = Vec::new();
    for (_, traces) in samples() {
        for trace in traces {
            feed.lines(trace);
            feed.lines("served");
            expected.extend([trace, "served"]);
        }
    }
    feed.wait(SILENCE);
    assert_eq!(feed.out.texts(), expected);
}

#[test]
fn noise_ends_a_trace_and_the_rest_is_one_record() {
    let mut feed = Feed::usual();
    feed.lines("java.lang.Error: x\n\tat a.B.c(B.java:1)\nINFO served\n\tat a.B.d(B.java:2)\n\tat a.B.e(B.java:3)\nbye");
    feed.wait(SILENCE);
    assert_eq!(
        feed.out.texts(),
        [
            "java.lang.Error: x\n\tat a.B.c(B.java:1)",
            "INFO served",
            "\tat a.B.d(B.java:2)\n\tat a.B.e(B.java:3)",
            "bye"
        ]
    );
}

#[test]
fn doubtful_lines_are_given_back() {
    let mut feed = Feed::usual();
    feed.lines("Error: something\nfirst thing\nsecond thing\n2026-11-20 done");
    assert_eq!(
        feed.out.texts(),
        ["Error: something", "first thing", "second thing", "2026-11-20 done"]
    );
    feed.lines("panic: boom\n\nnot a goroutine");
    feed.wait(SILENCE);
    assert_eq!(&feed.out.texts()[4..], ["panic: boom", "", "not a goroutine"]);
}

#[test]
fn outputs_are_apart_and_wait_for_each_other() {
    let mut feed = Feed::usual();
    feed.line(1, LogStream::Stdout, "java.lang.Error: x");
    feed.line(1, LogStream::Stderr, "Traceback (most recent call last):");
    feed.line(1, LogStream::Stdout, "\tat a.B.c(B.java:1)");
    feed.line(1, LogStream::Stderr, "  File \"a.py\", line 1, in x");
    feed.line(1, LogStream::Stdout, "done");
    assert_eq!(feed.out.texts(), [""; 0], "stderr is still open");
    feed.line(1, LogStream::Stderr, "ValueError: y");
    feed.wait(SILENCE);
    assert_eq!(
        feed.out.texts(),
        [
            "java.lang.Error: x\n\tat a.B.c(B.java:1)",
            "Traceback (most recent call last):\n  File \"a.py\", line 1, in x\nValueError: y",
            "done"
        ]
    );
    assert_eq!(feed.out.cuts, [(3, vec![(1, 6)])], "one group");
}

#[test]
fn a_trace_goes_on_in_the_next_file() {
    let mut feed = Feed::usual();
    feed.line(1, LogStream::Stdout, "java.lang.Error: x");
    feed.line(2, LogStream::Stdout, "\tat a.B.c(B.java:1)");
    feed.line(2, LogStream::Stdout, "done");
    assert_eq!(feed.out.texts(), ["java.lang.Error: x\n\tat a.B.c(B.java:1)", "done"]);
    assert_eq!(feed.out.cuts[0], (1, vec![(1, 1), (2, 2)]));
}

#[test]
fn silence_lets_go() {
    let mut feed = Feed::usual();
    feed.lines("ERROR something");
    feed.wait(GUESS_SILENCE / 2);
    assert!(feed.out.records.is_empty());
    feed.wait(GUESS_SILENCE / 2);
    assert_eq!(feed.out.texts(), ["ERROR something"], "a guess does not wait for long");
    feed.lines("Traceback (most recent call last):");
    feed.wait(GUESS_SILENCE);
    assert_eq!(feed.out.records.len(), 1);
    feed.wait(SILENCE);
    assert_eq!(feed.out.records.len(), 2);
}

#[test]
fn silence_says_nothing_when_the_next_file_is_not_read_yet() {
    let mut feed = Feed::usual();
    feed.lines("java.lang.Error: x");
    feed.now += SILENCE * 2;
    feed.gatherer.tick(feed.now, true, &mut feed.out);
    assert!(feed.out.records.is_empty());
    feed.now += AGE;
    feed.gatherer.tick(feed.now, true, &mut feed.out);
    assert_eq!(feed.out.records.len(), 1, "but not for ever");
}

#[test]
fn bounds_hold() {
    let mut feed = Feed::usual();
    feed.lines("java.lang.Error: x");
    (0..3000).for_each(|_| feed.lines("\tat a.B.c(B.java:1)"));
    feed.wait(SILENCE);
    assert!(feed.out.records.iter().all(|r| r.1.len() <= 10_000 && r.2 <= LINES_MAX));
    let lines: u32 = feed.out.records.iter().map(|r| r.2).sum();
    assert_eq!(lines, 3001);

    // What waits behind an open trace of the other output is bounded too.
    let mut feed = Feed::usual();
    feed.line(1, LogStream::Stderr, "Traceback (most recent call last):");
    let mut most = 0;
    for _ in 0..2000 {
        feed.line(1, LogStream::Stdout, &"x".repeat(1000));
        most = most.max(feed.gatherer.held_bytes);
    }
    assert!(most < HELD_BYTES_MAX + 2000, "{most}");
    assert!(feed.out.records.len() > 900);
}

#[test]
fn an_odd_line_is_a_record_of_its_own() {
    let mut feed = Feed::usual();
    feed.lines("java.lang.Error: x\n\tat a.B.c(B.java:1)");
    let marks = Marks { partial: true, ..Marks::default() };
    let record = Record { stream: LogStream::Stdout, ts: 9, text: b"\tat a.B.d", marks };
    feed.gatherer.record(&feed.rules, FileNumber(1), record, feed.now, &mut feed.out);
    feed.gatherer.cut(&[(FileNumber(1), 9)], &mut feed.out);
    assert_eq!(feed.out.texts(), ["java.lang.Error: x\n\tat a.B.c(B.java:1)", "\tat a.B.d"]);
}

#[test]
fn a_pattern_of_the_users() {
    let start = regex::bytes::Regex::new(r"^\[\d+\]").expect("a pattern");
    let mut feed = Feed::new(Rules { multiline: Multiline::Start(start), ..Rules::default() });
    feed.lines("lost\n[1] one\n  more\n{}\n[2] two\n[3] three");
    feed.wait(SILENCE);
    assert_eq!(feed.out.texts(), ["lost", "[1] one\n  more\n{}", "[2] two", "[3] three"]);
}

#[test]
fn off_is_off() {
    let mut feed = Feed::new(Rules { multiline: Multiline::Off, ..Rules::default() });
    feed.lines("java.lang.Error: x\n\tat a.B.c(B.java:1)");
    assert_eq!(feed.out.records.len(), 2);
}

#[test]
fn records_of_one_cut_stay_together() {
    // As a joiner gives them that had to wait: a trace begins in the midst of the group.
    let mut feed = Feed::usual();
    feed.gatherer.several();
    for (ts, text) in [(1, "one"), (2, "java.lang.Error: x"), (3, "\tat a.B.c(B.java:1)")] {
        let record = Record {
            stream: LogStream::Stdout,
            ts,
            text: text.as_bytes(),
            marks: Marks::default(),
        };
        feed.gatherer.record(&feed.rules, FileNumber(1), record, feed.now, &mut feed.out);
    }
    feed.gatherer.cut(&[(FileNumber(1), 3)], &mut feed.out);
    assert!(feed.out.records.is_empty(), "the trace may go on: nothing may be sent without a cut");
    feed.count = 3;
    feed.lines("done");
    assert_eq!(feed.out.texts(), ["one", "java.lang.Error: x\n\tat a.B.c(B.java:1)", "done"]);
    assert_eq!(feed.out.cuts, [(2, vec![(1, 3)]), (3, vec![(1, 4)])]);
}

fn any_line() -> impl Strategy<Value = String> {
    let lines: Vec<String> = samples()
        .into_iter()
        .flat_map(|(_, traces)| traces)
        .flat_map(str::lines)
        .map(str::to_owned)
        .collect();
    prop_oneof![
        3 => proptest::sample::select(lines),
        1 => Just(String::new()),
        1 => Just("served".to_owned()),
        1 => "[ -~]{0,20}",
    ]
}

proptest! {
    /// Joining loses no line, adds none, and keeps the order of each output; and a restart at any cut
    /// reads exactly what is not yet out.
    #[test]
    fn nothing_is_lost(
        lines in proptest::collection::vec((any::<bool>(), any_line(), 0_u64..400), 0..120),
    ) {
        let mut feed = Feed::usual();
        for (stderr, line, pause) in &lines {
            let stream = if *stderr { LogStream::Stderr } else { LogStream::Stdout };
            feed.line(1, stream, line);
            feed.wait(Duration::from_millis(*pause));
            // A cut covers whole lines only: as many as are out.
            let out: u64 = feed.out.records.iter().map(|r| u64::from(r.2)).sum();
            let cut = feed.out.cuts.last().map_or(0, |(_, moves)| moves[0].1);
            prop_assert_eq!(out, cut);
            prop_assert_eq!(feed.out.cuts.last().map_or(0, |c| c.0), feed.out.records.len());
        }
        feed.gatherer.flush(&mut feed.out);
        for (stream, stderr) in [(LogStream::Stdout, false), (LogStream::Stderr, true)] {
            let written: Vec<&str> = lines.iter().filter(|l| l.0 == stderr).map(|l| l.1.as_str()).collect();
            let records = feed.out.records.iter().filter(|r| r.0 == stream);
            let read: Vec<&str> = records.flat_map(|r| r.1.split('\n')).collect();
            prop_assert_eq!(written, read);
        }
    }
}
