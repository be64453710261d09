//! `taffrail metrics`: PromQL, at one time or over a range.

use taffrail_model::Nanos;
use taffrail_model::time::NANOS_PER_SEC;

use super::Error;
use super::screen::Screen;
use super::server::Server;
use super::table;
use super::when::{self, Span};

/// How far back a range goes when only its step is given.
const SINCE_DEFAULT: Nanos = 3600 * NANOS_PER_SEC;
/// How many points a range has when its step is not given.
const POINTS_DEFAULT: i64 = 120;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The PromQL query.
    #[arg(help = "The PromQL query, for example 'sum by (app) (rate(http_requests_total[5m]))'")]
    query: String,
    /// The time of the answer; now, if not given.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "from", "to", "step"])]
    at: Option<String>,
    #[command(flatten)]
    span: Span,
    /// The distance of the points of a range.
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
}

/// Asks and shows.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let now = when::now();
    let query = arguments.query.clone();
    if !arguments.span.has_start() && arguments.step.is_none() && arguments.span.to.is_none() {
        let at = arguments.at.as_ref().map_or(Ok(now), |text| when::time("--at", text, now))?;
        let parameters = [("query", query), ("time", table::seconds(at))];
        return table::show(&server.data("/api/v1/query", &parameters).await?, screen);
    }
    let range = arguments.span.range(now, SINCE_DEFAULT)?;
    let step = match &arguments.step {
        Some(text) => when::duration("--step", text)?,
        None => whole_seconds((range.end - range.start) / POINTS_DEFAULT),
    };
    let parameters = [
        ("query", query),
        ("start", table::seconds(range.start)),
        ("end", table::seconds(range.end)),
        ("step", table::seconds(step)),
    ];
    table::show(&server.data("/api/v1/query_range", &parameters).await?, screen)
}

fn whole_seconds(nanos: Nanos) -> Nanos {
    (nanos / NANOS_PER_SEC).max(1) * NANOS_PER_SEC
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Written};
    use crate::cli::screen::Format;
    use axum::extract::RawQuery;
    use axum::routing::get;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        metrics: Arguments,
    }

    #[tokio::test]
    async fn one_time_or_a_range() {
        let echo = |RawQuery(query): RawQuery| async move {
            let result = serde_json::json!([1, query.unwrap_or_default()]);
            let data = serde_json::json!({"resultType": "string", "result": result});
            serde_json::json!({"status": "success", "data": data}).to_string()
        };
        let router = axum::Router::new()
            .route("/api/v1/query", get(echo))
            .route("/api/v1/query_range", get(echo));
        let server = fake::serve(router).await;
        let cases: [(&[&str], &str); 3] = [
            (&["up", "--at", "1970-01-01T00:00:01.5Z"], "query=up&time=1.5\n"),
            (
                &["a+b", "--from", "1970-01-01T00:00:00Z", "--to", "1970-01-01T02:00:00Z"],
                "query=a%2Bb&start=0&end=7200&step=60\n",
            ),
            (
                &["up", "--since", "10s", "--to", "1970-01-01T00:01:00Z", "--step", "500ms"],
                "query=up&start=50&end=60&step=0.5\n",
            ),
        ];
        for (words, expected) in cases {
            let written = Written::default();
            let arguments = Line::try_parse_from([&["metrics"], words].concat()).unwrap().metrics;
            run(&arguments, &server, &mut written.screen(Format::Raw, false)).await.unwrap();
            assert_eq!(written.text(), expected);
        }
    }
}
