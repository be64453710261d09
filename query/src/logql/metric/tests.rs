//! The engine against plain arithmetic over all lines, for any lines, windows and steps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use taffrail_model::{Labels, Level, LogEntry, StreamEntries};

use super::*;
use crate::logql::ast::Expr;
use crate::logql::oracle::VecSource;
use crate::logql::{LogqlOptions, parse};

#[derive(Clone, Debug)]
struct Line {
    app: &'static str,
    ts: i64,
    text: String,
    value: i64,
    zone: Option<&'static str>,
    level: Level,
}

#[derive(Clone, Copy, Debug)]
struct Grid {
    start: i64,
    step: i64,
    count: i64,
    range: i64,
    offset: i64,
}

impl Grid {
    fn at(&self, index: i64) -> i64 {
        self.start + self.step * index
    }

    fn window(&self, index: i64) -> impl Fn(&&Line) -> bool {
        let end = self.at(index) - self.offset;
        let start = end - self.range;
        move |line| start < line.ts && line.ts <= end
    }
}

fn line() -> impl Strategy<Value = Line> {
    (
        proptest::sample::select(vec!["a", "b", "c"]),
        0..200_i64,
        "[xy]{0,3}",
        -5..50_i64,
        proptest::option::of(proptest::sample::select(vec!["eu", "us"])),
        proptest::sample::select(vec![Level::Unknown, Level::Error]),
    )
        .prop_map(|(app, ts, text, value, zone, level)| Line {
            app,
            ts,
            text,
            value,
            zone,
            level,
        })
}

fn grid() -> impl Strategy<Value = Grid> {
    (0..150_i64, 1..40_i64, 1..12_i64, 1..60_i64, -20..20_i64)
        .prop_map(|(start, step, count, range, offset)| Grid { start, step, count, range, offset })
}

fn source(lines: &[Line]) -> VecSource {
    let source = VecSource::new();
    for line in lines {
        let metadata = line.zone.map(|zone| ("zone".to_owned(), zone.to_owned()));
        let entry = LogEntry {
            ts: line.ts,
            line: format!("t={} v={}", line.text, line.value),
            level: line.level,
            metadata: metadata.into_iter().collect(),
        };
        let labels = Labels::from_pairs([("app", line.app), ("job", "j")]);
        source.push(vec![StreamEntries { labels, entries: vec![entry] }]);
    }
    source
}

type Answer = BTreeMap<String, Vec<Option<f64>>>;

/// What the engine says; `{window}` in the query becomes the grid's range and offset.
fn engine(source: &VecSource, query: &str, grid: &Grid) -> Answer {
    let window = format!("[{}ns] offset {}ns", grid.range, grid.offset);
    let query = query.replace("{window}", &window);
    let Ok(Expr::Metric(expr)) = parse(&query, LogqlOptions::default()) else {
        panic!("{query} is no metric query");
    };
    let end = grid.at(grid.count - 1);
    let steps = Steps::range(grid.start, end, grid.step, 1000).expect("a sane grid");
    let params = MetricParams { steps, instant: false, series_max: 500, cancel: Cancel::new() };
    match run_metric(source, &expr, &params).expect("an answer").value {
        MetricValue::Series(series) => {
            series.into_iter().map(|one| (one.labels.to_string(), one.values)).collect()
        }
        MetricValue::Scalar(value) => panic!("a scalar: {value}"),
    }
}

/// What arithmetic says: lines by series, and the number of each window that is not empty.
fn naive(
    lines: &[Line],
    grid: &Grid,
    series: impl Fn(&Line) -> Option<String>,
    number: impl Fn(&[&Line]) -> f64,
) -> Answer {
    let mut groups: BTreeMap<String, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        if let Some(name) = series(line) {
            groups.entry(name).or_default().push(line);
        }
    }
    let mut answer = Answer::new();
    for (name, lines) in groups {
        let mut values = Vec::new();
        for index in 0..grid.count {
            let inside = grid.window(index);
            let members: Vec<&Line> = lines.iter().copied().filter(|line| inside(line)).collect();
            values.push((!members.is_empty()).then(|| number(&members)));
        }
        if values.iter().any(Option::is_some) {
            answer.insert(name, values);
        }
    }
    answer
}

fn text_bytes(line: &Line) -> f64 {
    format!("t={} v={}", line.text, line.value).len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn counts(lines in proptest::collection::vec(line(), 0..40), grid in grid()) {
        let source = source(&lines);
        let count = |lines: &[&Line]| lines.len() as f64;
        // From counts of blocks.
        let found = engine(&source, "sum by (app) (count_over_time({job=\"j\"}{window}))", &grid);
        prop_assert_eq!(found, naive(&lines, &grid, |l| Some(format!("{{app=\"{}\"}}", l.app)), count));
        let found = engine(&source, "sum(count_over_time({job=\"j\"} | drop __error__ {window}))", &grid);
        prop_assert_eq!(found, naive(&lines, &grid, |_| Some("{}".into()), count));
        // From lines, since the label is metadata.
        let found = engine(&source, "sum by (zone) (count_over_time({job=\"j\"}{window}))", &grid);
        let zone = |l: &Line| Some(l.zone.map_or_else(|| "{}".into(), |z| format!("{{zone=\"{z}\"}}")));
        prop_assert_eq!(found, naive(&lines, &grid, zone, count));
        let found = engine(&source, "count_over_time({app!=\"a\",job=\"j\"} |= \"x\" {window})", &grid);
        let all = |l: &Line| {
            (l.app != "a" && l.text.contains('x')).then(|| {
                let level = if l.level == Level::Error { ", detected_level=\"error\"" } else { "" };
                let zone = l.zone.map(|z| format!(", zone=\"{z}\"")).unwrap_or_default();
                format!("{{app=\"{}\"{level}, job=\"j\"{zone}}}", l.app)
            })
        };
        prop_assert_eq!(found, naive(&lines, &grid, all, count));
    }

    #[test]
    fn bytes_and_values(lines in proptest::collection::vec(line(), 0..40), grid in grid()) {
        let source = source(&lines);
        let app = |l: &Line| Some(format!("{{app=\"{}\"}}", l.app));
        let found = engine(&source, "sum by (app) (bytes_over_time({job=\"j\"}{window}))", &grid);
        prop_assert_eq!(found, naive(&lines, &grid, app, |lines| lines.iter().map(|l| text_bytes(l)).sum()));
        let found = engine(&source, "max_over_time({job=\"j\"} | logfmt | unwrap v {window}) by (app)", &grid);
        let most = |lines: &[&Line]| lines.iter().map(|l| l.value).max().unwrap_or(0) as f64;
        prop_assert_eq!(found, naive(&lines, &grid, app, most));
        let found = engine(&source, "sum by (app) (sum_over_time({job=\"j\"} | logfmt | unwrap v {window}))", &grid);
        let sum = |lines: &[&Line]| lines.iter().map(|l| l.value).sum::<i64>() as f64;
        prop_assert_eq!(found, naive(&lines, &grid, app, sum));
    }

    #[test]
    fn absence_is_where_nothing_is(lines in proptest::collection::vec(line(), 0..10), grid in grid()) {
        let source = source(&lines);
        let found = engine(&source, "absent_over_time({app=\"a\",job=\"j\"}{window})", &grid);
        let there = naive(&lines, &grid, |l| (l.app == "a").then(|| "a".into()), |_| 1.0);
        let steps = usize::try_from(grid.count).expect("a few");
        let there = there.get("a").cloned().unwrap_or_else(|| vec![None; steps]);
        let absent: Vec<Option<f64>> = there.iter().map(|v| v.is_none().then_some(1.0)).collect();
        let expected = if absent.iter().any(Option::is_some) {
            Answer::from([("{app=\"a\", job=\"j\"}".to_owned(), absent)])
        } else {
            Answer::new()
        };
        prop_assert_eq!(found, expected);
    }
}

fn params(steps: Steps) -> MetricParams {
    MetricParams { steps, instant: true, series_max: 2, cancel: Cancel::new() }
}

fn instant(source: &VecSource, query: &str, at: i64) -> Result<MetricAnswer, QueryError> {
    let Ok(Expr::Metric(expr)) = parse(query, LogqlOptions::default()) else {
        panic!("{query} is no metric query");
    };
    run_metric(source, &expr, &params(Steps::instant(at)))
}

#[test]
fn limits_and_failures() {
    let lines: Vec<Line> = ["a", "b", "c"]
        .map(|app| Line {
            app,
            ts: 5,
            text: "x".into(),
            value: 1,
            zone: None,
            level: Level::Unknown,
        })
        .into();
    let source = source(&lines);
    let error = instant(&source, "count_over_time({job=\"j\"}[1m])", 10).expect_err("3 series");
    assert!(matches!(error, QueryError::TooManySeries(2)), "{error}");
    instant(&source, "sum(count_over_time({job=\"j\"}[1m]))", 10).expect("one series");
    let error =
        instant(&source, "count_over_time({app=\"a\"} | json [1m])", 10).expect_err("no JSON");
    assert!(
        error.to_string().starts_with("pipeline error: 'JSONParserErr' for series: '{__error__=")
    );
    // Outside of the window it does not matter.
    instant(&source, "sum(count_over_time({app=\"a\"} | json [1ns]))", 10).expect("nothing");
    let cancelled = params(Steps::instant(10));
    cancelled.cancel.cancel();
    let expr = MetricExpr::Literal(1.0);
    assert!(matches!(run_metric(&source, &expr, &cancelled), Err(QueryError::Source(_))));
}

#[test]
fn extreme_times_do_not_overflow() {
    let source = source(&[]);
    for at in [i64::MIN, 0, i64::MAX] {
        for query in
            ["sum(rate({job=\"j\"}[5m]))", "sum(rate({job=\"j\"} |= \"x\" [5m] offset -200y))"]
        {
            instant(&source, query, at).expect("an empty answer");
        }
    }
}
