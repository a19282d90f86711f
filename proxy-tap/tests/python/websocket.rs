//! WebSocket: a connection that changes its protocol keeps its bytes, its end and whoever broke it off.

use serde_json::json;

use crate::support::{Mesh, client};

const CLIENT: &str = "websocket_client.py";
const SERVER: &str = "websocket_server.py";

fn run(mesh: &Mesh, cases: &[&str]) {
    client(CLIENT, &json!({ "target": mesh.target(), "stop": mesh.outbound.pid() }), cases);
}

#[test]
fn messages_of_every_kind_pass_both_ways() {
    let mesh = Mesh::new(SERVER, "http", &[]);
    let cases = [
        "echo",
        "large",
        "fragmented",
        "pings",
        "close_codes",
        "negotiation",
        "server_first",
        "fifty_at_once",
    ];
    run(&mesh, &cases);
    let changed = ["response_code=\"101\"", "request_protocol=\"http\"", "response_flags=\"-\""];
    for proxy in [&mesh.outbound, &mesh.inbound] {
        assert!(proxy.metric("istio_request_bytes_sum", &changed) > f64::from(4 << 20));
        assert!(proxy.metric("istio_response_bytes_sum", &changed) > f64::from(4 << 20));
    }
}

#[test]
fn a_refused_upgrade_passes_as_it_is() {
    let mesh = Mesh::new(SERVER, "http", &[]);
    run(&mesh, &["refused"]);
    mesh.counted(1.0, &["response_code=\"403\"", "response_flags=\"-\""]);
}

#[test]
fn who_breaks_off_is_noticed_at_the_other_end_and_blamed() {
    let mesh = Mesh::new(SERVER, "http", &[]);
    // More often than a breaker would take it of an endpoint.
    run(&mesh, &["client_aborts"; 7]);
    mesh.counted(7.0, &["response_code=\"101\"", "response_flags=\"DC\""]);
    assert_eq!(
        mesh.outbound.metric("weir_proxy_breaker_state", &["service=\"peer\"", "state=\"closed\""]),
        2.0
    );
    run(&mesh, &["client_ends_without_a_word", "server_aborts"]);
    mesh.counted(1.0, &["response_code=\"101\"", "response_flags=\"UC\""]);
}

#[test]
fn a_proxy_that_stops_ends_connections_when_its_time_is_over() {
    let mut mesh = Mesh::new(SERVER, "http", &[]);
    run(&mesh, &["drained"]);
    mesh.outbound.ended();
}
