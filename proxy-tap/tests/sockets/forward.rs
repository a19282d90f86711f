//! Requests and answers of each protocol pass as they are, both ways.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use weir_proxy_tap::config::Protocol;
use weir_proxy_tap::{Config, Running};

use crate::support::*;

/// `cart`'s proxy before `payments`' proxy before an application.
async fn two_proxies(app: &App, protocol: Protocol) -> (Running, Running) {
    let receiving = start(Config { protocol, ..payments(app.address) }).await;
    let calling = start(speaking(protocol, cart(&[receiving.inbound.unwrap()]))).await;
    (calling, receiving)
}

/// Whose endpoints speak `protocol`.
fn speaking(protocol: Protocol, mut config: Config) -> Config {
    config.endpoints.values_mut().flatten().for_each(|endpoint| endpoint.protocol = protocol);
    config
}

#[tokio::test]
async fn http1_passes_through_both_proxies_without_what_belongs_to_one_hop() {
    let app = App::start(|seen: Arc<Seen>| async move {
        let mut response = answer(201, seen.body.clone());
        response.headers_mut().insert("x-answer", "kept".parse().unwrap());
        response.headers_mut().insert("proxy-authenticate", "hop".parse().unwrap());
        response
    })
    .await;
    let (calling, _receiving) = two_proxies(&app, Protocol::Http).await;
    let sent = request(Method::POST, "/pay?amount=3")
        .header("x-kept", "1")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .body(Full::new(Bytes::from_static(b"three coins")).boxed())
        .unwrap();
    let answer = ask(to_payments(&calling), sent).await;
    assert_eq!((answer.status, answer.text()), (201, "three coins"));
    assert_eq!(answer.header("x-answer"), Some("kept"));
    assert_eq!(answer.header("proxy-authenticate"), None);
    let seen = &app.seen()[0];
    assert_eq!((&seen.parts.method, &*seen.parts.uri.to_string()), (&Method::POST, "/pay?amount=3"));
    assert_eq!((seen.header("host"), seen.header("x-kept")), (Some("payments"), Some("1")));
    for hop in ["x-hop", "keep-alive", "x-weir-peer"] {
        assert_eq!(seen.header(hop), None, "{hop}");
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_reaches_applications_of_either_protocol() {
    for (protocol, version) in
        [(Protocol::Http, http::Version::HTTP_11), (Protocol::Grpc, http::Version::HTTP_2)]
    {
        let app = App::start(|seen: Arc<Seen>| async move { answer(200, seen.body.clone()) }).await;
        let (calling, _receiving) = two_proxies(&app, protocol).await;
        let body = Full::new(Bytes::from_static(b"two")).boxed();
        let sent = request(Method::PUT, "http://anything/x?y=1").body(body).unwrap();
        let answer = ask2(to_payments(&calling), sent).await;
        assert_eq!((answer.status, answer.text()), (200, "two"));
        let seen = &app.seen()[0];
        assert_eq!(
            (seen.parts.version, seen.parts.uri.path_and_query().unwrap().as_str()),
            (version, "/x?y=1")
        );
    }
}

#[tokio::test]
async fn http1_callers_reach_applications_that_speak_http2() {
    let app = App::always(200, "hi").await;
    let (calling, _receiving) = two_proxies(&app, Protocol::Grpc).await;
    assert_eq!(get(to_payments(&calling), "/").await.text(), "hi");
    assert_eq!(app.seen()[0].parts.version, http::Version::HTTP_2);
}

#[tokio::test]
async fn a_grpc_call_passes_with_its_trailers_whatever_the_endpoints_protocol_says() {
    let app = App::start(|seen: Arc<Seen>| async move { grpc_answer(&seen.body[5..], "0") }).await;
    let (calling, _receiving) = two_proxies(&app, Protocol::Http).await;
    let answer = ask2(to_payments(&calling), grpc("/shop.Payments/Charge", b"message")).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &framed(b"message")[..]));
    assert_eq!(answer.trailers.as_ref().unwrap()["grpc-status"], "0");
    let seen = &app.seen()[0];
    assert_eq!((seen.header("te"), seen.parts.version), (Some("trailers"), http::Version::HTTP_2));
    assert_eq!(seen.parts.uri.path(), "/shop.Payments/Charge");
}

#[tokio::test]
async fn a_grpc_error_without_a_body_passes_and_is_counted_by_its_code() {
    let app = App::start(|_| async {
        let mut response = answer(200, "");
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response.headers_mut().insert("grpc-status", "5".parse().unwrap());
        response.headers_mut().insert("grpc-message", "no such order".parse().unwrap());
        response
    })
    .await;
    let (calling, _receiving) = two_proxies(&app, Protocol::Grpc).await;
    let answer = ask2(to_payments(&calling), grpc("/shop.Payments/Get", b"")).await;
    assert_eq!(
        (answer.header("grpc-status"), answer.header("grpc-message")),
        (Some("5"), Some("no such order"))
    );
    let labels = ["grpc_response_status=\"5\"", "request_protocol=\"grpc\"", "response_code=\"200\""];
    assert!((metric(&calling, "istio_requests_total", &labels).await - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn trailers_of_a_request_pass() {
    let app = App::always(200, "").await;
    let (calling, _receiving) = two_proxies(&app, Protocol::Grpc).await;
    let trailers = HeaderMap::from_iter([("x-checksum".parse().unwrap(), "42".parse().unwrap())]);
    let body = Full::new(Bytes::from_static(b"data")).with_trailers(std::future::ready(Some(Ok(trailers))));
    let sent = request(Method::POST, "http://payments/").body(body.boxed()).unwrap();
    assert_eq!(ask2(to_payments(&calling), sent).await.status, 200);
    let seen = &app.seen()[0];
    assert_eq!(&seen.body[..], b"data");
    assert_eq!(seen.trailers.as_ref().unwrap()["x-checksum"], "42");
}

#[tokio::test]
async fn bodies_larger_than_any_window_pass_both_ways() {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let app = App::start(|seen: Arc<Seen>| async move { answer(200, seen.body.clone()) }).await;
        let (calling, _receiving) = two_proxies(&app, protocol).await;
        let body: Bytes = (0..6_u32 << 20).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        let sent = request(Method::POST, "/").body(Full::new(body.clone()).boxed()).unwrap();
        let answer = ask(to_payments(&calling), sent).await;
        assert!(answer.body == body, "{} bytes of {}", answer.body.len(), body.len());
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_length_and_the_connection() {
    let app = App::start(|seen: Arc<Seen>| async move {
        match seen.parts.uri.path() {
            "/none" => answer(204, ""),
            _ => answer(200, "four"),
        }
    })
    .await;
    let (calling, _receiving) = two_proxies(&app, Protocol::Http).await;
    let mut sender = http1(to_payments(&calling)).await;
    for (method, path, status, length) in [
        (Method::HEAD, "/", 200, Some("4")),
        (Method::GET, "/none", 204, None),
        (Method::GET, "/", 200, Some("4")),
    ] {
        let sent = request(method, path).header("host", "x").body(empty()).unwrap();
        let answer = Answer::of(sender.send_request(sent).await.unwrap()).await;
        assert_eq!((answer.status, answer.header("content-length")), (status, length), "{path}");
    }
    assert_eq!((app.count(), app.accepted()), (3, 1));
}

#[tokio::test]
async fn connections_to_the_application_are_used_again() {
    let app = App::always(200, "ok").await;
    let proxy = start(cart(&[app.address])).await;
    for _ in 0..10 {
        assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    }
    assert_eq!((app.count(), app.accepted()), (10, 1));
}

#[tokio::test]
async fn a_connection_that_the_application_had_closed_is_replaced_for_any_method() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            // One answer a connection, which promises more and is closed.
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    let proxy = start(cart(&[address])).await;
    for _ in 0..20 {
        let sent = request(Method::POST, "/").body(empty()).unwrap();
        assert_eq!(ask(to_payments(&proxy), sent).await.status, 200);
    }
}

#[tokio::test]
async fn an_application_that_takes_too_long_is_answered_for_with_504() {
    let app = App::start(|_| std::future::pending()).await;
    let soon = Duration::from_millis(60);
    let receiving = start(Config { timeout: soon, ..payments(app.address) }).await;
    let calling = start(Config { timeout: soon, ..cart(&[app.address]) }).await;
    let inbound = get(receiving.inbound.unwrap(), "/").await;
    assert_eq!((inbound.status, inbound.text()), (504, "the application did not answer in time\n"));
    let outbound = get(to_payments(&calling), "/").await;
    assert_eq!((outbound.status, outbound.text()), (504, "`payments` did not answer in time\n"));
    let answer = ask2(to_payments(&calling), grpc("/a.B/C", b"")).await;
    // A gRPC caller reads the status of the call, which is DEADLINE_EXCEEDED.
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("4")));
    assert_eq!(answer.header("grpc-message"), Some("`payments` did not answer in time"));
    assert!((metric(&calling, "istio_requests_total", &["response_flags=\"UT\""]).await - 2.0).abs() < 1e-9);
}

/// What a proxy answers these bytes with, until it closes the connection.

#[tokio::test]
async fn a_caller_that_goes_away_is_told_from_a_failure_of_the_server() {
    let app = App::start(|_| std::future::pending()).await;
    let proxy = start(cart(&[app.address])).await;
    let mut sender = http1(to_payments(&proxy)).await;
    let sent = request(Method::GET, "/").header("host", "x").body(empty()).unwrap();
    let waiting = tokio::spawn(async move { sender.send_request(sent).await.map(drop) });
    until("the request", async || (app.count() == 1).then_some(())).await;
    waiting.abort();
    until("the cancelled call", async || {
        (metric(&proxy, "istio_requests_total", &["response_flags=\"DC\""]).await > 0.0).then_some(())
    })
    .await;
    let endpoints = json(&proxy, "/endpoints").await;
    assert_eq!(endpoints["endpoints"][0]["in_flight"], 0);
}

#[tokio::test]
async fn requests_in_flight_end_before_the_proxy_stops() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let app = App::start(move |_| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            answer(200, "late")
        }
    })
    .await;
    let proxy = start(cart(&[app.address])).await;
    let (address, admin) = (to_payments(&proxy), proxy.admin.unwrap());
    let waiting = tokio::spawn(async move { get(address, "/").await });
    until("the request", async || (app.count() == 1).then_some(())).await;
    assert_eq!(get(admin, "/readyz").await.status, 200);
    let stopping = tokio::spawn(proxy.shutdown());
    until("the drain", async || (get(admin, "/readyz").await.status == 503).then_some(())).await;
    until("the listener's end", async || TcpStream::connect(address).await.err()).await;
    assert_eq!(get(admin, "/healthz").await.status, 200, "it is alive until the end");
    gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().text(), "late");
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_is_cut_off_is_blamed_on_its_caller_whatever_the_endpoint_speaks() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let app = App::always(200, "").await;
        let proxy = start(speaking(protocol, cart(&[app.address]))).await;
        for cut in 1..=3 {
            let mut stream = TcpStream::connect(to_payments(&proxy)).await.unwrap();
            stream.write_all(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nfour").await.unwrap();
            stream.shutdown().await.unwrap();
            let blamed = async || {
                let cuts = metric(&proxy, "istio_requests_total", &["response_flags=\"DC\""]).await;
                (cuts > f64::from(cut) - 0.5).then_some(())
            };
            until("a call that is blamed on its caller", blamed).await;
        }
        let all = metric(&proxy, "istio_requests_total", &[]).await;
        assert!((all - 3.0).abs() < 1e-9, "{all} calls");
    }
}
