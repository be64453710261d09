//! The filters of a scan over the rows of one block: exact, and fast where one text drives.
//!
//! When a filter wants one text, a substring search over the whole block finds the candidate rows;
//! the rest of the filters looks only at those. A hit that crosses the edge of a row is none.
//!
//! Pure.

use std::ops::Range;

use memchr::memmem::Finder;
use regex::Regex;
use taffrail_model::TimeRange;
use taffrail_query::source::LineFilter;

use super::judge::Judge;
use super::rows::Rows;

/// Filters with their searchers built.
pub(super) struct Filter {
    judge: Judge,
    driver: Option<Finder<'static>>,
    checks: Vec<Check>,
    /// None for rows of every time.
    range: Option<TimeRange>,
}

enum Check {
    Contains { finders: Vec<Finder<'static>>, wanted: bool },
    Matches { expressions: Vec<Regex>, wanted: bool },
}

impl Filter {
    /// Prepares the filters for rows in a range of time.
    pub(super) fn new(filters: &[LineFilter], range: TimeRange) -> Self {
        let mut driver: Option<Finder<'static>> = None;
        let mut checks = Vec::new();
        for filter in filters {
            let check = match filter {
                LineFilter::Contains(texts) => match &texts[..] {
                    // The longest text is the rarest, as a rule.
                    [text] if driver.as_ref().is_none_or(|d| d.needle().len() < text.len()) => {
                        let Some(before) = driver.replace(finder(text)) else { continue };
                        Check::Contains { finders: vec![before], wanted: true }
                    }
                    texts => Check::contains(texts, true),
                },
                LineFilter::NotContains(texts) => Check::contains(texts, false),
                LineFilter::Matches(expressions) => {
                    Check::Matches { expressions: expressions.clone(), wanted: true }
                }
                LineFilter::NotMatches(expressions) => {
                    Check::Matches { expressions: expressions.clone(), wanted: false }
                }
            };
            checks.push(check);
        }
        Self { judge: Judge::new(filters), driver, checks, range: Some(range) }
    }

    /// A filter that every row passes.
    pub(super) fn everything() -> Self {
        Self { judge: Judge::new(&[]), driver: None, checks: Vec::new(), range: None }
    }

    /// The same filters for templates.
    pub(super) fn judge(&self) -> &Judge {
        &self.judge
    }

    /// The time wanted; none for every time.
    pub(super) fn range(&self) -> Option<TimeRange> {
        self.range
    }

    /// The numbers of the rows that pass, ascending.
    pub(super) fn passing(&self, rows: &Rows) -> Vec<u32> {
        let mut passing = Vec::new();
        let within = self.within(rows);
        let mut look = |row: usize| {
            if self.range.is_none_or(|range| range.contains(rows.ts[row]))
                && self.checks.iter().all(|check| check.passes(rows.line(row)))
            {
                passing.push(row as u32);
            }
        };
        match &self.driver {
            Some(finder) => hits(rows, within, finder, look),
            None => within.for_each(&mut look),
        }
        passing
    }

    /// The rows that can be in the range of time.
    fn within(&self, rows: &Rows) -> Range<usize> {
        let Some(range) = self.range.filter(|_| rows.is_sorted()) else { return 0..rows.len() };
        let start = rows.ts.partition_point(|&ts| ts < range.start);
        let end = rows.ts.partition_point(|&ts| ts < range.end);
        start..end.max(start)
    }
}

impl Check {
    fn contains(texts: &[String], wanted: bool) -> Self {
        Self::Contains { finders: texts.iter().map(|text| finder(text)).collect(), wanted }
    }

    fn passes(&self, line: &str) -> bool {
        match self {
            Self::Contains { finders, wanted } => {
                finders.iter().any(|f| f.find(line.as_bytes()).is_some()) == *wanted
            }
            Self::Matches { expressions, wanted } => {
                expressions.iter().any(|e| e.is_match(line)) == *wanted
            }
        }
    }
}

fn finder(text: &str) -> Finder<'static> {
    Finder::new(text).into_owned()
}

/// Gives each row that contains the text, once.
fn hits(rows: &Rows, within: Range<usize>, finder: &Finder<'_>, mut each: impl FnMut(usize)) {
    let text = rows.text.as_bytes();
    let Some(last) = within.end.checked_sub(1).filter(|_| !within.is_empty()) else { return };
    let (mut at, end) = (rows.start(within.start), rows.ends[last] as usize);
    let mut row = within.start;
    while let Some(found) = text.get(at..end).and_then(|rest| finder.find(rest)) {
        let hit = at + found;
        row += rows.ends[row..].partition_point(|&e| (e as usize) < hit);
        if hit + finder.needle().len() <= rows.ends[row] as usize {
            each(row);
            if row == last {
                return;
            }
            row += 1;
            at = rows.start(row);
        } else {
            at = hit + 1;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any filter over the letters that the tests' lines are made of.
    pub(in super::super) fn filters() -> impl Strategy<Value = Vec<LineFilter>> {
        let texts = || proptest::collection::vec("[ab1 \n]{0,3}", 0..3);
        let expressions = || {
            let pattern = prop::sample::select(vec![
                "a.b",
                "^a",
                "b$",
                "(?i)A+",
                "a|1",
                r"\b1\b",
                "[ab]{2,3}",
                "a b",
                "(?s).\n.",
            ]);
            proptest::collection::vec(pattern.prop_map(|p| Regex::new(p).unwrap()), 0..3)
        };
        let filter = prop_oneof![
            3 => texts().prop_map(LineFilter::Contains),
            1 => texts().prop_map(LineFilter::NotContains),
            2 => expressions().prop_map(LineFilter::Matches),
            1 => expressions().prop_map(LineFilter::NotMatches),
        ];
        proptest::collection::vec(filter, 0..3)
    }

    proptest! {
        #[test]
        fn passes_what_a_look_at_each_line_passes(
            lines in proptest::collection::vec((0_i64..20, "[abAB1 \n]{0,8}"), 0..30),
            filters in filters(), start in 0_i64..20, end in 0_i64..25, sort in any::<bool>(),
        ) {
            let mut lines = lines;
            if sort {
                lines.sort_by_key(|line| line.0);
            }
            let mut rows = Rows::default();
            lines.iter().for_each(|(ts, line)| rows.push(*ts, line, 0));
            let range = TimeRange::new(start, end);
            let expected: Vec<u32> = (0..lines.len() as u32)
                .filter(|&row| range.contains(lines[row as usize].0))
                .filter(|&row| filters.iter().all(|f| f.passes(&lines[row as usize].1)))
                .collect();
            prop_assert_eq!(Filter::new(&filters, range).passing(&rows), expected);
        }
    }
}
