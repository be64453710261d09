//! `/loki/api/v1/patterns`: what the lines of a query have in common, counted by step.
//!
//! Lines are read, not guessed: the counts are those of a query over the same range. Any log query is
//! taken, where Loki takes a selector.

use std::ops::ControlFlow;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use taffrail_kit::clock;
use taffrail_model::Nanos;
use taffrail_model::time::NANOS_PER_SEC;

use crate::logql::ast::Expr;
use crate::logql::labels::LineLabels;
use crate::logql::patterns::{Pattern, Patterns};
use crate::logql::plan::LogPlan;
use crate::logql::{LogqlOptions, QueryError, parse};
use crate::source::LogScan;

use super::super::ApiState;
use super::super::run::run;
use super::answer::json_response;
use super::error::ApiError;
use super::params::Params;

/// Shortest step, as in Loki.
const STEP_MIN: Nanos = 10 * NANOS_PER_SEC;
/// Patterns of an answer, the biggest ones.
const PATTERNS_MAX: usize = 300;

/// `GET|POST /loki/api/v1/patterns?query=&start=&end=&step=`
pub(super) async fn patterns(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let query = params.query();
    // Wider than Loki, which wants a selector.
    let options = LogqlOptions { allow_empty_selector: true };
    let expr = parse(query, options).map_err(|error| ApiError::parse(&error))?;
    let Expr::Log(log) = expr else {
        return Err(ApiError::bad_request("only log selector is supported"));
    };
    let range = params.range(clock::unix_nanos())?;
    let step = params.step(range)?.max(STEP_MIN);
    let logs = state.logs.clone();
    let found = run(&state, move |cancel| {
        let plan = LogPlan::new(&log)?;
        let scan = LogScan {
            matchers: plan.matchers.clone(),
            range,
            filters: plan.filters.clone(),
            order: None,
            limit: None,
            cancel,
        };
        let mut patterns = Patterns::new(step);
        let mut labels = LineLabels::new();
        logs.scan(&scan, &mut |stream, row| {
            if let Some(line) = plan.admit(stream, &row, &mut labels) {
                patterns.add(row.ts, row.level, &line);
            }
            ControlFlow::Continue(())
        })?;
        Ok::<_, QueryError>(patterns.finish())
    })
    .await??;
    let data: Vec<Value> = found.iter().take(PATTERNS_MAX).map(shown).collect();
    Ok(json_response(format!("{}\n", json!({ "status": "success", "data": data }))))
}

fn shown(pattern: &Pattern) -> Value {
    let samples = pattern.samples.iter();
    let samples: Vec<Value> =
        samples.map(|(at, count)| json!([at.div_euclid(NANOS_PER_SEC), count])).collect();
    json!({ "pattern": pattern.text, "level": pattern.level.name(), "samples": samples })
}
