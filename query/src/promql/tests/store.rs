//! What a script has loaded: floats in a [`VecSource`], and the names of series that hold what the
//! engine does not have (native histograms, start timestamps). A query that selects such a series
//! cannot pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use taffrail_model::time::Millis;
use taffrail_model::{Labels, Matcher, MetricKind};

use crate::promql::oracle::VecSource;
use crate::source::{SeriesSelect, SeriesSink, SeriesSource, SourceError};

#[derive(Default)]
pub(super) struct Store {
    pub(super) floats: VecSource,
    pub(super) foreign: BTreeSet<Labels>,
    touched: AtomicBool,
}

impl Store {
    /// Whether a query since the last call selected a series that is not only floats.
    pub(super) fn was_foreign(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }
}

impl SeriesSource for Store {
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        let matches = |labels: &&Labels| select.matchers.iter().all(|m| m.matches_labels(labels));
        if self.foreign.iter().any(|labels| matches(&labels)) {
            self.touched.store(true, Ordering::Relaxed);
        }
        self.floats.select(select, sink)
    }

    fn series(
        &self,
        m: &[Matcher],
        start: Millis,
        end: Millis,
    ) -> Result<Vec<Labels>, SourceError> {
        self.floats.series(m, start, end)
    }

    fn metadata(&self) -> BTreeMap<String, MetricKind> {
        self.floats.metadata()
    }
}
