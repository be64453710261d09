//! `taffrail query`: LogQL. A log query streams its lines; a metric query gives a table.

use taffrail_model::Nanos;

use taffrail_query::logql::{LogqlOptions, parse};

use super::Error;
use super::follow::follow;
use super::history::History;
use super::screen::{Format, Screen};
use super::server::Server;
use super::table;
use super::when::{self, Span};

/// How far back is looked when nothing is said.
const SINCE_DEFAULT: Nanos = 3600 * 1_000_000_000;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The LogQL query, for example '{app="web"} |= "error"'.
    query: String,
    #[command(flatten)]
    span: Span,
    /// How many lines are shown.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Oldest lines first, not newest.
    #[arg(long)]
    forward: bool,
    /// Shows new lines as they come.
    #[arg(short, long, conflicts_with_all = ["to", "forward", "limit"])]
    follow: bool,
    /// For metric queries over a range of time: the distance of the points.
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
}

/// Asks and shows.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    if is_log_query(&arguments.query) {
        return lines(arguments, server, screen).await;
    }
    if arguments.follow {
        let reason = "only log queries can be followed".into();
        return Err(Error::Argument { flag: "--follow", reason });
    }
    if arguments.span.has_start() || arguments.step.is_some() {
        return range(arguments, server, screen).await;
    }
    let now = when::now();
    let at = arguments.span.to.as_ref().map_or(Ok(now), |text| when::time("--to", text, now))?;
    let parameters = [("query", arguments.query.clone()), ("time", at.to_string())];
    let answer = server.data("/loki/api/v1/query", &parameters).await;
    table::show(&answer.map_err(|error| pointed(error, &arguments.query))?, screen)
}

/// The error with the place in the query, when the server refused a text that is no LogQL: Loki's
/// endpoints name the place and do not show it.
fn pointed(error: Error, query: &str) -> Error {
    match (error, parse(query, LogqlOptions::default())) {
        (Error::Refused(_), Err(wrong)) => Error::Refused(wrong.render(query)),
        (error, _) => error,
    }
}

/// A log query begins with a selector or a filter, a metric query with a name, a number or a sign:
/// LogQL's grammar leaves nothing else.
fn is_log_query(query: &str) -> bool {
    let mut rest = query;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        match rest.strip_prefix('#') {
            Some(comment) => rest = comment.split_once('\n').map_or("", |(_, after)| after),
            None => return rest.is_empty() || rest.starts_with(['{', '|', '!']),
        }
    }
}

async fn lines(arguments: &Arguments, server: &Server, screen: &mut Screen) -> Result<bool, Error> {
    if arguments.step.is_some() {
        let reason = "only metric queries have steps".into();
        return Err(Error::Argument { flag: "--step", reason });
    }
    let now = when::now();
    let timestamps = screen.format == Format::Default;
    if arguments.follow {
        let start = match arguments.span.has_start() {
            true => arguments.span.range(now, SINCE_DEFAULT)?.start,
            false => now,
        };
        return follow(server, &arguments.query, start, timestamps, screen).await;
    }
    let history = History {
        query: &arguments.query,
        range: arguments.span.range(now, SINCE_DEFAULT)?,
        limit: arguments.limit,
        forward: arguments.forward,
    };
    history.each(server, screen, |row, screen| row.show(timestamps, screen)).await
}

async fn range(arguments: &Arguments, server: &Server, screen: &mut Screen) -> Result<bool, Error> {
    let range = arguments.span.range(when::now(), SINCE_DEFAULT)?;
    let mut parameters = vec![
        ("query", arguments.query.clone()),
        ("start", range.start.to_string()),
        ("end", range.end.to_string()),
    ];
    if let Some(text) = &arguments.step {
        parameters.push(("step", table::seconds(when::duration("--step", text)?)));
    }
    let answer = server.data("/loki/api/v1/query_range", &parameters).await;
    table::show(&answer.map_err(|error| pointed(error, &arguments.query))?, screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Written};
    use axum::extract::Query;
    use axum::routing::get;
    use clap::Parser;
    use std::collections::HashMap;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        query: Arguments,
    }

    #[test]
    fn log_queries_are_told_from_metric_queries() {
        let logs =
            ["{app=\"x\"}", " ({a=\"b\"} | json)", "# why\n{a=\"b\"}", "|= \"x\"", "!= \"y\"", ""];
        let metrics = ["rate({a=\"b\"}[5m])", "(sum(rate({a=\"b\"}[5m])))", "1 + 1", "-vector(1)"];
        assert!(logs.iter().all(|query| is_log_query(query)));
        assert!(!metrics.iter().any(|query| is_log_query(query)));
    }

    /// Answers every question with the parameters that it got.
    async fn shown(words: &[&str]) -> Result<String, Error> {
        type Asked = Query<HashMap<String, String>>;
        let row = |Query(asked): Asked| async move {
            let line = format!("{} {}", asked["direction"], asked["limit"]);
            format!("{{\"ts\":\"1\",\"labels\":{{\"pod\":\"p\"}},\"line\":\"{line}\"}}\n")
        };
        let data = |kind: &'static str| {
            move |Query(asked): Asked| async move {
                let step = asked.get("step").cloned().unwrap_or_default();
                let result = format!("[1,\"{kind}{step}\"]");
                format!(
                    "{{\"status\":\"success\",\"data\":{{\"resultType\":\"string\",\"result\":{result}}}}}"
                )
            }
        };
        let router = axum::Router::new()
            .route("/api/v1/logs/query", get(row))
            .route("/loki/api/v1/query", get(data("instant")))
            .route("/loki/api/v1/query_range", get(data("range")));
        let server = fake::serve(router).await;
        let written = Written::default();
        let arguments = Line::try_parse_from([&["query"], words].concat()).unwrap().query;
        run(&arguments, &server, &mut written.screen(Format::Raw, false)).await?;
        Ok(written.text())
    }

    #[test]
    fn a_refused_text_shows_its_place() {
        let refused = || Error::Refused("no".into());
        let shown = |query| pointed(refused(), query).to_string();
        let text = shown("sum(foo)");
        assert!(text.contains("line 1, col 5") && text.ends_with("sum(foo)\n    ^"), "{text}");
        assert_eq!(shown("vector(1)"), "no");
    }

    #[tokio::test]
    async fn each_query_goes_to_its_door() {
        assert_eq!(shown(&["{a=\"b\"}"]).await.unwrap(), "backward 100\n");
        let forward = shown(&["{a=\"b\"}", "--forward", "--limit", "3"]).await.unwrap();
        assert_eq!(forward, "forward 3\n");
        assert_eq!(shown(&["vector(1)"]).await.unwrap(), "instant\n");
        assert_eq!(shown(&["vector(1)", "--since", "1h"]).await.unwrap(), "range\n");
        assert_eq!(shown(&["vector(1)", "--step", "1m"]).await.unwrap(), "range60\n");
        assert!(shown(&["{a=\"b\"}", "--step", "1m"]).await.is_err());
        assert!(shown(&["vector(1)", "--follow"]).await.is_err());
    }
}
