//! What was measured of other agents, read from the page of measurements beside the project.

use std::path::Path;

/// The rows of the table of agents, and of the targets that are the agent's. Says loudly when the
/// page is not there.
pub(crate) fn print(path: &Path) {
    let Ok(page) = std::fs::read_to_string(path) else {
        println!(
            "\nPEERS ARE MISSING: {} cannot be read; give --measurements PATH\n",
            path.display()
        );
        return;
    };
    println!("\npeers, from {}:", path.display());
    let mut found = 0;
    let mut heading = "";
    for line in page.lines() {
        if line.starts_with("## ") {
            heading = line;
        }
        let agents = heading.starts_with("## Agents") && line.starts_with('|');
        let target = heading.starts_with("## Targets") && line.starts_with("| agent");
        if agents || target {
            println!("{line}");
            found += 1;
        }
    }
    if found == 0 {
        println!("PEERS ARE MISSING: there is no table of agents on that page");
    }
    println!();
}
