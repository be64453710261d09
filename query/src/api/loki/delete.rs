//! Deletion requests: `POST|PUT`, `GET` and `DELETE /loki/api/v1/delete`.
//!
//! What a list says beyond Loki's members (`lines`, `bytes`, `erasing_since`, `completed_at`,
//! `problem`) is there once erasing has begun.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use taffrail_kit::clock;
use taffrail_model::Nanos;

use crate::deletion::{Deletion, DeletionError, LogDeletion, Stage};

use super::error::ApiError;
use super::params::Params;

type Store = Arc<dyn LogDeletion>;

/// The routes of deletion requests over a store.
pub fn router(store: Arc<dyn LogDeletion>) -> Router {
    let methods = get(list).post(create).put(create).delete(cancel);
    Router::new().route("/loki/api/v1/delete", methods).with_state(store)
}

/// Does what waits for the disk on a thread that may.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| DeletionError::Storage(error.to_string()).into())
}

async fn create(State(store): State<Store>, request: Request) -> Result<StatusCode, ApiError> {
    let params = Params::from_request(request, &()).await?;
    let query = params.get("query").ok_or_else(|| ApiError::bad_request("query not set"))?;
    let now = clock::unix_nanos();
    let (start, end) = range(&params, now)?;
    let query = query.to_owned();
    on_thread(move || store.request(&query, start, end)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// `start` and `end`, both included; the end is now unless given.
fn range(params: &Params, now: Nanos) -> Result<(Nanos, Nanos), ApiError> {
    let Some(start) = params.time("start")? else {
        return Err(ApiError::bad_request("start time not set"));
    };
    let end = params.time("end")?.unwrap_or(now);
    if end > now {
        return Err(ApiError::bad_request("deletes in the future are not allowed"));
    }
    if start > end {
        return Err(ApiError::bad_request("start time can't be greater than end time"));
    }
    Ok((start, end))
}

async fn list(State(store): State<Store>) -> Result<Response, ApiError> {
    let all = on_thread(move || store.list()).await?;
    let all: Vec<Value> = all.iter().map(shown).collect();
    let body = format!("{}\n", Value::Array(all));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// Seconds, as Loki writes them: to the millisecond, whole ones without a point.
fn seconds(nanos: Nanos) -> Value {
    let millis = nanos.div_euclid(1_000_000);
    if millis % 1000 == 0 { json!(millis / 1000) } else { json!(millis as f64 / 1000.0) }
}

fn shown(deletion: &Deletion) -> Value {
    let status = match deletion.stage {
        Stage::Received => "received",
        Stage::Erasing => "erasing",
        Stage::Processed => "processed",
        Stage::Cancelled => "cancelled",
    };
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| {
        members.insert(name.to_owned(), value);
    };
    put("request_id", json!(deletion.id));
    put("start_time", seconds(deletion.start));
    put("end_time", seconds(deletion.end));
    put("query", json!(deletion.query));
    put("status", json!(status));
    put("created_at", seconds(deletion.created));
    put("user_id", json!(""));
    if let Some(erasure) = &deletion.erasure {
        put("erasing_since", seconds(erasure.began));
        put("lines", json!(erasure.lines));
        put("bytes", json!(erasure.bytes));
        if let Some(ended) = erasure.ended {
            put("completed_at", seconds(ended));
        }
        if let Some(problem) = erasure.problem {
            put("problem", json!(problem));
        }
    }
    Value::Object(members)
}

async fn cancel(State(store): State<Store>, request: Request) -> Result<StatusCode, ApiError> {
    let params = Params::from_request(request, &()).await?;
    let Some(id) = params.get("request_id").map(str::to_owned) else {
        return Err(ApiError::bad_request("request_id not set"));
    };
    on_thread(move || store.cancel(&id)).await??;
    Ok(StatusCode::NO_CONTENT)
}
