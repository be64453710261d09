//! `taffrail fields`: which fields lines have, or the values of one.

use serde_json::Value;
use taffrail_model::Nanos;
use taffrail_model::time::NANOS_PER_SEC;

use super::Error;
use super::screen::{Format, Screen};
use super::server::{Server, push_encoded};
use super::target::Target;
use super::when::{self, Span};

/// How far back is looked when nothing is said.
const SINCE_DEFAULT: Nanos = 3600 * NANOS_PER_SEC;
/// The newest lines that are looked at.
const LINES: usize = 1000;

/// Whose lines.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Containers, separated by commas; * stands for any text.
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// The field whose values are listed.
    #[arg(short, long, value_name = "FIELD")]
    field: Option<String>,
    #[command(flatten)]
    span: Span,
}

/// A table of fields, or one value a line.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let range = arguments.span.range(when::now(), SINCE_DEFAULT)?;
    let parameters = [
        ("query", arguments.target.logql(arguments.container.as_deref(), "")?),
        ("start", range.start.to_string()),
        ("end", range.end.to_string()),
        ("line_limit", LINES.to_string()),
    ];
    let (path, member) = match &arguments.field {
        None => ("/loki/api/v1/detected_fields".to_owned(), "fields"),
        Some(field) => {
            let mut path = String::from("/loki/api/v1/detected_field/");
            push_encoded(&mut path, field);
            (path + "/values", "values")
        }
    };
    let answer = server.json(&path, &parameters).await?;
    let empty = Vec::new();
    let found = answer[member].as_array().unwrap_or(&empty);
    match (screen.format, &arguments.field) {
        (Format::Json, _) => {
            screen.text(&Value::from(found.clone()).to_string())?.text("\n")?;
        }
        (_, Some(_)) => {
            for value in found {
                screen.foreign(value.as_str().unwrap_or_default())?.text("\n")?;
            }
        }
        (format, None) => table(found, format, screen)?,
    }
    Ok(!found.is_empty())
}

fn table(fields: &[Value], format: Format, screen: &mut Screen) -> Result<(), Error> {
    let name = |field: &Value| field["label"].as_str().unwrap_or_default().to_owned();
    let width = fields.iter().map(|field| name(field).chars().count()).max().unwrap_or(0).max(5);
    if format == Format::Default && !fields.is_empty() {
        screen.text(&format!("{:<width$}  TYPE      VALUES  FROM\n", "FIELD"))?;
    }
    for field in fields {
        if format == Format::Raw {
            screen.foreign(&name(field))?.text("\n")?;
            continue;
        }
        let kind = field["type"].as_str().unwrap_or_default();
        let values = field["cardinality"].as_u64().unwrap_or_default();
        let parsers = field["parsers"]
            .as_array()
            .map(|parsers| parsers.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
        // What is found without a parser is metadata of the line.
        let from = parsers.unwrap_or_else(|| "metadata".into());
        let rest = format!("  {kind:<8}  {values:<6}  {from}\n");
        screen.foreign(&format!("{:<width$}", name(field)))?.text(&rest)?;
    }
    Ok(())
}
