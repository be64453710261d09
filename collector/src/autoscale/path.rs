//! Paths of the API, taken apart. Each segment is percent-decoded: an autoscaler asks for all pods
//! as `%2A`.

use http::StatusCode;

use super::status::Status;

/// The group of metrics that clients define.
pub(super) const GROUP: &str = "custom.metrics.k8s.io";

/// Groups of the same family that this server does not answer.
const OTHER_GROUPS: [&str; 2] = ["external.metrics.k8s.io", "metrics.k8s.io"];

/// Longest path, in bytes.
const PATH_BYTES_MAX: usize = 4096;

/// Versions of the group. They differ in the names of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1Beta1,
    V1Beta2,
}

impl Version {
    /// The preferred one first.
    pub(super) const ALL: [Self; 2] = [Self::V1Beta2, Self::V1Beta1];

    /// As it stands in paths.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1Beta1 => "v1beta1",
            Self::V1Beta2 => "v1beta2",
        }
    }

    /// Group and version, as it stands in documents.
    pub(super) fn group_version(self) -> String {
        format!("{GROUP}/{}", self.name())
    }
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    BuildVersion,
    Groups,
    Group,
    Resources(Version),
    OpenApiV2,
    OpenApiV3,
    OpenApiV3Of(Version),
    Pods(Version, PodsMetric),
}

/// A metric of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodsMetric {
    pub(super) namespace: String,
    /// `None`: all pods.
    pub(super) pod: Option<String>,
    pub(super) metric: String,
}

/// Reads a path.
pub(super) fn route(path: &str) -> Result<Route, Status> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Status {
            code: StatusCode::PAYLOAD_TOO_LARGE,
            message: format!("the path is longer than {PATH_BYTES_MAX} bytes"),
        });
    }
    let mut segments = Vec::new();
    for segment in path.trim_matches('/').split('/') {
        let decoded = decode(segment).ok_or_else(|| {
            Status::bad_request(format!("path segment {segment:?} is not percent-encoded UTF-8"))
        })?;
        segments.push(decoded);
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["healthz" | "livez" | "readyz"] => Ok(Route::Health),
        ["version"] => Ok(Route::BuildVersion),
        ["openapi", "v2"] => Ok(Route::OpenApiV2),
        ["openapi", "v3"] => Ok(Route::OpenApiV3),
        ["openapi", "v3", "apis", GROUP, name] => Ok(Route::OpenApiV3Of(version(name)?)),
        ["apis"] => Ok(Route::Groups),
        ["apis", GROUP] => Ok(Route::Group),
        ["apis", GROUP, name] => Ok(Route::Resources(version(name)?)),
        ["apis", GROUP, name, rest @ ..] => {
            let version = version(name)?;
            metric(rest).map(|metric| Route::Pods(version, metric))
        }
        ["apis", group, ..] if OTHER_GROUPS.contains(group) => Err(Status::not_found(format!(
            "{group} is not served by this server yet: it serves metrics of pods in {GROUP}"
        ))),
        _ => Err(Status::not_found(format!("{path} is not served here"))),
    }
}

fn version(name: &str) -> Result<Version, Status> {
    let found = Version::ALL.into_iter().find(|version| version.name() == name);
    found.ok_or_else(|| {
        Status::not_found(format!("{GROUP} has no version {name:?}: there are v1beta2 and v1beta1"))
    })
}

fn metric(segments: &[&str]) -> Result<PodsMetric, Status> {
    match segments {
        ["namespaces", namespace, "pods", pod, metric] => {
            let pod = (*pod != "*").then(|| (*pod).to_owned());
            let (namespace, metric) = ((*namespace).to_owned(), (*metric).to_owned());
            Ok(PodsMetric { namespace, pod, metric })
        }
        ["namespaces", namespace, "metrics", metric] => Err(Status::not_found(format!(
            "metric {metric} of namespace {namespace}: metrics of namespaces are not served yet, \
             only metrics of pods"
        ))),
        ["namespaces", namespace, resource, name, metric] => Err(Status::not_found(format!(
            "metric {metric} of {resource} {name} in namespace {namespace}: metrics of objects are \
             not served yet, only metrics of pods"
        ))),
        [resource, name, metric] => Err(Status::not_found(format!(
            "metric {metric} of {resource} {name}: metrics of objects are not served yet, only \
             metrics of pods"
        ))),
        _ => Err(Status::bad_request(
            "invalid request path: expected namespaces/NAMESPACE/pods/POD_OR_*/METRIC",
        )),
    }
}

/// `%41` -> `A`. `None` when an escape is cut off or the result is not UTF-8.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digit = |b: u8| (b as char).to_digit(16);
            bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pods(pod: Option<&str>, metric: &str) -> PodsMetric {
        let (pod, metric) = (pod.map(str::to_owned), metric.to_owned());
        PodsMetric { namespace: "default".into(), pod, metric }
    }

    #[test]
    fn paths_lead_somewhere() {
        let base = "/apis/custom.metrics.k8s.io/v1beta2";
        let cases = [
            ("/healthz".to_owned(), Route::Health),
            ("/apis".into(), Route::Groups),
            ("/apis/".into(), Route::Groups),
            ("/apis/custom.metrics.k8s.io".into(), Route::Group),
            (base.into(), Route::Resources(Version::V1Beta2)),
            ("/apis/custom.metrics.k8s.io/v1beta1".into(), Route::Resources(Version::V1Beta1)),
            (
                format!("{base}/namespaces/default/pods/%2A/http_requests"),
                Route::Pods(Version::V1Beta2, pods(None, "http_requests")),
            ),
            (
                format!("{base}/namespaces/default/pods/*/m%3Arate"),
                Route::Pods(Version::V1Beta2, pods(None, "m:rate")),
            ),
            (
                format!("{base}/namespaces/default/pods/web-1/m"),
                Route::Pods(Version::V1Beta2, pods(Some("web-1"), "m")),
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(route(&path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn other_paths_say_why_not() {
        let base = "/apis/custom.metrics.k8s.io/v1beta2";
        let cases = [
            (
                "/apis/external.metrics.k8s.io/v1beta1".to_owned(),
                404,
                "not served by this server yet",
            ),
            ("/apis/custom.metrics.k8s.io/v2".into(), 404, "has no version"),
            (format!("{base}/namespaces/default/services/web/m"), 404, "metrics of objects"),
            (
                format!("{base}/namespaces/default/deployments.apps/web/m"),
                404,
                "metrics of objects",
            ),
            (format!("{base}/namespaces/default/metrics/m"), 404, "metrics of namespaces"),
            (format!("{base}/nodes/n1/m"), 404, "metrics of objects"),
            (format!("{base}/namespaces"), 400, "invalid request path"),
            (format!("{base}/namespaces/default/pods/%2/m"), 400, "percent-encoded"),
            (format!("{base}/namespaces/default/pods/%ff/m"), 400, "percent-encoded"),
            ("/".into(), 404, "not served here"),
            ("/x".repeat(4000), 413, "longer"),
        ];
        for (path, code, message) in cases {
            let status = route(&path).expect_err("not served");
            assert_eq!(status.code.as_u16(), code, "{path}");
            assert!(status.message.contains(message), "{path}: {}", status.message);
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in ".{0,20}") {
            let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(decode(&encoded), Some(text));
        }

        #[test]
        fn no_path_makes_it_panic(path in "[/a-z%0-9*]{0,60}") {
            let _ = route(&path);
        }
    }
}
