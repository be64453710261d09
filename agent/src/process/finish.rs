//! What is done with a whole record: kept or not, read, redacted, passed on.
//!
//! Invariants:
//! - A record that is dropped still moves its file's position, and is counted.
//! - What was dropped by a sample, a rate or a redaction is told in the stream itself, once a minute.
//!   Until that is told, the positions of what was dropped last wait with it, so that it is not lost by
//!   a restart; a record that is kept does not wait for it.
//! - Nothing that a redaction finds goes on, neither in the text nor in the metadata.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use taffrail_model::{Level, Nanos};

use super::drops::Bucket;
use super::gather::merge;
use super::metrics::{Metrics, Reason};
use super::recognise;
use super::redact::Outcome;
use super::rules::{Rules, TimeOf};
use super::time::{self, Against};
use crate::tail::join::{Marks, Meaning, Record, Sink};
use crate::tail::{FileNumber, LogStream};

/// How often it is told how much was dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Most names and values of structured metadata of a record.
const FIELDS_MAX: usize = 8;
/// Structured metadata: the trace and the span that a line belongs to.
const META_TRACE_ID: &str = "trace_id";
const META_SPAN_ID: &str = "span_id";
/// The structured metadata of the record that tells how much was dropped.
pub const META_DROPPED: &str = "taffrail_dropped_lines";

/// A record with all its lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    pub(super) file: FileNumber,
    pub(super) record: Record<'a>,
    /// Of its first line.
    pub(super) level: Level,
    pub(super) lines: u32,
}

/// Takes what is gathered.
pub(super) trait Next {
    fn whole(&mut self, whole: &Whole<'_>);
    fn cut(&mut self, moves: &[(FileNumber, u64)]);
}

/// What is remembered from record to record of a container.
#[derive(Debug, Default)]
pub(super) struct Finisher {
    bucket: Bucket,
    /// Whether records went on since the last cut.
    dirty: bool,
    /// Positions of what was dropped.
    pending: Vec<(FileNumber, u64)>,
    told: [Dropped; 3],
    redacted: Vec<u8>,
    taken_out: u64,
}

/// What one stream has dropped and not told of yet.
#[derive(Debug, Default)]
struct Dropped {
    counts: [u64; Reason::TOLD.len()],
    /// Of the last of them.
    file: Option<FileNumber>,
    ts: Nanos,
    since: Option<Instant>,
}

/// The finisher at work.
pub(super) struct Finishing<'a, S> {
    pub(super) rules: &'a Rules,
    pub(super) finisher: &'a mut Finisher,
    pub(super) metrics: &'a Metrics,
    pub(super) now: Instant,
    pub(super) out: &'a mut S,
}

impl Finisher {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether positions wait.
    pub(super) fn is_open(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Things taken out since it was asked last.
    pub(super) fn take_taken_out(&mut self) -> u64 {
        std::mem::take(&mut self.taken_out)
    }

    fn owes(&self) -> bool {
        self.told.iter().any(|dropped| dropped.since.is_some())
    }

    fn note(&mut self, reason: Reason, file: FileNumber, record: &Record<'_>, now: Instant) {
        let dropped = &mut self.told[record.stream as usize];
        let Some(at) = Reason::TOLD.iter().position(|told| *told == reason) else { return };
        dropped.counts[at] += 1;
        (dropped.file, dropped.ts) = (Some(file), record.ts);
        dropped.since.get_or_insert(now);
    }
}

impl<S: Sink> Finishing<'_, S> {
    /// A record that is not wanted at all.
    pub(super) fn exclude(&mut self, reason: Reason) {
        self.metrics.dropped(reason, 1);
    }

    fn keeps(&mut self, whole: &Whole<'_>) -> bool {
        let (rules, Record { ts, text, .. }) = (self.rules, whole.record);
        let reason = if rules.sample.is_some_and(|sample| !sample.keeps(ts, text)) {
            Reason::Sample
        } else if rules.rate.is_some_and(|rate| !self.finisher.bucket.admits(rate, ts)) {
            Reason::Rate
        } else {
            return true;
        };
        self.drop(reason, whole);
        false
    }

    fn drop(&mut self, reason: Reason, whole: &Whole<'_>) {
        self.metrics.dropped(reason, u64::from(whole.lines));
        self.finisher.note(reason, whole.file, &whole.record, self.now);
    }

    /// Tells what was dropped, if it is time or the end.
    pub(super) fn tell(&mut self, end: bool) {
        for stream in [LogStream::Stdout, LogStream::Stderr, LogStream::File] {
            let dropped = &mut self.finisher.told[stream as usize];
            let due = |since| end || self.now.saturating_duration_since(since) >= TELL_EVERY;
            if !dropped.since.is_some_and(due) {
                continue;
            }
            let Dropped { counts, file, ts, .. } = std::mem::take(dropped);
            let Some(file) = file else { continue };
            for (reason, count) in Reason::TOLD.into_iter().zip(counts).filter(|(_, n)| *n > 0) {
                let (level, why) = explain(reason, self.rules);
                let text = format!("taffrail: {} records were dropped ({why})", grouped(count));
                let count = count.to_string();
                let fields = [(META_DROPPED, &*count)];
                let record = Record { stream, ts, text: text.as_bytes(), marks: Marks::default() };
                self.out.meant(file, record, Meaning { level, fields: &fields });
                self.finisher.dirty = true;
            }
        }
    }

    /// Lets go of positions that wait for nothing, or, at the end, of all.
    pub(super) fn settle(&mut self, end: bool) {
        if self.finisher.pending.is_empty() && !end {
            return;
        }
        self.tell(end);
        if !self.finisher.owes() && (self.finisher.dirty || !self.finisher.pending.is_empty()) {
            self.out.cut(&self.finisher.pending);
            self.finisher.pending.clear();
            self.finisher.dirty = false;
        }
    }

    fn pass(&mut self, whole: &Whole<'_>, text: &[u8]) {
        let (rules, line) = (self.rules, whole.record.text);
        let mut fields = [("", ""); FIELDS_MAX];
        let mut count = 0;
        let mut add = |name, value| {
            if count < FIELDS_MAX {
                fields[count] = (name, value);
                count += 1;
            }
        };
        let ids = recognise::ids(rules.parser, line);
        let (trace, span) =
            (ids.trace.map(|id| clean(rules, id)), ids.span.map(|id| clean(rules, id)));
        if let Some(trace) = trace.as_deref() {
            add(META_TRACE_ID, trace);
        }
        if let Some(span) = span.as_deref() {
            add(META_SPAN_ID, span);
        }
        for (name, value) in &rules.fields {
            add(*name, value.as_str());
        }
        // A trace without a word about its severity is an error's.
        let level = match whole.level {
            Level::Unknown if whole.lines > 1 && rules.reads_lines() => Level::Error,
            level => level,
        };
        let record = Record { ts: self.time(whole), text, ..whole.record };
        self.out.meant(whole.file, record, Meaning { level, fields: &fields[..count] });
        self.finisher.dirty = true;
    }

    fn time(&self, whole: &Whole<'_>) -> Nanos {
        let (rules, Record { ts, text, stream, .. }) = (self.rules, whole.record);
        if rules.time == TimeOf::Runtime {
            return ts;
        }
        let against = match stream {
            LogStream::File => Against::Reading(ts),
            LogStream::Stdout | LogStream::Stderr => Against::Runtime(ts),
        };
        time::of_line(rules.parser, text, against).unwrap_or(ts)
    }
}

impl<S: Sink> Next for Finishing<'_, S> {
    fn whole(&mut self, whole: &Whole<'_>) {
        if !self.keeps(whole) {
            return;
        }
        let rules = self.rules;
        if rules.redactor.is_idle() {
            self.pass(whole, whole.record.text);
            return;
        }
        let mut redacted = std::mem::take(&mut self.finisher.redacted);
        match rules.redactor.apply(whole.record.text, &mut redacted) {
            Outcome::Clean => self.pass(whole, whole.record.text),
            Outcome::Changed(count) => {
                self.finisher.taken_out += u64::from(count);
                self.pass(whole, &redacted);
            }
            Outcome::Dropped => self.drop(Reason::Redaction, whole),
        }
        self.finisher.redacted = redacted;
    }

    fn cut(&mut self, moves: &[(FileNumber, u64)]) {
        if self.finisher.owes() {
            self.tell(false);
        }
        if self.finisher.dirty && self.finisher.pending.is_empty() {
            self.out.cut(moves);
            self.finisher.dirty = false;
            return;
        }
        merge(&mut self.finisher.pending, moves);
        if self.finisher.dirty {
            self.out.cut(&self.finisher.pending);
            self.finisher.pending.clear();
            self.finisher.dirty = false;
        }
    }
}

/// An id without what is to be taken out of text.
fn clean<'a>(rules: &Rules, id: &'a str) -> Cow<'a, str> {
    if rules.redactor.is_idle() {
        return Cow::Borrowed(id);
    }
    let mut out = Vec::new();
    match rules.redactor.apply(id.as_bytes(), &mut out) {
        Outcome::Clean => Cow::Borrowed(id),
        Outcome::Changed(_) => Cow::Owned(String::from_utf8_lossy(&out).into_owned()),
        Outcome::Dropped => Cow::Borrowed(""),
    }
}

fn explain(reason: Reason, rules: &Rules) -> (Level, String) {
    let said = |what: Option<String>, else_: &str| what.unwrap_or_else(|| else_.to_owned());
    match reason {
        Reason::Rate => (Level::Warn, said(rules.rate.map(|r| r.to_string()), "rate limit")),
        Reason::Sample => (Level::Info, said(rules.sample.map(|s| s.to_string()), "sample")),
        Reason::Redaction => (Level::Warn, "redaction".to_owned()),
        Reason::Excluded | Reason::Stream => (Level::Info, "not wanted".to_owned()),
    }
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
