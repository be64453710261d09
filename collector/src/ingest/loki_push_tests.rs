//! What pushes become, and what is refused.

use proptest::prelude::*;
use prost::Message;

use super::proto::{Entry, Pair, PushRequest, Stream, Timestamp};
use super::*;

fn streams(parts: Vec<LogPart>) -> Vec<StreamEntries> {
    parts.into_iter().flat_map(|part| part.streams).collect()
}

#[test]
fn json_with_metadata() {
    let body = r#"{"streams":[{"stream":{"app":"web","z":""},"values":[
        ["1795187400000000000","level=error x",{"trace_id":"1","empty":""}],
        ["1795187400000000001","plain"]]},
        {"stream":{},"values":[["1","x"]]}]}"#;
    let streams = streams(decode_json(body.as_bytes()).unwrap());
    assert_eq!(streams[0].labels.to_string(), r#"{app="web", service_name="web"}"#);
    let first = &streams[0].entries[0];
    assert_eq!((first.ts, first.level), (1_795_187_400_000_000_000, Level::Error));
    assert_eq!(first.metadata, [("trace_id".into(), "1".into())]);
    assert_eq!(streams[1].labels.to_string(), r#"{service_name="unknown_service"}"#);
}

#[test]
fn what_loki_refuses_is_refused() {
    let cases = [
        ("", "EOF"),
        ("{\"streams\":[", "EOF"),
        (r#"{"streams":[]}"#, "at least one valid stream"),
        (
            r#"{"streams":[{"stream":{"a":"é\"","k8s.b":"c"},"values":[["1","x"]]}]}"#,
            "couldn't parse labels: 1:14: parse error: unexpected character inside braces: '.'",
        ),
        (
            r#"{"streams":[{"stream":{"k8s.pod":"c"},"values":[["1","x"]]}]}"#,
            "couldn't parse labels",
        ),
        (r#"{"streams":[{"stream":{"a":"c"},"values":[[1,"x"]]}]}"#, "string"),
        (r#"{"streams":[{"stream":{"a":"c"},"values":[["abc","x"]]}]}"#, "\"abc\" is not a time"),
        (r#"{"streams":[{"stream":{"a":"c"},"values":[["1","x",{"n":1}]]}]}"#, "string"),
        (r#"{"streams":[{"stream":{"a":"c"},"values":[["1"]]}]}"#, "length"),
        (
            r#"{"streams":[{"stream":{"a":"c"},"values":[["1","x"]]},{"stream":{"a-b":"c"},"values":[["1","x"]]}]}"#,
            "couldn't parse labels",
        ),
    ];
    for (body, expected) in cases {
        let refused = decode_json(body.as_bytes()).unwrap_err();
        assert!(matches!(refused, Refusal::Content(_)));
        assert!(refused.to_string().contains(expected), "{body}: {refused}");
    }
}

#[test]
fn protobuf_with_metadata() {
    let entry = Entry {
        timestamp: Some(Timestamp { seconds: 2, nanos: 3 }),
        line: "hello".into(),
        metadata: vec![Pair { name: "level".into(), value: "warn".into() }],
    };
    let stream = Stream { labels: r#"{b="2", a="1"}"#.into(), entries: vec![entry] };
    let mut request = PushRequest { streams: vec![stream] };
    let decoded = streams(decode_protobuf(&request.encode_to_vec()).unwrap());
    assert_eq!(decoded[0].labels.to_string(), r#"{a="1", b="2", service_name="unknown_service"}"#);
    assert_eq!(
        (decoded[0].entries[0].ts, decoded[0].entries[0].level),
        (2_000_000_003, Level::Warn)
    );
    request.streams[0].labels = "{a-b=\"c\"}".into();
    assert!(decode_protobuf(&request.encode_to_vec()).is_err());
    request.streams[0].labels = "{}".into();
    request.streams[0].entries[0].timestamp = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    assert!(decode_protobuf(&request.encode_to_vec()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_protobuf(&bytes);
        let _ = decode_json(&bytes);
    }
}
