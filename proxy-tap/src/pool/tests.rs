//! Connections to servers that are written down frame by frame.

use http::{HeaderMap, HeaderValue, Method, uri::PathAndQuery};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use weir_model::policy::Length;
use weir_model::policy::destination::Connections;

use super::*;

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Last stream 0, no error.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const HEADERS: u8 = 1;
const PING: u8 = 6;

fn head(method: Method) -> Head {
    Head {
        method,
        target: PathAndQuery::from_static("/"),
        authority: HeaderValue::from_static("app"),
        headers: HeaderMap::new(),
        upgrade: None,
    }
}

async fn pool() -> (TcpListener, Arc<Pool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
    let connecting = Connecting { workers: 1, ..Connecting::default() };
    (listener, Pool::new(address, &connecting))
}

/// The server's side of a connection, after the preface.
async fn accepted(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&SETTINGS).await.unwrap();
    stream
}

/// The type of the next frame; `None` where the connection has ended.
async fn frame(stream: &mut TcpStream) -> Option<u8> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(head[3])
}

/// What a server named no stream of when it went away (RFC 9113 section 6.8) may be sent elsewhere.
#[tokio::test]
async fn a_request_after_the_last_stream_of_a_goaway_was_not_processed() {
    let (listener, pool) = pool().await;
    let server = tokio::spawn(async move {
        let mut stream = accepted(&listener).await;
        while frame(&mut stream).await != Some(HEADERS) {}
        stream.write_all(&GOAWAY).await.unwrap();
        while frame(&mut stream).await.is_some() {}
    });
    let error = pool.send(Protocol::Grpc, &head(Method::POST), RequestBody::Empty, None).await.unwrap_err();
    assert!(matches!(error, SendError::RefusedStream { .. }), "{error:?}");
    server.await.unwrap();
}

/// gRPC servers count pings of a connection that is quiet otherwise, and end it at the third.
#[tokio::test(start_paused = true)]
async fn a_plain_endpoint_is_never_pinged_while_it_takes_its_time() {
    let (listener, pool) = pool().await;
    let quiet = Duration::from_secs(300);
    let server = tokio::spawn(async move {
        let mut stream = accepted(&listener).await;
        let mut frames = vec![];
        let end = tokio::time::Instant::now() + quiet;
        while let Ok(Some(kind)) = tokio::time::timeout_at(end, frame(&mut stream)).await {
            frames.push(kind);
        }
        frames
    });
    let request = head(Method::POST);
    let sending = pool.send(Protocol::Grpc, &request, RequestBody::Empty, None);
    tokio::select! {
        sent = sending => panic!("{sent:?}"),
        frames = server => {
            let frames = frames.unwrap();
            assert!(frames.contains(&HEADERS), "{frames:?}");
            assert!(!frames.contains(&PING), "{frames:?}");
        }
    }
}

#[tokio::test]
async fn the_kernel_asks_whether_a_silent_end_is_still_there() {
    let (_listener, pool) = pool().await;
    let asked_after = async || {
        let (_, stream) = pool.connect().await.unwrap().into_tcp().unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        socket.tcp_keepalive_time().unwrap().as_secs()
    };
    assert_eq!(asked_after().await, 20);
    let told = Connections { tcp_keepalive: Some(Length::secs(45)), ..Connections::default() };
    pool.terms.set(&told);
    assert_eq!(asked_after().await, 45);
}
