//! A metric store that is nothing but a `Vec`: what tests compare real stores with, and what the
//! conformance scripts run over.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use taffrail_model::time::Millis;
use taffrail_model::{Labels, Matcher, MetricKind, SeriesSamples};

use crate::source::{SeriesSelect, SeriesSink, SeriesSource, SourceError};

#[derive(Clone, Debug, Default)]
struct Stored {
    times: Vec<Millis>,
    values: Vec<f64>,
}

/// Series in memory, looked through from first to last for each question.
#[derive(Clone, Debug, Default)]
pub struct VecSource {
    series: BTreeMap<Labels, Stored>,
    metadata: BTreeMap<String, MetricKind>,
}

impl VecSource {
    /// A store without series.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds samples of a series in any order; a later sample of the same time wins.
    pub fn push(&mut self, labels: Labels, samples: impl IntoIterator<Item = (Millis, f64)>) {
        let stored = self.series.entry(labels).or_default();
        let old = stored.times.iter().copied().zip(stored.values.iter().copied());
        let all: BTreeMap<Millis, f64> = old.chain(samples).collect();
        stored.times = all.keys().copied().collect();
        stored.values = all.into_values().collect();
    }

    /// Adds samples with the declared type of their metric.
    pub fn extend(&mut self, batch: impl IntoIterator<Item = SeriesSamples>) {
        for series in batch {
            if let Some(name) = series.labels.get(taffrail_model::sample::METRIC_NAME) {
                self.metadata.insert(name.to_owned(), series.kind);
            }
            self.push(series.labels, series.samples.iter().map(|s| (s.ts, s.value)));
        }
    }

    fn matching<'s>(
        &'s self,
        matchers: &'s [Matcher],
        start: Millis,
        end: Millis,
    ) -> impl Iterator<Item = (&'s Labels, &'s [Millis], &'s [f64])> {
        self.series.iter().filter_map(move |(labels, stored)| {
            if !matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                return None;
            }
            let from = stored.times.partition_point(|time| *time < start);
            let to = stored.times.partition_point(|time| *time <= end);
            (from < to).then(|| (labels, &stored.times[from..to], &stored.values[from..to]))
        })
    }
}

impl SeriesSource for VecSource {
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        for (labels, times, values) in self.matching(&select.matchers, select.start, select.end) {
            select.cancel.check()?;
            if let ControlFlow::Break(()) = sink(labels, times, values) {
                break;
            }
        }
        Ok(())
    }

    fn series(
        &self,
        matchers: &[Matcher],
        start: Millis,
        end: Millis,
    ) -> Result<Vec<Labels>, SourceError> {
        Ok(self.matching(matchers, start, end).map(|(labels, ..)| labels.clone()).collect())
    }

    fn metadata(&self) -> BTreeMap<String, MetricKind> {
        self.metadata.clone()
    }
}
