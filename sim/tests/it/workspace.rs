//! Who may depend on whom, read from the manifests and sources.

use std::path::{Path, PathBuf};

use crate::stack::workspace;

/// Each crate with the crates of ours that it may depend on.
const MAY: [(&str, &[&str]); 6] = [
    ("model", &[]),
    ("kit", &[]),
    ("query", &["model", "kit"]),
    ("agent", &["model", "kit"]),
    ("collector", &["model", "kit", "query"]),
    ("sim", &["model", "kit", "query", "agent", "collector"]),
];

fn dependencies(name: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(workspace().join(name).join("Cargo.toml"))
        .expect("every crate has a manifest");
    let (_, dependencies) = manifest.split_once("[dependencies]").expect("it has dependencies");
    dependencies
        .lines()
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|word| !word.is_empty() && !word.starts_with('['))
        .map(str::to_owned)
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn crates_depend_in_one_direction() {
    for (name, may) in MAY {
        for dependency in dependencies(name) {
            if let Some(ours) = dependency.strip_prefix("taffrail-") {
                assert!(may.contains(&ours), "{name} must not depend on {ours}");
            }
        }
    }
}

#[test]
fn tantivy_and_kube_stay_in_their_rooms() {
    for (name, _) in MAY {
        let has = |dependency: &str| dependencies(name).iter().any(|d| d == dependency);
        assert!(!has("tantivy") || name == "collector", "{name} uses tantivy");
        assert!(!has("kube") || matches!(name, "agent" | "collector"), "{name} uses kube");
    }
    let outside: Vec<PathBuf> = sources(&workspace().join("collector/src"))
        .into_iter()
        .filter(|path| !path.starts_with(workspace().join("collector/src/logs")))
        .filter(|path| std::fs::read_to_string(path).expect("readable").contains("tantivy::"))
        .collect();
    assert!(outside.is_empty(), "tantivy outside collector/src/logs: {outside:?}");
}

#[test]
fn every_source_file_says_what_lives_there() {
    for (name, _) in MAY {
        for path in sources(&workspace().join(name).join("src")) {
            let text = std::fs::read_to_string(&path).expect("readable");
            let test_module = path
                .file_stem()
                .is_some_and(|s| s == "tests" || s.to_string_lossy().ends_with("_tests"));
            assert!(test_module || text.starts_with("//!"), "{} has no header", path.display());
        }
    }
}
