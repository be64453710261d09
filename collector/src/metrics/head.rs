//! What is in memory and in no block yet: for each active series its last time and its samples.
//!
//! Samples that come in order go to a bit-packed chunk; late ones to a short sorted list beside it.
//! A time is kept once: the value that came first stays. [`Head::take`] hands everything over for
//! sealing and leaves the last times behind.

use taffrail_model::Sample;
use taffrail_model::time::Millis;

use super::chunk::{Chunk, Full};
use super::index::SeriesId;

/// Late samples of one series in memory at the most; more are refused as too old until the next
/// flush. Keeps the insertion into a sorted list cheap.
const LATE_SAMPLES_MAX: usize = 4096;

/// The samples of a series in one stretch of memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    full: Vec<Full>,
    /// Bytes behind `full`.
    full_size: usize,
    open: Chunk,
    late: Vec<Sample>,
}

impl Samples {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.open.count() == 0 && self.full.is_empty() && self.late.is_empty()
    }

    /// All samples, ascending, each time once.
    pub(super) fn columns(&self) -> (Vec<Millis>, Vec<f64>) {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &self.full {
            chunk.decode(&mut times, &mut values);
        }
        self.open.decode(&mut times, &mut values);
        if !self.late.is_empty() {
            let late_times: Vec<Millis> = self.late.iter().map(|s| s.ts).collect();
            let late_values: Vec<f64> = self.late.iter().map(|s| s.value).collect();
            super::merge::merge(&mut times, &mut values, &late_times, &late_values);
        }
        (times, values)
    }

    fn has(&self, ts: Millis) -> bool {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &self.full {
            chunk.decode(&mut times, &mut values);
        }
        self.open.decode(&mut times, &mut values);
        times.binary_search(&ts).is_ok()
    }

    fn size(&self) -> usize {
        self.full_size + self.open.size() + self.late.capacity() * size_of::<Sample>()
    }
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Accepted,
    Duplicate,
    TooOld,
}

struct Active {
    last: Millis,
    samples: Samples,
}

/// The samples in memory by series.
#[derive(Default)]
pub(super) struct Head {
    series: Vec<Option<Box<Active>>>,
    active: usize,
    samples: u64,
    bytes: usize,
    first: Option<Millis>,
    last: Option<Millis>,
}

impl Head {
    /// How many series had a sample since the flush before the last one.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Samples that are in no block.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Bytes of memory behind the samples, the fixed state of each series included.
    pub(super) fn size(&self) -> usize {
        self.bytes + self.active * size_of::<Active>() + self.series.capacity() * size_of::<usize>()
    }

    /// Bytes of memory behind the samples alone: what a flush frees.
    pub(super) fn samples_size(&self) -> usize {
        self.bytes
    }

    /// First and last time in memory.
    pub(super) fn span(&self) -> Option<(Millis, Millis)> {
        self.first.zip(self.last)
    }

    /// The samples of a series.
    pub(super) fn get(&self, id: SeriesId) -> Option<&Samples> {
        let active = self.series.get(id as usize)?.as_ref()?;
        (!active.samples.is_empty()).then_some(&active.samples)
    }

    /// Whether the series was written to lately.
    pub(super) fn is_active(&self, id: SeriesId) -> bool {
        self.series.get(id as usize).is_some_and(Option::is_some)
    }

    /// Begins to add samples to a series. `window` is how far behind the series' last time a sample
    /// may lie; `last` finds that time in the blocks when the series is not active.
    pub(super) fn writer(
        &mut self,
        id: SeriesId,
        window: i64,
        last: impl FnOnce() -> Option<Millis>,
    ) -> Writer<'_> {
        if self.series.len() <= id as usize {
            self.series.resize_with(id as usize + 1, || None);
        }
        let slot = &mut self.series[id as usize];
        if slot.is_none() {
            self.active += 1;
        }
        let active = slot.get_or_insert_with(|| {
            Box::new(Active { last: last().unwrap_or(Millis::MIN), samples: Samples::default() })
        });
        let size_before = active.samples.size();
        Writer {
            active,
            window,
            size_before,
            samples: &mut self.samples,
            bytes: &mut self.bytes,
            first: &mut self.first,
            last: &mut self.last,
        }
    }

    /// Takes all samples out. Series without any are forgotten; the others keep their last time.
    pub(super) fn take(&mut self) -> Vec<(SeriesId, Samples)> {
        let mut taken = Vec::with_capacity(self.active);
        for (id, slot) in self.series.iter_mut().enumerate() {
            let Some(active) = slot else { continue };
            if active.samples.is_empty() {
                *slot = None;
                self.active -= 1;
            } else {
                taken.push((id as SeriesId, std::mem::take(&mut active.samples)));
            }
        }
        (self.samples, self.bytes, self.first, self.last) = (0, 0, None, None);
        taken
    }

    /// Moves every series to its new number. All active series have one.
    pub(super) fn renumber(&mut self, moved: &[Option<SeriesId>]) {
        let old = std::mem::take(&mut self.series);
        for (active, new) in old.into_iter().zip(moved) {
            let (Some(active), Some(new)) = (active, new) else { continue };
            if self.series.len() <= *new as usize {
                self.series.resize_with(*new as usize + 1, || None);
            }
            self.series[*new as usize] = Some(active);
        }
    }
}

/// Adds samples to one series.
pub(super) struct Writer<'h> {
    active: &'h mut Active,
    window: i64,
    size_before: usize,
    samples: &'h mut u64,
    bytes: &'h mut usize,
    first: &'h mut Option<Millis>,
    last: &'h mut Option<Millis>,
}

impl Writer<'_> {
    /// Adds a sample and says what became of it.
    pub(super) fn push(&mut self, sample: Sample) -> Pushed {
        let pushed = self.active.push(sample, self.window);
        if pushed == Pushed::Accepted {
            *self.samples += 1;
            *self.first = Some(self.first.map_or(sample.ts, |first| first.min(sample.ts)));
            *self.last = Some(self.last.map_or(sample.ts, |last| last.max(sample.ts)));
        }
        pushed
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let size = self.active.samples.size();
        *self.bytes = (*self.bytes + size).saturating_sub(self.size_before);
    }
}

impl Active {
    fn push(&mut self, sample: Sample, window: i64) -> Pushed {
        if sample.ts > self.last {
            self.samples.open.push(sample.ts, sample.value);
            if self.samples.open.is_full() {
                let full = self.samples.open.seal();
                self.samples.full_size += full.size();
                self.samples.full.push(full);
            }
            self.last = sample.ts;
            return Pushed::Accepted;
        }
        if sample.ts == self.last {
            return Pushed::Duplicate;
        }
        let late = &mut self.samples.late;
        let Err(place) = late.binary_search_by_key(&sample.ts, |s| s.ts) else {
            return Pushed::Duplicate;
        };
        if sample.ts < self.last.saturating_sub(window) || late.len() >= LATE_SAMPLES_MAX {
            return Pushed::TooOld;
        }
        if self.samples.has(sample.ts) {
            return Pushed::Duplicate;
        }
        self.samples.late.insert(place, sample);
        Pushed::Accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn push(head: &mut Head, ts: Millis, value: f64) -> Pushed {
        head.writer(0, 100, || None).push(Sample { ts, value })
    }

    #[test]
    fn each_sample_meets_its_fate() {
        let mut head = Head::default();
        let cases = [
            (1000, Pushed::Accepted),
            (1000, Pushed::Duplicate),
            (950, Pushed::Accepted),
            (950, Pushed::Duplicate),
            (899, Pushed::TooOld),
            (1010, Pushed::Accepted),
            (1000, Pushed::Duplicate),
        ];
        for (ts, expected) in cases {
            assert_eq!(push(&mut head, ts, 1.0), expected, "{ts}");
        }
        assert_eq!((head.samples(), head.span()), (3, Some((950, 1010))));
        assert_eq!(head.take().len(), 1);
        assert_eq!(push(&mut head, 1010, 2.0), Pushed::Duplicate);
        assert!(head.take().is_empty() && !head.is_active(0));
    }

    proptest! {
        #[test]
        fn the_first_value_of_a_time_stays(times in proptest::collection::vec(0i64..300, 0..400)) {
            let mut head = Head::default();
            let mut model = BTreeMap::new();
            for (at, ts) in times.into_iter().enumerate() {
                if push(&mut head, ts, at as f64) == Pushed::Accepted {
                    prop_assert!(model.insert(ts, at as f64).is_none());
                } else {
                    let last = model.keys().last().copied().unwrap_or(0);
                    prop_assert!(model.contains_key(&ts) || ts < last - 100);
                }
            }
            let columns = head.get(0).map(Samples::columns).unwrap_or_default();
            let expected: (Vec<i64>, Vec<f64>) = model.into_iter().unzip();
            prop_assert_eq!(columns, expected);
        }
    }
}
