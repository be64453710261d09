//! One frame to records or samples. Pure, so that replay stores exactly what ingest stored.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

use super::batch::LogPart;
use super::refusal::Refusal;
use super::{body, loki_push, otlp_logs, otlp_metrics};
use crate::wal::{Kind, Received};

/// Decodes a request for logs.
///
/// # Errors
/// When it cannot be read, a limit forbids its content, or it is not one for logs.
pub fn logs(received: &Received<'_>) -> Result<Vec<LogPart>, Refusal> {
    let plain = body::plain(received.encoding, received.body)?;
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
