//! `taffrail context`: the lines around a moment, whether or not they match anything.

use taffrail_model::time::NANOS_PER_SEC;
use taffrail_model::{Nanos, TimeRange};

use super::Error;
use super::history::History;
use super::row::Row;
use super::screen::{Format, Screen};
use super::server::Server;
use super::target::Target;
use super::when;

/// How far from the moment lines are looked for.
const REACH: Nanos = 24 * 3600 * NANOS_PER_SEC;
/// Lines before and after when nothing is said, and at the most.
const LINES: usize = 10;
const LINES_MAX: usize = 10_000;

/// How many lines before and after: grep's letters.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Around {
    /// How many lines before.
    #[arg(short = 'B', long = "before-context", value_name = "N")]
    before: Option<usize>,
    /// How many lines after.
    #[arg(short = 'A', long = "after-context", value_name = "N")]
    after: Option<usize>,
    /// How many lines before and after.
    #[arg(short = 'C', long = "context", value_name = "N")]
    both: Option<usize>,
}

impl Around {
    /// Lines before and after; `default` where nothing is said.
    pub(super) fn counts(&self, default: usize) -> (usize, usize) {
        let count = |own: Option<usize>| own.or(self.both).unwrap_or(default).min(LINES_MAX);
        (count(self.before), count(self.after))
    }
}

/// Which moment of which pods.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The moment: RFC 3339, or how long ago.
    time: String,
    #[command(flatten)]
    target: Target,
    /// Containers, separated by commas; * stands for any text.
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    #[command(flatten)]
    around: Around,
}

/// Shows the lines, oldest first.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let at = when::time("TIME", &arguments.time, when::now())?;
    let query = arguments.target.logql(arguments.container.as_deref(), "")?;
    let rows = around(server, &query, at, arguments.around.counts(LINES), screen).await?;
    for row in &rows {
        row.show(screen.format == Format::Default, screen)?;
    }
    Ok(!rows.is_empty())
}

/// So many lines before a time, and so many from it on, oldest first.
pub(super) async fn around(
    server: &Server,
    query: &str,
    at: Nanos,
    (before, from): (usize, usize),
    screen: &mut Screen,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let sides = [
        (TimeRange::new(at.saturating_sub(REACH), at), before, false),
        (TimeRange::new(at, at.saturating_add(REACH)), from, true),
    ];
    for (range, limit, forward) in sides {
        if limit == 0 {
            continue;
        }
        let history = History { query, range, limit, forward };
        let each = |row, _: &mut Screen| {
            rows.push(row);
            Ok(())
        };
        history.each(server, screen, each).await?;
        if !forward {
            rows.reverse();
        }
    }
    Ok(rows)
}
