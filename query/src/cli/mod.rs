//! The commands of `taffrail`, one a file. Each takes its arguments, asks the server and writes to a
//! [`Screen`]; `true` means that something was found.

mod completion;
mod context;
mod doctor;
mod error;
mod fields;
mod follow;
mod grep;
mod history;
mod labels;
mod logs;
mod metrics;
mod patterns;
mod query;
mod row;
mod screen;
mod selector;
mod server;
mod table;
mod tail;
mod target;
mod up;
mod when;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod whole;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use error::Error;
use screen::{Color, Format, Screen};
use server::Server;

/// Where the collector answers when nothing is said.
const ADDR_DEFAULT: &str = "http://127.0.0.1:4100";

/// Logs and metrics of Kubernetes, from the command line.
#[derive(Debug, Parser)]
#[command(name = "taffrail", version, propagate_version = true)]
#[command(after_help = "Exit code: 0 when something was found, 1 when nothing was, 2 on errors.")]
pub(crate) struct Arguments {
    /// Where the collector answers; without it LOKI_ADDR, or else http://127.0.0.1:4100.
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        env = "TAFFRAIL_ADDR",
        value_name = "URL"
    )]
    addr: Option<String>,
    /// How answers are written: for people, as JSON, or the text alone.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Everywhere",
        value_name = "FORMAT",
        default_value = "default"
    )]
    output: Format,
    /// When to use colours; NO_COLOR switches them off too.
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        value_name = "WHEN",
        default_value = "auto"
    )]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a collector and an agent on this machine, with a demo workload if wanted.
    Up(up::Arguments),
    /// Shows the logs of pods, with kubectl's selectors.
    Logs(logs::Arguments),
    /// Follows the pods whose names match, as stern does.
    Tail(tail::Arguments),
    /// Finds lines, with grep's letters.
    Grep(grep::Arguments),
    /// Shows the lines around a moment.
    Context(context::Arguments),
    /// Runs a LogQL query.
    Query(query::Arguments),
    /// Shows what lines have in common, and how many there are of each kind.
    Patterns(patterns::Arguments),
    /// Lists the fields found in lines, or the values of one.
    Fields(fields::Arguments),
    /// Lists the labels of the logs, or the values of one.
    Labels(labels::Arguments),
    /// Runs a PromQL query.
    Metrics(metrics::Arguments),
    /// Looks whether the collector answers and has logs and metrics.
    Doctor,
    /// Writes what a shell needs to complete commands and flags.
    Completion(completion::Arguments),
    /// Becomes a program that `up` starts.
    #[command(hide = true)]
    ChildOfUp(up::leash::Arguments),
}

/// Runs the command that was asked for.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let mut screen = Screen::stdout(arguments.output, arguments.color);
    let found = dispatch(&arguments, &mut screen).await;
    exit_code(&found.and_then(|found| screen.flush().map(|()| found)))
}

/// Where to ask: what was given, what logcli is told, or the port that `up` takes.
fn address(given: Option<&str>, loki: Option<OsString>) -> String {
    let loki = loki.and_then(|addr| addr.into_string().ok()).filter(|addr| !addr.is_empty());
    given.map(str::to_owned).or(loki).unwrap_or_else(|| ADDR_DEFAULT.to_owned())
}

/// The code that a command's end means; an error is said on standard error.
pub(crate) fn exit_code(found: &Result<bool, Error>) -> ExitCode {
    ExitCode::from(verdict(found))
}

fn verdict(found: &Result<bool, Error>) -> u8 {
    match found {
        Ok(true) => 0,
        Ok(false) => 1,
        // `taffrail logs | head` has seen enough: that is no failure.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            screen::complain(&format!("taffrail: {error}"));
            2
        }
    }
}

async fn dispatch(arguments: &Arguments, screen: &mut Screen) -> Result<bool, Error> {
    let server = || Server::new(&address(arguments.addr.as_deref(), std::env::var_os("LOKI_ADDR")));
    match &arguments.command {
        Command::Up(up) => up::run(up, screen).await.map(|()| true),
        Command::Logs(logs) => logs::run(logs, &server()?, screen).await,
        Command::Tail(tail) => tail::run(tail, &server()?, screen).await,
        Command::Grep(grep) => grep::run(grep, &server()?, screen).await,
        Command::Context(context) => context::run(context, &server()?, screen).await,
        Command::Patterns(patterns) => patterns::run(patterns, &server()?, screen).await,
        Command::Fields(fields) => fields::run(fields, &server()?, screen).await,
        Command::Doctor => doctor::run(&server()?, screen).await,
        Command::Completion(shell) => completion::run(shell, screen),
        Command::Query(query) => query::run(query, &server()?, screen).await,
        Command::Labels(labels) => labels::run(labels, &server()?, screen).await,
        Command::Metrics(metrics) => metrics::run(metrics, &server()?, screen).await,
        Command::ChildOfUp(child) => Err(up::leash::become_child(child)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_address_is_what_was_said_last() {
        let loki = || Some("http://loki:3100".into());
        assert_eq!(address(Some("here:1"), loki()), "here:1");
        assert_eq!(address(None, loki()), "http://loki:3100");
        assert_eq!(address(None, Some("".into())), ADDR_DEFAULT);
        assert_eq!(address(None, None), ADDR_DEFAULT);
    }

    #[test]
    fn codes_are_those_of_grep() {
        let broken = |kind: std::io::ErrorKind| Err(Error::Output(kind.into()));
        let cases = [
            (Ok(true), 0),
            (Ok(false), 1),
            (broken(std::io::ErrorKind::BrokenPipe), 0),
            (broken(std::io::ErrorKind::StorageFull), 2),
            (Err(Error::Refused("parse error".into())), 2),
        ];
        for (found, expected) in cases {
            assert_eq!(verdict(&found), expected, "{found:?}");
        }
    }

    #[test]
    fn flags_that_people_type() {
        let cases = [
            "taffrail logs -l app=checkout -n shop -f --grep refused",
            "taffrail query {a=\"b\"} -f --since 1m",
            "taffrail logs postgres-0 --limit 3 --level error --grep a --grep b",
            "taffrail logs --tail 5 --since 10m -c app --pod checkout-*",
            "taffrail query '{a=\"b\"}' --since 1h --limit 7 --forward -o json",
            "taffrail metrics up --at 2026-11-20T14:51:32Z",
            "taffrail tail web -n shop -i error -e health --since 1h --no-follow",
            "taffrail grep -i refused cart-* -n shop -C 2 --since 2h",
            "taffrail grep -c -v -w ok",
            "taffrail context 2026-11-20T14:51:32Z web-0 -B 20 -A 5",
            "taffrail patterns -l app=web --level warn --since 1d",
            "taffrail fields cart-* --field status",
            "taffrail doctor",
            "taffrail completion zsh",
            "taffrail labels namespace --color never",
            "taffrail up --demo --demo-rate 50 --http 127.0.0.1:0",
        ];
        for case in cases {
            let words = case.split(' ').map(|word| word.trim_matches('\''));
            assert!(Arguments::try_parse_from(words).is_ok(), "{case}");
        }
    }
}
