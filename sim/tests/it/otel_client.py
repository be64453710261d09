"""Sends two log records and some metrics with the OpenTelemetry SDK, over HTTP and over gRPC.

Arguments: base URL of the HTTP endpoint, base URL of the gRPC endpoint.
"""

import logging
import sys
import warnings

warnings.simplefilter("ignore")

from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

failures = []


class Watch(logging.Handler):
    """The SDK logs failed exports and goes on; here they are failures."""

    def emit(self, record):
        failures.append(record.getMessage())


logging.getLogger("opentelemetry").addHandler(Watch())


def run(transport, log_exporter, metric_exporter):
    resource = Resource.create(
        {
            "service.name": f"checkout-{transport}",
            "service.namespace": "shop",
            "k8s.pod.name": "checkout-1",
            "k8s.namespace.name": "shop",
        }
    )
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
    logger = logging.getLogger(f"app.{transport}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(LoggingHandler(logger_provider=logs))
    logger.info("order placed", extra={"order_id": "o-1"})
    logger.error("payment failed")
    logs.shutdown()

    reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=3_600_000)
    metrics = MeterProvider(resource=resource, metric_readers=[reader])
    meter = metrics.get_meter("app")
    meter.create_counter("orders").add(3, {"kind": "card"})
    latency = meter.create_histogram(
        "latency", unit="s", explicit_bucket_boundaries_advisory=[0.1, 0.25, 0.5, 1.0]
    )
    for seconds in (0.05, 0.2, 0.2, 0.7):
        latency.record(seconds)
    if not metrics.force_flush():
        failures.append(f"{transport}: metrics were not flushed")
    metrics.shutdown()


http_base, grpc_base = sys.argv[1:]
run(
    "http",
    http_logs.OTLPLogExporter(endpoint=f"{http_base}/v1/logs"),
    http_metrics.OTLPMetricExporter(endpoint=f"{http_base}/v1/metrics"),
)
run(
    "grpc",
    grpc_logs.OTLPLogExporter(endpoint=grpc_base, insecure=True),
    grpc_metrics.OTLPMetricExporter(endpoint=grpc_base, insecure=True),
)
if failures:
    sys.exit("\n".join(failures))
