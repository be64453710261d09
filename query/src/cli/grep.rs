//! `taffrail grep`: lines that match, oldest first, with grep's letters and exit codes.

use std::collections::HashSet;

use taffrail_model::time::NANOS_PER_SEC;
use taffrail_model::{Nanos, TimeRange};

use super::Error;
use super::context::{Around, around};
use super::history::History;
use super::row::Row;
use super::screen::{Format, Screen};
use super::selector::{escaped, quoted};
use super::server::Server;
use super::target::Target;
use super::when::{self, Span};

/// How far back is looked when nothing is said.
const SINCE_DEFAULT: Nanos = 3600 * NANOS_PER_SEC;
/// Lines that are shown with those around them, which costs two questions each.
const SURROUNDED_MAX: usize = 1000;

/// What is looked for.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A regular expression.
    pattern: String,
    #[command(flatten)]
    target: Target,
    /// Containers, separated by commas; * stands for any text.
    #[arg(long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Upper and lower case are the same.
    #[arg(short, long)]
    ignore_case: bool,
    /// Lines that do not match.
    #[arg(short = 'v', long)]
    invert_match: bool,
    /// Only whole words.
    #[arg(short, long)]
    word_regexp: bool,
    /// The pattern is a text, not an expression.
    #[arg(short = 'F', long)]
    fixed_strings: bool,
    /// Only the number of lines.
    #[arg(short, long)]
    count: bool,
    /// At most so many lines.
    #[arg(short, long, value_name = "N")]
    max_count: Option<usize>,
    #[command(flatten)]
    around: Around,
    #[command(flatten)]
    span: Span,
}

impl Arguments {
    fn logql(&self) -> Result<String, Error> {
        let plain = self.fixed_strings && !self.ignore_case && !self.word_regexp;
        let mut text = match self.fixed_strings && !plain {
            true => escaped(&self.pattern),
            false => self.pattern.clone(),
        };
        if self.word_regexp {
            text = format!(r"\b(?:{text})\b");
        }
        if self.ignore_case {
            text = format!("(?i){text}");
        }
        let operator = match (plain, self.invert_match) {
            (true, false) => "|=",
            (true, true) => "!=",
            (false, false) => "|~",
            (false, true) => "!~",
        };
        let filter = format!(" {operator} {}", quoted(&text));
        self.target.logql(self.container.as_deref(), &filter)
    }
}

/// Shows the lines, or how many there are.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let query = arguments.logql()?;
    let range = arguments.span.range(when::now(), SINCE_DEFAULT)?;
    let limit = arguments.max_count.unwrap_or(usize::MAX);
    let history = History { query: &query, range, limit, forward: true };
    if arguments.count {
        let count = count(&history, server, screen).await?;
        screen.text(&format!("{count}\n"))?;
        return Ok(count > 0);
    }
    let counts = arguments.around.counts(0);
    if counts != (0, 0) {
        return surrounded(&history, counts, server, screen).await;
    }
    let timestamps = screen.format == Format::Default;
    history.each(server, screen, |row, screen| row.show(timestamps, screen)).await
}

/// How many lines there are. The server counts them, if the query has a selector: it must, there.
async fn count(history: &History<'_>, server: &Server, screen: &mut Screen) -> Result<u64, Error> {
    if history.query.starts_with("{}") || history.limit < usize::MAX {
        let mut count = 0;
        let each = |_, _: &mut Screen| {
            count += 1;
            Ok(())
        };
        history.each(server, screen, each).await?;
        return Ok(count);
    }
    let TimeRange { start, end } = history.range;
    let (length, query) = (end.saturating_sub(start), history.query);
    // The window of a metric query begins after its start and ends with its end.
    let parameters = [
        ("query", format!("sum(count_over_time({query} [{length}ns]))")),
        ("time", end.saturating_sub(1).to_string()),
    ];
    let data = server.data("/loki/api/v1/query", &parameters).await?;
    let text = data.pointer("/result/0/value/1").and_then(|value| value.as_str()).unwrap_or("0");
    let bad = |_| Error::Answer(format!("a count of {text:?}"));
    text.parse::<f64>().map_err(bad).map(|count| count as u64)
}

/// Shows each line among its neighbours; what is shown already is not shown again.
async fn surrounded(
    history: &History<'_>,
    (before, after): (usize, usize),
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let mut hits: Vec<Row> = Vec::new();
    let some = History { limit: history.limit.min(SURROUNDED_MAX + 1), ..history.clone() };
    let each = |row, _: &mut Screen| {
        hits.push(row);
        Ok(())
    };
    some.each(server, screen, each).await?;
    if hits.len() > SURROUNDED_MAX {
        let reason = format!(
            "more than {SURROUNDED_MAX} lines match; ask for less with -m, or for a shorter time"
        );
        return Err(Error::Argument { flag: "-A, -B, -C", reason });
    }
    let timestamps = screen.format == Format::Default;
    let mut shown: HashSet<String> = HashSet::new();
    for hit in &hits {
        let counts = (before, after + 1);
        let group = around(server, &hit.selector(), hit.ts, counts, screen).await?;
        let joined = group.iter().any(|row| shown.contains(&row.source));
        if !shown.is_empty() && !joined && screen.format != Format::Json {
            screen.text("--\n")?;
        }
        for row in group {
            if shown.contains(&row.source) {
                continue;
            }
            row.show(timestamps, screen)?;
            shown.insert(row.source);
        }
    }
    Ok(!hits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        grep: Arguments,
    }

    #[test]
    fn flags_become_logql() {
        let cases: [(&[&str], &str); 6] = [
            (&["a.b"], r#"{} |~ "a.b""#),
            (&["-F", "a.b", "-v"], r#"{} != "a.b""#),
            (&["-iF", "a.b"], r#"{} |~ "(?i)a\\.b""#),
            (&["-w", "a|b", "web-*"], r#"{pod=~"web-.*"} |~ "\\b(?:a|b)\\b""#),
            (&["-v", "x", "--container", "c"], r#"{container="c"} !~ "x""#),
            (&["x", "--level", "fatal"], r#"{} |~ "x" | detected_level =~ "fatal""#),
        ];
        for (words, expected) in cases {
            let line = Line::try_parse_from([&["grep"], words].concat()).unwrap();
            assert_eq!(line.grep.logql().unwrap(), expected);
        }
    }
}
