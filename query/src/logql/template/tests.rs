use proptest::prelude::*;
use taffrail_model::{Labels, Level};

use super::*;
use crate::source::LogRow;

fn labels() -> LineLabels {
    let mut labels = LineLabels::new();
    let row = LogRow { ts: 0, line: "", level: Level::Unknown, metadata: &[("took", "1.5s")] };
    labels.begin(
        &Labels::from_pairs([("level", "error"), ("code", "500"), ("msg", "héllo wörld")]),
        &row,
    );
    labels
}

fn render(text: &str) -> Result<String, String> {
    Template::compile(text)?.render(1_795_187_980_000_000_001, "the line", &labels())
}

#[test]
fn templates_and_what_they_give() {
    let cases = [
        ("plain", "plain"),
        ("{{.level}}: {{ .nope }}!", "error: !"),
        ("{{.level | upper}}", "ERROR"),
        ("{{ .level | upper | trunc 3 }}", "ERR"),
        ("{{ __line__ }} {{ __timestamp__ | unixEpoch }}", "the line 1795187980"),
        (
            "{{ printf \"\\x1b[31m%s|%5d|%-6s|%.2f\" .level 7 .code 1.5 }}",
            "\u{1b}[31merror|    7|500   |1.50",
        ),
        ("{{ if eq .level \"error\" }}E{{ else if eq .level \"warn\" }}W{{ else }}-{{ end }}", "E"),
        ("{{ if and (hasPrefix \"5\" .code) (not (contains \"x\" .msg)) }}yes{{ end }}", "yes"),
        ("a {{- /* gone */ -}} b", "ab"),
        ("a {{- .code -}} b", "a500b"),
        ("{{ div (int .code) 3 }} {{ addf .code 0.5 }}", "166 500.5"),
        ("{{ .nope | default \"none\" }}", "none"),
        (
            "{{ substr 0 3 .msg }} {{ alignRight 4 .code }}|{{ alignLeft 4 .code }}|",
            "hél  500|500 |",
        ),
        ("{{ regexReplaceAll \"(w)ö(r)\" .msg \"${2}o${1}\" }}", "héllo rowld"),
        ("{{ .took | duration }} {{ bytes \"2KB\" }}", "1.5 2000"),
        ("{{ Replace .msg \"l\" \"L\" 1 }} {{ replace \"l\" \"\" .msg }}", "héLlo wörld héo wörd"),
        ("{{ `a}}b` }}", "a}}b"),
        ("{{ urlencode \"a b&\" | urldecode }}", "a b&"),
    ];
    for (template, expected) in cases {
        assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_is_not_supported_is_refused_when_read() {
    for template in [
        "{{ range .x }}{{ end }}",
        "{{ $x := 1 }}",
        "{{ date \"2006\" now }}",
        "{{ . }}",
        "{{ .a.b }}",
        "{{ if .level }}x",
        "{{ end }}",
        "{{ upper }}",
        "{{ .level",
        "{{ .level .code }}",
        "{{ regexReplaceAll .level .msg \"x\" }}",
        "{{ regexReplaceAll \"(\" .msg \"x\" }}",
        "{{ (.level }}",
        "{{}}",
    ] {
        assert!(Template::compile(template).is_err(), "{template}");
    }
    let deep = format!("{{{{ {}.level{} }}}}", "(".repeat(100), ")".repeat(100));
    assert!(Template::compile(&deep).is_err());
}

#[test]
fn what_goes_wrong_with_a_line_is_an_error_of_the_line() {
    for template in
        ["{{ div 1 0 }}", "{{ repeat 9999999 .level }}", "{{ eq .code 500 }}", "{{ bytes .level }}"]
    {
        assert!(render(template).is_err(), "{template}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[{}a-z.|() \"`0-9é%-]{0,40}") {
        let _ = render(&text);
        let _ = render(&format!("{{{{{text}}}}}"));
    }

    #[test]
    fn printf_never_panics(format in "[%a-z0-9.+# -]{0,12}") {
        let _ = printf::printf(&format, &[Value::Text("é".into()), Value::Float(f64::NAN)]);
    }
}
