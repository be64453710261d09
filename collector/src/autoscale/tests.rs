//! The API as kube-apiserver and the autoscaler see it: recorded requests, and a real TLS connection.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::body::Body;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use taffrail_model::sample::{METRIC_NAME, stale_nan};
use taffrail_model::{Labels, Matcher, MetricKind};
use taffrail_query::source::{SeriesSelect, SeriesSink, SourceError};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use super::clients::{Authority, Clients};
use super::tls::{Tls, TlsConfig};
use super::*;
use crate::ingest::otlp_metrics::decode;
use crate::metrics::{MetricStore, MetricStoreConfig};

const NOW: Millis = 1_795_186_800_000;
const BASE: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods";

/// A store that is a list.
#[derive(Default)]
struct Listed {
    series: Vec<(Labels, Vec<(Millis, f64)>)>,
    kinds: BTreeMap<String, MetricKind>,
}

impl Listed {
    /// Adds a series; times are seconds before now.
    fn add(&mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
        let samples = samples.iter().map(|(ago, value)| (NOW - ago * 1000, *value)).collect();
        self.series.push((Labels::from_pairs(labels.iter().copied()), samples));
    }

    fn pod(&mut self, metric: &str, pod: &str, more: &[(&str, &str)], samples: &[(i64, f64)]) {
        let own = [(METRIC_NAME, metric), ("namespace", "default"), ("pod", pod), ("app", "web")];
        self.add(&[&own, more].concat(), samples);
    }
}

impl SeriesSource for Listed {
    fn select(&self, select: &SeriesSelect, sink: &mut SeriesSink<'_>) -> Result<(), SourceError> {
        for (labels, samples) in &self.series {
            let wanted = |ts: &Millis| *ts >= select.start && *ts <= select.end;
            let (times, values): (Vec<Millis>, Vec<f64>) =
                samples.iter().filter(|(ts, _)| wanted(ts)).copied().unzip();
            let matches = select.matchers.iter().all(|m| m.matches_labels(labels));
            if matches && !times.is_empty() && sink(labels, &times, &values).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn series(
        &self,
        matchers: &[Matcher],
        _: Millis,
        _: Millis,
    ) -> Result<Vec<Labels>, SourceError> {
        let matching =
            self.series.iter().filter(|(l, _)| matchers.iter().all(|m| m.matches_labels(l)));
        let mut labels: Vec<Labels> = matching.map(|(labels, _)| labels.clone()).collect();
        labels.sort();
        Ok(labels)
    }

    fn metadata(&self) -> BTreeMap<String, MetricKind> {
        self.kinds.clone()
    }
}

fn world() -> Listed {
    let mut world = Listed::default();
    let get = [("code", "200"), ("verb", "GET")];
    let post = [("code", "500"), ("verb", "POST")];
    world.pod("http_requests", "web-1", &get, &[(15, 5.0), (2, 6.0)]);
    world.pod("http_requests", "web-1", &post, &[(15, 1.0), (4, 0.5)]);
    world.pod("http_requests", "web-2", &get, &[(3, 6.0)]);
    world.pod("http_requests", "web-3", &get, &[(187, 9.0)]);
    world.pod("http_requests", "web-4", &get, &[(1, f64::NAN)]);
    world.pod("http_requests", "web-5", &get, &[(1, stale_nan())]);
    world.pod("hits_total", "web-1", &[], &[(60, 90.0), (30, 120.0), (0, 30.0)]);
    world.pod("hits_total", "web-2", &[], &[(0, 30.0)]);
    world.pod("queue", "web-1", &[("app_kubernetes_io_name", "shop")], &[(120, 3.0)]);
    world.add(&[(METRIC_NAME, "up"), ("namespace", "default")], &[(0, 1.0)]);
    world.pod("up", "web-3", &[], &[(15, 1.0), (0, 0.0)]);
    world.kinds.insert("queue".into(), MetricKind::Gauge);
    world
}

fn api(world: Listed) -> Router {
    router(AutoscaleState {
        series: Arc::new(world),
        now: || NOW,
        stale_after: Duration::from_secs(60),
        window: Duration::from_secs(60),
    })
}

async fn ask(api: &Router, path: &str, headers: &[(&str, &str)]) -> (u16, http::HeaderMap, Value) {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = api.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (parts.status.as_u16(), parts.headers, body)
}

#[tokio::test]
async fn pods_get_the_sum_of_their_fresh_series() {
    let api = api(world());
    let (code, headers, body) =
        ask(&api, &format!("{BASE}/%2A/http_requests?labelSelector=app%3Dweb"), &[]).await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (200, "application/json"));
    let item = |pod: &str, timestamp: &str, value: &str| {
        json!({
            "describedObject": {"kind": "Pod", "namespace": "default", "name": pod, "apiVersion": "v1"},
            "metric": {"name": "http_requests", "selector": null},
            "timestamp": timestamp,
            "value": value,
        })
    };
    let expected = json!({
        "kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {},
        "items": [item("web-1", "2026-11-20T14:59:56Z", "6500m"), item("web-2", "2026-11-20T14:59:57Z", "6")],
    });
    assert_eq!(body, expected);
    let (_, _, body) = ask(&api, &format!("{BASE}/web-2/http_requests"), &[]).await;
    assert_eq!(body["items"], json!([expected["items"][1]]));
    let path = format!("{BASE}/*/http_requests?metricLabelSelector=verb%3DPOST");
    let (_, _, body) = ask(&api, &path, &[]).await;
    assert_eq!(body["items"][0]["value"], "500m");
    let requirement = json!({"key": "verb", "operator": "In", "values": ["POST"]});
    assert_eq!(body["items"][0]["metric"]["selector"]["matchExpressions"], json!([requirement]));
}

#[tokio::test]
async fn counters_have_rates() {
    let api = api(world());
    for name in ["hits_total_per_second", "hits_total:rate", "hits_per_second", "hits:rate"] {
        let (code, _, body) = ask(&api, &format!("{BASE}/*/{name}"), &[]).await;
        assert_eq!(code, 200, "{body}");
        // From 90 to 120, then a restart and 30 more, within 60 s. The other pod has one sample.
        assert_eq!(body["items"].as_array().map(Vec::len), Some(1), "{name}");
        assert_eq!(
            (&body["items"][0]["value"], &body["items"][0]["windowSeconds"]),
            (&json!("1"), &json!(60))
        );
    }
    let path = format!("{BASE}/*/hits:rate").replace("v1beta2", "v1beta1");
    let (_, _, body) = ask(&api, &path, &[]).await;
    let item = &body["items"][0];
    assert_eq!(body["apiVersion"], "custom.metrics.k8s.io/v1beta1");
    assert_eq!(
        (&item["metricName"], &item["window"], &item["selector"]),
        (&json!("hits:rate"), &json!(60), &Value::Null)
    );
}

#[tokio::test]
async fn errors_say_what_there_is() {
    let api = api(world());
    let cases = [
        (
            "*/queue",
            404,
            "metric queue: 1 pod in namespace default has it, 0 have a usable sample of the last 60s; newest 120s old (web-1); too old: web-1",
        ),
        (
            "*/queue?labelSelector=app.kubernetes.io%2Fname%3Dshop",
            404,
            "has it matching labelSelector app.kubernetes.io/name=shop, 0 have",
        ),
        (
            "*/queue?labelSelector=app%3Ddb",
            404,
            "metric queue: 1 pod in namespace default has it, but none is matching labelSelector app=db; for example web-1 has the labels {__name__=\"queue\"",
        ),
        (
            "*/queue_per_second",
            404,
            "metric queue_per_second: queue is not a counter, so it has no rate",
        ),
        ("web-4/http_requests", 404, "not a finite number: web-4"),
        ("web-5/http_requests", 404, "no longer there: web-5"),
        ("web-2/hits:rate", 404, "one sample, a rate needs two: web-2"),
        (
            "web-3/http_requests",
            404,
            "newest 187s old (web-3); too old: web-3; the last scrape failed: web-3",
        ),
        (
            "*/http_reqs",
            404,
            "no pod in namespace default had it within the last hour; of the 4 metrics of its pods the most alike are http_requests",
        ),
        (
            "web-9/http_requests",
            404,
            "metric http_requests: pod web-9 in namespace default did not have it",
        ),
        ("*/http_requests?labelSelector=a%20b", 400, "labelSelector: unable to parse"),
        ("*/http_requests?metricLabelSelector=%2C", 400, "metricLabelSelector: unable to parse"),
    ];
    for (path, code, message) in cases {
        let (got, _, body) = ask(&api, &format!("{BASE}/{path}"), &[]).await;
        let text = body["message"].as_str().unwrap_or_default();
        assert!(text.contains(message), "{path}: {text}");
        assert_eq!((got, &body["kind"], &body["code"]), (code, &json!("Status"), &json!(code)));
    }
    let other = BASE.replace("default", "empty");
    let (_, _, body) = ask(&api, &format!("{other}/*/x"), &[]).await;
    assert!(body["message"].as_str().unwrap_or_default().contains("no metrics at all"), "{body}");
}

#[tokio::test]
async fn labels_of_a_pod_may_stand_on_another_series() {
    let mut world = world();
    for pod in ["web-1", "db-1"] {
        let labels = [(METRIC_NAME, "otel_jobs"), ("namespace", "default"), ("pod", pod)];
        world.add(&labels, &[(1, 7.0)]);
    }
    let path = format!("{BASE}/*/otel_jobs?labelSelector=app%3Dweb");
    let (code, _, body) = ask(&api(world), &path, &[]).await;
    assert_eq!((code, body["items"].as_array().map(Vec::len)), (200, Some(1)), "{body}");
    assert_eq!(body["items"][0]["describedObject"]["name"], "web-1");
}

/// What an SDK in a pod sends is what an autoscaler gets.
#[tokio::test]
async fn from_otlp_through_the_store_to_the_autoscaler() {
    let text = |key: &str, value: &str| {
        let value = any_value::Value::StringValue(value.to_owned());
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    };
    let point = |ago: i64, value: i64| NumberDataPoint {
        time_unix_nano: ((NOW - ago * 1000) * 1_000_000) as u64,
        value: Some(number_data_point::Value::AsInt(value)),
        ..NumberDataPoint::default()
    };
    let sum = Sum {
        data_points: vec![point(30, 100), point(10, 200), point(0, 250)],
        aggregation_temporality: AggregationTemporality::Cumulative as i32,
        is_monotonic: true,
    };
    let metric = Metric {
        name: "orders.placed".into(),
        data: Some(metric::Data::Sum(sum)),
        ..Metric::default()
    };
    let attributes = vec![text("k8s.namespace.name", "default"), text("k8s.pod.name", "cart-0")];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource_metrics =
        vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    let decoded = decode(ExportMetricsServiceRequest { resource_metrics }, 0);
    let folder = tempfile::tempdir().unwrap();
    let mut config = MetricStoreConfig::new(folder.path().to_owned());
    config.now = || NOW;
    let store = MetricStore::open(config).unwrap().store;
    assert_eq!(store.apply(0, &decoded.series).accepted, 3);
    let api = router(AutoscaleState {
        series: store.clone(),
        now: || NOW,
        stale_after: Duration::from_secs(60),
        window: Duration::from_secs(60),
    });
    for flushed in [false, true] {
        let (code, _, body) = ask(&api, &format!("{BASE}/*/orders_placed_per_second"), &[]).await;
        assert_eq!((code, &body["items"][0]["value"]), (200, &json!("5")), "{flushed}: {body}");
        assert_eq!(body["items"][0]["windowSeconds"], 30);
        store.flush().unwrap();
    }
}

#[tokio::test]
async fn a_gauge_has_no_rate() {
    let mut world = world();
    world.pod("load", "web-1", &[], &[(30, 1.0), (0, 2.0)]);
    let (code, _, body) = ask(&api(world), &format!("{BASE}/*/load_per_second"), &[]).await;
    let expected =
        "metric load_per_second: load is not a counter, so it has no rate: ask for load itself";
    assert_eq!((code, &body["message"]), (404, &json!(expected)));
}

#[tokio::test]
async fn discovery_documents() {
    let api = api(world());
    let path = "/apis/custom.metrics.k8s.io/v1beta2";
    let (code, _, list) = ask(&api, path, &[]).await;
    assert_eq!((code, &list["resources"]), (200, &json!([])), "a health check costs nothing");
    let (_, _, list) = ask(&api, path, &[("accept", "application/json")]).await;
    let names: Vec<&str> =
        list["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "pods/hits_total",
            "pods/hits_total_per_second",
            "pods/http_requests",
            "pods/queue",
            "pods/up"
        ]
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    let (code, headers, body) = ask(&api, "/apis", &[("accept", accept)]).await;
    assert_eq!(
        headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    assert_eq!((code, &body["items"][0]["versions"][0]["version"]), (200, &json!("v1beta2")));
    let tag = headers["etag"].to_str().unwrap();
    let (code, _, _) = ask(&api, "/apis", &[("accept", accept), ("if-none-match", tag)]).await;
    assert_eq!(code, 304);
    let (_, headers, body) = ask(&api, "/apis", &[("accept", "application/json")]).await;
    assert_eq!(
        (&body["kind"], &headers["content-type"]),
        (&json!("APIGroupList"), &"application/json".parse().unwrap())
    );
    for path in [
        "/apis/custom.metrics.k8s.io",
        "/openapi/v2",
        "/openapi/v3",
        "/version",
        "/livez",
        "/openapi/v3/apis/custom.metrics.k8s.io/v1beta2?hash=0",
    ] {
        assert_eq!(ask(&api, path, &[]).await.0, 200, "{path}");
    }
    let request = Request::builder().method("POST").uri("/apis").body(Body::empty()).unwrap();
    assert_eq!(api.oneshot(request).await.unwrap().status().as_u16(), 405);
}

/// The folder of recorded requests, if it is there.
fn fixtures() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let folder = std::env::var_os("FIXTURES_DIR").map_or_else(|| beside.into(), PathBuf::from);
    let folder = folder.join("kubernetes");
    if !folder.is_dir() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} not found", folder.display());
        return None;
    }
    Some(folder)
}

fn recorded() -> Vec<Value> {
    let mut requests = Vec::new();
    let Some(folder) = fixtures() else { return requests };
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("cm-requests") {
            continue;
        }
        let mut text = String::new();
        let file = std::fs::File::open(&path).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        requests.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    assert!(requests.len() > 800, "{}", requests.len());
    requests
}

#[tokio::test]
async fn recorded_requests_are_answered_in_the_recorded_shape() {
    let api = api(world());
    let mut seen = BTreeSet::new();
    for request in recorded() {
        let line = request["line"].as_str().unwrap().trim_end_matches(" HTTP/1.1");
        let path = line.strip_prefix("GET ").unwrap();
        let headers: Vec<(&str, &str)> = request["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        let accept = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("accept"));
        if !seen.insert((path.to_owned(), accept.map(|a| a.1.to_owned()))) {
            continue;
        }
        let (code, answer_headers, body) = ask(&api, path, &headers).await;
        let pods = path.contains("/pods/%2A/http_requests");
        let ours = path.starts_with("/apis/custom.metrics.k8s.io/v1beta")
            && (pods || !path.contains("namespaces"));
        let stub = path == "/apis" || path.starts_with("/openapi");
        assert_eq!(code, if ours || stub { 200 } else { 404 }, "{path}: {body}");
        assert!(answer_headers["content-type"].to_str().unwrap().starts_with("application/json"));
        if pods {
            assert_eq!(body["items"].as_array().map(Vec::len), Some(2), "{path}");
            let recorded: Value = request["resp"]
                .as_str()
                .and_then(|t| serde_json::from_str(t).ok())
                .unwrap_or_default();
            if request["status"] == 200 && recorded["items"][0].is_object() {
                let keys = |v: &Value| {
                    v["items"][0]
                        .as_object()
                        .unwrap()
                        .keys()
                        .filter(|k| !k.starts_with("window"))
                        .cloned()
                        .collect::<BTreeSet<_>>()
                };
                assert_eq!(keys(&body), keys(&recorded), "{path}");
                assert_eq!(
                    (&body["kind"], &body["apiVersion"]),
                    (&recorded["kind"], &recorded["apiVersion"])
                );
            }
        }
    }
}

/// A server on loopback and what is needed to reach and end it.
struct Server {
    address: SocketAddr,
    tls: Arc<Tls>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start(folder: &std::path::Path, clients: Clients) -> Server {
    let config =
        TlsConfig { dir: folder.join("tls"), names: vec!["metrics.test.svc".into()], clients };
    let tls = Arc::new(Tls::open(config).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let end = async { drop(stopped.await) };
    let task = tokio::spawn(serve::serve(listener, tls.clone(), api(world()), end));
    Server { address, tls, stop, task }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Asks over TLS; the status, or the error of whatever layer refused.
async fn fetch(
    server: &Server,
    alpn: &str,
    identity: Option<Identity>,
) -> anyhow::Result<(u16, Value)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.tls.ca_pem()?.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(server.address).await?;
    let stream = connector.connect(ServerName::try_from("metrics.test.svc")?, stream).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
    let uri = format!("https://metrics.test.svc{BASE}/%2A/http_requests");
    let request = Request::builder()
        .uri(uri)
        .header("host", "metrics.test.svc")
        .body(Empty::<bytes::Bytes>::new())?;
    let io = TokioIo::new(stream);
    let response = if alpn == "h2" {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}

#[tokio::test]
async fn over_tls_with_both_versions_of_http() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), Clients::Anybody).await;
    for alpn in ["h2", "http/1.1"] {
        let (status, body) = fetch(&server, alpn, None).await.unwrap();
        assert_eq!((status, body["items"].as_array().map(Vec::len)), (200, Some(2)), "{alpn}");
    }
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    TcpStream::connect(server.address).await.expect_err("the port is closed");
}

type Issuer = rcgen::CertifiedIssuer<'static, rcgen::KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
}

fn client(issuer: &Issuer, name: &str) -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["front-proxy-client".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (vec![certificate.der().clone()], key)
}

#[tokio::test]
async fn a_client_ca_lets_only_its_clients_in() {
    let folder = tempfile::tempdir().unwrap();
    let (known, unknown) = (authority("known"), authority("unknown"));
    let client_ca = folder.path().join("clients.pem");
    std::fs::write(&client_ca, known.pem()).unwrap();
    let server = start(folder.path(), Clients::OfFile(client_ca)).await;
    for alpn in ["h2", "http/1.1"] {
        assert_eq!(fetch(&server, alpn, Some(client(&known, "any"))).await.unwrap().0, 200);
        fetch(&server, alpn, None).await.expect_err("no certificate");
        fetch(&server, alpn, Some(client(&unknown, "any")))
            .await
            .expect_err("a certificate of another CA");
    }
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_cluster_says_later_who_may_ask_and_may_change_its_mind() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), Clients::OfCluster).await;
    let (first, second) = (authority("first"), authority("second"));
    let proxy = |issuer: &Issuer| Some(client(issuer, "front-proxy-client"));
    fetch(&server, "h2", proxy(&first)).await.expect_err("nobody is known yet");
    for (known, other) in [(&first, &second), (&second, &first)] {
        let names = vec!["front-proxy-client".to_owned()];
        server.tls.admit(&Authority { pem: known.pem(), names }).unwrap();
        assert_eq!(fetch(&server, "h2", proxy(known)).await.unwrap().0, 200);
        fetch(&server, "h2", None).await.expect_err("no certificate");
        fetch(&server, "h2", proxy(other)).await.expect_err("another CA");
        // Its alternative name is right, which must not count.
        let stranger = Some(client(known, "somebody"));
        fetch(&server, "h2", stranger).await.expect_err("another name of the same CA");
    }
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
}
