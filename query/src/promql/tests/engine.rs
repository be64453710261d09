//! What the scripts do not cover: budgets, cancellation, how often a store is read, and that a range
//! query is as many instant queries.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use taffrail_model::sample::stale_nan;
use taffrail_model::{Labels, Matcher, MetricKind};

use crate::promql::oracle::VecSource;
use crate::promql::{Error, Options, Query, Steps, Value, instant, range};
use crate::source::{Cancel, SeriesSelect, SeriesSink, SeriesSource, SourceError};

fn store(series: usize, samples: usize) -> VecSource {
    let mut source = VecSource::new();
    for index in 0..series {
        let labels = Labels::from_pairs([
            ("__name__", if index % 2 == 0 { "a" } else { "b" }.to_owned()),
            ("x", (index / 2 % 3).to_string()),
            ("y", (index / 6).to_string()),
        ]);
        let value = |i: usize| match (i * 7 + index * 3) % 11 {
            0 => stale_nan(),
            1 => f64::NAN,
            other => other as f64 - 2.0,
        };
        let gap = |i: &usize| !(i + index).is_multiple_of(5);
        source.push(labels, (0..samples).filter(gap).map(|i| (i as i64 * 30_000, value(i))));
    }
    source
}

/// Counts how often it is read.
struct Counting(VecSource, AtomicUsize);

impl SeriesSource for Counting {
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.select(select, sink)
    }

    fn series(&self, m: &[Matcher], start: i64, end: i64) -> Result<Vec<Labels>, SourceError> {
        self.0.series(m, start, end)
    }

    fn metadata(&self) -> BTreeMap<String, MetricKind> {
        self.0.metadata()
    }
}

fn run_range(source: &dyn SeriesSource, text: &str, steps: Steps) -> Result<Value, Error> {
    let query = Query::new(text)?;
    Ok(range(source, &query, steps, &Options::default(), &Cancel::new())?.value)
}

#[test]
fn a_selector_is_read_once() {
    let source = Counting(store(6, 100), AtomicUsize::new(0));
    let steps = Steps { start: 0, end: 3_000_000, step: 15_000 };
    run_range(&source, "sum(rate(a[5m])) / sum(rate(b[5m]))", steps).expect("an answer");
    assert_eq!(source.1.load(Ordering::Relaxed), 2);
}

#[test]
fn the_budget_holds() {
    let source = store(60, 100);
    let options = Options { samples_max: 1000, ..Options::default() };
    let steps = Steps { start: 0, end: 3_000_000, step: 30_000 };
    for text in ["a", "sum(a)", "vector(1)[200y:1ms]", "1 + sum_over_time(vector(1)[1y:1s])"] {
        let query = Query::new(text).expect("a query");
        let error = if query.expr.value_type() == crate::promql::ValueType::Matrix {
            instant(&source, &query, 0, &options, &Cancel::new())
        } else {
            range(&source, &query, steps, &options, &Cancel::new())
        }
        .expect_err(text);
        assert!(matches!(error, Error::TooManySamples(1000)), "{text}: {error}");
    }
    let query = Query::new("a{x=\"0\",y=\"0\"}[50m]").expect("a query");
    instant(&source, &query, 3_000_000, &options, &Cancel::new()).expect("within the budget");
}

#[test]
fn a_cancelled_query_stops() {
    let cancel = Cancel::new();
    cancel.cancel();
    let query = Query::new("sum(a)").expect("a query");
    let error = instant(&store(6, 10), &query, 0, &Options::default(), &cancel).expect_err("stops");
    assert!(matches!(error, Error::Source(SourceError::Cancelled(_))), "{error}");
}

#[test]
fn the_highest_tree_fits_a_small_stack() {
    let wide = "a".to_owned() + &" + a".repeat(150);
    let deep = format!("{}a{}", "abs(".repeat(60), ")".repeat(60));
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for text in [wide, deep] {
            let query = Query::new(&text).expect("a query");
            let source = VecSource::new();
            instant(&source, &query, 0, &Options::default(), &Cancel::new()).expect("an answer");
            assert!(!query.expr.to_string().is_empty());
        }
    });
    thread.expect("a thread").join().expect("no overflow");
}

/// A store that gives its series in the reverse order.
struct Reversed(VecSource);

impl SeriesSource for Reversed {
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        let mut all = Vec::new();
        self.0.select(select, &mut |labels, times, values| {
            all.push((labels.clone(), times.to_vec(), values.to_vec()));
            ControlFlow::Continue(())
        })?;
        for (labels, times, values) in all.iter().rev() {
            if let ControlFlow::Break(()) = sink(labels, times, values) {
                break;
            }
        }
        Ok(())
    }

    fn series(&self, m: &[Matcher], start: i64, end: i64) -> Result<Vec<Labels>, SourceError> {
        self.0.series(m, start, end)
    }

    fn metadata(&self) -> BTreeMap<String, MetricKind> {
        self.0.metadata()
    }
}

const QUERIES: &[&str] = &[
    "a",
    "-a",
    "a offset 1m",
    "a offset -1m",
    "a @ 600",
    "rate(a[3m])",
    "increase(b[2m])",
    "irate(a[2m])",
    "delta(a[4m] offset 1m)",
    "sum by (x) (a)",
    "avg without (y) (b)",
    "topk(2, a)",
    "bottomk by (x) (1, b)",
    "quantile(0.5, a)",
    "count_values(\"v\", a)",
    "stddev(a)",
    "a + on(x, y) b",
    "a > on(x, y) b",
    "a and on(x) b",
    "a or b",
    "a unless on(y) b",
    "a * on(x, y) group_left b",
    "avg_over_time(a[2m])",
    "max_over_time(rate(a[1m])[5m:30s])",
    "sum_over_time(a[3m:])",
    "absent(a{x=\"9\"})",
    "absent_over_time(b[30s])",
    "scalar(sum(a))",
    "timestamp(a)",
    "time() - timestamp(b)",
    "hour()",
    "label_replace(a, \"z\", \"$1\", \"x\", \"(.*)\")",
    "clamp(a, 0, 3)",
    "deriv(a[3m])",
    "predict_linear(a[3m], 60)",
    "changes(a[5m]) + resets(a[5m])",
    "quantile_over_time(0.3, a[3m])",
    "stdvar_over_time(b[3m])",
    "last_over_time(a[1m])",
];

proptest! {
    #[test]
    fn a_range_query_is_many_instant_queries(
        which in 0..QUERIES.len(),
        start in 0_i64..600,
        step in 1_i64..120,
        steps in 1_i64..8,
    ) {
        let source = store(12, 60);
        let text = QUERIES[which];
        let query = Query::new(text).expect("a query");
        let steps = Steps { start: start * 1000, end: (start + step * steps) * 1000, step: step * 1000 };
        let options = Options::default();
        let whole = range(&source, &query, steps, &options, &Cancel::new());
        let reversed = range(&Reversed(source.clone()), &query, steps, &options, &Cancel::new());
        prop_assert_eq!(format!("{:?}", reversed.as_ref().ok()), format!("{:?}", whole.as_ref().ok()));
        let mut rows: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
        let mut failed = false;
        for at in (steps.start..=steps.end).step_by(usize::try_from(steps.step).expect("small")) {
            match instant(&source, &query, at, &options, &Cancel::new()).map(|answer| answer.value) {
                Ok(Value::Vector(at, samples)) => {
                    for (labels, value) in samples {
                        rows.entry(labels).or_default().push((at, value));
                    }
                }
                Ok(Value::Scalar(at, value)) => {
                    rows.entry(Labels::default()).or_default().push((at, value));
                }
                Ok(other) => prop_assert!(false, "{text}: {other:?}"),
                Err(_) => failed = true,
            }
        }
        match whole.map(|answer| answer.value) {
            Err(_) => prop_assert!(failed, "{text}"),
            Ok(Value::Matrix(series)) => {
                prop_assert!(!failed, "{text}");
                let whole: BTreeMap<_, _> = series.into_iter().map(|s| (s.labels, s.points)).collect();
                prop_assert_eq!(format!("{whole:?}"), format!("{rows:?}"), "{}", text);
            }
            Ok(other) => prop_assert!(false, "{text}: {other:?}"),
        }
    }
}
