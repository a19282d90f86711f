//! TCP connections: what is counted while they are open and when they close, and what is logged.

use super::*;
use crate::call::Security;

fn flow() -> Flow {
    let (client, server) = (party("cart", "cart-1", "v3"), party("db", "db-1", "v9"));
    Flow {
        address: Some("[fd00::7]:5432".into()),
        sni: Some("db.shop".into()),
        connected_after: Some(Duration::from_millis(2)),
        ..Flow::new(Direction::Outbound, client, server, CALLED)
    }
}

/// The points of a TCP counter: flags and value.
fn counted(sent: &Sent, name: &str) -> Vec<(String, i64)> {
    let Data::Sum(sum) = sent.metric(name) else { panic!("{name}") };
    assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (CUMULATIVE, true), "{name}");
    let flags = |point: &NumberDataPoint| texts(&point.attributes)["response_flags"].clone();
    sum.data_points.iter().map(|point| (flags(point), count(point))).collect()
}

fn collected(tap: &Tap) -> Sent {
    tap.collect(UnixNanos(START.0 + SECOND), true);
    Sent::of(tap)
}

#[tokio::test(start_paused = true)]
async fn a_connection_counts_while_it_is_open_and_once_when_it_closes() {
    let tap = tap();
    let mut open = tap.opened(flow());
    open.carried().received(100);
    open.carried().sent(4_000);
    let sent = collected(&tap);
    let ok = |n| vec![("-".to_owned(), n)];
    let opened = "istio_tcp_connections_opened_total";
    let closed = "istio_tcp_connections_closed_total";
    assert_eq!((counted(&sent, opened), counted(&sent, closed)), (ok(1), ok(0)));
    assert_eq!(counted(&sent, "istio_tcp_received_bytes_total"), ok(100));
    assert_eq!(counted(&sent, "istio_tcp_sent_bytes_total"), ok(4_000));
    assert!(sent.logs.is_empty() && sent.metrics.iter().all(|metric| metric.name != EDGE_METRIC));
    open.carried().sent(96);
    tokio::time::advance(TOOK).await;
    open.flow.flags = flag::RESET;
    drop(open);
    let sent = collected(&tap);
    // What came after the last export belongs to how it ended.
    let both = |ok, reset| vec![("-".to_owned(), ok), ("UC".to_owned(), reset)];
    assert_eq!((counted(&sent, opened), counted(&sent, closed)), (both(1, 0), both(0, 1)));
    assert_eq!(counted(&sent, "istio_tcp_sent_bytes_total"), both(4_000, 96));
    assert_eq!(counted(&sent, "istio_tcp_received_bytes_total"), both(100, 0));
    assert_eq!(lock(&tap.flows).len(), 0);
    let [point] = sent.edge_points() else { panic!("{:?}", sent.edge_points()) };
    let expected = [("protocol", "tcp"), ("class", "error"), ("server", "db"), ("endpoint", "db-1")];
    assert_has(&texts(&point.attributes), &expected);
    assert!((point.sum.unwrap() - 0.002).abs() < 1e-9, "until it was connected");
    let [log] = &sent.logs[..] else { panic!("{:?}", sent.logs) };
    let line = text(log.body.as_ref().unwrap().value.as_ref().unwrap());
    assert_eq!(line, "cart -> db/db-1 tcp UC 40.00ms 100B/4096B sni=db.shop");
    assert_eq!((log.severity_number, log.time_unix_nano), (17, CALLED.0 + 40_000_000));
    let attributes = texts(&log.attributes);
    let expected = [
        ("network.transport", "tcp"),
        ("weir.client", "cart"),
        ("weir.server", "db"),
        ("weir.endpoint", "db-1"),
        ("weir.response_flags", "UC"),
        ("weir.direction", "outbound"),
        ("weir.connection_security_policy", "none"),
        ("tls.client.server_name", "db.shop"),
        ("server.address", "fd00::7"),
        ("server.port", "5432"),
        ("network.peer.address", "fd00::7"),
        ("duration_ms", "40"),
        ("connect_ms", "2"),
        ("weir.sent_bytes", "4096"),
        ("weir.received_bytes", "100"),
    ];
    assert_has(&attributes, &expected);
    assert_eq!(attributes.len(), expected.len(), "{attributes:#?}");
}

#[test]
fn a_connection_has_no_response_among_its_labels() {
    let tap = tap();
    let client = Party { principal: "spiffe://mesh/web".into(), ..(*party("web", "web-1", "v1")).clone() };
    let incoming = Flow {
        direction: Direction::Inbound,
        client: Arc::new(client),
        server: party("cart", "cart-1", "v3"),
        security: Security::MutualTls,
        peer_address: Some("10.1.2.3:4567".parse().unwrap()),
        ..flow()
    };
    drop(tap.opened(incoming));
    let sent = collected(&tap);
    let Data::Sum(sum) = sent.metric("istio_tcp_connections_opened_total") else { panic!() };
    let labels = texts(&sum.data_points[0].attributes);
    let expected = [
        ("reporter", "destination"),
        ("source_workload", "web"),
        ("source_principal", "spiffe://mesh/web"),
        ("destination_service", "cart"),
        ("request_protocol", "tcp"),
        ("response_flags", "-"),
        ("connection_security_policy", "mutual_tls"),
    ];
    assert_has(&labels, &expected);
    assert!(!labels.contains_key("response_code") && !labels.contains_key("grpc_response_status"));
    assert_eq!(labels.len(), 23, "{labels:#?}");
    let logged = [("client.address", "10.1.2.3"), ("weir.client_principal", "spiffe://mesh/web")];
    assert_has(&texts(&sent.logs[0].attributes), &logged);
    assert_has(&texts(&sent.edge_points()[0].attributes), &[("class", "ok"), ("reporter", "destination")]);
    // Requests and connections of the same two are different sets.
    assert!(sent.metrics.iter().all(|metric| metric.name != "istio_requests_total"));
}

#[test]
fn connections_beyond_the_bound_are_counted_when_they_close() {
    let tap = tap();
    let open: Vec<_> = (0..limits::PROXY_FLOWS + 3).map(|_| tap.opened(flow())).collect();
    open.iter().for_each(|open| open.carried().sent(1));
    let flows = limits::PROXY_FLOWS as i64;
    let sum = |sent: &Sent| counted(sent, "istio_tcp_sent_bytes_total")[0].1;
    assert_eq!(sum(&collected(&tap)), flows);
    drop(open);
    assert_eq!(sum(&collected(&tap)), flows + 3);
}
