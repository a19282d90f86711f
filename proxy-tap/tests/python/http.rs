//! HTTP/1.1 as Python's clients and server speak it, the proxy as `HTTP_PROXY` and `HTTPS_PROXY`, and curl's HTTP/2.

use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{File, Mesh, app, client, inbound, outbound, server, target};
use crate::venv::run;

const CLIENT: &str = "http_client.py";
const SERVER: &str = "http_server.py";

/// An address that nobody listens on.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn setting(mesh: &Mesh) -> Value {
    json!({
        "target": mesh.target(),
        "inbound": mesh.inbound.get("inbound"),
        "proxy": mesh.outbound.get("http-proxy"),
        "app": app(&mesh.server),
        "nobody": nobody(),
    })
}

#[test]
fn requests_of_every_framing_pass() {
    let mesh = Mesh::new(SERVER, "http", &["--retries", "0"]);
    let cases = ["keep_alive", "chunked_upload", "downloads", "expect_continue", "pipelined_and_old"];
    client(CLIENT, &setting(&mesh), &cases);
    mesh.counted(20.0 + 2.0 + 10.0 + 1.0 + 3.0, &["response_flags=\"-\"", "request_protocol=\"http\""]);
}

#[test]
fn the_proxy_serves_clients_that_are_told_of_it() {
    let mesh = Mesh::new(SERVER, "http", &["--retries", "0"]);
    client(CLIENT, &setting(&mesh), &["http_proxy_with_urllib", "http_proxy_with_requests"]);
    mesh.inbound.counted(1.0 + 7.0, &[]);
    mesh.outbound.counted(1.0 + 7.0, &["destination_service=\"peer\""]);
    mesh.outbound.counted(1.0, &["response_code=\"503\"", "response_flags=\"UF\""]);
}

#[test]
fn connect_tunnels_https_and_counts_its_bytes() {
    let names = ["127.0.0.1".to_owned(), "tunnelled.test".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let cert = File::new("cert.pem", made.cert.pem().as_bytes());
    let key = File::new("key.pem", made.signing_key.serialize_pem().as_bytes());
    let server = server(SERVER, &[cert.path(), key.path()]);
    let caller = outbound(&[app(&server)], "http", &[]);
    let setting = json!({ "target": target(&caller), "proxy": caller.get("http-proxy"), "tls": app(&server),
        "cert": cert.path() });
    client(CLIENT, &setting, &["https_with_requests", "https_with_urllib"]);
    let counted = ["response_code=\"200\"", "response_flags=\"-\"", "request_protocol=\"http\""];
    caller.counted(3.0, &counted);
    caller.counted(2.0, &["destination_service=\"tunnelled.test\""]);
    assert!(caller.metric("istio_request_bytes_sum", &counted) > 6.0 * 300_000.0);
    assert!(caller.metric("istio_response_bytes_sum", &counted) > 7.0 * 100.0);
}

#[test]
fn connect_passes_ends_and_is_refused_elsewhere() {
    let mesh = Mesh::new(SERVER, "http", &[]);
    client(CLIENT, &setting(&mesh), &["tunnels", "refused_tunnels", "aborted_tunnel"]);
    mesh.outbound.counted(1.0, &["response_code=\"200\"", "response_flags=\"-\""]);
    mesh.outbound.counted(1.0, &["response_code=\"200\"", "response_flags=\"DC\""]);
    mesh.outbound.counted(2.0, &["response_code=\"503\"", "response_flags=\"UF\""]);
    mesh.counted(1.0, &["response_code=\"405\"", "response_flags=\"DPE\""]);
    mesh.outbound.counted(1.0, &["response_code=\"400\"", "response_flags=\"DPE\""]);
}

#[test]
fn curl_speaks_http2_without_asking() {
    let Ok(version) = Command::new("curl").arg("--version").output() else {
        return eprintln!("skipped: there is no curl");
    };
    if !String::from_utf8_lossy(&version.stdout).contains("HTTP2") {
        return eprintln!("skipped: curl was built without HTTP/2");
    }
    let server = server(SERVER, &[]);
    let callee = inbound(&app(&server), "http");
    let caller = outbound(&[callee.get("inbound")], "http", &[]);
    let url = format!("http://{}", target(&caller));
    let body = File::new("body", &[7; 200_000]);
    let curl = |words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--http2-prior-knowledge"]);
        run(curl.args(words))
    };
    let (body, written) = (format!("@{}", body.path()), "\n%{http_version} %{http_code}");
    let said = curl(&["--write-out", written, "--data-binary", &body, &format!("{url}/a?b")]);
    let (told, status) = said.split_once('\n').unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    let expected = (&json!("/a?b"), &json!(200_000), &json!("POST"));
    assert_eq!((&told["path"], &told["length"], &told["method"]), expected);
    assert_eq!(status, "2 200");
    assert_eq!(curl(&[&format!("{url}/bytes?chunked")]).len(), 300_000);
}
