//! Merging small segments of a day: fewer files, fuller blocks, better compression.
//!
//! Segments fall into classes by size, each [`FAN_IN`] times the one before. [`FAN_IN`] neighbours in
//! the order of arrival that are all of a class or below become one. Only neighbours are merged, and
//! the new segment takes the place of the first, so rows of the same time keep their order.
//!
//! What is left over is merged when nothing more comes: of a day that is past, or when nothing was
//! written for [`IDLE_AFTER`], any neighbours become one, if none of them is more than half of it (so
//! that a line is written again only when its segment at least doubles).
//!
//! A merge leaves out what deletion requests erase and what is past its retention; a segment that has
//! some of it may be merged with nothing but itself.
//!
//! Readers go on with the old segments until the manifest names the new one. A segment in which
//! anything was found damaged is left as it is.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use taffrail_model::TimeRange;
use taffrail_query::source::{Cancel, Direction, SourceError};

use super::filter::Filter;
use super::flush::remove;
use super::hidden::{Hidden, Hiding};
use super::memtable::is_full;
use super::merge::Reader;
use super::meta::Origin;
use super::need::Need;
use super::retain::Cutoffs;
use super::rows::Rows;
use super::segment::Segment;
use super::segment_writer::{self, SegmentWriter};
use super::unit::{LookedAt, Place, PrunedSegment, Unit};
use super::{Error, LogStore, files};

/// How many segments become one.
const FAN_IN: usize = 8;
/// Text of a segment of the lowest class, at most, in bytes.
const LOWEST_BYTES: u64 = 1 << 20;
/// Classes that are merged: up to 1, 8 and 64 MiB of text become up to 512 MiB. The index of a segment
/// is made in memory, so bigger ones would cost too much of it.
const CLASSES: u32 = 3;
/// Most text of a segment that is merged of what is left over, in bytes.
const IDLE_BYTES_MAX: u64 = LOWEST_BYTES * (FAN_IN as u64).pow(CLASSES);
/// Nothing was written for so long: nothing more comes.
const IDLE_AFTER: Duration = Duration::from_secs(600);
/// Blocks of a merged segment are so many times as long: each has its own templates, which are a tenth
/// of a block of a flush.
const MERGED_BLOCK: usize = 4;
/// A tenth smaller than level 1 for three times the time; these bytes are read for weeks.
const ZSTD_LEVEL: i32 = 6;

/// What comes of a merge.
pub(super) enum Merged {
    /// A segment.
    Segment(Arc<Segment>),
    /// No row was left.
    Nothing,
    /// A block could not be read, or it was time to stop.
    GivenUp,
}

/// What a merge leaves out.
struct Sieve {
    hiding: Hiding,
    /// The requests that are erased.
    requests: Vec<u64>,
    cutoffs: Cutoffs,
}

impl LogStore {
    /// Merges one group of small segments, if there is one; whether there was. Takes seconds for each
    /// hundred megabytes: to be called on a thread of its own. Flushes go on meanwhile.
    ///
    /// # Errors
    /// When a file cannot be written. Nothing has changed then.
    pub fn compact(&self) -> Result<bool, Error> {
        let _one_at_a_time = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = Arc::clone(&self.state().segments);
        let is_idle = self.keeper().flushed.elapsed() >= IDLE_AFTER;
        choose(&segments, is_idle).map_or(Ok(false), |group| self.compact_group(&group))
    }

    /// As [`LogStore::compact`] when nothing more comes.
    ///
    /// # Errors
    /// As [`LogStore::compact`].
    pub fn compact_idle(&self) -> Result<bool, Error> {
        let _one_at_a_time = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = Arc::clone(&self.state().segments);
        choose(&segments, true).map_or(Ok(false), |group| self.compact_group(&group))
    }

    /// Puts one segment in place of neighbours of one day, or none if no row is left. Whether it was
    /// not given up.
    pub(super) fn compact_group(&self, group: &[Arc<Segment>]) -> Result<bool, Error> {
        let merged = match self.merge(group)? {
            Merged::Segment(segment) => Some(segment),
            Merged::Nothing => None,
            Merged::GivenUp => return Ok(false),
        };
        let mut keeper = self.keeper();
        // A flush may have added segments, and retention may have removed some, meanwhile.
        let current = Arc::clone(&self.state().segments);
        let is_input =
            |segment: &Arc<Segment>| group.iter().any(|input| Arc::ptr_eq(input, segment));
        if current.iter().filter(|segment| is_input(segment)).count() < group.len() {
            merged.iter().for_each(|merged| remove(merged));
            return Ok(true);
        }
        let at = current.iter().position(is_input).unwrap_or(current.len());
        let mut replaced: Vec<Arc<Segment>> =
            current.iter().filter(|segment| !is_input(segment)).cloned().collect();
        if let Some(merged) = &merged {
            replaced.insert(at, Arc::clone(merged));
        }
        if let Err(error) = self.replace_segments(&mut keeper, replaced) {
            merged.iter().for_each(|merged| self.remove_unnamed(std::slice::from_ref(&**merged)));
            return Err(error);
        }
        self.counters.compactions.fetch_add(1, Relaxed);
        group.iter().for_each(|segment| remove(segment));
        Ok(true)
    }

    /// Merges all segments of each day, whatever their size.
    #[cfg(test)]
    pub(super) fn compact_all(&self) -> Result<(), Error> {
        let segments = Arc::clone(&self.state().segments);
        let mut days: Vec<i32> = segments.iter().map(|segment| segment.meta().day).collect();
        days.sort_unstable();
        days.dedup();
        for day in days {
            let of_day = segments.iter().filter(|segment| segment.meta().day == day);
            self.compact_group(&of_day.cloned().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// From now on nothing is merged; what is being merged is given up. For the end of the process.
    pub fn stop_compacting(&self) {
        self.ending.cancel();
    }

    fn sieve(&self) -> Sieve {
        let erasing = self.erasing();
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let hiding = Hiding::new(&erasing, TimeRange::ALL, &streams);
        drop(streams);
        let cutoffs = self.cutoffs(taffrail_kit::clock::unix_nanos());
        Sieve { hiding, requests: erasing.iter().map(|hide| hide.id()).collect(), cutoffs }
    }

    /// One segment of the rows of a group that are kept.
    pub(super) fn merge(&self, group: &[Arc<Segment>]) -> Result<Merged, Error> {
        let Some(meta) = group.first().map(|segment| segment.meta()) else {
            return Ok(Merged::GivenUp);
        };
        let mut sieve = self.sieve();
        let number = self.keeper().take_number();
        let dir = self.segments_dir().join(segment_writer::name(meta.day, number));
        let text_bytes: u64 = group.iter().map(|segment| segment.meta().text_bytes).sum();
        let text_bytes = usize::try_from(text_bytes).unwrap_or(usize::MAX);
        let mut writer = SegmentWriter::create(dir, meta.day, meta.order, ZSTD_LEVEL, text_bytes)?;
        for stream in streams_of(group) {
            if self.ending.check().is_err() {
                return Ok(Merged::GivenUp);
            }
            self.merge_stream(stream, group, &mut sieve, &mut writer)?;
        }
        if group.iter().any(|segment| segment.is_damaged()) || self.ending.check().is_err() {
            return Ok(Merged::GivenUp);
        }
        if writer.is_empty() {
            return Ok(Merged::Nothing);
        }
        let inputs = group.iter().map(|segment| segment.name().to_owned()).collect();
        let merged = writer.finish(Origin::Merge { inputs, rid_of: sieve.requests })?;
        files::sync_dir(&self.segments_dir())?;
        Ok(Merged::Segment(Arc::new(merged)))
    }

    /// The rows of one stream in order, cut into blocks anew.
    fn merge_stream(
        &self,
        stream: u32,
        group: &[Arc<Segment>],
        sieve: &mut Sieve,
        writer: &mut SegmentWriter,
    ) -> Result<(), Error> {
        let block_bytes = self.config.block_bytes.saturating_mul(MERGED_BLOCK);
        let mut block = Rows::default();
        let mut result = Ok(());
        let merged = each_row(stream, group, sieve, &self.ending, &mut |rows, row| {
            if is_full(&block, rows.line(row).len(), block_bytes) {
                result = writer.add(stream, &block);
                block.clear();
                if result.is_err() {
                    return ControlFlow::Break(());
                }
            }
            block.push_from(rows, row);
            ControlFlow::Continue(())
        });
        result?;
        if matches!(merged, Err(SourceError::Cancelled(_))) {
            return Ok(());
        }
        merged.map_err(|error| Error::Io {
            path: self.segments_dir(),
            doing: "merge segments of",
            source: std::io::Error::other(error),
        })?;
        if block.len() > 0 { writer.add(stream, &block) } else { Ok(()) }
    }
}

/// Gives the rows of a stream that are kept in the order of (time, position).
fn each_row(
    stream: u32,
    group: &[Arc<Segment>],
    sieve: &mut Sieve,
    cancel: &Cancel,
    each: &mut dyn FnMut(&Rows, usize) -> ControlFlow<()>,
) -> Result<(), SourceError> {
    let mut units = Vec::new();
    for (place, segment) in group.iter().enumerate() {
        for number in segment.blocks_of(stream) {
            let header = &segment.headers()[number];
            if sieve.cutoffs.is_past(stream, header.last) {
                continue;
            }
            let times = (header.first, header.last);
            let Hidden::By(hidden_by) = sieve.hiding.of(stream, times, Some(segment)) else {
                continue;
            };
            units.push(Unit {
                stream: 0,
                fingerprint: 0,
                first: header.first,
                last: header.last,
                order: segment.meta().order,
                number: number as u32,
                place: Place::Disk(place),
                hidden_by,
            });
        }
    }
    let hiding = std::mem::take(&mut sieve.hiding);
    let segments = group.iter().map(|s| PrunedSegment::new(Arc::clone(s), &hiding, None)).collect();
    let reader = Reader {
        segments,
        need: Need::Nothing,
        filter: Filter::everything(),
        hiding,
        range: TimeRange::ALL,
        cancel,
        looked_at: LookedAt::default(),
    };
    let done =
        reader.in_order(&units, Direction::Forward, None, &mut |_, rows, row| each(rows, row));
    // The next stream needs it again.
    sieve.hiding = reader.hiding;
    done
}

fn streams_of(group: &[Arc<Segment>]) -> Vec<u32> {
    let headers = group.iter().flat_map(|segment| segment.headers());
    let mut streams: Vec<u32> = headers.map(|header| header.stream).collect();
    streams.sort_unstable();
    streams.dedup();
    streams
}

/// The first group worth merging: neighbours within a day, of the lowest class that has enough; else
/// what is left over of days of which nothing more comes.
fn choose(segments: &[Arc<Segment>], is_idle: bool) -> Option<Vec<Arc<Segment>>> {
    let mut days: Vec<i32> = segments.iter().map(|segment| segment.meta().day).collect();
    days.sort_unstable();
    days.dedup();
    let newest = days.last().copied();
    let pick = |choose: &dyn Fn(&[u64]) -> Option<Range<usize>>, day: i32| {
        let of_day: Vec<_> = segments.iter().filter(|s| s.meta().day == day).collect();
        let sizes = of_day.iter().map(|s| match s.is_damaged() {
            true => u64::MAX,
            false => s.meta().text_bytes,
        });
        let range = choose(&sizes.collect::<Vec<_>>())?;
        Some(of_day[range].iter().map(|&segment| Arc::clone(segment)).collect())
    };
    let is_over = |day: &&i32| is_idle || Some(**day) != newest;
    (days.iter().rev().find_map(|&day| pick(&neighbours, day)))
        .or_else(|| days.iter().rev().filter(is_over).find_map(|&day| pick(&left_over, day)))
}

fn class(text_bytes: u64) -> u32 {
    let lowest = text_bytes.div_ceil(LOWEST_BYTES).max(1);
    lowest.next_power_of_two().ilog2().div_ceil(FAN_IN.ilog2())
}

/// The first [`FAN_IN`] neighbours of a class or below, for the lowest class that has them.
fn neighbours(sizes: &[u64]) -> Option<Range<usize>> {
    let classes: Vec<u32> = sizes.iter().map(|&bytes| class(bytes)).collect();
    (0..CLASSES).find_map(|highest| {
        let windows = classes.windows(FAN_IN);
        let at = windows.into_iter().position(|w| w.iter().all(|&class| class <= highest))?;
        Some(at..at + FAN_IN)
    })
}

/// The longest run of neighbours that fit into one segment, none of them more than half of it.
fn left_over(sizes: &[u64]) -> Option<Range<usize>> {
    let runs = (0..sizes.len()).filter_map(|start| {
        let (mut sum, mut largest, mut best) = (0_u64, 0, None);
        for (at, &bytes) in sizes.iter().enumerate().skip(start) {
            sum = sum.saturating_add(bytes);
            largest = largest.max(bytes);
            if sum > IDLE_BYTES_MAX {
                break;
            }
            if at > start && largest <= sum / 2 {
                best = Some(start..at + 1);
            }
        }
        best
    });
    runs.max_by_key(ExactSizeIterator::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_by_size() {
        let mib = 1 << 20;
        let cases = [(0, 0), (mib, 0), (mib + 1, 1), (8 * mib, 1), (9 * mib, 2), (65 * mib, 3)];
        for (bytes, expected) in cases {
            assert_eq!(class(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn neighbours_of_the_lowest_class() {
        let mib = 1 << 20;
        let of = |classes: &[u32]| {
            let sizes: Vec<u64> =
                classes.iter().map(|&c| if c > 9 { u64::MAX } else { mib << (3 * c) }).collect();
            neighbours(&sizes)
        };
        assert_eq!(of(&[0; 7]), None);
        assert_eq!(of(&[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Some(2..10));
        assert_eq!(of(&[1, 0, 0, 0, 1, 0, 0, 0, 0]), Some(0..8));
        assert_eq!(of(&[0, 0, 0, 0, 10, 0, 0, 0, 0]), None);
        assert_eq!(of(&[3; 9]), None);
    }

    #[test]
    fn what_is_left_over() {
        let most = IDLE_BYTES_MAX;
        let cases: [(&[u64], Option<Range<usize>>); 8] = [
            (&[], None),
            (&[5], None),
            (&[5, 5], Some(0..2)),
            (&[5, 4], None),
            (&[9, 4, 5, 1], Some(0..4)),
            (&[most, 3, 3, most], Some(1..3)),
            (&[u64::MAX, 3, 2, 2, u64::MAX], Some(1..4)),
            (&[most / 2 + 1, most / 2 + 1], None),
        ];
        for (sizes, expected) in cases {
            assert_eq!(left_over(sizes), expected, "{sizes:?}");
        }
    }
}
