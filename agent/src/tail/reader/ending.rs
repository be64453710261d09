//! The end of the process: what is read yet, and what is left behind.
//!
//! With a collector that answers, files that only we still hold are read to their ends; all others
//! wait for the next agent. Without one, nobody knows when that will be: what would vanish is read
//! into the spool, then everything, for as long as [`EVERYTHING_MAX`].

use std::time::{Duration, Instant};

use super::Reader;
use crate::tail::chain::Reach;

/// How long everything is read when the collector is away, after what would vanish.
const EVERYTHING_MAX: Duration = Duration::from_secs(1);
/// How much of the grace is for reading: the rest is for handing it over.
const READING_SHARE: f32 = 0.75;

/// Since the stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    since: Instant,
    /// When all was read that would vanish.
    saved: Option<Instant>,
    done: bool,
}

impl Ending {
    /// Which files are read now.
    pub(super) fn reach(self, away: bool) -> Reach {
        match (away, self.saved) {
            (false, _) => Reach::Gone,
            (true, None) => Reach::Vanishing,
            (true, Some(_)) => Reach::Everything,
        }
    }
}

impl Reader {
    /// It is time to end.
    pub(super) fn begin_to_end(&mut self) {
        let since = Instant::now();
        // Without positions and without a spool there is nothing to wait for.
        let done = self.positions.is_none() && self.config.spool.is_none();
        self.ending.get_or_insert(Ending { since, saved: None, done });
        self.scan(since);
    }

    /// All files that are read now have been looked at, and nothing was new.
    pub(super) fn pass_in_silence(&mut self) {
        let away = self.away.is_some();
        let Some(ending) = &mut self.ending else { return };
        if away && ending.saved.is_none() {
            ending.saved = Some(Instant::now());
        } else {
            ending.done = true;
        }
    }

    /// Whether nothing more is to be read.
    pub(super) fn has_ended(&self) -> bool {
        self.ending.is_some_and(|ending| ending.done)
            || self.ends_at().is_some_and(|end| end <= Instant::now())
    }

    /// When nothing more is read, once the process is to end.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        let ending = self.ending?;
        let late = ending.since + self.config.grace.mul_f32(READING_SHARE);
        let enough = ending.saved.filter(|_| self.away.is_some());
        Some(enough.map_or(late, |saved| late.min(saved + EVERYTHING_MAX)))
    }

    /// Hands over what is read.
    pub(super) fn finish(&mut self) {
        let mut chains = std::mem::take(&mut self.chains);
        let now = Instant::now();
        if self.positions.is_some() {
            for chain in chains.values_mut() {
                self.with_turn(now, |turn| chain.last_words(turn));
            }
        }
        self.chains = chains;
        self.hand_over();
        self.write_ledger();
    }
}
