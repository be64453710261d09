//! Pages that are made from the code, and links between pages.
//!
//! With `UPDATE_DOCS=1` in the environment the pages are written instead of compared.

use std::path::{Path, PathBuf};

use taffrail_kit::config::units;

use crate::stack::workspace;

const SETTINGS_HEAD: &str = "# Settings

Each setting has a flag, an environment variable and a key in the YAML file that `--config` names;
the flag wins over the variable, the variable over the file, the file over the default. A dot in a key
is nesting in the file. All problems are reported at once, each with its place.

Values: SIZE is a number with `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB` or `TiB`; DURATION is a
number with `ms`, `s`, `m`, `h`, `d` or `w`; ADDR is `IP:PORT`, and `:PORT` means all addresses. LIST is
words separated by commas, in the file also a list.

Reload: `yes` means that a new value in the file holds while the program runs, within seconds or at a
SIGHUP; `restart` that it waits for the next start, and until then `/status` names the key and
`taffrail_config_restart_needed` counts it. A flag or a variable goes before the file here too.

This page is made from the tables in the code; `UPDATE_DOCS=1 cargo test -p taffrail-sim docs` writes
it again.
";

#[test]
fn the_page_of_settings_is_what_the_binaries_have() {
    let page = format!(
        "{SETTINGS_HEAD}\n{}\n{}",
        taffrail_collector::config::SCHEMA.reference(),
        taffrail_agent::config::SCHEMA.reference()
    );
    let path = workspace().join("docs/settings.md");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &page).expect("docs/ can be written");
    }
    let there = std::fs::read_to_string(&path).expect("docs/settings.md is there");
    assert!(
        there == page,
        "docs/settings.md is not what the code says; UPDATE_DOCS=1 cargo test -p taffrail-sim docs"
    );
}

#[test]
fn the_page_of_settings_says_the_units_that_are_read() {
    for unit in ["B", "kB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB"] {
        assert!(units::bytes(&format!("1{unit}")).is_some(), "{unit}");
    }
    for unit in ["ms", "s", "m", "h", "d", "w"] {
        assert!(units::duration(&format!("1{unit}")).is_some(), "{unit}");
    }
}
/// The pages of the project, outside what was built or fetched.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            pages(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut found = Vec::new();
    pages(workspace(), &mut found);
    assert!(found.len() > 3, "{found:?}");
    for page in found {
        let text = std::fs::read_to_string(&page).expect("readable");
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let folder = page.parent().expect("a page lies in a folder");
            assert!(folder.join(target).exists(), "{}: {target} is not there", page.display());
        }
    }
}

#[test]
fn example_settings_are_accepted() {
    let examples = workspace().join("deploy/examples");
    let schemas = [
        ("agent.yaml", &taffrail_agent::config::SCHEMA),
        ("collector.yaml", &taffrail_collector::config::SCHEMA),
    ];
    for (name, schema) in schemas {
        let path = examples.join(name);
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| e.to_string());
        let arguments = ["--config".into(), path.into_os_string()];
        let loaded = schema.load_from(arguments, &|_| None, &read);
        assert!(loaded.is_ok(), "{name}: {}", loaded.expect_err("not ok"));
    }
}
