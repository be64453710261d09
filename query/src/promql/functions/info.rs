//! `info`: adds to each series the data labels of the info metrics (`target_info` unless others are
//! named) that describe the same `instance` and `job`.
//!
//! Info series are looked at as of the time that the base series are: its `offset` and `@` count.

use std::collections::{BTreeMap, HashMap, HashSet};

use taffrail_model::sample::METRIC_NAME;
use taffrail_model::{Labels, MatchOp, Matcher};

use crate::promql::ast::{At, Expr, Kind, Selector, Shift, Span, WindowMode};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Grid, Series, is_present};
use crate::promql::matching::metric_name;

/// The labels by which a series and its info series find each other.
const IDENTITY: [&str; 2] = ["instance", "job"];

pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    args: &[Expr],
    grid: Grid,
) -> Result<Frame, Error> {
    let base = evaluator.vector(&args[0], grid)?;
    let matchers = match args.get(1).map(|arg| &arg.kind) {
        Some(Kind::Selector(selector)) => selector.matchers.as_slice(),
        _ => &[],
    };
    let wanted = Wanted::new(matchers)?;
    let selector = Selector {
        name: None,
        matchers: wanted.names.iter().chain(&wanted.data).cloned().collect(),
        range: None,
        shift: shift(evaluator, &args[0])?,
        mode: WindowMode::Plain,
    };
    let values = evaluator.select_instant(&selector, grid, false)?;
    let times = evaluator.select_instant(&selector, grid, true)?;
    let info = Info::new(&values, &times);
    enrich(evaluator, &base, &info, &wanted)
}

/// What the second argument asks for.
struct Wanted {
    /// Conditions on the names of info metrics.
    names: Vec<Matcher>,
    /// Conditions on data labels; when there are any, only those labels are added.
    data: Vec<Matcher>,
}

impl Wanted {
    fn new(matchers: &[Matcher]) -> Result<Self, Error> {
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
            matchers.iter().cloned().partition(|matcher| matcher.name == METRIC_NAME);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, "target_info"));
        } else if names.iter().all(|m| matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex)) {
            let some = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info", true);
            names.push(some.map_err(|error| Error::execution(error.to_string()))?);
        }
        Ok(Self { names, data })
    }

    fn is_info(&self, labels: &Labels) -> bool {
        self.names.iter().all(|matcher| matcher.matches(metric_name(labels)))
    }

    fn adds(&self, label: &str) -> bool {
        label != METRIC_NAME
            && !IDENTITY.contains(&label)
            && (self.data.is_empty() || self.data.iter().any(|matcher| matcher.name == label))
    }

    /// Whether a series without info is left out.
    fn needs_info(&self) -> bool {
        self.data.iter().any(|m| !m.matches_empty() && !IDENTITY.contains(&m.name.as_str()))
    }
}

/// The time of the first selector in the base expression, through subqueries around it.
fn shift(evaluator: &Evaluator<'_>, expr: &Expr) -> Result<Shift, Error> {
    Ok(first_shift(evaluator, expr)?.unwrap_or_default())
}

fn first_shift(evaluator: &Evaluator<'_>, expr: &Expr) -> Result<Option<Shift>, Error> {
    let first = |exprs: &[&Expr]| -> Result<Option<Shift>, Error> {
        for expr in exprs {
            if let Some(shift) = first_shift(evaluator, expr)? {
                return Ok(Some(shift));
            }
        }
        Ok(None)
    };
    match &expr.kind {
        Kind::Number(_) | Kind::Text(_) => Ok(None),
        Kind::Paren(inner) | Kind::Negate(inner) => first_shift(evaluator, inner),
        Kind::Selector(selector) => Ok(Some(selector.shift.clone())),
        Kind::Call(_, args) => first(&args.iter().collect::<Vec<_>>()),
        Kind::Aggregate(aggregate) => first_shift(evaluator, &aggregate.expr),
        Kind::Binary(binary) => first(&[&binary.lhs, &binary.rhs]),
        Kind::Subquery(subquery) => {
            let Some(inner) = first_shift(evaluator, &subquery.expr)? else {
                return Ok(None);
            };
            if inner.at.is_some() {
                return Ok(Some(inner));
            }
            let offset =
                |shift: &Shift| shift.offset.as_ref().map_or(Ok(0), |span| evaluator.span(span));
            let total = offset(&inner)?.saturating_add(offset(&subquery.shift)?);
            #[expect(clippy::cast_precision_loss, reason = "offsets are far below 2^53 ms")]
            let total = Span::Seconds(total as f64 / 1000.0);
            let at: Option<At> = subquery.shift.at;
            Ok(Some(Shift { offset: Some(total), at }))
        }
    }
}

/// The info series by the identity that they describe, and by their names.
struct Info<'a> {
    values: &'a Frame,
    times: &'a Frame,
    by_identity: HashMap<Labels, BTreeMap<&'a str, Vec<usize>>>,
}

fn identity(labels: &Labels) -> Labels {
    labels.filtered(|name| IDENTITY.contains(&name))
}

impl<'a> Info<'a> {
    /// Both frames come from one selector: the same rows, values in one and times in the other.
    fn new(values: &'a Frame, times: &'a Frame) -> Self {
        let mut by_identity: HashMap<Labels, BTreeMap<&str, Vec<usize>>> = HashMap::new();
        for (row, series) in values.series.iter().enumerate() {
            let names = by_identity.entry(identity(&series.labels)).or_default();
            names.entry(metric_name(&series.labels)).or_default().push(row);
        }
        Self { values, times, by_identity }
    }

    /// The freshest row of each info metric at a step.
    fn at(&self, identity: &Labels, step: usize) -> Result<Vec<usize>, Error> {
        let mut found = Vec::new();
        for rows in self.by_identity.get(identity).into_iter().flat_map(BTreeMap::values) {
            let mut best: Option<usize> = None;
            for row in rows.iter().copied().filter(|r| is_present(self.values.value(*r, step))) {
                let Some(other) = best else {
                    best = Some(row);
                    continue;
                };
                let (new, old) = (self.times.value(row, step), self.times.value(other, step));
                if new == old {
                    let labels = |row: usize| &self.values.series[row].labels;
                    return Err(Error::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {old}, new {} @ {new}",
                        labels(other),
                        labels(row)
                    )));
                }
                if new > old {
                    best = Some(row);
                }
            }
            found.extend(best);
        }
        Ok(found)
    }
}

fn enrich(
    evaluator: &Evaluator<'_>,
    base: &Frame,
    info: &Info<'_>,
    wanted: &Wanted,
) -> Result<Frame, Error> {
    let mut result = evaluator.frame(base.grid);
    let mut rows: HashMap<(Labels, bool), usize> = HashMap::new();
    for (series, points) in base.rows() {
        evaluator.cancel.check()?;
        let is_info = wanted.is_info(&series.labels);
        let identity = identity(&series.labels);
        let mut known: HashMap<Vec<usize>, Labels> = HashMap::new();
        for (step, value) in points.iter().enumerate().filter(|(_, value)| is_present(**value)) {
            let found =
                if is_info || identity.is_empty() { Vec::new() } else { info.at(&identity, step)? };
            if found.is_empty() && !is_info && wanted.needs_info() {
                continue;
            }
            let labels = match known.get(&found) {
                Some(labels) => labels.clone(),
                None => {
                    let labels = joined(&series.labels, &found, info, wanted)?;
                    known.insert(found, labels.clone());
                    labels
                }
            };
            let key = (labels.clone(), series.drop_name);
            let row = match rows.get(&key) {
                Some(row) => *row,
                None => {
                    result.push(Series { labels, drop_name: series.drop_name })?;
                    rows.insert(key, result.len() - 1);
                    result.len() - 1
                }
            };
            let point = &mut result.row_mut(row)[step];
            if is_present(*point) {
                return Err(Error::execution(
                    "vector cannot contain metrics with the same labelset",
                ));
            }
            *point = *value;
        }
    }
    Ok(result)
}

/// The base labels and the data labels of its info series. The base wins; info series may not
/// contradict each other.
fn joined(
    base: &Labels,
    found: &[usize],
    info: &Info<'_>,
    wanted: &Wanted,
) -> Result<Labels, Error> {
    let own: HashSet<&str> = base.iter().map(|(name, _)| name).collect();
    let mut added: BTreeMap<&str, &str> = BTreeMap::new();
    for row in found {
        for (name, value) in info.values.series[*row].labels.iter() {
            if !wanted.adds(name) || own.contains(name) {
                continue;
            }
            if added.insert(name, value).is_some_and(|other| other != value) {
                return Err(Error::Execution(format!("conflicting label: {name}")));
            }
        }
    }
    Ok(Labels::from_pairs(base.iter().chain(added)))
}
