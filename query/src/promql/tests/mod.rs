//! Prometheus' own test scripts, run over [`super::oracle::VecSource`].
//!
//! `script` reads the language, `store` holds what a script loads, `run` asks and compares.

mod engine;
mod run;
mod script;
mod store;

use std::path::PathBuf;

/// Evaluations that pass; a smaller number is a regression.
const PASSED_MIN: usize = 749;

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

#[test]
fn conformance() {
    let Some(paths) = scripts().filter(|paths| !paths.is_empty()) else {
        eprintln!("SKIPPED: PromQL conformance scripts not found; set CONFORMANCE_DIR");
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
