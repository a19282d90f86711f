//! Connections to one endpoint: idle HTTP/1.1 ones to take and give back, and one shared HTTP/2 one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use weir_model::limits;

use crate::body::RequestBody;
use crate::config::Protocol;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections older than this are closed: servers close theirs after about a minute.
const IDLE: Duration = Duration::from_secs(30);
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
    Reset { address: Arc<str>, source: hyper::Error },
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

/// The connections to one address.
#[derive(Debug)]
pub(crate) struct Pool {
    address: Arc<str>,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Option<http2::SendRequest<RequestBody>>>,
}

/// What to give back once a response was read to its end.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    sender: Option<http1::SendRequest<RequestBody>>,
}

impl Lease {
    /// The connection may serve another request. Without this call it is closed.
    pub(crate) fn release(mut self) {
        if let Some(sender) = self.sender.take() {
            self.pool.put(sender);
        }
    }
}

impl Pool {
    pub(crate) fn new(address: Arc<str>) -> Arc<Self> {
        Arc::new(Self { address, idle: Mutex::default(), shared: Mutex::default() })
    }

    /// Sends a request and waits for the head of the response.
    pub(crate) async fn send(
        self: &Arc<Self>,
        protocol: Protocol,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        match protocol {
            Protocol::Http => self.send_http1(request).await,
            Protocol::Grpc => self.send_http2(request).await,
        }
    }

    async fn send_http1(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        loop {
            let (mut sender, fresh) = match self.take() {
                Some(sender) => (sender, false),
                None => (self.connect_http1().await?, true),
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease { pool: Arc::clone(self), sender: Some(sender) };
                    return Ok((response, lease));
                }
                Err(mut error) => match error.take_message() {
                    // An idle connection that the server had closed: nothing was sent.
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(self.failed(error.into_error())),
                },
            }
        }
    }

    async fn send_http2(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        loop {
            let current = lock(&self.shared).clone().filter(|sender| !sender.is_closed());
            let (mut sender, fresh) = match current {
                Some(sender) => (sender, false),
                None => (self.connect_http2().await?, true),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Lease { pool: Arc::clone(self), sender: None })),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => {
                        *lock(&self.shared) = None;
                        request = unsent;
                    }
                    _ => return Err(self.failed(error.into_error())),
                },
            }
        }
    }

    fn failed(&self, source: hyper::Error) -> SendError {
        let address = Arc::clone(&self.address);
        if refused_stream(&source) {
            return SendError::RefusedStream { address };
        }
        SendError::Reset { address, source }
    }

    async fn connect(&self) -> Result<TokioIo<TcpStream>, SendError> {
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&*self.address)).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let failed = |source| SendError::Connect { address: Arc::clone(&self.address), source };
        stream.map(TokioIo::new).map_err(failed)
    }

    async fn connect_http1(&self) -> Result<http1::SendRequest<RequestBody>, SendError> {
        let io = self.connect().await?;
        let handshake = http1::Builder::new().max_buf_size(limits::HEADER_BYTES).handshake(io).await;
        let (sender, connection) = handshake.map_err(|error| self.failed(error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(sender)
    }

    async fn connect_http2(&self) -> Result<http2::SendRequest<RequestBody>, SendError> {
        let io = self.connect().await?;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(limits::HEADER_BYTES as u32)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(5))
            .handshake(io)
            .await;
        let (sender, connection) = handshake.map_err(|error| self.failed(error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        *lock(&self.shared) = Some(sender.clone());
        Ok(sender)
    }

    fn take(&self) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = lock(&self.idle);
        let now = Instant::now();
        idle.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < IDLE);
        let ready = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.swap_remove(ready).sender)
    }

    fn put(&self, sender: http1::SendRequest<RequestBody>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = lock(&self.idle);
        if idle.len() < limits::IDLE_CONNECTIONS {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the server sent `REFUSED_STREAM`, or named a last stream before this one when it went away
/// (RFC 9113 section 8.7): either way the request was not processed.
fn refused_stream(error: &hyper::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(error) = current.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        source = current.source();
    }
    false
}
