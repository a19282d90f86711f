//! Sockets for the DNS that bear the proxy's mark, so that the kernel's rules let its questions pass.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;
use weir_model::limits;

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Tokio's sockets, marked where there is a mark.
#[derive(Clone, Default)]
pub(super) struct Marked {
    tokio: TokioRuntimeProvider,
    mark: Option<u32>,
}

impl Marked {
    pub(super) fn new(mark: Option<u32>) -> Self {
        Self { tokio: TokioRuntimeProvider::default(), mark }
    }
}

impl RuntimeProvider for Marked {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        patience: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let Some(mark) = self.mark else { return self.tokio.connect_tcp(server, bind, patience) };
        Box::pin(async move {
            let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            SockRef::from(&socket).set_mark(mark)?;
            if let Some(bind) = bind {
                socket.bind(bind)?;
            }
            socket.set_nodelay(true)?;
            let connected = timeout(patience.unwrap_or(limits::DNS_PATIENCE), socket.connect(server)).await;
            Ok(AsyncIoTokioAsStd(connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let (bound, mark) = (self.tokio.bind_udp(local, server), self.mark);
        Box::pin(async move {
            let socket = bound.await?;
            if let Some(mark) = mark {
                SockRef::from(&socket).set_mark(mark)?;
            }
            Ok(socket)
        })
    }
}
