//! A decoded log request, and which of its ranges continue what is committed. Pure.

use std::collections::{HashMap, HashSet};

use taffrail_model::limits::{
    LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LINE_BYTES_MAX, METADATA_BYTES_MAX,
    STREAM_LABELS_MAX,
};
use taffrail_model::record::Position;
use taffrail_model::{LogEntry, SourceRange, StreamEntries};

use super::refusal::Refusal;

/// Lines that are committed together, with the range of the file that they are from, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// What the lines cover, for batches of our agent.
    pub range: Option<SourceRange>,
    /// The lines.
    pub streams: Vec<StreamEntries>,
}

/// What of a batch is new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Lines to store.
    pub streams: Vec<StreamEntries>,
    /// Positions to move, in this order.
    pub ranges: Vec<SourceRange>,
}

impl Admitted {
    /// Whether there is nothing to store and no position to move.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.ranges.is_empty()
    }
}

/// What a range is to the committed position of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It continues it.
    New,
    /// It is committed already.
    Known,
    /// It is empty and at the position: as well the one as the other.
    Still,
    /// Neither.
    Conflict,
}

/// How far one file is while a batch is looked at.
struct Progress {
    at: u64,
    known: bool,
    /// The range looked at last and what it is: several parts may share one.
    last: Option<(u64, u64, Fit)>,
}

/// Takes a batch as a whole, if its ranges continue the positions of their files, given by `position`;
/// nothing of it but what has no range, if all of them are committed already.
///
/// A line may begin in one file and end in the next. So a batch that is new in the one and not in the
/// other is refused: its sender has put a part of the one line before a part of another.
///
/// # Errors
/// The committed positions of all files of a batch that is neither: where its sender is to go on.
pub fn admit(
    parts: Vec<LogPart>,
    mut position: impl FnMut(&str) -> Option<Position>,
) -> Result<Admitted, Vec<Position>> {
    let fits = fits(&parts, &mut position);
    let has = |fit| fits.contains(&Some(fit));
    if has(Fit::Conflict) || (has(Fit::New) && has(Fit::Known)) {
        return Err(positions_of(&parts, position));
    }
    // Lines of a range that does not move are those of a batch that was answered and not heard.
    let stale = |fit| fit == Fit::Known || (fit == Fit::Still && !has(Fit::New));
    let new = parts.into_iter().zip(&fits).filter(|(_, fit)| !fit.is_some_and(stale));
    Ok(pick(new.map(|(part, _)| part)))
}

/// As [`admit`] for a batch that was admitted before and is read again from the write-ahead log,
/// whose earlier frames may have been lost to a damaged disk: what does not fit is kept too, what is
/// committed is not. The second value says of how many files something did not fit.
pub fn admit_again(
    parts: Vec<LogPart>,
    position: impl FnMut(&str) -> Option<Position>,
) -> (Admitted, usize) {
    let fits = fits(&parts, position);
    let sources = parts.iter().zip(&fits).filter(|(_, fit)| **fit == Some(Fit::Conflict));
    let misfits = sources.filter_map(|(part, _)| Some(&part.range.as_ref()?.source));
    let misfits = misfits.collect::<HashSet<_>>().len();
    let moves = fits.iter().flatten().any(|fit| matches!(fit, Fit::New | Fit::Conflict));
    let stale = |fit| fit == Fit::Known || (fit == Fit::Still && !moves);
    let kept = parts.into_iter().zip(&fits).filter(|(_, fit)| !fit.is_some_and(stale));
    (pick(kept.map(|(part, _)| part)), misfits)
}

/// What each part is; `None` for one without a range.
fn fits(parts: &[LogPart], mut position: impl FnMut(&str) -> Option<Position>) -> Vec<Option<Fit>> {
    let mut files: HashMap<&str, Progress> = HashMap::new();
    let mut fits = Vec::with_capacity(parts.len());
    for part in parts {
        fits.push(part.range.as_ref().map(|range| {
            let file = files.entry(&range.source);
            file.or_insert_with(|| Progress::new(range, position(&range.source))).take(range)
        }));
    }
    fits
}

/// What is committed of each file of a batch, in the order of the batch.
fn positions_of(
    parts: &[LogPart],
    mut position: impl FnMut(&str) -> Option<Position>,
) -> Vec<Position> {
    let mut seen = HashSet::new();
    let ranges = parts.iter().filter_map(|part| part.range.as_ref());
    let first = ranges.filter(|range| seen.insert(&range.source));
    first.map(|range| position(&range.source).unwrap_or_else(|| unknown(range))).collect()
}

/// The position of a file of which nothing is known.
fn unknown(range: &SourceRange) -> Position {
    Position { source: range.source.clone(), committed: range.origin, check: 0 }
}

fn pick(parts: impl Iterator<Item = LogPart>) -> Admitted {
    let mut admitted = Admitted::default();
    for part in parts {
        let lines = part.streams.into_iter().filter(|stream| !stream.entries.is_empty());
        admitted.streams.extend(lines);
        // Several parts may share a range.
        admitted.ranges.extend(part.range.filter(|range| admitted.ranges.last() != Some(range)));
    }
    admitted
}

impl Progress {
    fn new(range: &SourceRange, committed: Option<Position>) -> Self {
        let known = committed.is_some();
        let at = committed.map_or(range.origin, |position| position.committed);
        Self { at, known, last: None }
    }

    fn take(&mut self, range: &SourceRange) -> Fit {
        let SourceRange { begin, end, .. } = *range;
        if let Some((last_begin, last_end, fit)) = self.last
            && (last_begin, last_end) == (begin, end)
        {
            return fit;
        }
        let fit = match self.known {
            true if (begin, end) == (self.at, self.at) => Fit::Still,
            true if end <= self.at => Fit::Known,
            _ if begin == self.at => Fit::New,
            _ => return Fit::Conflict,
        };
        if fit == Fit::New {
            self.at = end;
            self.known = true;
        }
        self.last = Some((begin, end, fit));
        fit
    }
}

/// Checks the limits of a stream and its lines.
///
/// # Errors
/// [`Refusal::Content`], naming the limit and what is over it.
pub fn check_limits(stream: &StreamEntries) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::Content(text));
    let labels = &stream.labels;
    if labels.len() > STREAM_LABELS_MAX {
        let count = labels.len();
        return refuse(format!("a stream has {count} labels; limit {STREAM_LABELS_MAX}"));
    }
    for (name, value) in labels.iter() {
        if !taffrail_model::labels::is_valid_name(name) || name.len() > LABEL_NAME_BYTES_MAX {
            let start: String = name.chars().take(100).collect();
            return refuse(format!(
                "label name {start:?} is not [a-zA-Z_][a-zA-Z0-9_]* of at most \
                 {LABEL_NAME_BYTES_MAX} bytes"
            ));
        }
        if value.len() > LABEL_VALUE_BYTES_MAX {
            let bytes = value.len();
            return refuse(format!(
                "the value of label {name} has {bytes} bytes; limit {LABEL_VALUE_BYTES_MAX}"
            ));
        }
    }
    for entry in &stream.entries {
        check_entry(entry).map_err(|text| Refusal::Content(format!("stream {labels}: {text}")))?;
    }
    Ok(())
}

fn check_entry(entry: &LogEntry) -> Result<(), String> {
    if entry.line.len() > LINE_BYTES_MAX {
        return Err(format!("a line has {} bytes; limit {LINE_BYTES_MAX}", entry.line.len()));
    }
    let metadata: usize = entry.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if metadata > METADATA_BYTES_MAX {
        return Err(format!(
            "the metadata of a line has {metadata} bytes; limit {METADATA_BYTES_MAX}"
        ));
    }
    Ok(())
}

/// Puts metadata into the order that the store wants: by name, each name once (the last one wins),
/// no empty value.
pub(super) fn sort_metadata(metadata: &mut Vec<(String, String)>) {
    if metadata.is_empty() {
        return;
    }
    metadata.reverse();
    metadata.sort_by(|a, b| a.0.cmp(&b.0));
    metadata.dedup_by(|later, kept| later.0 == kept.0);
    metadata.retain(|(_, value)| !value.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use taffrail_model::{Labels, Level};

    fn part(source: &str, begin: u64, end: u64, lines: usize) -> LogPart {
        let entry = LogEntry { ts: 0, line: "x".into(), level: Level::Unknown, metadata: vec![] };
        let streams =
            vec![StreamEntries { labels: Labels::default(), entries: vec![entry; lines] }];
        let source = source.to_owned();
        LogPart { range: Some(SourceRange { source, begin, end, origin: 0, check: end }), streams }
    }

    fn at(committed: u64) -> impl FnMut(&str) -> Option<Position> {
        move |source| {
            (committed > 0).then(|| Position { source: source.into(), committed, check: 7 })
        }
    }

    #[test]
    fn ranges_continue_repeat_or_conflict() {
        /// Position, ranges, lines admitted or `None` for a conflict.
        type Case<'a> = (u64, &'a [(u64, u64)], Option<usize>);
        let cases: [Case; 16] = [
            (0, &[(0, 10)], Some(1)),
            (0, &[(0, 0)], Some(1)),
            (0, &[(5, 10)], None),
            (10, &[(10, 20)], Some(1)),
            (10, &[(0, 10)], Some(0)),
            (10, &[(0, 5), (5, 10)], Some(0)),
            (10, &[(0, 5), (5, 10), (10, 15)], None),
            (10, &[(10, 10), (10, 20)], Some(2)),
            (10, &[(0, 10), (10, 10)], Some(0)),
            (10, &[(10, 10)], Some(0)),
            (10, &[(10, 20), (20, 30)], Some(2)),
            (10, &[(10, 20), (10, 20)], Some(2)),
            (20, &[(10, 20), (10, 20)], Some(0)),
            (10, &[(5, 15)], None),
            (10, &[(11, 15)], None),
            (10, &[(10, 20), (30, 40)], None),
        ];
        for (position, ranges, expected) in cases {
            let parts = ranges.iter().map(|&(begin, end)| part("f", begin, end, 1)).collect();
            let lines = admit(parts, at(position)).ok().map(|admitted| admitted.streams.len());
            assert_eq!(lines, expected, "at {position}: {ranges:?}");
        }
    }

    #[test]
    fn what_fits_no_more_is_kept_and_what_is_there_is_not_doubled() {
        let parts = vec![
            part("a", 0, 10, 1),  // committed
            part("a", 10, 20, 2), // continues
            part("b", 50, 60, 4), // an earlier frame was lost
            part("b", 60, 70, 8),
        ];
        let (admitted, misfits) = admit_again(parts, at(10));
        let lines = admitted.streams.iter().map(|stream| stream.entries.len());
        assert_eq!((lines.sum::<usize>(), misfits), (2 + 4 + 8, 1));
        let ends: Vec<u64> = admitted.ranges.iter().map(|range| range.end).collect();
        assert_eq!(ends, [20, 60, 70]);
    }

    #[test]
    fn a_conflict_names_each_file_of_the_batch_once() {
        let parts = vec![
            part("a", 10, 20, 1),
            part("b", 99, 100, 1),
            part("a", 20, 30, 1),
            part("b", 100, 101, 1),
        ];
        let conflicts = admit(parts, at(10)).unwrap_err();
        let at_ten = |source: &str| Position { source: source.into(), committed: 10, check: 7 };
        assert_eq!(conflicts, ["a", "b"].map(at_ten));
        let unknown = admit(vec![part("c", 5, 6, 1)], at(0)).unwrap_err();
        assert_eq!((unknown[0].committed, unknown[0].check), (0, 0));
    }

    #[test]
    fn a_batch_is_new_in_all_its_files_or_in_none() {
        let position = |source: &str| {
            let known = [("a", 20), ("b", 10)].into_iter().find(|(name, _)| *name == source);
            known.map(|(_, committed)| Position { source: source.into(), committed, check: 7 })
        };
        // The line that begins in `a` and ends in `b` is in the store; this one only looks like it.
        let mixed = vec![part("a", 10, 20, 0), part("b", 10, 30, 1)];
        let told = admit(mixed, position).unwrap_err();
        assert_eq!(told.iter().map(|p| p.committed).collect::<Vec<_>>(), [20, 10]);
        let new = vec![part("a", 20, 30, 0), part("b", 10, 30, 1), part("c", 0, 5, 1)];
        assert_eq!(admit(new, position).unwrap().ranges.len(), 3);
        let known = vec![part("a", 10, 20, 1), part("b", 0, 10, 1)];
        assert!(admit(known, position).unwrap().is_empty());
        // A position that does not move says nothing.
        let still = vec![part("a", 20, 20, 0), part("b", 10, 30, 1)];
        assert_eq!(admit(still, position).unwrap().ranges.len(), 2);
    }

    #[test]
    fn an_origin_counts_only_for_unknown_files() {
        let mut started_late = part("f", 100, 110, 1);
        started_late.range.as_mut().unwrap().origin = 100;
        assert!(admit(vec![started_late.clone()], at(0)).is_ok());
        assert!(admit(vec![started_late], at(50)).is_err());
    }

    #[test]
    fn replay_keeps_what_does_not_fit() {
        let hole = vec![part("f", 20, 30, 1), part("f", 20, 30, 2)];
        assert!(admit(hole.clone(), at(10)).is_err());
        let (admitted, misfits) = admit_again(hole, at(10));
        assert_eq!((admitted.streams.len(), admitted.ranges.len(), misfits), (2, 1, 1));
        let (admitted, misfits) = admit_again(vec![part("f", 0, 10, 1)], at(10));
        assert_eq!((admitted, misfits), (Admitted::default(), 0));
    }

    #[test]
    fn an_empty_part_moves_the_position() {
        let admitted = admit(vec![part("f", 10, 20, 0)], at(10)).unwrap();
        assert!(admitted.streams.is_empty() && admitted.ranges.len() == 1);
    }

    #[test]
    fn metadata_is_sorted_and_unique() {
        let mut metadata: Vec<(String, String)> = [("b", "1"), ("a", "x"), ("b", "2"), ("c", "")]
            .map(|(n, v)| (n.into(), v.into()))
            .into();
        sort_metadata(&mut metadata);
        assert_eq!(metadata, [("a".into(), "x".into()), ("b".into(), "2".into())]);
    }

    proptest! {
        /// Whatever is cut out of a file and sent, however often: each byte is admitted once.
        #[test]
        fn bytes_are_admitted_once(
            sends in prop::collection::vec((0_u64..30, 1_u64..10, 1_usize..4), 1..40),
        ) {
            let mut committed = 0;
            for (begin, bytes, parts) in sends {
                let batch: Vec<LogPart> = (0..parts as u64)
                    .map(|n| part("f", begin + n * bytes, begin + (n + 1) * bytes, 1))
                    .collect();
                match admit(batch, at(committed)) {
                    Ok(admitted) => {
                        for range in &admitted.ranges {
                            prop_assert_eq!(range.begin, committed);
                            committed = range.end;
                        }
                        prop_assert!(committed >= begin + bytes * parts as u64);
                    }
                    Err(conflicts) => prop_assert_eq!(conflicts[0].committed, committed),
                }
            }
        }
    }
}
