//! Callers that take or give a byte at a time, or none: bounded in memory, and given up in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use weir_proxy_tap::Config;
use weir_proxy_tap::config::Protocol;

use super::frames::*;
use crate::support::*;

/// Larger than what kernel and proxy can hold of a response.
const ENDLESS: usize = 256 << 20;
const HELD: usize = 32 << 20;

/// A server whose responses have no end, and how many bytes of them it got rid of.
async fn endless() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let (address, written) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counter = Arc::clone(&written);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4_096]).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ENDLESS}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).await;
                let part = vec![b'x'; 64 << 10];
                while let Ok(n) = stream.write(&part).await {
                    counter.fetch_add(n, Ordering::Relaxed);
                }
            });
        }
    });
    (address, written)
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_window_stays_closed_is_given_up_alone() {
    let (address, written) = endless().await;
    let proxy = start(payments(address)).await;
    let mut raw = Raw::with(proxy.inbound.unwrap(), &[(4, 1_000)]).await;
    raw.send(&asks(1, "/")).await;
    assert_eq!(raw.fate(1).await, Fate::Status(200));
    let begun = Instant::now();
    let limit = Duration::from_secs(300);
    let reset = |frame: &Frame| frame.is(RST_STREAM, 1).then_some(());
    let found = tokio::time::timeout(limit, raw.find(reset)).await.expect("the stream to be given up");
    assert_eq!(found, Some(()), "the connection lives");
    assert!((59..=70).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let written = written.load(Ordering::Relaxed);
    assert!(written < HELD, "{written} bytes were taken of the endpoint");
    assert!(metric(&proxy, "istio_requests_total", &["response_flags=\"DC\""]).await > 0.0);
    // The window of another stream is open.
    raw.send(&[settings(&[(4, 1 << 20)]), asks(3, "/")].concat()).await;
    let data = |frame: &Frame| frame.is(DATA, 3).then_some(());
    assert_eq!(raw.find(data).await, Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_its_time_is_not_given_up() {
    let body = "x".repeat(200_000);
    let app = App::start(move |_| {
        let body = body.clone();
        async move { answer(200, body) }
    })
    .await;
    let proxy = start(payments(app.address)).await;
    let mut raw = Raw::with(proxy.inbound.unwrap(), &[(4, 0)]).await;
    raw.send(&asks(1, "/")).await;
    let piece = |frame: &Frame| match frame.kind {
        DATA => Some((frame.payload.len(), frame.flags & END_STREAM != 0)),
        RST_STREAM | GOAWAY => panic!("given up"),
        _ => None,
    };
    let (mut received, mut ended) = (0, false);
    while !ended {
        // Forty seconds of nothing before each piece.
        match tokio::time::timeout(Duration::from_secs(40), raw.find(piece)).await {
            Ok(piece) => {
                let (length, last) = piece.expect("the connection to last");
                (received, ended) = (received + length, last);
            }
            Err(_) => raw.send(&[window(0, 20_000), window(1, 20_000)].concat()).await,
        }
    }
    assert_eq!(received, 200_000);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_nothing_to_say_for_long_is_not_a_stalled_caller() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let proxy = start(payments(listener.local_addr().unwrap())).await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4_096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await.unwrap();
        sleep(Duration::from_secs(300)).await;
        stream.write_all(b"b").await.unwrap();
    });
    let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
    raw.send(&asks(1, "/")).await;
    let end = |frame: &Frame| match frame.kind {
        DATA if frame.flags & END_STREAM != 0 => Some(frame.payload.clone()),
        RST_STREAM | GOAWAY => Some(b"given up".to_vec()),
        _ => None,
    };
    assert_eq!(raw.find(end).await.as_deref(), Some(&b"b"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_does_not_hold_the_answer_up_for_ever() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let app = App::always(200, "").await;
        let proxy = start(Config { protocol, ..payments(app.address) }).await;
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        raw.send(&headers(END_HEADERS, 1, &asking("POST", "/", &[("content-length", "1000")]))).await;
        let begun = Instant::now();
        let fate = loop {
            raw.send(&frame(DATA, NONE, 1, b"x")).await;
            let waiting = raw.fate_within(Duration::from_secs(60), 1);
            if let Ok(fate) = tokio::time::timeout(Duration::from_millis(300), waiting).await {
                break fate;
            }
        };
        assert_eq!(fate, Fate::Status(504));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(app.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_begin_and_say_no_more_are_left() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let begun = block(&asking("GET", "/", &[]));
    for (name, sent) in [
        ("half a preface", PREFACE[..10].to_vec()),
        ("a preface", PREFACE.to_vec()),
        ("half a frame", [PREFACE, &settings(&[]), &asks(1, "/")[..20]].concat()),
        ("half a header block", [PREFACE, &settings(&[]), &frame(HEADERS, END_STREAM, 1, &begun)].concat()),
    ] {
        let mut raw = Raw::silent(proxy.inbound.unwrap()).await;
        raw.send(&sent).await;
        let ended = async { while raw.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(120), ended).await.expect(name);
    }
    assert_eq!(app.count(), 0);
}
