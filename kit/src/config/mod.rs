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
//! [`command`] is the command line, [`effective`] what `--print-config` says, [`changes`] compares two
//! settings, [`watch`] waits for the file to change.
//!
//! Pure but for [`Schema::start`], [`Schema::start_again`] and [`watch`], which read the command line,
//! the environment and the file.

mod changes;
mod command;
mod effective;
mod kind;
mod reference;
pub mod units;
pub mod watch;
pub mod yaml;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use command::{distance, flag};
pub use kind::Kind;
use kind::check_text;
use yaml::{Node, Place, Value};

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
    /// One sentence for `--help` and the documentation.
    pub help: &'static str,
}

/// A key whose value is a list or map, in the file only.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Key in the file, as in [`Setting::key`].
    pub key: &'static str,
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

#[derive(Clone, Debug)]
struct Given {
    text: String,
    place: String,
}

/// What the command line asks the program to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Run,
    Check,
    Print,
}

/// The checked settings of one run. Getters take the setting's key; asking for a key that is not in
/// the table is a bug and panics.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<&'static str, Given>,
    sections: BTreeMap<&'static str, Node>,
    file: Option<PathBuf>,
    /// What stood in the file.
    text: Option<String>,
    known: Vec<&'static str>,
}

/// Reads a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;
/// Reads a whole file, or says why not.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

/// What came in from outside, with all that is wrong with it. Wrong values are replaced by their
/// defaults, so that what is left can be checked too.
struct Gathered {
    settings: Settings,
    problems: Vec<Problem>,
    /// Whether all settings that are required have a value.
    complete: bool,
    task: Task,
}

impl Schema {
    /// Reads the process's command line, environment and the file named by `--config`, lets `check`
    /// make of it what the program needs, and does what else the command line asks for: with
    /// `--check` and `--print-config` the program does not run.
    ///
    /// # Errors
    /// When something else than running was asked for, or with every problem there is.
    pub fn start<C>(
        &self,
        check: impl FnOnce(&Settings) -> Result<C, Vec<Problem>>,
    ) -> Result<(Settings, C), Stop> {
        self.start_from(std::env::args_os().skip(1), &environment, &read_file, check)
    }

    /// As [`Schema::start`] for a program that runs already, with `text` as the content of the file
    /// or why it cannot be read.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn start_again<C>(
        &self,
        text: &Result<String, String>,
        check: impl FnOnce(&Settings) -> Result<C, Vec<Problem>>,
    ) -> Result<(Settings, C), Vec<Problem>> {
        let read = |_: &Path| text.clone();
        match self.start_from(std::env::args_os().skip(1), &environment, &read, check) {
            Ok(good) => Ok(good),
            Err(Stop::Problems(problems)) => Err(problems),
            // The command line is the one that the program was started with: it can be read.
            Err(Stop::Asked(_) | Stop::Usage(_)) => Err(Vec::new()),
        }
    }

    /// As [`Schema::start`], with everything from outside given by the caller.
    ///
    /// # Errors
    /// As [`Schema::start`].
    pub fn start_from<C>(
        &self,
        args: impl IntoIterator<Item = OsString>,
        env: Environment<'_>,
        read: ReadFile<'_>,
        check: impl FnOnce(&Settings) -> Result<C, Vec<Problem>>,
    ) -> Result<(Settings, C), Stop> {
        let Gathered { settings, mut problems, complete, task } = self.gather(args, env, read)?;
        let checked = if complete { check(&settings) } else { Err(Vec::new()) };
        let config = match checked {
            Ok(config) if problems.is_empty() => config,
            Ok(_) => return Err(Stop::Problems(problems)),
            Err(found) => {
                problems.extend(found);
                return Err(Stop::Problems(problems));
            }
        };
        match task {
            Task::Run => Ok((settings, config)),
            Task::Check => Err(Stop::Asked(match &settings.file {
                Some(file) => format!("{}: the settings are good\n", file.display()),
                None => "the settings are good\n".to_owned(),
            })),
            Task::Print => Err(Stop::Asked(self.effective(&settings))),
        }
    }

    /// Reads settings, with everything from outside given by the caller.
    ///
    /// # Errors
    /// When help was asked for, or with every problem there is.
    pub fn load_from(
        &self,
        args: impl IntoIterator<Item = OsString>,
        env: Environment<'_>,
        read: ReadFile<'_>,
    ) -> Result<Settings, Stop> {
        let Gathered { settings, problems, .. } = self.gather(args, env, read)?;
        if problems.is_empty() { Ok(settings) } else { Err(Stop::Problems(problems)) }
    }

    fn gather(
        &self,
        args: impl IntoIterator<Item = OsString>,
        env: Environment<'_>,
        read: ReadFile<'_>,
    ) -> Result<Gathered, Stop> {
        let line = self.read_command_line(args)?;
        let mut problems = Vec::new();
        let in_env = || env(&self.env_name("config")).filter(|v| !v.is_empty());
        let file = line.file.or_else(in_env).map(PathBuf::from);
        let mut settings = Settings {
            values: BTreeMap::new(),
            sections: BTreeMap::new(),
            file: file.clone(),
            text: None,
            known: self.settings.iter().map(|s| s.key).collect(),
        };
        if let Some(path) = &file {
            match read(path) {
                Err(reason) => problems.push(Problem {
                    place: "--config".into(),
                    message: format!("cannot read {}: {reason}", path.display()),
                }),
                Ok(text) => {
                    self.take_file(path, &text, &mut settings, &mut problems);
                    settings.text = Some(text);
                }
            }
        }
        let mut complete = true;
        for setting in self.settings {
            let env_name = self.env_name(setting.key);
            let given = if let Some(text) = line.matches.get_one::<String>(setting.key) {
                Some(Given { text: text.clone(), place: flag(setting.key) })
            } else {
                env(&env_name)
                    .filter(|v| !v.is_empty())
                    .map(|text| Given { text, place: env_name.clone() })
            };
            if let Some(given) = given {
                settings.values.insert(setting.key, given);
            }
            self.check(setting, &mut settings, &mut problems);
            complete &= !setting.required || settings.values.contains_key(setting.key);
        }
        Ok(Gathered { settings, problems, complete, task: line.task })
    }

    /// Checks a setting that was given, or puts in its default.
    fn check(&self, setting: &Setting, settings: &mut Settings, problems: &mut Vec<Problem>) {
        if let Some(given) = settings.values.get(setting.key)
            && let Err(message) = check_text(setting.kind, &given.text)
        {
            problems.push(Problem { place: given.place.clone(), message });
            settings.values.remove(setting.key);
            if setting.default.is_none() {
                return;
            }
        }
        match (settings.values.get(setting.key), setting.default) {
            (Some(_), _) => {}
            (None, Some(default)) => {
                debug_assert_eq!(check_text(setting.kind, default), Ok(()), "{}", setting.key);
                let given = Given { text: default.to_owned(), place: DEFAULT.into() };
                settings.values.insert(setting.key, given);
            }
            (None, None) if setting.required => problems.push(Problem {
                place: flag(setting.key),
                message: format!(
                    "is required (or {} in the environment, or {}: in the file)",
                    self.env_name(setting.key),
                    setting.key
                ),
            }),
            (None, None) => {}
        }
    }

    fn take_file(
        &self,
        path: &Path,
        text: &str,
        settings: &mut Settings,
        problems: &mut Vec<Problem>,
    ) {
        let name = path.display().to_string();
        let mut report = |at: Place, message: String| {
            problems.push(Problem { place: format!("{name}:{at}"), message });
        };
        match yaml::parse(text) {
            Err(error) => report(error.at, error.message),
            Ok(Node { value: Value::Null, .. }) => {}
            Ok(root) => self.take_node("", &root, &name, settings, &mut report),
        }
    }

    fn take_node(
        &self,
        prefix: &str,
        node: &Node,
        file: &str,
        settings: &mut Settings,
        report: &mut dyn FnMut(Place, String),
    ) {
        let Value::Map(entries) = &node.value else {
            let what = if prefix.is_empty() { "the file" } else { prefix };
            report(node.at, format!("{what} must hold keys and values"));
            return;
        };
        for entry in entries {
            let key = if prefix.is_empty() {
                entry.key.clone()
            } else {
                format!("{prefix}.{}", entry.key)
            };
            if let Some(setting) = self.settings.iter().find(|s| s.key == key) {
                match &entry.node.value {
                    Value::Scalar(text) => {
                        let place = format!("{file}:{}", entry.node.at);
                        settings.values.insert(setting.key, Given { text: text.clone(), place });
                    }
                    Value::Null => {}
                    Value::List(_) if setting.help.contains("separated by commas") => {
                        let message = format!("{key} takes one text, separated by commas: a, b");
                        report(entry.node.at, message);
                    }
                    Value::List(_) | Value::Map(_) => {
                        report(entry.node.at, format!("{key} takes one value"));
                    }
                }
            } else if let Some(section) = self.sections.iter().find(|s| s.key == key) {
                settings.sections.insert(section.key, entry.node.clone());
            } else if self.all_keys().any(|k| k.starts_with(&format!("{key}."))) {
                self.take_node(&key, &entry.node, file, settings, report);
            } else {
                report(entry.at, self.unknown_key(&key));
            }
        }
    }

    fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        self.settings.iter().map(|s| s.key).chain(self.sections.iter().map(|s| s.key))
    }

    fn unknown_key(&self, key: &str) -> String {
        let nearest = self.all_keys().min_by_key(|k| distance(k, key));
        match nearest {
            Some(near) if distance(near, key) <= 3 => {
                format!("unknown key {key:?}; did you mean {near:?}?")
            }
            _ => format!("unknown key {key:?}; --help lists the keys"),
        }
    }

    fn env_name(&self, key: &str) -> String {
        format!("{}_{}", self.env_prefix, key.replace('.', "_").to_uppercase())
    }
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

#[expect(clippy::disallowed_methods, reason = "settings are read here and nowhere else")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read_file(path: &Path) -> Result<String, String> {
    watch::read(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
