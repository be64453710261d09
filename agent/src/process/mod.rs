//! What lines mean: between the joined line of a container and its batch.
//!
//! ```text
//! join -> exclude, streams -> gather (stack traces) -> sample, rate -> level, ids, time -> redact -> batch
//! ```
//!
//! One [`Processor`] a container; it stands between the joiner and the builder as a
//! [`Sink`], and what it does is told by the [`rules::Rules`] of its container, which [`source::Source`]
//! makes of settings and annotations.
//!
//! Invariants:
//! - Nothing is mixed across containers, nor across a container's outputs.
//! - A cut never passes the first byte of a record that is still open; so an agent that starts again
//!   reads that record again, whole.
//! - What waits is bounded in bytes, lines and time.
//! - Nothing that is to be redacted gets behind this stage.
//!
//! Pure, but for counters: the time is handed in.

pub mod annotations;
pub mod drops;
mod finish;
mod gather;
pub mod metrics;
pub mod recognise;
pub mod redact;
pub mod rules;
pub mod settings;
pub mod source;
pub mod time;
pub mod trace;

use std::sync::Arc;
use std::time::Instant;

pub use finish::META_DROPPED;
use finish::{Finisher, Finishing};
use gather::Gatherer;
use metrics::Reason;
use rules::Rules;
pub use source::Source;

use crate::tail::join::{Record, Sink};
use crate::tail::{FileKind, FileNumber};

/// What is known of one container from line to line.
#[derive(Debug)]
pub struct Processor {
    source: Source,
    rules: Arc<Rules>,
    gatherer: Gatherer,
    finisher: Finisher,
}

impl Processor {
    /// With the usual rules, until [`Processor::follow`] gives others. Records become no longer than
    /// `line_max` bytes.
    #[must_use]
    pub fn new(source: Source, line_max: usize) -> Self {
        Self {
            source,
            rules: rules::usual(),
            gatherer: Gatherer::new(line_max),
            finisher: Finisher::default(),
        }
    }

    /// Takes the rules of a file as they are now.
    pub fn follow(&mut self, file: &FileKind) {
        self.rules = self.source.rules(file);
    }

    /// Whether anything waits: records, or positions of what was dropped.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.gatherer.is_open() || self.finisher.is_open()
    }

    /// Whether a record waits for more lines.
    #[must_use]
    pub fn has_open_record(&self) -> bool {
        self.gatherer.is_open()
    }

    /// The stage in front of `out`.
    pub fn over<'a, S: Sink>(&'a mut self, now: Instant, out: &'a mut S) -> Processing<'a, S> {
        let Self { source, rules, gatherer, finisher } = self;
        let finishing = Finishing { rules, finisher, metrics: source.metrics(), now, out };
        Processing { rules, gatherer, finishing, now }
    }

    /// At the end of a turn: lets go of what has waited for long enough. That is longer when the
    /// container writes on `elsewhere`, in a file that is not read yet.
    pub fn tick<S: Sink>(&mut self, now: Instant, elsewhere: bool, out: &mut S) {
        let Processing { gatherer, mut finishing, .. } = self.over(now, out);
        gatherer.tick(now, elsewhere, &mut finishing);
        finishing.settle(false);
        self.count();
    }

    /// Gives out what waits, as it is: nothing follows it.
    pub fn flush<S: Sink>(&mut self, now: Instant, out: &mut S) {
        let Processing { gatherer, mut finishing, .. } = self.over(now, out);
        gatherer.flush(&mut finishing);
        finishing.settle(true);
        self.count();
    }

    /// Forgets everything: the files are read again from their committed positions.
    pub fn clear(&mut self) {
        self.gatherer.clear();
        self.finisher.clear();
    }

    fn count(&mut self) {
        let metrics = self.source.metrics();
        metrics.joined.inc_by(self.gatherer.take_joined());
        metrics.redacted.inc_by(self.finisher.take_taken_out());
    }
}

/// A [`Processor`] at work in front of a sink.
pub struct Processing<'a, S> {
    rules: &'a Rules,
    gatherer: &'a mut Gatherer,
    finishing: Finishing<'a, S>,
    now: Instant,
}

impl<S: Sink> Sink for Processing<'_, S> {
    fn record(&mut self, file: FileNumber, record: Record<'_>) {
        if self.rules.exclude {
            self.finishing.exclude(Reason::Excluded);
        } else if self.rules.streams[record.stream as usize] {
            let Self { rules, gatherer, finishing, now } = self;
            gatherer.record(rules, file, record, *now, finishing);
        } else {
            self.finishing.exclude(Reason::Stream);
        }
    }

    fn several(&mut self) {
        self.gatherer.several();
    }

    fn cut(&mut self, moves: &[(FileNumber, u64)]) {
        self.gatherer.cut(moves, &mut self.finishing);
    }
}

#[cfg(test)]
mod tests;
