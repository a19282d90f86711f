//! What arrives at a collector, and that a collector which takes nothing costs requests nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use weir_proxy_tap::Config;

use crate::support::*;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// A collector of OTLP that takes everything; it has no mesh.
async fn collector() -> App {
    App::start(|seen: Arc<Seen>| async move {
        if seen.parts.uri.path().starts_with("/weir.mesh") { unimplemented() } else { grpc_answer(b"", "0") }
    })
    .await
}

fn unimplemented() -> http::Response<Reply> {
    let mut response = answer(200, "");
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response.headers_mut().insert("grpc-status", "12".parse().unwrap());
    response
}

/// The messages that a collector was sent at `path`.
fn sent<M: Message + Default>(collector: &App, path: &str) -> Vec<M> {
    let at = collector.seen().into_iter().filter(|seen| seen.parts.uri.path() == path);
    at.map(|seen| M::decode(&seen.body[5..]).unwrap()).collect()
}

fn spans(collector: &App) -> Vec<Span> {
    let requests = sent::<ExportTraceServiceRequest>(collector, TRACES);
    let of = requests.into_iter().flat_map(|request| request.resource_spans);
    of.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn at(collector: SocketAddr, config: Config) -> Config {
    Config { collector: Some(collector.to_string()), ..config }
}

#[tokio::test]
async fn a_call_through_two_proxies_is_one_trace_of_client_and_server() {
    let (collector, app) = (collector().await, App::always(200, "").await);
    let receiving = start(at(collector.address, payments(app.address))).await;
    let calling = start(at(collector.address, cart(&[receiving.inbound.unwrap()]))).await;
    assert_eq!(get(to_payments(&calling), "/orders/7").await.status, 200);
    let page = page(&calling, "/metrics").await;
    let bounds = page.lines().filter(|line| line.starts_with("istio_request_duration_milliseconds_bucket"));
    let bounds = bounds.filter_map(|line| line.split("le=\"").nth(1)?.split('"').next()?.parse::<f64>().ok());
    assert!(bounds.filter(|bound| *bound < 5.0).count() >= 4, "classic buckets are fine below 5 ms: {page}");
    // The last telemetry goes out before the end.
    calling.shutdown().await;
    receiving.shutdown().await;
    let spans = spans(&collector);
    let [client] = spans.iter().filter(|span| span.kind == 3).collect::<Vec<_>>()[..] else {
        panic!("{spans:?}")
    };
    let [server] = spans.iter().filter(|span| span.kind == 2).collect::<Vec<_>>()[..] else {
        panic!("{spans:?}")
    };
    assert_eq!((&server.trace_id, &server.parent_span_id), (&client.trace_id, &client.span_id));
    assert!(client.parent_span_id.is_empty());
    assert_eq!((&*client.name, &*server.name), ("GET /orders/{id}", "GET /orders/{id}"));
    let traceparent = app.seen()[0].header("traceparent").unwrap().to_owned();
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(traceparent, format!("00-{}-{}-01", hex(&server.trace_id), hex(&server.span_id)));
    assert_eq!(sent::<ExportLogsServiceRequest>(&collector, LOGS).len(), 2);
    let metrics = sent::<ExportMetricsServiceRequest>(&collector, METRICS);
    let metrics: Vec<_> = metrics
        .into_iter()
        .flat_map(|request| request.resource_metrics)
        .flat_map(|resource| resource.scope_metrics)
        .flat_map(|scope| scope.metrics)
        .collect();
    let names: std::collections::BTreeSet<_> = metrics.iter().map(|metric| metric.name.clone()).collect();
    let expected = [
        "istio_build",
        "istio_request_bytes",
        "istio_request_duration_milliseconds",
        "istio_requests_total",
        "istio_response_bytes",
        "weir_edge_duration_seconds",
    ];
    assert!(names.iter().map(String::as_str).eq(expected), "{names:?}");
    // Classic histograms, and native ones, whose buckets fit whatever comes.
    let is = |name: &str, kind: fn(&Data) -> bool| {
        metrics.iter().any(|metric| metric.name == name && metric.data.as_ref().is_some_and(kind))
    };
    assert!(is("istio_request_duration_milliseconds", |data| matches!(data, Data::Histogram(_))));
    for name in ["istio_request_duration_milliseconds", "weir_edge_duration_seconds"] {
        assert!(is(name, |data| matches!(data, Data::ExponentialHistogram(_))), "{name}: {metrics:?}");
    }
}

#[tokio::test]
async fn telemetry_that_is_refused_for_good_is_counted() {
    let app = App::always(200, "").await;
    let refusing = App::start(|_| async { unimplemented() }).await;
    let proxy = start(at(refusing.address, cart(&[app.address]))).await;
    assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    until("the refusal", async || {
        let refused = metric(&proxy, "weir_proxy_telemetry_dropped_total", &["collector_refused"]).await;
        (refused > 2.5).then_some(())
    })
    .await;
    assert_eq!(sent::<ExportTraceServiceRequest>(&refusing, TRACES).len(), 1, "and not sent again");
}

/// Requests per test of a collector that takes nothing.
const CALLS: u32 = 300;
/// What a busy machine adds. Calls that waited for the collector, if only for 10 ms each, would take longer.
const NOISE: Duration = Duration::from_secs(2);

/// How long [`CALLS`] take, one after the other on one connection.
async fn duration(config: Config) -> Duration {
    let proxy = start(config).await;
    let mut sender = http1(to_payments(&proxy)).await;
    let started = Instant::now();
    for _ in 0..CALLS {
        let sent = request(http::Method::GET, "/").header("host", "x").body(empty()).unwrap();
        let response = timeout(DEADLINE, sender.send_request(sent)).await.unwrap().unwrap();
        assert_eq!(Answer::of(response).await.status, 200);
    }
    started.elapsed()
}

#[tokio::test]
async fn a_collector_that_is_dead_or_a_black_hole_does_not_slow_requests() {
    let app = App::always(200, "").await;
    // Accepts connections and never says a word.
    let hole = TcpListener::bind(any_port()).await.unwrap();
    let without = duration(cart(&[app.address])).await;
    for collector in [nobody().await, hole.local_addr().unwrap()] {
        let with = duration(at(collector, cart(&[app.address]))).await;
        assert!(with < 5 * without + NOISE, "{with:?}, {without:?} without a collector");
    }
}

/// A gRPC answer whose message says that it has `says` bytes, and whose head says `length`.
fn lying(says: u32, length: Option<&str>) -> http::Response<Reply> {
    let mut message = vec![0];
    message.extend(says.to_be_bytes());
    message.extend(b"short");
    let mut response = answer(200, message);
    let headers = response.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.extend(length.map(|length| (http::header::CONTENT_LENGTH, length.parse().unwrap())));
    response
}

/// Answers whoever connects with these bytes, and reads on.
async fn says(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(bytes).await;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
            });
        }
    });
    address
}

#[tokio::test]
async fn a_collector_that_is_slow_or_lies_about_lengths_fails_no_request() {
    let app = App::always(200, "").await;
    let slow = App::start(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        grpc_answer(b"", "0")
    })
    .await;
    let too_much = App::start(|_| async { lying(u32::MAX, None) }).await;
    let too_little = App::start(|_| async { lying(1, None) }).await;
    let wrong_head = App::start(|_| async { lying(5, Some("4000000000")) }).await;
    let collectors = [
        ("slow", slow.address),
        ("a message longer than what comes", too_much.address),
        ("a message shorter than what comes", too_little.address),
        ("a body shorter than its head says", wrong_head.address),
        // A SETTINGS frame, then the head of one of 16 MiB.
        ("a frame longer than is allowed", says(b"\0\0\0\x04\0\0\0\0\0\xff\xff\xff\0\0\0\0\0\x01").await),
        // A SETTINGS frame whose length is no multiple of 6.
        ("a frame of a length that cannot be", says(b"\0\0\x05\x04\0\0\0\0\0aaaaa").await),
        ("no HTTP/2", says(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n").await),
    ];
    let without = duration(cart(&[app.address])).await;
    for (what, collector) in collectors {
        let with = duration(at(collector, cart(&[app.address]))).await;
        assert!(with < 5 * without + NOISE, "{what}: {with:?}, {without:?} without");
    }
}

#[tokio::test]
async fn an_export_that_the_end_of_the_proxy_interrupts_is_sent_again() {
    let app = App::always(200, "").await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let collector = App::start(move |seen: Arc<Seen>| {
        let held = Arc::clone(&held);
        async move {
            if seen.parts.uri.path().starts_with("/weir.mesh") {
                return unimplemented();
            }
            let _permit = held.acquire().await.unwrap();
            grpc_answer(b"", "0")
        }
    })
    .await;
    let proxy = start(at(collector.address, cart(&[app.address]))).await;
    assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    let exports =
        || collector.seen().iter().filter(|seen| seen.parts.uri.path().ends_with("/Export")).count();
    until("the first export", async || (exports() == 1).then_some(())).await;
    let first =
        collector.seen().iter().find(|seen| seen.parts.uri.path().ends_with("/Export")).unwrap().body.clone();
    let stopping = tokio::spawn(proxy.shutdown());
    until("the second attempt", async || (exports() == 2).then_some(())).await;
    gate.add_permits(1);
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
    let again = collector.seen().iter().filter(|seen| seen.body == first).count();
    assert_eq!(again, 2, "what nobody acknowledged is sent again");
    assert_eq!(spans(&collector).len(), 1);
}
