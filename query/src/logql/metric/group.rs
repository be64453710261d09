//! From the labels of lines to the number of a series.

use std::collections::HashMap;

use taffrail_model::Labels;
use xxhash_rust::xxh3::Xxh3;

use super::super::ast::Grouping;
use super::super::error::QueryError;
use super::super::labels::LineLabels;
use super::{SERIES_INNER_MAX, SeriesLabels, VALUES_MAX};
use crate::source::SourceError;

/// Which labels of a line make its series.
#[derive(Clone, Debug)]
pub(super) struct GroupKey {
    without: bool,
    names: Vec<String>,
}

impl GroupKey {
    /// The key of a range expression: the grouping that stands with it, or the one around it, or
    /// all labels; never the label that is unwrapped, unless the query names it.
    pub(super) fn new(
        own: Option<&Grouping>,
        outer: Option<&Grouping>,
        unwrapped: Option<&str>,
    ) -> Self {
        let chosen = own.or(outer);
        let (without, mut names) =
            chosen.map_or_else(|| (true, Vec::new()), |g| (g.without, g.labels.clone()));
        if let Some(label) = unwrapped {
            if without {
                names.push(label.to_owned());
            } else if own.is_none() {
                names.retain(|name| name != label);
            }
        }
        names.sort_unstable();
        names.dedup();
        Self { without, names }
    }

    /// The names, if only they are kept.
    pub(super) fn only(&self) -> Option<&[String]> {
        (!self.without).then_some(&*self.names)
    }

    fn keeps(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name) != self.without
    }

    fn sum<'l>(&self, pairs: impl Iterator<Item = (&'l str, &'l str)>) -> u128 {
        pairs
            .filter(|(name, _)| self.keeps(name))
            .fold(0, |sum, (name, value)| sum.wrapping_add(pair_hash(name, value)))
    }
}

/// Gives each distinct set of labels a number, in order of appearance.
///
/// A set is recognised by the sum of the hashes of its pairs, so a line costs no allocation and no
/// sorting, and the part of its stream is added up once per stream.
pub(super) struct Grouper {
    key: GroupKey,
    steps: usize,
    known: HashMap<u128, usize>,
    labels: Vec<SeriesLabels>,
    last: Option<LastStream>,
}

/// The stream seen last. Holding its labels keeps their address from being used again.
struct LastStream {
    labels: Labels,
    /// Sum over the labels that the key keeps.
    sum: u128,
    /// The series of its lines that have no labels of their own.
    series: Option<usize>,
}

impl Grouper {
    pub(super) fn new(key: GroupKey, steps: usize) -> Self {
        Self { key, steps, known: HashMap::new(), labels: Vec::new(), last: None }
    }

    /// The labels of all series, by number.
    pub(super) fn into_labels(self) -> Vec<SeriesLabels> {
        self.labels
    }

    /// The number of the series of a line.
    pub(super) fn series(&mut self, line: &LineLabels) -> Result<usize, QueryError> {
        let stream = line.stream();
        let same = |last: &LastStream| std::ptr::eq(last.labels.shared(), stream.shared());
        let (stream_sum, series) = match self.last.as_ref().filter(|last| same(last)) {
            Some(last) => (last.sum, last.series),
            None => {
                let sum = self.key.sum(stream.iter());
                self.last = Some(LastStream { labels: stream.clone(), sum, series: None });
                (sum, None)
            }
        };
        if !line.is_plain() {
            let sum = self.sum(line, stream_sum);
            return self.find(sum, line);
        }
        if let Some(series) = series {
            return Ok(series);
        }
        let found = self.find(stream_sum, line)?;
        if let Some(last) = &mut self.last {
            last.series = Some(found);
        }
        Ok(found)
    }

    fn sum(&self, line: &LineLabels, stream_sum: u128) -> u128 {
        let mut sum = 0_u128;
        let mut add = |name: &str, value: &str| {
            if self.key.keeps(name) {
                sum = sum.wrapping_add(pair_hash(name, value));
            }
        };
        if line.has_whole_stream() {
            line.each_own(|name, value, _| add(name, value));
            return sum.wrapping_add(stream_sum);
        }
        line.each(|name, value, _| add(name, value));
        sum
    }

    fn find(&mut self, sum: u128, line: &LineLabels) -> Result<usize, QueryError> {
        if let Some(at) = self.known.get(&sum) {
            return Ok(*at);
        }
        let at = self.labels.len();
        check_size(at + 1, self.steps)?;
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        line.sorted(&mut pairs);
        pairs.retain(|(name, _)| self.key.keeps(name));
        self.labels.push(SeriesLabels::from_pairs(pairs));
        self.known.insert(sum, at);
        Ok(at)
    }
}

fn pair_hash(name: &str, value: &str) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(name.as_bytes());
    // UTF-8 never contains this byte.
    hash.update(&[0xFF]);
    hash.update(value.as_bytes());
    hash.digest128()
}

/// An error when so many series of so many steps are too much to hold.
pub(super) fn check_size(series: usize, steps: usize) -> Result<(), QueryError> {
    if series > SERIES_INNER_MAX || series.saturating_mul(steps) > VALUES_MAX {
        return Err(SourceError::TooMuch(format!(
            "the query needs more than {SERIES_INNER_MAX} series or {VALUES_MAX} values in memory; \
             aggregate with sum by (...), ask for a shorter range or a longer step, or add a label \
             matcher"
        ))
        .into());
    }
    Ok(())
}
