//! `query` and `query_range`.

use std::ops::ControlFlow;
use std::time::Instant;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use taffrail_kit::clock;
use taffrail_model::{Nanos, TimeRange};

use crate::logql::ast::{Expr, LogExpr, MetricExpr};
use crate::logql::log::{LogParams, run_log};
use crate::logql::metric::{MetricAnswer, MetricParams, MetricValue, Steps, run_metric};
use crate::logql::plan::LogPlan;
use crate::logql::{LogqlOptions, parse};

use super::super::ApiState;
use super::super::run::run;
use super::answer::{Cost, Streams, instant_body, json_response, matrix_body};
use super::error::ApiError;
use super::params::{POINTS_MAX, Params};

const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";

/// `GET|POST /loki/api/v1/query`
pub(super) async fn instant(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let at = params.instant(clock::unix_nanos())?;
    params.limit(usize::MAX)?;
    params.direction()?;
    let Expr::Metric(metric) = read(params.query())? else {
        return Err(ApiError::bad_request(
            "log queries are not supported as an instant query type, please change your query to a \
             range query type",
        ));
    };
    let (answer, cost) = run_steps(&state, metric, Steps::instant(at), true).await?;
    Ok(json_response(instant_body(&answer, at, &cost)))
}

/// `GET|POST /loki/api/v1/query_range`
pub(super) async fn range(
    State(state): State<ApiState>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let range = params.range(clock::unix_nanos())?;
    // Checked even where unused, as Loki does.
    let (limit, direction) = (params.limit(state.config.lines_max), params.direction()?);
    let step = params.step(range)?;
    match read(params.query())? {
        Expr::Metric(metric) => {
            let steps = aligned(range, step)?;
            let (answer, cost) = run_steps(&state, metric, steps, false).await?;
            Ok(json_response(matrix_body(&answer, steps, &cost)))
        }
        Expr::Log(log) => {
            let wanted = LogParams {
                range,
                direction,
                limit: Some(limit?),
                interval: params.interval()?,
                cancel: crate::source::Cancel::new(),
            };
            lines(&state, log, wanted, wants_categories(&headers)).await
        }
    }
}

/// Whether labels that are not the stream's own are wanted beside each line.
pub(super) fn wants_categories(headers: &HeaderMap) -> bool {
    let flags = headers.get_all(ENCODING_FLAGS).iter().filter_map(|value| value.to_str().ok());
    flags.flat_map(|value| value.split(',')).any(|flag| flag.trim() == "categorize-labels")
}

fn read(query: &str) -> Result<Expr, ApiError> {
    parse(query, LogqlOptions::default()).map_err(|error| ApiError::parse(&error))
}

/// The steps of a range: its start rounded down and its end rounded up to a multiple of the step, so
/// that panels of different widths show the same points.
fn aligned(range: TimeRange, step: Nanos) -> Result<Steps, ApiError> {
    let start = range.start.div_euclid(step).checked_mul(step);
    let end =
        range.end.checked_add(step - 1).and_then(|end| end.div_euclid(step).checked_mul(step));
    let count_max = usize::try_from(POINTS_MAX).unwrap_or_default() + 3;
    start
        .zip(end)
        .and_then(|(start, end)| Steps::range(start, end, step, count_max))
        .ok_or_else(|| ApiError::bad_request("the time range is out of bounds"))
}

async fn run_steps(
    state: &ApiState,
    metric: MetricExpr,
    steps: Steps,
    instant: bool,
) -> Result<(MetricAnswer, Cost), ApiError> {
    let (logs, series_max) = (state.logs.clone(), state.config.log_series_max);
    let begun = Instant::now();
    let answer = run(state, move |cancel| {
        let params = MetricParams { steps, instant, series_max, cancel };
        run_metric(&*logs, &metric, &params)
    })
    .await??;
    let entries = match &answer.value {
        MetricValue::Scalar(_) => 1,
        MetricValue::Series(series) => series.len(),
    };
    let cost = Cost { scan: answer.stats, entries, seconds: begun.elapsed().as_secs_f64() };
    Ok((answer, cost))
}

async fn lines(
    state: &ApiState,
    log: LogExpr,
    wanted: LogParams,
    categorize: bool,
) -> Result<Response, ApiError> {
    let logs = state.logs.clone();
    let begun = Instant::now();
    let (streams, scan) = run(state, move |cancel| {
        let plan = LogPlan::new(&log)?;
        let mut streams = Streams::new(categorize);
        let params = LogParams { cancel, ..wanted };
        let mut full = None;
        let stats = run_log(&*logs, &plan, &params, &mut |line| match streams.add(&line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                full = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = full {
            return Err(error.into());
        }
        Ok::<_, crate::logql::QueryError>((streams, stats))
    })
    .await??;
    let cost = Cost { scan, entries: streams.count(), seconds: begun.elapsed().as_secs_f64() };
    Ok(json_response(streams.body(&cost)))
}
