//! One frame to records or samples. Pure, so that replay stores exactly what ingest stored.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

use super::batch::LogPart;
use super::refusal::Refusal;
use super::{body, loki_push, otlp_logs, otlp_metrics, weight};
use crate::wal::{Kind, Received};

/// Decodes a request for logs.
///
/// # Errors
/// When it cannot be read, a limit forbids its content, or it is not one for logs.
pub fn logs(received: &Received<'_>) -> Result<Vec<LogPart>, Refusal> {
    let plain = body::plain(received.encoding, received.body)?;
    weight::check(received.kind, &plain)?;
    match received.kind {
        Kind::OtlpLogs => {
            let request =
                ExportLogsServiceRequest::decode(&*plain).map_err(|e| not_protobuf(&e))?;
            otlp_logs::decode(request, received.at)
        }
        Kind::OtlpLogsJson => {
            let request = serde_json::from_slice::<ExportLogsServiceRequest>(&plain);
            otlp_logs::decode(request.map_err(|e| not_json(&e))?, received.at)
        }
        Kind::LokiPush => loki_push::decode_protobuf(&plain),
        Kind::LokiPushJson => loki_push::decode_json(&plain),
        Kind::OtlpMetrics | Kind::OtlpMetricsJson => Err(wrong_door()),
    }
}

/// Decodes a request for metrics.
///
/// # Errors
/// As [`logs`].
pub fn metrics(received: &Received<'_>) -> Result<otlp_metrics::Decoded, Refusal> {
    let plain = body::plain(received.encoding, received.body)?;
    weight::check(received.kind, &plain)?;
    let request = match received.kind {
        Kind::OtlpMetrics => {
            ExportMetricsServiceRequest::decode(&*plain).map_err(|e| not_protobuf(&e))?
        }
        Kind::OtlpMetricsJson => {
            serde_json::from_slice(&plain).map_err(|error| not_json(&error))?
        }
        _ => return Err(wrong_door()),
    };
    Ok(otlp_metrics::decode(request, received.at))
}

fn not_protobuf(error: &prost::DecodeError) -> Refusal {
    Refusal::Content(format!("the body is not an OTLP export request: {error}"))
}

fn not_json(error: &serde_json::Error) -> Refusal {
    Refusal::Content(format!("the body is not an OTLP export request in JSON: {error}"))
}

fn wrong_door() -> Refusal {
    Refusal::Content("the request is for another store".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wal::Encoding;

    const KINDS: [Kind; 6] = [
        Kind::OtlpLogs,
        Kind::OtlpLogsJson,
        Kind::OtlpMetrics,
        Kind::OtlpMetricsJson,
        Kind::LokiPush,
        Kind::LokiPushJson,
    ];

    /// Requests with a bit of everything, to be damaged.
    const JSON: [&str; 3] = [
        r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"a","value":{"intValue":"1"}}]},
           "scopeLogs":[{"scope":{"name":"taffrail.agent"},"logRecords":[{"timeUnixNano":"5",
           "body":{"kvlistValue":{"values":[{"key":"k","value":{"doubleValue":1.5}}]}}}]}]}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[
           {"timeUnixNano":"5","asDouble":1}]}}]}]}]}"#,
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"c":"d"}]]}]}"#,
    ];

    fn both(kind: Kind, body: &[u8]) {
        let received = Received { kind, encoding: Encoding::Identity, at: 1, body };
        let (one, two) = (logs(&received), logs(&received));
        assert_eq!(one, two, "the same frame, the same lines");
        let _ = metrics(&received);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
            KINDS.into_iter().for_each(|kind| both(kind, &body));
        }

        #[test]
        fn damaged_requests_are_read_or_refused(
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            for json in JSON {
                let mut body = json.as_bytes().to_vec();
                let at = at.index(body.len());
                body[at] = with;
                body.truncate(cut.index(json.len() * 4).max(1));
                KINDS.into_iter().for_each(|kind| both(kind, &body));
                if let Ok(request) = serde_json::from_str::<ExportLogsServiceRequest>(json) {
                    let mut body = request.encode_to_vec();
                    let at = at % body.len().max(1);
                    body.get_mut(at).into_iter().for_each(|byte| *byte = with);
                    both(Kind::OtlpLogs, &body);
                }
            }
        }
    }

    #[test]
    fn the_undamaged_ones_are_read() {
        let read = |kind, body: &str| {
            let body = body.as_bytes();
            let received = Received { kind, encoding: Encoding::Identity, at: 1, body };
            (logs(&received).map(|parts| parts.len()), metrics(&received).map(|m| m.series.len()))
        };
        assert_eq!(read(Kind::OtlpLogsJson, JSON[0]).0, Ok(1));
        assert_eq!(read(Kind::OtlpMetricsJson, JSON[1]).1, Ok(1));
        assert_eq!(read(Kind::LokiPushJson, JSON[2]).0, Ok(1));
        assert!(read(Kind::LokiPushJson, JSON[2]).1.is_err(), "logs are no metrics");
    }
}
