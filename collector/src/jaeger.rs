//! A trace in Jaeger's JSON (jaegertracing.io, "APIs", `/api/traces`; what its UI downloads) to OTLP protobuf
//! bytes, so that there is one decoder.
//!
//! The processes become resources, `otel.scope.*` tags scopes, logs events, tags attributes of their type. The
//! parent is the first `CHILD_OF` reference into the same trace, else the first `FOLLOWS_FROM`; references that
//! say more than that are links with `opentracing.ref_type`. `span.kind`, `w3c.tracestate`, `otel.status_*` and
//! `error` become the fields they stand for (OpenTelemetry specification, "OpenTelemetry to Jaeger
//! Transformation", read backwards). A span's warnings are the attribute that Jaeger 2 keeps them in; warnings of
//! a whole trace have no place in OTLP. Ids that are no hex become empty and are rejected singly by the decoder.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::encode::{ENTRIES, RECORDS, SCOPES, attribute, field, field_length, id, text};
use crate::json::from_base64;

/// A trace as Jaeger writes it; what is unknown is ignored, and `null` is absent.
#[derive(Deserialize)]
struct Trace<'a> {
    spans: Spans,
    #[serde(borrow)]
    processes: Option<BTreeMap<String, Process<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process<'a> {
    #[serde(borrow)]
    service_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tags: Option<Vec<Tag<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    #[serde(rename = "traceID", borrow)]
    trace_id: Cow<'a, str>,
    #[serde(rename = "spanID", borrow)]
    span_id: Cow<'a, str>,
    /// What old versions wrote instead of a reference.
    #[serde(rename = "parentSpanID", borrow)]
    parent_span_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    operation_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    references: Option<Vec<Reference<'a>>>,
    /// Bit 0: sampled, as in W3C's trace flags; the others mean other things there.
    flags: Option<u32>,
    /// Microseconds since 1970.
    start_time: u64,
    /// Microseconds.
    duration: Option<u64>,
    #[serde(borrow)]
    tags: Option<Vec<Tag<'a>>>,
    #[serde(borrow)]
    logs: Option<Vec<Log<'a>>>,
    #[serde(rename = "processID", borrow)]
    process_id: Option<Cow<'a, str>>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference<'a> {
    #[serde(borrow)]
    ref_type: Cow<'a, str>,
    #[serde(rename = "traceID", borrow)]
    trace_id: Cow<'a, str>,
    #[serde(rename = "spanID", borrow)]
    span_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Log<'a> {
    /// Microseconds since 1970.
    timestamp: u64,
    #[serde(borrow)]
    fields: Option<Vec<Tag<'a>>>,
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    /// As written: 64-bit integers may be strings, and a parser's doubles may be off by the last digit.
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// The attribute in which Jaeger 2 keeps a span's warnings.
const WARNINGS: &str = "@jaeger@warnings";

/// A trace, an element of `data`, as an OTLP request. Each span is encoded as it is read: what is held is about
/// as large as the trace, however small its spans are.
pub(crate) fn to_protobuf(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let Trace { spans: Spans(by_process), processes } = serde_json::from_slice(json)?;
    let mut processes = processes.unwrap_or_default();
    let mut out = Vec::new();
    for (process, by_scope) in by_process {
        let resource = processes.remove(&process).map(to_resource).unwrap_or_default();
        let mut entry =
            ResourceSpans { resource: Some(resource), ..ResourceSpans::default() }.encode_to_vec();
        for ((name, version), spans) in by_scope {
            let scope = InstrumentationScope { name, version, ..InstrumentationScope::default() };
            let scope = (scope != InstrumentationScope::default()).then_some(scope);
            let head = ScopeSpans { scope, ..ScopeSpans::default() }.encode_to_vec();
            field(SCOPES, head.len() + spans.len(), &mut entry);
            entry.extend_from_slice(&head);
            entry.extend_from_slice(&spans);
        }
        out.reserve(field_length(ENTRIES, entry.len()));
        field(ENTRIES, entry.len(), &mut out);
        out.extend_from_slice(&entry);
    }
    Ok(out)
}

/// Encoded spans by process, and by name and version of their scope.
#[derive(Default)]
struct Spans(BTreeMap<String, BTreeMap<(String, String), Vec<u8>>>);

impl<'de> Deserialize<'de> for Spans {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpansVisitor)
    }
}

struct SpansVisitor;

impl<'de> Visitor<'de> for SpansVisitor {
    type Value = Spans;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of spans")
    }

    fn visit_unit<E: Error>(self) -> Result<Spans, E> {
        Ok(Spans::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Spans, A::Error> {
        let mut spans = Spans::default();
        while let Some(mut sent) = list.next_element::<Sent<'de>>()? {
            let process = sent.process_id.take().unwrap_or_default().into_owned();
            let (span, scope) = to_span(sent);
            let out = spans.0.entry(process).or_default().entry(scope).or_default();
            field(RECORDS, span.encoded_len(), out);
            span.encode_raw(out);
        }
        Ok(spans)
    }
}

fn to_resource(process: Process<'_>) -> Resource {
    let name = process.service_name.filter(|name| !name.is_empty());
    let mut attributes: Vec<_> =
        name.map(|name| text("service.name", name.into_owned())).into_iter().collect();
    attributes.extend(to_attributes(process.tags));
    for tag in attributes.iter_mut().filter(|tag| tag.key == "hostname") {
        tag.key = "host.name".to_owned();
    }
    Resource { attributes, ..Resource::default() }
}

/// The span, and the name and version of its scope.
fn to_span(sent: Sent<'_>) -> (Span, (String, String)) {
    let trace_id = id(&sent.trace_id, 16);
    let references: Vec<_> = sent.references.into_iter().flatten().map(to_reference).collect();
    let inside = || references.iter().filter(|(_, trace, _)| *trace == trace_id);
    let parent = inside().find(|(kind, ..)| kind == CHILD_OF).or_else(|| inside().next());
    let parent_span_id = match parent {
        Some((.., span)) => span.clone(),
        None => sent.parent_span_id.map(|parent| id(&parent, 8)).unwrap_or_default(),
    };
    let says_more =
        |(kind, trace, span): &Reference3| kind != CHILD_OF || *trace != trace_id || *span != parent_span_id;
    let links = references.iter().filter(|reference| says_more(reference)).map(to_link).collect();

    let mut attributes = to_attributes(sent.tags);
    let kind = attributes.iter().position(|tag| tag.key == "span.kind");
    let kind = kind.and_then(|at| Some((at, kind_of(&shown(attributes[at].value.as_ref()))?)));
    if let Some((at, _)) = kind {
        attributes.remove(at);
    }
    let status = take_status(&mut attributes);
    let trace_state = take(&mut attributes, &["w3c.tracestate"]).unwrap_or_default();
    let scope = take(&mut attributes, &["otel.scope.name", "otel.library.name"]).unwrap_or_default();
    let version = take(&mut attributes, &["otel.scope.version", "otel.library.version"]).unwrap_or_default();
    let warnings = sent.warnings.filter(|warnings| !warnings.is_empty()).map(|warnings| {
        let values =
            warnings.into_iter().map(|warning| AnyValue { value: Some(Value::StringValue(warning)) });
        attribute(WARNINGS, Value::ArrayValue(ArrayValue { values: values.collect() }))
    });
    attributes.extend(warnings);

    let start = sent.start_time.saturating_mul(1_000);
    let span = Span {
        trace_id,
        span_id: id(&sent.span_id, 8),
        parent_span_id,
        trace_state,
        flags: sent.flags.unwrap_or_default() & 1,
        name: sent.operation_name.unwrap_or_default().into_owned(),
        kind: kind.map_or(SpanKind::Unspecified, |(_, kind)| kind).into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(sent.duration.unwrap_or_default().saturating_mul(1_000)),
        attributes,
        events: sent.logs.into_iter().flatten().map(to_event).collect(),
        links,
        status,
        ..Span::default()
    };
    (span, (scope, version))
}

const CHILD_OF: &str = "child_of";

/// Type in lower case, trace id, span id.
type Reference3 = (String, Vec<u8>, Vec<u8>);

fn to_reference(sent: Reference<'_>) -> Reference3 {
    (sent.ref_type.to_ascii_lowercase(), id(&sent.trace_id, 16), id(&sent.span_id, 8))
}

fn to_link((kind, trace_id, span_id): &Reference3) -> Link {
    Link {
        trace_id: trace_id.clone(),
        span_id: span_id.clone(),
        attributes: vec![text("opentracing.ref_type", kind.clone())],
        ..Link::default()
    }
}

fn to_event(log: Log<'_>) -> Event {
    let mut attributes = to_attributes(log.fields);
    let name = take(&mut attributes, &["event"]).unwrap_or_default();
    Event { time_unix_nano: log.timestamp.saturating_mul(1_000), name, attributes, ..Event::default() }
}

fn kind_of(tag: &str) -> Option<SpanKind> {
    Some(match tag.to_ascii_lowercase().as_str() {
        "client" => SpanKind::Client,
        "server" => SpanKind::Server,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        "internal" => SpanKind::Internal,
        _ => return None,
    })
}

/// `otel.status_code` decides where it is there, else `error`, which some writers put a text into.
fn take_status(attributes: &mut Vec<KeyValue>) -> Option<Status> {
    let code = take(attributes, &["otel.status_code"]).map(|code| code.to_ascii_uppercase());
    let error = take(attributes, &["error"]).filter(|why| why != "false");
    let code = match (code.as_deref(), &error) {
        (Some("OK"), _) => StatusCode::Ok,
        (Some("ERROR"), _) | (_, Some(_)) => StatusCode::Error,
        _ => return None,
    };
    let why = error.filter(|why| why != "true");
    let message = take(attributes, &["otel.status_description"]).or(why).unwrap_or_default();
    Some(Status { code: code.into(), message })
}

/// Takes the first attribute with one of these keys out, as text.
fn take(attributes: &mut Vec<KeyValue>, keys: &[&str]) -> Option<String> {
    let at = attributes.iter().position(|tag| keys.contains(&tag.key.as_str()))?;
    Some(shown(attributes.remove(at).value.as_ref()))
}

fn shown(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        _ => String::new(),
    }
}

fn to_attributes(tags: Option<Vec<Tag<'_>>>) -> Vec<KeyValue> {
    let tags = tags.into_iter().flatten();
    tags.map(|tag| KeyValue {
        value: Some(AnyValue { value: value_of(&tag) }),
        key: tag.key.into_owned(),
        ..KeyValue::default()
    })
    .collect()
}

/// The value in its type; as text where it is none of that type.
fn value_of(tag: &Tag<'_>) -> Option<Value> {
    let json = tag.value?.get();
    // A string that is no valid text is kept as it was written.
    let text = || serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
    let bare = json.trim_matches('"');
    let typed = match tag.kind.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("string") => None,
        Some("bool") => bare.parse().ok().map(Value::BoolValue),
        Some("int64") => bare.parse().ok().map(Value::IntValue),
        Some("float64") => bare.parse().ok().map(Value::DoubleValue),
        Some("binary") => from_base64(&text()).map(Value::BytesValue),
        // An unknown type, or none: as JSON has it.
        _ => json
            .parse()
            .map(Value::BoolValue)
            .or_else(|_| json.parse().map(Value::IntValue))
            .or_else(|_| json.parse().map(Value::DoubleValue))
            .ok(),
    };
    Some(typed.unwrap_or_else(|| Value::StringValue(text())))
}

#[cfg(test)]
mod tests;
