//! The command line: one flag for each setting, and what the program is asked to do.

use std::ffi::OsString;

use super::{Schema, Stop};

/// What is said behind the list of flags.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 the settings are wrong or the program failed, 2 the \
                          command line cannot be read";

/// What the command line asks the program to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Run,
    Check,
    Print,
}

/// A command line that could be read.
pub(super) struct CommandLine {
    pub(super) matches: clap::ArgMatches,
    /// The file that it names.
    pub(super) file: Option<String>,
    pub(super) task: Task,
}

impl Schema {
    pub(super) fn read_command_line(
        &self,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<CommandLine, Stop> {
        let all = std::iter::once(OsString::from(self.program)).chain(args);
        let matches =
            self.command().try_get_matches_from(all).map_err(|error| match error.kind() {
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
                    Stop::Asked(error.to_string())
                }
                _ => Stop::Usage(error.to_string()),
            })?;
        let text = |id: &str| matches.get_one::<String>(id).filter(|v| !v.is_empty()).cloned();
        let checks = matches.contains_id("check");
        let file = match (text("config"), checks.then(|| text("check")).flatten()) {
            (Some(one), Some(other)) if one != other => {
                return Err(Stop::Usage(format!(
                    "error: --config {one} and --check {other} name two files; give one\n"
                )));
            }
            (config, check) => check.or(config),
        };
        let task = match (checks, matches.get_flag("print-config")) {
            (_, true) => Task::Print,
            (true, false) => Task::Check,
            (false, false) => Task::Run,
        };
        Ok(CommandLine { matches, file, task })
    }

    /// The command line as clap sees it.
    #[must_use]
    pub fn command(&self) -> clap::Command {
        let config = clap::Arg::new("config")
            .long("config")
            .value_name("PATH")
            .help(format!("File with settings in YAML [env: {}]", self.env_name("config")));
        let check = clap::Arg::new("check")
            .long("check")
            .value_name("PATH")
            .num_args(0..=1)
            .default_missing_value("")
            .help(
                "Check the settings (and this file), say all that is wrong with its place, and end",
            );
        let print = clap::Arg::new("print-config")
            .long("print-config")
            .action(clap::ArgAction::SetTrue)
            .help("Print the settings in effect as such a file, say where each is from, and end");
        let mut command = clap::Command::new(self.program)
            .about(self.about)
            .version(env!("CARGO_PKG_VERSION"))
            .args([config, check, print]);
        for setting in self.settings {
            let mut help = format!(
                "{} [key: {}] [env: {}]",
                setting.help,
                setting.key,
                self.env_name(setting.key)
            );
            match setting.default {
                Some(default) => help.push_str(&format!(" [default: {default}]")),
                None if setting.required => help.push_str(" [required]"),
                None => {}
            }
            command = command.arg(
                clap::Arg::new(setting.key)
                    .long(flag(setting.key).trim_start_matches('-').to_owned())
                    .value_name(setting.kind.placeholder())
                    .help(help),
            );
        }
        let mut after = String::new();
        if !self.sections.is_empty() {
            let lines: Vec<String> =
                self.sections.iter().map(|s| format!("  {}: {}", s.key, s.help)).collect();
            after = format!("Only in the file:\n{}\n\n", lines.join("\n"));
        }
        command.after_help(after + EXIT_CODES)
    }
}

/// The flag of a setting.
pub(super) fn flag(key: &str) -> String {
    format!("--{}", key.replace(['.', '_'], "-"))
}

/// Levenshtein's edit distance, for "did you mean".
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
