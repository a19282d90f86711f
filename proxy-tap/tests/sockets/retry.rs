//! What is sent again, where to, and how much of it.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use weir_model::limits;
use weir_proxy_tap::Config;
use weir_proxy_tap::config::RetryPolicy;

use crate::support::*;

/// One retry per request, and as many as the requests.
const ONCE: RetryPolicy = RetryPolicy { limit: 1, budget_pct: 100.0 };

/// Accepts, reads what comes first, and closes.
async fn breaking() -> std::net::SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    address
}

fn post(body: impl Into<Bytes>) -> http::Request<Reply> {
    request(Method::POST, "/pay").body(Full::new(body.into()).boxed()).unwrap()
}

#[tokio::test]
async fn an_idempotent_request_that_broke_off_is_sent_to_another_endpoint() {
    let good = App::always(200, "good").await;
    let proxy = start(Config { retry: ONCE, ..cart(&[breaking().await, good.address]) }).await;
    for _ in 0..10 {
        assert_eq!(get(to_payments(&proxy), "/").await.text(), "good");
    }
    assert_eq!(good.count(), 10);
}

#[tokio::test]
async fn a_post_that_broke_off_is_not_sent_again() {
    let good = App::always(200, "").await;
    let proxy = start(Config { retry: ONCE, ..cart(&[breaking().await, good.address]) }).await;
    let mut statuses = vec![];
    for _ in 0..4 {
        statuses.push(ask(to_payments(&proxy), post("x")).await.status);
    }
    assert_eq!((statuses, good.count()), (vec![502, 200, 502, 200], 2));
}

#[tokio::test]
async fn a_post_that_never_arrived_is_sent_again_with_its_body() {
    let good = App::start(|seen: Arc<Seen>| async move { answer(200, seen.body.clone()) }).await;
    let proxy = start(Config { retry: ONCE, ..cart(&[nobody().await, good.address]) }).await;
    for _ in 0..4 {
        assert_eq!(ask(to_payments(&proxy), post("coins")).await.text(), "coins");
    }
}

#[tokio::test]
async fn a_request_that_an_endpoint_declined_is_sent_to_another_with_its_body() {
    let declining = App::always(503, "").await;
    let good = App::start(|seen: Arc<Seen>| async move { answer(200, seen.body.clone()) }).await;
    let proxy = start(Config { retry: ONCE, ..cart(&[declining.address, good.address]) }).await;
    for _ in 0..4 {
        assert_eq!(ask(to_payments(&proxy), post("coins")).await.text(), "coins");
    }
    assert_eq!(&declining.seen()[0].body[..], b"coins");
    assert!(declining.count() >= 2, "round robin begins there");
}

#[tokio::test]
async fn a_grpc_call_that_is_unavailable_is_sent_to_another_endpoint() {
    let declining = App::start(|_| async {
        let mut response = answer(200, "");
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response.headers_mut().insert("grpc-status", "14".parse().unwrap());
        response
    })
    .await;
    let good = App::start(|seen: Arc<Seen>| async move { grpc_answer(&seen.body[5..], "0") }).await;
    let proxy = start(Config { retry: ONCE, ..cart(&[declining.address, good.address]) }).await;
    let answer = ask2(to_payments(&proxy), grpc("/a.B/C", b"hello")).await;
    assert_eq!(&answer.body[..], framed(b"hello"));
    assert_eq!((declining.count(), good.count()), (1, 1));
}

#[tokio::test]
async fn retries_stay_within_the_budget_and_the_last_answer_is_passed_on() {
    let apps = [App::always(503, "no").await, App::always(503, "no").await];
    let retry = RetryPolicy { limit: 2, budget_pct: 0.0 };
    let proxy = start(Config { retry, ..cart(&apps.each_ref().map(|app| app.address)) }).await;
    let started = Instant::now();
    let calls = 40;
    for _ in 0..calls {
        let answer = get(to_payments(&proxy), "/").await;
        assert_eq!((answer.status, answer.text()), (503, "no"));
    }
    // No share of the requests, and three a second.
    let retries = apps[0].count() + apps[1].count() - calls;
    let allowed = 3 + (3.0 * started.elapsed().as_secs_f64()) as usize;
    assert!((3..=allowed).contains(&retries), "{retries} retries, {allowed} allowed");
    assert!(metric(&proxy, "istio_requests_total", &["response_flags=\"URX\""]).await > 0.5);
}

#[tokio::test]
async fn a_request_is_sent_no_more_often_than_the_policy_says() {
    for limit in [0, 1, 2] {
        let app = App::always(503, "").await;
        let retry = RetryPolicy { limit, budget_pct: 100.0 };
        let proxy = start(Config { retry, ..cart(&[app.address]) }).await;
        assert_eq!(get(to_payments(&proxy), "/").await.status, 503);
        assert_eq!(app.count(), limit as usize + 1);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_sent_once() {
    for (size, sent) in [(limits::RETRY_BODY_BYTES, 2), (limits::RETRY_BODY_BYTES + 1, 1)] {
        let app = App::always(503, "").await;
        let proxy = start(Config { retry: ONCE, ..cart(&[app.address]) }).await;
        assert_eq!(ask(to_payments(&proxy), post(vec![1; size])).await.status, 503);
        assert_eq!(app.seen().iter().map(|seen| seen.body.len()).collect::<Vec<_>>(), vec![size; sent]);
    }
}

#[tokio::test]
async fn a_refusal_further_on_is_passed_on_as_it_is() {
    let app = App::start(|_| async {
        let mut response = answer(503, "");
        response.headers_mut().insert("x-weir-refused", "h-1-1; errors".parse().unwrap());
        response
    })
    .await;
    let proxy = start(Config { retry: ONCE, ..cart(&[app.address, app.address]) }).await;
    let answer = get(to_payments(&proxy), "/").await;
    assert_eq!((answer.status, answer.header("x-weir-refused")), (503, Some("h-1-1; errors")));
    assert_eq!(app.count(), 1);
}

/// An application that declines as soon as it has the head of a request, reads the body to its end, and only
/// then ends its answer.
async fn declining_early() -> std::net::SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        let mut answered = false;
        while !received.ends_with(b"0\r\n\r\n") {
            let mut part = [0; 4096];
            let n = stream.read(&mut part).await.unwrap();
            assert!(n > 0, "the request broke off: {}", String::from_utf8_lossy(&received));
            received.extend_from_slice(&part[..n]);
            if !answered && received.windows(4).any(|end| end == b"\r\n\r\n") {
                answered = true;
                stream.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\n").await.unwrap();
            }
        }
        stream.write_all(b"done").await.unwrap();
    });
    address
}

#[tokio::test]
async fn an_early_answer_that_is_not_retried_leaves_the_request_body_alone() {
    let policy = r#"
        [[service]]
        host = "payments"
        destination = { retry_budget = { percent = 0, min_per_second = 0 } }
    "#;
    let policy = toml::from_str(policy).unwrap();
    let proxy = start(Config { retry: ONCE, policy, ..cart(&[declining_early().await]) }).await;
    let (body, outgoing) = tokio::sync::mpsc::channel(4);
    let outgoing = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(outgoing));
    let data = |data| Ok(Frame::data(Bytes::from_static(data)));
    let sent = request(Method::POST, "/").header("host", "x").body(outgoing.boxed()).unwrap();
    let mut sender = http1(to_payments(&proxy)).await;
    body.send(data(b"first")).await.unwrap();
    let response = timeout(DEADLINE, sender.send_request(sent)).await.unwrap().unwrap();
    body.send(data(b"second")).await.unwrap();
    drop(body);
    let answer = Answer::of(response).await;
    assert_eq!((answer.status, answer.text()), (503, "done"));
}

/// What one endpoint declines and another makes good is a failure of the first all the same.
#[tokio::test]
async fn an_endpoint_that_declines_is_ejected_although_retries_hide_it() {
    let (bad, good) = (App::always(503, "not me").await, App::always(200, "fine").await);
    let config = Config { retry: ONCE, local_breaker: true, ..cart(&[bad.address, good.address]) };
    let proxy = start(config).await;
    for _ in 0..40 {
        assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    }
    // Five failures in a row eject it; then one may have gone to test it.
    assert!((5..=6).contains(&bad.count()), "{} requests went to who declines all", bad.count());
}
