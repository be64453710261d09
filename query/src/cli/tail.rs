//! `taffrail tail`: follows pods whose names match an expression, with stern's flags.

use taffrail_model::Nanos;

use super::Error;
use super::logs::{Shown, tail_of};
use super::screen::Screen;
use super::selector::{self, braced, by_name, by_regex, quoted};
use super::server::Server;
use super::target::at_least;
use super::when;

/// How many older lines come first when nothing is said.
const TAIL_DEFAULT: usize = 20;
/// How far back they may lie when nothing is said.
const SINCE_DEFAULT: &str = "48h";

/// What is followed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An expression that the names of pods match somewhere; without it all pods.
    #[arg(value_name = "REGEX")]
    query: Option<String>,
    /// Labels of the pods, as in kubectl.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Namespaces, separated by commas; * stands for any text.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// An expression that the names of containers match somewhere.
    #[arg(short, long, value_name = "REGEX")]
    container: Option<String>,
    /// Only lines that match this expression; given twice, one of them.
    #[arg(short, long, value_name = "REGEX")]
    include: Vec<String>,
    /// No lines that match this expression.
    #[arg(short, long, value_name = "REGEX")]
    exclude: Vec<String>,
    /// Only lines of this severity or a worse one.
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// How far back older lines may lie.
    #[arg(short, long, value_name = "DURATION", default_value = SINCE_DEFAULT)]
    since: String,
    /// How many older lines come first.
    #[arg(long, value_name = "N", default_value_t = TAIL_DEFAULT)]
    tail: usize,
    /// Shows the time of each line.
    #[arg(short, long)]
    timestamps: bool,
    /// Ends after the lines that are there.
    #[arg(long)]
    no_follow: bool,
}

impl Arguments {
    fn logql(&self) -> Result<String, Error> {
        let mut matchers = Vec::new();
        matchers.extend(self.namespace.as_deref().map(|name| by_name("namespace", name)));
        matchers.extend(self.query.as_deref().map(|regex| by_regex("pod", regex)));
        matchers.extend(self.container.as_deref().map(|regex| by_regex("container", regex)));
        matchers.extend(selector::parse(self.selector.as_deref().unwrap_or_default())?);
        let mut query = braced(&matchers);
        for (operator, texts) in [("|~", &self.include), ("!~", &self.exclude)] {
            for (at, text) in texts.iter().enumerate() {
                query.push_str(if at == 0 { " " } else { " or " });
                if at == 0 {
                    query.push_str(operator);
                    query.push(' ');
                }
                query.push_str(&quoted(text));
            }
        }
        if let Some(word) = &self.level {
            query.push_str(" | detected_level =~ ");
            query.push_str(&quoted(&at_least(word)?));
        }
        Ok(query)
    }
}

/// Shows the newest lines and then what comes.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let now = when::now();
    let since: Nanos = when::duration("--since", &arguments.since)?;
    let shown = Shown {
        query: arguments.logql()?,
        range: taffrail_model::TimeRange::new(now.saturating_sub(since), now),
        tail: tail_of(arguments.tail)?,
        follow: !arguments.no_follow,
        timestamps: arguments.timestamps,
    };
    Ok(shown.show(server, screen).await? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        tail: Arguments,
    }

    #[test]
    fn flags_become_logql() {
        let cases: [(&[&str], &str); 3] = [
            (&[], "{}"),
            (&["web-\\d", "-c", "app"], r#"{pod=~".*(?:web-\\d).*", container=~".*(?:app).*"}"#),
            (
                &["-n", "a,b", "-i", "x", "-i", "y", "-e", "z", "--level", "fatal"],
                r#"{namespace=~"a|b"} |~ "x" or "y" !~ "z" | detected_level =~ "fatal""#,
            ),
        ];
        for (words, expected) in cases {
            let line = Line::try_parse_from([&["tail"], words].concat()).unwrap();
            assert_eq!(line.tail.logql().unwrap(), expected);
        }
    }
}
