//! Answers of metric queries as a table in kubectl's style: labels that all series share stand once
//! above it; a series over time is summed up and drawn in a line.

use std::collections::BTreeMap;

use serde_json::Value;
use taffrail_model::time::{NANOS_PER_MILLI, NANOS_PER_SEC};
use taffrail_model::{Labels, Nanos};

use super::Error;
use super::row::time_text;
use super::screen::{Format, Ink, Screen};

/// Widest drawing of a series.
const TREND_WIDTH: usize = 30;
/// The drawing's steps.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One series of an answer: a vector's has one point.
#[derive(Debug, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    points: Vec<(Nanos, String)>,
}

/// Shows the `data` of a query's answer. Says whether there was any series.
pub(super) fn show(data: &Value, screen: &mut Screen) -> Result<bool, Error> {
    let bad = || Error::Answer(format!("unknown result {}", data["resultType"]));
    let result = &data["result"];
    let (series, over_time) = match data["resultType"].as_str() {
        Some("vector") => {
            (read_all(result, |s| s["value"].as_array().map(|p| vec![p.clone()])), false)
        }
        Some("matrix") => (read_all(result, points_of), true),
        Some("scalar" | "string") => {
            let text = result[1].as_str().ok_or_else(bad)?;
            if screen.format == Format::Json {
                screen.text(&data.to_string())?.text("\n")?;
            } else {
                screen.foreign(text)?.text("\n")?;
            }
            return Ok(true);
        }
        _ => return Err(bad()),
    };
    let series = series.ok_or_else(|| Error::Answer("a series without labels or points".into()))?;
    match screen.format {
        Format::Json => _ = screen.text(&data.to_string())?.text("\n")?,
        Format::Raw => show_raw(&series, over_time, screen)?,
        Format::Default => show_table(&series, over_time, screen)?,
    }
    Ok(!series.is_empty())
}

/// Nanoseconds as seconds with as many digits as needed: `1.5`.
pub(super) fn seconds(nanos: Nanos) -> String {
    let (whole, rest) = (nanos / NANOS_PER_SEC, (nanos % NANOS_PER_SEC).abs());
    if rest == 0 {
        return whole.to_string();
    }
    let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{rest:09}");
    text.trim_end_matches('0').to_owned()
}

type Point = Vec<Value>;

fn points_of(series: &Value) -> Option<Vec<Point>> {
    series["values"].as_array()?.iter().map(|point| point.as_array().cloned()).collect()
}

fn read_all(result: &Value, points: impl Fn(&Value) -> Option<Vec<Point>>) -> Option<Vec<Series>> {
    let mut all = Vec::new();
    for series in result.as_array()? {
        let mut labels = BTreeMap::new();
        for (name, value) in series["metric"].as_object()? {
            labels.insert(name.clone(), value.as_str()?.to_owned());
        }
        let mut read = Vec::new();
        for point in points(series)? {
            read.push((millis(point.first()?)?, point.get(1)?.as_str()?.to_owned()));
        }
        all.push(Series { labels, points: read });
    }
    Some(all)
}

/// A time in seconds, as JSON has it, in nanoseconds rounded to milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates; no time is that far")]
fn millis(time: &Value) -> Option<Nanos> {
    Some(((time.as_f64()? * 1000.0).round() as i64).saturating_mul(NANOS_PER_MILLI))
}

/// `{labels}`, time of a point over time, value, with tabs between.
fn show_raw(series: &[Series], over_time: bool, screen: &mut Screen) -> Result<(), Error> {
    for one in series {
        let labels = labels_text(one.labels.iter());
        for (time, value) in &one.points {
            screen.foreign(&labels)?.text("\t")?;
            if over_time {
                screen.text(&time_text(*time))?.text("\t")?;
            }
            screen.foreign(value)?.text("\n")?;
        }
    }
    Ok(())
}

fn show_table(series: &[Series], over_time: bool, screen: &mut Screen) -> Result<(), Error> {
    let Some(first) = series.first() else { return Ok(()) };
    let is_common = |name: &str| {
        let value = first.labels.get(name);
        series.iter().all(|one| one.labels.get(name) == value)
    };
    let mut names: Vec<&str> =
        series.iter().flat_map(|one| one.labels.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !is_common(name));
    let common: Vec<(&String, &String)> =
        first.labels.iter().filter(|(name, _)| is_common(name)).collect();
    if !common.is_empty() {
        screen.painted(Ink::Grey, &labels_text(common.into_iter()))?.text("\n")?;
    }
    let mut rows = vec![head(&names, over_time)];
    for one in series {
        let mut row: Vec<String> = names
            .iter()
            .map(|name| one.labels.get(*name).cloned().unwrap_or_else(|| "-".into()))
            .collect();
        row.extend(if over_time { summary(&one.points) } else { last(&one.points) });
        rows.push(row);
    }
    show_rows(&rows, screen)
}

fn head(names: &[&str], over_time: bool) -> Vec<String> {
    let values: &[&str] =
        if over_time { &["LAST", "MIN", "MAX", "AVG", "TREND"] } else { &["VALUE"] };
    let names = names.iter().map(|name| match *name {
        "__name__" => "NAME".to_owned(),
        name => name.to_uppercase(),
    });
    names.chain(values.iter().map(|&name| name.to_owned())).collect()
}

fn last(points: &[(Nanos, String)]) -> Vec<String> {
    vec![points.last().map_or_else(|| "-".into(), |(_, value)| value.clone())]
}

fn summary(points: &[(Nanos, String)]) -> Vec<String> {
    let values: Vec<f64> = points.iter().filter_map(|(_, value)| value.parse().ok()).collect();
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let (mut row, count) = (last(points), finite.len());
    if count == 0 {
        row.extend(["-", "-", "-", ""].map(str::to_owned));
        return row;
    }
    let least = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let most = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = finite.iter().sum::<f64>() / count as f64;
    row.extend([least, most, mean].map(short));
    row.push(trend(&values, least, most));
    row
}

/// At most six significant digits, as few as needed.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e9).contains(&value.abs()) {
        return format!("{value:.3e}");
    }
    let digits = if value.abs() >= 1000.0 { 1 } else { 4 };
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A drawing of the values, [`TREND_WIDTH`] wide at most; what is not a number is a gap.
fn trend(values: &[f64], least: f64, most: f64) -> String {
    let bucket = values.len().div_ceil(TREND_WIDTH).max(1);
    let draw = |values: &[f64]| {
        let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        if known.is_empty() {
            return ' ';
        }
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let height = if most > least { (mean - least) / (most - least) } else { 0.0 };
        let reached = (1..BARS.len()).filter(|step| height * 8.0 >= *step as f64).count();
        BARS[reached]
    };
    values.chunks(bucket).map(draw).collect()
}

fn labels_text<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    Labels::from_pairs(labels.map(|(name, value)| (name.as_str(), value.as_str()))).to_string()
}

/// Columns three spaces apart; the last one is not padded.
fn show_rows(rows: &[Vec<String>], screen: &mut Screen) -> Result<(), Error> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let padding = width - cell.chars().count() + 3;
            line.extend(std::iter::repeat_n(' ', padding));
        }
        screen.foreign(line.trim_end())?.text("\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::Written;
    use proptest::prelude::*;
    use serde_json::json;

    fn shown(data: &Value, format: Format) -> (String, bool) {
        let written = Written::default();
        let found = show(data, &mut written.screen(format, false)).unwrap();
        (written.text(), found)
    }

    fn vector() -> Value {
        json!({"resultType": "vector", "result": [
            {"metric": {"app": "web", "code": "200", "job": "x"}, "value": [1, "12.5"]},
            {"metric": {"app": "web", "job": "x"}, "value": [1, "NaN"]},
        ]})
    }

    #[test]
    fn a_vector() {
        let expected = "{app=\"web\", job=\"x\"}\nCODE   VALUE\n200    12.5\n-      NaN\n";
        assert_eq!(shown(&vector(), Format::Default), (expected.into(), true));
        let raw = "{app=\"web\", code=\"200\", job=\"x\"}\t12.5\n{app=\"web\", job=\"x\"}\tNaN\n";
        assert_eq!(shown(&vector(), Format::Raw).0, raw);
        assert_eq!(shown(&vector(), Format::Json).0, format!("{}\n", vector()));
    }

    #[test]
    fn a_matrix() {
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {"pod": "a"}, "values": [[1.5, "0"], [2.5, "4"], [3.5, "8"]]},
            {"metric": {"pod": "bb"}, "values": [[1.5, "NaN"], [2.5, "3"]]},
            {"metric": {"pod": "c"}, "values": []},
        ]});
        let expected = "\
            POD   LAST   MIN   MAX   AVG   TREND\n\
            a     8      0     8     4     ▁▅█\n\
            bb    3      3     3     3      ▁\n\
            c     -      -     -     -\n";
        assert_eq!(shown(&matrix, Format::Default), (expected.into(), true));
        let raw = shown(&matrix, Format::Raw).0;
        assert!(raw.starts_with("{pod=\"a\"}\t1970-01-01T00:00:01.500Z\t0\n"), "{raw}");
    }

    #[test]
    fn single_values_and_nothing() {
        let scalar = json!({"resultType": "scalar", "result": [1, "3"]});
        assert_eq!(shown(&scalar, Format::Default), ("3\n".into(), true));
        let nothing = json!({"resultType": "vector", "result": []});
        assert_eq!(shown(&nothing, Format::Default), (String::new(), false));
        let written = Written::default();
        for bad in [json!({}), json!({"resultType": "vector", "result": [{}]}), json!(null)] {
            let result = show(&bad, &mut written.screen(Format::Default, false));
            assert!(matches!(result, Err(Error::Answer(_))), "{bad}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (12.5, "12.5"),
            (1.0 / 3.0, "0.3333"),
            (123_456.789, "123456.8"),
            (1e12, "1.000e12"),
            (-0.000_01, "-1.000e-5"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<f64>().prop_map(Value::from),
            "[a-z0-9.]{0,4}".prop_map(Value::from),
            Just(json!("NaN")),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let names = prop_oneof!["metric", "value", "values", "[a-c]"];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(names, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(result in any_json(), kind in prop_oneof!["vector", "matrix", "scalar"]) {
            let data = json!({"resultType": kind, "result": result});
            for format in [Format::Default, Format::Raw, Format::Json] {
                let _either = show(&data, &mut Written::default().screen(format, true)).is_ok();
            }
        }

        #[test]
        fn seconds_read_back(nanos in -1_000_000_000_000_i64..1_000_000_000_000) {
            let read: f64 = seconds(nanos).parse().unwrap();
            prop_assert!((read * 1e9 - nanos as f64).abs() < 1.0);
        }

        #[test]
        fn a_trend_is_never_wider_than_its_column(values in proptest::collection::vec(any::<f64>(), 0..500)) {
            prop_assert!(trend(&values, -1.0, 1.0).chars().count() <= TREND_WIDTH);
        }
    }
}
