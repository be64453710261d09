//! How many bytes of log there are, by label: `index/volume` and `index/volume_range`.
//!
//! The bytes are those of the lines, as the store counts them.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use taffrail_kit::clock;
use taffrail_model::{Labels, MatchOp, Matcher, Nanos, TimeRange};

use crate::logql::metric::{SeriesLabels, VALUES_MAX};
use crate::source::{Cancel, Counted, LogCount, LogSource, SourceError};

use super::super::ApiState;
use super::super::run::run;
use super::answer::json_response;
use super::error::ApiError;
use super::meta::selector;
use super::params::Params;

/// Most series of an answer.
pub(super) const SERIES_MAX: usize = 5000;

/// Most labels that volumes may be asked by.
const TARGETS_MAX: usize = 100;

/// What is asked.
struct Wanted {
    matchers: Vec<Matcher>,
    range: TimeRange,
    /// Length of a bucket; the whole range for a vector.
    step: Nanos,
    targets: Vec<String>,
    /// One series for each label name, instead of for each set of values.
    by_name: bool,
    limit: usize,
}

impl Wanted {
    fn new(params: &Params, ranged: bool) -> Result<Self, ApiError> {
        let range = params.range(clock::unix_nanos())?;
        let step = if ranged { params.step(range)? } else { range.end.saturating_sub(range.start) };
        let mut matchers = selector(params.query())?;
        let targets: Vec<String> = params
            .get("targetLabels")
            .map(|names| names.split(',').map(|name| name.trim().to_owned()).collect())
            .unwrap_or_default();
        if targets.len() > TARGETS_MAX {
            let count = targets.len();
            return Err(ApiError::bad_request(format!(
                "{count} targetLabels; at most {TARGETS_MAX}"
            )));
        }
        for name in &targets {
            let there = Matcher::new(name, MatchOp::NotEqual, "", false);
            matchers.push(there.map_err(|error| ApiError::bad_request(error.to_string()))?);
        }
        let by_name = match params.get("aggregateBy") {
            None | Some("series") => false,
            Some("labels") => true,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "invalid aggregateBy {other:?}, expecting series or labels"
                )));
            }
        };
        let limit = params.limit(SERIES_MAX)?;
        Ok(Self { matchers, range, step, targets, by_name, limit })
    }

    fn buckets(&self) -> usize {
        let length = self.range.end.abs_diff(self.range.start);
        usize::try_from(length.div_ceil(self.step.unsigned_abs())).unwrap_or(1)
    }

    fn bucket(&self, at: usize) -> TimeRange {
        let after = |steps: usize| {
            // Wider than a time: the range may begin at the first time that there is.
            let time = i128::from(self.range.start) + i128::from(self.step) * steps as i128;
            Nanos::try_from(time).map_or(self.range.end, |time| time.min(self.range.end))
        };
        TimeRange::new(after(at), after(at + 1))
    }

    /// The series that the bytes of a stream count for.
    fn series(&self, labels: &Labels) -> Vec<SeriesLabels> {
        let matched = |name: &str| self.matchers.iter().any(|matcher| matcher.name == name);
        let target = |name: &str| self.targets.iter().any(|target| target == name);
        if !self.by_name {
            let kept =
                labels.filtered(
                    |name| if self.targets.is_empty() { matched(name) } else { target(name) },
                );
            return vec![SeriesLabels::from(&kept)];
        }
        let names = labels.iter().map(|(name, _)| name);
        names
            .filter(|name| self.targets.is_empty() || target(name))
            .map(|name| SeriesLabels::from_pairs([(name, "")]))
            .collect()
    }

    /// Bytes of each series in each bucket, most bytes first.
    fn read(
        &self,
        logs: &dyn LogSource,
        cancel: Cancel,
    ) -> Result<Vec<(SeriesLabels, Vec<u64>)>, SourceError> {
        let buckets = self.buckets();
        let too_much = || {
            let what = "too many streams for so many steps; ask for a longer step or add a matcher";
            SourceError::TooMuch(what.into())
        };
        if buckets > VALUES_MAX {
            return Err(too_much());
        }
        let count = LogCount {
            matchers: self.matchers.clone(),
            filters: Vec::new(),
            ranges: (0..buckets).map(|at| self.bucket(at)).collect(),
            by_level: false,
            bytes: true,
            only_plain: false,
            cancel,
        };
        let streams = logs.count(&count)?.unwrap_or_default();
        if (streams.len() + 1).saturating_mul(buckets) > VALUES_MAX {
            return Err(too_much());
        }
        let mut series: BTreeMap<SeriesLabels, Vec<u64>> = BTreeMap::new();
        for Counted { labels, bytes, .. } in streams {
            for name in self.series(&labels) {
                let sums = series.entry(name).or_insert_with(|| vec![0; buckets]);
                for (sum, bytes) in sums.iter_mut().zip(&bytes) {
                    *sum += bytes;
                }
            }
        }
        let mut series: Vec<_> = series.into_iter().collect();
        series.sort_by_key(|(_, bytes)| std::cmp::Reverse(bytes.iter().sum::<u64>()));
        series.truncate(self.limit);
        Ok(series)
    }

    /// The stamp of a bucket: its last millisecond, or the end of the range.
    fn stamp(&self, bucket: usize) -> Value {
        // Wider than a time: the range may begin at the first time that there is.
        let end = i128::from(self.range.start) + i128::from(self.step) * (bucket as i128 + 1);
        match Nanos::try_from(end) {
            Ok(end) if end < self.range.end => seconds(end.saturating_sub(1_000_000)),
            _ => seconds(self.range.end),
        }
    }
}

fn seconds(ts: Nanos) -> Value {
    let millis = ts.div_euclid(1_000_000);
    if millis % 1000 == 0 { json!(millis / 1000) } else { json!(millis as f64 / 1e3) }
}

fn metric(labels: &SeriesLabels) -> Value {
    Value::Object(labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect())
}

async fn answer(state: &ApiState, params: &Params, ranged: bool) -> Result<Response, ApiError> {
    let wanted = Wanted::new(params, ranged)?;
    let logs = state.logs.clone();
    let (wanted, series) = run(state, move |cancel| {
        let series = wanted.read(&*logs, cancel);
        series.map(|series| (wanted, series))
    })
    .await??;
    let result: Vec<Value> = series
        .into_iter()
        .map(|(labels, bytes)| {
            if !ranged {
                let sum: u64 = bytes.iter().sum();
                return json!({
                    "metric": metric(&labels),
                    "value": [seconds(wanted.range.end), sum.to_string()]
                });
            }
            let points = bytes.iter().enumerate().filter(|(_, bytes)| **bytes > 0);
            let values: Vec<Value> =
                points.map(|(at, bytes)| json!([wanted.stamp(at), bytes.to_string()])).collect();
            json!({ "metric": metric(&labels), "values": values })
        })
        .collect();
    let kind = if ranged { "matrix" } else { "vector" };
    let body = json!({
        "status": "success",
        "data": { "resultType": kind, "result": result, "stats": {} }
    });
    Ok(json_response(format!("{body}\n")))
}

/// `GET|POST /loki/api/v1/index/volume`
pub(super) async fn total(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    answer(&state, &params, false).await
}

/// `GET|POST /loki/api/v1/index/volume_range`
pub(super) async fn over_time(
    State(state): State<ApiState>,
    params: Params,
) -> Result<Response, ApiError> {
    answer(&state, &params, true).await
}
