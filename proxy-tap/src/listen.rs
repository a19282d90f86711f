//! A listener: accepts connections, tells by their first bytes what they speak, and drains.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, unconstrained};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir_model::limits;

use crate::body::{Incoming, ReplyBody};
use crate::detect::client_hello::{Sni, sni};
use crate::detect::proxy_header::{self, Parsed};
use crate::detect::{Detected, detect};
use crate::drain::{Gate, Tally};
use crate::http1::{self, Malformed};
use crate::http2;
use crate::io::{Conn, Io};
use crate::tls::{self, Identity};

/// How long a new connection may stay silent.
const FIRST_BYTES: Duration = Duration::from_secs(60);
/// How long the first bytes are waited for where they need not come: in some protocols the server speaks first.
const SERVER_FIRST: Duration = Duration::from_secs(1);
/// How long a PROXY header or a ClientHello may take from the first byte on.
const HEADER: Duration = Duration::from_secs(5);

/// What may come through a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Requests alone: what is none is refused.
    Http,
    /// Bytes that nobody looks into.
    Tcp,
    /// Whatever the first bytes say.
    Any,
}

/// Serves one connection.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Response<ReplyBody>> + Send;

    /// A request could not be understood, and was refused.
    fn malformed(&self, _malformed: Malformed) {}

    /// What it serves.
    fn speaks(&self) -> Speaks {
        Speaks::Http
    }

    /// Serves a connection that is no HTTP, or not to be looked into; `sni` is the name that TLS asks for.
    fn stream(&self, _conn: Conn, _sni: Option<Box<str>>) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    /// Where it meant to go; `None` where it should have been redirected here and was not.
    pub(crate) local: Option<SocketAddr>,
    /// The kernel redirects connections to this listener.
    pub(crate) captured: bool,
    /// It has shown a certificate.
    pub(crate) is_mutual_tls: bool,
}

/// What a listener does before it looks at requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entrance {
    /// Connections begin with a PROXY header.
    pub(crate) proxy_header: bool,
    /// Who the proxy is to callers that come with TLS.
    pub(crate) identity: Option<Arc<Identity>>,
    /// With an identity, whether callers may come without TLS.
    pub(crate) plaintext: bool,
    /// Connections were redirected by the kernel.
    pub(crate) captured: bool,
}

/// Serves `listener` until the gate's `stop`; connections then finish what they have begun, until its `cut`. Each
/// has a service of its own.
pub(crate) async fn serve<S: Service>(
    listener: TcpListener,
    entrance: Entrance,
    service: impl Fn(Caller) -> S + Clone + Send + Sync + 'static,
    gate: Gate,
) {
    let room = Arc::new(Semaphore::new(limits::PROXY_CONNECTIONS));
    let entrance = Arc::new(entrance);
    let mut connections = JoinSet::new();
    let begin = |connections: &mut JoinSet<()>, (stream, address, permit): Accepted| {
        let (service, stop, entrance) = (service.clone(), gate.stop.clone(), Arc::clone(&entrance));
        let (counted, tally) = (gate.tally.count(), Arc::clone(&gate.tally));
        connections.spawn(async move {
            let _counted = (permit, counted);
            let _ = stream.set_nodelay(true);
            connection((stream, address), &entrance, service, stop, &tally).await;
        });
    };
    loop {
        tokio::select! {
            () = gate.stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &room) => match accepted {
                Some(accepted) => begin(&mut connections, accepted),
                None => break,
            },
        }
    }
    // What waits in the listener is reset when it closes, so it is accepted still: all that the kernel has told by the
    // next turn.
    tokio::task::yield_now().await;
    while let Some(Some(accepted)) = unconstrained(accept(&listener, &room)).now_or_never() {
        begin(&mut connections, accepted);
    }
    drop(listener);
    tokio::select! {
        () = gate.cut.cancelled() => connections.shutdown().await,
        () = async { while connections.join_next().await.is_some() {} } => {}
    }
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<Accepted> {
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

async fn connection<S: Service>(
    (stream, address): (TcpStream, SocketAddr),
    entrance: &Entrance,
    service: impl Fn(Caller) -> S,
    stop: CancellationToken,
    tally: &Tally,
) {
    let captured = entrance.captured;
    let local = if captured { original_destination(&stream) } else { stream.local_addr().ok() };
    // A socket for both families shows IPv4 within IPv6.
    let [address, local] = [Some(address), local].map(|at| at.map(canonical));
    let Some(address) = address else { return };
    let mut caller = Caller { address, local, captured, is_mutual_tls: false };
    let mut conn = Conn::tcp(stream);
    if entrance.proxy_header {
        match timeout(HEADER, proxy_header(&mut conn)).await {
            Ok(Ok(source)) => caller.address = source.unwrap_or(address),
            Ok(Err(error)) => return tracing::debug!(%address, %error, "no PROXY header"),
            Err(_) => return,
        }
    }
    if entrance.identity.is_none() {
        return plain(conn, service(caller), stop).await;
    }
    let begun = tokio::select! {
        () = stopped_and_quiet(&stop) => return,
        begun = timeout(FIRST_BYTES, first_bytes(&mut conn)) => begun,
    };
    match (begun, &entrance.identity) {
        (Ok(Ok(Detected::Tls)), Some(identity)) => {
            let Some((first, stream)) = conn.into_tcp() else { return };
            let accepted = match identity.accept(first, stream).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tally.count_tls_error();
                    return tracing::debug!(%address, %error, "TLS handshake failed");
                }
            };
            caller.is_mutual_tls = true;
            let is_http2 = tls::is_http2(&accepted);
            let (conn, service) = (Conn::new(Io::Tls(Box::new(accepted))), service(caller));
            match (is_http2, service.speaks()) {
                (true, Speaks::Http | Speaks::Any) => agreed_http2(conn, service, stop).await,
                _ => plain(conn, service, stop).await,
            }
        }
        (Ok(Ok(_)), _) if entrance.plaintext => plain(conn, service(caller), stop).await,
        (Ok(Ok(_)), _) => {
            tally.count_tls_error();
            tracing::debug!(%address, "came without TLS, refused");
        }
        _ => {}
    }
}

/// Serves a connection on which HTTP/2 was agreed; one that begins with anything else ends.
async fn agreed_http2<S: Service>(mut conn: Conn, service: S, stop: CancellationToken) {
    let begun = tokio::select! {
        () = stop.cancelled() => return,
        begun = timeout(FIRST_BYTES, first_bytes(&mut conn)) => begun,
    };
    if let Ok(Ok(Detected::Http2)) = begun {
        http2::serve(conn, Arc::new(service), stop).await;
    }
}

/// Serves what is not encrypted, or no longer.
async fn plain<S: Service>(mut conn: Conn, service: S, stop: CancellationToken) {
    let speaks = service.speaks();
    if speaks == Speaks::Tcp {
        return service.stream(conn, None).await;
    }
    let patience = if speaks == Speaks::Any { SERVER_FIRST } else { FIRST_BYTES };
    let begun = tokio::select! {
        () = stopped_and_quiet(&stop) => return,
        begun = timeout(patience, first_bytes(&mut conn)) => begun,
    };
    match (begun, speaks) {
        // A caller may have nothing to say, and listen.
        (Ok(Err(error)), Speaks::Any) if error.kind() == ErrorKind::UnexpectedEof => {
            service.stream(conn, None).await;
        }
        (Ok(Err(_)), _) | (Err(_), Speaks::Http) => {}
        (Ok(Ok(Detected::Http2)), _) => http2::serve(conn, Arc::new(service), stop).await,
        // What is no request is answered as a malformed one.
        (Ok(Ok(Detected::Http1)), _) | (Ok(Ok(Detected::Opaque | Detected::NeedMore)), Speaks::Http) => {
            http1::server::serve(conn, service, stop.cancelled()).await;
        }
        (Ok(Ok(Detected::Tls)), Speaks::Http) => {}
        (Ok(Ok(Detected::Tls)), _) => {
            let name = timeout(HEADER, server_name(&mut conn)).await.unwrap_or_default();
            service.stream(conn, name).await;
        }
        (Ok(Ok(_)) | Err(_), _) => service.stream(conn, None).await,
    }
}

/// The end of a connection from which nothing came: one that is new has its first request under way.
async fn stopped_and_quiet(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(http1::server::QUIET).await;
}

/// Reads until it is told what the connection speaks.
async fn first_bytes(conn: &mut Conn) -> std::io::Result<Detected> {
    loop {
        match detect(&conn.input) {
            Detected::NeedMore if conn.fill().await? > 0 => {}
            Detected::NeedMore if conn.input.is_empty() => {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Detected::NeedMore => return Ok(Detected::Opaque),
            detected => return Ok(detected),
        }
    }
}

/// Takes the PROXY header; the source it names, if it does.
async fn proxy_header(conn: &mut Conn) -> std::io::Result<Option<SocketAddr>> {
    let unexpected = |what: &str| std::io::Error::new(ErrorKind::InvalidData, what.to_owned());
    loop {
        match proxy_header::parse(&conn.input) {
            Ok(Parsed::NeedMore) if conn.fill().await? > 0 => {}
            Ok(Parsed::NeedMore) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(Parsed::Header { source, consumed, .. }) => {
                let _ = conn.input.split_to(consumed);
                return Ok(Some(source));
            }
            Ok(Parsed::Local { consumed, .. }) => {
                let _ = conn.input.split_to(consumed);
                return Ok(None);
            }
            Ok(Parsed::Absent) => return Err(unexpected("the connection does not begin with one")),
            Err(malformed) => return Err(unexpected(&malformed.to_string())),
        }
    }
}

/// The name that a ClientHello asks for, if it does. What only looks like one is for its server to judge.
async fn server_name(conn: &mut Conn) -> Option<Box<str>> {
    loop {
        match sni(&conn.input) {
            Sni::NeedMore if conn.fill().await.is_ok_and(|n| n > 0) => {}
            Sni::Found { server_name, .. } => return server_name,
            _ => return None,
        }
    }
}

fn canonical(mut address: SocketAddr) -> SocketAddr {
    address.set_ip(address.ip().to_canonical());
    address
}

/// Where a connection was going before the kernel redirected it; `None` where it was made to this listener itself,
/// which would be for ever its own destination, and where the kernel does not say.
fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = socket2::SockRef::from(stream);
    let original = socket.original_dst_v4().or_else(|_| socket.original_dst_v6()).ok()?.as_socket()?;
    let here = canonical(stream.local_addr().ok()?);
    // Redirected within one machine a connection arrives at another of its addresses.
    let is_here = original.port() == here.port() && (original.ip() == here.ip() || is_ours(original));
    (!is_here).then_some(original)
}

/// Whether this machine has the address: on no other can a socket be bound.
fn is_ours(mut address: SocketAddr) -> bool {
    address.set_port(0);
    std::net::UdpSocket::bind(address).is_ok()
}

impl<H, F> Service for H
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<ReplyBody>> + Send,
{
    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Response<ReplyBody>> + Send {
        self(request)
    }
}
