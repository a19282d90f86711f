//! gRPC: the cases of its interoperability tests, and what operators do to servers and proxies meanwhile.

use serde_json::json;

use crate::support::{Mesh, app, client, inbound, outbound, server, target, until};

const CLIENT: &str = "grpc_client.py";
const SERVER: &str = "grpc_server.py";

fn run(mesh: &Mesh, cases: &[&str]) {
    let proxies = [mesh.outbound.pid(), mesh.inbound.pid()];
    client(CLIENT, &json!({ "target": mesh.target(), "proxies": proxies }), cases);
}

#[test]
fn calls_of_every_kind_pass_as_they_are() {
    let mesh = Mesh::new(SERVER, "grpc", &[]);
    let cases = [
        "empty_unary",
        "large_unary",
        "client_streaming",
        "server_streaming",
        "ping_pong",
        "empty_stream",
        "custom_metadata",
        "concurrent_streams",
        "keepalive",
    ];
    run(&mesh, &cases);
    mesh.counted(6.0 + 1.0 + 64.0 + 1.0, &["grpc_response_status=\"0\"", "response_flags=\"-\""]);
}

#[test]
fn every_status_passes_with_its_message_and_is_counted_on_both_proxies() {
    let mesh = Mesh::new(SERVER, "http", &["--retries", "0", "--local-breaker", "off"]);
    run(&mesh, &["all_codes"]);
    for code in 0..17 {
        let status = format!("grpc_response_status=\"{code}\"");
        mesh.counted(
            1.0,
            &[&status, "response_code=\"200\"", "request_protocol=\"grpc\"", "response_flags=\"-\""],
        );
    }
    run(&mesh, &["special_status_message", "status_after_messages"]);
    run(&mesh, &["unimplemented_method", "unimplemented_service"]);
    for (code, count) in [(2, 2.0), (10, 2.0), (12, 3.0)] {
        mesh.counted(count, &[&format!("grpc_response_status=\"{code}\"")]);
    }
}

#[test]
fn a_caller_that_gives_up_is_noticed_at_the_server_and_blamed_on_nobody_else() {
    let mesh = Mesh::new(SERVER, "grpc", &[]);
    let cases = [
        "cancel_after_begin",
        "cancel_after_first_response",
        "timeout_on_sleeping_server",
        "cancel_of_an_upload",
    ];
    run(&mesh, &cases);
    for proxy in [&mesh.outbound, &mesh.inbound] {
        let gone = || proxy.requests(&["response_flags=\"DC\""]);
        // Of the one whose time is over either side may say so first.
        let late = || proxy.requests(&["grpc_response_status=\"4\"", "response_flags=\"-\""]);
        until("end of four calls", || (gone() + late() == 4.0 && late() <= 1.0).then_some(()));
        let ok = proxy.requests(&["grpc_response_status=\"0\"", "response_flags=\"-\""]);
        assert_eq!(proxy.requests(&[]), 4.0 + ok, "all others are fine");
    }
}

#[test]
fn an_endpoint_that_is_down_is_unavailable() {
    let mut mesh = Mesh::new(SERVER, "grpc", &["--retries", "0"]);
    let down = [mesh.inbound.get("inbound")];
    mesh.server.terminate();
    mesh.server.ended();
    run(&mesh, &["unavailable"]);
    let labels = ["grpc_response_status=\"14\""];
    mesh.counted(1.0, &labels);
    mesh.inbound.counted(1.0, &["grpc_response_status=\"14\"", "response_flags=\"UF\""]);
    mesh.inbound.terminate();
    mesh.inbound.ended();
    let caller = outbound(&down, "grpc", &["--retries", "0"]);
    client(CLIENT, &json!({ "target": target(&caller) }), &["unavailable"]);
    caller.counted(1.0, &["grpc_response_status=\"14\"", "response_flags=\"UF\""]);
}

#[test]
fn who_reads_slowly_is_waited_for_without_being_buffered_for() {
    let mesh = Mesh::new(SERVER, "grpc", &[]);
    run(&mesh, &["slow_reader", "slow_server"]);
}

#[test]
fn no_call_fails_where_one_of_two_servers_stops() {
    let servers = [server(SERVER, &[]), server(SERVER, &[])];
    let proxies = servers.each_ref().map(|server| inbound(&app(server), "grpc"));
    let caller = outbound(&proxies.each_ref().map(|proxy| proxy.get("inbound")), "grpc", &[]);
    let setting = json!({ "target": target(&caller), "stop": [servers[0].pid()] });
    client(CLIENT, &setting, &["stopped_in_traffic"]);
    let [mut stopped, _other] = servers;
    stopped.ended();
}

#[test]
fn no_call_fails_where_one_of_two_proxies_stops() {
    let servers = [server(SERVER, &[]), server(SERVER, &[])];
    let proxies = servers.each_ref().map(|server| inbound(&app(server), "grpc"));
    let caller = outbound(&proxies.each_ref().map(|proxy| proxy.get("inbound")), "grpc", &[]);
    let setting = json!({ "target": target(&caller), "stop": [proxies[0].pid()] });
    client(CLIENT, &setting, &["stopped_in_traffic"]);
    let [mut stopped, _other] = proxies;
    stopped.ended();
}

#[test]
fn no_call_fails_where_the_server_ends_connections_by_their_age() {
    let words = ["grpc.max_connection_age_ms=100", "grpc.max_connection_age_grace_ms=10000"];
    let server = server(SERVER, &words);
    let callee = inbound(&app(&server), "grpc");
    let caller = outbound(&[callee.get("inbound")], "grpc", &["--retries", "0"]);
    client(CLIENT, &json!({ "target": target(&caller) }), &["aged_in_traffic"]);
    assert_eq!(callee.requests(&[]), callee.requests(&["grpc_response_status=\"0\""]));
}
