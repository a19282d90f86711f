//! Zipkin v2 JSON (zipkin.io, "Zipkin API", `/api/v2/spans`) to OTLP protobuf bytes, so that there is one decoder.
//!
//! Spans are grouped by the service of their local endpoint, which becomes the resource. Tags become text
//! attributes, annotations events, the remote endpoint `peer.service` and `network.peer.*`; an `error` tag is a
//! failed status (OpenTelemetry specification, "OpenTelemetry to Zipkin Transformation", read backwards).
//! Trace ids of 64 bits are filled up with zeros on the left. Ids that are no hex become empty and are
//! rejected singly by the decoder.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, Status};
use prost::Message;
use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use weir_model::UnixNanos;

use crate::encode::{ENTRIES, RECORDS, SCOPES, attribute, field, field_length, id, text};

/// A span as Zipkin writes it; what is unknown is ignored, and `null` is absent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    #[serde(borrow)]
    trace_id: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    parent_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    /// Microseconds since 1970.
    timestamp: Option<u64>,
    /// Microseconds.
    duration: Option<u64>,
    #[serde(borrow)]
    local_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow)]
    remote_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow)]
    annotations: Option<Vec<Annotation<'a>>>,
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    #[serde(borrow)]
    service_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ipv4: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ipv6: Option<Cow<'a, str>>,
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct Annotation<'a> {
    /// Microseconds since 1970.
    timestamp: u64,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

/// The request as OTLP protobuf. A span without a start began at `now`. Each span is encoded as it is read:
/// what is held is about as large as the request, however small its spans are.
pub(crate) fn to_protobuf(json: &[u8], now: UnixNanos) -> Result<Vec<u8>, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(json);
    let by_service = parser.deserialize_seq(Spans { now })?;
    parser.end()?;
    let mut out = Vec::new();
    for (service, scope_spans) in by_service {
        let name = (!service.is_empty()).then(|| text("service.name", service));
        let resource = Resource { attributes: name.into_iter().collect(), ..Resource::default() };
        let of_service = ResourceSpans { resource: Some(resource), ..ResourceSpans::default() };
        let head = of_service.encode_to_vec();
        let length = head.len() + field_length(SCOPES, scope_spans.len());
        field(ENTRIES, length, &mut out);
        out.extend_from_slice(&head);
        field(SCOPES, scope_spans.len(), &mut out);
        out.extend_from_slice(&scope_spans);
    }
    Ok(out)
}

/// Encodes the spans of a list: by service, the bytes of a `ScopeSpans`.
struct Spans {
    now: UnixNanos,
}

impl<'de> Visitor<'de> for Spans {
    type Value = BTreeMap<String, Vec<u8>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of spans")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut by_service: Self::Value = BTreeMap::new();
        while let Some(sent) = list.next_element::<Sent<'de>>()? {
            let service = sent.local_endpoint.as_ref().and_then(|endpoint| endpoint.service_name.as_deref());
            let service = service.unwrap_or_default().to_owned();
            let span = to_span(sent, self.now);
            let out = by_service.entry(service).or_default();
            field(RECORDS, span.encoded_len(), out);
            span.encode_raw(out);
        }
        Ok(by_service)
    }
}

fn to_span(sent: Sent<'_>, now: UnixNanos) -> Span {
    let start =
        sent.timestamp.filter(|micros| *micros > 0).map_or(now.0, |micros| micros.saturating_mul(1_000));
    let end = start.saturating_add(sent.duration.unwrap_or_default().saturating_mul(1_000));
    let tags = sent.tags.unwrap_or_default();
    let failed = tags.get("error").filter(|why| *why != "false");
    let status = failed.map(|why| Status {
        code: StatusCode::Error.into(),
        message: if why == "true" { String::new() } else { why.clone() },
    });
    let mut attributes: Vec<KeyValue> =
        tags.into_iter().filter(|(key, _)| key != "error").map(|(key, value)| text(&key, value)).collect();
    attributes.extend(sent.local_endpoint.iter().flat_map(|local| address("network.local", local)));
    if let Some(remote) = &sent.remote_endpoint {
        let peer = remote.service_name.as_deref().filter(|name| !name.is_empty());
        attributes.extend(peer.map(|name| text("peer.service", name.to_owned())));
        attributes.extend(address("network.peer", remote));
    }
    let event = |annotation: Annotation<'_>| Event {
        time_unix_nano: annotation.timestamp.saturating_mul(1_000),
        name: annotation.value.into_owned(),
        ..Event::default()
    };
    Span {
        trace_id: id(&sent.trace_id, 16),
        span_id: id(&sent.id, 8),
        parent_span_id: sent.parent_id.map(|parent| id(&parent, 8)).unwrap_or_default(),
        name: sent.name.unwrap_or_default().into_owned(),
        kind: kind(sent.kind.as_deref()).into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes,
        events: sent.annotations.into_iter().flatten().map(event).collect(),
        status,
        ..Span::default()
    }
}

fn kind(sent: Option<&str>) -> SpanKind {
    match sent {
        Some("CLIENT") => SpanKind::Client,
        Some("SERVER") => SpanKind::Server,
        Some("PRODUCER") => SpanKind::Producer,
        Some("CONSUMER") => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

/// `<prefix>.address` and `<prefix>.port` of an endpoint.
fn address(prefix: &str, endpoint: &Endpoint<'_>) -> Vec<KeyValue> {
    let ip = endpoint.ipv6.as_deref().or(endpoint.ipv4.as_deref()).filter(|ip| !ip.is_empty());
    let ip = ip.map(|ip| text(&format!("{prefix}.address"), ip.to_owned()));
    let port = endpoint.port.filter(|port| *port > 0);
    let port = port.map(|port| attribute(&format!("{prefix}.port"), Value::IntValue(port.into())));
    ip.into_iter().chain(port).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

    use super::*;

    const NOW: UnixNanos = UnixNanos(1_795_000_000_000_000_000);

    fn read(json: &str) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(to_protobuf(json.as_bytes(), NOW).unwrap().as_slice()).unwrap()
    }

    fn only_span(json: &str) -> Span {
        read(json).resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
    }

    fn attributes(span: &Span) -> Vec<(String, String)> {
        let shown = |value: &Value| match value {
            Value::StringValue(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let pair = |a: &KeyValue| (a.key.clone(), shown(a.value.as_ref().unwrap().value.as_ref().unwrap()));
        span.attributes.iter().map(pair).collect()
    }

    #[test]
    fn every_field_finds_its_place() {
        let span = only_span(
            r#"[{"traceId":"5982fe77008310cc80f1da5e10147519","parentId":"90394f6bcffb5d13","id":"67fae42571535f60",
            "kind":"SERVER","name":"/m/n/2.6.1","timestamp":1516781775726000,"duration":26000,"shared":true,"debug":false,
            "localEndpoint":{"serviceName":"api","ipv4":"10.0.0.1","port":3306},
            "remoteEndpoint":{"serviceName":"app","ipv6":"::1","port":9000},
            "annotations":[{"timestamp":1516781775727000,"value":"cache miss"}],
            "tags":{"http.path":"/api","error":"no card"}}]"#,
        );
        assert_eq!(span.trace_id[..2], [0x59, 0x82]);
        assert_eq!((span.span_id[7], span.parent_span_id[0]), (0x60, 0x90));
        assert_eq!((span.name.as_str(), span.kind), ("/m/n/2.6.1", SpanKind::Server as i32));
        let nanos = 1_516_781_775_726_000_000;
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (nanos, nanos + 26_000_000));
        assert_eq!(
            (span.events[0].name.as_str(), span.events[0].time_unix_nano),
            ("cache miss", nanos + 1_000_000)
        );
        let status = span.status.as_ref().unwrap();
        assert_eq!((status.code, status.message.as_str()), (StatusCode::Error as i32, "no card"));
        let expected = [
            ("http.path", "/api"),
            ("network.local.address", "10.0.0.1"),
            ("network.local.port", "IntValue(3306)"),
            ("peer.service", "app"),
            ("network.peer.address", "::1"),
            ("network.peer.port", "IntValue(9000)"),
        ];
        assert_eq!(attributes(&span), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_missing_has_a_plain_default() {
        let span = only_span(r#"[{"traceId":"1","id":"2","tags":null,"annotations":null}]"#);
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (NOW.0, NOW.0));
        assert_eq!((span.kind, span.status, span.attributes.len()), (SpanKind::Internal as i32, None, 0));
        assert!(
            read(r#"[{"traceId":"1","id":"2"}]"#).resource_spans[0]
                .resource
                .as_ref()
                .unwrap()
                .attributes
                .is_empty()
        );
        assert!(read("[]").resource_spans.is_empty());
    }

    #[test]
    fn spans_are_grouped_by_service() {
        let span = |service: &str, id: u8| {
            format!(r#"{{"traceId":"1","id":"{id}","localEndpoint":{{"serviceName":"{service}"}}}}"#)
        };
        let request = read(&format!("[{},{},{}]", span("b", 1), span("a", 2), span("b", 3)));
        let counts: Vec<_> = request.resource_spans.iter().map(|of| of.scope_spans[0].spans.len()).collect();
        assert_eq!(counts, [1, 2]);
    }

    #[test]
    fn many_small_spans_take_about_as_much_room_as_their_text() {
        let json = format!("[{}]", vec![r#"{"traceId":"","id":""}"#; 10_000].join(","));
        let out = to_protobuf(json.as_bytes(), NOW).unwrap();
        assert!(out.len() <= 2 * json.len(), "{} of {}", out.len(), json.len());
        let request = ExportTraceServiceRequest::decode(out.as_slice()).unwrap();
        assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 10_000);
    }

    #[test]
    fn what_is_no_list_of_spans_says_where() {
        for json in ["", "{}", "[1]", r#"[{"id":"1"}]"#, r#"[{"traceId":"1","id":"2","timestamp":-1}]"#] {
            let error = to_protobuf(json.as_bytes(), NOW).unwrap_err();
            assert!(error.line() > 0 || json.is_empty(), "{json}: {error}");
        }
    }
}
