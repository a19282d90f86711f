//! Requests and responses that overlap or break off: neither spoils the other, and each end is noticed.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use weir_proxy_tap::Config;
use weir_proxy_tap::config::Protocol;

use crate::support::*;

/// A listener whose connections take little before they are read.
fn narrow() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind(any_port()).unwrap();
    socket.listen(64).unwrap()
}

/// Bytes that such a connection takes while nobody reads.
async fn room() -> usize {
    let listener = narrow();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut room = 0;
    let piece = vec![b'x'; 64 << 10];
    while let Ok(written) = timeout(Duration::from_millis(100), stream.write(&piece)).await {
        room += written.unwrap();
    }
    room
}

/// Reads a head, byte by byte, so that nothing of what follows is taken.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Each byte of chunked data tells where it stands, so that a hole shows.
fn counted(chunks: usize) -> (Vec<u8>, Vec<u8>) {
    let data: Vec<u8> = (0..chunks * 4_096).map(|i| (i / 7 % 251) as u8).collect();
    let mut framed = Vec::new();
    for chunk in data.chunks(4_096) {
        framed.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        framed.extend(chunk);
        framed.extend(b"\r\n");
    }
    framed.extend(b"0\r\n\r\n");
    (data, framed)
}

fn dechunked(mut framed: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let end = framed.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&framed[..end]).unwrap(), 16).unwrap();
        data.extend(&framed[end + 2..end + 2 + size]);
        framed = &framed[end + 4 + size..];
        if size == 0 {
            return data;
        }
    }
}

/// However much of the body lies where when the endpoint answers early, the next request is not read as its rest.
#[tokio::test]
async fn a_connection_on_which_a_body_was_not_sent_to_its_end_serves_no_other_request() {
    let room = room().await >> 10;
    for kib in (room.saturating_sub(64)..room + 192).step_by(16) {
        let listener = narrow();
        let proxy = start(payments(listener.local_addr().unwrap())).await;
        let (spoilt, mut told) = mpsc::channel(8);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let spoilt = spoilt.clone();
                tokio::spawn(async move {
                    let Some(first) = head(&mut stream).await else { return };
                    let length = first.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let mut left: usize = length.map_or(0, |length| length.parse().unwrap());
                    // As much of the body as finds room is under way by then.
                    sleep(Duration::from_millis(60)).await;
                    stream.write_all(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    // Long enough for the next request to be sent here.
                    sleep(Duration::from_millis(30)).await;
                    let mut bytes = vec![0; 64 << 10];
                    while left > 0 {
                        let most = left.min(bytes.len());
                        let Ok(n @ 1..) = stream.read(&mut bytes[..most]).await else { return };
                        if bytes[..n].iter().any(|byte| *byte != b'x') {
                            spoilt.send(()).await.unwrap();
                        }
                        left -= n;
                    }
                });
            }
        });
        let at = proxy.inbound.unwrap();
        let (mut read, mut write) = TcpStream::connect(at).await.unwrap().into_split();
        let body = vec![b'x'; kib << 10];
        let sent = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        let sending = tokio::spawn(async move {
            let _ = write.write_all(sent.as_bytes()).await;
            let _ = write.write_all(&body).await;
            write
        });
        let mut answer = [0; 12];
        timeout(DEADLINE, read.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401", "{kib} KiB");
        assert_eq!(get(at, "/next").await.status, 401, "{kib} KiB");
        sending.abort();
        assert!(told.try_recv().is_err(), "{kib} KiB: a request was sent within a body");
    }
}

#[tokio::test]
async fn an_early_answer_leaves_the_request_body_whole() {
    let listener = narrow();
    let proxy = start(payments(listener.local_addr().unwrap())).await;
    let (data, framed) = counted(4_096);
    let endpoint = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await.unwrap();
        // The caller's bytes pile up meanwhile, and while nothing is read afterwards.
        sleep(Duration::from_millis(200)).await;
        let early = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n";
        stream.write_all(early).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n0\r\n\r\n") {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0, "the body broke off");
        }
        stream.write_all(b"4\r\nlate\r\n0\r\n\r\n").await.unwrap();
        dechunked(&got)
    });
    let (mut read, mut write) = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap().into_split();
    let sending = tokio::spawn(async move {
        write.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        write.write_all(&framed).await.unwrap();
        // The connection goes on.
        write.write_all(b"GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        write
    });
    let mut answer = Vec::new();
    while !answer.ends_with(b"late\r\n0\r\n\r\n") {
        assert!(timeout(DEADLINE, read.read_buf(&mut answer)).await.unwrap().unwrap() > 0);
    }
    assert!(!String::from_utf8_lossy(&answer).contains("connection: close"), "both were whole");
    assert!(endpoint.await.unwrap() == data, "the body has a hole");
    drop(sending.await.unwrap());
}

/// An endpoint over HTTP/2 that answers at once with what it is sent, piece by piece.
async fn echo2() -> SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
                let (pieces, echoed) = mpsc::channel(4);
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(frame)) = body.frame().await {
                        if pieces.send(Ok::<_, hyper::Error>(frame)).await.is_err() {
                            return;
                        }
                    }
                });
                Ok::<_, hyper::Error>(Response::new(StreamBody::new(ReceiverStream::new(echoed))))
            });
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

#[tokio::test]
async fn a_conversation_goes_on_between_http1_and_http2() {
    let proxy = start(Config { protocol: Protocol::Http2, ..payments(echo2().await) }).await;
    let mut stream = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    for n in 0..20 {
        stream.write_all(format!("4\r\nn{n:03}\r\n").as_bytes()).await.unwrap();
        let expected = format!("n{n:03}\r\n");
        while !answer.ends_with(expected.as_bytes()) {
            let read = timeout(DEADLINE, stream.read_buf(&mut answer)).await.expect("a piece to come back");
            assert!(read.unwrap() > 0);
        }
    }
    stream.write_all(b"0\r\n\r\nGET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1 200").count(), 2);
}

#[tokio::test]
async fn a_caller_that_leaves_a_silent_response_is_noticed() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let proxy = start(payments(listener.local_addr().unwrap())).await;
    let mut caller = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
    caller.write_all(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut endpoint, _) = listener.accept().await.unwrap();
    head(&mut endpoint).await.unwrap();
    let event = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nevent\r\n";
    endpoint.write_all(event).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"event\r\n") {
        assert!(caller.read_buf(&mut got).await.unwrap() > 0);
    }
    drop(caller);
    let ended = timeout(DEADLINE, endpoint.read(&mut [0])).await.expect("the endpoint to hear of it");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    until("the call", async || {
        (metric(&proxy, "istio_requests_total", &["response_flags=\"DC\""]).await > 0.5).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_idle_after_a_request_is_closed_in_time() {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    let mut sender = http1(proxy.inbound.unwrap()).await;
    for path in ["/1", "/2"] {
        let asked = request(http::Method::GET, path).header("host", "a").body(empty()).unwrap();
        assert_eq!(Answer::of(sender.send_request(asked).await.unwrap()).await.status, 200);
    }
    let begun = tokio::time::Instant::now();
    let gone = async {
        while sender.ready().await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(600), gone).await.expect("an idle connection to be closed");
    let idle = begun.elapsed().as_secs();
    assert!((59..=62).contains(&idle), "after {idle} s");
}

/// What came before the end of a request counts for nothing where the end never comes.
#[tokio::test]
async fn a_chunked_upload_that_breaks_off_is_not_ended_for_the_endpoint() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let proxy = start(payments(listener.local_addr().unwrap())).await;
    let (pieces, outgoing) = mpsc::channel(4);
    let body = StreamBody::new(ReceiverStream::new(outgoing));
    let asked = request(http::Method::POST, "/").header("host", "a").body(body).unwrap();
    let stream = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let call = tokio::spawn(async move { sender.send_request(asked).await });
    pieces.send(Ok(Frame::data(Bytes::from_static(b"half")))).await.unwrap();
    let (mut endpoint, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"half\r\n") {
        assert!(timeout(DEADLINE, endpoint.read_buf(&mut got)).await.unwrap().unwrap() > 0);
    }
    pieces.send(Err(std::io::Error::other("no more"))).await.unwrap();
    let _ = timeout(DEADLINE, endpoint.read_to_end(&mut got)).await.expect("the end");
    assert!(got.ends_with(b"half\r\n"), "{}", String::from_utf8_lossy(&got));
    assert!(call.await.unwrap().is_err());
}
