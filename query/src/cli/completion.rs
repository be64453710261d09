//! `taffrail completion`: what a shell needs to complete commands and flags.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Error;
use super::screen::Screen;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell, whose start-up file reads what is written: `source <(taffrail completion bash)`.
    shell: Shell,
}

/// Writes the shell's script.
pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<bool, Error> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut super::Arguments::command(), "taffrail", &mut script);
    screen.text(&String::from_utf8_lossy(&script))?;
    Ok(true)
}
