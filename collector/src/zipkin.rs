//! Zipkin v2 JSON (zipkin.io, "Zipkin API", `/api/v2/spans`) to OTLP protobuf bytes, so that there is one decoder.
//!
//! Spans are grouped by the service of their local endpoint, which becomes the resource, and by their scope. Tags
//! become text attributes, annotations events, the remote endpoint `peer.service` and `network.peer.*`. What
//! OpenTelemetry's exporters write into tags is read back (OpenTelemetry specification, "OpenTelemetry to Zipkin
//! Transformation" and "Transformation to non-OTLP Formats"): `otel.scope.*`, or `otel.library.*` as it once was;
//! `otel.status_code` and `otel.status_description`; an `error` tag, which is a failed status and says why;
//! `otel.dropped_*_count`.
//!
//! Trace ids of 64 bits are filled up with zeros on the left. Ids that are no hex become empty and are rejected
//! singly by the decoder; a span with a value of another type than Zipkin's is rejected singly here. As in the
//! OpenTelemetry Collector, a `shared` server span keeps the id that it has in common with the client's, and its
//! parent: the two are told apart by kind and start. A span that is its own parent has none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
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
    tags: Option<Tags>,
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

/// A list of spans that was read.
#[derive(Debug)]
pub(crate) struct Translated {
    /// An `ExportTraceServiceRequest`.
    pub(crate) protobuf: Vec<u8>,
    /// Elements of the list that are no spans of Zipkin's.
    pub(crate) rejected: u64,
}

/// The request as OTLP protobuf. A span without a start began at `now`. Each span is encoded as it is read:
/// what is held is about as large as the request, however small its spans are.
pub(crate) fn to_protobuf(json: &[u8], now: UnixNanos) -> Result<Translated, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(json);
    let Grouped { by_service, rejected } = parser.deserialize_seq(Spans { now })?;
    parser.end()?;
    let mut protobuf = Vec::new();
    for (service, by_scope) in by_service {
        let name = (!service.is_empty()).then(|| text("service.name", service));
        let resource = Resource { attributes: name.into_iter().collect(), ..Resource::default() };
        let of_service = ResourceSpans { resource: Some(resource), ..ResourceSpans::default() };
        let head = of_service.encode_to_vec();
        let scopes: Vec<(Vec<u8>, Vec<u8>)> =
            by_scope.into_iter().map(|(scope, spans)| (scope.encode(), spans)).collect();
        let lengths = scopes.iter().map(|(scope, spans)| field_length(SCOPES, scope.len() + spans.len()));
        field(ENTRIES, head.len() + lengths.sum::<usize>(), &mut protobuf);
        protobuf.extend_from_slice(&head);
        for (scope, spans) in scopes {
            field(SCOPES, scope.len() + spans.len(), &mut protobuf);
            protobuf.extend_from_slice(&scope);
            protobuf.extend_from_slice(&spans);
        }
    }
    Ok(Translated { protobuf, rejected })
}

/// The instrumentation that a span's tags name.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Scope {
    name: String,
    version: String,
}

impl Scope {
    /// Takes the scope out of `tags`.
    fn take(tags: &mut Tags) -> Self {
        let mut take = |keys: [&str; 2]| {
            let [now, once] = keys.map(|key| tags.remove(key));
            now.or(once).unwrap_or_default()
        };
        Self {
            name: take(["otel.scope.name", "otel.library.name"]),
            version: take(["otel.scope.version", "otel.library.version"]),
        }
    }

    /// A `ScopeSpans` without spans.
    fn encode(self) -> Vec<u8> {
        let scope = (self != Self::default()).then(|| InstrumentationScope {
            name: self.name,
            version: self.version,
            ..InstrumentationScope::default()
        });
        ScopeSpans { scope, ..ScopeSpans::default() }.encode_to_vec()
    }
}

type Tags = BTreeMap<String, String>;

/// The spans of a list: by service and scope, the bytes of the spans of a `ScopeSpans`.
#[derive(Default)]
struct Grouped {
    by_service: BTreeMap<String, BTreeMap<Scope, Vec<u8>>>,
    rejected: u64,
}

/// Encodes the spans of a list.
struct Spans {
    now: UnixNanos,
}

impl<'de> Visitor<'de> for Spans {
    type Value = Grouped;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of spans")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut grouped = Grouped::default();
        // As text first: what is no JSON is the fault of the request, what is no span that of the span.
        while let Some(text) = list.next_element::<&'de RawValue>()? {
            let Ok(mut sent) = serde_json::from_str::<Sent<'de>>(text.get()) else {
                grouped.rejected += 1;
                continue;
            };
            let scope = sent.tags.as_mut().map(Scope::take).unwrap_or_default();
            let service = sent.local_endpoint.as_ref().and_then(|endpoint| endpoint.service_name.as_deref());
            let service = service.unwrap_or_default().to_owned();
            let span = to_span(sent, self.now);
            let out = grouped.by_service.entry(service).or_default().entry(scope).or_default();
            field(RECORDS, span.encoded_len(), out);
            span.encode_raw(out);
        }
        Ok(grouped)
    }
}

/// Takes the status out of `tags`. A failure that is told in any way is one.
fn take_status(tags: &mut Tags) -> Option<Status> {
    let code = tags.get("otel.status_code").and_then(|code| {
        let code = code.strip_prefix("STATUS_CODE_").unwrap_or(code);
        let known = [("unset", StatusCode::Unset), ("ok", StatusCode::Ok), ("error", StatusCode::Error)];
        known.into_iter().find(|(name, _)| code.eq_ignore_ascii_case(name)).map(|(_, code)| code)
    });
    let mut message = None;
    if code.is_some() {
        tags.remove("otel.status_code");
        message = tags.remove("otel.status_description");
    }
    let why = tags.remove("error").filter(|why| why != "false");
    let code = if why.is_some() { StatusCode::Error } else { code? };
    let message = message.or(why.filter(|why| why != "true")).unwrap_or_default();
    Some(Status { code: code.into(), message })
}

/// Takes a number that says how many of something were dropped out of `tags`.
fn take_dropped(tags: &mut Tags, key: &str) -> u32 {
    let count = tags.get(key).and_then(|count| count.parse().ok());
    if count.is_some() {
        tags.remove(key);
    }
    count.unwrap_or_default()
}

fn to_span(sent: Sent<'_>, now: UnixNanos) -> Span {
    let start =
        sent.timestamp.filter(|micros| *micros > 0).map_or(now.0, |micros| micros.saturating_mul(1_000));
    let end = start.saturating_add(sent.duration.unwrap_or_default().saturating_mul(1_000));
    let mut tags = sent.tags.unwrap_or_default();
    let status = take_status(&mut tags);
    let [dropped_attributes_count, dropped_events_count, dropped_links_count] =
        ["otel.dropped_attributes_count", "otel.dropped_events_count", "otel.dropped_links_count"]
            .map(|key| take_dropped(&mut tags, key));
    let mut attributes: Vec<KeyValue> = tags.into_iter().map(|(key, value)| text(&key, value)).collect();
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
    let span_id = id(&sent.id, 8);
    let parent = sent.parent_id.map(|parent| id(&parent, 8));
    Span {
        trace_id: id(&sent.trace_id, 16),
        parent_span_id: parent.filter(|parent| *parent != span_id).unwrap_or_default(),
        span_id,
        name: sent.name.unwrap_or_default().into_owned(),
        kind: kind(sent.kind.as_deref()).into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes,
        events: sent.annotations.into_iter().flatten().map(event).collect(),
        status,
        dropped_attributes_count,
        dropped_events_count,
        dropped_links_count,
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
        let Translated { protobuf, rejected } = to_protobuf(json.as_bytes(), NOW).unwrap();
        assert_eq!(rejected, 0);
        ExportTraceServiceRequest::decode(protobuf.as_slice()).unwrap()
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
        let out = to_protobuf(json.as_bytes(), NOW).unwrap().protobuf;
        assert!(out.len() <= 2 * json.len(), "{} of {}", out.len(), json.len());
        let request = ExportTraceServiceRequest::decode(out.as_slice()).unwrap();
        assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 10_000);
    }

    #[test]
    fn a_status_is_read_however_it_was_written() {
        use StatusCode::{Error, Ok, Unset};
        for (tags, code, message, rest) in [
            (r#""error":"""#, Error, "", 0),
            (r#""error":"true""#, Error, "", 0),
            (r#""otel.status_code":"ERROR","error":"no card""#, Error, "no card", 0),
            (r#""otel.status_code":"Error""#, Error, "", 0),
            (r#""otel.status_code":"OK""#, Ok, "", 0),
            (r#""otel.status_code":"STATUS_CODE_OK","error":"false""#, Ok, "", 0),
            (r#""otel.status_code":"STATUS_CODE_ERROR","otel.status_description":"why""#, Error, "why", 0),
            (r#""otel.status_code":"OK","error":"true""#, Error, "", 0),
            (r#""otel.status_code":"UNSET""#, Unset, "", 0),
            (r#""otel.status_code":"fine","error":"late""#, Error, "late", 1),
        ] {
            let span = only_span(&format!(r#"[{{"traceId":"1","id":"2","tags":{{{tags}}}}}]"#));
            let status = span.status.unwrap();
            assert_eq!((status.code, status.message.as_str()), (code as i32, message), "{tags}");
            assert_eq!(span.attributes.len(), rest, "{tags}");
        }
        let plain =
            only_span(r#"[{"traceId":"1","id":"2","tags":{"error":"false","otel.status_code":"?"}}]"#);
        assert_eq!((plain.status, plain.attributes.len()), (None, 1));
    }

    #[test]
    fn tags_of_the_scope_and_of_what_was_dropped_are_read_back() {
        let span = |id: u8, tags: &str| {
            format!(
                r#"{{"traceId":"1","id":"{id}","localEndpoint":{{"serviceName":"a"}},"tags":{{{tags}}}}}"#
            )
        };
        let json = [
            span(1, r#""otel.scope.name":"http","otel.scope.version":"1.2","otel.dropped_events_count":"3""#),
            span(2, ""),
            span(
                3,
                r#""otel.library.name":"http","otel.library.version":"1.2","otel.dropped_links_count":"x""#,
            ),
        ];
        let mut request = read(&format!("[{}]", json.join(",")));
        assert_eq!(request.resource_spans.len(), 1);
        let scopes = request.resource_spans.remove(0).scope_spans;
        assert_eq!(scopes[0].scope, None);
        let scope = scopes[1].scope.as_ref().unwrap();
        assert_eq!((scope.name.as_str(), scope.version.as_str()), ("http", "1.2"));
        let ids: Vec<Vec<u8>> =
            scopes.iter().map(|scope| scope.spans.iter().map(|span| span.span_id[7]).collect()).collect();
        assert_eq!(ids, [vec![2], vec![1, 3]]);
        assert_eq!((scopes[1].spans[0].dropped_events_count, scopes[1].spans[0].attributes.len()), (3, 0));
        assert_eq!(attributes(&scopes[1].spans[1]), [("otel.dropped_links_count".into(), "x".into())]);
    }

    #[test]
    fn a_shared_span_keeps_its_id_and_a_span_is_not_its_own_parent() {
        let json = r#"[{"traceId":"1","id":"2","parentId":"3","kind":"CLIENT"},
            {"traceId":"1","id":"2","parentId":"3","kind":"SERVER","shared":true},
            {"traceId":"1","id":"4","parentId":"4"}]"#;
        let spans = read(json).resource_spans.remove(0).scope_spans.remove(0).spans;
        let shown: Vec<_> = spans
            .iter()
            .map(|span| (span.span_id[7], span.parent_span_id.last().copied(), span.kind))
            .collect();
        let kinds = [SpanKind::Client, SpanKind::Server, SpanKind::Internal].map(|kind| kind as i32);
        assert_eq!(shown, [(2, Some(3), kinds[0]), (2, Some(3), kinds[1]), (4, None, kinds[2])]);
    }

    #[test]
    fn a_span_with_a_wrong_value_is_rejected_alone() {
        let good = r#"{"traceId":"1","id":"2"}"#;
        for bad in [
            "1",
            "null",
            r#"{"id":"1"}"#,
            r#"{"traceId":"1","id":"2","timestamp":-1}"#,
            r#"{"traceId":"1","id":"2","tags":{"a":1}}"#,
            r#"{"traceId":"1","id":"2","name":["a"]}"#,
            r#"{"traceId":"1","id":"2","localEndpoint":{"port":65536}}"#,
            r#"{"traceId":"1","id":"2","name":"\ud800"}"#,
        ] {
            let read = to_protobuf(format!("[{good},{bad},{good}]").as_bytes(), NOW).unwrap();
            let request = ExportTraceServiceRequest::decode(read.protobuf.as_slice()).unwrap();
            let spans = request.resource_spans[0].scope_spans[0].spans.len();
            assert_eq!((read.rejected, spans), (1, 2), "{bad}");
        }
    }

    #[test]
    fn what_is_no_list_says_where() {
        for json in ["", "{}", "[1", "[{]", r#"[{"id":"1"}}"#, "[] []", "[{\"id\":\"\u{1}\"}]"] {
            let error = to_protobuf(json.as_bytes(), NOW).unwrap_err();
            assert!(error.line() > 0 || json.is_empty(), "{json}: {error}");
        }
    }
}
