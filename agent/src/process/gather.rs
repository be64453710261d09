//! Gathers the lines of a stack trace into one record, each output of a container for itself.
//!
//! Invariants:
//! - Every line comes out once and in order: as a record or as a part of one, joined by `\n`.
//! - A cut never passes the first byte of a record that is still open, nor lies inside of one: what
//!   comes behind an open record waits for it, and all of it goes in one group.
//! - What waits is bounded: in lines and bytes of a record, in bytes that wait behind it, in silence.
//! - A line that is odd (cut, partial, not in its format) is a record of its own.
//!
//! Pure: the time is handed in. Which lines belong together is `process::trace`'s to say.

use std::time::{Duration, Instant};

use taffrail_model::{Level, Nanos};

use super::finish::{Next, Whole};
use super::rules::{Multiline, Rules};
use super::trace::{self, State, Verdict};
use crate::tail::join::{Marks, Record};
use crate::tail::{FileNumber, LogStream};

/// How long an open trace waits for its next line.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a line that a trace may follow waits for it: a runtime writes both at once.
const GUESS_SILENCE: Duration = Duration::from_millis(250);
/// How long the other output waits behind an open record that goes on and on, and a record for the
/// next file of its container.
const AGE: Duration = Duration::from_secs(5);
/// Most lines of a record.
const LINES_MAX: u32 = 1000;
/// Most lines that may or may not belong to a record.
const DOUBTFUL_MAX: usize = 8;
/// Most bytes that wait.
const HELD_BYTES_MAX: usize = 1 << 20;

/// The open records of one container.
#[derive(Debug)]
pub(super) struct Gatherer {
    line_max: usize,
    /// Apart: hardly ever is there one.
    open: [Option<Box<Open>>; 3],
    held: Vec<Held>,
    held_bytes: usize,
    moves: Vec<(FileNumber, u64)>,
    /// More records come before the next cut: none of them may go before the others.
    several: bool,
    /// Lines that became a part of a record of another line.
    joined: u64,
}

#[derive(Debug)]
struct Open {
    /// Its record among the held ones.
    at: usize,
    state: State,
    /// Held lines behind it that belong to it if it goes on.
    doubtful: Vec<usize>,
    lines: u32,
    began: Instant,
    touched: Instant,
}

#[derive(Debug)]
struct Held {
    file: FileNumber,
    stream: LogStream,
    ts: Nanos,
    text: Vec<u8>,
    marks: Marks,
    level: Level,
    lines: u32,
    /// It has become a part of another one.
    gone: bool,
}

impl Gatherer {
    /// Nothing is open; a record becomes no longer than `line_max` bytes.
    pub(super) fn new(line_max: usize) -> Self {
        Self {
            line_max,
            open: [None, None, None],
            held: Vec::new(),
            held_bytes: 0,
            moves: Vec::new(),
            several: false,
            joined: 0,
        }
    }

    /// Whether anything waits.
    pub(super) fn is_open(&self) -> bool {
        !self.held.is_empty()
    }

    /// Lines that became a part of another line's record since it was asked last.
    pub(super) fn take_joined(&mut self) -> u64 {
        std::mem::take(&mut self.joined)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.line_max);
    }

    /// The next records belong to one cut.
    pub(super) fn several(&mut self) {
        self.several = true;
    }

    /// Takes a line.
    pub(super) fn record(
        &mut self,
        rules: &Rules,
        file: FileNumber,
        record: Record<'_>,
        now: Instant,
        next: &mut impl Next,
    ) {
        let level = rules.parser.level(record.text);
        let odd = record.marks != Marks::default();
        if self.open[record.stream as usize].is_some() {
            let verdict = if odd { Verdict::Ends } else { self.verdict(rules, &record, level) };
            if self.take(verdict, file, &record, level, now) {
                return;
            }
            self.open[record.stream as usize] = None;
            if self.is_idle() && !self.several {
                self.release(next);
            }
        }
        let start = if odd { None } else { start(rules, record.text, level) };
        if start.is_none() && self.held.is_empty() && !self.several {
            next.whole(&Whole { file, record, level, lines: 1 });
            return;
        }
        let at = self.hold(file, &record, level);
        if let Some(state) = start {
            let open =
                Open { at, state, doubtful: Vec::new(), lines: 1, began: now, touched: now }.into();
            self.open[record.stream as usize] = Some(open);
        }
        if self.held_bytes > HELD_BYTES_MAX {
            self.open = [None, None, None];
        }
    }

    /// These positions belong to the records since the last cut.
    pub(super) fn cut(&mut self, moves: &[(FileNumber, u64)], next: &mut impl Next) {
        self.several = false;
        if self.held.is_empty() {
            next.cut(moves);
            return;
        }
        merge(&mut self.moves, moves);
        if self.is_idle() {
            self.release(next);
        }
    }

    /// Closes what has waited for too long.
    pub(super) fn tick(&mut self, now: Instant, elsewhere: bool, next: &mut impl Next) {
        if self.held.is_empty() {
            return;
        }
        let waiting = self.held.len();
        for slot in &mut self.open {
            let Some(open) = slot else { continue };
            let guess = open.lines == 1 && open.state.is_guess();
            let patience = match (elsewhere, guess) {
                (true, _) => AGE,
                (false, true) => GUESS_SILENCE,
                (false, false) => SILENCE,
            };
            let silent = now.saturating_duration_since(open.touched) >= patience;
            let others = waiting > 1 + open.doubtful.len();
            if silent || (others && now.saturating_duration_since(open.began) >= AGE) {
                *slot = None;
            }
        }
        if self.is_idle() {
            self.release(next);
        }
    }

    /// Gives everything out as it is.
    pub(super) fn flush(&mut self, next: &mut impl Next) {
        self.open = [None, None, None];
        self.release(next);
    }

    fn is_idle(&self) -> bool {
        self.open.iter().all(Option::is_none)
    }

    fn verdict(&self, rules: &Rules, record: &Record<'_>, level: Level) -> Verdict {
        let Some(open) = &self.open[record.stream as usize] else { return Verdict::Ends };
        let verdict = match &rules.multiline {
            Multiline::Start(start) if start.is_match(record.text) => Verdict::Ends,
            Multiline::Start(_) | Multiline::Off => {
                trace::next(open.state, record.text, level, trace::Languages::NONE)
            }
            Multiline::Traces(languages) => trace::next(open.state, record.text, level, *languages),
        };
        let doubtful: usize = open.doubtful.iter().map(|at| self.held[*at].text.len() + 1).sum();
        let bytes = self.held[open.at].text.len() + doubtful + 1 + record.text.len();
        let lines = open.lines as usize + open.doubtful.len();
        let full = bytes > self.line_max || lines >= LINES_MAX as usize;
        let unsure = matches!(verdict, Verdict::Perhaps(_)) && open.doubtful.len() >= DOUBTFUL_MAX;
        if full || unsure { Verdict::Ends } else { verdict }
    }

    /// Adds a line to the open record of its stream, if it belongs there.
    fn take(
        &mut self,
        verdict: Verdict,
        file: FileNumber,
        record: &Record<'_>,
        level: Level,
        now: Instant,
    ) -> bool {
        let slot = record.stream as usize;
        match verdict {
            Verdict::Joins(state) => {
                let Some(mut open) = self.open[slot].take() else { return false };
                for at in std::mem::take(&mut open.doubtful) {
                    let text = std::mem::take(&mut self.held[at].text);
                    self.held[at].gone = true;
                    self.append(&mut open, file, &text);
                }
                self.append(&mut open, file, record.text);
                self.held_bytes += record.text.len() + 1;
                (open.state, open.touched) = (state, now);
                if state != State::Done {
                    self.open[slot] = Some(open);
                }
                true
            }
            Verdict::Perhaps(state) => {
                let at = self.hold(file, record, level);
                if let Some(open) = &mut self.open[slot] {
                    open.doubtful.push(at);
                    (open.state, open.touched) = (state, now);
                }
                true
            }
            Verdict::Ends => false,
        }
    }

    fn append(&mut self, open: &mut Open, file: FileNumber, text: &[u8]) {
        let whole = &mut self.held[open.at];
        whole.text.push(b'\n');
        whole.text.extend_from_slice(text);
        whole.lines += 1;
        // The file that was read last is known to the batch for longest.
        whole.file = file;
        open.lines += 1;
        self.joined += 1;
    }

    fn hold(&mut self, file: FileNumber, record: &Record<'_>, level: Level) -> usize {
        let Record { stream, ts, text, marks } = *record;
        self.held_bytes += text.len() + size_of::<Held>();
        let text = text.to_vec();
        self.held.push(Held { file, stream, ts, text, marks, level, lines: 1, gone: false });
        self.held.len() - 1
    }

    fn release(&mut self, next: &mut impl Next) {
        for held in self.held.drain(..) {
            if held.gone {
                continue;
            }
            let Held { file, stream, ts, text, marks, level, lines, .. } = &held;
            let record = Record { stream: *stream, ts: *ts, text, marks: *marks };
            next.whole(&Whole { file: *file, record, level: *level, lines: *lines });
        }
        self.held_bytes = 0;
        if !self.moves.is_empty() {
            next.cut(&self.moves);
            self.moves.clear();
        }
    }
}

/// Whether a record opens with this line.
fn start(rules: &Rules, line: &[u8], level: Level) -> Option<State> {
    match &rules.multiline {
        Multiline::Traces(languages) => trace::start(line, level, *languages),
        // What stands before the first start is a record too.
        Multiline::Start(_) => Some(State::Custom),
        Multiline::Off if rules.redactor.takes_keys() => trace::start_key(line),
        Multiline::Off => None,
    }
}

/// Moves each file to its furthest position.
pub(super) fn merge(known: &mut Vec<(FileNumber, u64)>, moves: &[(FileNumber, u64)]) {
    for (file, end) in moves {
        match known.iter_mut().find(|(f, _)| f == file) {
            Some(known) => known.1 = *end,
            None => known.push((*file, *end)),
        }
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
