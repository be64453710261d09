//! What there is: label names, label values, series, types of metrics, and who answers.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::Response;
use taffrail_model::Labels;

use super::super::{ApiState, run};
use super::error::ApiError;
use super::params::Params;
use super::{TRUNCATED, json, within_timeout};
use crate::source::SourceError;

/// The version of Prometheus whose query API this is. Clients (Grafana among them) decide by it what
/// they may ask.
const SPOKEN_VERSION: &str = "3.5.0";

/// The label sets that any of the request's selectors selects; all when there is none.
async fn selected(state: &ApiState, params: &Params) -> Result<BTreeSet<Labels>, ApiError> {
    let (start, end) = params.period()?;
    let mut selectors = params.selectors()?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let state = within_timeout(state, params)?;
    let source = state.series.clone();
    let found = run::run(&state, move |cancel| {
        let mut found = BTreeSet::new();
        for matchers in &selectors {
            cancel.check()?;
            found.extend(source.series(matchers, start, end)?);
        }
        Ok::<_, SourceError>(found)
    })
    .await??;
    Ok(found)
}

/// Keeps the first `limit` items, and says so.
fn limited<'s>(items: &BTreeSet<&'s str>, limit: Option<usize>) -> (Vec<&'s str>, Vec<String>) {
    let cut = limit.is_some_and(|limit| items.len() > limit);
    let kept = items.iter().take(limit.unwrap_or(usize::MAX)).copied().collect();
    (kept, if cut { vec![TRUNCATED.to_owned()] } else { Vec::new() })
}

pub(super) async fn labels(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let found = selected(&state, &params).await?;
    let names: BTreeSet<&str> =
        found.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
    let (names, warnings) = limited(&names, limit);
    Ok(json::success(&json::strings(names), &warnings))
}

pub(super) async fn label_values(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let name = unescaped(&name);
    if name.is_empty() {
        return Err(ApiError::BadData(format!("invalid label name: {name:?}")));
    }
    let limit = params.limit()?;
    let found = selected(&state, &params).await?;
    let values: BTreeSet<&str> = found.iter().filter_map(|labels| labels.get(&name)).collect();
    let (values, warnings) = limited(&values, limit);
    Ok(json::success(&json::strings(values), &warnings))
}

/// Reads a name that was escaped to fit a path: `U__app_2e_name` is `app.name`.
fn unescaped(name: &str) -> String {
    let Some(body) = name.strip_prefix("U__") else {
        return name.to_owned();
    };
    let mut out = String::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once('_') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = after.split_once('_').and_then(|(code, after)| {
            let character = char::from_u32(u32::from_str_radix(code, 16).ok()?)?;
            Some((character, after))
        });
        // What is no escape was never escaped.
        let Some((character, after)) = code else {
            return name.to_owned();
        };
        out.push(character);
        rest = after;
    }
    out.push_str(rest);
    out
}

pub(super) async fn series(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    if params.selectors()?.is_empty() {
        return Err(ApiError::BadData("no match[] parameter provided".to_owned()));
    }
    let limit = params.limit()?;
    let found = selected(&state, &params).await?;
    let mut out = String::from("[");
    for (index, labels) in found.iter().take(limit.unwrap_or(usize::MAX)).enumerate() {
        if index > 0 {
            out.push(',');
        }
        json::labels(&mut out, labels);
    }
    out.push(']');
    let cut = limit.is_some_and(|limit| found.len() > limit);
    let warnings = if cut { vec![TRUNCATED.to_owned()] } else { Vec::new() };
    Ok(json::success(&out, &warnings))
}

pub(super) async fn metadata(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?.unwrap_or(usize::MAX);
    let source = state.series.clone();
    let known = run::run(&state, move |_| source.metadata()).await?;
    let wanted = params.get("metric");
    let mut out = String::from("{");
    let chosen = known.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    for (index, (name, kind)) in chosen.take(limit).enumerate() {
        if index > 0 {
            out.push(',');
        }
        json::string(&mut out, name);
        out.push_str(":[{\"type\":\"");
        out.push_str(kind.name());
        out.push_str("\",\"unit\":\"\",\"help\":\"\"}]");
    }
    out.push('}');
    Ok(json::success(&out, &[]))
}

pub(super) async fn build_info() -> Response {
    let data = format!(
        "{{\"version\":\"{SPOKEN_VERSION}\",\"revision\":\"\",\"branch\":\"\",\"buildUser\":\"\",\
         \"buildDate\":\"\",\"goVersion\":\"\",\"application\":\"Taffrail\",\
         \"applicationVersion\":\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    json::success(&data, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names() {
        let cases = [
            ("job", "job"),
            ("U__app_2e_name", "app.name"),
            ("U__a__b", "a_b"),
            ("U__gr_fc_n", "grün"),
            ("U__broken_", "U__broken_"),
            ("U__", ""),
        ];
        for (name, expected) in cases {
            assert_eq!(unescaped(name), expected, "{name}");
        }
    }
}
