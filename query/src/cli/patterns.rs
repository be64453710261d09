//! `taffrail patterns`: what lines have in common, with how many there are of each kind.

use serde_json::Value;
use taffrail_model::time::NANOS_PER_SEC;
use taffrail_model::{Level, Nanos};

use super::Error;
use super::screen::{Format, Ink, Screen};
use super::server::Server;
use super::target::Target;
use super::when::{self, Span};

/// How far back is looked when nothing is said.
const SINCE_DEFAULT: Nanos = 3600 * NANOS_PER_SEC;
/// Steps of the time: few, since only their sum is shown.
const STEPS: Nanos = 60;

/// Whose lines.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Containers, separated by commas; * stands for any text.
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// How many patterns, the biggest first.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    span: Span,
}

/// A table of counts, levels and patterns.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let range = arguments.span.range(when::now(), SINCE_DEFAULT)?;
    let step = range.end.saturating_sub(range.start) / STEPS / NANOS_PER_SEC;
    let parameters = [
        ("query", arguments.target.logql(arguments.container.as_deref(), "")?),
        ("start", range.start.to_string()),
        ("end", range.end.to_string()),
        ("step", step.max(1).to_string()),
    ];
    let data = server.data("/loki/api/v1/patterns", &parameters).await?;
    let empty = Vec::new();
    let found = data.as_array().unwrap_or(&empty);
    let shown = &found[..found.len().min(arguments.limit)];
    if screen.format == Format::Json {
        screen.text(&Value::from(shown.to_vec()).to_string())?.text("\n")?;
        return Ok(!shown.is_empty());
    }
    if screen.format == Format::Default && !shown.is_empty() {
        screen.text("LINES  LEVEL  PATTERN\n")?;
    }
    for pattern in shown {
        let text = pattern["pattern"].as_str().unwrap_or_default();
        if screen.format == Format::Default {
            let level = pattern["level"].as_str().unwrap_or_default();
            let ink = Ink::of_level(Level::from_word(level).unwrap_or_default());
            screen.text(&format!("{:<6} ", lines(pattern)))?;
            screen.painted(ink, &format!("{level:<6}"))?.text(" ")?;
        }
        screen.foreign(text)?.text("\n")?;
    }
    Ok(!shown.is_empty())
}

fn lines(pattern: &Value) -> u64 {
    let samples = pattern["samples"].as_array().into_iter().flatten();
    samples.filter_map(|sample| sample[1].as_u64()).sum()
}
