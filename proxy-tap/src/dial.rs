//! The proxy's own connections: marked, so that the kernel's rules let them pass, and known again where the rules
//! send them back to it all the same.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tonic::codegen::Service;

/// Whether this process may mark its connections: Linux asks for `CAP_NET_ADMIN`, since 5.17 for
/// that or `CAP_NET_RAW`.
pub(crate) fn may_mark(mark: u32) -> io::Result<()> {
    Socket::new(Domain::IPV4, Type::STREAM, None)?.set_mark(mark)
}

/// Connects to `address` (`host:port`), to the first of its addresses that takes it.
pub(crate) async fn open(address: &str, mark: Option<u32>) -> io::Result<TcpStream> {
    let Some(mark) = mark else { return TcpStream::connect(address).await };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        SockRef::from(&socket).set_mark(mark)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where a connection comes from and where it goes.
type Ends = (SocketAddr, SocketAddr);

/// The proxy's own connections that are open. Kept where one of them may come back to it, captured or sent to its own
/// address: it would be made again, and come back again, until nothing is left to make one of.
#[derive(Debug, Default)]
pub(crate) struct Dialled(Mutex<HashSet<Ends>>);

/// A connection of the proxy's, until it is dropped.
#[derive(Debug)]
pub(crate) struct Own {
    all: Arc<Dialled>,
    ends: Ends,
}

impl Dialled {
    /// Notes a connection. Both ends are needed: of one local port there can be connections to many addresses.
    pub(crate) fn note(self: &Arc<Self>, stream: &TcpStream) -> io::Result<Own> {
        let ends = (stream.local_addr()?, stream.peer_addr()?);
        self.lock().insert(ends);
        Ok(Own { all: Arc::clone(self), ends })
    }

    /// Whether the connection from `from` to `to` is one of them.
    pub(crate) fn has(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.lock().contains(&(from, to))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Ends>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.all.lock().remove(&self.ends);
    }
}

/// Makes marked connections to the collector. Telemetry that went through the proxy would be telemetry's own cause.
#[derive(Debug, Clone)]
pub(crate) struct ToCollector {
    pub(crate) address: Arc<str>,
    pub(crate) mark: u32,
}

impl Service<Uri> for ToCollector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, mark } = self.clone();
        Box::pin(async move {
            let stream = open(&address, Some(mark)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_known_by_both_ends_until_it_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let stream = open(&to.to_string(), None).await.unwrap();
        let (_, from) = listener.accept().await.unwrap();
        let all = Arc::new(Dialled::default());
        let own = all.note(&stream).unwrap();
        assert!(all.has(from, to));
        assert!(!all.has(from, "127.0.0.1:1".parse().unwrap()));
        drop(own);
        assert!(!all.has(from, to));
    }
}
