//! Connections that nobody looks into: passed byte by byte to an endpoint or the application, counted and reported.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use weir_model::policy::destination::ProxyProtocol;

use crate::balance::Ask;
use crate::breaker::{Kind, Outcome};
use crate::call::{Direction, Party, Security, flag};
use crate::concurrency::Refused;
use crate::detect::proxy_header::{write_v1, write_v2};
use crate::io::Conn;
use crate::listen::Caller;
use crate::pool::SendError;
use crate::run::Proxy;
use crate::telemetry::{Flow, OpenFlow};
use crate::tunnel::{self, Broken};
use crate::upstream::{Admission, Endpoint, Upstream};

/// Endpoints that are tried before a connection is given up.
const TRIES: usize = 3;

/// Connects `down` to an endpoint of `upstream`, until either has ended. `sni` is the name that TLS asked for.
pub(crate) async fn forward(
    proxy: &Arc<Proxy>,
    upstream: &Arc<Upstream>,
    caller: Caller,
    mut down: Conn,
    sni: Option<Box<str>>,
) {
    let (client, server) = (Arc::clone(&proxy.identity), Arc::clone(&upstream.party));
    let mut flow = open(proxy, Direction::Outbound, client, server, caller);
    flow.flow.sni = sni.map(Arc::from);
    let edge_probe = match upstream.admit(Instant::now(), &proxy.chance) {
        Admission::Refused(refusal) => {
            flow.flow.flags = flag::REFUSED;
            return tracing::debug!(service = %upstream.name, by = %refusal.by, "connection refused");
        }
        Admission::Probe => true,
        Admission::Normal => false,
    };
    let (endpoint, mut up) = match connect(proxy, upstream, edge_probe).await {
        Ok(connected) => connected,
        Err(None) => {
            flow.flow.flags = flag::NO_CONNECTION;
            return;
        }
        Err(Some(refused)) => {
            flow.flow.flags = flag::REFUSED;
            return tracing::debug!(service = %upstream.name, by = refused.name(), "connection refused");
        }
    };
    flow.flow.server = Arc::clone(&endpoint.party);
    if endpoint.pool.is_mutual() {
        flow.flow.security = Security::MutualTls;
    }
    if let Some(version) = upstream.applied().service.destination.proxy_protocol {
        let mut header = Vec::new();
        let destination = caller.local.or_else(|| endpoint.address.parse().ok()).unwrap_or(caller.address);
        match version {
            ProxyProtocol::V1 => write_v1(&mut header, caller.address, destination),
            ProxyProtocol::V2 => write_v2(&mut header, caller.address, destination),
        }
        up.output.extend_from_slice(&header);
    }
    let _busy = Busy::new(&endpoint);
    pass(flow, &endpoint, &mut down, &mut up).await;
}

/// Connects `down`, which comes from the mesh, to the application.
pub(crate) async fn inward(proxy: &Arc<Proxy>, app: &Endpoint, caller: Caller, mut down: Conn) {
    let client = Arc::new(Party { service: "unknown".into(), ..Party::default() });
    let mut flow = open(proxy, Direction::Inbound, client, Arc::clone(&proxy.identity), caller);
    flow.flow.security = if caller.is_mutual_tls { Security::MutualTls } else { Security::None };
    match app.pool.connect().await {
        Ok(mut up) => pass(flow, app, &mut down, &mut up).await,
        Err(error) => {
            flow.flow.flags = flag::NO_CONNECTION;
            tracing::debug!(%error, "the application takes no connection");
        }
    }
}

fn open(
    proxy: &Proxy,
    direction: Direction,
    client: Arc<Party>,
    server: Arc<Party>,
    caller: Caller,
) -> OpenFlow {
    let mut flow = Flow::new(direction, client, server, proxy.clock.now());
    flow.peer_address = Some(caller.address);
    proxy.tap.opened(flow)
}

async fn pass(mut flow: OpenFlow, to: &Endpoint, down: &mut Conn, up: &mut Conn) {
    flow.flow.address = Some(Arc::clone(&to.address));
    flow.flow.connected_after = Some(flow.flow.started.elapsed());
    let carried = Arc::clone(flow.carried());
    match tunnel::pass(down, up, &*carried).await {
        Ok(()) => {}
        Err(Broken::Down) => flow.flow.flags = flag::CALLER_GONE,
        Err(Broken::Up) => flow.flow.flags = flag::RESET,
    }
}

/// A connection to an endpoint, and which; or the bound that it would have exceeded, if that is why there is none.
/// Whether it is made is all that the breaker hears, also where it tests the edge.
pub(crate) async fn connect(
    proxy: &Arc<Proxy>,
    upstream: &Arc<Upstream>,
    edge_probe: bool,
) -> Result<(Arc<Endpoint>, Conn), Option<Refused>> {
    let mut tried = Vec::new();
    for _ in 0..TRIES {
        let ask = Ask { tried: &tried, tests_no_endpoint: edge_probe, ..Ask::default() };
        let picked = upstream.pick("", &ask, &proxy.chance, Instant::now()).ok_or(None)?;
        let endpoint = picked.endpoint;
        let started = Instant::now();
        let connected = endpoint.pool.connect().await;
        let kind = match &connected {
            // No fault of the endpoint's, and it holds for all of them.
            Err(SendError::Refused(refused)) => return Err(Some(upstream.applied().limits.refuse(*refused))),
            Ok(_) => Kind::Http(200),
            Err(SendError::Connect { source, .. }) if source.kind() == std::io::ErrorKind::TimedOut => {
                Kind::TimedOut
            }
            Err(_) => Kind::NoConnection,
        };
        let (ok, latency) = (connected.is_ok(), started.elapsed());
        upstream.result(&endpoint, Outcome { ok, latency, probe: edge_probe || picked.probe, kind });
        match connected {
            Ok(conn) => return Ok((endpoint, conn)),
            Err(error) => {
                tracing::debug!(%error, "trying another endpoint");
                tried.push(endpoint);
            }
        }
    }
    Err(None)
}

/// Counts as one request under way.
struct Busy<'a>(&'a Endpoint);

impl<'a> Busy<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
