//! The two kinds of requests that are taken, as far as forwarding needs to know them. Pure.

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde::de::DeserializeOwned;

use super::redact;
use crate::process::Source;

/// Some items of a request were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partial {
    /// What OTLP's JSON calls the number.
    pub(super) field: &'static str,
    pub(super) rejected: i64,
    pub(super) message: String,
}

/// A request to export something.
pub(super) trait Export: Message + Default + DeserializeOwned + 'static {
    type Response: Message + Default;
    /// Where it is posted.
    const PATH: &'static str;
    /// The word in metrics.
    const SIGNAL: &'static str;
    /// Where things in it come from.
    fn resources(&mut self) -> impl Iterator<Item = &mut Option<Resource>>;
    /// Who speaks in it.
    fn scopes(&mut self) -> impl Iterator<Item = &mut InstrumentationScope>;
    /// The attributes of the single records; of metrics they are labels, which are the sender's own.
    fn attributes(&mut self) -> impl Iterator<Item = &mut Vec<KeyValue>> {
        std::iter::empty()
    }
    /// Takes out what must not leave the node, by the rules of each sender.
    fn redact(&mut self, _meaning: &Source) {}
    /// What of it was not taken.
    fn partial(response: Self::Response) -> Option<Partial>;
}

impl Export for ExportLogsServiceRequest {
    type Response = ExportLogsServiceResponse;
    const PATH: &'static str = "/v1/logs";
    const SIGNAL: &'static str = "logs";

    fn resources(&mut self) -> impl Iterator<Item = &mut Option<Resource>> {
        self.resource_logs.iter_mut().map(|logs| &mut logs.resource)
    }

    fn scopes(&mut self) -> impl Iterator<Item = &mut InstrumentationScope> {
        let scopes = self.resource_logs.iter_mut().flat_map(|logs| &mut logs.scope_logs);
        scopes.filter_map(|logs| logs.scope.as_mut())
    }

    fn attributes(&mut self) -> impl Iterator<Item = &mut Vec<KeyValue>> {
        let scopes = self.resource_logs.iter_mut().flat_map(|logs| &mut logs.scope_logs);
        let records = scopes.flat_map(|scope| &mut scope.log_records);
        records.map(|record| &mut record.attributes)
    }

    fn redact(&mut self, meaning: &Source) {
        redact::logs(self, meaning);
    }

    fn partial(response: Self::Response) -> Option<Partial> {
        let partial = response.partial_success?;
        let (rejected, message) = (partial.rejected_log_records, partial.error_message);
        Some(Partial { field: "rejectedLogRecords", rejected, message })
    }
}

impl Export for ExportMetricsServiceRequest {
    type Response = ExportMetricsServiceResponse;
    const PATH: &'static str = "/v1/metrics";
    const SIGNAL: &'static str = "metrics";

    fn resources(&mut self) -> impl Iterator<Item = &mut Option<Resource>> {
        self.resource_metrics.iter_mut().map(|metrics| &mut metrics.resource)
    }

    fn scopes(&mut self) -> impl Iterator<Item = &mut InstrumentationScope> {
        let scopes =
            self.resource_metrics.iter_mut().flat_map(|metrics| &mut metrics.scope_metrics);
        scopes.filter_map(|metrics| metrics.scope.as_mut())
    }

    fn partial(response: Self::Response) -> Option<Partial> {
        let partial = response.partial_success?;
        let (rejected, message) = (partial.rejected_data_points, partial.error_message);
        Some(Partial { field: "rejectedDataPoints", rejected, message })
    }
}
