//! `| level="error" and took > 1s or addr = ip("10.0.0.0/8")`.
//!
//! A comparison of numbers with a label that is not there drops the line; with one that is no number
//! it keeps the line and sets `__error__`. Once a line has an error, only comparisons of text can
//! drop it.

use taffrail_model::Matcher;

use super::super::ast::{Compare, LabelFilter};
use super::super::ip::IpSet;
use super::super::labels::LineLabels;
use super::super::units;
use super::LABEL_FILTER_ERROR;

/// A condition on the labels of a line.
#[derive(Debug)]
pub enum CompiledLabelFilter {
    /// As text.
    Text(Matcher),
    /// As number.
    Number(String, Compare, f64),
    /// As duration, in nanoseconds.
    Duration(String, Compare, i64),
    /// As size.
    Bytes(String, Compare, u64),
    /// As address; `true`: must be in the set.
    Ip(String, bool, IpSet),
    /// All hold.
    And(Vec<CompiledLabelFilter>),
    /// One holds.
    Or(Vec<CompiledLabelFilter>),
}

impl CompiledLabelFilter {
    pub(in super::super) fn compile(filter: &LabelFilter) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Text(matcher) => Self::Text(matcher.clone()),
            LabelFilter::Number { name, op, value } => Self::Number(name.clone(), *op, *value),
            LabelFilter::Duration { name, op, nanos } => Self::Duration(name.clone(), *op, *nanos),
            LabelFilter::Bytes { name, op, bytes } => Self::Bytes(name.clone(), *op, *bytes),
            LabelFilter::Ip { name, equal, pattern } => {
                Self::Ip(name.clone(), *equal, IpSet::parse(pattern)?)
            }
            LabelFilter::And(filters) => Self::And(compile_all(filters)?),
            LabelFilter::Or(filters) => Self::Or(compile_all(filters)?),
        })
    }

    /// Whether a line goes on; may set its error.
    #[must_use]
    pub fn passes(&self, labels: &mut LineLabels) -> bool {
        match self {
            Self::Text(matcher) => matcher.matches(labels.get(&matcher.name).unwrap_or("")),
            Self::Number(name, op, wanted) => compare(labels, name, *op, wanted, units::go_float),
            Self::Duration(name, op, wanted) => {
                compare(labels, name, *op, wanted, units::go_duration)
            }
            Self::Bytes(name, op, wanted) => compare(labels, name, *op, wanted, units::bytes),
            Self::Ip(name, equal, set) => {
                labels.error().is_some()
                    || labels.get(name).is_some_and(|value| set.found_in(value) == *equal)
            }
            // Both stop at the first that decides, so that a later one sets no error.
            Self::And(filters) => filters.iter().all(|filter| filter.passes(labels)),
            Self::Or(filters) => filters.iter().any(|filter| filter.passes(labels)),
        }
    }
}

fn compile_all(filters: &[LabelFilter]) -> Result<Vec<CompiledLabelFilter>, String> {
    filters.iter().map(CompiledLabelFilter::compile).collect()
}

fn compare<T: PartialOrd>(
    labels: &mut LineLabels,
    name: &str,
    op: Compare,
    wanted: &T,
    read: impl Fn(&str) -> Result<T, String>,
) -> bool {
    if labels.error().is_some() {
        return true;
    }
    let Some(value) = labels.get(name) else {
        return false;
    };
    match read(value) {
        Ok(value) => op.holds(&value, wanted),
        Err(why) => {
            labels.set_error(LABEL_FILTER_ERROR, &why);
            true
        }
    }
}
