//! Every door, with what it takes and what it refuses.

use std::io::Write;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::codec::CompressionEncoding;

use crate::harness::{JSON, PROTOBUF, Running, foreign};

const GZIP: (&str, &str) = ("content-encoding", "gzip");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_is_taken_in_each_form_and_answered_in_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let body = |line: &str| foreign("s", &[line]).encode_to_vec();

    let plain = running.post("/v1/logs", &[PROTOBUF], body("1 plain")).await;
    assert_eq!((plain.status.as_u16(), plain.header("content-type")), (200, Some(PROTOBUF.1)));
    assert_eq!(plain.body.len(), 0, "an answer without fields");
    let packed = running.post("/v1/logs", &[PROTOBUF, GZIP], gzip(&body("2 gzip"))).await;
    assert_eq!(packed.status, 200);
    let json = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":
        {"stringValue":"s"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","severityNumber":9,
        "body":{"stringValue":"3 json"},"traceId":"01020304050607080102030405060708"}]}]}]}"#;
    let answer = running
        .post("/v1/logs", &[("content-type", "application/json; charset=utf-8")], json)
        .await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "{}"), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some(JSON.1));
    let empty = running.post("/v1/logs", &[PROTOBUF], "").await;
    assert_eq!(empty.status, 200, "an empty request is one");

    let channel = tonic::transport::Endpoint::new(format!("http://{}", running.grpc)).unwrap();
    let channel = channel.connect().await.unwrap();
    let plain = LogsServiceClient::new(channel.clone());
    let packed = plain.clone().send_compressed(CompressionEncoding::Zstd);
    for (mut client, line) in [(plain, "4 grpc"), (packed, "5 grpc zstd")] {
        let answer = client.export(foreign("s", &[line])).await.unwrap();
        assert_eq!(answer.into_inner().partial_success, None);
    }
    let long = "x".repeat((1 << 20) + 1);
    let refused = LogsServiceClient::new(channel.clone()).export(foreign("s", &[&long])).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::InvalidArgument);
    let mut metrics = MetricsServiceClient::new(channel);
    let answer = metrics.export(ExportMetricsServiceRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner(), ExportMetricsServiceResponse::default());

    let mut lines = running.stop().await;
    lines.sort();
    let expected = ["1 plain", "2 gzip", "3 json", "4 grpc", "5 grpc zstd"]
        .map(|line| format!("{{service_name=\"s\"}} {line}"));
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_otlp_is_refused_with_its_reason_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let good = foreign("s", &["x"]).encode_to_vec();
    let long = foreign("s", &["fine", &"x".repeat((1 << 20) + 1)]).encode_to_vec();
    let bomb = zstd::encode_all(&vec![0; (64 << 20) + 1][..], 1).unwrap();
    let zstd = ("content-encoding", "zstd");
    let text = ("content-type", "text/plain");
    let br = ("content-encoding", "br");
    /// Headers, body, status, a part of the reason.
    type Case<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, u16, &'a str);
    let cases: [Case; 9] = [
        (&[text], good.clone(), 415, "text/plain"),
        (&[], good.clone(), 415, "content type"),
        (&[PROTOBUF, br], good.clone(), 415, "content encoding"),
        (&[PROTOBUF], b"\xff\xfegarbage".to_vec(), 400, "not an OTLP"),
        (&[PROTOBUF, GZIP], good.clone(), 400, "not gzip"),
        (&[PROTOBUF, zstd], good.clone(), 400, "not zstd"),
        (&[JSON], b"{".to_vec(), 400, "JSON"),
        (&[PROTOBUF], long, 400, "a line has 1048577 bytes"),
        (&[PROTOBUF, zstd], bomb, 413, "67108864"),
    ];
    for path in ["/v1/logs", "/v1/metrics"] {
        for (headers, body, status, reason) in &cases {
            if path == "/v1/metrics" && reason.contains("a line") {
                continue;
            }
            let answer = running.post(path, headers, body.clone()).await;
            let said = answer.text();
            assert_eq!(answer.status, *status, "{path} {headers:?}: {said}");
            assert!(said.contains(reason), "{path} {headers:?}: {said}");
            let form = if headers.contains(&JSON) { JSON } else { PROTOBUF };
            assert_eq!(answer.header("content-type"), Some(form.1));
        }
    }
    assert_eq!(running.stop().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    for path in ["/v1/logs", "/loki/api/v1/push"] {
        let mut stream = tokio::net::TcpStream::connect(running.http).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n\
             content-length: 16777217\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413", "{path}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_pushes() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let push = async |headers: &[(&str, &str)], body: Vec<u8>| {
        let answer = running.post("/loki/api/v1/push", headers, body).await;
        (answer.status.as_u16(), answer.text())
    };
    let json = |line: &str| {
        format!(r#"{{"streams":[{{"stream":{{"app":"a"}},"values":[["1","{line}"]]}}]}}"#)
            .into_bytes()
    };
    let protobuf = {
        use taffrail_collector::ingest::loki_push::proto::{Entry, PushRequest, Stream};
        let entry = Entry { line: "3 snappy".into(), ..Entry::default() };
        let stream = Stream { labels: r#"{app="a"}"#.into(), entries: vec![entry] };
        let request = PushRequest { streams: vec![stream] }.encode_to_vec();
        snap::raw::Encoder::new().compress_vec(&request).unwrap()
    };
    assert_eq!(push(&[JSON], json("1 json")).await, (204, String::new()));
    assert_eq!(push(&[JSON, GZIP], gzip(&json("2 gzip"))).await.0, 204);
    assert_eq!(push(&[], protobuf.clone()).await.0, 204);

    let br = ("content-encoding", "br");
    let corrupt = (400, "snappy: corrupt input\n".to_owned());
    assert_eq!(push(&[PROTOBUF], b"\xff\xfe\xfd garbage".to_vec()).await, corrupt);
    assert_eq!(push(&[PROTOBUF], vec![]).await, corrupt);
    assert_eq!(push(&[("content-type", "text/csv")], b"a,b".to_vec()).await, corrupt);
    let (status, said) = push(&[JSON, br], json("x")).await;
    assert_eq!((status, said.as_str()), (400, "Content-Encoding \"br\" not supported\n"));
    for bad in [&b""[..], b"{\"streams\":[", b"{\"streams\":[]}"] {
        assert_eq!(push(&[JSON], bad.to_vec()).await.0, 400);
    }
    let mut lines = running.stop().await;
    lines.sort();
    let expected = ["1 json", "2 gzip", "3 snappy"]
        .map(|line| format!("{{app=\"a\", service_name=\"a\"}} {line}"));
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_tail_ends_with_the_collector() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let path = "/api/v1/logs/tail?query=%7Bservice_name%3D%22s%22%7D";
    let mut tail = running.client.get_stream(path, &[]).await.unwrap();
    assert_eq!(tail.status, 200);
    let body = foreign("s", &["live"]).encode_to_vec();
    assert_eq!(running.post("/v1/logs", &[PROTOBUF], body).await.status, 200);
    let chunk = tail.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&chunk).contains("live"), "{chunk:?}");
    let (lines, end) = tokio::join!(running.stop(), tail.chunk());
    assert_eq!(lines.len(), 1);
    assert!(matches!(end, Ok(None)), "a whole answer, not a broken one: {end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_own_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    assert_eq!(running.client.get("/livez", &[]).await.unwrap().status, 200);
    assert_eq!(running.client.get("/ready", &[]).await.unwrap().text(), "ready\n");
    assert_eq!(
        running.post("/v1/logs", &[PROTOBUF], foreign("s", &["x"]).encode_to_vec()).await.status,
        200
    );
    let page = running.client.get("/metrics", &[]).await.unwrap().text();
    for line in [
        "taffrail_ingest_requests_total{outcome=\"stored\",protocol=\"otlp_http\"} 1",
        "taffrail_ingest_lines_total 1",
        "taffrail_wal_logs_bytes",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    running.stop().await;
}
