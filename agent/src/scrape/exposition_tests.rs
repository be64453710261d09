use std::io::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::scrape::line::FamilyType;

/// Name, labels, value and time of every sample of a body.
type Samples = Vec<Sample>;
type Sample = (String, Vec<(String, String)>, f64, Option<Millis>);
/// A text and what is expected of it; without a name that it is refused.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], f64, Option<i64>);

fn samples(body: &[u8], format: Format) -> Result<Samples, ParseError> {
    let mut lines = Lines::new(body, format)?;
    let mut found = Vec::new();
    while let Some(line) = lines.next_line()? {
        if let Line::Sample(sample) = line {
            let labels = lines.labels().iter();
            let labels = labels.map(|l| (l.name().into_owned(), l.value().into_owned())).collect();
            found.push((sample.name.into_owned(), labels, sample.value, sample.timestamp));
        }
    }
    Ok(found)
}

fn one(text: &str) -> Option<Sample> {
    let mut all = samples(text.as_bytes(), Format::Text).expect(text);
    assert!(all.len() <= 1, "{text}");
    all.pop()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn text_is_read_as_prometheus_reads_it() {
    let cases: &[Case] = &[
        ("a 1\n", "a", &[], 1.0, None),
        ("a 1", "a", &[], 1.0, None),
        ("a\t1\t\n", "a", &[], 1.0, None),
        ("  a:b_c  -1.5e3  -7 \n", "a:b_c", &[], -1500.0, Some(-7)),
        ("a{}1\n", "a", &[], 1.0, None),
        ("a { b = \"c\" , } 1 2\r\n", "a", &[("b", "c")], 1.0, Some(2)),
        ("a{b=\"x\\\"y\\\\z\\nq\\t\"} +Inf\n", "a", &[("b", "x\"y\\z\nq\\t")], f64::INFINITY, None),
        ("a{b=\"grün # }\"} 0x\n", "", &[], 0.0, None),
        ("{\"my.metric\",\"a.b\"=\"c\"} 4\n", "my.metric", &[("a.b", "c")], 4.0, None),
        (
            "# TYPE a counter\n#\n# anything\n\n a 123456789012345\n",
            "a",
            &[],
            123456789012345.0,
            None,
        ),
    ];
    for (text, name, labels, value, timestamp) in cases {
        if name.is_empty() {
            assert!(samples(text.as_bytes(), Format::Text).is_err(), "{text}");
            continue;
        }
        let expected = ((*name).to_owned(), pairs(labels), *value, *timestamp);
        assert_eq!(one(text), Some(expected), "{text}");
    }
    assert!(one("a NaN\n").is_some_and(|s| s.2.is_nan()));
    assert_eq!(one("# HELP a b"), None);
    assert_eq!(one(""), None);
}

#[test]
fn errors_name_the_place() {
    let cases = [
        ("a 1\nb{c=d} 1\n", 2, 5, "expected '\"'"),
        ("a 1\n\n0b 1\n", 3, 1, "expected the name of a metric"),
        ("a{b=\"1\",b=\"2\"} 1\n", 1, 9, "label \"b\" comes twice"),
        ("a{__name__=\"1\"} 1\n", 1, 3, "label \"__name__\" comes twice"),
        ("a{b=\"1\n\"} 1\n", 1, 5, "expected a quoted text that ends on its line"),
        ("a x\n", 1, 3, "expected a number, NaN, +Inf or -Inf"),
        ("a 1_0\n", 1, 3, "expected a number, NaN, +Inf or -Inf"),
        ("a 1 1.5\n", 1, 5, "expected a time in milliseconds"),
        ("a 1 2 3\n", 1, 7, "expected the end of the line"),
        ("a\n", 1, 2, "expected a space and a value"),
        ("a+1\n", 1, 2, "expected a space and a value"),
        ("a{b=\"1\"", 1, 8, "expected ',' or '}' after a label"),
        ("{\"a\",\"b\"} 1\n", 1, 9, "expected a label: name=\"value\""),
    ];
    for (text, line, column, message) in cases {
        let error = samples(text.as_bytes(), Format::Text).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert_eq!(error.problem.to_string(), message, "{text}");
    }
    let error = samples(b"a 1\nb\xff 1\n", Format::Text).expect_err("not UTF-8");
    assert_eq!((error.line, error.column, error.problem), (2, 2, Problem::NotUtf8));
    let labels: Vec<String> = (0..=STREAM_LABELS_MAX).map(|n| format!("l{n}=\"\"")).collect();
    let many = format!("a{{{}}} 1\n", labels.join(","));
    let error = samples(many.as_bytes(), Format::Text).expect_err("too many labels");
    assert_eq!(error.problem, Problem::TooManyLabels);
}

#[test]
fn an_error_ends_the_body() {
    let mut lines = Lines::new(b"a x\nb 1\n", Format::Text).expect("UTF-8");
    assert!(lines.next_line().is_err());
    assert_eq!(lines.next_line(), Ok(None));
}

#[test]
fn metadata_is_read() {
    let body = b"# HELP a some \\n help\n# TYPE a histogram\n# TYPE b nonsense\n# UNIT c x\na 1\n";
    let mut lines = Lines::new(body, Format::Text).expect("UTF-8");
    let help = Line::Help { family: "a".into(), text: "some \\n help" };
    assert_eq!(lines.next_line(), Ok(Some(help)));
    let declared = Line::Type { family: "a".into(), declared: FamilyType::Histogram };
    assert_eq!(lines.next_line(), Ok(Some(declared)));
    let declared = Line::Type { family: "b".into(), declared: FamilyType::Unknown };
    assert_eq!(lines.next_line(), Ok(Some(declared)));
    assert!(matches!(lines.next_line(), Ok(Some(Line::Sample(_)))));
}

#[test]
fn open_metrics_times_are_seconds() {
    let body = b"a 1 1.0015\nb 2 -3\nc 1 12345678901234567890.5\nd 1 1.5e3\n# EOF";
    let all = samples(body, Format::OpenMetrics).expect("parses");
    let times: Vec<_> = all.iter().filter_map(|sample| sample.3).collect();
    assert_eq!(times, [1002, -3000, i64::MAX, 1_500_000]);
}

#[test]
fn open_metrics_rules_beyond_the_suite() {
    let cases = [
        ("", false),
        ("a{a=\"1\",} 1\n# EOF\n", false),
        ("a{a=\"1\"b=\"2\"} 1\n# EOF\n", false),
        ("a  1\n# EOF\n", false),
        ("a 1 \n# EOF\n", false),
        ("a 1\r\n# EOF\n", false),
        ("# TYPE a histogram\na_bucket{le=\"2\"} 0\na_bucket{le=\"1\"} 0\n# EOF\n", false),
        ("# TYPE a histogram\na_bucket{le=\"1\"} 3\na_bucket{le=\"+Inf\"} 2\n# EOF\n", false),
        ("# TYPE a histogram\na_bucket{le=\"+Inf\"} 0.5\n# EOF\n", false),
        ("# TYPE a info\n# TYPE a counter\n# EOF\n", false),
        ("# TYPE a stateset\na 0\n# EOF\n", false),
        ("# TYPE a gauge\na{b=\"1\"} 1\na{b=\"2\"} 1\na{b=\"1\"} 2\n# EOF\n", false),
        ("# TYPE a counter\na_total 1 # {x=\"y\"} 1 1\n# EOF\n", true),
        ("# TYPE a counter\na_total 1 5 # {x=\"y\"} 1 1.5\n# EOF\n", true),
        (
            "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds{b=\"1\",c=\"2\"} 1\n# EOF\n",
            true,
        ),
        ("# TYPE a info\na_info{v=\"1\"} 1\na_info{v=\"2\"} 1\n# EOF\n", true),
        ("{\"a.b\",c=\"d\"} 1\n# EOF\n", true),
    ];
    for (text, good) in cases {
        let result = samples(text.as_bytes(), Format::OpenMetrics);
        assert_eq!(result.is_ok(), good, "{text:?}: {result:?}");
    }
    let long = format!("# TYPE a counter\na_total 1 # {{x=\"{}\"}} 1\n# EOF\n", "y".repeat(128));
    assert!(samples(long.as_bytes(), Format::OpenMetrics).is_err());
}

#[test]
fn open_metrics_conformance() {
    let folder = std::env::var_os("CONFORMANCE_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance")),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(folder.join("openmetrics")) else {
        let folder = folder.display();
        let _ = writeln!(std::io::stderr(), "SKIPPED: {folder}/openmetrics not found");
        return;
    };
    let (mut passed, mut wrong) = (0, Vec::new());
    for entry in entries {
        let path = entry.expect("readable").path();
        let body = std::fs::read(path.join("metrics")).expect("metrics");
        let test = std::fs::read_to_string(path.join("test.json")).expect("test.json");
        let test: serde_json::Value = serde_json::from_str(&test).expect("JSON");
        let result = samples(&body, Format::OpenMetrics);
        if test["shouldParse"].as_bool() == Some(result.is_ok()) {
            passed += 1;
        } else {
            wrong.push(format!("{}: {result:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{passed} pass, these do not:\n{}", wrong.join("\n"));
    assert!(passed > 100, "{passed}");
}

#[test]
fn recorded_kubelet_bodies_are_read() {
    let folder = std::env::var_os("FIXTURES_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        PathBuf::from,
    );
    for (file, at_least) in
        [("k136/kubelet_metrics_cadvisor.txt.gz", 500), ("k120/kubelet_metrics.txt.gz", 500)]
    {
        let path = folder.join("kubernetes").join(file);
        let Ok(packed) = std::fs::File::open(&path) else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", path.display());
            continue;
        };
        let mut body = Vec::new();
        let mut unpack = flate2::read::GzDecoder::new(packed);
        std::io::Read::read_to_end(&mut unpack, &mut body).expect("gzip");
        let found = samples(&body, Format::Text).expect("parses").len();
        let lines = body.split(|b| *b == b'\n').filter(|l| !l.is_empty() && l[0] != b'#').count();
        assert_eq!(found, lines, "{file}");
        assert!(found > at_least, "{file}: {found}");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}",
        labels in proptest::collection::btree_map("[a-zA-Z][a-zA-Z0-9_]{0,6}", any::<String>(), 0..6),
        value in any::<f64>(),
        timestamp in proptest::option::of(any::<i64>()),
    ) {
        let written: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{}\"", escape(v))).collect();
        let time = timestamp.map(|t| format!(" {t}")).unwrap_or_default();
        let text = format!("{name}{{{}}} {value:?}{time}\n", written.join(","));
        let (got_name, got_labels, got_value, got_time) = one(&text).expect("a sample");
        prop_assert_eq!(got_name, name);
        prop_assert_eq!(got_labels, labels.into_iter().collect::<Vec<_>>());
        prop_assert!(got_value == value || got_value.is_nan() && value.is_nan());
        prop_assert_eq!(got_time, timestamp);
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9{}=\",# \\\\\n\t.+éEOFTYPHL_-]{0,80}", open in any::<bool>()) {
        let format = if open { Format::OpenMetrics } else { Format::Text };
        if let Err(error) = samples(text.as_bytes(), format) {
            let lines = text.split('\n').collect::<Vec<_>>();
            prop_assert!(error.line <= lines.len());
            prop_assert!(error.column <= lines[error.line - 1].len() + 1);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        for format in [Format::Text, Format::OpenMetrics] {
            let _any = samples(&bytes, format).is_ok();
        }
    }

    #[test]
    fn what_open_metrics_allows_text_reads_alike(value in -1e6_f64..1e6, label in "[a-z\"\\\\\n#]{0,8}") {
        let line = format!("# TYPE a gauge\na{{b=\"{}\"}} {value:?}\n", escape(&label));
        let strict = samples(format!("{line}# EOF\n").as_bytes(), Format::OpenMetrics);
        prop_assert_eq!(strict, samples(line.as_bytes(), Format::Text));
    }
}
