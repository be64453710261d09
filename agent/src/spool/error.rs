//! Why the spool takes nothing.

use std::path::PathBuf;

use taffrail_kit::journal;

/// Why the spool does not take a frame. It may take it later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No more bytes are allowed.
    #[error("the spool is full: {bytes} bytes of {limit} are used")]
    Full {
        /// Bytes on disk.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk does not take it.
    #[error("{0}")]
    Journal(#[from] journal::Error),
    /// The folder cannot be used.
    #[error("spool {path}: {cause}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said. Part of the message, and so not the error's source.
        cause: std::io::Error,
    },
}

impl Error {
    /// Its name in metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Journal(error) if error.is_no_space() => "disk_full",
            Self::Journal(_) | Self::Folder { .. } => "disk",
        }
    }
}
