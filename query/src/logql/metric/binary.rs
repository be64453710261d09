//! Two sides and an operator: numbers with numbers, series with numbers, series with series.
//!
//! Series find each other by their labels (`on`, `ignoring`), at each step anew, since a series may
//! have no value there. Division and remainder by zero give NaN, as in Loki.

use std::collections::HashMap;

use super::super::ast::{Binary, BinaryOp, Cardinality, Grouping, Matching};
use super::super::error::QueryError;
use super::group::check_size;
use super::vector::grouped;
use super::{MetricValue, Series, SeriesLabels};

/// The value of an operator; `None`: a comparison that does not hold and drops its sample.
fn apply(binary: &Binary, left: f64, right: f64) -> Option<f64> {
    Some(match binary.op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div if right == 0.0 => f64::NAN,
        BinaryOp::Div => left / right,
        // Zero on the right gives NaN by itself.
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Compare(op) => f64::from(u8::from(op.holds(&left, &right))),
        // Sets are joined in `sets`.
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless => return None,
    })
}

/// Whether the operator keeps or drops samples instead of computing.
fn filters(binary: &Binary) -> bool {
    matches!(binary.op, BinaryOp::Compare(_)) && !binary.returns_bool
}

/// Combines the two sides of an operator.
pub(super) fn combine(
    binary: &Binary,
    left: MetricValue,
    right: MetricValue,
    steps: usize,
) -> Result<MetricValue, QueryError> {
    Ok(match (left, right) {
        (MetricValue::Scalar(left), MetricValue::Scalar(right)) => {
            MetricValue::Scalar(apply(binary, left, right).unwrap_or(f64::NAN))
        }
        (MetricValue::Series(series), MetricValue::Scalar(number)) => {
            MetricValue::Series(with_number(binary, series, |value| (value, number)))
        }
        (MetricValue::Scalar(number), MetricValue::Series(series)) => {
            MetricValue::Series(with_number(binary, series, |value| (number, value)))
        }
        (MetricValue::Series(left), MetricValue::Series(right)) if binary.op.is_set() => {
            MetricValue::Series(sets(binary, left, right, steps))
        }
        (MetricValue::Series(left), MetricValue::Series(right)) => {
            MetricValue::Series(Match::new(binary, &left, &right, steps).run()?)
        }
    })
}

fn with_number(
    binary: &Binary,
    mut series: Vec<Series>,
    sides: impl Fn(f64) -> (f64, f64),
) -> Vec<Series> {
    for one in &mut series {
        for slot in &mut one.values {
            let Some(value) = *slot else { continue };
            let (left, right) = sides(value);
            let result = apply(binary, left, right);
            *slot =
                if filters(binary) { result.filter(|r| *r != 0.0).map(|_| value) } else { result };
        }
    }
    series
}

/// The labels by which series find each other.
fn signature(labels: &SeriesLabels, matching: Option<&Matching>) -> SeriesLabels {
    let Some(matching) = matching else {
        return labels.clone();
    };
    let by = Grouping { without: !matching.on, labels: matching.labels.clone() };
    // An empty label is an absent one here.
    let kept = grouped(labels, &by);
    let empty = |name: &str| kept.get(name).is_some_and(str::is_empty);
    kept.filtered(|name| !empty(name))
}

/// Gives equal signatures on both sides the same number.
fn numbered(
    series: &[Series],
    matching: Option<&Matching>,
    known: &mut HashMap<SeriesLabels, usize>,
) -> Vec<usize> {
    series
        .iter()
        .map(|one| {
            let next = known.len();
            *known.entry(signature(&one.labels, matching)).or_insert(next)
        })
        .collect()
}

fn sets(
    binary: &Binary,
    mut left: Vec<Series>,
    mut right: Vec<Series>,
    steps: usize,
) -> Vec<Series> {
    let mut known = HashMap::new();
    let matching = binary.matching.as_ref();
    let left_numbers = numbered(&left, matching, &mut known);
    let right_numbers = numbered(&right, matching, &mut known);
    let mut there = vec![false; known.len()];
    for step in 0..steps {
        there.fill(false);
        let (judges, numbers) = match binary.op {
            BinaryOp::Or => (&left, &left_numbers),
            _ => (&right, &right_numbers),
        };
        for (one, number) in judges.iter().zip(numbers) {
            there[*number] |= one.values[step].is_some();
        }
        let (judged, numbers) = match binary.op {
            BinaryOp::Or => (&mut right, &right_numbers),
            _ => (&mut left, &left_numbers),
        };
        for (one, number) in judged.iter_mut().zip(numbers) {
            if there[*number] != (binary.op == BinaryOp::And) {
                one.values[step] = None;
            }
        }
    }
    if binary.op == BinaryOp::Or {
        merge(&mut left, right);
    }
    left
}

/// Adds series; one whose labels are there already fills the gaps of that one.
fn merge(left: &mut Vec<Series>, right: Vec<Series>) {
    let mut known: HashMap<SeriesLabels, usize> =
        left.iter().enumerate().map(|(at, one)| (one.labels.clone(), at)).collect();
    for one in right {
        if let Some(at) = known.get(&one.labels) {
            for (slot, value) in left[*at].values.iter_mut().zip(one.values) {
                *slot = slot.or(value);
            }
        } else {
            known.insert(one.labels.clone(), left.len());
            left.push(one);
        }
    }
}

/// Matches series one to one, or many to one.
struct Match<'a> {
    binary: &'a Binary,
    cardinality: Cardinality,
    /// The side on which several may share a partner.
    many: &'a [Series],
    one: &'a [Series],
    steps: usize,
}

impl<'a> Match<'a> {
    fn new(binary: &'a Binary, left: &'a [Series], right: &'a [Series], steps: usize) -> Self {
        let cardinality = binary.matching.as_ref().map_or(Cardinality::OneToOne, |m| m.cardinality);
        let (many, one) =
            if cardinality == Cardinality::OneToMany { (right, left) } else { (left, right) };
        Self { binary, cardinality, many, one, steps }
    }

    fn run(&self) -> Result<Vec<Series>, QueryError> {
        let matching = self.binary.matching.as_ref();
        let mut known = HashMap::new();
        let many_numbers = numbered(self.many, matching, &mut known);
        let one_numbers = numbered(self.one, matching, &mut known);
        // The labels of the results are found when a pair first has a value.
        let mut results: Vec<Series> = Vec::new();
        let mut by_labels: HashMap<SeriesLabels, usize> = HashMap::new();
        let mut by_pair: HashMap<(usize, usize), usize> = HashMap::new();
        let mut partner: Vec<Option<usize>> = vec![None; known.len()];
        let mut taken: Vec<bool> = vec![false; known.len()];
        for step in 0..self.steps {
            partner.fill(None);
            taken.fill(false);
            for (at, number) in one_numbers.iter().enumerate() {
                if self.one[at].values[step].is_some() && partner[*number].replace(at).is_some() {
                    return Err(self.duplicate(at));
                }
            }
            for (at, number) in many_numbers.iter().enumerate() {
                let (Some(value), Some(other)) = (self.many[at].values[step], partner[*number])
                else {
                    continue;
                };
                let Some(result) = self.value(value, self.one[other].values[step]) else {
                    continue;
                };
                if self.cardinality == Cardinality::OneToOne
                    && std::mem::replace(&mut taken[*number], true)
                {
                    return Err(QueryError::Invalid(
                        "multiple matches for labels: many-to-one matching must be explicit \
                         (group_left/group_right)"
                            .into(),
                    ));
                }
                let target = match by_pair.get(&(at, other)) {
                    Some(target) => *target,
                    None => {
                        let labels = self.labels(&self.many[at], &self.one[other]);
                        let target = *by_labels.entry(labels.clone()).or_insert_with(|| {
                            results.push(Series { labels, values: vec![None; self.steps] });
                            results.len() - 1
                        });
                        check_size(results.len(), self.steps)?;
                        by_pair.insert((at, other), target);
                        target
                    }
                };
                if results[target].values[step].replace(result).is_some() {
                    return Err(QueryError::Invalid(
                        "multiple matches for labels: grouping labels must ensure unique matches"
                            .into(),
                    ));
                }
            }
        }
        Ok(results)
    }

    fn value(&self, many: f64, one: Option<f64>) -> Option<f64> {
        let swapped = self.cardinality == Cardinality::OneToMany;
        let (left, right) = if swapped { (one?, many) } else { (many, one?) };
        let result = apply(self.binary, left, right);
        if filters(self.binary) { result.filter(|r| *r != 0.0).map(|_| left) } else { result }
    }

    fn duplicate(&self, at: usize) -> QueryError {
        let side = if self.cardinality == Cardinality::OneToMany { "left" } else { "right" };
        let labels = signature(&self.one[at].labels, self.binary.matching.as_ref());
        QueryError::Invalid(format!(
            "found duplicate series on the {side} hand-side of a binary operation for the match \
             group {labels}; many-to-many matching is not allowed: matching labels must be unique \
             on one side"
        ))
    }

    fn labels(&self, many: &Series, one: &Series) -> SeriesLabels {
        let Some(matching) = &self.binary.matching else {
            return many.labels.clone();
        };
        let mut labels = many.labels.clone();
        if self.cardinality == Cardinality::OneToOne {
            let by = Grouping { without: !matching.on, labels: matching.labels.clone() };
            labels = grouped(&labels, &by);
        }
        for name in &matching.include {
            labels = labels.with(name, one.labels.get(name).filter(|value| !value.is_empty()));
        }
        labels
    }
}
