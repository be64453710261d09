//! Why a program does not run, and what it says then. Pure but for [`Stop::report`], which prints.

use std::fmt;

use super::Problem;

/// Why the program does not run.
#[derive(Debug)]
pub enum Stop {
    /// `--help`, `--version`, `--check` or `--print-config` was asked: print the text and exit with 0.
    Asked(String),
    /// The command line itself cannot be read: print the text and exit with 2.
    Usage(String),
    /// These are wrong, all of them: print them and exit with 1.
    Problems(Vec<Problem>),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(text) | Self::Usage(text) => f.write_str(text),
            Self::Problems(problems) => {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl Stop {
    /// Prints what is to be said where it belongs and returns the exit code.
    #[must_use]
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program ends here")]
    pub fn report(&self) -> std::process::ExitCode {
        match self {
            Self::Asked(text) => {
                print!("{text}");
                std::process::ExitCode::SUCCESS
            }
            Self::Usage(text) => {
                eprint!("{text}");
                std::process::ExitCode::from(2)
            }
            Self::Problems(_) => {
                eprintln!("{self}");
                std::process::ExitCode::FAILURE
            }
        }
    }
}
