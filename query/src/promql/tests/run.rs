//! Runs a script and compares each answer as strictly as Prometheus does: relative difference below
//! 1e-6, exact labels, exact times, all notes. An instant question is also asked as the middle of a
//! range, and with all selectors pinned to its time by `@` while asked at other times.

use std::collections::BTreeMap;

use taffrail_model::Labels;
use taffrail_model::sample::METRIC_NAME;

use crate::promql::ast::{At, Expr, Kind};
use crate::promql::{Answer, Error, Options, Query, Steps, Value, instant, range};
use crate::source::Cancel;

use super::script::{self, Command, Eval, Point, SeriesLine, Topic};
use super::store::Store;

pub(super) struct Report {
    pub(super) passed: usize,
    pub(super) failures: Vec<String>,
}

const OPTIONS: Options = Options { lookback: 300_000, samples_max: 10_000, subquery_step: 60_000 };

pub(super) fn script(text: &str) -> Report {
    let mut report = Report { passed: 0, failures: Vec::new() };
    let mut store = Store::default();
    for command in script::read(text) {
        match command {
            Command::Clear => store = Store::default(),
            Command::Load { step, lines, as_native } => load(&mut store, step, &lines, as_native),
            Command::Eval(eval) => match check(&store, &eval) {
                Ok(()) => report.passed += 1,
                Err(problem) => {
                    report.failures.push(format!("{}: {}\n      {problem}", eval.line, eval.query));
                }
            },
        }
    }
    report
}

fn load(store: &mut Store, step: i64, lines: &[SeriesLine], as_native: bool) {
    for line in lines {
        if line.start_times || line.values.contains(&Point::Histogram) {
            store.foreign.insert(line.labels.clone());
        }
        let name = line.labels.get(METRIC_NAME).unwrap_or("");
        if as_native && let Some(base) = name.strip_suffix("_bucket") {
            let native = line.labels.filtered(|name| name != "le").with(METRIC_NAME, base);
            store.foreign.insert(native);
        }
        let samples = line.values.iter().zip(0..).filter_map(|(point, index)| match point {
            Point::Float(value) => Some((step * index, *value)),
            Point::Gap | Point::Histogram => None,
        });
        store.floats.push(line.labels.clone(), samples);
    }
}

fn check(store: &Store, eval: &Eval) -> Result<(), String> {
    store.was_foreign();
    let outcome = ask(store, eval);
    if store.was_foreign() {
        return Err("selects series with native histograms or start timestamps".to_owned());
    }
    let query = Query::new(&eval.query);
    let answer = match outcome {
        Err(error) => return failure(eval, &error),
        Ok(_) if eval.expect.iter().any(|e| e.topic == Topic::Fail) => {
            return Err("should fail".to_owned());
        }
        Ok(answer) => answer,
    };
    notes(eval, &answer)?;
    compare(eval, &answer.value)?;
    let query = query.map_err(|error| error.to_string())?;
    if eval.step.is_none() && !eval.ordered {
        as_range(store, eval, &query)?;
    }
    if eval.step.is_none() {
        pinned(store, eval, &query)?;
    }
    Ok(())
}

fn ask(store: &Store, eval: &Eval) -> Result<Answer, Error> {
    let query = Query::new(&eval.query)?;
    match eval.step {
        None => instant(store, &query, eval.start, &OPTIONS, &Cancel::new()),
        Some(step) => {
            let steps = Steps { start: eval.start, end: eval.end, step };
            range(store, &query, steps, &OPTIONS, &Cancel::new())
        }
    }
}

fn failure(eval: &Eval, error: &Error) -> Result<(), String> {
    let text = match error {
        Error::Parse(error) => error.message.clone(),
        other => other.to_string(),
    };
    let mut expected = eval.expect.iter().filter(|e| e.topic == Topic::Fail).peekable();
    if expected.peek().is_none() {
        return Err(format!("error: {error}"));
    }
    if text.contains("is not supported") {
        return Err(format!("refused: {error}"));
    }
    if expected.all(|e| e.text.accepts(&text)) {
        return Ok(());
    }
    Err(format!("another error: {error}"))
}

fn notes(eval: &Eval, answer: &Answer) -> Result<(), String> {
    let kinds = [
        (Topic::Warn, Topic::NoWarn, &answer.warnings),
        (Topic::Info, Topic::NoInfo, &answer.infos),
    ];
    for (wanted, unwanted, found) in kinds {
        if eval.expect.iter().any(|e| e.topic == unwanted) && !found.is_empty() {
            return Err(format!("should have no note: {found:?}"));
        }
        let wanted: Vec<_> = eval.expect.iter().filter(|e| e.topic == wanted).collect();
        if wanted.is_empty() {
            continue;
        }
        let missing = wanted.iter().find(|e| !found.iter().any(|note| e.text.accepts(note)));
        let surplus = found.iter().find(|note| !wanted.iter().any(|e| e.text.accepts(note)));
        if missing.is_some() || surplus.is_some() {
            return Err(format!("missing {missing:?}, surplus {surplus:?}, found {found:?}"));
        }
    }
    Ok(())
}

/// Asks an instant question as the middle step of a range.
fn as_range(store: &Store, eval: &Eval, query: &Query) -> Result<(), String> {
    let minute = 60_000;
    let fixed = ["start()", "end()", "step()", "range()"];
    if eval.range_vector.is_some()
        || eval.text.is_some()
        || fixed.iter().any(|word| eval.query.contains(word))
    {
        return Ok(());
    }
    let steps = Steps { start: eval.start - minute, end: eval.start + minute, step: minute };
    let answer = range(store, query, steps, &OPTIONS, &Cancel::new())
        .map_err(|error| format!("as a range: {error}"))?;
    let Value::Matrix(series) = answer.value else {
        return Err("as a range: no matrix".to_owned());
    };
    let at = |points: &[(i64, f64)]| points.iter().find(|(t, _)| *t == eval.start).map(|(_, v)| *v);
    let value = match eval.scalar {
        Some(_) => Value::Scalar(
            eval.start,
            series.first().and_then(|s| at(&s.points)).ok_or("as a range: no scalar")?,
        ),
        None => Value::Vector(
            eval.start,
            series.iter().filter_map(|s| Some((s.labels.clone(), at(&s.points)?))).collect(),
        ),
    };
    compare(eval, &value).map_err(|problem| format!("as a range: {problem}"))
}

/// Asks at other times while all selectors look at the time of the question.
fn pinned(store: &Store, eval: &Eval, query: &Query) -> Result<(), String> {
    let mut query = query.clone();
    if !pin(&mut query.expr, eval.start) {
        return Ok(());
    }
    let t = eval.start;
    for at in [-10 * t, 0, t / 5, t, 10 * t] {
        let answer = instant(store, &query, at, &OPTIONS, &Cancel::new())
            .map_err(|error| format!("pinned, at {at}: {error}"))?;
        compare(eval, &answer.value).map_err(|problem| format!("pinned, at {at}: {problem}"))?;
    }
    Ok(())
}

/// Gives each selector outside subqueries the time `at`. False when the value depends on the time of
/// the question all the same.
fn pin(expr: &mut Expr, at: i64) -> bool {
    match &mut expr.kind {
        Kind::Number(_) | Kind::Text(_) => true,
        Kind::Paren(inner) | Kind::Negate(inner) => pin(inner, at),
        Kind::Selector(selector) => {
            selector.shift.at.get_or_insert(At::Time(at));
            true
        }
        Kind::Subquery(subquery) => {
            subquery.shift.at.get_or_insert(At::Time(at));
            true
        }
        Kind::Call(function, args) => {
            let reads_time = [
                "days_in_month",
                "day_of_month",
                "day_of_week",
                "day_of_year",
                "hour",
                "minute",
                "month",
                "year",
                "predict_linear",
                "time",
                "timestamp",
                "start",
                "end",
                "step",
                "range",
            ];
            !reads_time.contains(&function.name) && args.iter_mut().all(|arg| pin(arg, at))
        }
        Kind::Aggregate(aggregate) => {
            aggregate.parameter.as_mut().is_none_or(|parameter| pin(parameter, at))
                && pin(&mut aggregate.expr, at)
        }
        Kind::Binary(binary) => pin(&mut binary.lhs, at) && pin(&mut binary.rhs, at),
    }
}

fn compare(eval: &Eval, value: &Value) -> Result<(), String> {
    match value {
        Value::Text(_, text) => match &eval.text {
            Some(expected) if expected == text => Ok(()),
            expected => Err(format!("expected {expected:?}, got {text:?}")),
        },
        Value::Scalar(_, number) => match eval.scalar {
            Some(expected) if equal(expected, *number) => Ok(()),
            expected => Err(format!("expected scalar {expected:?}, got {number}")),
        },
        _ if eval.scalar.is_some() || eval.text.is_some() => Err(format!("got {value:?}")),
        Value::Vector(at, samples) => {
            if eval.ordered {
                let expected = eval.series.iter().map(|line| &line.labels);
                if !expected.eq(samples.iter().map(|(labels, _)| labels)) {
                    return Err(format!("other order: {samples:?}"));
                }
            }
            let found = samples.iter().map(|(l, v)| (l.clone(), vec![(*at, *v)]));
            same(eval, *at, 1, found.collect())
        }
        Value::Matrix(series) => {
            if !series.is_sorted_by(|a, b| a.labels < b.labels) {
                return Err("not sorted by labels".to_owned());
            }
            let (start, step) = match (eval.step, eval.range_vector) {
                (Some(step), _) => (eval.start, step),
                (None, Some(range)) => range,
                (None, None) => return Err(format!("got a range vector: {series:?}")),
            };
            let found = series.iter().map(|s| (s.labels.clone(), s.points.clone()));
            same(eval, start, step, found.collect())
        }
    }
}

fn same(
    eval: &Eval,
    start: i64,
    step: i64,
    mut found: BTreeMap<Labels, Vec<(i64, f64)>>,
) -> Result<(), String> {
    for line in &eval.series {
        let mut expected = Vec::new();
        for (point, index) in line.values.iter().zip(0..) {
            match point {
                Point::Float(value) => expected.push((start + step * index, *value)),
                Point::Gap => {}
                Point::Histogram => return Err("expects a native histogram".to_owned()),
            }
        }
        let got = found.remove(&line.labels).unwrap_or_default();
        let equal = expected.len() == got.len()
            && expected.iter().zip(&got).all(|(e, g)| e.0 == g.0 && equal(e.1, g.1));
        if !equal {
            return Err(format!("{}: expected {expected:?}, got {got:?}", line.labels));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(format!("surplus series {found:?}")) }
}

fn equal(a: f64, b: f64) -> bool {
    const EPSILON: f64 = 1e-6;
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}
