//! Prometheus' query API under `/api/v1`, with its exact shapes, statuses and limits, so that
//! Grafana and other clients work unchanged.
//!
//! Handlers only read parameters and choose; questions run through [`super::run`], answers are
//! written by [`json`].

mod discover;
mod error;
mod json;
mod params;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::{ApiState, run};
use crate::promql::{self, Options, Query, Steps, Value};
use crate::source::Cancel;

use error::ApiError;
use params::Params;

/// Most points a series of a range answer may have, as in Prometheus.
const POINTS_MAX: i64 = 11_000;

/// What an answer that a `limit` has cut says.
const TRUNCATED: &str = "results truncated due to limit";

/// The routes of this API.
pub(super) fn router(state: ApiState) -> Router {
    Router::new()
        .route("/api/v1/query", get(query).post(query))
        .route("/api/v1/query_range", get(query_range).post(query_range))
        .route("/api/v1/format_query", get(format_query).post(format_query))
        .route("/api/v1/labels", get(discover::labels).post(discover::labels))
        .route("/api/v1/label/{name}/values", get(discover::label_values))
        .route("/api/v1/series", get(discover::series).post(discover::series))
        .route("/api/v1/metadata", get(discover::metadata))
        .route("/api/v1/status/buildinfo", get(discover::build_info))
        .with_state(state)
}

async fn query(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let at = params.time("time")?.unwrap_or_else(taffrail_kit::clock::unix_millis);
    let query = params.query()?;
    answer(&state, &params, move |source, options, cancel| {
        promql::instant(source, &query, at, options, cancel)
    })
    .await
}

async fn query_range(State(state): State<ApiState>, params: Params) -> Result<Response, ApiError> {
    let steps = steps(&params)?;
    let query = params.query()?;
    answer(&state, &params, move |source, options, cancel| {
        promql::range(source, &query, steps, options, cancel)
    })
    .await
}

fn steps(params: &Params) -> Result<Steps, ApiError> {
    let start = params.required_time("start")?;
    let end = params.required_time("end")?;
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = params.required_duration("step")?;
    if step <= 0 {
        return Err(ApiError::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if (end - start) / step > POINTS_MAX {
        return Err(ApiError::BadData(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
             resolution (?step=XX)"
                .to_owned(),
        ));
    }
    Ok(Steps { start, end, step })
}

/// Runs a query on a blocking thread within the caller's and the server's timeout.
async fn answer(
    state: &ApiState,
    params: &Params,
    ask: impl FnOnce(
        &dyn crate::source::SeriesSource,
        &Options,
        &Cancel,
    ) -> Result<promql::Answer, promql::Error>
    + Send
    + 'static,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let state = within_timeout(state, params)?;
    let options = options(&state, params)?;
    let source = state.series.clone();
    let mut answer =
        run::run(&state, move |cancel| ask(source.as_ref(), &options, &cancel)).await??;
    if truncate(&mut answer.value, limit) {
        answer.warnings.push(TRUNCATED.to_owned());
    }
    Ok(json::answer(answer))
}

fn options(state: &ApiState, params: &Params) -> Result<Options, ApiError> {
    let configured = i64::try_from(state.config.lookback.as_millis()).unwrap_or(i64::MAX / 4);
    let lookback = params.duration("lookback_delta")?.filter(|millis| *millis > 0);
    Ok(Options {
        lookback: lookback.unwrap_or(configured),
        samples_max: state.config.samples_max,
        ..Options::default()
    })
}

fn within_timeout(state: &ApiState, params: &Params) -> Result<ApiState, ApiError> {
    let mut state = state.clone();
    if let Some(millis) = params.duration("timeout")? {
        let asked = std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        if asked < state.config.timeout {
            let mut config = (*state.config).clone();
            config.timeout = asked;
            state.config = config.into();
        }
    }
    Ok(state)
}

fn truncate(value: &mut Value, limit: Option<usize>) -> bool {
    let Some(limit) = limit else {
        return false;
    };
    let before = match value {
        Value::Vector(_, samples) => {
            let before = samples.len();
            samples.truncate(limit);
            before
        }
        Value::Matrix(series) => {
            let before = series.len();
            series.truncate(limit);
            before
        }
        Value::Scalar(..) | Value::Text(..) => 0,
    };
    before > limit
}

async fn format_query(params: Params) -> Result<Response, ApiError> {
    let Query { expr, .. } = params.query()?;
    Ok(json::text(&expr.to_string()))
}
