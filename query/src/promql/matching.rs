//! Two vectors under one operator: series find their partners by labels.
//!
//! Partners are found once, by series; values are joined column by column. At one step a series of
//! the "one" side must be the only one of its group that is present.

use std::collections::HashMap;

use taffrail_model::Labels;
use taffrail_model::sample::METRIC_NAME;

use super::ast::{Binary, BinaryOp, Cardinality, Matching};
use super::binary::{compares, number};
use super::check::is_metric_label;
use super::error::Error;
use super::eval::Evaluator;
use super::frame::{ABSENT, Frame, Series, is_present};

/// The labels by which a series finds its partners.
fn key(matching: &Matching, labels: &Labels) -> Labels {
    if matching.on {
        labels.filtered(|name| matching.labels.iter().any(|label| label == name))
    } else {
        labels.filtered(|name| {
            name != METRIC_NAME && !matching.labels.iter().any(|label| label == name)
        })
    }
}

/// The rows of both sides that share a key.
#[derive(Default)]
struct Group {
    many: Vec<usize>,
    one: Vec<usize>,
}

fn groups(matching: &Matching, many: &Frame, one: &Frame) -> Vec<(Labels, Group)> {
    let mut index: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<(Labels, Group)> = Vec::new();
    for (frame, is_many) in [(many, true), (one, false)] {
        for (row, series) in frame.series.iter().enumerate() {
            let key = key(matching, &series.labels);
            let at = *index.entry(key.clone()).or_insert_with(|| {
                groups.push((key, Group::default()));
                groups.len() - 1
            });
            let group = &mut groups[at].1;
            if is_many { group.many.push(row) } else { group.one.push(row) }
        }
    }
    groups
}

/// `and`, `or`, `unless`.
pub(super) fn set_operation(
    evaluator: &Evaluator<'_>,
    binary: &Binary,
    mut lhs: Frame,
    rhs: &Frame,
) -> Result<Frame, Error> {
    let groups = groups(&binary.matching, &lhs, rhs);
    if binary.op == BinaryOp::Or {
        return union(evaluator, &groups, &lhs, rhs);
    }
    let keep_when_right = binary.op == BinaryOp::And;
    for (_, group) in &groups {
        for step in 0..lhs.grid.steps {
            let right = group.one.iter().any(|row| is_present(rhs.value(*row, step)));
            if right != keep_when_right {
                for row in &group.many {
                    lhs.row_mut(*row)[step] = ABSENT;
                }
            }
        }
    }
    Ok(lhs)
}

fn union(
    evaluator: &Evaluator<'_>,
    groups: &[(Labels, Group)],
    lhs: &Frame,
    rhs: &Frame,
) -> Result<Frame, Error> {
    let steps = lhs.grid.steps;
    let mut hidden = vec![None; rhs.len()];
    for (_, group) in groups {
        if group.many.is_empty() || group.one.is_empty() {
            continue;
        }
        let left: Vec<bool> = (0..steps)
            .map(|step| group.many.iter().any(|row| is_present(lhs.value(*row, step))))
            .collect();
        for row in &group.one {
            hidden[*row] = Some(left.clone());
        }
    }
    let mut result = evaluator.frame(lhs.grid);
    let mut rows: HashMap<(Labels, bool), usize> = HashMap::new();
    for (series, values) in lhs.rows() {
        rows.insert((series.labels.clone(), series.drop_name), result.len());
        result.push(series.clone())?.copy_from_slice(values);
    }
    for (row, (series, values)) in rhs.rows().enumerate() {
        // The same series may come from the left at some steps and from the right at others.
        let target = rows.get(&(series.labels.clone(), series.drop_name)).copied();
        let into = match target {
            Some(target) => result.row_mut(target),
            None => result.push(series.clone())?,
        };
        for (step, value) in values.iter().enumerate() {
            let covered = hidden[row].as_ref().is_some_and(|left| left[step]);
            if !covered && is_present(*value) {
                into[step] = *value;
            }
        }
        if target.is_none() {
            result.pop_if_empty();
        }
    }
    Ok(result)
}

/// An arithmetic operator or comparison on two vectors.
pub(super) fn join(
    evaluator: &Evaluator<'_>,
    binary: &Binary,
    lhs: &Frame,
    rhs: &Frame,
) -> Result<Frame, Error> {
    let swapped = binary.matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let matching = &binary.matching;
    // Prometheus turns the sides of `group_right`, but not what fills them.
    let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
    let many_present = present_steps(many);
    let mut join = Join {
        binary,
        swapped,
        many,
        one,
        many_present: &many_present,
        fill_many,
        fill_one,
        result: evaluator.frame(lhs.grid),
        rows: HashMap::new(),
    };
    for (key, group) in groups(matching, many, one) {
        evaluator.cancel.check()?;
        join.group(&key, &group)?;
    }
    Ok(join.result)
}

fn present_steps(frame: &Frame) -> Vec<bool> {
    let mut present = vec![false; frame.grid.steps];
    for (_, row) in frame.rows() {
        for (seen, value) in present.iter_mut().zip(row) {
            *seen |= is_present(*value);
        }
    }
    present
}

struct Join<'j> {
    binary: &'j Binary,
    swapped: bool,
    many: &'j Frame,
    one: &'j Frame,
    many_present: &'j [bool],
    fill_many: Option<f64>,
    fill_one: Option<f64>,
    result: Frame,
    rows: HashMap<Labels, usize>,
}

impl Join<'_> {
    fn group(&mut self, key: &Labels, group: &Group) -> Result<(), Error> {
        let partner = self.partners(key, group)?;
        if group.one.is_empty() && self.fill_one.is_none() {
            return Ok(());
        }
        let one_to_one = self.binary.matching.cardinality == Cardinality::OneToOne;
        let mut taken = vec![false; if one_to_one { partner.len() } else { 0 }];
        for many in &group.many {
            for one in group.one.iter().copied().map(Some).chain([None]) {
                self.pair(*many, one, &partner, &mut taken)?;
            }
        }
        if let Some(fill) = self.fill_many {
            for one in &group.one {
                self.lonely(*one, fill, group, key)?;
            }
        }
        Ok(())
    }

    /// The row of the one side that is present at each step.
    fn partners(&self, key: &Labels, group: &Group) -> Result<Vec<Option<usize>>, Error> {
        let mut partner = vec![None; self.one.grid.steps];
        for row in &group.one {
            for (step, value) in self.one.row(*row).iter().enumerate() {
                if !is_present(*value) {
                    continue;
                }
                if let Some(first) = partner[step].replace(*row)
                    && (self.many_present[step] || self.fill_many.is_some())
                {
                    return Err(self.duplicate(key, first, *row));
                }
            }
        }
        Ok(partner)
    }

    fn duplicate(&self, key: &Labels, first: usize, second: usize) -> Error {
        let side = if self.swapped { "left" } else { "right" };
        let (first, second) = (&self.one.series[first].labels, &self.one.series[second].labels);
        Error::Execution(format!(
            "found duplicate series for the match group {key} on the {side} hand-side of the \
             operation: [{second}, {first}];many-to-many matching not allowed: matching labels must \
             be unique on one side"
        ))
    }

    /// Joins one series of the many side with one of the one side (or its filling), at the steps
    /// where they are partners.
    fn pair(
        &mut self,
        many: usize,
        one: Option<usize>,
        partner: &[Option<usize>],
        taken: &mut [bool],
    ) -> Result<(), Error> {
        if one.is_none() && self.fill_one.is_none() {
            return Ok(());
        }
        let mut target = None;
        for (step, found) in partner.iter().enumerate() {
            let many_value = self.many.value(many, step);
            if *found != one || !is_present(many_value) {
                continue;
            }
            let one_value = one.map_or(self.fill_one, |row| Some(self.one.value(row, step)));
            if taken.get(step).copied().unwrap_or(false) {
                return Err(Error::execution(
                    "multiple matches for labels: many-to-one matching must be explicit \
                     (group_left/group_right)",
                ));
            }
            if let Some(taken) = taken.get_mut(step) {
                *taken = true;
            }
            let Some(value) = self.combine(many_value, one_value.unwrap_or(f64::NAN)) else {
                continue;
            };
            let row = match target {
                Some(row) => row,
                None => *target.insert(self.target(&self.many.series[many].clone(), one)?),
            };
            self.set(row, step, value)?;
        }
        Ok(())
    }

    /// Joins a series of the one side with the filling of the many side, at the steps where the
    /// many side has no series.
    fn lonely(&mut self, one: usize, fill: f64, group: &Group, key: &Labels) -> Result<(), Error> {
        let series = Series {
            labels: match self.binary.matching.cardinality {
                Cardinality::OneToOne => self.one.series[one].labels.clone(),
                _ => key.clone(),
            },
            drop_name: self.one.series[one].drop_name,
        };
        for step in 0..self.one.grid.steps {
            let value = self.one.value(one, step);
            let partnered = group.many.iter().any(|row| is_present(self.many.value(*row, step)));
            if partnered || !is_present(value) {
                continue;
            }
            if let Some(value) = self.combine(fill, value) {
                let row = self.target(&series, Some(one))?;
                self.set(row, step, value)?;
            }
        }
        Ok(())
    }

    fn combine(&self, many: f64, one: f64) -> Option<f64> {
        let (lhs, rhs) = if self.swapped { (one, many) } else { (many, one) };
        let op = self.binary.op;
        if op.is_comparison() && !self.binary.bool_result {
            return compares(op, lhs, rhs).then_some(lhs);
        }
        Some(number(op, lhs, rhs))
    }

    fn set(&mut self, row: usize, step: usize, value: f64) -> Result<(), Error> {
        let point = &mut self.result.row_mut(row)[step];
        if is_present(*point) {
            return Err(Error::execution(
                "multiple matches for labels: grouping labels must ensure unique matches",
            ));
        }
        *point = value;
        Ok(())
    }

    /// The row of the result for a series of the many side and its partner.
    fn target(&mut self, many: &Series, one: Option<usize>) -> Result<usize, Error> {
        let labels = self.result_labels(&many.labels, one);
        if let Some(row) = self.rows.get(&labels) {
            return Ok(*row);
        }
        let row = self.result.len();
        let drop_name = many.drop_name || self.binary.bool_result;
        self.result.push(Series { labels: labels.clone(), drop_name })?;
        self.rows.insert(labels, row);
        Ok(row)
    }

    fn result_labels(&self, many: &Labels, one: Option<usize>) -> Labels {
        let matching = &self.binary.matching;
        let arithmetic = !self.binary.op.is_comparison();
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let labels = many.filtered(|name| {
            let listed = matching.labels.iter().any(|label| label == name);
            !(arithmetic && is_metric_label(name)) && (!one_to_one || matching.on == listed)
        });
        if matching.include.is_empty() {
            return labels;
        }
        let one = one.map(|row| &self.one.series[row].labels);
        let mut pairs: Vec<_> = labels
            .shared()
            .iter()
            .filter(|(name, _)| !matching.include.iter().any(|label| **label == **name))
            .cloned()
            .collect();
        let copied = matching.include.iter().filter_map(|label| {
            let value = one?.get(label)?;
            Some((label.as_str().into(), value.into()))
        });
        pairs.extend(copied);
        Labels::from_pairs(pairs)
    }
}

/// The metric name of a series, or nothing.
pub(super) fn metric_name(labels: &Labels) -> &str {
    labels.get(METRIC_NAME).unwrap_or("")
}
