//! Stages by what comes out of a line, and the plan against a pipeline without push-down.

use std::ops::ControlFlow;

use proptest::prelude::*;
use taffrail_model::{Labels, Level, LogEntry, StreamEntries, TimeRange};

use super::*;
use crate::logql::ast::Expr;
use crate::logql::log::{LogParams, run_log};
use crate::logql::oracle::VecSource;
use crate::logql::plan::LogPlan;
use crate::logql::{LogqlOptions, parse};
use crate::source::{Cancel, Direction, LogRow};

/// The line and its labels after the stages; `None` when they drop it.
fn run(stages: &str, line: &str) -> Option<String> {
    let options = LogqlOptions { allow_empty_selector: true };
    let Ok(Expr::Log(log)) = parse(stages, options) else {
        panic!("{stages} is no log query: {:?}", parse(stages, options));
    };
    let plan = LogPlan::new(&log).expect(stages);
    let stream = Labels::from_pairs([("app", "web"), ("level", "stream")]);
    let row = LogRow { ts: 1, line, level: Level::Unknown, metadata: &[("tid", "7")] };
    if !plan.filters.iter().all(|filter| filter.passes(line)) {
        return None;
    }
    let mut labels = LineLabels::new();
    let line = plan.admit(&stream, &row, &mut labels)?;
    let mut pairs = Vec::new();
    labels.sorted(&mut pairs);
    let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    Some(format!("{line} {}", pairs.join(" ")).replace("app=web level=stream", "…"))
}

#[test]
fn what_comes_out() {
    let json = r#"{"level":"x","a.b":1,"o":{"k":"v","n":{"m":true}},"l":[1],"z":null,"9":"d"}"#;
    let cases: [(&str, &str, Option<&str>); 25] = [
        (
            "| json | line_format \"-\"",
            json,
            Some("- _9=d a_b=1 … level_extracted=x o_k=v o_n_m=true tid=7"),
        ),
        ("| json x=\"o.n.m\", y=\"nope\" | line_format \"-\"", json, Some("- … tid=7 x=true y=")),
        (
            "| json | line_format \"-\"",
            "{\"a\":1",
            Some(
                "- __error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol a=1 … tid=7",
            ),
        ),
        (
            "| logfmt",
            "a=1 a=2 tid=9 b=\"x y\" c=",
            Some("a=1 a=2 tid=9 b=\"x y\" c= a=1 app=web b=x y level=stream tid=7 tid_extracted=9"),
        ),
        ("| logfmt --keep-empty", "c= d", Some("c= d app=web c= d= level=stream tid=7")),
        (
            "| logfmt --strict | drop __error_details__",
            "a=1 \"b",
            Some("a=1 \"b __error__=LogfmtParserErr a=1 … tid=7"),
        ),
        ("| logfmt x=\"a\", y", "a=1", Some("a=1 … tid=7 x=1 y=")),
        ("| regexp `(?P<m>\\w+) (?P<p>\\S+)`", "GET /x", Some("GET /x … m=GET p=/x tid=7")),
        ("| pattern `<m> <_> <s>`", "GET /x 200", Some("GET /x 200 … m=GET s=200 tid=7")),
        ("| pattern `[<m>] <r>`", "GET /x", Some("GET /x … tid=7")),
        ("| unpack", r#"{"lvl":"i","n":5,"_entry":"real"}"#, Some("real … lvl=i tid=7")),
        ("| decolorize", "\u{1b}[31mx\u{1b}[0m", Some("x … tid=7")),
        ("| label_format n=tid, app=\"{{.app}}!\"", "x", Some("x app=web! level=stream n=7")),
        ("| drop app, tid=\"8\", level=~\"s.*\"", "x", Some("x tid=7")),
        ("| keep tid, app=\"other\"", "x", Some("x tid=7")),
        ("| json | drop __error__", "x", Some("x … tid=7")),
        ("| tid > 6 and tid < 8", "x", Some("x … tid=7")),
        ("| tid > 7", "x", None),
        ("| nope > 7", "x", None),
        ("| nope != 7", "x", None),
        ("| nope != \"7\"", "x", Some("x … tid=7")),
        (
            "| app > 3s",
            "x",
            Some(
                "x __error__=LabelFilterErr __error_details__=time: invalid duration \"web\" … tid=7",
            ),
        ),
        ("|= \"a\" or \"x\" != \"y\" or \"z\"", "x", Some("x … tid=7")),
        ("|= \"x\" !~ \"X|x$\"", "x", None),
        ("| line_format \"{{.app}}\" |= \"web\" != \"x\"", "x", Some("web … tid=7")),
    ];
    for (stages, line, expected) in cases {
        assert_eq!(run(stages, line).as_deref(), expected, "{stages} on {line}");
    }
}

#[test]
fn a_line_of_very_many_keys_says_so() {
    let members: Vec<String> = (0..3000).map(|n| format!("\"k{n}\":1")).collect();
    let out =
        run("| json | keep nothing", &format!("{{{}}}", members.join(","))).expect("it stays");
    assert!(out.contains("__error__=LabelLimitErr"), "{out}");
}

fn stage_text() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "|= \"a\"",
        "!= \"b\" or \"c\"",
        "|~ \"a.b|c\"",
        "!~ \"^x\"",
        "|> \"<_>a<_>\"",
        "|= ip(\"10.0.0.0/8\") or \"b\"",
        "| logfmt",
        "| json",
        "| k=\"a\"",
        "| k!=\"\"",
        "| n > 2",
        "| line_format \"{{.k}} c\"",
        "| label_format k=\"b{{.n}}\"",
        // A `!=` right after a name would be its condition.
        "| drop k | app!=\"\"",
        "| keep k, __error__ | k!=\"-\"",
        "| __error__=\"\"",
        "| decolorize",
    ])
}

fn entries() -> impl Strategy<Value = Vec<(usize, i64, String)>> {
    let line = prop_oneof![
        "[abcx ]{0,6}",
        "k=[abc]{0,2} n=[0-9a]",
        Just("{\"k\":\"a\",\"n\":3}".to_owned()),
        Just("x 10.0.0.1 b".to_owned())
    ];
    proptest::collection::vec((0..3_usize, 0..20_i64, line), 0..25)
}

fn show(ts: i64, line: &str, labels: &LineLabels) -> String {
    let mut pairs = Vec::new();
    labels.sorted(&mut pairs);
    format!("{ts} {line} {pairs:?}")
}

proptest! {
    #[test]
    fn a_plan_gives_what_every_stage_in_turn_gives(
        texts in proptest::collection::vec(stage_text(), 0..5),
        entries in entries(),
        backward in any::<bool>(),
        limit in proptest::option::of(1..6_usize),
    ) {
        let source = VecSource::new();
        for (stream, ts, line) in entries {
            let labels = Labels::from_pairs([("app", ["a", "b", "c"][stream])]);
            let entry = LogEntry { ts, line, level: Level::Unknown, metadata: Vec::new() };
            source.push(vec![StreamEntries { labels, entries: vec![entry] }]);
        }
        let query = format!("{{app=~\".+\"}} {}", texts.join(" "));
        let Ok(Expr::Log(log)) = parse(&query, LogqlOptions::default()) else {
            panic!("{query} is no log query");
        };
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        let range = TimeRange::new(2, 18);
        let params = LogParams { range, direction, limit, interval: 0, cancel: Cancel::new() };
        let mut found = Vec::new();
        let plan = LogPlan::new(&log).expect("compiles");
        run_log(&source, &plan, &params, &mut |line| {
            found.push(show(line.ts, line.line, line.labels));
            ControlFlow::Continue(())
        }).expect("an answer");

        // The same without push-down, hints or limits: every stage, in turn, on every line.
        let mut plain = LogPlan { matchers: log.matchers.clone(), filters: Vec::new(), stages: Vec::new() };
        for stage in &log.stages {
            plain.stages.push(Stage::compile(stage).expect("compiles"));
        }
        let all = LogParams { limit: None, ..params };
        let mut expected = Vec::new();
        run_log(&source, &plain, &all, &mut |line| {
            expected.push(show(line.ts, line.line, line.labels));
            ControlFlow::Continue(())
        }).expect("an answer");
        expected.truncate(limit.unwrap_or(usize::MAX));
        prop_assert_eq!(found, expected);
    }
}
