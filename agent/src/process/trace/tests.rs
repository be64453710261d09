//! Real traces of each language, and what must not be taken for one.

use proptest::prelude::*;
use taffrail_model::Level;

use super::*;

/// Each file of samples: a language and its traces.
pub(crate) fn samples() -> Vec<(&'static str, Vec<&'static str>)> {
    let files = [
        ("java", include_str!("../../../testdata/traces/java.txt")),
        ("python", include_str!("../../../testdata/traces/python.txt")),
        ("go", include_str!("../../../testdata/traces/go.txt")),
        ("ruby", include_str!("../../../testdata/traces/ruby.txt")),
        ("node", include_str!("../../../testdata/traces/node.txt")),
        ("rust", include_str!("../../../testdata/traces/rust.txt")),
        ("dotnet", include_str!("../../../testdata/traces/dotnet.txt")),
        ("php", include_str!("../../../testdata/traces/php.txt")),
        ("dart", include_str!("../../../testdata/traces/dart.txt")),
    ];
    files.map(|(name, text)| (name, text.trim_end().split("\n=====\n").collect())).into()
}

/// Whether all lines are one record, by the automaton alone.
fn joins(trace: &str, languages: Languages) -> Result<(), String> {
    let mut lines = trace.lines();
    let first = lines.next().expect("a line");
    let mut state =
        start(first.as_bytes(), crate::tail::level::detect(first.as_bytes()), languages)
            .ok_or_else(|| format!("does not start: {first}"))?;
    let mut doubtful = 0;
    for line in lines {
        let level = crate::tail::level::detect(line.as_bytes());
        match next(state, line.as_bytes(), level, languages) {
            Verdict::Joins(then) => (state, doubtful) = (then, 0),
            Verdict::Perhaps(then) => (state, doubtful) = (then, doubtful + 1),
            Verdict::Ends => return Err(format!("{state:?} ends at: {line}")),
        }
    }
    if doubtful == 0 { Ok(()) } else { Err(format!("{doubtful} lines are doubtful")) }
}

#[test]
fn traces_of_each_language_are_one_record() {
    let mut failures = Vec::new();
    for (language, traces) in samples() {
        let own = Languages::named(language).expect("a language");
        for (number, trace) in traces.iter().enumerate() {
            for languages in [Languages::ALL, own] {
                if let Err(why) = joins(trace, languages) {
                    failures.push(format!("{language} {number} {languages:?}: {why}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_follows_a_trace_ends_it() {
    let lines = [
        "2026-11-20 14:51:33 INFO next request",
        "[14:51:33] served",
        r#"{"level":"info","msg":"next"}"#,
        "I1120 14:51:33.000000       1 a.go:1] next",
        "level=info msg=next",
        "INFO:root:next",
    ];
    for (language, traces) in samples() {
        for trace in traces {
            for line in lines {
                let longer = format!("{trace}\n{line}");
                assert!(joins(&longer, Languages::ALL).is_err(), "{language}: {longer}");
            }
        }
    }
}

#[test]
fn usual_lines_begin_nothing() {
    let lines = [
        "served GET / in 3 ms",
        r#"{"level":"error","msg":"Exception"}"#,
        "    indented yaml: true",
        "\tat the end of the day",
        "level=info msg=ok",
        "2026-11-20T14:51:32Z INFO started",
        "I1120 14:51:33.000000       1 a.go:1] next",
        "10.0.0.1 - - \"GET / HTTP/1.1\" 200",
        "thread pool has 4 threads",
        "goroutine count is 12",
        "panicking is not helpful",
        "",
        "-----BEGIN CERTIFICATE-----",
        "/healthz:200",
        "www.example.com: ok",
    ];
    for line in lines {
        let found =
            start(line.as_bytes(), crate::tail::level::detect(line.as_bytes()), Languages::ALL);
        let allowed = line.starts_with("\tat ") || line.starts_with("panicking");
        assert!(found.is_none() || allowed, "{found:?}: {line}");
    }
}

#[test]
fn languages_have_names() {
    for name in Languages::names() {
        assert!(Languages::named(name).is_some_and(|l| l != Languages::NONE), "{name}");
    }
    assert_eq!(Languages::named("cobol"), None);
    let python = Languages::named("python").expect("known");
    assert_eq!(start(b"panic: boom", Level::Unknown, python), Some(State::Header));
    assert_eq!(
        start(b"Traceback (most recent call last):", Level::Unknown, python),
        Some(State::PyFrames)
    );
    assert_eq!(start(b"ERROR x", Level::Error, Languages::NONE), None);
}

#[test]
fn private_keys_behind_something_are_kept_together() {
    let long = "MIIEpAIBAAKCAQEA".repeat(4);
    let none = Languages::NONE;
    for head in
        ["2026 INFO key is -----BEGIN RSA PRIVATE KEY-----", "  -----BEGIN PRIVATE KEY-----"]
    {
        assert_eq!(start(head.as_bytes(), Level::Info, none), Some(State::Key), "{head}");
        assert_eq!(start_key(head.as_bytes()), Some(State::Key), "{head}");
    }
    let closed = "-----BEGIN PRIVATE KEY-----\\nMII\\n-----END PRIVATE KEY-----";
    assert_eq!(start_key(closed.as_bytes()), None);
    let joins = Verdict::Joins(State::Key);
    for (line, expected) in [
        (format!("    {long}"), joins),
        (format!("2026 INFO {long}"), joins),
        (format!("\"{long}\","), joins),
        ("somebody else's line".to_owned(), Verdict::Perhaps(State::Key)),
        ("  -----END PRIVATE KEY----- ok".to_owned(), Verdict::Joins(State::Done)),
    ] {
        assert_eq!(next(State::Key, line.as_bytes(), Level::Info, none), expected, "{line}");
    }
}

#[test]
fn private_keys_are_kept_together() {
    let key =
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nabc+/=\n-----END RSA PRIVATE KEY-----";
    assert_eq!(joins(key, Languages::ALL), Ok(()));
    assert!(joins(&format!("{key}\nx"), Languages::ALL).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        head in prop_oneof![
            Just(""), Just(" "), Just("\t"), Just("goroutine "), Just("thread '"), Just("Next "),
            Just("SIG"), Just("/"), Just("\"}"), Just("at "), Just("-----BEGIN "), Just("a.rb:1:in "),
        ],
    ) {
        let line = [head.as_bytes(), &bytes].concat();
        let _ = start(&line, Level::Unknown, Languages::ALL);
        for state in [
            State::Header, State::Source, State::Head, State::Frames, State::FramesBlank, State::Props,
            State::Causes, State::PyFrames, State::PyRaised, State::PyBlank, State::PyChain,
            State::GoHead, State::GoFrames, State::GoBlank, State::RustHead, State::RustMessage,
            State::RustFrames, State::RustNotes, State::DotnetLog, State::Key, State::Custom, State::Done,
        ] {
            let _ = next(state, &line, Level::Unknown, Languages::ALL);
        }
    }
}
