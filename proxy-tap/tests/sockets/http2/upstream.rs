//! Endpoints that answer early, oddly or not at all, over either protocol.

use bytes::Bytes;
use http::Method;
use http_body::Frame as BodyFrame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir_proxy_tap::config::{Protocol, RetryPolicy};
use weir_proxy_tap::{Config, Running};

use super::frames::*;
use crate::support::*;

/// A proxy before a server that answers each request, of which it knows the stream, with these frames.
async fn before(answer: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Running {
    let address = odd(answer).await;
    start(Config { protocol: Protocol::Http2, ..payments(address) }).await
}

async fn odd(answer: impl Fn(u32) -> Vec<u8> + Send + 'static) -> std::net::SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let mut raw = Raw::accept(&listener).await;
            while let Some(stream) = raw.find(|frame| (frame.kind == HEADERS).then_some(frame.stream)).await {
                raw.send(&answer(stream)).await;
            }
        }
    });
    address
}

/// A proxy before a server that answers each connection's requests with these bytes.
async fn before_http1(answer: &'static str) -> Running {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let proxy = start(payments(listener.local_addr().unwrap())).await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while stream.read(&mut [0; 4_096]).await.is_ok_and(|n| n > 0) {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    proxy
}

/// The same request over HTTP/1 and HTTP/2.
async fn each(proxy: &Running, method: Method) -> [Answer; 2] {
    let address = proxy.inbound.unwrap();
    let http1 = request(method.clone(), "/").body(empty()).unwrap();
    let http2 = request(method, "http://a/").body(empty()).unwrap();
    [ask(address, http1).await, ask2(address, http2).await]
}

/// What it is called, and the frames that say it on a stream.
type Said = (&'static str, fn(u32) -> Vec<u8>);

#[tokio::test]
async fn responses_that_are_malformed_are_not_passed_on() {
    let answers: [Said; 16] = [
        ("reset", |stream| rst(stream, INTERNAL_ERROR)),
        ("reset without an error", |stream| rst(stream, 0)),
        ("an uppercase name", |stream| headers(WHOLE, stream, &[(":status", "200"), ("X-A", "1")])),
        ("lines in a value", |stream| {
            headers(WHOLE, stream, &[(":status", "200"), ("x-a", "1\r\n\r\nHTTP/1.1 200")])
        }),
        ("a field of the connection", |stream| {
            headers(WHOLE, stream, &[(":status", "200"), ("connection", "close")])
        }),
        ("transfer-encoding", |stream| {
            headers(WHOLE, stream, &[(":status", "200"), ("transfer-encoding", "chunked")])
        }),
        ("no status", |stream| headers(WHOLE, stream, &[("x-a", "1")])),
        ("a status of four digits", |stream| headers(WHOLE, stream, &[(":status", "2000")])),
        ("two statuses", |stream| headers(WHOLE, stream, &[(":status", "200"), (":status", "500")])),
        ("a status after others", |stream| headers(WHOLE, stream, &[("x-a", "1"), (":status", "200")])),
        ("lengths that differ", |stream| {
            headers(
                END_HEADERS,
                stream,
                &[(":status", "200"), ("content-length", "1"), ("content-length", "2")],
            )
        }),
        ("a length of nothing", |stream| {
            headers(WHOLE, stream, &[(":status", "200"), ("content-length", "5")])
        }),
        ("a body before its head", |stream| frame(DATA, END_STREAM, stream, b"x")),
        ("a push", |stream| {
            frame(
                PUSH_PROMISE,
                END_HEADERS,
                stream,
                &[&[0, 0, 0, 2][..], &block(&asking("GET", "/", &[]))].concat(),
            )
        }),
        ("another stream", |stream| headers(WHOLE, stream + 2, &[(":status", "200")])),
        ("a head too large", |stream| {
            let long = "a".repeat(16_000);
            let part = block(&[("x-a", &long)]);
            let mut sent = frame(HEADERS, END_STREAM, stream, &block(&[(":status", "200")]));
            (0..5).for_each(|_| sent.extend(frame(CONTINUATION, NONE, stream, &part)));
            [sent, frame(CONTINUATION, END_HEADERS, stream, &[])].concat()
        }),
    ];
    for (name, answer) in answers {
        let proxy = before(answer).await;
        for answer in each(&proxy, Method::GET).await {
            assert_eq!(answer.status, 502, "{name}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn what_comes_before_a_response_goes_no_further() {
    let http2 = before(|stream| {
        let interim = |status| headers(END_HEADERS, stream, &[(":status", status), ("link", "</a>")]);
        let answer = headers(END_HEADERS, stream, &[(":status", "201"), ("x-a", "1")]);
        [interim("100"), interim("103"), interim("103"), answer, frame(DATA, END_STREAM, stream, b"ok")]
            .concat()
    })
    .await;
    let http1 = before_http1(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 201 Created\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    for proxy in [http2, http1] {
        for answer in each(&proxy, Method::GET).await {
            assert_eq!((answer.status, answer.text(), answer.header("x-a")), (201, "ok", Some("1")));
            assert_eq!(answer.header("link"), None);
        }
    }
}

#[tokio::test]
async fn responses_without_a_body_end_where_they_should() {
    for (method, status, length, expected) in [
        (Method::HEAD, "200", "4", Some("4")),
        (Method::GET, "304", "4", Some("4")),
        (Method::GET, "204", "0", None),
    ] {
        let fields = move || vec![(":status", status), ("content-length", length), ("etag", "\"a\"")];
        let http2 = before(move |stream| headers(WHOLE, stream, &fields())).await;
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\netag: \"a\"\r\n\r\n");
        let http1 = before_http1(text.leak()).await;
        for (upstream, proxy) in [("http2", http2), ("http1", http1)] {
            for _ in 0..2 {
                for (answer, caller) in each(&proxy, method.clone()).await.iter().zip(["http1", "http2"]) {
                    let name = format!("{method} {status}, {caller} to {upstream}");
                    assert_eq!(
                        (answer.status.to_string(), answer.header("etag")),
                        (status.into(), Some("\"a\"")),
                        "{name}"
                    );
                    assert_eq!(answer.header("content-length"), expected, "{name}");
                    assert!(answer.body.is_empty(), "{name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn bodies_that_are_not_as_long_as_said_break_off_for_callers_too() {
    let long: fn(u32) -> Vec<u8> = |stream| {
        let head = headers(END_HEADERS, stream, &[(":status", "200"), ("content-length", "4")]);
        [
            head,
            frame(DATA, NONE, stream, b"four"),
            frame(DATA, END_STREAM, stream, b"HTTP/1.1 200 OK\r\n\r\n"),
        ]
        .concat()
    };
    let short: fn(u32) -> Vec<u8> = |stream| {
        let head = headers(END_HEADERS, stream, &[(":status", "200"), ("content-length", "9")]);
        [head, frame(DATA, END_STREAM, stream, b"four")].concat()
    };
    let reset: fn(u32) -> Vec<u8> = |stream| {
        let head = headers(END_HEADERS, stream, &[(":status", "200")]);
        [head, frame(DATA, NONE, stream, b"four"), rst(stream, INTERNAL_ERROR)].concat()
    };
    for (name, answer, whole) in [("long", long, true), ("short", short, false), ("reset", reset, false)] {
        let proxy = before(answer).await;
        // What a caller reads: all of four bytes, or an error; never more.
        let mut sender = http1(proxy.inbound.unwrap()).await;
        let asked = request(Method::GET, "/").header("host", "a").body(empty()).unwrap();
        if let Ok(response) = sender.send_request(asked).await {
            let body = response.into_body().collect().await.map(|body| body.to_bytes());
            assert!(body.as_ref().map_or(true, |body| whole && body == "four"), "{name}: {body:?}");
        }
        let mut sender = http2(proxy.inbound.unwrap()).await;
        let asked = request(Method::GET, "http://a/").body(empty()).unwrap();
        if let Ok(response) = sender.send_request(asked).await {
            let body = response.into_body().collect().await.map(|body| body.to_bytes());
            assert!(body.as_ref().map_or(true, |body| whole && body == "four"), "{name}: {body:?}");
        }
    }
    // Over HTTP/1 what follows a body is no part of it, and of no other response either.
    let proxy = before_http1(
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfourHTTP/1.1 299 Forged\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    for _ in 0..3 {
        for answer in each(&proxy, Method::GET).await {
            assert_eq!((answer.status, answer.text()), (200, "four"));
        }
    }
}

/// A body that begins and does not end.
fn unfinished() -> Reply {
    let first = futures::stream::iter([Ok(BodyFrame::data(Bytes::from_static(b"begun")))]);
    StreamBody::new(futures::StreamExt::chain(first, futures::stream::pending())).boxed()
}

#[tokio::test]
async fn a_response_before_the_end_of_the_request_is_passed_on() {
    let http2 = before(|stream| {
        let answer = headers(END_HEADERS, stream, &[(":status", "413")]);
        [answer, frame(DATA, END_STREAM, stream, b"enough"), rst(stream, 0)].concat()
    })
    .await;
    let http1 = before_http1("HTTP/1.1 413 Content Too Large\r\ncontent-length: 6\r\n\r\nenough").await;
    for (upstream, proxy) in [("http2", http2), ("http1", http1)] {
        let asked = request(Method::POST, "http://a/").body(unfinished()).unwrap();
        let answer = ask2(proxy.inbound.unwrap(), asked).await;
        assert_eq!((answer.status, answer.text()), (413, "enough"), "http2 to {upstream}");
        let asked = request(Method::POST, "/").body(unfinished()).unwrap();
        let answer = ask(proxy.inbound.unwrap(), asked).await;
        assert_eq!((answer.status, answer.text()), (413, "enough"), "http1 to {upstream}");
    }
}

#[tokio::test]
async fn trailers_alone_are_a_whole_answer() {
    let proxy = before(|stream| {
        let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "7")];
        headers(WHOLE, stream, &fields)
    })
    .await;
    let answer = ask2(proxy.inbound.unwrap(), grpc("/a.B/C", b"x")).await;
    assert_eq!((answer.status, answer.header("grpc-status"), answer.body.len()), (200, Some("7"), 0));
}

/// A proxy whose first endpoint answers with these frames, and the second one.
async fn first(answer: impl Fn(u32) -> Vec<u8> + Send + 'static) -> (Running, App) {
    let (odd, good) = (odd(answer).await, App::always(200, "good").await);
    let retry = RetryPolicy { limit: 1, budget_pct: 100.0 };
    let mut config = Config { retry, ..cart(&[odd, good.address]) };
    config.endpoints.values_mut().flatten().for_each(|endpoint| endpoint.protocol = Protocol::Http2);
    (start(config).await, good)
}

fn post() -> http::Request<Reply> {
    request(Method::POST, "/").body(Full::new(Bytes::from_static(b"once")).boxed()).unwrap()
}

#[tokio::test]
async fn a_request_that_was_not_processed_is_sent_to_another_endpoint() {
    let unprocessed: [Said; 3] = [
        ("refused", |stream| rst(stream, REFUSED_STREAM)),
        ("gone away", |stream| goaway(stream - 1, 0)),
        ("gone away, for a reason", |stream| goaway(stream - 1, ENHANCE_YOUR_CALM)),
    ];
    for (name, answer) in unprocessed {
        let (proxy, good) = first(answer).await;
        for _ in 0..4 {
            let answer = ask(to_payments(&proxy), post()).await;
            assert_eq!((answer.status, answer.text()), (200, "good"), "{name}");
        }
        assert!(good.seen().iter().all(|seen| seen.body == "once"), "{name}");
        assert_eq!(good.count(), 4, "{name}");
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_not_sent_again() {
    let processed: [Said; 3] = [
        ("reset", |stream| rst(stream, INTERNAL_ERROR)),
        ("cancelled", |stream| rst(stream, CANCEL)),
        // Its last stream is this one, which it then does not answer.
        ("gone away after it", |stream| [goaway(stream, 0), rst(stream, INTERNAL_ERROR)].concat()),
    ];
    for (name, answer) in processed {
        let (proxy, good) = first(answer).await;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(ask(to_payments(&proxy), post()).await.status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 502, 502], "{name}");
        assert_eq!(good.count(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_after_its_answer_is_reached_anew() {
    let proxy =
        before(|stream| [headers(WHOLE, stream, &[(":status", "200")]), goaway(stream, 0)].concat()).await;
    for _ in 0..10 {
        assert_eq!(get(proxy.inbound.unwrap(), "/").await.status, 200);
    }
}

/// The last frame of data need not say that it is the last: an empty one may follow, or trailers.
#[tokio::test]
async fn an_end_that_comes_after_the_last_byte_makes_no_response_a_broken_one() {
    let said: [fn(u32) -> Vec<u8>; 2] = [
        |stream| frame(DATA, END_STREAM, stream, b""),
        |stream| headers(WHOLE, stream, &[("x-checksum", "1")]),
    ];
    for end in said {
        let proxy = before(move |stream| {
            let head = headers(END_HEADERS, stream, &[(":status", "200"), ("content-length", "5")]);
            [head, frame(DATA, NONE, stream, b"hello"), end(stream)].concat()
        })
        .await;
        for answer in each(&proxy, Method::GET).await {
            assert_eq!((answer.status, answer.text()), (200, "hello"));
        }
        until("both calls to be good ones", async || {
            let good = metric(&proxy, "istio_requests_total", &["response_flags=\"-\""]).await;
            (good > 1.5).then_some(())
        })
        .await;
    }
}

/// Which says that a server needs no more of the request (RFC 9113 section 8.1), and not that its response is whole.
#[tokio::test]
async fn a_reset_without_an_error_ends_no_body_that_has_not_ended() {
    let proxy = before(|stream| {
        let head = headers(END_HEADERS, stream, &[(":status", "200")]);
        [head, frame(DATA, NONE, stream, b"half"), rst(stream, 0)].concat()
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the end");
    assert!(!answer.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&answer));

    let listener = TcpListener::bind(any_port()).await.unwrap();
    let proxy = start(payments(listener.local_addr().unwrap())).await;
    let mut caller = Raw::connect(proxy.inbound.unwrap()).await;
    caller.send(&headers(END_HEADERS, 1, &asking("POST", "/", &[]))).await;
    caller.send(&frame(DATA, NONE, 1, b"half")).await;
    let (mut endpoint, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"half\r\n") {
        assert!(tokio::time::timeout(DEADLINE, endpoint.read_buf(&mut got)).await.unwrap().unwrap() > 0);
    }
    caller.send(&rst(1, 0)).await;
    let _ = tokio::time::timeout(DEADLINE, endpoint.read_to_end(&mut got)).await.expect("the end");
    assert!(got.ends_with(b"half\r\n"), "{}", String::from_utf8_lossy(&got));
}
