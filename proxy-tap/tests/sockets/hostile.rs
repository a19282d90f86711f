//! Requests that two readers could understand differently, or that are sent to exhaust: refused, and nothing of
//! them reaches the application.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weir_proxy_tap::Config;
use weir_proxy_tap::config::Protocol;

use crate::support::*;

/// What comes back for these bytes until the connection ends.
async fn raw(address: std::net::SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A proxy that has refused already may not take the rest.
    let _ = stream.write_all(sent).await;
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the connection to end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let next = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for (name, sent, status) in [
        (
            "TE and CL",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "CL and TE",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "two lengths that agree",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
            400,
        ),
        (
            "two lengths that differ",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\n",
            400,
        ),
        ("a list of lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 0\r\n\r\n", 400),
        ("a signed length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +0\r\n\r\n", 400),
        ("a length in hexadecimal", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x0\r\n\r\n", 400),
        (
            "an endless length",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
            400,
        ),
        ("a space before the colon", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 0\r\n\r\n", 400),
        (
            "a tab before the colon",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding\t: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "an encoding behind a control character",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("another encoding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n", 501),
        (
            "two encodings",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "a list of encodings",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "an encoding in quotes",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "chunks in HTTP/1.0",
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("bare line feeds", "GET / HTTP/1.1\nhost: a\n\n", 400),
        ("one bare line feed", "GET / HTTP/1.1\r\nhost: a\nx-a: 1\r\n\r\n", 400),
        ("a bare carriage return", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\rx-b: 2\r\n\r\n", 400),
        ("a folded line", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n  2\r\n\r\n", 400),
        ("a folded first line", "GET / HTTP/1.1\r\n host: a\r\nhost: a\r\n\r\n", 400),
        ("a nul in a value", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\x002\r\n\r\n", 400),
        ("a nul in a name", "GET / HTTP/1.1\r\nhost: a\r\nx\x00a: 1\r\n\r\n", 400),
        ("a line without a colon", "GET / HTTP/1.1\r\nhost: a\r\nnonsense\r\n\r\n", 400),
        ("an empty name", "GET / HTTP/1.1\r\nhost: a\r\n: 1\r\n\r\n", 400),
        ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("a host that is none", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("a host with a path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        ("a later version", "GET / HTTP/1.9\r\nhost: a\r\n\r\n", 505),
        ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("a control character in the target", "GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("no method", " / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("no words", "\x16\x03nothing of the kind\r\n\r\n", 400),
    ] {
        let sent = format!("{sent}{next}");
        let answer = raw(proxy.inbound.unwrap(), sent.as_bytes()).await;
        assert_eq!(answer.split(' ').nth(1), Some(&*status.to_string()), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{name}: {answer}");
        assert_eq!(app.count(), 0, "{name}");
    }
}

#[tokio::test]
async fn chunks_that_are_none_end_the_connection_and_the_request() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    for (name, body) in [
        ("no digits", "x\r\nabc\r\n0\r\n\r\n"),
        ("a sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("a size beyond all measure", "fffffffffffffffff\r\nabc"),
        ("a bare line feed after the size", "3\nabc\r\n0\r\n\r\n"),
        ("a bare line feed after the data", "3\r\nabc\n0\r\n\r\n"),
        ("a carriage return in the extension", "3;a=\rb\r\nabc\r\n0\r\n\r\n"),
        ("data longer than said", "3\r\nabcd\r\n0\r\n\r\n"),
        ("a bare line feed in the trailers", "0\r\nx-a: 1\n\r\n\r\n"),
        ("an endless extension", &format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(5_000))),
    ] {
        let head = "POST /chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let next = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = raw(proxy.inbound.unwrap(), format!("{head}{body}{next}").as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{name}: {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{name}: {answer}");
        assert_eq!(app.count(), 0, "{name}: the application took it as a whole");
    }
}

#[tokio::test]
async fn extensions_of_chunks_go_no_further_and_trailers_only_where_they_may() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let sent = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                3;a=b;c=\"d e\"\r\nabc\r\n0;last\r\nx-sum: 1\r\ncontent-length: 9\r\nhost: b\r\n\r\n";
    let answer = raw(proxy.inbound.unwrap(), sent.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = &app.seen()[0];
    assert_eq!(&seen.body[..], b"abc");
    let trailers = seen.trailers.as_ref().unwrap();
    assert_eq!(trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
}

#[tokio::test]
async fn heads_beyond_their_bounds_are_refused() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let many = "x-a: 1\r\n".repeat(300);
    let large = format!("x-a: {}\r\n", "a".repeat(100_000));
    for headers in [many, large] {
        let sent = format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        let answer = raw(proxy.inbound.unwrap(), sent.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_order() {
    let app = App::start(|seen| async move { answer(200, seen.parts.uri.path().to_owned()) }).await;
    let proxy = start(payments(app.address)).await;
    let one = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let last = "GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let sent = format!("{}\r\n{}{last}", one("/1", "GET /x HTTP/1.1\r\n\r\n"), one("/2", ""));
    let answer = raw(proxy.inbound.unwrap(), sent.as_bytes()).await;
    let bodies: Vec<&str> = answer.split("\r\n\r\n").skip(1).map(|part| &part[..2]).collect();
    assert_eq!(bodies, ["/1", "/2", "/3"], "{answer}");
    assert_eq!(app.seen().iter().map(|seen| seen.parts.uri.path()).collect::<Vec<_>>(), ["/1", "/2", "/3"]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_ends_its_head_is_told_so_and_one_that_says_nothing_is_left() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let mut slow = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-a").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let mut silent = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_response_that_can_be_read_in_two_ways_is_not_passed_on() {
    for (name, response) in [
        (
            "TE and CL",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi"),
        ("bare line feeds", "HTTP/1.1 200 OK\ncontent-length: 2\n\nhi"),
        ("a folded line", "HTTP/1.1 200 OK\r\nx-a: 1\r\n 2\r\ncontent-length: 2\r\n\r\nhi"),
        ("another encoding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhi"),
        (
            "a protocol nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        ),
        ("no status", "HTTP/1.1 OK\r\n\r\n"),
    ] {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let proxy = start(payments(listener.local_addr().unwrap())).await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await.unwrap();
            stream.write_all(response.as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 1]).await;
        });
        let answer = get(proxy.inbound.unwrap(), "/").await;
        assert_eq!(answer.status, 502, "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_breaks_off_for_the_caller_too() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let proxy = start(payments(listener.local_addr().unwrap())).await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await.unwrap();
            stream.write_all(response.as_bytes()).await.unwrap();
        });
        let sent = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = raw(proxy.inbound.unwrap(), sent).await;
        assert!(answer.contains(" 200 ") && answer.contains("half"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "the end was made up: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_nothing_is_given_up() {
    let body = "x".repeat(64 << 20);
    let app = App::start(move |_| {
        let body = body.clone();
        async move { answer(200, body) }
    })
    .await;
    let proxy = start(payments(app.address)).await;
    let mut stream = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.readable().await.unwrap();
    // The endpoint's connection is let go of when the caller's stalls, not only when it ends.
    for _ in 0..100 {
        tokio::time::advance(Duration::from_secs(1)).await;
        if metric(&proxy, "istio_requests_total", &["response_flags=\"DC\""]).await > 0.0 {
            return;
        }
    }
    panic!("the stalled response was not given up");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_does_not_hold_the_answer_up_for_ever() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        for (framing, part) in [("content-length: 1000", "x"), ("transfer-encoding: chunked", "1\r\nx\r\n")] {
            let app = App::always(200, "").await;
            let proxy = start(Config { protocol, ..payments(app.address) }).await;
            let stream = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            write
                .write_all(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let trickle = tokio::spawn(async move {
                while write.write_all(part.as_bytes()).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            });
            let begun = tokio::time::Instant::now();
            let mut answer = Vec::new();
            let _ = read.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 504 "), "{framing}: {answer}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            assert_eq!(app.count(), 0);
            trickle.abort();
        }
    }
}

#[tokio::test]
async fn an_absolute_target_without_a_path_gets_one_and_one_with_a_user_is_refused() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let end = "HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for (target, status) in
        [("http://a?q=1", 200), ("http://a", 200), ("http://user@a/", 400), ("a:80", 400), ("*", 400)]
    {
        let answer = raw(proxy.inbound.unwrap(), format!("GET {target} {end}").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
    }
    let seen: Vec<_> = app.seen().iter().map(|seen| seen.parts.uri.to_string()).collect();
    assert_eq!(seen, ["/?q=1", "/"]);
}
