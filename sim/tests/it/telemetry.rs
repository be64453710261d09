//! The binaries' own telemetry over OTLP: metrics into the collector itself, spans to an endpoint
//! that takes traces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use taffrail_sim::process::{Process, free_address, wait_for};
use tonic::{Request, Response, Status};

use crate::stack::Stack;

fn with(mut arguments: Vec<String>, more: &[&str]) -> Vec<String> {
    arguments.extend(more.iter().map(|a| (*a).to_owned()));
    arguments
}

fn prepare(stack: &Stack) -> anyhow::Result<()> {
    std::fs::create_dir_all(stack.path("pods"))?;
    std::fs::write(stack.path("pods.json"), taffrail_sim::podlog::pod_list(&[], "node-1"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn own_metrics_arrive_in_the_collector() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    prepare(&stack)?;
    let endpoint = format!("http://{}", stack.grpc);
    let flags = ["--telemetry-otlp-endpoint", &endpoint, "--telemetry-interval", "1s"];
    let logs = stack.path("logs");
    let mut collector =
        Process::start("taffrail-collector", &with(stack.collector_args(), &flags), &logs)?;
    collector.ready(&format!("http://{}/readyz", stack.http)).await?;
    let mut agent = Process::start("taffrail-agent", &with(stack.agent_args(), &flags), &logs)?;
    for program in ["taffrail-agent", "taffrail-collector"] {
        let query = format!(r#"process_resident_memory_bytes{{job="{program}"}} > 1000000"#);
        wait_for(&format!("the memory of {program} in PromQL"), async || {
            let series = stack.prom(&query).await.ok()?;
            (series.len() == 1).then_some(())
        })
        .await?;
    }
    assert!(agent.stop().await?.success(), "{}", agent.log());
    assert!(collector.stop().await?.success(), "{}", collector.log());
    Ok(())
}

/// Service -> span name -> ids of traces.
type Seen = Arc<Mutex<BTreeMap<String, BTreeMap<String, BTreeSet<Vec<u8>>>>>>;

#[derive(Clone, Default)]
struct Sink(Seen);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.0.lock().expect("not poisoned");
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|r| r.attributes).unwrap_or_default();
            let service = attributes
                .into_iter()
                .filter(|a| a.key == "service.name")
                .find_map(|a| match a.value?.value? {
                    Value::StringValue(name) => Some(name),
                    _ => None,
                })
                .unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            for span in spans {
                let names = seen.entry(service.clone()).or_default();
                names.entry(span.name).or_default().insert(span.trace_id);
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_agent_through_the_collector() -> anyhow::Result<()> {
    let stack = Stack::new()?;
    prepare(&stack)?;
    let address = free_address()?;
    let sink = Sink::default();
    let service = TraceServiceServer::new(sink.clone());
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/{method}";
    let routes = axum::Router::new().route_service(path, service);
    let listener = tokio::net::TcpListener::bind(address).await?;
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let endpoint = format!("http://{address}");
    let flags = ["--telemetry-otlp-endpoint", &endpoint, "--telemetry-spans", "true"];
    let logs = stack.path("logs");
    let mut collector =
        Process::start("taffrail-collector", &with(stack.collector_args(), &flags), &logs)?;
    collector.ready(&format!("http://{}/readyz", stack.http)).await?;
    let mut agent = Process::start("taffrail-agent", &with(stack.agent_args(), &flags), &logs)?;
    let traces = |service: &str, span: &str| {
        let seen = sink.0.lock().expect("not poisoned");
        seen.get(service).and_then(|spans| spans.get(span)).cloned().unwrap_or_default()
    };
    wait_for("a trace that both know", async || {
        let asked = traces("taffrail-agent", "http.client");
        let answered = traces("taffrail-collector", "http.server");
        (!asked.is_disjoint(&answered)).then_some(())
    })
    .await?;
    stack.prom("up").await?;
    wait_for("the span of a query", async || {
        (!traces("taffrail-collector", "query.engine").is_empty()).then_some(())
    })
    .await?;
    agent.stop().await?;
    collector.stop().await?;
    serving.abort();
    Ok(())
}
