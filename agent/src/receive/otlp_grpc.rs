//! The door for OTLP over gRPC.
//!
//! A refusal that is to be repeated carries `google.rpc.RetryInfo` when the collector said after how
//! long: OTLP's clients wait as long, and repeat `RESOURCE_EXHAUSTED` only then.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::{Code, Request, Response, Status};

use super::forward::{Answer, Refusal};
use super::signal::{Export, Partial};
use super::{REQUEST_BYTES_MAX, Shared, with_turns};

/// The type of [`RetryInfo`].
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Seconds>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

struct Door(Arc<Shared>);

/// The routes of the gRPC port.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let logs = LogsServiceServer::new(Door(shared.clone()));
    let logs = logs.accept_compressed(Gzip).accept_compressed(Zstd);
    let metrics = MetricsServiceServer::new(Door(shared.clone()));
    let metrics = metrics.accept_compressed(Gzip).accept_compressed(Zstd);
    let service = "/opentelemetry.proto.collector";
    let door = Router::new()
        .route_service(
            &format!("{service}.logs.v1.LogsService/Export"),
            logs.max_decoding_message_size(REQUEST_BYTES_MAX),
        )
        .route_service(
            &format!("{service}.metrics.v1.MetricsService/Export"),
            metrics.max_decoding_message_size(REQUEST_BYTES_MAX),
        );
    let busy = || {
        let text = "too many requests at a time; try again later";
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, text);
        let refusal = Refusal { retry_after: Some("1".into()), ..refusal };
        status(&refusal).into_http::<Body>().into_response()
    };
    with_turns(door, shared, busy).fallback(async || {
        Status::unimplemented("only OTLP logs and metrics are taken").into_http::<Body>()
    })
}

impl Door {
    async fn export<E: Export>(&self, request: Request<E>) -> Result<Option<Partial>, Status> {
        let peer = peer(&request)?;
        match self.0.forward(peer, request.into_inner()).await {
            Answer::Taken(partial) => Ok(partial),
            Answer::Refused(refusal) => Err(status(&refusal)),
        }
    }
}

fn peer<T>(request: &Request<T>) -> Result<IpAddr, Status> {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    info.map(|info| info.0.ip()).ok_or_else(|| Status::internal("the sender has no address"))
}

#[tonic::async_trait]
impl LogsService for Door {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let partial = Self::export(self, request).await?.map(|p| ExportLogsPartialSuccess {
            rejected_log_records: p.rejected,
            error_message: p.message,
        });
        Ok(Response::new(ExportLogsServiceResponse { partial_success: partial }))
    }
}

#[tonic::async_trait]
impl MetricsService for Door {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let partial = Self::export(self, request).await?.map(|p| ExportMetricsPartialSuccess {
            rejected_data_points: p.rejected,
            error_message: p.message,
        });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success: partial }))
    }
}

/// What may be repeated is `UNAVAILABLE`, what must not be is not.
fn status(refusal: &Refusal) -> Status {
    let code = match refusal.status {
        StatusCode::TOO_MANY_REQUESTS => Code::Unavailable,
        StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
        StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
        status if status.is_server_error() => Code::Unavailable,
        _ => Code::InvalidArgument,
    };
    let Some(seconds) = refusal.seconds().filter(|_| code == Code::Unavailable) else {
        return Status::new(code, &refusal.text);
    };
    let info = RetryInfo { retry_delay: Some(Seconds { seconds: seconds.into() }) };
    let details = Details {
        code: code as i32,
        message: refusal.text.clone(),
        details: vec![Detail { type_url: RETRY_INFO.into(), value: info.encode_to_vec() }],
    };
    Status::with_details(code, &refusal.text, details.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_repeated_says_so_and_after_how_long() {
        let cases = [
            (429, Some("7"), Code::Unavailable, Some(7)),
            (503, None, Code::Unavailable, None),
            (502, Some("soon"), Code::Unavailable, None),
            (400, Some("7"), Code::InvalidArgument, None),
            (413, None, Code::ResourceExhausted, None),
            (501, None, Code::Unimplemented, None),
        ];
        for (number, after, code, seconds) in cases {
            let status_code = StatusCode::from_u16(number).expect("a status");
            let retry_after = after.map(str::to_owned);
            let told = status(&Refusal { retry_after, ..Refusal::new(status_code, "why") });
            assert_eq!((told.code(), told.message()), (code, "why"), "{number}");
            let details = Details::decode(told.details()).expect("a status");
            let info = details.details.first().map(|d| RetryInfo::decode(&*d.value).expect("info"));
            let delay = info.and_then(|info| info.retry_delay).map(|d| d.seconds);
            assert_eq!(delay, seconds, "{number}");
        }
    }
}
