//! `taffrail labels`: which labels the logs have, and which values.

use serde_json::Value;
use taffrail_model::Nanos;

use super::Error;
use super::screen::{Format, Screen};
use super::server::{Server, push_encoded};
use super::when::{self, Span};

/// How far back is looked when nothing is said.
const SINCE_DEFAULT: Nanos = 24 * 3600 * 1_000_000_000;

/// Whose values are wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The label whose values are listed; without it the names of all labels.
    name: Option<String>,
    #[command(flatten)]
    span: Span,
}

/// One name or value a line.
pub(super) async fn run(
    arguments: &Arguments,
    server: &Server,
    screen: &mut Screen,
) -> Result<bool, Error> {
    let range = arguments.span.range(when::now(), SINCE_DEFAULT)?;
    let path = match &arguments.name {
        None => "/loki/api/v1/labels".to_owned(),
        Some(name) => {
            let mut path = String::from("/loki/api/v1/label/");
            push_encoded(&mut path, name);
            path + "/values"
        }
    };
    let parameters = [("start", range.start.to_string()), ("end", range.end.to_string())];
    let data = server.data(&path, &parameters).await?;
    let empty = Vec::new();
    let names = data.as_array().unwrap_or(&empty);
    if screen.format == Format::Json {
        screen.text(&Value::from(names.clone()).to_string())?.text("\n")?;
        return Ok(!names.is_empty());
    }
    for name in names {
        screen.foreign(name.as_str().unwrap_or_default())?.text("\n")?;
    }
    Ok(!names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Written};
    use axum::routing::get;

    #[tokio::test]
    async fn names_and_values() {
        let answer = |data: &'static str| {
            get(move || std::future::ready(format!("{{\"status\":\"success\"{data}}}")))
        };
        let router = axum::Router::new()
            .route("/loki/api/v1/labels", answer(",\"data\":[\"app\",\"pod\"]"))
            .route("/loki/api/v1/label/app/values", answer(",\"data\":[\"web\"]"))
            // Loki leaves `data` out when there is none.
            .route("/loki/api/v1/label/a%2Fb/values", answer(""));
        let server = fake::serve(router).await;
        let cases = [
            (None, Format::Default, "app\npod\n", true),
            (None, Format::Json, "[\"app\",\"pod\"]\n", true),
            (Some("app"), Format::Raw, "web\n", true),
            (Some("a/b"), Format::Default, "", false),
        ];
        for (name, format, expected, found) in cases {
            let written = Written::default();
            let arguments = Arguments { name: name.map(str::to_owned), span: Span::default() };
            let mut screen = written.screen(format, false);
            assert_eq!(run(&arguments, &server, &mut screen).await.unwrap(), found);
            assert_eq!(written.text(), expected);
        }
    }
}
