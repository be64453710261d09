//! `taffrail doctor`: does the collector answer, and has it what it should have?

use taffrail_model::time::NANOS_PER_SEC;

use super::Error;
use super::screen::{Ink, Screen};
use super::server::Server;
use super::when;

/// How new the newest lines and samples should be.
const RECENT: &str = "5m";
const RECENT_SECONDS: i64 = 300;

/// One finding a line; `true` when all is well. A collector that does not answer is an error.
pub(super) async fn run(server: &Server, screen: &mut Screen) -> Result<bool, Error> {
    let build = server.json("/loki/api/v1/status/buildinfo", &[]).await?;
    let revision = build["revision"].as_str().unwrap_or("of unknown version");
    say(screen, true, &format!("the collector answers: {revision}"))?;

    let start = when::now().saturating_sub(RECENT_SECONDS * NANOS_PER_SEC).to_string();
    let stats = server.json("/loki/api/v1/index/stats", &[("start", start)]).await?;
    let (streams, entries) = (&stats["streams"], stats["entries"].as_u64().unwrap_or(0));
    let logs = entries > 0;
    say(
        screen,
        logs,
        &match logs {
            true => format!("logs come: {entries} lines of {streams} streams in the last {RECENT}"),
            false => {
                format!("no logs in the last {RECENT}: does an agent run, and reach the collector?")
            }
        },
    )?;

    let query = [("query", format!("count(last_over_time({{__name__=~\".+\"}}[{RECENT}]))"))];
    let data = server.data("/api/v1/query", &query).await?;
    let series = data.pointer("/result/0/value/1").and_then(|value| value.as_str());
    say(
        screen,
        series.is_some(),
        &match series {
            Some(count) => format!("metrics come: {count} series in the last {RECENT}"),
            None => format!("no metrics in the last {RECENT}: are pods annotated to be scraped?"),
        },
    )?;
    Ok(logs && series.is_some())
}

fn say(screen: &mut Screen, well: bool, text: &str) -> Result<(), Error> {
    let (ink, word) = if well { (Ink::Green, "ok") } else { (Ink::Red, "no") };
    screen.painted(ink, word)?.text("  ")?.foreign(text)?.text("\n")?;
    Ok(())
}
