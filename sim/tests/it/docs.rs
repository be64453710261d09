//! Pages that are made from the code.
//!
//! With `UPDATE_DOCS=1` in the environment the pages are written instead of compared.

use taffrail_kit::config::units;

use crate::stack::workspace;

const SETTINGS_HEAD: &str = "# Settings

Each setting has a flag, an environment variable and a key in the YAML file that `--config` names;
the flag wins over the variable, the variable over the file, the file over the default. A dot in a key
is nesting in the file. All problems are reported at once, each with its place.

Values: SIZE is a number with `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB` or `TiB`; DURATION is a
number with `ms`, `s`, `m`, `h`, `d` or `w`; ADDR is `IP:PORT`, and `:PORT` means all addresses.

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
