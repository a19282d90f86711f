//! Requests that HTTP/2 can say and HTTP/1 cannot, or would say differently: none reaches an application, whichever
//! of the two it speaks.

use bytes::Bytes;
use weir_proxy_tap::config::Protocol;
use weir_proxy_tap::{Config, Running};

use super::frames::*;
use crate::support::*;

/// An application, and a proxy before it for each of the protocols that it speaks.
async fn both() -> (App, [Running; 2]) {
    let app = App::always(200, "").await;
    let http1 = start(payments(app.address)).await;
    let http2 = start(Config { protocol: Protocol::Http2, ..payments(app.address) }).await;
    (app, [http1, http2])
}

/// Refused: by a status, or as malformed.
fn is_refusal(fate: Fate) -> bool {
    matches!(fate, Fate::Status(400 | 405 | 431) | Fate::Reset(PROTOCOL_ERROR) | Fate::GoAway(PROTOCOL_ERROR))
}

#[tokio::test]
async fn requests_that_are_malformed_are_refused() {
    let (app, proxies) = both().await;
    let with = |more: &'static [(&'static str, &'static str)]| asking("GET", "/", more);
    let at = |path| asking("GET", path, &[]);
    let (method, scheme, authority, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"));
    for (name, fields) in [
        // RFC 9113 section 8.2.1, and h2spec 8.1.2.
        ("an uppercase name", with(&[("X-A", "1")])),
        ("a space in a name", with(&[("x a", "1")])),
        ("a space after a name", with(&[("content-length ", "5")])),
        ("a colon in a name", with(&[("x:a", "1")])),
        ("a line in a name", with(&[("x: 1\r\ny", "1")])),
        ("an empty name", with(&[("", "1")])),
        ("CR LF in a value", with(&[("x-a", "1\r\nx-b: 2")])),
        ("a request in a value", with(&[("x-a", "1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")])),
        ("LF in a value", with(&[("x-a", "1\nx-b: 2")])),
        ("CR in a value", with(&[("x-a", "1\rx-b: 2")])),
        ("NUL in a value", with(&[("x-a", "1\0")])),
        ("DEL in a value", with(&[("x-a", "1\x7f")])),
        ("a space before a value", with(&[("x-a", " 1")])),
        ("a space after a value", with(&[("x-a", "1 ")])),
        ("a tab after a value", with(&[("x-a", "1\t")])),
        // Section 8.2.2.
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("transfer-encoding of nothing", with(&[("transfer-encoding", "identity")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te other than trailers", with(&[("te", "gzip")])),
        ("te with trailers and more", with(&[("te", "trailers, deflate")])),
        // Section 8.3.
        ("an unknown pseudo-header", with(&[(":unknown", "1")])),
        ("a pseudo-header of responses", with(&[(":status", "200")])),
        ("a pseudo-header after others", vec![method, scheme, authority, ("x-a", "1"), path]),
        ("two methods", vec![method, ("\u{3a}method", "POST"), scheme, authority, path]),
        ("two schemes", vec![method, scheme, (":scheme", "https"), authority, path]),
        ("two authorities", vec![method, scheme, authority, (":authority", "b"), path]),
        ("two paths", vec![method, scheme, authority, path, (":path", "/b")]),
        ("no method", vec![scheme, authority, path]),
        ("no scheme", vec![method, authority, path]),
        ("no path", vec![method, scheme, authority]),
        ("neither path nor authority", vec![method, scheme, ("host", "a")]),
        ("neither authority nor host", vec![method, scheme, path]),
        ("an empty authority", vec![method, scheme, (":authority", ""), path]),
        ("a protocol without CONNECT", with(&[(":protocol", "websocket")])),
        ("a method with a space", asking("GET /smuggled HTTP/1.1", "/", &[])),
        ("a method with lines", asking("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET", "/", &[])),
        ("an empty method", asking("", "/", &[])),
        ("a scheme with a host", vec![method, (":scheme", "http://b/"), authority, path]),
        ("an empty path", at("")),
        ("a path with a space", at("/ HTTP/1.1")),
        ("a path with lines", at("/ HTTP/1.1\r\nhost: a\r\n\r\nGET /smuggled")),
        ("a path with a tab", at("/\tb")),
        ("a path with NUL", at("/\0")),
        ("a path without a slash", at("b")),
        ("a path with a host", at("http://b/")),
        ("a query alone", at("?q")),
        ("an asterisk with GET", at("*")),
        ("an asterisk and more", asking("OPTIONS", "*b", &[])),
        ("a host that is another", with(&[("host", "b")])),
        ("two hosts", with(&[("host", "a"), ("host", "a")])),
        ("a host with a space", vec![method, scheme, path, ("host", "a b")]),
        ("a host with a path", vec![method, scheme, path, ("host", "a/b")]),
        ("an authority with a user", vec![method, scheme, (":authority", "u@a"), path]),
        ("an authority with a path", vec![method, scheme, (":authority", "a/b"), path]),
        ("an authority with a space", vec![method, scheme, (":authority", "a b"), path]),
        ("an authority with lines", vec![method, scheme, (":authority", "a\r\nx-b: 1"), path]),
        // Section 8.1.1.
        ("a length of nothing", with(&[("content-length", "5")])),
        ("a signed length", with(&[("content-length", "+0")])),
        ("a negative length", with(&[("content-length", "-1")])),
        ("a length that is none", with(&[("content-length", "0x0")])),
        ("a list of lengths", with(&[("content-length", "0, 0")])),
        ("two lengths that agree", with(&[("content-length", "0"), ("content-length", "0")])),
        ("two lengths that differ", with(&[("content-length", "0"), ("content-length", "5")])),
        ("an endless length", with(&[("content-length", "99999999999999999999999")])),
    ] {
        for proxy in &proxies {
            let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
            raw.send(&headers(WHOLE, 1, &fields)).await;
            let fate = raw.fate(1).await;
            assert!(is_refusal(fate), "{name}: {fate:?}");
            assert_eq!(app.count(), 0, "{name}");
        }
    }
    for proxy in &proxies {
        assert_eq!(get(proxy.inbound.unwrap(), "/").await.status, 200);
    }
}

#[tokio::test]
async fn bodies_that_are_not_as_long_as_they_say_are_refused() {
    let (app, proxies) = both().await;
    let smuggled = b"POST /smuggled HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let long = smuggled.len().to_string();
    for (name, length, parts) in [
        ("longer", "3", vec![&b"abcde"[..]]),
        ("longer in another frame", "3", vec![b"ab", b"cd"]),
        ("none, and a request", "0", vec![smuggled]),
        ("a little, and a request", "3", vec![b"ab", smuggled]),
        ("shorter", "5", vec![b"abc"]),
        ("shorter than a request", &*long, vec![b"abc"]),
        ("missing", "5", vec![b""]),
    ] {
        for proxy in &proxies {
            let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
            let length = [("content-length", length)];
            let fields = asking("POST", "/", &length);
            let mut sent = headers(END_HEADERS, 1, &fields);
            for (i, part) in parts.iter().enumerate() {
                let flags = if i + 1 == parts.len() { END_STREAM } else { NONE };
                sent.extend(frame(DATA, flags, 1, part));
            }
            raw.send(&sent).await;
            let fate = raw.fate(1).await;
            assert!(is_refusal(fate), "{name}: {fate:?}");
            assert_eq!(app.count(), 0, "{name}");
        }
    }
    // All of it came, and then more: what was said has been passed on, what was not has not.
    for proxy in &proxies {
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        raw.send(&headers(END_HEADERS, 1, &asking("POST", "/three", &[("content-length", "3")]))).await;
        raw.send(&[frame(DATA, NONE, 1, b"abc"), frame(DATA, END_STREAM, 1, smuggled)].concat()).await;
        let _ = raw.fate(1).await;
        assert_eq!(get(proxy.inbound.unwrap(), "/").await.status, 200);
    }
    for seen in app.seen() {
        assert!(["/", "/three"].contains(&seen.parts.uri.path()), "{seen:?}");
        assert!(seen.body.len() <= 3, "{seen:?}");
    }
}

#[tokio::test]
async fn trailers_that_are_none_end_the_request() {
    let (app, proxies) = both().await;
    for (name, trailers) in [
        ("an uppercase name", ("X-A", "1")),
        ("a space in a name", ("x a", "1")),
        ("a field of the connection", ("transfer-encoding", "chunked")),
        ("lines in a value", ("x-a", "1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")),
    ] {
        for proxy in &proxies {
            let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
            raw.send(&headers(END_HEADERS, 1, &asking("POST", "/", &[]))).await;
            raw.send(&[frame(DATA, NONE, 1, b"abc"), headers(WHOLE, 1, &[trailers])].concat()).await;
            let fate = raw.fate(1).await;
            assert!(is_refusal(fate), "{name}: {fate:?}");
            assert_eq!(app.count(), 0, "{name}");
        }
    }
}

#[tokio::test]
async fn trailers_go_on_without_what_may_not_follow_a_body() {
    let (app, proxies) = both().await;
    for proxy in &proxies {
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        raw.send(&headers(END_HEADERS, 1, &asking("POST", "/", &[]))).await;
        // A pseudo-header before all others is dropped by hyper's h2; anywhere else the trailers are malformed.
        let trailers = [
            (":path", "/b"),
            ("x-sum", "1"),
            ("content-length", "9"),
            ("host", "b"),
            ("authorization", "c"),
            ("cookie", "d=e"),
        ];
        raw.send(&[frame(DATA, NONE, 1, b"abc"), headers(WHOLE, 1, &trailers)].concat()).await;
        assert_eq!(raw.fate(1).await, Fate::Status(200));
    }
    for seen in app.seen() {
        let trailers = seen.trailers.as_ref().unwrap();
        assert_eq!(trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
    }
    assert_eq!(app.count(), 2);
}

#[tokio::test]
async fn connect_is_answered_clearly() {
    let (app, proxies) = both().await;
    for proxy in &proxies {
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        raw.send(&headers(END_HEADERS, 1, &[(":method", "CONNECT"), (":authority", "a:80")])).await;
        assert_eq!(raw.fate(1).await, Fate::Status(405));
        // Extended CONNECT is not offered by the settings, so nobody may use it (RFC 8441 section 3).
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        raw.send(&headers(END_HEADERS, 1, &asking("CONNECT", "/", &[(":protocol", "websocket")]))).await;
        assert!(is_refusal(raw.fate(1).await));
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        let mut fields = asking("CONNECT", "/", &[]);
        fields.insert(1, (":protocol", "websocket"));
        raw.send(&headers(END_HEADERS, 1, &fields)).await;
        assert!(is_refusal(raw.fate(1).await));
    }
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn what_is_unusual_and_right_arrives_as_it_was_meant() {
    let (app, proxies) = both().await;
    for proxy in &proxies {
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        let fields = asking(
            "OPTIONS",
            "*",
            &[("host", "A"), ("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")],
        );
        raw.send(&headers(WHOLE, 1, &fields)).await;
        assert_eq!(raw.fate(1).await, Fate::Status(200));
        raw.send(&headers(WHOLE, 3, &asking("GET", "/a?b=c#d", &[("expect", "100-continue")]))).await;
        assert!(matches!(raw.fate(3).await, Fate::Status(_) | Fate::Closed));
        let only_host = [(":method", "GET"), (":scheme", "http"), (":path", "//b/../c"), ("host", "a:80")];
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        raw.send(&headers(WHOLE, 1, &only_host)).await;
        assert_eq!(raw.fate(1).await, Fate::Status(200));
    }
    let seen = app.seen();
    for three in seen.chunks(3) {
        let targets: Vec<_> =
            three.iter().map(|seen| seen.parts.uri.path_and_query().unwrap().as_str()).collect();
        assert_eq!(targets, ["*", "/a?b=c", "//b/../c"]);
        assert_eq!(three[0].header("cookie"), Some("a=1; b=2"));
        assert_eq!(three[0].parts.headers.get_all("cookie").iter().count(), 1);
        assert_eq!(three[1].header("expect"), None);
        assert!(three.iter().all(|seen| seen.body == Bytes::new()));
    }
    let host = |i: usize| seen[i].header("host").or(seen[i].parts.uri.authority().map(|a| a.as_str()));
    assert_eq!([host(2), host(5)], [Some("a:80"); 2]);
}
