//! Prometheus' own test scripts, run over [`super::oracle::VecSource`].
//!
//! `script` reads the language, `store` holds what a script loads, `run` asks and compares.

mod answers;
mod engine;
mod grown;
mod run;
mod script;
mod store;

use std::io::Write as _;
use std::path::PathBuf;

/// Evaluations that pass; a smaller number is a regression.
const PASSED_MIN: usize = 783;

fn scripts() -> Option<Vec<PathBuf>> {
    let base = std::env::var_os("CONFORMANCE_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance")),
        PathBuf::from,
    );
    let mut paths: Vec<PathBuf> = std::fs::read_dir(base.join("promql"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    Some(paths)
}

/// Said past the harness, which keeps what passing tests print to itself.
fn skipped() {
    let text = "SKIPPED: PromQL conformance scripts not found; set CONFORMANCE_DIR";
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn conformance() {
    let Some(paths) = scripts().filter(|paths| !paths.is_empty()) else {
        skipped();
        return;
    };
    let (mut passed, mut total) = (0, 0);
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a script can be read");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let report = run::script(&text);
        eprintln!("{name}: {} of {}", report.passed, report.passed + report.failures.len());
        for failure in &report.failures {
            eprintln!("  {name}:{failure}");
        }
        passed += report.passed;
        total += report.passed + report.failures.len();
    }
    eprintln!("PromQL conformance: {passed} of {total} evaluations pass");
    assert!(passed >= PASSED_MIN, "{passed} evaluations pass, {PASSED_MIN} did before");
}

/// Another parser of the same language: what it accepts, ours accepts or refuses by name.
#[test]
fn accepts_what_another_parser_accepts() {
    let Some(paths) = scripts().filter(|paths| !paths.is_empty()) else {
        skipped();
        return;
    };
    let (mut both, mut only_ours) = (0, 0);
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a script can be read");
        for command in script::read(&text) {
            let script::Command::Eval(eval) = command else {
                continue;
            };
            let theirs = promql_parser::parser::parse(&eval.query);
            match (super::parse(&eval.query), theirs) {
                (Ok(_), Ok(_)) => both += 1,
                (Ok(_), Err(_)) => only_ours += 1,
                (Err(error), Ok(_)) => {
                    let may_fail = eval.expect.iter().any(|e| e.topic == script::Topic::Fail);
                    let refused = error.message.contains("is not supported");
                    assert!(may_fail || refused, "{}: {error}", eval.query);
                }
                (Err(_), Err(_)) => {}
            }
        }
    }
    eprintln!("parsers: both accept {both}, only ours {only_ours}");
    assert!(both > 1000, "{both}");
}
