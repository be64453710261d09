//! Which rows of a block pass.

use super::known;

/// The numbers of rows that pass.
pub(super) enum Passing {
    /// All of a stretch.
    All(std::ops::Range<usize>),
    /// These, ascending.
    Some(Vec<u32>),
}

impl Passing {
    /// How many rows pass.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::All(rows) => rows.len(),
            Self::Some(rows) => rows.len(),
        }
    }

    /// Whether no row passes.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, to be kept.
    pub(super) fn to_known(&self, rows: u32) -> known::Rows {
        match self {
            Self::All(all) if all.len() == rows as usize => known::Rows::All,
            Self::All(all) => {
                let numbers: Vec<u32> = (all.start as u32..all.end as u32).collect();
                known::Rows::new(&numbers, rows)
            }
            Self::Some(numbers) => known::Rows::new(numbers, rows),
        }
    }

    /// The numbers, one by one.
    pub(super) fn into_numbers(self) -> Vec<u32> {
        match self {
            Self::All(rows) => (rows.start as u32..rows.end as u32).collect(),
            Self::Some(rows) => rows,
        }
    }
}
