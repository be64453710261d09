//! Fields found in lines: `detected_fields` and `detected_field/{name}/values`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use taffrail_kit::clock;

use crate::logql::ast::Expr;
use crate::logql::fields::{Field, Fields};
use crate::logql::log::{LogParams, run_log};
use crate::logql::plan::LogPlan;
use crate::logql::{LogqlOptions, QueryError, parse};
use crate::source::Direction;

use super::super::ApiState;
use super::super::run::run;
use super::answer::json_response;
use super::error::ApiError;
use super::params::Params;

/// Fields or values of an answer when nothing says so, and at the most.
const FIELDS: usize = 1000;
/// Lines that are looked at when nothing says so.
const SAMPLE_LINES: usize = 100;
/// Lines that are looked at at the most.
const SAMPLE_LINES_MAX: usize = 5000;

/// A count between 1 and `max`.
fn count(params: &Params, name: &str, default: usize, max: usize) -> Result<usize, ApiError> {
    let Some(text) = params.get(name) else {
        return Ok(default);
    };
    let count = text.parse::<usize>().ok().filter(|count| *count > 0);
    count.map(|count| count.min(max)).ok_or_else(|| {
        ApiError::bad_request(format!("invalid {name} {text:?}, expecting a positive number"))
    })
}

async fn find(state: &ApiState, params: &Params) -> Result<BTreeMap<String, Field>, ApiError> {
    let query = params.query();
    // Wider than Loki, which wants a selector.
    let options = LogqlOptions { allow_empty_selector: true };
    let expr = parse(query, options).map_err(|error| ApiError::parse(&error))?;
    let Expr::Log(log) = expr else {
        return Err(ApiError::bad_request("only log selector is supported"));
    };
    let range = params.range(clock::unix_nanos())?;
    let lines = count(params, "line_limit", SAMPLE_LINES, SAMPLE_LINES_MAX)?;
    let logs = state.logs.clone();
    let fields = run(state, move |cancel| {
        let plan = LogPlan::new(&log)?;
        let wanted = LogParams {
            range,
            direction: Direction::Backward,
            limit: Some(lines),
            interval: 0,
            cancel,
        };
        let mut fields = Fields::new(FIELDS);
        run_log(&*logs, &plan, &wanted, &mut |line| {
            fields.add(&line);
            ControlFlow::Continue(())
        })?;
        Ok::<_, QueryError>(fields.into_map())
    })
    .await??;
    Ok(fields)
}

/// `GET|POST /loki/api/v1/detected_fields`
pub(super) async fn fields(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = count(&params, "limit", FIELDS, FIELDS)?;
    let found = find(&state, &params).await?;
    let fields: Vec<Value> = found
        .into_iter()
        .take(limit)
        .map(|(label, field)| {
            let parsers = if field.parsers.is_empty() { Value::Null } else { json!(field.parsers) };
            let mut member = json!({
                "label": label,
                "type": field.kind().name(),
                "cardinality": field.values.len(),
                "parsers": parsers
            });
            if !field.json_path.is_empty() {
                member["jsonPath"] = json!(field.json_path);
            }
            member
        })
        .collect();
    Ok(json_response(format!("{}\n", json!({ "fields": fields, "limit": limit }))))
}

/// `GET|POST /loki/api/v1/detected_field/{name}/values`
pub(super) async fn values(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = count(&params, "limit", FIELDS, FIELDS)?;
    let mut found = find(&state, &params).await?;
    let values = found.remove(&name).unwrap_or_default().values;
    let values: Vec<String> = values.into_iter().take(limit).collect();
    Ok(json_response(format!("{}\n", json!({ "values": values, "limit": limit }))))
}
