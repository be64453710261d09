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
}

/// Gives each distinct set of labels a number, in order of appearance.
pub(super) struct Grouper {
    key: GroupKey,
    steps: usize,
    known: HashMap<u128, usize>,
    labels: Vec<SeriesLabels>,
    /// The series of the stream seen last, for lines without labels of their own. Holding the labels
    /// keeps their address from being used again.
    last: Option<(Labels, usize)>,
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
        if !line.is_plain() {
            return self.find(line);
        }
        if let Some((stream, at)) = &self.last
            && std::ptr::eq(stream.shared(), line.stream().shared())
        {
            return Ok(*at);
        }
        let at = self.find(line)?;
        self.last = Some((line.stream().clone(), at));
        Ok(at)
    }

    fn find(&mut self, line: &LineLabels) -> Result<usize, QueryError> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        match self.key.only() {
            Some(names) => {
                pairs.extend(names.iter().filter_map(|n| line.get(n).map(|v| (n.as_str(), v))));
            }
            None => {
                line.sorted(&mut pairs);
                pairs.retain(|(name, _)| self.key.keeps(name));
            }
        }
        let mut hash = Xxh3::new();
        for (name, value) in &pairs {
            // UTF-8 never contains the byte 0xFF.
            for part in [name.as_bytes(), &[0xFF], value.as_bytes(), &[0xFF]] {
                hash.update(part);
            }
        }
        let hash = hash.digest128();
        if let Some(at) = self.known.get(&hash) {
            return Ok(*at);
        }
        let at = self.labels.len();
        check_size(at + 1, self.steps)?;
        self.labels.push(SeriesLabels::from_pairs(pairs));
        self.known.insert(hash, at);
        Ok(at)
    }
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
