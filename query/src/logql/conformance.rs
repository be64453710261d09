//! Loki's own scripts as data: each scenario loads a few lines and says what queries must answer.
//! Read by path, since the data have another licence; skipped, loudly, where they are not there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;
use taffrail_model::{Labels, Level, LogEntry, StreamEntries};

use super::ast::Expr;
use super::metric::{MetricAnswer, MetricParams, MetricValue, Steps, run_metric};
use super::oracle::VecSource;
use super::{LogqlOptions, parse};
use crate::source::Cancel;

/// Evaluations that passed when this was last raised. It may only grow.
const PASSED_MIN: usize = 682;

pub(crate) fn data_dir(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(name),
        PathBuf::from,
    )
}

fn source(scenario: &Value) -> VecSource {
    let source = VecSource::new();
    for entry in scenario["entries"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pairs = |value: &Value| -> Vec<(String, String)> {
            let members = value.as_object().into_iter().flatten();
            let mut pairs: Vec<_> = members.map(|(n, v)| (n.clone(), text(v))).collect();
            pairs.sort();
            pairs
        };
        let line = LogEntry {
            ts: entry["ts"].as_i64().expect("a time"),
            line: text(&entry["line"]),
            level: Level::Unknown,
            metadata: pairs(&entry["meta"]),
        };
        let labels = Labels::from_pairs(pairs(&entry["labels"]));
        source.push(vec![StreamEntries { labels, entries: vec![line] }]);
    }
    source
}

fn answer(source: &VecSource, eval: &Value) -> Result<MetricAnswer, String> {
    let query = eval["query"].as_str().expect("a query");
    let expr = parse(query, LogqlOptions::default()).map_err(|error| error.to_string())?;
    let again = parse(&expr.to_string(), LogqlOptions::default());
    assert_eq!(again.as_ref(), Ok(&expr), "{query} is printed as {expr}");
    let Expr::Metric(metric) = expr else {
        return Err("a log query".into());
    };
    let instant = eval["kind"] == "instant";
    let time = |name: &str| eval[name].as_i64().expect("a time");
    let steps = if instant {
        Steps::instant(time("ts"))
    } else {
        Steps::range(time("start"), time("end"), time("step"), 11_000).expect("a sane range")
    };
    let params = MetricParams { steps, instant, series_max: 500, cancel: Cancel::new() };
    run_metric(source, &metric, &params).map_err(|error| error.to_string())
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.parse().expect("a number")),
        other => other.as_f64(),
    }
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        _ => false,
    }
}

type Rows = Vec<(BTreeMap<String, String>, Vec<Option<f64>>)>;

fn same(expected: &Rows, found: &Rows, ordered: bool) -> bool {
    let (mut expected, mut found) = (expected.clone(), found.clone());
    if !ordered {
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        found.sort_by(|a, b| a.0.cmp(&b.0));
    }
    expected.len() == found.len()
        && expected.iter().zip(&found).all(|(e, f)| {
            e.0 == f.0 && e.1.len() == f.1.len() && e.1.iter().zip(&f.1).all(|(a, b)| near(*a, *b))
        })
}

fn check(eval: &Value, answer: Result<MetricAnswer, String>) -> Result<(), String> {
    let expect = &eval["expect"];
    if expect["fail"] == true {
        let text = answer.err().ok_or("it has an answer")?;
        let wanted = expect["msg"].as_str().unwrap_or_default();
        return if text.contains(wanted) { Ok(()) } else { Err(format!("failed with: {text}")) };
    }
    let found = answer?.value;
    if let Some(wanted) = expect.get("scalar") {
        return match found {
            MetricValue::Scalar(value) if near(number(wanted), Some(value)) => Ok(()),
            other => Err(format!("{other:?}")),
        };
    }
    let MetricValue::Series(series) = found else {
        return Err(format!("{found:?}"));
    };
    let found: Rows = series
        .into_iter()
        .map(|one| (one.labels.iter().map(|(n, v)| (n.into(), v.into())).collect(), one.values))
        .collect();
    let members = expect["series"].as_array().cloned().unwrap_or_default();
    let expected: Rows = members
        .iter()
        .map(|one| {
            let labels = one["labels"].as_object().into_iter().flatten();
            let labels = labels.map(|(n, v)| (n.clone(), v.as_str().unwrap_or("").to_owned()));
            let values = one["values"].as_array().into_iter().flatten().map(number);
            (labels.collect(), values.collect())
        })
        .collect();
    let ordered = expect["ordered"] == true;
    if same(&expected, &found, ordered) {
        Ok(())
    } else {
        Err(format!("{found:?}\n      wanted {expected:?}"))
    }
}

#[test]
fn loki_scripts() {
    let path = data_dir("CONFORMANCE_DIR", "conformance").join("logql-vectors.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", path.display());
        return;
    };
    let data: Value = serde_json::from_str(&text).expect("valid JSON");
    let verbose = std::env::var_os("LOGQL_VERBOSE").is_some();
    let mut totals: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for scenario in data["scenarios"].as_array().expect("scenarios") {
        let source = source(scenario);
        let file = scenario["file"].as_str().unwrap_or("?");
        for eval in scenario["evals"].as_array().expect("evaluations") {
            let result = check(eval, answer(&source, eval));
            let total = totals.entry(file.to_owned()).or_default();
            total.1 += 1;
            match result {
                Ok(()) => total.0 += 1,
                Err(why) if verbose => {
                    eprintln!("  {file}:{} {}\n      {why}", eval["line"], eval["query"]);
                }
                Err(_) => {}
            }
        }
    }
    for (file, (passed, all)) in &totals {
        eprintln!("{file}: {passed} of {all}");
    }
    let passed: usize = totals.values().map(|(passed, _)| passed).sum();
    eprintln!("in all: {passed} of {}", totals.values().map(|(_, all)| all).sum::<usize>());
    assert!(passed >= PASSED_MIN, "{passed} evaluations pass, {PASSED_MIN} did before");
}
