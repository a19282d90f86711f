//! HTTP/2 as callers speak it: hyper's server, and the bounds that it leaves open.
//!
//! Frames that ask for nothing are counted before hyper reads them ([`flood`]), and a stream whose caller takes
//! nothing of its response is given up ([`stall`]).

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use weir_model::limits;

use crate::body::Incoming;
use crate::io::Conn;
use crate::listen::Service;

mod flood;
mod stall;

/// Requests that one connection may have open.
const STREAMS: u32 = 1_024;
/// Streams reset before they were looked at, and malformed ones; more of either end the connection
/// (CVE-2023-44487).
const RESET_STREAMS: usize = 64;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Serves a connection until it ends, or until `stop` and the end of what was begun.
pub(crate) async fn serve<S: Service>(conn: Conn, service: Arc<S>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let service = Arc::clone(&service);
        async move {
            let response = service.call(request.map(|body| Incoming::Http2(body, None))).await;
            Ok::<_, Infallible>(response.map(stall::Watched::new))
        }
    });
    let io = TokioIo::new(flood::Guarded::new(conn));
    let mut connection = pin!(server().serve_connection(io, service));
    let ended = tokio::select! {
        // First, so that a new connection gets as far as to say GOAWAY.
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

fn server() -> http2::Builder<stall::Streams> {
    let mut server = http2::Builder::new(stall::Streams);
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
