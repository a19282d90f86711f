//! Endpoints that go, with real connections.

use std::sync::atomic::AtomicUsize;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::body::RequestBody;
use crate::forward::Head;

/// Answers one request of each connection, and counts those that are open.
async fn server(open: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let open = Arc::clone(&open);
            open.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    address
}

#[tokio::test]
async fn connections_to_endpoints_that_are_gone_are_closed_some_at_a_time() {
    const ALL: usize = 200;
    let open = Arc::new(AtomicUsize::new(0));
    let address = server(Arc::clone(&open)).await;
    let told = |n| policy::Endpoint {
        instance: format!("next-{n}"),
        address: address.clone(),
        ..policy::Endpoint::default()
    };
    let upstream = Upstream::alone("next", (0..ALL).map(told).collect());
    let head = Head {
        method: Method::GET,
        target: PathAndQuery::from_static("/"),
        authority: HeaderValue::from_static("next"),
        headers: HeaderMap::new(),
        upgrade: None,
    };
    for endpoint in upstream.endpoints().iter() {
        let sent = endpoint.pool.send(Protocol::Http, &head, RequestBody::Empty, None).await;
        assert_eq!(sent.unwrap().status(), 204);
    }
    let count = async |expected: usize| {
        for _ in 0..400 {
            if open.load(Ordering::SeqCst) == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(open.load(Ordering::SeqCst), expected);
    };
    count(ALL).await;

    let kept = told(0);
    upstream.set(vec![kept]);
    assert_eq!(open.load(Ordering::SeqCst), ALL);
    upstream.part();
    count(ALL - PARTED).await;
    for _ in 0..ALL / PARTED {
        upstream.part();
    }
    count(1).await;
    assert!(upstream.gone.lock().unwrap().is_empty());
}
