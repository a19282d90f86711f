//! Frames that break the protocol, after h2spec's list: an error on the stream or the connection, and the
//! application hears nothing.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::frames::*;
use crate::support::*;

#[tokio::test]
async fn frames_that_break_the_protocol_are_errors() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let open = || headers(END_HEADERS, 1, &asking("POST", "/", &[]));
    let half = || frame(HEADERS, END_STREAM, 1, &block(&asking("GET", "/", &[])));
    let closed = || [asks(1, "/"), rst(1, CANCEL)].concat();
    let most = 0x7fff_ffff;
    let on_connection = |code: u32| vec![Fate::GoAway(code)];
    let either = |code: u32| vec![Fate::GoAway(code), Fate::Reset(code)];
    // hyper's h2 has one code for what RFC 9113 calls a wrong size and for what it calls a wrong frame.
    let wrong_size = || vec![Fate::GoAway(FRAME_SIZE_ERROR), Fate::GoAway(PROTOCOL_ERROR)];
    for (name, sent, fates) in [
        // RFC 9113 section 4.
        ("DATA longer than allowed", [open(), frame(DATA, NONE, 1, &[0; 16_385])].concat(), wrong_size()),
        ("HEADERS longer than allowed", frame(HEADERS, WHOLE, 1, &[0; 16_385]), wrong_size()),
        ("a frame that claims 16 MiB", vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1], wrong_size()),
        ("a header block of nonsense", frame(HEADERS, WHOLE, 1, &[0xff; 20]), on_connection(PROTOCOL_ERROR)),
        ("an index beyond the table", frame(HEADERS, WHOLE, 1, &[0xfe]), on_connection(PROTOCOL_ERROR)),
        ("a header block cut off", frame(HEADERS, WHOLE, 1, &[0, 5, b'a']), on_connection(PROTOCOL_ERROR)),
        (
            "a table larger than offered",
            frame(HEADERS, WHOLE, 1, &[0x3f, 0xff, 0xff, 3]),
            on_connection(PROTOCOL_ERROR),
        ),
        (
            "another frame in a header block",
            [half(), frame(PING, NONE, 0, &[0; 8])].concat(),
            on_connection(PROTOCOL_ERROR),
        ),
        (
            "an unknown frame in a header block",
            [half(), frame(0x16, NONE, 0, &[])].concat(),
            on_connection(PROTOCOL_ERROR),
        ),
        (
            "another stream in a header block",
            [half(), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            on_connection(PROTOCOL_ERROR),
        ),
        // Section 5.
        ("DATA on an idle stream", frame(DATA, NONE, 1, b"x"), on_connection(PROTOCOL_ERROR)),
        ("RST_STREAM on an idle stream", rst(1, CANCEL), on_connection(PROTOCOL_ERROR)),
        ("WINDOW_UPDATE on an idle stream", window(1, 1), on_connection(PROTOCOL_ERROR)),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &[]), on_connection(PROTOCOL_ERROR)),
        (
            "CONTINUATION after the end",
            [open(), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            on_connection(PROTOCOL_ERROR),
        ),
        ("a stream of the server's", asks(2, "/"), on_connection(PROTOCOL_ERROR)),
        (
            "a stream before the last",
            [headers(END_HEADERS, 5, &asking("POST", "/", &[])), asks(3, "/")].concat(),
            vec![Fate::GoAway(PROTOCOL_ERROR), Fate::GoAway(STREAM_CLOSED)],
        ),
        ("HEADERS on no stream", asks(0, "/"), on_connection(PROTOCOL_ERROR)),
        ("DATA on no stream", frame(DATA, NONE, 0, b"x"), on_connection(PROTOCOL_ERROR)),
        ("RST_STREAM on no stream", rst(0, CANCEL), on_connection(PROTOCOL_ERROR)),
        ("PRIORITY on no stream", frame(PRIORITY, NONE, 0, &[0; 5]), on_connection(PROTOCOL_ERROR)),
        (
            "DATA after RST_STREAM",
            [open(), rst(1, CANCEL), frame(DATA, NONE, 1, b"x")].concat(),
            either(STREAM_CLOSED),
        ),
        (
            "HEADERS after RST_STREAM",
            [closed(), asks(1, "/")].concat(),
            [either(STREAM_CLOSED), either(PROTOCOL_ERROR)].concat(),
        ),
        (
            "HEADERS in the middle",
            [open(), headers(END_HEADERS, 1, &[("x-a", "1")])].concat(),
            either(PROTOCOL_ERROR),
        ),
        (
            "a stream that depends on itself",
            frame(PRIORITY, NONE, 1, &[0, 0, 0, 1, 0]),
            either(PROTOCOL_ERROR),
        ),
        // Section 6.
        (
            "padding longer than DATA",
            [open(), frame(DATA, PADDED, 1, &[9, 0, 0])].concat(),
            on_connection(PROTOCOL_ERROR),
        ),
        (
            "padding longer than HEADERS",
            frame(HEADERS, WHOLE | PADDED, 1, &[99, 0x82]),
            on_connection(PROTOCOL_ERROR),
        ),
        (
            "PRIORITY of four bytes",
            frame(PRIORITY, NONE, 1, &[0; 4]),
            [either(FRAME_SIZE_ERROR), either(PROTOCOL_ERROR)].concat(),
        ),
        ("RST_STREAM of three bytes", [open(), frame(RST_STREAM, NONE, 1, &[0; 3])].concat(), wrong_size()),
        ("SETTINGS on a stream", frame(SETTINGS, NONE, 1, &[]), on_connection(PROTOCOL_ERROR)),
        ("SETTINGS of five bytes", frame(SETTINGS, NONE, 0, &[0; 5]), wrong_size()),
        ("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6]), wrong_size()),
        ("ENABLE_PUSH of 2", settings(&[(2, 2)]), on_connection(PROTOCOL_ERROR)),
        (
            "a window beyond all measure",
            settings(&[(4, most + 1)]),
            vec![Fate::GoAway(FLOW_CONTROL_ERROR), Fate::GoAway(PROTOCOL_ERROR)],
        ),
        ("frames smaller than may be", settings(&[(5, 16_383)]), on_connection(PROTOCOL_ERROR)),
        ("frames larger than may be", settings(&[(5, 1 << 24)]), on_connection(PROTOCOL_ERROR)),
        (
            "PUSH_PROMISE of a caller",
            [open(), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])].concat(),
            on_connection(PROTOCOL_ERROR),
        ),
        ("PING on a stream", frame(PING, NONE, 1, &[0; 8]), on_connection(PROTOCOL_ERROR)),
        ("PING of six bytes", frame(PING, NONE, 0, &[0; 6]), wrong_size()),
        ("GOAWAY on a stream", frame(GOAWAY, NONE, 1, &[0; 8]), on_connection(PROTOCOL_ERROR)),
        ("WINDOW_UPDATE of 0", window(0, 0), on_connection(PROTOCOL_ERROR)),
        ("WINDOW_UPDATE of 0 on a stream", [open(), window(1, 0)].concat(), either(PROTOCOL_ERROR)),
        ("WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, NONE, 0, &[0; 3]), wrong_size()),
        (
            "a window that overflows",
            [window(0, most), window(0, most)].concat(),
            on_connection(FLOW_CONTROL_ERROR),
        ),
        (
            "a stream's window that overflows",
            [open(), window(1, most), window(1, most)].concat(),
            either(FLOW_CONTROL_ERROR),
        ),
    ] {
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        raw.send(&sent).await;
        let fate = raw.fate(1).await;
        assert!(fates.contains(&fate), "{name}: {fate:?}");
        assert_eq!(app.count(), usize::from(name == "HEADERS after RST_STREAM") & app.count(), "{name}");
    }
    assert_eq!(get(proxy.inbound.unwrap(), "/").await.status, 200);
}

#[tokio::test]
async fn frames_and_settings_that_nobody_knows_are_passed_over() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let mut raw = Raw::with(proxy.inbound.unwrap(), &[(0x7777, 1), (3, 0)]).await;
    raw.send(&frame(0x16, 0xff, 0, b"unknown")).await;
    raw.send(&frame(0x17, 0xff, 99, b"unknown")).await;
    raw.send(&frame(PING, 0xfe, 0, &[7; 8])).await;
    raw.send(&frame(
        HEADERS,
        WHOLE | PADDED,
        1,
        &[&[3][..], &block(&asking("GET", "/", &[])), &[0; 3]].concat(),
    ))
    .await;
    assert_eq!(raw.fate(1).await, Fate::Status(200));
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_preface_that_is_none_is_answered_as_a_malformed_request() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    for preface in
        ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n\r\n\r\n\r\n", "PRI / HTTP/2.0\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
        stream.write_all(preface.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 505 ") || answer.starts_with("HTTP/1.1 400 "),
            "{preface:?}: {answer}"
        );
    }
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn data_beyond_the_window_is_an_error() {
    // It takes the connection and reads nothing, so that no window opens again.
    let deaf = TcpListener::bind(any_port()).await.unwrap();
    let proxy = start(payments(deaf.local_addr().unwrap())).await;
    let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
    raw.send(&headers(END_HEADERS, 1, &asking("POST", "/", &[]))).await;
    let part = frame(DATA, NONE, 1, &[0; 16_384]);
    let fate = raw.flooded(part.repeat(4_000)).await;
    assert_eq!(fate, Fate::GoAway(FLOW_CONTROL_ERROR));
}

#[tokio::test]
async fn streams_beyond_their_number_are_refused() {
    let app = App::start(|_| std::future::pending()).await;
    let proxy = start(payments(app.address)).await;
    let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
    for n in 0..=1_024 {
        raw.send(&headers(END_HEADERS, 2 * n + 1, &asking("POST", "/", &[]))).await;
    }
    assert_eq!(raw.fate(2_049).await, Fate::Reset(REFUSED_STREAM));
}
