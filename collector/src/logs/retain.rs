//! What is kept: by age, by rules for some streams, by size, and as long as the disk has room.
//!
//! Whole segments are removed where that is enough. A rule that keeps some streams for a shorter time
//! than others writes a segment anew once all of its lines that fall under the rule are too old, so each
//! rule costs at most one rewriting of a segment; every merge leaves out blocks that are too old.
//!
//! Size and room remove the segments with the oldest lines first and always leave the newest one. Files
//! that a query still reads take room until it ends; they count as gone, so that nothing more is removed
//! in their place.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use taffrail_model::{Matcher, Nanos};

use super::flush::remove;
use super::segment::Segment;
use super::{Error, LogStore};

/// What is kept.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Lines older than this are removed; none: no line is too old.
    pub age: Option<Duration>,
    /// The oldest lines are removed when all segments take more bytes than this.
    pub bytes: Option<u64>,
    /// The oldest lines are removed when the disk has fewer bytes free than this.
    pub free_bytes: Option<u64>,
    /// Other ages for some streams; the first rule that fits a stream counts.
    pub rules: Vec<RetentionRule>,
}

/// An age for some streams.
#[derive(Clone, Debug)]
pub struct RetentionRule {
    /// Conditions on the labels of a stream; all must hold.
    pub matchers: Vec<Matcher>,
    /// Lines older than this are removed.
    pub age: Duration,
}

/// What retention remembers.
#[derive(Default)]
pub(super) struct Retaining {
    /// By stream, as far as it was asked: the rule that counts, or the number of rules.
    rules: Mutex<Vec<u32>>,
    /// Removed segments that may still be read, and their bytes.
    leaving: Mutex<Vec<(Weak<Segment>, u64)>>,
}

/// From when on the lines of each stream are kept, at one moment.
pub(super) struct Cutoffs {
    /// By rule; the last is of all other streams.
    oldest: Vec<Nanos>,
    /// By stream: the rule. Empty without rules.
    rules: Vec<u32>,
}

impl Retention {
    fn oldest(&self, now: Nanos) -> Vec<Nanos> {
        let oldest = |age: Option<Duration>| match age {
            Some(age) => now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)),
            None => Nanos::MIN,
        };
        self.rules.iter().map(|rule| oldest(Some(rule.age))).chain([oldest(self.age)]).collect()
    }
}

impl Cutoffs {
    fn rule(&self, stream: u32) -> usize {
        let others = self.oldest.len() - 1;
        self.rules.get(stream as usize).map_or(others, |&rule| rule as usize)
    }

    /// Whether lines of a stream up to this time are too old.
    pub(super) fn is_past(&self, stream: u32, last: Nanos) -> bool {
        last < self.oldest[self.rule(stream)]
    }

    /// Whether a segment has lines of some rule, all of which are too old.
    fn has_past(&self, segment: &Segment) -> bool {
        let shortest = self.oldest.iter().max().copied().unwrap_or(Nanos::MIN);
        if segment.meta().first >= shortest {
            return false;
        }
        let mut newest: BTreeMap<usize, Nanos> = BTreeMap::new();
        for header in segment.headers() {
            let newest = newest.entry(self.rule(header.stream)).or_insert(Nanos::MIN);
            *newest = (*newest).max(header.last);
        }
        newest.into_iter().any(|(rule, last)| last < self.oldest[rule])
    }
}

impl LogStore {
    /// From when on lines are kept.
    pub(super) fn cutoffs(&self, now: Nanos) -> Cutoffs {
        let retention = &self.config.retention;
        let oldest = retention.oldest(now);
        if retention.rules.is_empty() {
            return Cutoffs { oldest, rules: Vec::new() };
        }
        let mut rules = self.retaining.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        for number in rules.len() as u32..streams.count() {
            let rule = streams.get(number).and_then(|stream| {
                let fits = |rule: &RetentionRule| {
                    rule.matchers.iter().all(|matcher| matcher.matches_labels(&stream.labels))
                };
                retention.rules.iter().position(fits)
            });
            rules.push(rule.unwrap_or(retention.rules.len()) as u32);
        }
        Cutoffs { oldest, rules: rules.clone() }
    }

    /// Removes segments that are too old as a whole, or too many. Whether there were any.
    pub(super) fn expire(&self, now: Nanos) -> Result<bool, Error> {
        let longest = self.config.retention.oldest(now).into_iter().min().unwrap_or(Nanos::MIN);
        let too_old = self.remove_where(|segments| {
            segments.iter().map(|segment| segment.meta().last < longest).collect()
        })?;
        let Some(most) = self.config.retention.bytes else { return Ok(too_old) };
        let too_many = self.remove_where(|segments| {
            let all: u64 = segments.iter().map(|segment| segment.disk_bytes()).sum();
            oldest_of(segments, all.saturating_sub(most))
        })?;
        Ok(too_old || too_many)
    }

    /// Writes segments anew without what is too old by a rule for some streams, and removes the oldest
    /// while fewer bytes are free than should be. To be called now and then on a thread of its own.
    ///
    /// # Errors
    /// When a file cannot be written. Nothing has changed then.
    pub fn retain(&self, now: Nanos) -> Result<(), Error> {
        if let Some(least) = self.config.retention.free_bytes {
            // What cannot be told is no reason to remove anything.
            self.make_room(least, free_bytes(&self.config.dir).unwrap_or(u64::MAX))?;
        }
        if self.config.retention.rules.is_empty() {
            return Ok(());
        }
        let _one_at_a_time = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = Arc::clone(&self.state().segments);
        let cutoffs = self.cutoffs(now);
        for segment in segments.iter().filter(|segment| !segment.is_damaged()) {
            if self.ending.check().is_err() {
                break;
            }
            if cutoffs.has_past(segment) && self.compact_group(std::slice::from_ref(segment))? {
                self.counters.rewritten.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    /// Removes the oldest segments so that `least` bytes are free, when `free` are now.
    pub(super) fn make_room(&self, least: u64, free: u64) -> Result<bool, Error> {
        let missing = least.saturating_sub(free).saturating_sub(self.leaving_bytes());
        self.remove_where(|segments| oldest_of(segments, missing))
    }

    /// Bytes of removed segments that a query still reads.
    fn leaving_bytes(&self) -> u64 {
        let mut leaving = self.retaining.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|(segment, _)| segment.strong_count() > 0);
        leaving.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Removes the segments for which `choose` says so.
    fn remove_where(&self, choose: impl Fn(&[Arc<Segment>]) -> Vec<bool>) -> Result<bool, Error> {
        if !choose(&Arc::clone(&self.state().segments)).contains(&true) {
            return Ok(false);
        }
        let mut keeper = self.keeper();
        let segments = Arc::clone(&self.state().segments);
        let mut chosen = choose(&segments).into_iter();
        let (removed, kept): (Vec<_>, Vec<_>) =
            segments.iter().cloned().partition(|_| chosen.next().unwrap_or(false));
        self.replace_segments(&mut keeper, kept)?;
        self.counters.expired.fetch_add(removed.len() as u64, Relaxed);
        removed.iter().for_each(|segment| remove(segment));
        let mut leaving = self.retaining.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.extend(removed.iter().map(|s| (Arc::downgrade(s), s.disk_bytes())));
        Ok(true)
    }
}

/// Which segments to remove for at least so many bytes: the oldest, but never the newest one.
fn oldest_of(segments: &[Arc<Segment>], mut bytes: u64) -> Vec<bool> {
    let mut chosen = vec![false; segments.len()];
    let mut by_age: Vec<usize> = (0..segments.len()).collect();
    by_age.sort_by_key(|&at| (segments[at].meta().last, segments[at].meta().order));
    by_age.pop();
    for at in by_age {
        if bytes == 0 {
            break;
        }
        chosen[at] = true;
        bytes = bytes.saturating_sub(segments[at].disk_bytes());
    }
    chosen
}

fn free_bytes(dir: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir)
        .inspect_err(|error| tracing::debug!(%error, "cannot tell the free space of the disk"))
        .ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
