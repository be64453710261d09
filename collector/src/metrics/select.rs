//! From matchers and a range to samples.
//!
//! A query takes a snapshot under the lock (labels, samples in memory, which blocks there are) and
//! decodes after it has let go. Series are visited in the order in which they lie in the newest
//! block, so each page is decompressed about once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use taffrail_model::time::Millis;
use taffrail_model::{Labels, Matcher, MetricKind};
use taffrail_query::source::{SeriesSelect, SeriesSink, SeriesSource, SourceError};

use super::block::{Block, Cursor};
use super::head::Samples;
use super::index::SeriesId;
use super::merge::merge;
use super::{Error, MetricStore, Sealing};

/// A series that a query wants, and what of it is in memory.
struct Wanted {
    id: SeriesId,
    labels: Labels,
    head: Option<Samples>,
}

struct Snapshot {
    wanted: Vec<Wanted>,
    sealing: Option<Arc<Sealing>>,
    blocks: Vec<Arc<Block>>,
}

/// Reads series from several blocks, oldest first.
pub(super) struct Cursors {
    blocks: Vec<(Arc<Block>, Cursor)>,
}

impl Cursors {
    pub(super) fn new(blocks: &[Arc<Block>]) -> Self {
        let with_cursor = |block: &Arc<Block>| (block.clone(), Cursor::new(block.file.clone()));
        Self { blocks: blocks.iter().map(with_cursor).collect() }
    }

    /// Appends the samples of a series that may lie from `start` to `end`: whole pieces.
    pub(super) fn read(
        &mut self,
        id: SeriesId,
        (start, end): (Millis, Millis),
        times: &mut Vec<Millis>,
        values: &mut Vec<f64>,
    ) -> Result<(), Error> {
        let (mut more_times, mut more_values) = (Vec::new(), Vec::new());
        for (block, cursor) in &mut self.blocks {
            more_times.clear();
            more_values.clear();
            for item in block.items(id) {
                let column = cursor.file().times[item.times as usize];
                if column.first <= end && column.last >= start {
                    cursor.read(item, &mut more_times, &mut more_values)?;
                }
            }
            merge(times, values, &more_times, &more_values);
        }
        Ok(())
    }
}

impl MetricStore {
    fn snapshot(&self, matchers: &[Matcher], start: Millis, end: Millis) -> Snapshot {
        let inner = self.read();
        let mut ids = inner.index.resolve(matchers);
        let in_head = inner.head.span().is_some_and(|(first, last)| first <= end && last >= start);
        let blocks: Vec<Arc<Block>> =
            inner.blocks.iter().filter(|b| b.overlaps(start, end)).cloned().collect();
        let place = |id: SeriesId| {
            let newest = blocks.iter().rev().enumerate();
            newest.filter_map(|(at, b)| b.items(id).first().map(|i| (at, i.page, i.at))).next()
        };
        if !blocks.is_empty() {
            ids.sort_by_cached_key(|id| place(*id));
        }
        let wanted = ids.into_iter().map(|id| Wanted {
            id,
            labels: inner.index.labels(id),
            head: if in_head { inner.head.get(id).cloned() } else { None },
        });
        Snapshot { wanted: wanted.collect(), sealing: inner.sealing.clone(), blocks }
    }

    /// Sets a block aside in which a page turned out damaged, and says what happened.
    fn unreadable(&self, error: &Error) -> SourceError {
        if let Error::Damaged { path, .. } = error {
            self.quarantine(path);
            return SourceError::Storage(format!(
                "{error}; it has been set aside, what is left can be asked for again"
            ));
        }
        SourceError::Storage(error.to_string())
    }
}

impl SeriesSource for MetricStore {
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        let (start, end) = (select.start, select.end);
        if start > end {
            return Ok(());
        }
        let snapshot = self.snapshot(&select.matchers, start, end);
        let mut cursors = Cursors::new(&snapshot.blocks);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for wanted in &snapshot.wanted {
            select.cancel.check()?;
            times.clear();
            values.clear();
            cursors
                .read(wanted.id, (start, end), &mut times, &mut values)
                .map_err(|error| self.unreadable(&error))?;
            let sealing = snapshot.sealing.as_ref().and_then(|s| s.get(wanted.id));
            for samples in sealing.into_iter().chain(&wanted.head) {
                let (more_times, more_values) = samples.columns();
                merge(&mut times, &mut values, &more_times, &more_values);
            }
            let from = times.partition_point(|ts| *ts < start);
            let to = times.partition_point(|ts| *ts <= end);
            if from == to {
                continue;
            }
            if let ControlFlow::Break(()) =
                sink(&wanted.labels, &times[from..to], &values[from..to])
            {
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
        let inner = self.read();
        let in_head = inner.head.span().is_some_and(|(first, last)| first <= end && last >= start);
        let blocks: Vec<&Arc<Block>> =
            inner.blocks.iter().filter(|b| b.overlaps(start, end)).collect();
        let there = |id: &SeriesId| {
            (in_head && inner.head.get(*id).is_some())
                || inner.sealing.as_ref().is_some_and(|s| s.get(*id).is_some())
                || blocks.iter().any(|b| !b.items(*id).is_empty())
        };
        let mut ids = inner.index.resolve(matchers);
        ids.retain(there);
        let mut found: Vec<Labels> = ids.into_iter().map(|id| inner.index.labels(id)).collect();
        drop(inner);
        found.sort();
        Ok(found)
    }

    fn metadata(&self) -> BTreeMap<String, MetricKind> {
        self.read().index.kinds().clone()
    }
}
