//! The proxy's listeners: which there are, bound once for each worker, and what is behind each.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::drain::Tally;
use crate::listen::{self, Entrance};
use crate::pool::keepalive;
use crate::run::{Proxy, StartError};
use crate::takeover::{Held, Inherited};
use crate::upstream::Endpoint;
use crate::{admin, capture, explicit, inbound, outbound};

/// Connections that the kernel holds for a listener that is busy.
const BACKLOG: i32 = 4_096;

/// A caller that is silent for so long is asked by the kernel whether it is still there, and given up 45 s later: the
/// proxy itself waits for ever where there is nothing to wait for, as on a tunnel.
const SILENT: Duration = Duration::from_secs(60);

/// What a listener is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Door {
    /// From the mesh to the application.
    Inbound,
    /// As `Inbound`, redirected by the kernel.
    CapturedInbound,
    /// From the application to one service.
    Outbound(String),
    /// From the application to whatever a request names (`HTTP_PROXY`).
    HttpProxy,
    /// From the application to wherever it was going, redirected by the kernel.
    Captured,
    /// Health and state.
    Admin,
}

/// A listener that has its address.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) door: Door,
    pub(crate) address: SocketAddr,
    /// One for each worker; of the admin page there is one.
    pub(crate) listeners: Vec<StdListener>,
}

impl Door {
    /// The flag that asks for it.
    pub(crate) fn flag(&self) -> String {
        match self {
            Self::Inbound => "--inbound".to_owned(),
            Self::CapturedInbound => "--capture-inbound".to_owned(),
            Self::Outbound(name) => format!("--outbound {name}"),
            Self::HttpProxy => "--http-proxy".to_owned(),
            Self::Captured => "--capture".to_owned(),
            Self::Admin => "--admin".to_owned(),
        }
    }

    /// Its name in metrics and towards another process.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Outbound(name) => format!("outbound/{name}"),
            other => other.flag().trim_start_matches('-').to_owned(),
        }
    }

    /// How many sockets share its address.
    fn sockets(&self, config: &Config) -> usize {
        if *self == Self::Admin { 1 } else { config.workers.max(1) }
    }

    /// All that the configuration asks for, and where.
    pub(crate) fn wanted(config: &Config) -> Vec<(Self, SocketAddr)> {
        let mut wanted = Vec::new();
        let mut add = |door, address: Option<SocketAddr>| wanted.extend(address.map(|at| (door, at)));
        add(Self::Inbound, config.inbound);
        add(Self::CapturedInbound, config.capture_inbound);
        for outbound in &config.outbound {
            add(Self::Outbound(outbound.name.clone()), Some(outbound.listen));
        }
        add(Self::HttpProxy, config.http_proxy);
        add(Self::Captured, config.capture);
        add(Self::Admin, config.admin);
        wanted
    }
}

/// Binds every listener that the configuration asks for, except those that are `inherited`.
pub(crate) fn bind(config: &Config, mut inherited: Vec<Inherited>) -> Result<Vec<Bound>, StartError> {
    let bind_one = |(door, wanted): (Door, SocketAddr)| {
        let name = door.name();
        if let Some(i) = inherited.iter().position(|one| one.door == name) {
            let Inherited { address, listeners, .. } = inherited.swap_remove(i);
            return Ok(Bound { door, address, listeners });
        }
        let n = door.sockets(config);
        let failed = |source| StartError::Listen { what: door.flag(), address: wanted, source };
        let first = listen_on(wanted, n > 1).map_err(failed)?;
        let address = first.local_addr().map_err(failed)?;
        let mut bound = Bound { door, address, listeners: vec![first] };
        bound.widen(config)?;
        Ok(bound)
    };
    Door::wanted(config).into_iter().map(bind_one).collect()
}

/// Whether none of them is where the application should be: what came in there would come in again for ever.
pub(crate) fn lead_elsewhere(all: &[Bound], app: Option<&str>) -> Result<(), StartError> {
    let Some(app) = app else { return Ok(()) };
    let Ok(at) = app.replace("localhost", "127.0.0.1").parse::<SocketAddr>() else { return Ok(()) };
    let is_there = |one: &&Bound| {
        let reaches =
            one.address.ip() == at.ip() || (one.address.ip().is_unspecified() && at.ip().is_loopback());
        one.address.port() == at.port() && reaches
    };
    match all.iter().find(is_there) {
        Some(one) => Err(StartError::Loop { app: app.to_owned(), what: one.door.flag() }),
        None => Ok(()),
    }
}

impl Bound {
    /// Adds sockets until each worker has one. Connections wait in a socket from the moment it listens, so this
    /// comes when nothing can fail any more.
    pub(crate) fn widen(&mut self, config: &Config) -> Result<(), StartError> {
        let address = self.address;
        self.add(config).map_err(|source| StartError::Listen { what: self.door.flag(), address, source })
    }

    fn add(&mut self, config: &Config) -> io::Result<()> {
        let Some(first) = self.listeners.first() else { return Ok(()) };
        let n = self.door.sockets(config);
        if self.listeners.len() < n {
            // One that was inherited from a process with one worker is not shared yet.
            SockRef::from(first).set_reuse_port(true)?;
        }
        while self.listeners.len() < n {
            self.listeners.push(listen_on(self.address, true)?);
        }
        Ok(())
    }

    /// The same sockets once more, for whoever takes them over.
    pub(crate) fn hold(&self) -> io::Result<Held> {
        let listeners = self.listeners.iter().map(StdListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Held { door: self.door.name(), address: self.address, listeners })
    }
}

fn listen_on(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Both families, whatever the system's default is: redirected connections come from both.
        socket.set_only_v6(false)?;
    }
    if shared {
        // Each worker has its own queue of connections, so that none wakes another.
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves a listener of the worker that this is called on, in tasks of its own.
pub(crate) fn serve(
    proxy: &Arc<Proxy>,
    door: &Door,
    listener: StdListener,
    app: Option<&Arc<Endpoint>>,
    tally: &Arc<Tally>,
) -> io::Result<()> {
    // What is accepted inherits it.
    SockRef::from(&listener).set_tcp_keepalive(&keepalive(SILENT))?;
    let listener = TcpListener::from_std(listener)?;
    let proxy = Arc::clone(proxy);
    let (drain, gate) = (Arc::clone(&proxy.drain), proxy.drain.gate(tally));
    let guarded = Entrance {
        proxy_header: proxy.config.accept_proxy_header,
        identity: proxy.own_identity.clone(),
        plaintext: proxy.config.tls.as_ref().is_some_and(|tls| tls.plaintext),
        captured: *door == Door::CapturedInbound,
    };
    match door {
        Door::Inbound | Door::CapturedInbound => {
            let Some(app) = app.cloned() else { return Ok(()) };
            let service = move |caller| inbound::Inbound::new(&proxy, &app, &caller);
            drain.listeners.spawn(listen::serve(listener, guarded, service, gate));
        }
        Door::Outbound(name) => {
            let upstream = proxy.services.get_or_add(name, &proxy);
            let Some(upstream) = upstream else { return Ok(()) };
            let service = move |caller| outbound::Outbound::new(&proxy, &upstream, caller);
            drain.listeners.spawn(listen::serve(listener, Entrance::default(), service, gate));
        }
        Door::HttpProxy => {
            let service = move |caller| explicit::Explicit::new(&proxy, caller);
            drain.listeners.spawn(listen::serve(listener, Entrance::default(), service, gate));
        }
        Door::Captured => {
            let entrance = Entrance { captured: true, ..Entrance::default() };
            let service = move |caller| capture::Captured::new(&proxy, caller);
            drain.listeners.spawn(listen::serve(listener, entrance, service, gate));
        }
        Door::Admin => {
            let gate = drain.admin_gate(tally);
            let service = move |_| {
                let proxy = Arc::clone(&proxy);
                move |request| admin::handle(Arc::clone(&proxy), request)
            };
            // Not among those that drain.
            tokio::spawn(listen::serve(listener, Entrance::default(), service, gate));
        }
    }
    Ok(())
}
