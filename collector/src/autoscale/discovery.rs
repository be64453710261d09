//! Documents by which kube-apiserver and kubectl find out what is served.
//!
//! The aggregated document is constant (an autoscaler never looks a metric up in it), so clients that
//! cache it never have to ask again; the list of one version names the metrics that there are.

use std::collections::BTreeSet;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use taffrail_model::sample::METRIC_NAME;
use taffrail_model::time::Millis;
use taffrail_model::{MatchOp, Matcher};
use taffrail_query::source::SeriesSource;

use super::path::{GROUP, Version};
use super::status::JSON;
use super::values::{is_counter, some_pod};

/// Metrics that one list names at the most.
const NAMES_MAX: usize = 2000;

/// How old a sample may be for its metric to be listed.
const LISTED_MS: Millis = 600_000;

/// `GET /apis`: the aggregated form for those who ask for it, else the list of groups.
pub(super) fn groups(headers: &HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let accepted: Vec<&str> = accepted.flat_map(|v| v.split(',')).map(str::trim).collect();
    for version in ["v2", "v2beta1"] {
        let wanted = |media: &&&str| {
            let has = |part: &str| media.split(';').any(|p| p.trim() == part);
            has(&format!("v={version}")) && has("as=APIGroupDiscoveryList")
        };
        if accepted.iter().any(|media| wanted(&media)) {
            return aggregated(version, headers);
        }
    }
    let body = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group_body(false)]});
    document(&body)
}

fn aggregated(version: &str, headers: &HeaderMap) -> Response {
    let versions = Version::ALL
        .map(|version| json!({"version": version.name(), "freshness": "Current", "resources": []}));
    let body = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": [{"metadata": {"name": GROUP}, "versions": versions}],
    });
    let body = format!("{body}\n");
    let tag = format!("\"{:032X}\"", xxhash_rust::xxh3::xxh3_128(body.as_bytes()));
    let content_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    if known.flat_map(|v| v.split(',')).any(|t| t.trim() == tag || t.trim() == "*") {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let vary = "Accept".to_owned();
    let headers = [(header::CONTENT_TYPE, content_type), (header::ETAG, tag), (header::VARY, vary)];
    (headers, body).into_response()
}

/// `GET /apis/GROUP`.
pub(super) fn group() -> Response {
    document(&group_body(true))
}

fn group_body(alone: bool) -> Value {
    let versions = Version::ALL
        .map(|version| json!({"groupVersion": version.group_version(), "version": version.name()}));
    let mut body = json!({});
    if alone {
        body["kind"] = "APIGroup".into();
        body["apiVersion"] = "v1".into();
    }
    body["name"] = GROUP.into();
    body["preferredVersion"] = versions[0].clone();
    body["versions"] = Value::from(versions.to_vec());
    body
}

/// `GET /apis/GROUP/VERSION`.
pub(super) fn resources(version: Version, metrics: &[String]) -> Response {
    let resources: Vec<Value> = metrics
        .iter()
        .map(|metric| {
            json!({
                "name": format!("pods/{metric}"),
                "singularName": "",
                "namespaced": true,
                "kind": "MetricValueList",
                "verbs": ["get"],
            })
        })
        .collect();
    document(&json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version.group_version(),
        "resources": resources,
    }))
}

/// The metrics of pods that there are, rates included, sorted. Empty when the store cannot say: the
/// list is a convenience, and its absence must not make the API look dead.
pub(super) fn metrics(source: &dyn SeriesSource, now: Millis) -> Vec<String> {
    let some_namespace =
        Matcher::new("namespace", MatchOp::NotEqual, "", true).expect("no regular expression");
    let matchers = [some_namespace, some_pod()];
    let Ok(series) = source.series(&matchers, now.saturating_sub(LISTED_MS), now) else {
        return Vec::new();
    };
    let kinds = source.metadata();
    let mut names = BTreeSet::new();
    for name in series.iter().filter_map(|labels| labels.get(METRIC_NAME)) {
        if names.len() >= NAMES_MAX {
            break;
        }
        if !names.contains(name) {
            names.insert(name.to_owned());
            if is_counter(&kinds, name) {
                names.insert(format!("{name}_per_second"));
            }
        }
    }
    names.into_iter().collect()
}

/// `GET /openapi/v2`: there is nothing to describe, but kube-apiserver complains about a 404.
pub(super) fn openapi_v2() -> Response {
    document(&json!({
        "swagger": "2.0", "info": info(), "paths": {}, "definitions": {},
    }))
}

/// `GET /openapi/v3`.
pub(super) fn openapi_v3() -> Response {
    let mut paths = json!({});
    for version in Version::ALL {
        let path = format!("apis/{}", version.group_version());
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths[path] = json!({"serverRelativeURL": url});
    }
    document(&json!({ "paths": paths }))
}

/// `GET /openapi/v3/apis/GROUP/VERSION`.
pub(super) fn openapi_v3_of() -> Response {
    document(&json!({"openapi": "3.0.0", "info": info(), "paths": {}}))
}

/// `GET /version`.
pub(super) fn build_version() -> Response {
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    document(&json!({
        "major": env!("CARGO_PKG_VERSION_MAJOR"),
        "minor": env!("CARGO_PKG_VERSION_MINOR"),
        "gitVersion": version,
    }))
}

fn info() -> Value {
    json!({"title": "Taffrail metrics", "version": env!("CARGO_PKG_VERSION")})
}

/// A JSON document. The content type is never left out: clients would then expect another encoding.
pub(super) fn document(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, JSON)], format!("{body}\n")).into_response()
}
