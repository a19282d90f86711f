//! Ways in that are not a listener per service, and protocols that are not HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weir_model::{Clock, UnixNanos};
use weir_proxy_tap::Config;
use weir_proxy_tap::config::{Protocol, UnknownHosts};

use crate::support::*;

/// Speaks first, then says back what it is told, a word ahead.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.write_all(b"hello ").await;
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
                let _ = stream.write_all(&all).await;
            });
        }
    });
    address
}

async fn say(address: SocketAddr, words: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(words).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

/// As `say`, without ending the own half first.
async fn talk(address: SocketAddr, words: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(words).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn bytes_pass_both_ways_through_both_proxies_and_are_counted() {
    let app = echo().await;
    let receiving = start(Config { protocol: Protocol::Tcp, ..payments(app) }).await;
    let mut config = cart(&[receiving.inbound.unwrap()]);
    config.endpoints.values_mut().flatten().for_each(|one| one.protocol = Protocol::Tcp);
    let calling = start(config).await;
    let mut stream = TcpStream::connect(to_payments(&calling)).await.unwrap();
    let mut first = [0; 6];
    timeout(DEADLINE, stream.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"hello ", "the server speaks first");
    stream.write_all(b"GET /nothing of the kind\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "GET /nothing of the kind\r\n\r\n");
    for proxy in [&calling, &receiving] {
        let counted = async |name: &str| metric(proxy, name, &["request_protocol=\"tcp\""]).await;
        until("the connection to be counted", async || {
            (counted("istio_tcp_connections_closed_total").await >= 1.0).then_some(())
        })
        .await;
        assert!((counted("istio_tcp_connections_opened_total").await - 1.0).abs() < 1e-9);
        assert!((counted("istio_tcp_received_bytes_total").await - 28.0).abs() < 1e-9);
        assert!((counted("istio_tcp_sent_bytes_total").await - 34.0).abs() < 1e-9);
    }
}

#[tokio::test]
async fn a_connection_goes_to_another_endpoint_where_one_is_down() {
    let mut config = cart(&[nobody().await, echo().await]);
    config.endpoints.values_mut().flatten().for_each(|one| one.protocol = Protocol::Tcp);
    let proxy = start(config).await;
    for _ in 0..4 {
        assert_eq!(say(to_payments(&proxy), b"world").await, "hello world");
    }
}

#[tokio::test]
async fn a_proxy_header_says_who_calls_and_connections_without_one_are_closed() {
    let app = App::always(200, "ok").await;
    let proxy = start(Config { accept_proxy_header: true, ..payments(app.address) }).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let with = format!("PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n{request}");
    assert!(talk(proxy.inbound.unwrap(), with.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let mut v2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x67\x00\x50".to_vec();
    v2.extend_from_slice(request.as_bytes());
    assert!(talk(proxy.inbound.unwrap(), &v2).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(talk(proxy.inbound.unwrap(), request.as_bytes()).await, "");
    assert_eq!(app.count(), 2);
}

#[tokio::test]
async fn a_client_that_names_its_host_reaches_services_and_hosts_outside() {
    let (app, outside) = (App::always(200, "mesh").await, App::always(200, "outside").await);
    let config = Config { http_proxy: Some(any_port()), outbound: vec![], ..cart(&[app.address]) };
    let proxy = start(config.clone()).await;
    let at = proxy.http_proxy.unwrap();
    let absolute =
        |target: String| request(Method::GET, &target).header("host", "ignored").body(empty()).unwrap();
    assert_eq!(ask(at, absolute("http://payments/x".into())).await.text(), "mesh");
    assert_eq!(app.seen()[0].parts.uri.path(), "/x");
    let by_header = request(Method::GET, "/y").header("host", "payments").body(empty()).unwrap();
    assert_eq!(ask(at, by_header).await.text(), "mesh");
    assert_eq!(ask(at, absolute(format!("http://{}/z", outside.address))).await.text(), "outside");
    assert_eq!(outside.seen()[0].header("host"), Some(&*outside.address.to_string()));
    assert_eq!(outside.seen()[0].header("x-weir-peer"), None, "who calls is not the world's to know");
    let secure = ask(at, absolute(format!("https://{}/z", outside.address))).await;
    assert_eq!((secure.status, secure.text()), (400, "https is asked for by CONNECT\n"));
    let strict = start(Config { unknown_hosts: UnknownHosts::Deny, ..config }).await;
    let refused = ask(strict.http_proxy.unwrap(), absolute(format!("http://{}/z", outside.address))).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(outside.count(), 1);
}

#[tokio::test]
async fn a_request_that_leads_back_to_the_proxy_ends_there() {
    let proxy = start(Config { http_proxy: Some(any_port()), outbound: vec![], ..cart(&[]) }).await;
    let at = proxy.http_proxy.unwrap();
    for host in [at.to_string(), format!("localhost:{}", at.port())] {
        let asked = request(Method::GET, "/healthz").header("host", host).body(empty()).unwrap();
        assert_eq!(ask(at, asked).await.status, 508);
    }
    assert!(metric(&proxy, "weir_proxy_connections_accepted_total", &["http-proxy"]).await < 4.5);

    let own = nobody().await;
    let config = Config { inbound: Some(own), ..payments(own) };
    let refused =
        weir_proxy_tap::start(config, Clock::new(|| UnixNanos(1)), 7).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("--app {own} is where the proxy listens (--inbound)")), "{refused}");
}

/// Its name may be known outside as well, and whoever has it there is somebody else.
#[tokio::test]
async fn a_service_of_the_mesh_without_endpoints_is_looked_for_nowhere_else() {
    let outside = App::always(200, "outside").await;
    let name = format!("localhost:{}", outside.address.port());
    let endpoints = [("localhost".to_owned(), vec![])].into();
    let proxy =
        start(Config { http_proxy: Some(any_port()), outbound: vec![], endpoints, ..cart(&[]) }).await;
    let asked = request(Method::GET, &format!("http://{name}/")).header("host", "x").body(empty()).unwrap();
    let answer = ask(proxy.http_proxy.unwrap(), asked).await;
    assert_eq!((answer.status, outside.count()), (503, 0), "{}", answer.text());
    assert!(answer.text().contains("`localhost` has no endpoint"), "{}", answer.text());
}

#[tokio::test]
async fn two_proxies_prove_who_they_are_and_nobody_comes_in_without() {
    let authority = Authority::new();
    for protocol in [Protocol::Http, Protocol::Http2, Protocol::Tcp] {
        let app = App::start(|seen: Arc<Seen>| async move { answer(200, seen.body.clone()) }).await;
        let words = echo().await;
        let behind = if protocol == Protocol::Tcp { words } else { app.address };
        let identity = tls(authority.identity("payments"));
        let receiving = start(Config { tls: identity, protocol, ..payments(behind) }).await;
        let mut config = cart(&[receiving.inbound.unwrap()]);
        config.endpoints.values_mut().flatten().for_each(|one| one.protocol = protocol);
        let calling = start(Config { tls: tls(authority.identity("cart")), ..config }).await;
        if protocol == Protocol::Tcp {
            assert_eq!(say(to_payments(&calling), b"world").await, "hello world");
        } else {
            let body = Full::new(Bytes::from(vec![7; 300_000])).boxed();
            let sent = request(Method::POST, "/").body(body).unwrap();
            let answer = ask(to_payments(&calling), sent).await;
            assert_eq!((answer.status, answer.body.len()), (200, 300_000));
            let labels = ["reporter=\"destination\"", "connection_security_policy=\"mutual_tls\""];
            assert!((metric(&receiving, "istio_requests_total", &labels).await - 1.0).abs() < 1e-9);
        }
        // Plaintext gets nothing, not even an answer that tells what is behind.
        let answer = say(receiving.inbound.unwrap(), b"GET / HTTP/1.1\r\nhost: payments\r\n\r\n").await;
        assert_eq!(answer, "");
        assert!((metric(&receiving, "weir_proxy_tls_errors_total", &["inbound"]).await - 1.0).abs() < 1e-9);
    }
}

#[tokio::test]
async fn a_wrong_name_and_a_foreign_authority_are_refused() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let app = App::always(200, "").await;
    for (receiver, caller) in [
        (authority.identity("somebody"), authority.identity("cart")),
        (authority.identity("payments"), foreign.identity("cart")),
    ] {
        let receiving = start(Config { tls: tls(receiver), ..payments(app.address) }).await;
        let calling = start(Config { tls: tls(caller), ..cart(&[receiving.inbound.unwrap()]) }).await;
        let answer = get(to_payments(&calling), "/").await;
        assert!(matches!(answer.status, 502 | 503), "{} {}", answer.status, answer.text());
        assert_eq!(app.count(), 0);
        until("the failure to be counted", async || {
            (metric(&receiving, "weir_proxy_tls_errors_total", &["inbound"]).await > 0.5).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn several_workers_serve_one_address_and_drain_together() {
    let app = App::always(200, "").await;
    let proxy = start(Config { workers: 3, ..cart(&[app.address]) }).await;
    let address = to_payments(&proxy);
    let asked: Vec<_> = (0..40).map(|_| tokio::spawn(get(address, "/"))).collect();
    for one in asked {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!(app.count(), 40);
    timeout(DEADLINE, proxy.shutdown()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_endpoint_is_told_of_the_caller_by_a_proxy_header() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let policy = r#"
        [[service]]
        host = "payments"
        destination = { proxy_protocol = "v1" }
    "#;
    let mut config = cart(&[listener.local_addr().unwrap()]);
    config.endpoints.values_mut().flatten().for_each(|one| one.protocol = Protocol::Tcp);
    let proxy = start(Config { policy: toml::from_str(policy).unwrap(), ..config }).await;
    let mut stream = TcpStream::connect(to_payments(&proxy)).await.unwrap();
    stream.write_all(b"words").await.unwrap();
    stream.shutdown().await.unwrap();
    let (mut received, _) = listener.accept().await.unwrap();
    let mut all = String::new();
    timeout(DEADLINE, received.read_to_string(&mut all)).await.unwrap().unwrap();
    let port = stream.local_addr().unwrap().port();
    assert!(all.starts_with(&format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} ")), "{all}");
    assert!(all.ends_with("\r\nwords"), "{all}");
}

#[tokio::test]
async fn more_requests_than_may_wait_for_a_connection_are_refused() {
    let authority = Authority::new();
    // It takes connections and never ends a handshake.
    let silent = TcpListener::bind(any_port()).await.unwrap();
    let policy = r#"
        [[service]]
        host = "payments"
        destination = { connections = { max_pending = 1 } }
    "#;
    let policy = toml::from_str(policy).unwrap();
    let config = cart(&[silent.local_addr().unwrap()]);
    let proxy = start(Config { tls: tls(authority.identity("cart")), policy, ..config }).await;
    let first = tokio::spawn(get(to_payments(&proxy), "/"));
    let _held = timeout(DEADLINE, silent.accept()).await.unwrap().unwrap();
    let refused = get(to_payments(&proxy), "/").await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("x-weir-refused").unwrap().contains("max_pending"), "{refused:?}");
    assert!((metric(&proxy, "weir_proxy_requests_over_limit_total", &["payments"]).await - 1.0).abs() < 1e-9);
    first.abort();
}

#[tokio::test]
async fn hosts_outside_make_room_for_each_other() {
    let outside = App::always(200, "outside").await;
    let config = Config { http_proxy: Some(any_port()), outbound: vec![], ..cart(&[]) };
    let proxy = start(config).await;
    let mut sender = http1(proxy.http_proxy.unwrap()).await;
    // One more than there is room for; nobody listens at any of them.
    for i in 0..=weir_model::limits::PROXY_SERVICES {
        let target = format!("http://127.1.{}.{}:1/", i / 250, i % 250 + 1);
        let sent = request(Method::GET, &target).header("host", "x").body(empty()).unwrap();
        let answer = Answer::of(sender.send_request(sent).await.unwrap()).await;
        assert!(answer.text().contains("cannot connect"), "{i}: {}", answer.text());
    }
    let target = format!("http://{}/", outside.address);
    let sent = request(Method::GET, &target).header("host", "x").body(empty()).unwrap();
    assert_eq!(Answer::of(sender.send_request(sent).await.unwrap()).await.text(), "outside");
}
