//! HTTP/1.1 requests that go from proxy to proxy as HTTP/2, and those that cannot.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weir_proxy_tap::{Config, Running};

use crate::support::*;

/// Passes connections on, and notes how each begins.
struct Relay {
    address: SocketAddr,
    begun: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let relay = Self { address: listener.local_addr().unwrap(), begun: Arc::default() };
        let begun = Arc::clone(&relay.begun);
        tokio::spawn(async move {
            loop {
                let (mut down, _) = listener.accept().await.unwrap();
                let begun = Arc::clone(&begun);
                tokio::spawn(async move {
                    let mut first = [0; 4];
                    down.read_exact(&mut first).await.unwrap();
                    begun.lock().unwrap().push(String::from_utf8_lossy(&first).into_owned());
                    let mut up = TcpStream::connect(to).await.unwrap();
                    up.write_all(&first).await.unwrap();
                    let _ = copy_bidirectional(&mut down, &mut up).await;
                });
            }
        });
        relay
    }

    /// `PRI ` is HTTP/2.
    fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }
}

/// `cart`'s proxy, which upgrades, before whoever listens there.
async fn upgrading(to: SocketAddr) -> Running {
    let policy =
        "[[service]]\nhost = \"payments\"\ndestination = { connections = { http2_upgrade = true } }\n";
    start(Config { policy: toml::from_str(policy).unwrap(), ..cart(&[to]) }).await
}

#[tokio::test]
async fn requests_share_a_connection_of_http2_between_proxies_and_arrive_as_they_were() {
    let app = App::start(|seen: Arc<Seen>| async move { answer(200, seen.body.clone()) }).await;
    let receiving = start(payments(app.address)).await;
    let relay = Relay::start(receiving.inbound.unwrap()).await;
    let calling = upgrading(relay.address).await;
    assert_eq!(get(to_payments(&calling), "/first").await.status, 200);
    let asked: Vec<_> = (0..10)
        .map(|n| {
            let body = Full::new(Bytes::from(vec![n; 100_000])).boxed();
            let sent = request(Method::POST, "/pay?x=1").header("cookie", "a=1; b=2").body(body).unwrap();
            tokio::spawn(ask(to_payments(&calling), sent))
        })
        .collect();
    for (n, one) in asked.into_iter().enumerate() {
        let answer = one.await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &vec![n as u8; 100_000][..]));
    }
    assert_eq!(relay.begun(), ["PRI "]);
    let seen = app.seen().last().unwrap().clone();
    assert_eq!(seen.parts.version, http::Version::HTTP_11, "the application is spoken to as before");
    assert_eq!(seen.parts.uri.to_string(), "/pay?x=1");
    assert_eq!((seen.header("host"), seen.header("cookie")), (Some("payments"), Some("a=1; b=2")));
    let labels = ["source_canonical_service=\"cart\"", "response_code=\"200\""];
    assert!((metric(&receiving, "istio_requests_total", &labels).await - 11.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_request_to_change_the_protocol_takes_a_connection_of_http1() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let receiving = start(payments(listener.local_addr().unwrap())).await;
    let relay = Relay::start(receiving.inbound.unwrap()).await;
    let calling = upgrading(relay.address).await;
    let mut caller = TcpStream::connect(to_payments(&calling)).await.unwrap();
    let asked = "GET /chat HTTP/1.1\r\nhost: payments\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    caller.write_all(asked.as_bytes()).await.unwrap();
    let (mut app, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let head = until_blank_line(&mut app).await.to_lowercase();
    assert!(
        head.starts_with("get /chat http/1.1\r\n") && head.contains("\r\nupgrade: websocket\r\n"),
        "{head}"
    );
    let changed = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    app.write_all(changed.as_bytes()).await.unwrap();
    let answer = until_blank_line(&mut caller).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let mut word = [0; 4];
    caller.write_all(b"ping").await.unwrap();
    timeout(DEADLINE, app.read_exact(&mut word)).await.unwrap().unwrap();
    assert_eq!(&word, b"ping");
    app.write_all(b"pong").await.unwrap();
    timeout(DEADLINE, caller.read_exact(&mut word)).await.unwrap().unwrap();
    assert_eq!(&word, b"pong");
    assert_eq!(relay.begun(), ["GET "]);
}

/// What comes up to the end of a head.
async fn until_blank_line(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}
