//! From matchers and a range to samples.
//!
//! A query resolves its matchers to numbers of series, then goes through them in batches. For each
//! batch it takes what it needs under the lock (labels, samples in memory, which blocks there are,
//! all of one moment) and decodes after it has let go, so that neither memory nor the lock is taken
//! for more than a batch. Series are visited in the order in which they lie in the newest block, so
//! each page is decompressed about once. Numbers stay what they are while a query runs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use taffrail_model::time::Millis;
use taffrail_model::{Labels, Matcher, MetricKind};
use taffrail_query::source::{SeriesSelect, SeriesSink, SeriesSource, SourceError};

use super::block::{Block, Cursor};
use super::head::Samples;
use super::index::SeriesId;
use super::merge::merge;
use super::{Error, Inner, MetricStore, Sealing};

/// A series that a query wants, and what of it is in memory.
struct Wanted {
    id: SeriesId,
    labels: Labels,
    head: Option<Samples>,
}

/// A batch of series and all that can hold samples of theirs, of one moment.
struct Batch {
    wanted: Vec<Wanted>,
    sealing: Option<Arc<Sealing>>,
    blocks: Vec<Arc<Block>>,
}

/// Series in one batch.
const BATCH_SERIES: usize = 512;

/// Reads series from several blocks, oldest first.
pub(super) struct Cursors {
    blocks: Vec<(Arc<Block>, Cursor)>,
}

impl Cursors {
    pub(super) fn new(blocks: &[Arc<Block>]) -> Self {
        let with_cursor = |block: &Arc<Block>| (block.clone(), Cursor::new(block.file.clone()));
        Self { blocks: blocks.iter().map(with_cursor).collect() }
    }

    /// The same blocks keep their cursors, with the pages that these have decompressed.
    fn follow(&mut self, blocks: &[Arc<Block>]) {
        let same =
            |((known, _), block): (&(Arc<Block>, Cursor), &Arc<Block>)| Arc::ptr_eq(known, block);
        if self.blocks.len() != blocks.len() || !self.blocks.iter().zip(blocks).all(same) {
            *self = Self::new(blocks);
        }
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
    /// The series that matchers select, in the order of the newest block.
    fn resolve(&self, matchers: &[Matcher], start: Millis, end: Millis) -> Vec<SeriesId> {
        let inner = self.read();
        let mut ids = inner.index.resolve(matchers);
        let blocks = overlapping(&inner, start, end);
        drop(inner);
        let place = |id: SeriesId| {
            let mut newest = blocks.iter().rev().enumerate();
            newest.find_map(|(at, b)| b.items(id).first().map(|i| (at, i.page, i.at)))
        };
        if !blocks.is_empty() {
            ids.sort_by_cached_key(|id| place(*id));
        }
        ids
    }

    fn batch(&self, ids: &[SeriesId], start: Millis, end: Millis) -> Batch {
        let inner = self.read();
        let in_head = in_head(&inner, start, end);
        let wanted = ids.iter().map(|id| Wanted {
            id: *id,
            labels: inner.index.labels(*id),
            head: if in_head { inner.head.get(*id).cloned() } else { None },
        });
        Batch {
            wanted: wanted.collect(),
            sealing: inner.sealing.clone(),
            blocks: overlapping(&inner, start, end),
        }
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

fn in_head(inner: &Inner, start: Millis, end: Millis) -> bool {
    inner.head.span().is_some_and(|(first, last)| first <= end && last >= start)
}

fn overlapping(inner: &Inner, start: Millis, end: Millis) -> Vec<Arc<Block>> {
    inner.blocks.iter().filter(|block| block.overlaps(start, end)).cloned().collect()
}

impl SeriesSource for MetricStore {
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        let (start, end) = (select.start, select.end);
        if start > end {
            return Ok(());
        }
        let _numbers = self.numbering.read().unwrap_or_else(PoisonError::into_inner);
        let ids = self.resolve(&select.matchers, start, end);
        let mut cursors = Cursors::new(&[]);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for ids in ids.chunks(BATCH_SERIES) {
            let batch = self.batch(ids, start, end);
            cursors.follow(&batch.blocks);
            for wanted in &batch.wanted {
                select.cancel.check()?;
                times.clear();
                values.clear();
                cursors
                    .read(wanted.id, (start, end), &mut times, &mut values)
                    .map_err(|error| self.unreadable(&error))?;
                let sealing = batch.sealing.as_ref().and_then(|s| s.get(wanted.id));
                for samples in sealing.into_iter().chain(&wanted.head) {
                    let (more_times, more_values) = samples.columns();
                    merge(&mut times, &mut values, &more_times, &more_values);
                }
                let from = times.partition_point(|ts| *ts < start);
                let to = times.partition_point(|ts| *ts <= end);
                if from < to && sink(&wanted.labels, &times[from..to], &values[from..to]).is_break()
                {
                    return Ok(());
                }
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
        let _numbers = self.numbering.read().unwrap_or_else(PoisonError::into_inner);
        let inner = self.read();
        let in_head = in_head(&inner, start, end);
        let blocks = overlapping(&inner, start, end);
        let mut ids = inner.index.resolve(matchers);
        ids.retain(|id| {
            (in_head && inner.head.get(*id).is_some())
                || inner.sealing.as_ref().is_some_and(|s| s.get(*id).is_some())
                || blocks.iter().any(|b| !b.items(*id).is_empty())
        });
        drop(inner);
        let mut found: Vec<Labels> = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH_SERIES) {
            let inner = self.read();
            found.extend(ids.iter().map(|id| inner.index.labels(*id)));
        }
        found.sort();
        Ok(found)
    }

    fn metadata(&self) -> BTreeMap<String, MetricKind> {
        self.read().index.kinds().clone()
    }
}
