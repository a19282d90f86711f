//! A listener: accepts connections, tells HTTP/1.1 from HTTP/2 by their first bytes, and drains.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_model::limits;

use crate::body::ReplyBody;

/// How long a connection may take to send a whole request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new connection may stay silent.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests that one HTTP/2 connection may have open.
const STREAMS: u32 = 1_024;
/// Streams reset by the other side that are waited for; more end the connection (CVE-2023-44487).
const RESET_STREAMS: usize = 64;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Serves `listener` with `handler` until `stop`; connections then finish what they have begun.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    handler: H,
    stop: CancellationToken,
    tasks: TaskTracker,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits::PROXY_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { return };
        let (handler, stop) = (handler.clone(), stop.clone());
        tasks.spawn(async move {
            let _permit = permit;
            connection(stream, peer, handler, stop).await;
        });
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            // Out of file descriptors, most likely: others will end.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection<H, F>(stream: TcpStream, peer: SocketAddr, handler: H, stop: CancellationToken)
where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let first = tokio::select! {
        () = stop.cancelled() => return,
        first = timeout(FIRST_BYTE_TIMEOUT, is_http2(&stream)) => first,
    };
    let Ok(Ok(is_http2)) = first else { return };
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let io = TokioIo::new(stream);
    // Both kinds of connection drain in the same way and share no trait.
    macro_rules! drive {
        ($connection:expr) => {{
            let connection = $connection;
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }};
    }
    if is_http2 {
        drive!(http2_server().serve_connection(io, service));
    } else {
        drive!(http1_server().serve_connection(io, service));
    }
}

fn http1_server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(limits::HEADER_BYTES)
        .keep_alive(true);
    server
}

fn http2_server() -> http2::Builder<TokioExecutor> {
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(RESET_STREAMS)
        .max_header_list_size(limits::HEADER_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    server
}

/// Whether the connection begins like the HTTP/2 preface. No HTTP/1 method begins with `PRI`.
async fn is_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; 3];
    loop {
        match stream.peek(&mut first).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n if n < 3 && first[..n] == b"PRI"[..n] => sleep(Duration::from_millis(5)).await,
            n => return Ok(first[..n] == b"PRI"[..]),
        }
    }
}
