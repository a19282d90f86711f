//! What a handled call leaves in the batches, decoded with the messages that OpenTelemetry publishes.

mod bounds;
mod flows;
mod istio;

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, Method, Version};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint, Metric, NumberDataPoint};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use weir_model::semconv::EDGE_METRIC;
use weir_model::{SpanId, TraceId};

use super::outbox::{Batch, Signal};
use super::*;
use crate::call::{Direction, Refusal, flag};
use crate::chance::Chance;
use crate::config::Protocol;
use crate::trace::{B3, TraceContext};

const SECOND: u64 = 1_000_000_000;
/// When the proxy of these tests started, and when its calls do.
const START: UnixNanos = UnixNanos(1_700_000_000 * SECOND);
const CALLED: UnixNanos = UnixNanos(START.0 + SECOND / 4);
const TOOK: Duration = Duration::from_millis(40);
const CUMULATIVE: i32 = 2;
const DELTA: i32 = 1;

fn party(service: &str, instance: &str, version: &str) -> Arc<Party> {
    let (service, instance, version) = (service.into(), instance.into(), version.into());
    Arc::new(Party { service, instance, version, ..Party::default() })
}

fn tap() -> Arc<Tap> {
    Tap::new(party("cart", "cart-1", "v3"), Clock::new(|| START), true)
}

/// `POST /orders/42` of `cart` to `payments-2`, answered 200 after 40 ms.
fn facts() -> Facts {
    let trace = TraceContext {
        trace: TraceId([7; 16]),
        span: SpanId([8; 8]),
        parent: Some(SpanId([9; 8])),
        flags: 1,
        w3c: true,
        state: Some(HeaderValue::from_static("vendor=1")),
        b3: B3::Absent,
    };
    let (client, server) = (party("cart", "cart-1", "v3"), party("payments", "payments-2", "v2"));
    Facts {
        method: Method::POST,
        path: "/orders/42".to_owned(),
        address: Some("10.0.0.7:8443".into()),
        status: 200,
        request_bytes: Arc::new(AtomicU64::new(12)),
        response_bytes: 345,
        head_after: Some(Duration::from_millis(30)),
        ..Facts::new(Direction::Outbound, client, server, trace, CALLED)
    }
}

fn edge_key(facts: &Facts) -> EdgeKey<'_> {
    EdgeKey { probe: facts.probe, ..EdgeKey::of(facts, facts.class()) }
}

/// Everything that waits in the outbox.
#[derive(Default)]
struct Sent {
    metrics: Vec<Metric>,
    spans: Vec<Span>,
    logs: Vec<LogRecord>,
    /// Attributes of the resources, one entry a request.
    resources: Vec<BTreeMap<String, String>>,
    records: u64,
}

impl Sent {
    fn of(tap: &Tap) -> Self {
        let mut sent = Self::default();
        while let Some(Batch { signal, parts, records }) = tap.outbox.try_next() {
            let message = parts.concat();
            let (prefix, request) = message.split_at(5);
            assert_eq!(prefix, [&[0], &(request.len() as u32).to_be_bytes()[..]].concat());
            sent.records += records;
            let mut resource = |attributes: &[KeyValue]| sent.resources.push(texts(attributes));
            match signal {
                Signal::Metrics => {
                    for of in ExportMetricsServiceRequest::decode(request).unwrap().resource_metrics {
                        resource(&of.resource.unwrap().attributes);
                        sent.metrics.extend(of.scope_metrics.into_iter().flat_map(|scope| scope.metrics));
                    }
                }
                Signal::Traces => {
                    for of in ExportTraceServiceRequest::decode(request).unwrap().resource_spans {
                        resource(&of.resource.unwrap().attributes);
                        sent.spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
                    }
                }
                Signal::Logs => {
                    for of in ExportLogsServiceRequest::decode(request).unwrap().resource_logs {
                        resource(&of.resource.unwrap().attributes);
                        sent.logs.extend(of.scope_logs.into_iter().flat_map(|scope| scope.log_records));
                    }
                }
            }
        }
        sent
    }

    fn metric(&self, name: &str) -> &Data {
        let metric = self.metrics.iter().find(|metric| metric.name == name);
        metric.unwrap_or_else(|| panic!("no metric {name}")).data.as_ref().unwrap()
    }

    fn edge_points(&self) -> &[ExponentialHistogramDataPoint] {
        match self.metric(EDGE_METRIC) {
            Data::ExponentialHistogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, DELTA);
                &histogram.data_points
            }
            other => panic!("{other:?}"),
        }
    }

    fn requests(&self) -> &[NumberDataPoint] {
        match self.metric("istio_requests_total") {
            Data::Sum(sum) => {
                assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (CUMULATIVE, true));
                &sum.data_points
            }
            other => panic!("{other:?}"),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        other => panic!("{other:?}"),
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |kv: &KeyValue| text(kv.value.as_ref().unwrap().value.as_ref().unwrap());
    attributes.iter().map(|kv| (kv.key.clone(), value(kv))).collect()
}

fn count(point: &NumberDataPoint) -> i64 {
    match point.value {
        Some(opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt(count)) => count,
        other => panic!("{other:?}"),
    }
}

fn assert_has(attributes: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(attributes.get(*key).map(String::as_str), Some(*value), "{key} in {attributes:#?}");
    }
}

#[test]
fn a_call_leaves_a_client_span_with_opentelemetrys_names() {
    let tap = tap();
    tap.call(&Facts { retries: 1, ..facts() }, TOOK);
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    let [span] = &sent.spans[..] else { panic!("{:?}", sent.spans) };
    assert_eq!((&span.trace_id[..], &span.span_id[..]), (&[7; 16][..], &[8; 8][..]));
    assert_eq!((&span.parent_span_id[..], &*span.trace_state), (&[9; 8][..], "vendor=1"));
    assert_eq!((&*span.name, span.kind, span.flags), ("POST /orders/{id}", 3, 1));
    assert_eq!(span.start_time_unix_nano, CALLED.0);
    assert_eq!(span.end_time_unix_nano, CALLED.0 + 40_000_000);
    assert!(span.status.is_none(), "{:?}", span.status);
    let attributes = texts(&span.attributes);
    let expected = [
        ("http.request.method", "POST"),
        ("url.path", "/orders/42"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("network.peer.address", "10.0.0.7"),
        ("http.request.body.size", "12"),
        ("http.response.body.size", "345"),
        ("http.response.status_code", "200"),
        ("http.request.resend_count", "1"),
        ("server.address", "10.0.0.7"),
        ("server.port", "8443"),
        ("weir.client", "cart"),
        ("weir.server", "payments"),
        ("weir.endpoint", "payments-2"),
        ("weir.response_flags", "-"),
        ("weir.direction", "outbound"),
        ("weir.connection_security_policy", "none"),
        ("weir.retries", "1"),
    ];
    assert_has(&attributes, &expected);
    assert_eq!(attributes.len(), expected.len(), "{attributes:#?}");
    for resource in &sent.resources {
        let expected =
            [("service.name", "cart"), ("service.instance.id", "cart-1"), ("service.version", "v3")];
        assert_has(resource, &expected);
    }
}

#[test]
fn a_call_to_another_address_or_with_another_end_says_so() {
    let tap = tap();
    let calls =
        [("10.0.0.7:8443", 200), ("10.0.0.8:8443", 200), ("10.0.0.7:8443", 503), ("10.0.0.7:8443", 200)];
    let (mut before, payments) = (facts(), facts().server);
    for (address, status) in calls {
        if before.address.as_deref() != Some(address) {
            before.address = Some(address.into());
        }
        let (address, server) = (before.address.clone(), Arc::clone(&payments));
        tap.call(&Facts { address, server, status, ..facts() }, TOOK);
    }
    tap.collect(START, false);
    let said = |attributes: &[KeyValue]| {
        let all = texts(attributes);
        (
            format!("{}:{}", all["server.address"], all["server.port"]),
            all["http.response.status_code"].parse().unwrap(),
        )
    };
    let sent = Sent::of(&tap);
    let spans: Vec<(String, u16)> = sent.spans.iter().map(|span| said(&span.attributes)).collect();
    let logs: Vec<_> = sent.logs.iter().map(|log| said(&log.attributes)).collect();
    assert_eq!(spans, calls.map(|(address, status)| (address.to_owned(), status)));
    assert_eq!(logs, spans);
}

#[test]
fn a_span_says_what_is_rare_where_it_is_known() {
    let tap = tap();
    let facts = Facts {
        direction: Direction::Inbound,
        client: Arc::new(Party {
            namespace: "shop".into(),
            zone: "z1".into(),
            principal: "spiffe://mesh/web".into(),
            ..(*party("web", "web-1", "")).clone()
        }),
        method: Method::from_bytes("BREW".repeat(20).as_bytes()).unwrap(),
        is_https: true,
        security: crate::call::Security::MutualTls,
        peer_address: Some("[2001:db8::1]:999".parse().unwrap()),
        path_pattern: Some("/orders/*".into()),
        route: Some("orders-v2".into()),
        user_agent: Some(HeaderValue::from_static("curl/8")),
        ..facts()
    };
    tap.call(&facts, TOOK);
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    assert_eq!(sent.spans[0].name, "HTTP /orders/*");
    let original = "BREW".repeat(8);
    let expected = [
        ("http.request.method", "_OTHER"),
        ("http.request.method_original", &original),
        ("http.route", "/orders/*"),
        ("weir.route", "orders-v2"),
        ("url.scheme", "https"),
        ("user_agent.original", "curl/8"),
        ("client.address", "2001:db8::1"),
        ("network.peer.address", "2001:db8::1"),
        ("weir.client_namespace", "shop"),
        ("weir.client_zone", "z1"),
        ("weir.client_principal", "spiffe://mesh/web"),
        ("weir.connection_security_policy", "mutual_tls"),
    ];
    assert_has(&texts(&sent.spans[0].attributes), &expected);
    assert_has(&texts(&sent.logs[0].attributes), &expected);
}

#[test]
fn a_share_of_the_calls_is_logged_and_whatever_went_wrong() {
    let observe = Observe { exporting: true, sampled: Share::ALL, logged: Share::of(0.0) };
    let tap = Tap::with(party("cart", "cart-1", ""), Clock::new(|| START), observe);
    let with = |status, flags| Facts { status, flags, ..facts() };
    for facts in [with(200, "-"), with(404, "-"), with(500, "-"), with(200, flag::RETRIES_SPENT)] {
        tap.call(&facts, TOOK);
    }
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let logged: Vec<_> = sent.logs.iter().map(|log| texts(&log.attributes)).collect();
    let statuses: Vec<_> = logged.iter().map(|log| &*log["http.response.status_code"]).collect();
    assert_eq!((statuses, sent.spans.len()), (vec!["404", "500", "200"], 4));
    assert_eq!(sent.requests().iter().map(count).sum::<i64>(), 4, "metrics count everything");
}

#[test]
fn an_error_is_one_of_the_span_of_whom_it_blames() {
    let not_found = Facts { status: 404, ..facts() };
    let of_server = Facts { direction: Direction::Inbound, status: 404, ..facts() };
    let failed = Facts { direction: Direction::Inbound, status: 500, ..facts() };
    let late = Facts { status: 504, flags: flag::TIMEOUT, ..facts() };
    for (facts, error) in
        [(not_found, Some("404")), (of_server, None), (failed, Some("500")), (late, Some("timeout"))]
    {
        let tap = tap();
        tap.call(&facts, TOOK);
        tap.collect(START, false);
        let sent = Sent::of(&tap);
        let status = sent.spans[0].status.as_ref().map(|status| (status.code, &*status.message));
        assert_eq!(status, error.map(|message| (2, message)), "{facts:?}");
        let kind = if facts.direction == Direction::Inbound { 2 } else { 3 };
        assert_eq!(sent.spans[0].kind, kind);
    }
}

#[test]
fn a_grpc_call_names_service_method_and_status() {
    let tap = tap();
    let facts = Facts {
        protocol: Protocol::Grpc,
        version: Version::HTTP_2,
        path: "/shop.v1.Payments/Charge".to_owned(),
        grpc_status: Some(14),
        ..facts()
    };
    tap.call(&facts, TOOK);
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    let span = &sent.spans[0];
    assert_eq!(span.name, "shop.v1.Payments/Charge");
    assert_has(
        &texts(&span.attributes),
        &[
            ("rpc.system", "grpc"),
            ("rpc.service", "shop.v1.Payments"),
            ("rpc.method", "Charge"),
            ("rpc.grpc.status_code", "14"),
            ("error.type", "14"),
            ("network.protocol.version", "2"),
        ],
    );
    assert_eq!(sent.logs[0].severity_text, "ERROR");
}

#[test]
fn a_refused_call_says_by_whom_and_why_in_span_log_and_edge() {
    let tap = tap();
    let refusal = Refusal {
        by: "h-1-2".into(),
        is_hint: true,
        reason: "open; errors".into(),
        status: 503,
        retry_after: None,
    };
    let facts = Facts {
        server: party("payments", "", ""),
        address: None,
        status: 503,
        flags: flag::REFUSED,
        refusal: Some(refusal),
        ..facts()
    };
    tap.call(&facts, TOOK);
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let told =
        [("weir.refused", "h-1-2; open; errors"), ("weir.hint_id", "h-1-2"), ("weir.response_flags", "UO")];
    assert_has(&texts(&sent.spans[0].attributes), &told);
    assert_has(&texts(&sent.logs[0].attributes), &told);
    assert_eq!(sent.spans[0].status.as_ref().unwrap().message, "open; errors");
    let [point] = sent.edge_points() else { panic!("{:?}", sent.edge_points()) };
    let labels = texts(&point.attributes);
    assert_has(&labels, &[("class", "refused"), ("client", "cart"), ("server", "payments")]);
    assert!(!labels.contains_key("endpoint"), "{labels:?}");
    assert_has(&texts(&sent.requests()[0].attributes), &[("response_flags", "UO"), ("response_code", "503")]);
}

#[test]
fn a_call_leaves_an_access_log_line_that_belongs_to_its_span() {
    let tap = tap();
    tap.call(&Facts { probe: true, ..facts() }, TOOK);
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    let [log] = &sent.logs[..] else { panic!("{:?}", sent.logs) };
    let line = text(log.body.as_ref().unwrap().value.as_ref().unwrap());
    assert_eq!(line, "cart -> payments/payments-2 \"POST /orders/42\" 200 - 40.00ms 12B/345B");
    assert_eq!((log.trace_id.clone(), log.span_id.clone()), (vec![7; 16], vec![8; 8]));
    assert_eq!((&*log.severity_text, log.severity_number, &*log.event_name), ("INFO", 9, "access_log"));
    assert_eq!(log.time_unix_nano, CALLED.0 + 40_000_000);
    assert_has(
        &texts(&log.attributes),
        &[
            ("duration_ms", "40"),
            ("response_head_ms", "30"),
            ("http.request.body.size", "12"),
            ("http.response.body.size", "345"),
            ("weir.probe", "true"),
            ("weir.endpoint", "payments-2"),
        ],
    );
}

#[test]
fn a_call_of_an_unsampled_trace_is_logged_and_counted_and_has_no_span() {
    let tap = tap();
    let mut facts = facts();
    facts.trace.flags = 0;
    tap.call(&facts, TOOK);
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    assert!(sent.spans.is_empty());
    assert_eq!((sent.logs.len(), sent.requests().len()), (1, 1));
}

#[test]
fn the_edge_metric_is_what_a_second_brought_and_istios_are_all_since_the_start() {
    let tap = tap();
    let facts = facts();
    let calls = |n: usize| {
        for _ in 0..n {
            tap.call(&facts, TOOK);
            tap.edge(edge_key(&facts), TOOK);
        }
    };
    let at = |second: u64| START.0 + second * SECOND;
    let mut seen = vec![];
    for (second, n) in [(1, 2), (2, 3), (3, 0), (4, 1)] {
        calls(n);
        tap.collect(UnixNanos(at(second)), true);
        let sent = Sent::of(&tap);
        let total = sent.requests()[0].clone();
        assert_eq!((total.start_time_unix_nano, total.time_unix_nano), (START.0, at(second)));
        if n == 0 {
            assert!(sent.metrics.iter().all(|metric| metric.name != EDGE_METRIC));
            seen.push((0, count(&total)));
            continue;
        }
        let [point] = sent.edge_points() else { panic!("{:?}", sent.edge_points()) };
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (at(second - 1), at(second)));
        let in_buckets: u64 = point.positive.as_ref().unwrap().bucket_counts.iter().sum();
        assert_eq!(in_buckets, point.count);
        assert!((point.sum.unwrap() - n as f64 * 0.04).abs() < 1e-9);
        seen.push((point.count, count(&total)));
    }
    assert_eq!(seen, [(2, 2), (3, 5), (0, 5), (1, 6)]);
}

#[test]
fn an_edge_point_names_both_ends_the_replica_and_how_it_ended() {
    let tap = tap();
    let facts = Facts { status: 500, probe: true, ..facts() };
    tap.edge(edge_key(&facts), TOOK);
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    let [point] = sent.edge_points() else { panic!("{:?}", sent.edge_points()) };
    let labels = texts(&point.attributes);
    let expected = [
        ("client", "cart"),
        ("server", "payments"),
        ("endpoint", "payments-2"),
        ("protocol", "http"),
        ("class", "error"),
        ("reporter", "source"),
        ("probe", "true"),
    ];
    assert_has(&labels, &expected);
    assert_eq!(labels.len(), expected.len());
    let positive = point.positive.as_ref().unwrap();
    assert_eq!(point.scale, weir_model::sketch::SCALE);
    let first = positive.offset;
    assert_eq!(first, weir_model::Sketch::index_of(0.04));
}

#[test]
fn distant_buckets_keep_their_places() {
    let tap = tap();
    let facts = facts();
    let key = edge_key(&facts);
    let latencies = [Duration::from_micros(200), TOOK, TOOK, Duration::from_secs(3)];
    latencies.iter().for_each(|took| tap.edge(key, *took));
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    let positive = sent.edge_points()[0].positive.as_ref().unwrap();
    let filled: Vec<(i32, u64)> =
        (positive.offset..).zip(positive.bucket_counts.iter().copied()).filter(|(_, n)| *n > 0).collect();
    let index = |took: Duration| weir_model::Sketch::index_of(took.as_secs_f64());
    assert_eq!(filled, [(index(latencies[0]), 1), (index(TOOK), 2), (index(latencies[3]), 1)]);
}

#[test]
fn a_call_that_found_no_endpoint_is_an_error_of_its_edge() {
    let tap = tap();
    let facts = Facts {
        server: party("payments", "", ""),
        address: None,
        status: 503,
        flags: flag::NO_ENDPOINT,
        ..facts()
    };
    tap.call(&facts, TOOK);
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    assert_has(&texts(&sent.edge_points()[0].attributes), &[("class", "error"), ("server", "payments")]);
}

#[test]
fn a_grpc_call_that_found_no_endpoint_is_an_error_of_its_edge() {
    let tap = tap();
    // What the caller was sent is a trailers-only answer: HTTP 200, UNAVAILABLE.
    let facts = Facts {
        server: party("payments", "", ""),
        address: None,
        protocol: Protocol::Grpc,
        status: 200,
        grpc_status: Some(14),
        flags: flag::NO_ENDPOINT,
        ..facts()
    };
    tap.call(&facts, TOOK);
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    let labels = texts(&sent.edge_points()[0].attributes);
    assert_has(&labels, &[("class", "error"), ("server", "payments"), ("protocol", "grpc")]);
}

#[test]
fn a_call_of_a_malformed_request_is_no_call_of_the_edge() {
    let tap = tap();
    let facts = Facts { address: None, status: 501, flags: flag::BAD_REQUEST, ..facts() };
    tap.call(&facts, TOOK);
    tap.collect(START, false);
    assert!(Sent::of(&tap).metrics.is_empty());
}

#[test]
fn spans_of_a_trace_that_the_proxy_started_have_no_parent() {
    let tap = tap();
    let trace = TraceContext::of(&HeaderMap::new(), &Chance::new(1, "t"), Share::ALL);
    tap.call(&Facts { trace, ..facts() }, TOOK);
    tap.collect(START, false);
    let sent = Sent::of(&tap);
    assert!(sent.spans[0].parent_span_id.is_empty());
    assert!(sent.spans[0].trace_state.is_empty());
}
