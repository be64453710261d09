//! The settings of one run, each by its key, with the place that it came from. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::flag;
use super::yaml::{Node, Place};
use super::{DEFAULT, Problem, units};

#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) place: String,
}

/// The checked settings of one run. Getters take the setting's key; asking for a key that is not in
/// the table is a bug and panics.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) values: BTreeMap<&'static str, Given>,
    pub(super) sections: BTreeMap<&'static str, Node>,
    pub(super) file: Option<PathBuf>,
    /// What stood in the file.
    pub(super) text: Option<String>,
    pub(super) known: Vec<&'static str>,
}

impl Settings {
    /// The text of a setting, if it has a value.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        assert!(self.known.contains(&key), "{key} is not in the table of settings");
        self.values.get(key).map(|g| g.text.as_str())
    }

    /// The text of a setting that is required or has a default.
    #[must_use]
    pub fn required(&self, key: &str) -> &str {
        self.text(key).expect("required settings and those with a default have a value")
    }

    /// The words of a list, none when it was not given.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<String> {
        let words = self.text(key).unwrap_or_default().split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// A path, if it was given.
    #[must_use]
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// An address, if it was given.
    #[must_use]
    pub fn addr(&self, key: &str) -> Option<SocketAddr> {
        self.text(key).map(|t| units::addr(t).expect("checked at load"))
    }

    /// A size in bytes.
    #[must_use]
    pub fn bytes(&self, key: &str) -> u64 {
        units::bytes(self.required(key)).expect("checked at load")
    }

    /// A duration.
    #[must_use]
    pub fn duration(&self, key: &str) -> Duration {
        units::duration(self.required(key)).expect("checked at load")
    }

    /// A whole number.
    #[must_use]
    pub fn count(&self, key: &str) -> u64 {
        self.required(key).parse().expect("checked at load")
    }

    /// Yes or no.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        self.required(key) == "true"
    }

    /// The tree of a section of the file, if it is there.
    #[must_use]
    pub fn section(&self, key: &str) -> Option<&Node> {
        self.sections.get(key)
    }

    /// The file that was read, if one was named.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What stood in the file when it was read.
    #[must_use]
    pub fn file_text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// A problem with the value of a setting, for checks that need more than its kind.
    #[must_use]
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        // A default stands nowhere: the flag is where another value would be given.
        let given = self.values.get(key).filter(|given| given.place != DEFAULT);
        let place = given.map_or_else(|| flag(key), |given| given.place.clone());
        Problem { place, message: message.into() }
    }

    /// A problem at a place in the file, for the owner of a section.
    #[must_use]
    pub fn problem_at(&self, at: Place, message: impl Into<String>) -> Problem {
        let file = self.file.as_ref().map(|f| f.display().to_string()).unwrap_or_default();
        Problem { place: format!("{file}:{at}"), message: message.into() }
    }
}
