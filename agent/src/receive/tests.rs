//! Both doors with real clients' requests, before a collector that answers as it is told.

use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use taffrail_kit::shutdown::{self, Trigger};

use super::*;
use crate::pods::table::{Event, Table};
use crate::pods::{Origin, Pod};

/// Status, `Retry-After`, body.
type Said = (StatusCode, Option<&'static str>, Vec<u8>);

/// What the collector says, and what it was sent.
#[derive(Clone)]
struct Collector {
    says: Arc<Mutex<Said>>,
    seen: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
}

impl Collector {
    fn says(&self, status: u16, after: Option<&'static str>, body: Vec<u8>) {
        let status = StatusCode::from_u16(status).expect("a status");
        *self.says.lock().expect("lock") = (status, after, body);
    }

    async fn serve(&self) -> String {
        let own = self.clone();
        let answer = move |headers: HeaderMap, body: Bytes| async move {
            let packed = headers.get("content-encoding").is_some_and(|e| e == "zstd");
            let plain = if packed {
                zstd::bulk::decompress(&body, 8 << 20).expect("zstd")
            } else {
                body.to_vec()
            };
            own.seen.lock().expect("lock").extend(ExportLogsServiceRequest::decode(&*plain));
            let (status, after, body) = own.says.lock().expect("lock").clone();
            let mut headers = HeaderMap::new();
            headers
                .extend(after.map(|a| (http::header::RETRY_AFTER, a.parse().expect("a header"))));
            (status, headers, body)
        };
        let app = Router::new().fallback(answer);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }
}

struct World {
    collector: Collector,
    grpc: String,
    http: Client,
    registry: Registry,
    _end: (Trigger, Table),
}

impl World {
    async fn new() -> Self {
        let says = Arc::new(Mutex::new((StatusCode::OK, None, Vec::new())));
        let collector = Collector { says, seen: Arc::default() };
        let client = Client::new(&collector.serve().await).expect("a URL");
        let (mut table, pods) = Table::new(Origin::File);
        let pod = Pod {
            uid: "u".into(),
            namespace: "shop".into(),
            name: "web".into(),
            ip: Some("127.0.0.1".into()),
            ..Pod::default()
        };
        table.apply(Event::Listed(vec![pod]), tokio::time::Instant::now());
        let any = Some("127.0.0.1:0".parse().expect("an address"));
        let config = Config { grpc: any, http: any };
        let registry = Registry::new();
        let place = Place { cluster: String::new(), node: "n".into() };
        let receiver = Receiver::bind(config, place, pods, Source::default(), client, &registry);
        let receiver = receiver.await.expect("bind");
        let [grpc, http] = receiver.addresses()[..] else { panic!("two addresses") };
        let (trigger, shutdown) = shutdown::channel();
        tokio::spawn(receiver.run(shutdown));
        let http = Client::new(&format!("http://{http}")).expect("a URL");
        Self { collector, grpc: format!("http://{grpc}"), http, registry, _end: (trigger, table) }
    }

    async fn post(&self, path: &str, kind: &str, encoding: &str, body: Vec<u8>) -> (u16, String) {
        let headers = [("content-type", kind), ("content-encoding", encoding)];
        let answer = self.http.post(path, &headers, body.into()).await.expect("an answer");
        (answer.status.as_u16(), crate::refusal::text(&answer, 1000))
    }

    /// The pods that the collector was told as senders of what it got since the last look.
    fn senders(&self) -> Vec<Option<String>> {
        let seen = std::mem::take(&mut *self.collector.seen.lock().expect("lock"));
        let all = seen.into_iter().flat_map(|request| request.resource_logs);
        let name = |logs: ResourceLogs| {
            let attributes = logs.resource.expect("a resource").attributes;
            let pod = attributes.into_iter().find(|a| a.key == "k8s.pod.name")?;
            match pod.value?.value? {
                opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text) => {
                    Some(text)
                }
                _ => None,
            }
        };
        all.map(name).collect()
    }
}

fn request(lines: usize) -> ExportLogsServiceRequest {
    let log_records = vec![LogRecord { time_unix_nano: 5, ..LogRecord::default() }; lines];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let logs = ResourceLogs { scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

const PROTOBUF: &str = "application/x-protobuf";

#[tokio::test]
async fn http_in_all_its_forms_arrives_as_the_pods() {
    let w = World::new().await;
    let plain = request(100).encode_to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).expect("packs");
    let json = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"k8s.pod.name","value":
        {"stringValue":"spoof"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"5"}]}]}]}"#;
    for (kind, encoding, body) in [
        (PROTOBUF, "identity", plain.clone()),
        (PROTOBUF, "gzip", gzip.finish().expect("packs")),
        (PROTOBUF, "zstd", zstd::bulk::compress(&plain, 1).expect("packs")),
        ("application/json; charset=utf-8", "identity", json.to_vec()),
    ] {
        let (status, text) = w.post("/v1/logs", kind, encoding, body).await;
        assert_eq!(status, 200, "{kind} {encoding}: {text}");
        assert_eq!(w.senders(), [Some("web".to_owned())], "{kind} {encoding}");
    }
    let counted = taffrail_kit::telemetry::metrics::render(&w.registry);
    let line = r#"taffrail_receive_requests_total{signal="logs",status="200"} 4"#;
    assert!(counted.contains(line), "{counted}");
}

#[tokio::test]
async fn what_is_not_taken_is_refused_with_a_reason() {
    let w = World::new().await;
    let large = vec![0; REQUEST_BYTES_MAX + 1];
    for (path, kind, encoding, body, status, reason) in [
        ("/v1/traces", PROTOBUF, "identity", vec![], 501, "traces are not supported"),
        ("/v1/logs", "text/plain", "identity", vec![], 415, "content type"),
        ("/v1/logs", PROTOBUF, "br", vec![], 415, "content encoding"),
        ("/v1/logs", PROTOBUF, "gzip", vec![1], 400, "not gzip"),
        ("/v1/logs", PROTOBUF, "identity", vec![1], 400, "not an OTLP request"),
        ("/v1/metrics", "application/json", "identity", vec![b'{'], 400, "not an OTLP request"),
        ("/v1/logs", PROTOBUF, "identity", large, 413, "smaller batches"),
        ("/v1/other", PROTOBUF, "identity", vec![], 404, ""),
    ] {
        let (found, text) = w.post(path, kind, encoding, body).await;
        assert_eq!(found, status, "{path}: {text}");
        assert!(text.contains(reason), "{path}: {text}");
    }
    assert!(w.collector.seen.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn the_collectors_answer_is_the_answer() {
    let w = World::new().await;
    let body = request(1).encode_to_vec();
    for (status, after) in [(429, Some("7")), (503, None), (400, None)] {
        w.collector.says(status, after, b"why".to_vec());
        let headers = [("content-type", PROTOBUF)];
        let answer = w.http.post("/v1/logs", &headers, body.clone().into()).await.expect("answer");
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (status, after));
        assert_eq!(crate::refusal::text(&answer, 100), "why");
    }
    let partial =
        ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "old".into() };
    let said = ExportMetricsServiceResponse { partial_success: Some(partial) };
    w.collector.says(200, None, said.encode_to_vec());
    let (_, text) = w.post("/v1/metrics", "application/json", "identity", b"{}".to_vec()).await;
    assert_eq!(text, r#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"old"}}"#);
    let headers = [("content-type", PROTOBUF)];
    let answer = w.http.post("/v1/metrics", &headers, Bytes::new()).await.expect("answer");
    assert_eq!(ExportMetricsServiceResponse::decode(&*answer.body), Ok(said));
}

#[tokio::test]
async fn grpc_does_the_same() {
    let w = World::new().await;
    let channel = tonic::transport::Endpoint::from_shared(w.grpc.clone()).expect("a URL");
    let channel = channel.connect().await.expect("a connection");
    let mut logs = LogsServiceClient::new(channel.clone())
        .send_compressed(tonic::codec::CompressionEncoding::Zstd);
    let answer = logs.export(request(5)).await.expect("taken").into_inner();
    assert_eq!(answer, ExportLogsServiceResponse::default());
    assert_eq!(w.senders(), [Some("web".to_owned())]);

    w.collector.says(429, Some("3"), b"full".to_vec());
    let refused = logs.export(request(1)).await.expect_err("refused");
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Unavailable, "full"));
    assert!(!refused.details().is_empty());
    w.collector.says(400, None, b"bad".to_vec());
    let refused = logs.export(request(1)).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);

    w.collector.says(200, None, Vec::new());
    let mut metrics = MetricsServiceClient::new(channel.clone());
    metrics.export(ExportMetricsServiceRequest::default()).await.expect("taken");
    let mut traces = tonic::client::Grpc::new(channel);
    traces.ready().await.expect("ready");
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let codec =
        tonic_prost::ProstCodec::<ExportLogsServiceRequest, ExportLogsServiceResponse>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let refused = traces.unary(tonic::Request::new(request(1)), path, codec).await.expect_err("no");
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn a_collector_that_is_away_is_worth_another_attempt() {
    let w = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let gone = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let any = Some("127.0.0.1:0".parse().expect("an address"));
    let config = Config { grpc: None, http: any };
    let client = Client::new(&gone).expect("a URL");
    let registry = Registry::new();
    let receiver = Receiver::bind(
        config,
        Place::default(),
        Pods::none(),
        Source::default(),
        client,
        &registry,
    );
    let receiver = receiver.await.expect("bind");
    let http = Client::new(&format!("http://{}", receiver.addresses()[0])).expect("a URL");
    let (_trigger, shutdown) = shutdown::channel();
    tokio::spawn(receiver.run(shutdown));
    let headers = [("content-type", PROTOBUF)];
    let answer = http.post("/v1/logs", &headers, Bytes::new()).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("5")));
    drop(w);
}
