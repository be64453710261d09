//! The aggregated API server for autoscalers: `custom.metrics.k8s.io`, v1beta2 and v1beta1, for
//! metrics of pods.
//!
//! Every series with a `namespace` and a `pod` is a metric of that pod under its own name; a counter
//! also as a rate (`NAME_per_second`, `NAME:rate`). What is stale or not a number is left out, never
//! 0; when nothing is left the answer is an error whose text says why ([`explain`]).
//!
//! From a request to an answer: [`path`] takes the path apart, [`selector`] reads the selectors,
//! [`values`] asks the store, [`quantity`] writes the numbers, [`status`] the errors, [`discovery`]
//! says what is served. [`tls`] keeps the certificates, [`clients`] says whom they let in, [`serve`]
//! keeps the connections, [`registration`] makes API server and collector known to each other.
//!
//! Whoever passes the TLS layer may ask: identity and authorization come from kube-apiserver in front
//! ([`registration`] lets in nobody else). Metrics of objects, external and resource metrics are
//! refused.

pub mod clients;
mod discovery;
mod explain;
mod path;
mod quantity;
pub mod registration;
mod selector;
pub mod serve;
mod status;
#[cfg(test)]
mod tests;
pub mod tls;
mod values;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use taffrail_model::time::{Millis, format_rfc3339};
use taffrail_query::source::{Cancel, SeriesSource};
use tokio::sync::Semaphore;

use path::{PodsMetric, Route, Version};
use selector::Selector;
use status::Status;
use values::{Item, Question, Timing};

/// Questions that the store is asked at once; autoscalers ask five at a time.
const QUESTIONS_MAX: usize = 16;

/// Longest time an answer may take. Autoscalers give up after half a minute and ask one after
/// another, so a slow answer delays all others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a list of metrics is served before it is made again.
const LIST_KEPT_MS: Millis = 60_000;

/// What the API answers from.
#[derive(Clone)]
pub struct AutoscaleState {
    /// The metric store.
    pub series: Arc<dyn SeriesSource>,
    /// The clock, in milliseconds since the epoch.
    pub now: fn() -> Millis,
    /// A sample older than this is not served.
    pub stale_after: Duration,
    /// What rates are taken over.
    pub window: Duration,
}

struct Front {
    state: AutoscaleState,
    permits: Arc<Semaphore>,
    listed: Mutex<Option<(Millis, Arc<Vec<String>>)>>,
}

/// The API as a router that answers every path.
pub fn router(state: AutoscaleState) -> Router {
    let front =
        Front { state, permits: Arc::new(Semaphore::new(QUESTIONS_MAX)), listed: Mutex::new(None) };
    Router::new().fallback(answer).with_state(Arc::new(front))
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let method = request.method();
    if method != Method::GET && method != Method::HEAD {
        let message = format!("{method} is not served here, only GET");
        return Status { code: StatusCode::METHOD_NOT_ALLOWED, message }.into_response();
    }
    let route = match path::route(request.uri().path()) {
        Ok(route) => route,
        Err(status) => return status.into_response(),
    };
    match route {
        Route::Health => "ok".into_response(),
        Route::BuildVersion => discovery::build_version(),
        Route::Groups => discovery::groups(request.headers()),
        Route::Group => discovery::group(),
        Route::OpenApiV2 => discovery::openapi_v2(),
        Route::OpenApiV3 => discovery::openapi_v3(),
        Route::OpenApiV3Of(_) => discovery::openapi_v3_of(),
        Route::Resources(version) => {
            // The API's health is checked by asking for the list many times a minute, without saying
            // what is accepted: nobody reads that answer.
            let read = request.headers().contains_key(header::ACCEPT);
            discovery::resources(version, &front.metrics(read).await)
        }
        Route::Pods(version, metric) => front
            .pods(version, metric, request.uri())
            .await
            .unwrap_or_else(IntoResponse::into_response),
    }
}

impl Front {
    async fn pods(
        self: &Arc<Self>,
        version: Version,
        metric: PodsMetric,
        uri: &Uri,
    ) -> Result<Response, Status> {
        let (pods, series) = selectors(uri)?;
        let repeated = series.as_json();
        let (asked, name) = (metric.clone(), metric.metric.clone());
        let items = self
            .blocking(move |state, cancel| {
                let timing = Timing::new((state.now)(), state.stale_after, state.window);
                let question = Question { metric: &metric, pods: &pods, series: &series };
                values::ask(&*state.series, &question, timing, cancel)
            })
            .await??;
        let items: Vec<Value> =
            items.iter().map(|item| item_json(version, &asked, &name, &repeated, item)).collect();
        Ok(discovery::document(&json!({
            "kind": "MetricValueList",
            "apiVersion": version.group_version(),
            "metadata": {},
            "items": items,
        })))
    }

    /// The metrics that there are, at most [`LIST_KEPT_MS`] old; or, when nobody will read them, what
    /// was last known.
    async fn metrics(self: &Arc<Self>, read: bool) -> Arc<Vec<String>> {
        let now = (self.state.now)();
        let kept = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh = kept.as_ref().is_some_and(|(at, _)| now.saturating_sub(*at) < LIST_KEPT_MS);
        if fresh || !read {
            return kept.map(|(_, list)| list).unwrap_or_default();
        }
        let made = self.blocking(move |state, _| discovery::metrics(&*state.series, now)).await;
        let Ok(list) = made.map(Arc::new) else {
            return kept.map(|(_, list)| list).unwrap_or_default();
        };
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, list.clone()));
        list
    }

    /// Runs a question beside the runtime's workers; it is told to stop when nobody waits any more.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&AutoscaleState, &Cancel) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let front = self.clone();
        let stop = StopOnDrop(Cancel::new());
        let cancel = stop.0.clone();
        let work = async {
            let permit = self.permits.clone().acquire_owned().await;
            let run = move || {
                // Held until the question really ends, also when nobody waits any more.
                let _permit = permit;
                question(&front.state, &cancel)
            };
            tokio::task::spawn_blocking(run).await
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Status::unavailable("the server is ending, or the question failed")),
            Err(_) => Err(Status {
                code: StatusCode::GATEWAY_TIMEOUT,
                message: format!("no answer within {}s", ANSWER_TIMEOUT.as_secs()),
            }),
        }
    }
}

struct StopOnDrop(Cancel);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The selectors of a request: of pods, and of series.
fn selectors(uri: &Uri) -> Result<(Selector, Selector), Status> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| {
        Status::bad_request(format!("the query string cannot be read: {error}"))
    })?;
    let parse = |name: &str| {
        let text = pairs.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
        Selector::parse(text).map_err(|error| Status::bad_request(format!("{name}: {error}")))
    };
    Ok((parse("labelSelector")?, parse("metricLabelSelector")?))
}

fn item_json(
    version: Version,
    asked: &PodsMetric,
    name: &str,
    selector: &Value,
    item: &Item,
) -> Value {
    let object = json!({
        "kind": "Pod", "namespace": asked.namespace, "name": item.pod, "apiVersion": "v1",
    });
    // Kubernetes' times have no fractions.
    let time = format_rfc3339(item.timestamp.div_euclid(1000).saturating_mul(1_000_000_000));
    let seconds = item.window.map(|window| window.saturating_add(500) / 1000);
    let mut body = json!({ "describedObject": object });
    match version {
        Version::V1Beta1 => body["metricName"] = name.into(),
        Version::V1Beta2 => body["metric"] = json!({"name": name, "selector": selector}),
    }
    body["timestamp"] = time.into();
    if let Some(seconds) = seconds {
        let field = if version == Version::V1Beta1 { "window" } else { "windowSeconds" };
        body[field] = seconds.into();
    }
    body["value"] = item.quantity.as_str().into();
    if version == Version::V1Beta1 {
        body["selector"] = selector.clone();
    }
    body
}
