//! Connections to one endpoint: idle HTTP/1.1 ones to take and give back, and shared HTTP/2 ones; of each worker its
//! own, since a connection is served best where it was opened. Their bounds are the service's ([`Terms`]).

mod shared;
mod terms;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Response;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::time::{Instant, timeout};
use weir_model::limits;

use crate::body::{Incoming, RequestBody};
use crate::concurrency::{Limits, Refused, Waiting};
use crate::config::Protocol;
use crate::dial::{self, Dialled};
use crate::forward::Head;
use crate::http1::client::{self, Client, NoResponse};
use crate::io::{Conn, Io, Tcp};
use crate::tls::{Carries, Toward};
use crate::upstream::Connecting;
use crate::worker;
use shared::{Http2, Shared};
use terms::Room;

pub(crate) use shared::Stream;
pub(crate) use terms::{Place, Terms, keepalive};

/// HTTP/2 receive windows; the connection's is larger, so that one stream cannot starve the others.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot connect to `{address}`: {source}")]
    Connect { address: Arc<str>, source: io::Error },
    /// The server said that it did not process the request.
    #[error("`{address}` refused the stream")]
    RefusedStream { address: Arc<str> },
    #[error("`{address}` broke off before it answered: {source}")]
    Reset { address: Arc<str>, source: Box<dyn std::error::Error + Send + Sync> },
    /// The caller's request broke off.
    #[error("the request broke off")]
    RequestCut,
    /// Too many connections are open, or too many requests wait for one.
    #[error("`{}` exceeded", .0.name())]
    Refused(Refused),
}

/// The connections to one address.
#[derive(Debug)]
pub(crate) struct Pool {
    address: Arc<str>,
    mark: Option<u32>,
    dialled: Option<Arc<Dialled>>,
    terms: Arc<Terms>,
    workers: Box<[Worker]>,
}

#[derive(Debug, Default)]
struct Worker {
    #[allow(clippy::vec_box, reason = "a connection goes in and out as it is, in its box")]
    idle: Mutex<Vec<Box<Client>>>,
    shared: Shared,
}

impl Pool {
    /// The connections to an endpoint.
    pub(crate) fn new(address: Arc<str>, connecting: &Connecting) -> Arc<Self> {
        let workers = (0..connecting.workers.max(1)).map(|_| Worker::default()).collect();
        let (mark, dialled) = (connecting.mark, connecting.dialled.clone());
        let terms = Arc::clone(&connecting.terms);
        let pool = Arc::new(Self { address, mark, dialled, terms, workers });
        pool.terms.add(&pool);
        pool
    }

    /// Whether requests are for `https`.
    pub(crate) fn is_https(&self) -> bool {
        self.terms.is_https()
    }

    /// Whether both sides of a connection show a certificate.
    pub(crate) fn is_mutual(&self) -> bool {
        self.terms.is_mutual()
    }

    /// Sends a request and waits for the head of the response. `limits` bound how many wait for a connection.
    pub(crate) async fn send(
        self: &Arc<Self>,
        protocol: Protocol,
        head: &Head,
        body: RequestBody,
        limits: Option<&Arc<Limits>>,
    ) -> Result<Response<Incoming>, SendError> {
        match protocol {
            _ if head.upgrade.is_some() => self.send_http1(head, body, limits).await,
            Protocol::Http | Protocol::Tcp => self.send_http1(head, body, limits).await,
            Protocol::Http2 | Protocol::Grpc => self.send_http2(head, body, limits).await,
        }
    }

    async fn send_http1(
        self: &Arc<Self>,
        head: &Head,
        mut body: RequestBody,
        limits: Option<&Arc<Limits>>,
    ) -> Result<Response<Incoming>, SendError> {
        loop {
            let (client, fresh) = match self.take() {
                Some(client) => (client, false),
                None => {
                    let _waiting = wait(limits)?;
                    match self.terms.wait(|| self.take()).await {
                        Room::Found(client) => (client, false),
                        Room::Place(place) => (self.connect_http1(place).await?, true),
                    }
                }
            };
            match client::send(client, head, body, self).await {
                Ok(response) => return Ok(response),
                Err(unanswered) => match (unanswered.error, unanswered.body) {
                    (NoResponse::RequestCut, _) => return Err(SendError::RequestCut),
                    // An idle connection that the server closed just now. Of a request that may not be
                    // repeated it is not known whether it was processed.
                    (_, Some(unsent)) if !fresh && head.method.is_idempotent() => body = unsent,
                    (error, _) => return Err(self.reset(error)),
                },
            }
        }
    }

    async fn send_http2(
        self: &Arc<Self>,
        head: &Head,
        body: RequestBody,
        limits: Option<&Arc<Limits>>,
    ) -> Result<Response<Incoming>, SendError> {
        let mut request = head.http2_request(body, self.terms.is_https());
        loop {
            let join = || self.own().shared.join(&self.terms);
            let ((mut sender, stream), fresh) = match join() {
                Some(shared) => (shared, false),
                None => {
                    let _waiting = wait(limits)?;
                    match self.terms.wait(join).await {
                        Room::Found(shared) => (shared, false),
                        Room::Place(place) => (self.connect_http2(place).await?, true),
                    }
                }
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(|body| Incoming::Http2(body, Some(stream)))),
                Err(mut error) => match error.take_message() {
                    // The connection is closed by now, so it is not taken again.
                    Some(unsent) if !fresh => request = unsent,
                    // It never left.
                    Some(_) => return Err(SendError::RefusedStream { address: Arc::clone(&self.address) }),
                    None => return Err(self.failed(error.into_error())),
                },
            }
        }
    }

    fn failed(&self, source: hyper::Error) -> SendError {
        match http2_error(&source) {
            Some(error) if is_unprocessed(error) => {
                SendError::RefusedStream { address: Arc::clone(&self.address) }
            }
            // Reset from here, which is how a body ends that broke off at the caller.
            Some(error) if error.is_reset() && !error.is_remote() && !error.is_library() => {
                SendError::RequestCut
            }
            _ => self.reset(source),
        }
    }

    fn reset(&self, source: impl std::error::Error + Send + Sync + 'static) -> SendError {
        SendError::Reset { address: Arc::clone(&self.address), source: Box::new(source) }
    }

    /// A new connection, for bytes. It has no use for one that comes free, so it does not wait for any.
    pub(crate) async fn connect(&self) -> Result<Conn, SendError> {
        let place = self.terms.place().ok_or(SendError::Refused(Refused::MaxConnections))?;
        self.open(Carries::Bytes, place).await
    }

    async fn open(&self, carries: Carries, place: Place) -> Result<Conn, SendError> {
        let connecting = self.dial(&self.address, carries, Some(place));
        let connected = timeout(self.terms.connect_timeout(), connecting).await;
        let failed = |source| SendError::Connect { address: Arc::clone(&self.address), source };
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)
    }

    /// A connection that is no request's and counts against no bound, to check whether there is anybody at `address`.
    pub(crate) async fn check(&self, address: &str, carries: Carries) -> io::Result<Conn> {
        self.dial(address, carries, None).await
    }

    async fn dial(&self, address: &str, carries: Carries, place: Option<Place>) -> io::Result<Conn> {
        let stream = dial::open(address, self.mark).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&self.terms.keepalive())?;
        let own = self.dialled.as_ref().map(|dialled| dialled.note(&stream)).transpose()?;
        let tcp = Tcp::dialled(stream, own, place);
        Ok(Conn::new(match self.terms.toward() {
            None => Io::Tcp(tcp),
            Some(toward) => toward.connect(carries, tcp).await?,
        }))
    }

    async fn connect_http1(&self, place: Place) -> Result<Box<Client>, SendError> {
        let generation = self.terms.generation();
        let conn = self.open(Carries::Http1, place).await?;
        Ok(Box::new(Client { conn, generation, served: 0, since: Instant::now() }))
    }

    async fn connect_http2(&self, place: Place) -> Result<(Http2, Stream), SendError> {
        let generation = self.terms.generation();
        let io = TokioIo::new(self.open(Carries::Http2, place).await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(limits::HEADER_BYTES as u32)
            .keep_alive_timeout(Duration::from_secs(5));
        if self.terms.toward().as_deref().is_some_and(Toward::is_mesh) {
            // Another proxy. A gRPC server would take pings every 20 s for abuse and end a connection that is quiet
            // otherwise: it allows one in five minutes (gRPC proposal A8). TCP asks there instead.
            builder.keep_alive_interval(Duration::from_secs(20));
        }
        let (sender, connection) = builder.handshake(io).await.map_err(|error| self.failed(error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        let stream = self.own().shared.add(&sender, generation, &self.terms);
        Ok((sender, stream))
    }

    fn own(&self) -> &Worker {
        &self.workers[worker::current().min(self.workers.len() - 1)]
    }

    /// The connection that was used last, if it is still good.
    fn take(&self) -> Option<Box<Client>> {
        let (now, most) = (Instant::now(), self.terms.idle());
        loop {
            let mut client = lock(&self.own().idle).pop()?;
            if now.saturating_duration_since(client.since) < most && client.conn.is_quiet() {
                return Some(client);
            }
        }
    }

    /// Takes a connection back, which serves another request if it may.
    pub(crate) fn put(&self, mut client: Box<Client>) {
        if client.served >= self.terms.max_requests() || client.generation != self.terms.generation() {
            return;
        }
        client.since = Instant::now();
        client.conn.rest();
        let mut idle = lock(&self.own().idle);
        if idle.len() < limits::IDLE_CONNECTIONS {
            idle.push(client);
        }
        drop(idle);
        self.terms.freed();
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn expire(&self, now: Instant) {
        let most = self.terms.idle();
        for worker in &self.workers {
            lock(&worker.idle).retain(|client| now.saturating_duration_since(client.since) < most);
            worker.shared.expire(now, &self.terms);
        }
    }

    /// [`Self::expire`], where it is time to look.
    pub(crate) fn expire_if_due(&self, now: Instant) {
        if self.terms.is_due(now) {
            self.expire(now);
        }
    }

    /// Whether a connection is there that a request could take.
    pub(crate) fn has_idle(&self) -> bool {
        self.workers.iter().any(|worker| !lock(&worker.idle).is_empty() || !worker.shared.is_empty())
    }

    /// Closes a connection that is idle, of whichever worker; whether there is one.
    pub(crate) fn close_one(&self) -> bool {
        self.workers.iter().any(|worker| {
            let idle = lock(&worker.idle).pop();
            idle.is_some() || worker.shared.close_one()
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a request as waiting for a connection, where that is bounded.
fn wait(limits: Option<&Arc<Limits>>) -> Result<Option<Waiting>, SendError> {
    limits.map(Limits::wait).transpose().map_err(SendError::Refused)
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(error) = current.downcast_ref() {
            return Some(error);
        }
        source = current.source();
    }
    None
}

/// Whether the server sent `REFUSED_STREAM`, or named a last stream before this one when it went away
/// (RFC 9113 section 8.7): either way the request was not processed. Streams up to the last one end by themselves,
/// or with the connection, which is an error of another kind.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
}

#[cfg(test)]
mod tests;
