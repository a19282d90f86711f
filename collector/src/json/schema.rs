//! The messages of OTLP: JSON name, number and type of each field (opentelemetry-proto 1.x).

/// A message.
pub(super) struct Message(pub(super) &'static [Field]);

/// A field of a message.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// The type of a field on the wire and in JSON.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Bytes as hex: trace and span ids.
    Hex,
    Base64,
    Bool,
    /// `int32`, `uint32` and enums.
    Varint32,
    /// `sint32`
    Zigzag32,
    Fixed32,
    /// `int64` and `uint64`
    Varint64,
    Fixed64,
    Sfixed64,
    Double,
    Message(&'static Message),
}

use Kind::{Base64, Bool, Double, Fixed32, Fixed64, Hex, Sfixed64, Text, Varint32, Varint64, Zigzag32};

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { name, number, kind, repeated: false }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { name, number, kind, repeated: true }
}

const fn message(number: u32, name: &'static str, message: &'static Message) -> Field {
    one(number, name, Kind::Message(message))
}

const fn messages(number: u32, name: &'static str, message: &'static Message) -> Field {
    many(number, name, Kind::Message(message))
}

pub(super) static TRACES: Message = Message(&[messages(1, "resourceSpans", &RESOURCE_SPANS)]);
pub(super) static METRICS: Message = Message(&[messages(1, "resourceMetrics", &RESOURCE_METRICS)]);
pub(super) static LOGS: Message = Message(&[messages(1, "resourceLogs", &RESOURCE_LOGS)]);

static ANY_VALUE: Message = Message(&[
    one(1, "stringValue", Text),
    one(2, "boolValue", Bool),
    one(3, "intValue", Varint64),
    one(4, "doubleValue", Double),
    message(5, "arrayValue", &ARRAY_VALUE),
    message(6, "kvlistValue", &KEY_VALUE_LIST),
    one(7, "bytesValue", Base64),
]);
static ARRAY_VALUE: Message = Message(&[messages(1, "values", &ANY_VALUE)]);
static KEY_VALUE_LIST: Message = Message(&[messages(1, "values", &KEY_VALUE)]);
static KEY_VALUE: Message = Message(&[one(1, "key", Text), message(2, "value", &ANY_VALUE)]);

static RESOURCE: Message =
    Message(&[messages(1, "attributes", &KEY_VALUE), one(2, "droppedAttributesCount", Varint32)]);
static SCOPE: Message = Message(&[
    one(1, "name", Text),
    one(2, "version", Text),
    messages(3, "attributes", &KEY_VALUE),
    one(4, "droppedAttributesCount", Varint32),
]);

static RESOURCE_SPANS: Message = Message(&[
    message(1, "resource", &RESOURCE),
    messages(2, "scopeSpans", &SCOPE_SPANS),
    one(3, "schemaUrl", Text),
]);
static SCOPE_SPANS: Message =
    Message(&[message(1, "scope", &SCOPE), messages(2, "spans", &SPAN), one(3, "schemaUrl", Text)]);
static SPAN: Message = Message(&[
    one(1, "traceId", Hex),
    one(2, "spanId", Hex),
    one(3, "traceState", Text),
    one(4, "parentSpanId", Hex),
    one(5, "name", Text),
    one(6, "kind", Varint32),
    one(7, "startTimeUnixNano", Fixed64),
    one(8, "endTimeUnixNano", Fixed64),
    messages(9, "attributes", &KEY_VALUE),
    one(10, "droppedAttributesCount", Varint32),
    messages(11, "events", &EVENT),
    one(12, "droppedEventsCount", Varint32),
    messages(13, "links", &LINK),
    one(14, "droppedLinksCount", Varint32),
    message(15, "status", &STATUS),
    one(16, "flags", Fixed32),
]);
static EVENT: Message = Message(&[
    one(1, "timeUnixNano", Fixed64),
    one(2, "name", Text),
    messages(3, "attributes", &KEY_VALUE),
    one(4, "droppedAttributesCount", Varint32),
]);
static LINK: Message = Message(&[
    one(1, "traceId", Hex),
    one(2, "spanId", Hex),
    one(3, "traceState", Text),
    messages(4, "attributes", &KEY_VALUE),
    one(5, "droppedAttributesCount", Varint32),
    one(6, "flags", Fixed32),
]);
static STATUS: Message = Message(&[one(2, "message", Text), one(3, "code", Varint32)]);

static RESOURCE_LOGS: Message = Message(&[
    message(1, "resource", &RESOURCE),
    messages(2, "scopeLogs", &SCOPE_LOGS),
    one(3, "schemaUrl", Text),
]);
static SCOPE_LOGS: Message = Message(&[
    message(1, "scope", &SCOPE),
    messages(2, "logRecords", &LOG_RECORD),
    one(3, "schemaUrl", Text),
]);
static LOG_RECORD: Message = Message(&[
    one(1, "timeUnixNano", Fixed64),
    one(2, "severityNumber", Varint32),
    one(3, "severityText", Text),
    message(5, "body", &ANY_VALUE),
    messages(6, "attributes", &KEY_VALUE),
    one(7, "droppedAttributesCount", Varint32),
    one(8, "flags", Fixed32),
    one(9, "traceId", Hex),
    one(10, "spanId", Hex),
    one(11, "observedTimeUnixNano", Fixed64),
    one(12, "eventName", Text),
]);

static RESOURCE_METRICS: Message = Message(&[
    message(1, "resource", &RESOURCE),
    messages(2, "scopeMetrics", &SCOPE_METRICS),
    one(3, "schemaUrl", Text),
]);
static SCOPE_METRICS: Message =
    Message(&[message(1, "scope", &SCOPE), messages(2, "metrics", &METRIC), one(3, "schemaUrl", Text)]);
static METRIC: Message = Message(&[
    one(1, "name", Text),
    one(2, "description", Text),
    one(3, "unit", Text),
    message(5, "gauge", &GAUGE),
    message(7, "sum", &SUM),
    message(9, "histogram", &HISTOGRAM),
    message(10, "exponentialHistogram", &EXPONENTIAL_HISTOGRAM),
    message(11, "summary", &SUMMARY),
    messages(12, "metadata", &KEY_VALUE),
]);
static GAUGE: Message = Message(&[messages(1, "dataPoints", &NUMBER_POINT)]);
static SUM: Message = Message(&[
    messages(1, "dataPoints", &NUMBER_POINT),
    one(2, "aggregationTemporality", Varint32),
    one(3, "isMonotonic", Bool),
]);
static HISTOGRAM: Message =
    Message(&[messages(1, "dataPoints", &HISTOGRAM_POINT), one(2, "aggregationTemporality", Varint32)]);
static EXPONENTIAL_HISTOGRAM: Message =
    Message(&[messages(1, "dataPoints", &EXPONENTIAL_POINT), one(2, "aggregationTemporality", Varint32)]);
static SUMMARY: Message = Message(&[messages(1, "dataPoints", &SUMMARY_POINT)]);
static NUMBER_POINT: Message = Message(&[
    one(2, "startTimeUnixNano", Fixed64),
    one(3, "timeUnixNano", Fixed64),
    one(4, "asDouble", Double),
    messages(5, "exemplars", &EXEMPLAR),
    one(6, "asInt", Sfixed64),
    messages(7, "attributes", &KEY_VALUE),
    one(8, "flags", Varint32),
]);
static HISTOGRAM_POINT: Message = Message(&[
    one(2, "startTimeUnixNano", Fixed64),
    one(3, "timeUnixNano", Fixed64),
    one(4, "count", Fixed64),
    one(5, "sum", Double),
    many(6, "bucketCounts", Fixed64),
    many(7, "explicitBounds", Double),
    messages(8, "exemplars", &EXEMPLAR),
    messages(9, "attributes", &KEY_VALUE),
    one(10, "flags", Varint32),
    one(11, "min", Double),
    one(12, "max", Double),
]);
static EXPONENTIAL_POINT: Message = Message(&[
    messages(1, "attributes", &KEY_VALUE),
    one(2, "startTimeUnixNano", Fixed64),
    one(3, "timeUnixNano", Fixed64),
    one(4, "count", Fixed64),
    one(5, "sum", Double),
    one(6, "scale", Zigzag32),
    one(7, "zeroCount", Fixed64),
    message(8, "positive", &BUCKETS),
    message(9, "negative", &BUCKETS),
    one(10, "flags", Varint32),
    messages(11, "exemplars", &EXEMPLAR),
    one(12, "min", Double),
    one(13, "max", Double),
    one(14, "zeroThreshold", Double),
]);
static BUCKETS: Message = Message(&[one(1, "offset", Zigzag32), many(2, "bucketCounts", Varint64)]);
static SUMMARY_POINT: Message = Message(&[
    one(2, "startTimeUnixNano", Fixed64),
    one(3, "timeUnixNano", Fixed64),
    one(4, "count", Fixed64),
    one(5, "sum", Double),
    messages(6, "quantileValues", &QUANTILE),
    messages(7, "attributes", &KEY_VALUE),
    one(8, "flags", Varint32),
]);
static QUANTILE: Message = Message(&[one(1, "quantile", Double), one(2, "value", Double)]);
static EXEMPLAR: Message = Message(&[
    one(2, "timeUnixNano", Fixed64),
    one(3, "asDouble", Double),
    one(4, "spanId", Hex),
    one(5, "traceId", Hex),
    one(6, "asInt", Sfixed64),
    messages(7, "filteredAttributes", &KEY_VALUE),
]);
