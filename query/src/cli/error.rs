//! Why a command did not do what it was asked to. The text is for the person at the keyboard.

use std::io;
use std::path::PathBuf;

/// An error of any command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A flag or argument cannot be understood.
    #[error("{flag}: {reason}")]
    Argument {
        /// The flag, as typed.
        flag: &'static str,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("{0}")]
    Connection(taffrail_kit::http::Error),
    /// Nobody listens at the address.
    #[error(
        "nobody answers at {addr} ({reason})\nStart one with `taffrail up`, or name another with --addr or TAFFRAIL_ADDR."
    )]
    Unreachable {
        /// The address that was tried.
        addr: String,
        /// What the system says.
        reason: String,
    },
    /// The server refused. Its own words, which for a bad query point at the place.
    #[error("{0}")]
    Refused(String),
    /// The server said something that this program does not understand.
    #[error("the answer of the server cannot be read: {0}")]
    Answer(String),
    /// The answer cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// The system does not give this program what it needs to run.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// A program that `up` starts is missing.
    #[error(
        "{name} is not beside this program ({folder}); build or install taffrail, taffrail-agent and taffrail-collector together", folder = folder.display()
    )]
    Missing {
        /// Name of the program.
        name: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// An address is taken.
    #[error(
        "{flag} {addr}: the port is in use, perhaps by another taffrail; stop it or choose another with {flag}"
    )]
    PortInUse {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        addr: std::net::SocketAddr,
    },
    /// A file or folder of `up` cannot be used.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A program that `up` started has ended.
    #[error("{name} ended ({status}); the end of {log}:\n{tail}", log = log.display())]
    ChildEnded {
        /// Name of the program.
        name: &'static str,
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// A program that `up` started does not become ready.
    #[error("{name} is not ready after {seconds} s; see {log}", log = log.display())]
    NotReady {
        /// Name of the program.
        name: &'static str,
        /// How long was waited.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
    },
    /// The demo cannot go on.
    #[error(transparent)]
    Demo(#[from] taffrail_query::demo::Error),
}
