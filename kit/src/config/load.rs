//! From the command line, the environment and the file to checked settings.
//!
//! Everything that is wrong is found, not only the first. Pure but for [`Schema::start`] and
//! [`Schema::start_again`], which read what is outside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::command::{Task, distance, flag};
use super::kind::{Kind, check_text};
use super::settings::{Given, Settings};
use super::yaml::{self, Node, Place, Value};
use super::{DEFAULT, Problem, Schema, Setting, Stop, watch};

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
                match text_of(setting, &entry.node) {
                    Ok(None) => {}
                    Ok(Some(text)) => {
                        let place = format!("{file}:{}", entry.node.at);
                        settings.values.insert(setting.key, Given { text, place });
                    }
                    Err((at, message)) => report(at, message),
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

    fn unknown_key(&self, key: &str) -> String {
        let nearest = self.all_keys().min_by_key(|k| distance(k, key));
        match nearest {
            Some(near) if distance(near, key) <= 3 => {
                format!("unknown key {key:?}; did you mean {near:?}?")
            }
            _ => format!("unknown key {key:?}; --help lists the keys"),
        }
    }
}

/// The text of a setting as it stands in the file. A list is written there as one, or with commas.
fn text_of(setting: &Setting, node: &Node) -> Result<Option<String>, (Place, String)> {
    let key = setting.key;
    match &node.value {
        Value::Null => Ok(None),
        Value::List(items) if setting.kind == Kind::List && items.is_empty() => Ok(None),
        Value::Scalar(text) => Ok(Some(text.clone())),
        Value::List(items) if setting.kind == Kind::List => {
            let word = |item: &Node| match item.as_text() {
                Some(text) if !text.contains(',') => Ok(text.to_owned()),
                Some(_) => Err((item.at, format!("{key}: an item with a comma is two items"))),
                None => Err((item.at, format!("{key}: expected a list of texts"))),
            };
            let words: Vec<String> = items.iter().map(word).collect::<Result<_, _>>()?;
            Ok(Some(words.join(",")))
        }
        Value::List(_) | Value::Map(_) => Err((node.at, format!("{key} takes one value"))),
    }
}

#[expect(clippy::disallowed_methods, reason = "settings are read here and nowhere else")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read_file(path: &Path) -> Result<String, String> {
    watch::read(path).map_err(|error| error.to_string())
}
