//! A corpus of realistic log lines, made from a seed: the same seed gives the same bytes, so that
//! benches of different days compare like with like.
//!
//! About as hard to compress as real logs (a test holds the ratio): numbers, ids, addresses and
//! paths vary with skewed frequencies; 16% of the streams are access logs, 22% JSON, the rest
//! `key=value`, Java, syslog, klog and PostgreSQL. One kind of line a file.

mod access;
mod java;
mod json;
mod logfmt;
mod streams;
mod system;
mod text;

use taffrail_model::Nanos;

use super::random::{Random, Zipf};
use text::{Line, Moment};

pub use streams::StreamSpec;
pub(super) use streams::pod_name;

/// Highest number of streams a corpus tells apart; a stream's number is taken modulo this.
pub const STREAMS_MAX: usize = 100_000;
/// When the corpus begins: 2026-01-01T00:00:00Z.
const START: Nanos = 1_767_225_600_000_000_000;
/// Longest step of the corpus' own clock from line to line: five million lines in six hours.
const STEP_NANOS_MAX: u32 = 8_400_000;

/// The format of a stream's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// nginx combined.
    Access,
    /// JSON objects.
    Json,
    /// `key=value`.
    Logfmt,
    /// log4j with stack traces.
    Java,
    /// syslog without the header of a relay.
    Syslog,
    /// Kubernetes' components.
    Klog,
    /// PostgreSQL's server log.
    Postgres,
}

/// One process that logs: what its lines have in common, and what it is in the middle of.
#[derive(Clone, Debug)]
pub struct Voice {
    kind: Kind,
    host: String,
    /// How many lines of a thousand tell of an error.
    pub errors_per_mille: u32,
    trace: Option<java::Trace>,
}

impl Voice {
    /// A process on `host` that logs lines of one kind, 2% of them errors.
    #[must_use]
    pub fn new(kind: Kind, host: &str) -> Self {
        Self { kind, host: host.into(), errors_per_mille: 20, trace: None }
    }

    /// Whether the next line belongs to a stack trace begun earlier.
    #[must_use]
    pub fn is_within_trace(&self) -> bool {
        self.trace.is_some()
    }
}

/// Writes lines of many streams. See the module.
#[derive(Clone, Debug)]
pub struct Corpus {
    random: Random,
    moment: Moment,
    voices: Vec<Voice>,
}

impl Corpus {
    /// The corpus of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), moment: Moment::new(START), voices: Vec::new() }
    }

    /// What stream `n` is. Independent of the seed, so that two corpora have the same streams.
    #[must_use]
    pub fn stream(&self, n: usize) -> StreamSpec {
        streams::spec(n % STREAMS_MAX)
    }

    /// The time that the last line carries.
    #[must_use]
    pub fn time(&self) -> Nanos {
        self.moment.nanos()
    }

    /// Sets the time; the next line is written a few milliseconds after it.
    pub fn set_time(&mut self, now: Nanos) {
        self.moment.set(now);
    }

    /// Which of `zipf`'s streams speaks next.
    pub fn pick(&mut self, zipf: &Zipf) -> usize {
        zipf.pick(&mut self.random)
    }

    /// Appends the next line of stream `n` to `out`, without a newline, and moves the clock on.
    pub fn write_line(&mut self, n: usize, out: &mut String) {
        let n = n % STREAMS_MAX;
        while self.voices.len() <= n {
            let spec = streams::spec(self.voices.len());
            self.voices.push(Voice::new(spec.kind, &spec.node));
        }
        let step = self.random.below(STEP_NANOS_MAX);
        self.moment.set(self.moment.nanos().saturating_add(i64::from(step)));
        let Self { random, moment, voices } = self;
        speak(&mut Line { out, random, moment }, &mut voices[n]);
    }

    /// Appends the next line of a process of the caller's own at the present time.
    pub fn write_voice(&mut self, voice: &mut Voice, out: &mut String) {
        speak(&mut Line { out, random: &mut self.random, moment: &self.moment }, voice);
    }
}

fn speak(line: &mut Line<'_>, voice: &mut Voice) {
    match voice.kind {
        Kind::Access => access::write(line, voice),
        Kind::Json => json::write(line, voice),
        Kind::Logfmt => logfmt::write(line, voice),
        Kind::Java => java::write(line, voice),
        Kind::Syslog => system::write_syslog(line, voice),
        Kind::Klog => system::write_klog(line, voice),
        Kind::Postgres => system::write_postgres(line, voice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn lines(seed: u64, count: usize) -> Vec<(usize, String)> {
        let (mut corpus, zipf) = (Corpus::new(seed), Zipf::new(64));
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = corpus.pick(&zipf);
            let mut line = String::new();
            corpus.write_line(stream, &mut line);
            lines.push((stream, line));
        }
        lines
    }

    #[test]
    fn a_seed_is_a_corpus() {
        assert_eq!(lines(3, 2000), lines(3, 2000));
        assert_ne!(lines(3, 100), lines(4, 100));
    }

    #[test]
    fn lines_are_one_line_each_of_a_sane_length() {
        let lines = lines(11, 20_000);
        let bytes: usize = lines.iter().map(|(_, line)| line.len()).sum();
        let mean = bytes / lines.len();
        assert!((150..=250).contains(&mean), "mean length {mean}");
        for (_, line) in &lines {
            assert!(!line.contains('\n') && (5..600).contains(&line.len()), "{line}");
        }
    }

    #[test]
    fn json_lines_are_json() {
        let (mut corpus, mut voice) = (Corpus::new(5), Voice::new(Kind::Json, "node-1"));
        voice.errors_per_mille = 300;
        for _ in 0..500 {
            let mut line = String::new();
            corpus.write_voice(&mut voice, &mut line);
            let value: serde_json::Value = serde_json::from_str(&line).expect(&line);
            assert_eq!(value["trace_id"].as_str().unwrap().len(), 32);
            assert_eq!(value["level"] == "error", !value["error"].is_null(), "{line}");
        }
    }

    #[test]
    fn a_stack_trace_comes_whole() {
        let (mut corpus, mut voice) = (Corpus::new(5), Voice::new(Kind::Java, "node-1"));
        voice.errors_per_mille = 500;
        let mut within = 0;
        for _ in 0..2000 {
            let began = voice.is_within_trace();
            let mut line = String::new();
            corpus.write_voice(&mut voice, &mut line);
            let is_header = line.starts_with("1970-") || line.starts_with("2026-");
            assert_eq!(began, !is_header, "{line}");
            within += usize::from(began);
        }
        assert!(within > 500);
    }

    #[test]
    fn compresses_about_as_real_logs_do() {
        // The corpus of the measurements: ratio 5.5 in blocks of 256 KiB of one stream at level 1.
        let mut streams: HashMap<usize, String> = HashMap::new();
        for (stream, line) in lines(1, 60_000) {
            let text = streams.entry(stream).or_default();
            text.push_str(&line);
            text.push('\n');
        }
        let (mut raw, mut packed) = (0, 0);
        for block in streams.values().flat_map(|text| text.as_bytes().chunks(256 << 10)) {
            raw += block.len();
            packed += zstd::bulk::compress(block, 1).unwrap().len();
        }
        let ratio = raw as f64 / packed as f64;
        eprintln!("corpus: {raw} bytes, ratio {ratio:.2}");
        assert!((3.5..8.0).contains(&ratio), "ratio {ratio}");
    }
}
