//! A small world and what queries say about it, a line each. Needs no files beside the project.

use taffrail_model::Labels;
use taffrail_model::sample::stale_nan;

use crate::promql::oracle::VecSource;
use crate::promql::{Options, Query, Value, instant};
use crate::source::Cancel;

/// Ten minutes at one sample a minute.
fn world() -> VecSource {
    let mut source = VecSource::new();
    let mut add = |text: &str, value: &dyn Fn(i64) -> f64| {
        let query = Query::new(text).expect("a selector");
        let crate::promql::ast::Kind::Selector(selector) = query.expr.kind else {
            panic!("not a selector: {text}");
        };
        let pairs = selector.matchers.into_iter().map(|m| (m.name, m.value));
        let labels = Labels::from_pairs(pairs);
        source.push(labels, (0..=10).map(|minute| (minute * 60_000, value(minute))));
    };
    add("requests_total{pod='a',node='n1'}", &|m| (m * 60) as f64);
    add("requests_total{pod='b',node='n1'}", &|m| (m * 120) as f64);
    add("requests_total{pod='c',node='n2'}", &|m| {
        if m < 6 { (m * 60) as f64 } else { (m - 6) as f64 }
    });
    add("memory{pod='a'}", &|_| 100.0);
    add("memory{pod='b'}", &|_| 300.0);
    add("limit{pod='a',kind='hard'}", &|_| 200.0);
    add("limit{pod='b',kind='hard'}", &|_| 400.0);
    add("limit{pod='d',kind='hard'}", &|_| 1.0);
    add("node_info{node='n1',zone='z1'}", &|_| 1.0);
    add("gone{pod='a'}", &|m| if m < 9 { 1.0 } else { stale_nan() });
    add("odd{pod='a'}", &|_| f64::NAN);
    for (le, count) in [("1", 10.0), ("2", 30.0), ("+Inf", 40.0)] {
        add(&format!("latency_bucket{{le='{le}'}}"), &move |_| count);
    }
    source
}

fn ask(source: &VecSource, text: &str) -> String {
    let outcome = Query::new(text)
        .map_err(crate::promql::Error::from)
        .and_then(|query| instant(source, &query, 600_000, &Options::default(), &Cancel::new()));
    let answer = match outcome {
        Ok(answer) => answer,
        Err(error) => return format!("error: {error}"),
    };
    match answer.value {
        Value::Scalar(_, value) => value.to_string(),
        Value::Text(_, text) => text,
        Value::Vector(_, samples) => {
            let lines: Vec<String> = samples.iter().map(|(l, v)| format!("{l} {v}")).collect();
            lines.join("; ")
        }
        Value::Matrix(series) => {
            let lines: Vec<String> =
                series.iter().map(|s| format!("{} {:?}", s.labels, s.points)).collect();
            lines.join("; ")
        }
    }
}

#[test]
fn queries_and_answers() {
    let source = world();
    let cases = [
        ("1 + 2 * 3 ^ 2 - -1", "20"),
        ("'text'", "text"),
        ("memory", r#"{__name__="memory", pod="a"} 100; {__name__="memory", pod="b"} 300"#),
        ("memory > 150", r#"{__name__="memory", pod="b"} 300"#),
        ("memory > bool 150", r#"{pod="a"} 0; {pod="b"} 1"#),
        ("150 < memory", r#"{__name__="memory", pod="b"} 300"#),
        ("memory / ignoring(kind) limit", r#"{pod="a"} 0.5; {pod="b"} 0.75"#),
        ("memory / on(pod) fill(0) limit", r#"{pod="a"} 0.5; {pod="b"} 0.75; {pod="d"} 0"#),
        ("rate(requests_total{pod='a'}[5m])", r#"{node="n1", pod="a"} 1"#),
        ("increase(requests_total{pod='a'}[5m])", r#"{node="n1", pod="a"} 300"#),
        ("irate(requests_total{pod='b'}[5m])", r#"{node="n1", pod="b"} 2"#),
        (
            "resets(requests_total[10m])",
            r#"{node="n1", pod="a"} 0; {node="n1", pod="b"} 0; {node="n2", pod="c"} 1"#,
        ),
        ("sum by (node) (rate(requests_total{node='n1'}[5m]))", r#"{node="n1"} 3"#),
        (
            "requests_total{node='n1'} * on(node) group_left(zone) node_info",
            r#"{node="n1", pod="a", zone="z1"} 600; {node="n1", pod="b", zone="z1"} 1200"#,
        ),
        ("topk(1, requests_total)", r#"{__name__="requests_total", node="n1", pod="b"} 1200"#),
        ("bottomk(1, memory)", r#"{__name__="memory", pod="a"} 100"#),
        (
            "sort_desc(memory)",
            r#"{__name__="memory", pod="b"} 300; {__name__="memory", pod="a"} 100"#,
        ),
        ("count_values('v', limit)", r#"{v="200"} 1; {v="400"} 1; {v="1"} 1"#),
        ("quantile(0.5, memory)", "{} 200"),
        ("stddev(memory)", "{} 100"),
        ("memory and on(pod) limit{pod='a'}", r#"{__name__="memory", pod="a"} 100"#),
        ("memory unless on(pod) limit{pod='a'}", r#"{__name__="memory", pod="b"} 300"#),
        ("gone", ""),
        ("gone offset 2m", r#"{__name__="gone", pod="a"} 1"#),
        ("count_over_time(gone[10m])", r#"{pod="a"} 8"#),
        ("requests_total{pod='a'} @ 60", r#"{__name__="requests_total", node="n1", pod="a"} 60"#),
        (
            "requests_total{pod='a'}[2m]",
            r#"{__name__="requests_total", node="n1", pod="a"} [(540000, 540.0), (600000, 600.0)]"#,
        ),
        ("max_over_time(memory{pod='a'}[5m:1m])", r#"{pod="a"} 100"#),
        ("absent(memory)", ""),
        ("absent(nothing{a='b',c=~'d'})", r#"{a="b"} 1"#),
        ("histogram_quantile(0.5, latency_bucket)", "{} 1.5"),
        ("histogram_fraction(0, 1, latency_bucket)", "{} 0.25"),
        (
            "label_replace(memory{pod='a'}, 'x', '$1-y', 'pod', '(.)')",
            r#"{__name__="memory", pod="a", x="a-y"} 100"#,
        ),
        (
            "label_join(memory{pod='a'}, 'x', '/', 'pod', 'pod')",
            r#"{__name__="memory", pod="a", x="a/a"} 100"#,
        ),
        ("odd", r#"{__name__="odd", pod="a"} NaN"#),
        ("scalar(sum(memory))", "400"),
        ("timestamp(memory{pod='a'} offset 30s)", r#"{pod="a"} 540"#),
        ("hour(vector(7200))", "{} 2"),
        ("info(requests_total{pod='c'})", r#"{__name__="requests_total", node="n2", pod="c"} 4"#),
    ];
    for (text, expected) in cases {
        assert_eq!(ask(&source, text), expected, "{text}");
    }
}

#[test]
fn what_has_no_answer_says_why() {
    let source = world();
    let cases = [
        (
            "requests_total / on(node) node_info",
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
        ),
        (
            "node_info / on(node) requests_total",
            "many-to-many matching not allowed: matching labels must be unique on one side",
        ),
        ("{__name__=~'memory|limit',pod='a'} + 0 or abs({__name__='odd'})", ""),
        (
            "abs({__name__=~'memory|gone|odd',pod='a'})",
            "vector cannot contain metrics with the same labelset",
        ),
        (
            "label_replace(memory, 'pod', 'x', '', '')",
            "vector cannot contain metrics with the same labelset",
        ),
        (
            "label_replace(memory, 'x', '', 'pod', '(')",
            "invalid regular expression in label_replace(): (",
        ),
        ("label_replace(memory, 'x', 'BIG', 'pod', '(.*)')", "a label value would have up to"),
        ("topk(NaN, memory)", "Parameter value is NaN"),
        ("memory[5m] + 1", "binary expression must contain only scalar and instant vector types"),
        ("memory offset (1m / (0s))", "division by zero in duration expression"),
    ];
    for (text, expected) in cases {
        let answer = ask(&source, &text.replace("BIG", &"$1".repeat(50_000)));
        assert!(answer.contains(expected), "{text}: {answer}");
        assert_eq!(answer.starts_with("error: "), !expected.is_empty(), "{text}: {answer}");
    }
}
