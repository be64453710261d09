//! Labels, series and what is known of them without reading lines.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use taffrail_kit::clock;
use taffrail_model::limits::{REGEXES_MAX, SELECTORS_MAX};
use taffrail_model::{Labels, Matcher, TimeRange};

use crate::logql::{LogqlOptions, parse, parse_selector};
use crate::source::{LogCount, SourceError};

use super::super::ApiState;
use super::super::run::run;
use super::answer::json_response;
use super::error::ApiError;
use super::params::Params;

/// The version of Loki whose API this is. Clients look at it to know what they may ask.
const LOKI_VERSION: &str = "3.5.0";

/// Labels whose value becomes `service_name` at the push door, in Loki's order.
pub const SERVICE_LABELS: [&str; 14] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
    "pod",
];

/// Labels and metadata whose value is the level of a pushed line.
pub const LEVEL_NAMES: [&str; 6] =
    ["detected_level", "level", "LEVEL", "Level", "severity", "SEVERITY"];

pub(super) fn selector(text: &str) -> Result<Vec<Matcher>, ApiError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    parse_selector(text).map_err(|error| ApiError::parse(&error))
}

/// Selectors of one request, within limits on all of them together.
fn selectors(texts: &[&str]) -> Result<Vec<Vec<Matcher>>, ApiError> {
    if texts.len() > SELECTORS_MAX {
        let count = texts.len();
        return Err(ApiError::bad_request(format!("{count} selectors; at most {SELECTORS_MAX}")));
    }
    let mut selectors = Vec::with_capacity(texts.len());
    let mut regexes = 0;
    for text in texts {
        let matchers = selector(text)?;
        regexes += matchers.iter().filter(|matcher| matcher.is_regex()).count();
        if regexes > REGEXES_MAX {
            let message = format!("more than {REGEXES_MAX} regular expressions in the selectors");
            return Err(ApiError::bad_request(message));
        }
        selectors.push(matchers);
    }
    Ok(selectors)
}

async fn streams(
    state: &ApiState,
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
) -> Result<BTreeSet<Labels>, ApiError> {
    let logs = state.logs.clone();
    let found = run(state, move |cancel| {
        let mut found = BTreeSet::new();
        for matchers in &selectors {
            cancel.check()?;
            found.extend(logs.streams(matchers, range)?);
        }
        Ok::<_, SourceError>(found)
    })
    .await??;
    Ok(found)
}

/// `{"status":"success","data":…}`; nothing found leaves `data` out, as Loki does.
fn success(data: &[Value]) -> Response {
    let body = if data.is_empty() {
        json!({ "status": "success" })
    } else {
        json!({ "status": "success", "data": data })
    };
    json_response(format!("{body}\n"))
}

/// `GET|POST /loki/api/v1/labels`
pub(super) async fn labels(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let range = params.metadata_range(clock::unix_nanos())?;
    let found = streams(&state, vec![selector(params.query())?], range).await?;
    let names: BTreeSet<&str> = found.iter().flat_map(|l| l.iter().map(|(name, _)| name)).collect();
    Ok(success(&names.into_iter().map(Value::from).collect::<Vec<_>>()))
}

/// `GET|POST /loki/api/v1/label/{name}/values`
pub(super) async fn values(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let range = params.metadata_range(clock::unix_nanos())?;
    let found = streams(&state, vec![selector(params.query())?], range).await?;
    let values: BTreeSet<&str> = found.iter().filter_map(|labels| labels.get(&name)).collect();
    Ok(success(&values.into_iter().map(Value::from).collect::<Vec<_>>()))
}

/// `GET|POST /loki/api/v1/series`
pub(super) async fn series(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let range = params.metadata_range(clock::unix_nanos())?;
    let mut selectors = selectors(&params.all("match[]", "match"))?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let found = streams(&state, selectors, range).await?;
    let sets = found.iter().map(|labels| {
        Value::Object(labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect())
    });
    Ok(success(&sets.collect::<Vec<_>>()))
}

/// `GET /loki/api/v1/detected_labels`: the labels of the streams and how many values each has.
pub(super) async fn detected_labels(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let range = params.range(clock::unix_nanos())?;
    let found = streams(&state, vec![selector(params.query())?], range).await?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in found.iter().flat_map(Labels::iter) {
        values.entry(name).or_default().insert(value);
    }
    let detected: Vec<Value> = values
        .into_iter()
        .map(|(label, values)| json!({ "label": label, "cardinality": values.len() }))
        .collect();
    Ok(json_response(format!("{}\n", json!({ "detectedLabels": detected }))))
}

/// `GET /loki/api/v1/index/stats`: how much a query would read: streams, entries and bytes are
/// counted. `chunks` is 0: blocks are not cut by a client's query.
pub(super) async fn index_stats(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    let range = params.range(clock::unix_nanos())?;
    let matchers = selector(params.query())?;
    let logs = state.logs.clone();
    let (streams, entries, bytes) = run(&state, move |cancel| {
        let count = LogCount {
            matchers,
            filters: Vec::new(),
            ranges: vec![range],
            by_level: false,
            bytes: true,
            only_plain: false,
            cancel,
        };
        let counts = logs.count(&count)?.unwrap_or_default();
        let lines: u64 = counts.iter().flat_map(|counted| &counted.lines).sum();
        let bytes: u64 = counts.iter().flat_map(|counted| &counted.bytes).sum();
        Ok::<_, SourceError>((counts.len(), lines, bytes))
    })
    .await??;
    let body = json!({ "streams": streams, "chunks": 0, "bytes": bytes, "entries": entries });
    Ok(json_response(format!("{body}\n")))
}

/// `GET|POST /loki/api/v1/format_query`
pub(super) async fn format_query(params: Params) -> Response {
    match parse(params.query(), LogqlOptions::default()) {
        Ok(expr) => {
            let body = json!({ "status": "success", "data": expr.to_string() });
            json_response(format!("{body}\n"))
        }
        Err(error) => {
            let body = json!({ "status": "invalid-query", "error": error.to_string() });
            (StatusCode::BAD_REQUEST, json_response(format!("{body}\n"))).into_response()
        }
    }
}

/// `GET /loki/api/v1/status/buildinfo`
pub(super) async fn buildinfo() -> Json<Value> {
    Json(json!({
        "version": LOKI_VERSION,
        "revision": concat!("taffrail-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": ""
    }))
}

/// `GET /loki/api/v1/drilldown-limits`: what Grafana's Logs Drilldown may ask for. A limit that we do
/// not have is 0, as in Loki.
pub(super) async fn drilldown_limits(State(state): State<ApiState>) -> Json<Value> {
    let config = &state.config;
    Json(json!({
        "limits": {
            "discover_log_levels": true,
            "discover_service_name": SERVICE_LABELS,
            "log_level_fields": LEVEL_NAMES,
            "max_entries_limit_per_query": config.lines_max,
            "max_line_size_truncate": false,
            "max_query_bytes_read": "0B",
            "max_query_length": "0s",
            "max_query_lookback": "0s",
            "max_query_range": "0s",
            "max_query_series": config.log_series_max,
            "metric_aggregation_enabled": false,
            "pattern_persistence_enabled": false,
            "query_timeout": format!("{}s", config.timeout.as_secs()),
            "retention_period": "0s",
            "volume_enabled": true,
            "volume_max_series": super::volume::SERIES_MAX
        },
        "pattern_ingester_enabled": true,
        "version": LOKI_VERSION
    }))
}

/// What a ruler without rules answers.
fn ruler(data: &Value) -> Json<Value> {
    Json(json!({ "status": "success", "data": data, "errorType": "", "error": "" }))
}

/// `GET /prometheus/api/v1/rules`: there are none.
pub(super) async fn rules() -> Json<Value> {
    ruler(&json!({ "groups": [] }))
}

/// `GET /prometheus/api/v1/alerts`: there are none.
pub(super) async fn alerts() -> Json<Value> {
    ruler(&json!({ "alerts": [] }))
}
