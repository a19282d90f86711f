//! Spans: every field round-trips, and bad ones are rejected singly.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;

use super::read::{Placed, Row, key_value, normal, rows};
use super::*;

/// The spans of a request as a reader should find them.
fn sent(request: &ExportTraceServiceRequest) -> Vec<Placed<Span>> {
    let mut out = vec![];
    for of_resource in &request.resource_spans {
        let mut resource = of_resource.resource.clone().unwrap_or_default();
        resource.attributes = normal(resource.attributes);
        for of_scope in &of_resource.scope_spans {
            let mut scope = of_scope.scope.clone().unwrap_or_default();
            scope.attributes = normal(scope.attributes);
            out.extend(of_scope.spans.iter().map(|span| Placed {
                resource: resource.clone(),
                resource_schema_url: of_resource.schema_url.clone(),
                scope: scope.clone(),
                scope_schema_url: of_scope.schema_url.clone(),
                record: as_kept(span.clone()),
            }));
        }
    }
    out
}

/// What is equivalent in OTLP is kept in one form; an end before the start is moved there.
fn as_kept(mut span: Span) -> Span {
    span.attributes = normal(span.attributes);
    span.events.iter_mut().for_each(|event| event.attributes = normal(std::mem::take(&mut event.attributes)));
    span.links.iter_mut().for_each(|link| link.attributes = normal(std::mem::take(&mut link.attributes)));
    span.status.get_or_insert_with(Status::default);
    span.end_time_unix_nano = span.end_time_unix_nano.max(span.start_time_unix_nano);
    if span.parent_span_id.iter().all(|byte| *byte == 0) {
        span.parent_span_id.clear();
    }
    span
}

fn read(row: &Row) -> Span {
    let mut attributes = row.attributes("attributes");
    attributes.extend(row.promoted(false));
    let start_time_unix_nano = row.moment("start_time");
    Span {
        trace_id: row.bytes("trace_id").expect("never null"),
        span_id: row.bytes("span_id").expect("never null"),
        parent_span_id: row.bytes("parent_span_id").unwrap_or_default(),
        trace_state: row.text("trace_state").unwrap_or_default(),
        flags: row.count("flags"),
        name: row.text("name").expect("never null"),
        kind: row.int("kind"),
        status: Some(Status {
            message: row.text("status_message").unwrap_or_default(),
            code: row.int("status"),
        }),
        start_time_unix_nano,
        end_time_unix_nano: start_time_unix_nano + row.long("duration_ns").expect("never null") as u64,
        attributes: normal(attributes),
        dropped_attributes_count: row.count("dropped_attributes"),
        events: row.structs("events").iter().map(read_event).collect(),
        dropped_events_count: row.count("dropped_events"),
        links: row.structs("links").iter().map(read_link).collect(),
        dropped_links_count: row.count("dropped_links"),
    }
}

fn read_event(row: &Row) -> Event {
    Event {
        time_unix_nano: row.moment("time"),
        name: row.text("name").expect("never null"),
        attributes: row.nested_attributes(),
        dropped_attributes_count: row.count("dropped_attributes"),
    }
}

fn read_link(row: &Row) -> Link {
    Link {
        trace_id: row.bytes("trace_id").expect("never null"),
        span_id: row.bytes("span_id").expect("never null"),
        trace_state: row.text("trace_state").unwrap_or_default(),
        attributes: row.nested_attributes(),
        dropped_attributes_count: row.count("dropped_attributes"),
        flags: row.count("flags"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_field_of_a_span_round_trips(request in traces_request(Doubles::Any)) {
        let expected = sent(&request);
        let decoded = decoded(Signal::Traces, &request.encode_to_vec()).unwrap();
        prop_assert_eq!(decoded.rejected.total(), 0);
        prop_assert_eq!(decoded.repeated_attributes, 0);
        prop_assert_eq!(decoded.accepted, expected.len() as u64);
        let found: Vec<_> =
            decoded.parts.iter().flat_map(|(_, batch)| rows(batch)).map(|row| row.placed(true, read(&row))).collect();
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            prop_assert_eq!(found.bytes(), expected.bytes());
        }
        prop_assert_eq!(found.len(), expected.len());
    }
}

/// A span that nothing is wrong with.
pub(super) fn good() -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "GET /".into(),
        start_time_unix_nano: NOW.0 - 1_000,
        end_time_unix_nano: NOW.0,
        ..Span::default()
    }
}

pub(super) fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

#[test]
fn bad_spans_are_rejected_singly_with_their_reasons() {
    let ahead = NOW.0 + 3_600_000_000_001;
    let bad = [
        (Reason::TraceId, Span { trace_id: vec![0; 16], ..good() }),
        (Reason::TraceId, Span { trace_id: vec![1; 15], ..good() }),
        (Reason::TraceId, Span { trace_id: vec![], ..good() }),
        (Reason::SpanId, Span { span_id: vec![0; 8], ..good() }),
        (Reason::SpanId, Span { span_id: vec![1; 9], ..good() }),
        (Reason::Future, Span { start_time_unix_nano: ahead, end_time_unix_nano: ahead, ..good() }),
        (Reason::Future, Span { end_time_unix_nano: u64::MAX, ..good() }),
    ];
    let mut spans = vec![good()];
    for (reason, span) in &bad {
        assert_eq!(rejected(Signal::Traces, &request(vec![span.clone()])), [(*reason, 1)]);
        spans.push(span.clone());
        spans.push(good());
    }
    let decoded = decoded(Signal::Traces, &request(spans).encode_to_vec()).unwrap();
    let counts = [(Reason::TraceId, 3), (Reason::SpanId, 2), (Reason::Future, 2)];
    assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), counts);
    assert_eq!(decoded.accepted, 8);
    assert_eq!(
        decoded.rejected.message(),
        "3 rejected: trace id is not 16 bytes or all zero; 2 rejected: span id is not 8 bytes or all zero; \
         2 rejected: time is more than 1 h ahead of the collector's clock"
    );
    assert_eq!(only(decoded).num_rows(), 8);
}

#[test]
fn an_hour_ahead_is_not_too_far() {
    let ahead = NOW.0 + 3_600_000_000_000;
    let span = Span { start_time_unix_nano: ahead, end_time_unix_nano: ahead, ..good() };
    assert_eq!(rejected(Signal::Traces, &request(vec![span])), []);
}

#[test]
fn an_end_before_the_start_is_kept_and_flagged() {
    let span = Span { start_time_unix_nano: NOW.0, end_time_unix_nano: NOW.0 - 1, ..good() };
    let batch = only(decoded(Signal::Traces, &request(vec![span, good()]).encode_to_vec()).unwrap());
    let kept: Vec<_> =
        rows(&batch).map(|row| (row.long("duration_ns"), row.bool("end_before_start"))).collect();
    assert_eq!(kept, [(Some(0), true), (Some(1_000), false)]);
}

#[test]
fn a_service_without_a_name_is_unknown() {
    let text = |text: &str| Value::StringValue(text.to_owned());
    for (value, service) in
        [(None, "unknown_service"), (Some(text("")), "unknown_service"), (Some(text("shop")), "shop")]
    {
        let attributes = value.map(|value| key_value("service.name".into(), value)).into_iter().collect();
        let mut request = request(vec![good()]);
        request.resource_spans[0].resource = Some(Resource { attributes, ..Resource::default() });
        let batch = only(decoded(Signal::Traces, &request.encode_to_vec()).unwrap());
        assert_eq!(rows(&batch).next().unwrap().text("service").as_deref(), Some(service));
    }
}

#[test]
fn a_promoted_key_of_another_type_stays_in_the_maps() {
    let attributes = vec![
        key_value("http.route".into(), Value::IntValue(7)),
        key_value("http.response.status_code".into(), Value::StringValue("200".into())),
        key_value("server.port".into(), Value::IntValue(443)),
        // Of the resource alone.
        key_value("service.version".into(), Value::StringValue("span's own".into())),
    ];
    let batch =
        only(decoded(Signal::Traces, &request(vec![Span { attributes, ..good() }]).encode_to_vec()).unwrap());
    let row = rows(&batch).next().unwrap();
    assert_eq!((row.text("http_route"), row.long("http_status")), (None, None));
    assert_eq!((row.long("server_port"), row.text("service_version")), (Some(443), None));
    let keys: Vec<_> =
        normal(row.attributes("attributes")).into_iter().map(|attribute| attribute.key).collect();
    assert_eq!(keys, ["http.response.status_code", "http.route", "service.version"]);
}

#[test]
fn a_repeated_key_is_left_out_and_counted() {
    let of = |count: usize| -> Vec<KeyValue> {
        let number = |n: usize| key_value(format!("k{}", n % count), Value::IntValue(n as i64));
        (0..count + 3).map(number).collect()
    };
    for count in [3, 200] {
        let request = request(vec![Span { attributes: of(count), ..good() }]);
        let decoded = decoded(Signal::Traces, &request.encode_to_vec()).unwrap();
        assert_eq!((decoded.accepted, decoded.repeated_attributes), (1, 3));
        let row = rows(&only(decoded)).next().unwrap();
        assert_eq!(normal(row.attributes("attributes")), normal(of(count)[..count].to_vec()));
    }
}

#[test]
fn the_fault_of_a_resource_or_scope_is_that_of_its_spans() {
    let mut deep = key_value("k".into(), Value::IntValue(1)).value.unwrap();
    for _ in 0..40 {
        let values = vec![deep];
        let array = opentelemetry_proto::tonic::common::v1::ArrayValue { values };
        deep = opentelemetry_proto::tonic::common::v1::AnyValue { value: Some(Value::ArrayValue(array)) };
    }
    let bad = vec![KeyValue { key: "deep".into(), value: Some(deep), ..KeyValue::default() }];
    let mut of_resource = request(vec![good(), good()]);
    of_resource.resource_spans[0]
        .scope_spans
        .push(ScopeSpans { spans: vec![good()], ..ScopeSpans::default() });
    of_resource.resource_spans.push(request(vec![good()]).resource_spans[0].clone());
    let mut of_scope = of_resource.clone();
    of_resource.resource_spans[0].resource =
        Some(Resource { attributes: bad.clone(), ..Resource::default() });
    let scope = InstrumentationScope { attributes: bad, ..InstrumentationScope::default() };
    of_scope.resource_spans[0].scope_spans[0].scope = Some(scope);
    for (request, expected, accepted) in [(of_resource, 3, 1), (of_scope, 2, 2)] {
        let decoded = decoded(Signal::Traces, &request.encode_to_vec()).unwrap();
        assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), [(Reason::TooDeep, expected)]);
        assert_eq!(decoded.accepted, accepted);
    }
}
