//! Trees, errors and bounds of the parser.

use super::*;
use proptest::prelude::*;

#[test]
fn prints_with_explicit_structure() {
    let cases = [
        ("1 + 2 * 3 ^ 2 ^ 2", "1 + 2 * 3 ^ 2 ^ 2"),
        ("-1 ^ 2", "-1 ^ 2"),
        ("sum(rate(a_b:c{x=~\"y\"}[5m])) by (z)", "sum by (z) (rate(a_b:c{x=~\"y\"}[5m]))"),
        ("a / on(b) group_left(c) d", "a / on (b) group_left (c) d"),
        (
            "{\"my metric\", a='b'}[1m:] offset -5s @ end()",
            "{\"my metric\",a=\"b\"}[1m:] @ end() offset -5s",
        ),
        ("sum", "sum"),
        ("topk(3, offset)", "topk(3, offset)"),
        ("a > bool 1m", "a > bool 60"),
    ];
    for (text, expected) in cases {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.to_string(), expected, "{text}");
    }
}

#[test]
fn errors_say_what_and_where() {
    let cases = [
        ("", "1:1: parse error: no expression found in input"),
        ("a +", "1:4: parse error: unexpected end of input"),
        (
            "sum(a",
            "1:6: parse error: unexpected end of input in function call args, expected \",\"",
        ),
        ("foo{}{", "1:6: parse error: unexpected \"{\""),
        ("{}", "vector selector must contain at least one non-empty matcher"),
        ("1 and 2", "set operator \"and\" not allowed in binary scalar expression"),
        ("1 > 2", "comparisons between scalars must use BOOL modifier"),
        ("a + bool b", "bool modifier can only be used on comparison operators"),
        ("rate(a)", "expected type range vector in call to function \"rate\", got instant vector"),
        ("rate(a[5m], 1)", "expected 1 argument(s) in call to \"rate\", got 2"),
        ("nope(a)", "unknown function with name \"nope\""),
        ("histogram_count(a)", "is not supported"),
        ("a{b=~\"(\"}", "invalid regular expression"),
        ("a[5m][5m]", "ranges only allowed for vector selectors"),
        ("(a) offset 5m", "offset modifier must be preceded by"),
        ("a @ inf", "timestamp out of bounds"),
        ("sum(a, b)", "wrong number of arguments"),
        ("a[0]", "duration must be greater than 0"),
        ("max_over_time(a[5m] smoothed)", "smoothed modifier can only be used with"),
    ];
    for (text, expected) in cases {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = [
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        "-".repeat(100_000) + "1",
        "a or ".repeat(20_000) + "a",
        "1 ^ ".repeat(20_000) + "1",
        format!("a[{}1]", "1+".repeat(20_000)),
        format!("a{}", "[1m:1m]".repeat(10_000)),
        format!("a{{{}}}", "b=~'(x{1000}){10}',".repeat(1000)),
        format!("a{{{}}}", "b=~'x',".repeat(65)),
    ];
    for text in deep {
        parse(&text).expect_err("too deep");
    }
    parse(&format!("a{{{}}}", "b=~'x',".repeat(64))).expect("64 expressions are fine");
    parse(&("a or ".repeat(100) + "a")).expect("a long chain is fine");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn what_prints_reads_back(words in proptest::collection::vec(prop_oneof![
        Just("a"), Just("b{c=\"d\"}"), Just("+"), Just("*"), Just("^"), Just("-"), Just("("), Just(")"),
        Just("sum"), Just("by (x)"), Just("rate("), Just("[5m]"), Just("[1h:5m]"), Just("offset 1m"),
        Just("@ 10"), Just("1"), Just("> bool"), Just("and"), Just("unless on(c)"), Just(","),
    ], 1..12)) {
        if let Ok(expr) = parse(&words.join(" ")) {
            let printed = expr.to_string();
            let again = parse(&printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
            prop_assert_eq!(again.to_string(), printed);
        }
    }
}
