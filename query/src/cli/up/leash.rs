//! Ties a program to `up`: when `up` is killed, so that it can end nothing itself, the system sends
//! SIGTERM to the programs that it has started. A program is therefore started through this one,
//! which asks the system for that and then becomes the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::super::Error;

/// Name of the hidden subcommand.
pub(super) const NAME: &str = "child-of-up";

/// What to become, and for whom.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The process of `up`.
    parent: u32,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Becomes the program; returns only why that failed.
pub(in crate::cli) fn become_child(arguments: &Arguments) -> Error {
    #[cfg(target_os = "linux")]
    {
        let term = Some(rustix::process::Signal::TERM);
        if let Err(error) = rustix::process::set_parent_process_death_signal(term) {
            return Error::Start(error.into());
        }
        // Whoever is gone already sends no signal any more.
        if std::os::unix::process::parent_id() != arguments.parent {
            return Error::Start(std::io::Error::other("`taffrail up` has ended meanwhile"));
        }
    }
    let Some((program, rest)) = arguments.words.split_first() else {
        return Error::Start(std::io::Error::other("no program was named"));
    };
    Error::Start(Command::new(program).args(rest).exec())
}
