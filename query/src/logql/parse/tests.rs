use proptest::prelude::*;

use super::super::ast::{
    Binary, BinaryOp, Cardinality, Compare, Conversion, Extract, FormatValue, Grouping,
    LabelFilter, LabelFormat, LineFilterExpr, LineOp, LineTerm, Matching, Pick, RangeAgg, RangeOp,
    StageExpr, Unwrap, VectorAgg, VectorOp,
};
use super::*;

fn strict(query: &str) -> Result<Expr, ParseError> {
    parse(query, LogqlOptions::default())
}

#[test]
fn errors_as_loki_writes_them() {
    let cases = [
        ("", "parse error : syntax error: unexpected $end"),
        (
            "{",
            "parse error at line 1, col 2: syntax error: unexpected $end, expecting IDENTIFIER or }",
        ),
        (
            "{app=\"web\"",
            "parse error at line 1, col 11: syntax error: unexpected $end, expecting } or ,",
        ),
        (
            "{app=\"web\"} |= foo",
            "parse error at line 1, col 16: syntax error: unexpected IDENTIFIER, expecting STRING or ip",
        ),
        ("foo(1)", "parse error at line 1, col 1: syntax error: unexpected IDENTIFIER"),
        ("{app=\"", "parse error at line 1, col 6: literal not terminated"),
        (
            "{app=~\".*\"}",
            "parse error : queries require at least one regexp or equality matcher that does not \
             have an empty-compatible value. For instance, app=~\".*\" does not meet this \
             requirement, but app=~\".+\" will",
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(strict(query).expect_err(query).to_string(), expected, "{query}");
    }
    let starts = [
        ("{app=~\"(\"}", "parse error : error parsing regexp: "),
        (
            "{app=\"a\"} | json | x !~ ip(\"1.1.1.1\")",
            "parse error at line 1, col 25: syntax error: unexpected ip",
        ),
        (
            "{app=\"a\"} | drop | json",
            "parse error at line 1, col 18: syntax error: unexpected |, expecting IDENTIFIER",
        ),
        (
            "rate({app=\"a\"})",
            "parse error at line 1, col 15: syntax error: unexpected ), expecting [",
        ),
        ("sum({app=\"a\"})", "parse error at line 1, col 5: syntax error: unexpected log query"),
        ("{app=\"a\"} + 1", "parse error at line 1, col 1: syntax error: unexpected log query"),
        (
            "topk(1.5, rate({app=\"a\"}[1m]))",
            "parse error at line 1, col 1: invalid parameter topk(1.5,",
        ),
        ("{app=\"a\"} x", "parse error at line 1, col 11: syntax error: unexpected IDENTIFIER"),
    ];
    for (query, expected) in starts {
        let text = strict(query).expect_err(query).to_string();
        assert!(text.starts_with(expected), "{query}: {text}");
    }
}

#[test]
fn the_selector_may_be_left_out_where_that_is_allowed() {
    let options = LogqlOptions { allow_empty_selector: true };
    for query in
        ["{}", "", "|= \"x\"", "!= \"y\" | json", "| json", "count_over_time(|= \"x\" [5m])"]
    {
        assert!(strict(query).is_err(), "{query}");
        let expr = parse(query, options).expect(query);
        assert_eq!(parse(&expr.to_string(), options), Ok(expr), "{query}");
    }
}

#[test]
fn prints_as_format_query() {
    let cases = [
        (
            "{app=\"web\"}|=\"a\"|logfmt|status>=500",
            "{app=\"web\"} |= \"a\" | logfmt | status>=500",
        ),
        (
            "sum by(app)(rate({app=\"web\"}|=\"a\"[5m]))/sum(rate({app=\"b\"}[5m]))",
            "(sum by (app)(rate({app=\"web\"} |= \"a\"[5m])) / sum(rate({app=\"b\"}[5m])))",
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(strict(query).expect(query).to_string(), expected);
    }
}

#[test]
fn forms_of_one_query() {
    let same = [
        "rate({a=\"b\"} |= \"x\" [5m] offset 1m)",
        "rate({a=\"b\"}[5m] offset 1m |= \"x\")",
        "rate(({a=\"b\"} |= \"x\")[5m] offset 1m)",
        "rate((({a=\"b\"}) |= \"x\" [5m]) offset 1m)",
    ];
    let first = strict(same[0]).expect("valid");
    for query in same {
        assert_eq!(strict(query).as_ref(), Ok(&first), "{query}");
    }
    assert_eq!(
        strict("{a=\"b\"} | x=\"1\" y=\"2\", z=\"3\" or w>1"),
        strict("{a=\"b\"} | (x=\"1\" and y=\"2\" and z=\"3\") or w>1")
    );
}

#[test]
fn depth_and_size_are_bounded() {
    let cases = [
        format!("{}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("{{a=\"b\"}} | {}a=\"b\"", "(".repeat(5000)),
        "1+".repeat(30_000) + "1",
        "1^".repeat(30_000) + "1",
        "sum(".repeat(5000),
        format!("rate({}", "(".repeat(5000)),
        format!("{{a=\"{}\"}}", "x".repeat(QUERY_BYTES_MAX)),
    ];
    for query in cases {
        assert!(strict(&query).is_err());
    }
}

// Trees that a text can say, to print and read again.

fn name() -> impl Strategy<Value = String> {
    // No word that means something at the start of a stage.
    "[a-z]{1,4}_[a-z0-9_]{0,3}"
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,6}"
}

fn text_matcher() -> impl Strategy<Value = Matcher> {
    let op = prop_oneof![
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::Regex),
        Just(MatchOp::NotRegex)
    ];
    (name(), op, "[a-z.+]{0,4}[a-z]").prop_map(|(name, op, value)| {
        Matcher::new(
            &name,
            op,
            &value.replace("++", "+").trim_start_matches('+').replace("++", ""),
            false,
        )
        .unwrap_or_else(|_| Matcher::equal(&name, "x"))
    })
}

fn selector() -> impl Strategy<Value = Vec<Matcher>> {
    proptest::collection::vec(text_matcher(), 0..3).prop_map(|mut matchers| {
        matchers.push(Matcher::equal("app", "x"));
        matchers
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    proptest::sample::select(Compare::ALL.to_vec())
}

fn label_filter() -> impl Strategy<Value = LabelFilter> {
    let leaf = prop_oneof![
        text_matcher().prop_map(LabelFilter::Text),
        (name(), compare(), -1e9..1e9_f64).prop_map(|(name, op, value)| LabelFilter::Number {
            name,
            op,
            value
        }),
        (name(), compare(), any::<i32>()).prop_map(|(name, op, n)| LabelFilter::Duration {
            name,
            op,
            nanos: i64::from(n) * 977
        }),
        (name(), compare(), 0..1_u64 << 40).prop_map(|(name, op, bytes)| LabelFilter::Bytes {
            name,
            op,
            bytes
        }),
        (name(), any::<bool>()).prop_map(|(name, equal)| LabelFilter::Ip {
            name,
            equal,
            pattern: "::1".into()
        }),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(LabelFilter::And),
            proptest::collection::vec(inner, 2..4).prop_map(LabelFilter::Or),
        ]
    })
}

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    let pick = prop_oneof![name().prop_map(Pick::Name), text_matcher().prop_map(Pick::Matcher)];
    proptest::collection::vec(pick, 1..3)
}

fn extracts() -> impl Strategy<Value = Vec<Extract>> {
    proptest::collection::vec(
        (name(), "[a-z]{1,3}").prop_map(|(label, path)| Extract { label, path }),
        0..3,
    )
}

fn line_filter() -> impl Strategy<Value = StageExpr> {
    let op = proptest::sample::select(LineOp::ALL.to_vec());
    (op, proptest::collection::vec("[a-z é\"\\n]{0,5}", 1..3), any::<bool>()).prop_map(
        |(op, texts, ip)| {
            let mut terms: Vec<LineTerm> = texts.into_iter().map(LineTerm::Text).collect();
            if ip && matches!(op, LineOp::Contains | LineOp::NotContains) {
                terms.push(LineTerm::Ip("10.0.0.0/8".into()));
            }
            StageExpr::Line(LineFilterExpr { op, terms })
        },
    )
}

fn stage() -> impl Strategy<Value = StageExpr> {
    prop_oneof![
        line_filter(),
        extracts().prop_map(StageExpr::Json),
        (any::<bool>(), any::<bool>(), extracts()).prop_map(|(strict, keep_empty, extracts)| {
            StageExpr::Logfmt { strict, keep_empty, extracts }
        }),
        Just(StageExpr::Regexp("(?P<x>a\"b)".into())),
        Just(StageExpr::Pattern("<x> \\ <_>".into())),
        Just(StageExpr::Unpack),
        Just(StageExpr::Decolorize),
        label_filter().prop_map(StageExpr::Labels),
        Just(StageExpr::LineFormat("{{.x}} \"y\"".into())),
        (name(), name()).prop_map(|(name, from)| {
            let rename = LabelFormat { name, value: FormatValue::Rename(from) };
            let value = FormatValue::Template("{{.a}}".into());
            StageExpr::LabelFormat(vec![rename, LabelFormat { name: "t".into(), value }])
        }),
        picks().prop_map(StageExpr::Drop),
        picks().prop_map(StageExpr::Keep),
    ]
}

fn log() -> impl Strategy<Value = LogExpr> {
    (selector(), proptest::collection::vec(stage(), 0..4))
        .prop_map(|(matchers, stages)| LogExpr { matchers, stages })
}

fn grouping() -> impl Strategy<Value = Option<Grouping>> {
    proptest::option::of(
        (any::<bool>(), proptest::collection::vec(name(), 0..3))
            .prop_map(|(without, labels)| Grouping { without, labels }),
    )
}

fn range() -> impl Strategy<Value = MetricExpr> {
    let conversion =
        proptest::sample::select(vec![Conversion::Number, Conversion::Bytes, Conversion::Duration]);
    let unwrap = (name(), conversion, proptest::collection::vec(label_filter(), 0..2))
        .prop_map(|(label, conversion, filters)| Unwrap { label, conversion, filters });
    (log(), proptest::option::of(unwrap), 1..1_i64 << 50, any::<i32>(), grouping()).prop_map(
        |(log, unwrap, range, offset, grouping)| {
            let (op, param) = match (&unwrap, range % 2) {
                (None, 0) => (RangeOp::CountOverTime, None),
                (None, _) => (RangeOp::BytesRate, None),
                (Some(_), 0) => (RangeOp::QuantileOverTime, Some(0.5)),
                (Some(_), _) => (RangeOp::MaxOverTime, None),
            };
            let grouping = grouping.filter(|_| unwrap.is_some());
            let offset = i64::from(offset);
            MetricExpr::Range(RangeAgg { op, param, log, unwrap, range, offset, grouping })
        },
    )
}

fn metric() -> impl Strategy<Value = MetricExpr> {
    let leaf = prop_oneof![4 => range(), 1 => (-1e9..1e9_f64).prop_map(MetricExpr::VectorLiteral)];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let ops = VectorOp::ALL.to_vec();
        let vector = (proptest::sample::select(ops), grouping(), inner.clone()).prop_map(
            |(op, grouping, inner)| {
                let ungroupable =
                    matches!(op, VectorOp::Sort | VectorOp::SortDesc | VectorOp::ApproxTopk);
                MetricExpr::Vector(VectorAgg {
                    op,
                    param: op.takes_param().then_some(3),
                    grouping: grouping.filter(|_| !ungroupable),
                    inner: Box::new(inner),
                })
            },
        );
        let symbols =
            ["or", "and", "unless", "+", "-", "*", "/", "%", "^", "==", "!=", ">", ">=", "<", "<="];
        let matching = (any::<bool>(), 0..3, proptest::collection::vec(name(), 0..2)).prop_map(
            |(on, side, labels)| {
                let cardinality =
                    [Cardinality::OneToOne, Cardinality::ManyToOne, Cardinality::OneToMany]
                        [side as usize];
                let include = if side == 0 { Vec::new() } else { labels.clone() };
                Matching { on, labels, cardinality, include }
            },
        );
        let binary = (
            proptest::sample::select(symbols.to_vec()),
            any::<bool>(),
            proptest::option::of(matching),
            inner.clone(),
            inner.clone(),
        )
            .prop_map(|(symbol, returns_bool, matching, left, right)| {
                let op = BinaryOp::from_symbol(symbol).expect("a symbol");
                MetricExpr::Binary(Box::new(Binary { op, returns_bool, matching, left, right }))
            });
        let replace = inner.prop_map(|inner| MetricExpr::LabelReplace {
            inner: Box::new(inner),
            dst: "d".into(),
            replacement: "$1 \"x\"".into(),
            src: "s".into(),
            regex: "(.*)".into(),
        });
        prop_oneof![vector, binary, replace]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_panics(query in "[{}()|=~!<>,\\[\\] a-z0-9\"`.+*^-]{0,60}") {
        let _ = strict(&query);
    }

    #[test]
    fn a_mutilated_query_is_an_error_or_a_query(log in log(), cut in any::<prop::sample::Index>()) {
        let text = log.to_string();
        let mut end = cut.index(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if let Err(error) = strict(&text[..end]) {
            let _ = error.render(&text[..end]);
        }
    }

    #[test]
    fn log_queries_print_and_read_the_same(log in log()) {
        let expr = Expr::Log(log);
        prop_assert_eq!(strict(&expr.to_string()), Ok(expr));
    }

    #[test]
    fn metric_queries_print_and_read_the_same(metric in metric()) {
        let expr = Expr::Metric(metric);
        prop_assert_eq!(strict(&expr.to_string()), Ok(expr));
    }

    #[test]
    fn texts_survive(value in text()) {
        let expr = Expr::Log(LogExpr { matchers: vec![Matcher::equal("app", &format!("x{value}"))], stages: Vec::new() });
        prop_assert_eq!(strict(&expr.to_string()), Ok(expr));
    }
}
