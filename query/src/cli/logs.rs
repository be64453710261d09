//! `taffrail logs`: the logs of pods, found with kubectl's selectors, with kubectl's flags.

use taffrail_model::{Nanos, TimeRange};

use super::Error;
use super::follow::follow;
use super::history::History;
use super::row::Row;
use super::screen::Screen;
use super::selector::quoted;
use super::server::Server;
use super::target::Target;
use super::when::{self, Span};

/// Most lines of one answer: it is held in memory to turn it around.
const TAIL_MAX: usize = 100_000;
/// How many lines are shown when nothing is said.
const TAIL_DEFAULT: usize = 100;
/// How many older lines stand before those that follow.
const TAIL_DEFAULT_FOLLOWED: usize = 10;
/// How far back is looked when nothing is said.
const SINCE_DEFAULT: Nanos = 3600 * 1_000_000_000;

/// What is wanted of the logs.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Containers, separated by commas; * stands for any text.
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Only lines that contain this text; given twice, both.
    #[arg(long, value_name = "TEXT")]
    grep: Vec<String>,
    /// Shows new lines as they come.
    #[arg(short, long, conflicts_with = "to")]
    follow: bool,
    /// How many of the newest lines are shown.
    #[arg(long, alias = "limit", value_name = "N")]
    tail: Option<usize>,
    /// Shows the time of each line.
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    span: Span,
}

impl Arguments {
    /// The LogQL query that they mean.
    fn logql(&self) -> Result<String, Error> {
        let filters: String =
            self.grep.iter().map(|text| format!(" |= {}", quoted(text))).collect();
        self.target.logql(self.container.as_deref(), &filters)
    }

    fn shown(&self) -> Result<Shown, Error> {
        let now = when::now();
        let default = if self.follow { TAIL_DEFAULT_FOLLOWED } else { TAIL_DEFAULT };
        Ok(Shown {
            query: self.logql()?,
            range: self.span.range(now, SINCE_DEFAULT)?,
            tail: tail_of(self.tail.unwrap_or(default))?,
            follow: self.follow,
            timestamps: self.timestamps,
        })
    }
}

/// A number of newest lines, within the limit.
pub(super) fn tail_of(tail: usize) -> Result<usize, Error> {
    if tail <= TAIL_MAX {
        return Ok(tail);
    }
    let reason = format!("at most {TAIL_MAX} lines at once; ask for less, or use --from and --to");
    Err(Error::Argument { flag: "--tail", reason })
}

/// Newest lines and what comes after them.
pub(super) struct Shown {
    /// LogQL.
    pub(super) query: String,
    /// Time of the lines.
    pub(super) range: TimeRange,
    /// How many of the newest.
    pub(super) tail: usize,
    /// Whether new lines are shown as they come.
    pub(super) follow: bool,
    /// Whether the time of each line is shown.
    pub(super) timestamps: bool,
}

impl Shown {
    /// Shows the newest lines, oldest first, and then what comes, if wanted. Says how many there were.
    pub(super) async fn show(&self, server: &Server, screen: &mut Screen) -> Result<usize, Error> {
        let Self { query, range, tail, timestamps, .. } = self;
        let history = History { query, range: *range, limit: *tail, forward: false };
        let rows = match tail {
            0 => Vec::new(),
            _ => newest(&history, server, screen).await?,
        };
        if self.follow {
            // The live feed begins with the oldest of these lines, so that nothing falls between.
            let start = rows.last().map_or(range.end, |row| row.ts);
            follow(server, query, start, *timestamps, screen).await?;
        }
        for row in rows.iter().rev() {
            row.show(*timestamps, screen)?;
        }
        screen.flush()?;
        Ok(rows.len())
    }
}

/// Shows the newest lines, oldest first, and then what comes, if wanted.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let shown = arguments.shown()?;
    let rows = shown.show(server, screen).await?;
    let tail = shown.tail;
    if rows == tail && arguments.tail.is_none() {
        screen.note(&format!("the newest {tail} lines; there may be more: --tail N"));
    } else if rows == 0 && !arguments.span.has_start() {
        screen.note("no lines in the last hour; --since 24h looks further back");
    }
    Ok(rows > 0)
}

async fn newest(
    history: &History<'_>,
    server: &Server,
    screen: &mut Screen,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let each = |row, _: &mut Screen| {
        rows.push(row);
        Ok(())
    };
    history.each(server, screen, each).await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Written};
    use crate::cli::screen::Format;
    use axum::extract::Query;
    use axum::routing::get;
    use clap::Parser;
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        logs: Arguments,
    }

    fn arguments(words: &[&str]) -> Arguments {
        Line::try_parse_from([&["logs"], words].concat()).unwrap().logs
    }

    #[test]
    fn flags_become_logql() {
        let cases: [(&[&str], &str); 8] = [
            (&["--grep", "a", "--grep", "b"], r#"{} |= "a" |= "b""#),
            (&["--level", "WARNING"], r#"{} | detected_level =~ "warn|error|critical|fatal""#),
            (&[], "{}"),
            (&["postgres-0"], r#"{pod="postgres-0"}"#),
            (&["-l", "app=web"], r#"{app="web"}"#),
            (
                &["-n", "shop", "-c", "app", "--pod", "cart-*", "-l", "tier in (a,b)"],
                r#"{namespace="shop", pod=~"cart-.*", container="app", tier=~"a|b"}"#,
            ),
            (&["--grep", "say \"no\""], r#"{} |= "say \"no\"""#),
            (&["--grep", "a\\d"], r#"{} |= "a\\d""#),
        ];
        for (words, expected) in cases {
            assert_eq!(arguments(words).logql().unwrap(), expected);
        }
        assert!(arguments(&["--tail", "1000000"]).shown().is_err());
        assert!(arguments(&["-l", "a in b"]).logql().is_err());
        assert!(arguments(&["--level", "loud"]).logql().is_err());
    }

    /// A server with two lines, newest first, and a live stream; it notes what it was asked.
    type Asked = Arc<Mutex<Vec<(String, HashMap<String, String>)>>>;

    async fn server() -> (Server, Asked) {
        let asked = Asked::default();
        let row = |ts: u32, line: &str| {
            format!(
                "{{\"ts\":\"{ts}\",\"labels\":{{\"pod\":\"p\",\"container\":\"c\"}},\"line\":\"{line}\"}}\n"
            )
        };
        let note = |path: &'static str, body: String| {
            let asked = asked.clone();
            get(move |Query(query): Query<HashMap<String, String>>| {
                let mut asked = asked.lock().unwrap();
                let again = asked.iter().any(|(asked, _): &(String, _)| asked == path);
                asked.push((path.into(), query));
                std::future::ready(match again {
                    false => Ok(body.clone()),
                    true => Err((http::StatusCode::BAD_REQUEST, "once is enough")),
                })
            })
        };
        let history = row(20, "two") + &row(10, "one");
        let live = row(10, "one") + &row(20, "two") + "\n{\"lagged\":3}\n" + &row(30, "three");
        let router = axum::Router::new()
            .route("/api/v1/logs/query", note("query", history))
            .route("/api/v1/logs/tail", note("tail", live));
        (fake::serve(router).await, asked)
    }

    #[tokio::test]
    async fn shows_the_newest_lines_oldest_first() {
        let (server, asked) = server().await;
        let written = Written::default();
        let arguments = arguments(&["-n", "shop", "--tail", "2"]);
        let mut screen = written.screen(Format::Default, false);
        assert!(run(&arguments, &server, &mut screen).await.unwrap());
        assert_eq!(written.text(), "p c one\np c two\n");
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0].1["query"], r#"{namespace="shop"}"#);
        assert_eq!((&*asked[0].1["limit"], &*asked[0].1["direction"]), ("2", "backward"));
    }

    #[tokio::test]
    async fn following_begins_with_the_oldest_line_shown() {
        let (server, asked) = server().await;
        let written = Written::default();
        let mut screen = written.screen(Format::Raw, false);
        let ended = run(&arguments(&["-f"]), &server, &mut screen).await;
        // The fake refuses to be asked a second time, which ends the command.
        assert!(matches!(ended, Err(Error::Refused(_))), "{ended:?}");
        assert_eq!(written.text(), "one\ntwo\nthree\n");
        let asked = asked.lock().unwrap();
        assert_eq!((asked[1].0.as_str(), asked[1].1["start"].as_str()), ("tail", "10"));
    }

    #[tokio::test]
    async fn nothing_found_is_told_apart() {
        let server =
            fake::serve(axum::Router::new().route("/api/v1/logs/query", get(|| async { "" })))
                .await;
        let mut screen = Written::default().screen(Format::Default, false);
        assert!(!run(&arguments(&[]), &server, &mut screen).await.unwrap());
    }
}
