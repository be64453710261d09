//! Frames of the write-ahead log that are not what was written: an error, never a panic. What fuzzers
//! do with any bytes, done with changed copies of real requests.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use taffrail_collector::ingest::decode;
use taffrail_collector::wal::Received;

use crate::harness::{batch, foreign};

const LOKI: &str =
    r#"{"streams":[{"stream":{"app":"a"},"values":[["1","x"],["2","y",{"t":"z"}]]}]}"#;

/// A frame: version, kind, encoding, no tenant, a time, the body.
fn frame(kind: u8, encoding: u8, body: &[u8]) -> Vec<u8> {
    [&[1, kind, encoding, 0], &7_i64.to_le_bytes()[..], body].concat()
}

fn decode(frame: &[u8]) -> bool {
    let Ok(received) = Received::parse(frame) else { return false };
    let logs = decode::logs(&received).is_ok();
    let metrics = decode::metrics(&received).is_ok();
    logs || metrics
}

fn frames() -> Vec<Vec<u8>> {
    let logs = |request: &ExportLogsServiceRequest| request.encode_to_vec();
    let protobuf = logs(&batch("n/1", 0..10, &["one line", "another"]));
    let zstd = zstd::encode_all(&*protobuf, 1).unwrap();
    let json = serde_json::to_vec(&foreign("service", &["a line"])).unwrap();
    let metrics = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"depth","gauge":
        {"dataPoints":[{"timeUnixNano":"1000000","asDouble":1}]}}]}]}]}"#;
    vec![
        frame(1, 0, &protobuf),
        frame(1, 2, &zstd),
        frame(2, 0, &json),
        frame(4, 0, metrics),
        frame(6, 0, LOKI.as_bytes()),
    ]
}

#[test]
fn the_frames_are_good_ones() {
    for (at, frame) in frames().iter().enumerate() {
        assert!(decode(frame), "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_changed_frame_is_read_or_refused(
        which in any::<Index>(), cut in prop::option::of(any::<Index>()),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        let mut frame = which.get(&frames()).clone();
        for (at, byte) in changes {
            *at.get_mut(&mut frame) = byte;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        decode(&frame);
    }
}
