//! What annotations do, and what is said of those that cannot be used.

use super::*;
use crate::process::redact::Outcome;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn rules(pairs: &[(&str, &str)], container: Option<&str>) -> (Rules, Vec<Problem>) {
    let (mut rules, mut problems) = (Rules::default(), Vec::new());
    apply(&map(pairs), container, &mut rules, &mut problems);
    (rules, problems)
}

#[test]
fn each_key_does_something() {
    let (rules, problems) = rules(
        &[
            ("taffrail.dev/exclude", "true"),
            ("taffrail.dev/streams", "stderr"),
            ("taffrail.dev/multiline", "java, python"),
            ("taffrail.dev/parser", "json"),
            ("taffrail.dev/timestamp", "parsed"),
            ("taffrail.dev/sample", "10%"),
            ("taffrail.dev/rate-limit", "1000/s"),
            ("taffrail.dev/redact", "pci, email=drop"),
            ("taffrail.dev/redact-pattern", r"TCK-\d+"),
            ("taffrail.dev/log-volumes", "logs"),
            ("prometheus.io/scrape", "true"),
        ],
        Some("main"),
    );
    assert_eq!(problems, []);
    assert!(rules.exclude);
    assert_eq!(rules.streams, [false, true, true]);
    assert!(
        matches!(rules.multiline, Multiline::Traces(l) if l != Languages::ALL && l != Languages::NONE)
    );
    assert_eq!((rules.parser, rules.time), (Parser::Json, TimeOf::Line));
    assert_eq!(rules.sample.map(|s| s.to_string()), Some("sample 10%".into()));
    assert_eq!(rules.rate.map(|r| r.to_string()), Some("rate limit 1000/s".into()));
    let mut out = Vec::new();
    assert_eq!(rules.redactor.apply(b"TCK-1 4111111111111111", &mut out), Outcome::Changed(2));
    assert_eq!(out, b"[redacted] [card]");
    assert_eq!(rules.redactor.apply(b"a@example.org", &mut out), Outcome::Dropped);
}

#[test]
fn a_container_goes_before_its_pod() {
    let pairs = [
        ("main.taffrail.dev/multiline", "off"),
        ("taffrail.dev/multiline", "start:^\\d"),
        ("taffrail.dev/sample", "5%"),
        ("side.taffrail.dev/exclude", "true"),
    ];
    let (main, _) = rules(&pairs, Some("main"));
    assert!(matches!(main.multiline, Multiline::Off) && main.sample.is_some() && !main.exclude);
    let (side, _) = rules(&pairs, Some("side"));
    assert!(matches!(side.multiline, Multiline::Start(_)) && side.exclude);
    let (volume, _) = rules(&pairs, None);
    assert!(matches!(volume.multiline, Multiline::Start(_)) && !volume.exclude);
}

#[test]
fn a_bad_annotation_is_told_and_the_others_hold() {
    let cases = [
        ("exclude", "yes", "expected true or false"),
        ("streams", "out", "expected stdout, stderr or both"),
        ("multiline", "cobol", "expected off, auto, start:REGEX or some of java"),
        ("multiline", "start:(", "not a regular expression: unclosed group"),
        ("multiline", "start:", "expected a regular expression of 1 to"),
        ("multiline", "start:x*", "matches nothing at all"),
        ("multiline", r"start:(\w{500}){500}", "too large"),
        ("parser", "xml", "expected one of auto, json, logfmt, klog, none"),
        ("timestamp", "mine", "expected runtime or parsed"),
        ("sample", "10", "expected a percentage"),
        ("rate-limit", "fast", "expected lines per s, m or h"),
        ("redact", "names", "\"names\" is not known; expected some of secrets, pci, healthcare"),
        ("redact", "email=burn", "expected =mask, =hash or =drop"),
        ("redact", "", "expected some of"),
        ("redact", "email=hash", "no redact.key_file"),
    ];
    for (key, value, message) in cases {
        let name = format!("taffrail.dev/{key}");
        let (rules, problems) =
            rules(&[(&name, value), ("main.taffrail.dev/sample", "5%")], Some("main"));
        let found = problems.iter().find(|p| p.annotation == name).expect(value);
        assert!(found.message.contains(message), "{found:?}");
        assert_eq!(found.value, value);
        assert!(rules.sample.is_some());
    }
}

#[test]
fn names_that_nobody_reads_are_told() {
    let annotations = map(&[
        ("taffrail.dev/sampel", "10%"),
        ("taffrail.dev/log-volumes", "logs"),
        ("main.taffrail.dev/exclude", "true"),
        ("mian.taffrail.dev/exclude", "true"),
        ("main.taffrail.dev/log-volumes", "logs"),
        ("prometheus.io/whatever", "x"),
        ("nottaffrail.dev/exclude", "x"),
    ]);
    let mut problems = Vec::new();
    misnamed(&annotations, &["main", "side"], &["log-volumes"], &mut problems);
    let names: Vec<&str> = problems.iter().map(|p| p.annotation.as_str()).collect();
    assert_eq!(
        names,
        ["main.taffrail.dev/log-volumes", "mian.taffrail.dev/exclude", "taffrail.dev/sampel"]
    );
    assert!(problems[1].message.contains("no container \"mian\"; expected one of main, side"));
}

#[test]
fn patterns_of_tenants_are_small() {
    let slow = "(?-u:(?:[a-z0-9]{1,90} ?){1,40}zz[0-9])";
    assert!(pattern(slow).is_ok(), "the settings may");
    let refused = small_pattern(slow).expect_err("too slow");
    assert_eq!(refused, "the regular expression is too large");
    for usual in
        [r"customer=(\w+)", r"^\d{4}-\d{2}-\d{2} \d{2}:\d{2}", r"\bTCK-\d+\b", r"^\[\w+\] \S+"]
    {
        assert!(small_pattern(usual).is_ok(), "{usual}");
    }
}
