//! A series of an answer, and the times that its values belong to.

use std::fmt;
use std::sync::Arc;

use taffrail_model::labels::write_quoted;
use taffrail_model::{Labels, Nanos};

/// The labels of a series, sorted by name. Unlike [`Labels`], a value may be empty: a parser that
/// finds nothing sets such a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesLabels(Arc<[(Arc<str>, Arc<str>)]>);

impl Default for SeriesLabels {
    fn default() -> Self {
        Self(Arc::from(Vec::new()))
    }
}

impl SeriesLabels {
    /// Builds a set from pairs in any order, each name once.
    pub fn from_pairs<N: Into<Arc<str>>, V: Into<Arc<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        pairs.sort_unstable();
        Self(pairs.into())
    }

    /// The value of a label, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|at| &*self.0[at].1)
    }

    /// All pairs in order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// The labels whose names satisfy `keep`.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// The same set with one label set, or removed for `None`.
    #[must_use]
    pub fn with(&self, name: &str, value: Option<&str>) -> Self {
        let others = self.0.iter().filter(|(n, _)| &**n != name).cloned();
        Self::from_pairs(others.chain(value.map(|value| (Arc::from(name), Arc::from(value)))))
    }
}

impl From<&Labels> for SeriesLabels {
    fn from(labels: &Labels) -> Self {
        Self(labels.shared().into())
    }
}

impl fmt::Display for SeriesLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            write!(f, "{name}=")?;
            write_quoted(f, value)?;
        }
        f.write_str("}")
    }
}

/// Labels and one value, or none, for each step.
#[derive(Clone, Debug)]
pub struct Series {
    /// The labels.
    pub labels: SeriesLabels,
    /// As many as there are steps.
    pub values: Vec<Option<f64>>,
}

/// The times of a metric query: `start`, `start + step`, … up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    start: Nanos,
    step: Nanos,
    count: usize,
}

impl Steps {
    /// One time.
    #[must_use]
    pub fn instant(at: Nanos) -> Self {
        Self { start: at, step: 1, count: 1 }
    }

    /// Times from `start` to `end`, both included, `step` apart. `None` when the step is not
    /// positive, the end is before the start, or there are more than `count_max` times.
    #[must_use]
    pub fn range(start: Nanos, end: Nanos, step: Nanos, count_max: usize) -> Option<Self> {
        if step <= 0 || end < start {
            return None;
        }
        let count = usize::try_from(end.abs_diff(start) / step.unsigned_abs() + 1).ok()?;
        (count <= count_max).then_some(Self { start, step, count })
    }

    /// How many times there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Time between two.
    #[must_use]
    pub fn step(&self) -> Nanos {
        self.step
    }

    /// The first.
    #[must_use]
    pub fn first(&self) -> Nanos {
        self.start
    }

    /// The last.
    #[must_use]
    pub fn last(&self) -> Nanos {
        self.at(self.count - 1)
    }

    /// The time with a number, counted from 0.
    #[must_use]
    pub fn at(&self, index: usize) -> Nanos {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        self.start.saturating_add(self.step.saturating_mul(index))
    }

    /// Number of the first time that is not before `ts`; may be past the last.
    pub(super) fn first_from(&self, ts: i128) -> usize {
        let after = ts - i128::from(self.start);
        if after <= 0 {
            return 0;
        }
        let step = i128::from(self.step);
        usize::try_from((after + step - 1) / step).unwrap_or(usize::MAX).min(self.count)
    }
}
