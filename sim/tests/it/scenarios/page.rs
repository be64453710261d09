//! The table of scenarios in `docs/scenarios.md`, made from the rows and from what is said here of
//! those that are tested elsewhere or not at all.

use super::ROWS;
use crate::stack::workspace;

const HEAD: &str = "# Scenarios

Ways in which node agents lose or double lines, and what is done to the agent to see that it does
not. Most rows run the real binary on real files against a collector that fails as it is told
(`sim/src/sink.rs`); each ends with all lines delivered once and in order, the agent ended kindly, and
a second agent that finds nothing to send again. Sizes and times are smaller than in production so
that all rows run in about a minute:

```
cargo build --bins && cargo test -p taffrail-sim --test it scenarios -- --nocapture
```

Rows that need root, a mount or a name space of their own say `SKIPPED` where they cannot have it.
This page is made from the table in the code; `UPDATE_DOCS=1 cargo test -p taffrail-sim page_of_scenarios`
writes it again.

## Tested here

| Row | What happens | Test in `sim/tests/it/scenarios/` |
|---|---|---|
";

/// Row, what happens, and the test elsewhere.
const ELSEWHERE: [(&str, &str, &str); 11] = [
    ("C3", "SIGKILL of agent and collector at random moments", "`sim/tests/it/exactly_once.rs`"),
    (
        "C5",
        "state of an earlier start damaged",
        "positions are kept by the collector; C6 for the spool",
    ),
    (
        "S3",
        "collector away, the bound of the spool reached: the loss is what the records say",
        "`sim/tests/it/spool.rs`",
    ),
    ("O1", "state folder on a full disk", "`sim/tests/it/spool.rs`"),
    ("O5", "settings reloaded a hundred times under load", "`sim/tests/it/reload.rs`"),
    ("F11", "stack traces across rotation and SIGKILL", "`sim/tests/it/meaning.rs`"),
    ("F12", "stack traces of two outputs mixed", "`agent/src/process/`"),
    ("V4", "subPath mounts", "`agent/src/pods/volumes/`"),
    ("O7", "little memory", "bounds of R4, S8, F5, D3, O6 on resident memory"),
    (
        "M7",
        "kind of a container",
        "structured metadata `container_kind`: `agent/src/process/source/`; its name is the label",
    ),
    (
        "D5",
        "the number of the start in each record",
        "the path of the file, with each range on the wire",
    ),
];

/// Row, what happens, and why it is not tested.
const NOT: [(&str, &str, &str); 6] = [
    (
        "C4",
        "power loss, every prefix of the writes",
        "needs a block device that forgets; the journal's tests cut and damage its files",
    ),
    ("S10", "two outputs, one dead", "there is one collector by design"),
    ("V5", "one volume on two nodes", "duplicates are declared: each node is a reader of its own"),
    ("V6", "a volume moves to another node with its pod", "positions are kept by node"),
    (
        "O3",
        "EIO of a log file",
        "needs a broken block device; R13 and D13 have files that cannot be read",
    ),
    (
        "D12",
        "100,000 files in a folder",
        "tested with 5,000; the first look at very many files is slow",
    ),
];

fn page() -> String {
    let rows = ROWS
        .iter()
        .map(|row| format!("| {} | {} | `{}::{}` |\n", row.id, row.what, row.room, row.name));
    let other = |rows: &[(&str, &str, &str)]| -> String {
        rows.iter().map(|(id, what, why)| format!("| {id} | {what} | {why} |\n")).collect()
    };
    format!(
        "{HEAD}{}\n## Tested elsewhere\n\n| Row | What happens | Where |\n|---|---|---|\n{}\n\
         ## Not tested\n\n| Row | What happens | Why |\n|---|---|---|\n{}",
        rows.collect::<String>(),
        other(&ELSEWHERE),
        other(&NOT)
    )
}

#[test]
fn the_page_of_scenarios_is_what_is_tested() {
    let path = workspace().join("docs/scenarios.md");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|v| v == "1") {
        std::fs::write(&path, page()).expect("docs/ can be written");
    }
    let there = std::fs::read_to_string(&path).expect("docs/scenarios.md is there");
    assert!(
        there == page(),
        "docs/scenarios.md is old; UPDATE_DOCS=1 cargo test -p taffrail-sim page_of_scenarios"
    );
}
