"""Sends one known trace, three known metrics and two known log records with the OpenTelemetry SDK.

Usage: send.py grpc|http ENDPOINT SERVICE. Prints, as JSON, what it sent: the ids and times that only
the SDK knows.
"""

import json
import logging
import sys
import warnings

from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

warnings.filterwarnings("ignore", category=DeprecationWarning)

protocol, endpoint, service = sys.argv[1:]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    spans_to = OTLPSpanExporter(endpoint=endpoint, insecure=True)
    metrics_to = OTLPMetricExporter(endpoint=endpoint, insecure=True)
    logs_to = OTLPLogExporter(endpoint=endpoint, insecure=True)
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    spans_to = OTLPSpanExporter(endpoint=f"http://{endpoint}/v1/traces")
    metrics_to = OTLPMetricExporter(endpoint=f"http://{endpoint}/v1/metrics")
    logs_to = OTLPLogExporter(endpoint=f"http://{endpoint}/v1/logs")

resource = Resource.create({
    "service.name": service,
    "service.namespace": "shop",
    "service.instance.id": f"{service}-1",
    "service.version": "1.2.3",
    "team": "checkout",
    "cores": 4,
})

# Traces.
tracing = TracerProvider(resource=resource)
tracing.add_span_processor(BatchSpanProcessor(spans_to))
tracer = tracing.get_tracer("weir.test", "0.9", attributes={"scope.note": "kept"})
elsewhere = SpanContext(0x0123456789ABCDEF0123456789ABCDEF, 0x0123456789ABCDEF, True, TraceFlags(1))
with tracer.start_as_current_span("parent", kind=SpanKind.SERVER) as parent:
    parent.set_attribute("http.request.method", "POST")
    parent.set_attribute("http.response.status_code", 500)
    parent.set_attribute("text", "grüße <b>")
    parent.set_attribute("long", 9007199254740993)
    parent.set_attribute("double", 0.1)
    parent.set_attribute("bool", True)
    parent.set_attribute("list", ["a", "b"])
    with tracer.start_as_current_span(
        "child", kind=SpanKind.CLIENT, links=[Link(elsewhere, {"why": "test"})]
    ) as child:
        child.add_event("retrying", {"attempt": 2})
    parent.set_status(Status(StatusCode.ERROR, "card declined"))
tracing.shutdown()


def sent(span):
    context = span.get_span_context()
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "start": span.start_time,
        "end": span.end_time,
    }


# Metrics: a counter, a gauge, and a histogram with known buckets.
metering = MeterProvider(
    resource=resource,
    metric_readers=[PeriodicExportingMetricReader(metrics_to, export_interval_millis=3_600_000)],
    views=[View(instrument_name="sdk.latency", aggregation=ExplicitBucketHistogramAggregation([10, 100, 1000]))],
)
meter = metering.get_meter("weir.test")
orders = meter.create_counter("sdk.orders", unit="{order}")
orders.add(5, {"kind": "book"})
orders.add(2, {"kind": "toy"})
orders.add(3, {"kind": "book"})
meter.create_gauge("sdk.temperature", unit="Cel").set(21.5)
latency = meter.create_histogram("sdk.latency", unit="ms")
for value in [5, 7, 50, 500, 5000]:
    latency.record(value)
metering.shutdown()

# Logs.
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(logs_to))
logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
logger.propagate = False
logger.addHandler(LoggingHandler(level=logging.INFO, logger_provider=logs))
logger.info("order %s placed", 17, extra={"order": 17})
logger.error("card declined")
logs.shutdown()

json.dump({"parent": sent(parent), "child": sent(child)}, sys.stdout)
