//! Settings of a program: one table of [`Setting`]s, three places they can come from.
//!
//! Each setting has a flag, an environment variable and a key in a YAML file; the flag wins over the
//! variable, the variable over the file, the file over the default. `--help` shows all of them. All
//! problems are found and reported at once, each with its place (`config.yaml:3:5`, `--http`,
//! `TAFFRAIL_AGENT_NODE`).
//!
//! Values that are lists or maps stand only in the file, as [`Section`]s; their owner reads them from
//! the marked tree in [`yaml`].
//!
//! [`load`] gathers and checks, [`command`] is the command line, [`effective`] what `--print-config`
//! says, [`changes`] compares two settings, [`watch`] waits for the file to change.
//!
//! Pure but for [`Schema::start`], [`Schema::start_again`] and [`watch`], which read the command line,
//! the environment and the file.

mod changes;
mod command;
mod effective;
mod kind;
mod load;
mod reference;
mod settings;
mod stop;
pub mod units;
pub mod watch;
pub mod yaml;

use std::fmt;

use command::flag;
pub use kind::Kind;
pub use load::{Environment, ReadFile};
pub use settings::Settings;
pub use stop::Stop;

/// The place of a value that nobody gave.
const DEFAULT: &str = "default";

/// One row of a program's table of settings.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Key in the file, with dots for nesting and underscores in words: `wal.commit_delay`.
    pub key: &'static str,
    /// What its text must be.
    pub kind: Kind,
    /// The default as it would be written; `None`: the setting has no value unless given.
    pub default: Option<&'static str>,
    /// Whether the program cannot start without it.
    pub required: bool,
    /// Whether a new value in the file holds at once; else it waits for a restart.
    pub live: bool,
    /// One sentence for `--help` and the documentation.
    pub help: &'static str,
}

impl Setting {
    /// A setting that may be left out and is read at the start only.
    #[must_use]
    pub const fn new(
        key: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        help: &'static str,
    ) -> Self {
        Self { key, kind, default, required: false, live: false, help }
    }

    /// Likewise, but the program cannot start without it.
    #[must_use]
    pub const fn required(key: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { required: true, ..Self::new(key, kind, None, help) }
    }

    /// The same setting, followed while the program runs.
    #[must_use]
    pub const fn live(self) -> Self {
        Self { live: true, ..self }
    }
}

/// A key whose value is a list or map, in the file only.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Key in the file, as in [`Setting::key`].
    pub key: &'static str,
    /// As [`Setting::live`].
    pub live: bool,
    /// One sentence for `--help` and the documentation.
    pub help: &'static str,
}

/// The whole table of a program.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Name of the program.
    pub program: &'static str,
    /// What it is, in one sentence.
    pub about: &'static str,
    /// What its environment variables begin with, for example `TAFFRAIL_AGENT`.
    pub env_prefix: &'static str,
    /// The settings.
    pub settings: &'static [Setting],
    /// The sections of the file that hold lists and maps.
    pub sections: &'static [Section],
}

impl Schema {
    /// Whether a new value of this key holds while the program runs.
    #[must_use]
    pub fn is_live(&self, key: &str) -> bool {
        let settings = self.settings.iter().map(|s| (s.key, s.live));
        let mut all = settings.chain(self.sections.iter().map(|s| (s.key, s.live)));
        all.any(|(of, live)| live && of == key)
    }

    fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        self.settings.iter().map(|s| s.key).chain(self.sections.iter().map(|s| s.key))
    }

    fn env_name(&self, key: &str) -> String {
        format!("{}_{}", self.env_prefix, key.replace('.', "_").to_uppercase())
    }
}

/// Something is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was given.
    pub place: String,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

#[cfg(test)]
mod tests;
