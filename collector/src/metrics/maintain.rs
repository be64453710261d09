//! What happens to samples with time: memory is sealed into a block, small blocks are merged into
//! bigger ones, old blocks are removed and with them the series that no block holds any more.
//!
//! One thread at a time does any of this (the maintenance lock). The order on disk is always: the
//! new block synced, then the manifest that names it, then the change in memory, then the removal of
//! what it replaces. A crash between any two leaves a store that opens and answers the same.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tracing::{info, warn};

use super::block::Block;
use super::index::SeriesId;
use super::manifest::{Found, Manifest};
use super::select::Cursors;
use super::writer::Writer;
use super::{Error, MetricStore, Numbers, Sealing, millis};

/// So many neighbours of one level are merged into one block of the next.
const MERGE_BLOCKS: usize = 4;

/// Blocks of this level are not merged again: with flushes every half hour it spans 32 hours.
const LEVEL_MAX: u32 = 3;

impl MetricStore {
    /// Seals what is in memory, and moves [`MetricStore::durable_seq`] behind what was applied when
    /// the call began.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is lost: the samples stay in memory and the next call tries
    /// again.
    pub fn flush(&self) -> Result<(), Error> {
        let mut numbers = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush_with(&mut numbers)
    }

    /// Does what is due: flush, retention, one merge. Says whether there was anything. To be called
    /// every few seconds.
    ///
    /// # Errors
    /// When the disk refuses; to be called again.
    pub fn tick(&self) -> Result<bool, Error> {
        let mut numbers = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = false;
        if self.flush_is_due() {
            self.flush_with(&mut numbers)?;
            busy = true;
        }
        busy |= self.remove_old(&mut numbers)?;
        self.forget_series(&mut numbers);
        busy |= self.merge_some(&mut numbers)?;
        Ok(busy)
    }

    fn flush_is_due(&self) -> bool {
        let inner = self.read();
        let span = inner.head.span().map_or(0, |(first, last)| last.saturating_sub(first));
        let old = inner.dirty_since.is_some_and(|since| since.elapsed() >= self.config.flush_after);
        inner.sealing.is_some()
            || inner.head.samples() > 0
                && (old
                    || span >= millis(self.config.block_span)
                    || inner.head.samples_size() >= self.config.head_bytes_max)
    }

    fn flush_with(&self, numbers: &mut Numbers) -> Result<(), Error> {
        // What an earlier flush could not write comes first.
        self.seal(numbers)?;
        let mut inner = self.write();
        let series = inner.head.take();
        inner.dirty_since = None;
        if series.is_empty() && inner.next_seq == inner.durable_seq {
            return Ok(());
        }
        inner.sealing = Some(Arc::new(Sealing { series, next_seq: inner.next_seq }));
        drop(inner);
        self.seal(numbers)
    }

    /// Writes the samples that were taken out of the head.
    fn seal(&self, numbers: &mut Numbers) -> Result<(), Error> {
        let Some(sealing) = self.read().sealing.clone() else { return Ok(()) };
        let ids = self.ordered(sealing.series.iter().map(|(id, _)| *id).collect());
        let mut blocks = self.read().blocks.clone();
        if !ids.is_empty() {
            let mut writer = Writer::create(&self.config.dir, numbers.take())?;
            for id in ids {
                let Some(samples) = sealing.get(id) else { continue };
                let (times, values) = samples.columns();
                self.add(&mut writer, id, &times, &values)?;
            }
            blocks.push(Arc::new(writer.finish(0, sealing.next_seq)?));
        }
        if let Err(error) = self.write_manifest(&blocks, sealing.next_seq) {
            blocks.last().into_iter().for_each(|block| self.remove_unnamed(block));
            return Err(error);
        }
        let mut inner = self.write();
        inner.blocks = blocks;
        inner.durable_seq = sealing.next_seq;
        inner.sealing = None;
        Ok(())
    }

    /// Series in the order of blocks, in which neighbours are alike and are read together. Sorted
    /// after the lock is let go.
    fn ordered(&self, ids: Vec<SeriesId>) -> Vec<SeriesId> {
        let mut keys = self.read().index.order_keys(&ids);
        drop(ids);
        keys.sort_unstable();
        keys.into_iter().map(|(_, id)| id).collect()
    }

    fn add(
        &self,
        writer: &mut Writer,
        id: SeriesId,
        times: &[i64],
        values: &[f64],
    ) -> Result<(), Error> {
        let (labels, kind) = {
            let inner = self.read();
            (inner.index.labels(id), inner.index.kind(id))
        };
        writer.add(id, &labels, kind, times, values)
    }

    fn write_manifest(&self, blocks: &[Arc<Block>], durable_seq: u64) -> Result<(), Error> {
        let blocks = blocks.iter().map(|block| block.file.number).collect();
        Manifest { durable_seq, blocks }.write(&self.config.dir)
    }

    /// Removes the blocks whose last sample is older than the retention.
    fn remove_old(&self, numbers: &mut Numbers) -> Result<bool, Error> {
        let oldest = (self.config.now)().saturating_sub(millis(self.config.retention));
        let blocks = self.read().blocks.clone();
        let (old, kept): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|block| block.file.meta.last < oldest);
        if old.is_empty() {
            return Ok(false);
        }
        self.replace(kept, old.iter().map(|block| block.file.path.clone()).collect())?;
        info!(blocks = old.len(), "blocks beyond the retention removed");
        numbers.forget = true;
        Ok(true)
    }

    /// Merges the first run of neighbours that is long enough.
    fn merge_some(&self, numbers: &mut Numbers) -> Result<bool, Error> {
        let blocks = self.read().blocks.clone();
        let span_max = millis(self.config.retention) / 4;
        let Some(start) = run_to_merge(&blocks, span_max) else { return Ok(false) };
        let run = &blocks[start..start + MERGE_BLOCKS];
        let merged = match self.merge_blocks(run, numbers) {
            Ok(merged) => merged,
            Err(Error::Damaged { path, what }) => {
                warn!(path = %path.display(), what, "block is set aside, found when merging");
                self.set_block_aside(&path)?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let replaced = run.iter().map(|block| block.file.path.clone()).collect();
        let mut kept = blocks.clone();
        let merged = Arc::new(merged);
        kept.splice(start..start + MERGE_BLOCKS, [merged.clone()]);
        if let Err(error) = self.replace(kept, replaced) {
            self.remove_unnamed(&merged);
            return Err(error);
        }
        Ok(true)
    }

    /// Removes a block that a failed attempt has left. One whose name may have come into the manifest
    /// on disk stays.
    fn remove_unnamed(&self, block: &Block) {
        let named = |manifest: Manifest| manifest.blocks.contains(&block.file.number);
        if let Ok(Found::Whole(manifest)) = Manifest::read(&self.config.dir)
            && !named(manifest)
        {
            // Cleared at the next start otherwise.
            let _ = std::fs::remove_file(&block.file.path);
        }
    }

    fn merge_blocks(&self, run: &[Arc<Block>], numbers: &mut Numbers) -> Result<Block, Error> {
        let mut ids: Vec<SeriesId> =
            run.iter().flat_map(|block| block.items.iter().map(|item| item.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        let ids = self.ordered(ids);
        let mut cursors = Cursors::new(run);
        let mut writer = Writer::create(&self.config.dir, numbers.take())?;
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for id in ids {
            times.clear();
            values.clear();
            cursors.read(id, (i64::MIN, i64::MAX), &mut times, &mut values)?;
            self.add(&mut writer, id, &times, &values)?;
        }
        let level = run.iter().map(|block| block.file.meta.level).max().unwrap_or(0) + 1;
        let next_seq = run.iter().map(|block| block.file.meta.next_seq).max().unwrap_or(0);
        writer.finish(level, next_seq)
    }

    /// Makes `kept` the blocks of the store and removes files that are not among them.
    fn replace(&self, kept: Vec<Arc<Block>>, removed: Vec<PathBuf>) -> Result<(), Error> {
        let durable_seq = self.durable_seq();
        self.write_manifest(&kept, durable_seq)?;
        self.write().blocks = kept;
        for path in removed {
            // A reader that has the file open goes on reading it. A file that stays is cleared at
            // the next start.
            if let Err(error) = std::fs::remove_file(&path) {
                warn!(path = %path.display(), %error, "cannot remove the block");
            }
        }
        Ok(())
    }

    /// Sets a damaged block aside, if it is not yet.
    pub(super) fn quarantine(&self, path: &Path) {
        let _numbers = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.set_block_aside(path) {
            warn!(%error, "cannot set the damaged block aside");
        }
    }

    fn set_block_aside(&self, path: &Path) -> Result<(), Error> {
        let blocks = self.read().blocks.clone();
        let kept: Vec<_> = blocks.iter().filter(|b| b.file.path != path).cloned().collect();
        if kept.len() == blocks.len() {
            return Ok(());
        }
        self.damaged.fetch_add(1, Ordering::Relaxed);
        super::open::set_aside(path);
        self.replace(kept, Vec::new())
    }

    /// Builds the index anew when blocks were removed and a quarter of its series are in no block and
    /// not in memory. Waits for a moment without queries: they hold on to the numbers of series.
    fn forget_series(&self, numbers: &mut Numbers) {
        if !numbers.forget {
            return;
        }
        let Ok(_renumbering) = self.numbering.try_write() else { return };
        let mut inner = self.write();
        if inner.sealing.is_some() {
            return;
        }
        let count = inner.index.len();
        let mut alive: Vec<bool> =
            (0..count).map(|id| inner.head.is_active(id as SeriesId)).collect();
        for item in inner.blocks.iter().flat_map(|block| &block.items) {
            alive[item.id as usize] = true;
        }
        let gone = alive.iter().filter(|alive| !**alive).count();
        numbers.forget = false;
        if gone * 4 < count || gone == 0 {
            return;
        }
        let (index, moved) = inner.index.retain(|id| alive[id as usize]);
        inner.index = index;
        inner.head.renumber(&moved);
        inner.blocks = inner.blocks.iter().map(|b| Arc::new(b.renumbered(&moved))).collect();
        drop(inner);
        info!(gone, left = count - gone, "series without samples forgotten");
    }
}

impl Numbers {
    /// The number of the next block.
    fn take(&mut self) -> u64 {
        let number = self.next_block;
        self.next_block += 1;
        number
    }
}

/// Where a run of neighbours of one level begins that are to be merged. A block that spans much of the
/// retention would keep old samples for long, so none is made that spans more than `span_max`.
fn run_to_merge(blocks: &[Arc<Block>], span_max: i64) -> Option<usize> {
    blocks.windows(MERGE_BLOCKS).position(|run| {
        let metas = || run.iter().map(|block| &block.file.meta);
        let level = run[0].file.meta.level;
        let first = metas().map(|meta| meta.first).min().unwrap_or(0);
        let last = metas().map(|meta| meta.last).max().unwrap_or(0);
        level < LEVEL_MAX
            && last.saturating_sub(first) <= span_max
            && metas().all(|meta| meta.level == level)
    })
}
