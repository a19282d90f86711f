//! Whether a `GET` is answered with a status that is taken for healthy. A connection serves one check, so that
//! a server that no longer accepts any is found out.

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weir_model::semconv::{HEALTH_CHECK_PEER, PEER_HEADER};

use super::Failure;
use crate::config::Protocol;
use crate::io::Conn;
use crate::tls::Carries;
use crate::upstream::Endpoint;

/// What a server sees of who asks.
pub(super) const AGENT: &str = "weir-health-check";

pub(super) async fn check(
    endpoint: &Endpoint,
    address: &str,
    path: &str,
    host: &str,
    statuses: &[u16],
) -> Result<(), Failure> {
    let path = if path.is_empty() { "/" } else { path };
    let (request, carries) = match endpoint.protocol {
        Protocol::Http | Protocol::Tcp => (Request::get(path).header(HOST, host), Carries::Http1),
        Protocol::Http2 | Protocol::Grpc => {
            (Request::get(format!("{}://{host}{path}", scheme(endpoint))), Carries::Http2)
        }
    };
    let request = request
        .header(USER_AGENT, AGENT)
        .header(PEER_HEADER, HEALTH_CHECK_PEER)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::Request(path.to_owned(), error))?;
    let stream = TokioIo::new(super::connect(endpoint, address, carries).await?);
    let response = if carries == Carries::Http2 {
        send_http2(stream, request).await?
    } else {
        let (mut sender, connection) = http1::handshake(stream).await.map_err(Failure::Http)?;
        beside(connection, sender.send_request(request)).await?
    };
    let status = response.status().as_u16();
    let good = if statuses.is_empty() { (200..300).contains(&status) } else { statuses.contains(&status) };
    if good { Ok(()) } else { Err(Failure::Status(status)) }
}

/// Of a request over HTTP/2.
pub(super) fn scheme(endpoint: &Endpoint) -> &'static str {
    if endpoint.pool.is_https() { "https" } else { "http" }
}

/// Sends a request on a new HTTP/2 connection. What is left of it ends when the response is dropped.
pub(super) async fn send_http2<B>(
    stream: TokioIo<Conn>,
    request: Request<B>,
) -> Result<Response<Incoming>, Failure>
where
    B: Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), stream).await.map_err(Failure::Http)?;
    // Trailers come after the head, so the connection outlives this function; it ends with its streams.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(Failure::Http)
}

/// Drives a connection until the answer is there. One that ends first leaves its reason to the answer.
async fn beside<T>(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    answer: impl Future<Output = Result<T, hyper::Error>>,
) -> Result<T, Failure> {
    let driven = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer.map_err(Failure::Http),
        () = driven => std::future::pending().await,
    }
}
