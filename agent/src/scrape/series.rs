//! The series that a target had in its last scrape: what makes the next one cheap and tells which
//! series have ended.
//!
//! A series is found by its text in the body; only a text that was not there before is parsed into
//! labels. Identity is the label set, not the text: a target that writes the same labels in another
//! order still has the same series. Memory is bounded by the series of one scrape and what the next
//! one adds.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use taffrail_model::limits::{LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX};
use taffrail_model::time::Millis;
use taffrail_model::{Labels, MetricKind};

use super::encode::point_attributes;
use super::line::{LabelRef, SampleLine};

/// What a label of the target is renamed by when the sample has one of the same name.
const EXPORTED: &str = "exported_";

/// One series of a target.
#[derive(Debug)]
pub struct Series {
    /// The metric's name.
    pub name: Arc<str>,
    /// Its declared type when the series was first seen.
    pub kind: MetricKind,
    /// Its own labels as they stand in a point.
    pub attributes: Box<[u8]>,
    id: u128,
    /// The round in which it was seen first, and last.
    born: u64,
    seen: u64,
    /// The time of its last sample if the target gave one. Such a series is never marked stale, as
    /// in Prometheus: its target says itself from when its values are.
    explicit: Option<Millis>,
}

/// Why a sample is left out while the others are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// The same series was there before in this body.
    Duplicate,
    /// A label's name or value is longer than the store takes.
    LongLabel,
}

/// The series of one target.
#[derive(Debug, Default)]
pub struct SeriesCache {
    round: u64,
    by_text: HashMap<Box<str>, usize>,
    by_id: HashMap<u128, usize>,
    series: Vec<Series>,
    names: HashSet<Arc<str>>,
    added: usize,
}

impl SeriesCache {
    /// Begins a scrape.
    pub fn begin(&mut self) {
        self.round += 1;
        self.added = 0;
        // A target that never writes a series twice alike would fill this map.
        if self.by_text.len() > 4 * self.series.len() + 1000 {
            self.by_text.clear();
        }
    }

    /// How many series of this scrape are new.
    #[must_use]
    pub fn added(&self) -> usize {
        self.added
    }

    /// The series of a sample.
    ///
    /// # Errors
    /// When the sample is left out.
    pub fn see(
        &mut self,
        target: &Labels,
        sample: &SampleLine<'_>,
        labels: &[LabelRef<'_>],
        kind: impl FnOnce() -> MetricKind,
    ) -> Result<&Series, Dropped> {
        let at = match self.by_text.get(sample.series) {
            Some(at) => *at,
            None => self.insert(target, sample, labels, kind)?,
        };
        let series = &mut self.series[at];
        let again = series.seen == self.round && series.born != 0;
        if again && (sample.timestamp.is_none() || sample.timestamp == series.explicit) {
            return Err(Dropped::Duplicate);
        }
        if series.born == 0 {
            series.born = self.round;
            self.added += 1;
        }
        series.seen = self.round;
        series.explicit = sample.timestamp;
        Ok(series)
    }

    /// Learns a text. A series that is new has `born` 0 until it is seen.
    fn insert(
        &mut self,
        target: &Labels,
        sample: &SampleLine<'_>,
        labels: &[LabelRef<'_>],
        kind: impl FnOnce() -> MetricKind,
    ) -> Result<usize, Dropped> {
        let labels = own_labels(target, labels);
        let long = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| {
            name.len() > LABEL_NAME_BYTES_MAX || value.len() > LABEL_VALUE_BYTES_MAX
        };
        if labels.iter().any(long) || sample.name.len() > LABEL_VALUE_BYTES_MAX {
            return Err(Dropped::LongLabel);
        }
        let id = identity(&sample.name, &labels);
        let at = match self.by_id.get(&id) {
            Some(at) => *at,
            None => {
                let name = match self.names.get(&*sample.name) {
                    Some(name) => name.clone(),
                    None => {
                        let name: Arc<str> = Arc::from(&*sample.name);
                        self.names.insert(name.clone());
                        name
                    }
                };
                let attributes = point_attributes(labels.iter().map(|(n, v)| (n, v)));
                let kind = kind();
                let (born, seen, explicit) = (0, self.round, None);
                self.series.push(Series { name, kind, attributes, id, born, seen, explicit });
                self.by_id.insert(id, self.series.len() - 1);
                self.series.len() - 1
            }
        };
        self.by_text.insert(sample.series.into(), at);
        Ok(at)
    }

    /// Ends a scrape that went well: gives each series that was there before and is not now to
    /// `ended`, and forgets it.
    pub fn finish(&mut self, mut ended: impl FnMut(&Series)) {
        let round = self.round;
        if self.series.iter().all(|series| series.seen == round) {
            return;
        }
        // Where each series moves to when those that have ended are taken out.
        let mut moved = Vec::with_capacity(self.series.len());
        let mut kept = 0;
        for series in &self.series {
            let stays = series.seen == round;
            moved.push(stays.then_some(kept));
            kept += usize::from(stays);
            if !stays && series.explicit.is_none() {
                ended(series);
            }
        }
        self.series.retain(|series| series.seen == round);
        self.by_id = self.series.iter().enumerate().map(|(at, series)| (series.id, at)).collect();
        self.by_text.retain(|_, at| match moved[*at] {
            Some(to) => {
                *at = to;
                true
            }
            None => false,
        });
        self.names.retain(|name| Arc::strong_count(name) > 1);
    }

    /// Ends a scrape that failed, or the target: gives every series of earlier scrapes to `ended`
    /// and forgets all.
    pub fn end_all(&mut self, mut ended: impl FnMut(&Series)) {
        for series in &self.series {
            let earlier = series.born != 0 && series.born != self.round;
            if earlier && series.explicit.is_none() {
                ended(series);
            }
        }
        let round = self.round;
        *self = Self { round, ..Self::default() };
    }
}

/// The labels of a sample beside those of its target: without empty ones, sorted, and under another
/// name where the target has the name already.
fn own_labels<'a>(target: &Labels, labels: &[LabelRef<'a>]) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
    let mut own: Vec<(Cow<'a, str>, Cow<'a, str>)> =
        labels.iter().map(|label| (label.name(), label.value())).collect();
    own.retain(|(_, value)| !value.is_empty());
    for at in 0..own.len() {
        if target.get(&own[at].0).is_none() {
            continue;
        }
        let mut name = own[at].0.to_string();
        while target.get(&name).is_some() || own.iter().any(|(other, _)| *other == name) {
            name.insert_str(0, EXPORTED);
        }
        own[at].0 = Cow::Owned(name);
    }
    own.sort_unstable();
    own
}

fn identity(name: &str, labels: &[(Cow<'_, str>, Cow<'_, str>)]) -> u128 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(name.as_bytes());
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        hash.update(&[0xFF]);
        hash.update(text.as_bytes());
    }
    hash.digest128()
}
