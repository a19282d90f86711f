//! Starts the shop: a socket, a proxy and an app for each instance, then the visitors; and ends it in order.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use weir_model::Clock;
use weir_proxy_tap::config::{Config, Endpoint, Outbound, Protocol, RetryPolicy};
use weir_proxy_tap::{Running, StartError};

use super::app::{App, AppCall, AppRoute, Work};
use super::topology::{Call, ENTRY, Route, SERVICES, Service, VISITOR};
use super::traffic::{Visit, Visitor, shop_visits};
use super::upstream::Upstream;
use super::{DemoArgs, Shop, listen};

/// How long visitors wait for the shop to open: for its proxies to find each other.
const OPENING: Duration = Duration::from_secs(10);
/// Pause between two looks at whether it is open.
const OPENING_POLL: Duration = Duration::from_millis(100);
/// A free port of the loopback interface.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Why the shop could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshError {
    /// No socket for a service.
    #[error("cannot listen for `{instance}`: {source}")]
    Listen {
        /// The instance.
        instance: String,
        /// Why.
        source: io::Error,
    },
    /// A proxy did not start.
    #[error("the proxy of `{instance}` did not start: {source}")]
    Proxy {
        /// The instance it stands beside.
        instance: String,
        /// Why.
        source: StartError,
    },
    /// An address that cannot be called; a mistake of this program.
    #[error("no address to call: {0}")]
    Address(#[from] http::uri::InvalidUri),
}

/// The running shop.
#[derive(Debug)]
pub(crate) struct MeshHandle {
    closed: JoinHandle<()>,
}

impl MeshHandle {
    /// Waits until the shop has closed, which it does when the token it was given is cancelled.
    pub(crate) async fn closed(self) {
        // It ends abnormally only by a panic, which has been reported then.
        let _ = self.closed.await;
    }
}

/// One instance before its proxy and app run.
struct Instance {
    service: &'static Service,
    name: String,
    listener: TcpListener,
    address: SocketAddr,
}

/// Opens the shop: services, proxies that register at the collector, and visitors. It closes when
/// `shutdown` is cancelled: first the visitors stop, then proxies drain and send what they measured.
pub(crate) async fn run_mesh(
    args: &DemoArgs,
    collector: SocketAddr,
    clock: Clock,
    shutdown: CancellationToken,
    shop: Shop,
) -> Result<MeshHandle, MeshError> {
    let instances = bind().await?;
    let external = external(&instances);
    let parts = Parts::default();
    let mut opening = Opening { args, collector, clock: &clock, shop: &shop, external, parts };
    // The called first: whoever comes then finds them registered.
    for (index, instance) in instances.into_iter().enumerate().rev() {
        let seed = args.seed.wrapping_mul(1_000).wrapping_add(index as u64);
        opening.instance(instance, seed).await?;
    }
    let outbound = opening.proxy(VISITOR, VISITOR, None, &[ENTRY], args.seed).await?;
    let parts = opening.parts;
    let edge = outbound.get(ENTRY).copied().unwrap_or(ANY_PORT);

    let visits = shop_visits(&edge.to_string(), shop.checkout.clone())?;
    let door = Visit { method: Method::GET, uri: format!("http://{edge}/").parse()?, recorder: None };
    let (rate, rng) = (args.rate, fastrand::Rng::with_seed(args.seed));
    let closed = tokio::spawn(async move {
        let visitor = Visitor::new(clock);
        wait_for_opening(&visitor, &door, &shutdown).await;
        visitor.drive(rate, rng, visits, shutdown).await;
        parts.close().await;
    });
    Ok(MeshHandle { closed })
}

/// A socket for each instance of each service.
async fn bind() -> Result<Vec<Instance>, MeshError> {
    let mut instances = Vec::new();
    for service in SERVICES {
        for name in service.instances() {
            let bound = async {
                let listener = TcpListener::bind(ANY_PORT).await?;
                let address = listener.local_addr()?;
                Ok((listener, address))
            };
            let failed = |source| MeshError::Listen { instance: name.clone(), source };
            let (listener, address) = bound.await.map_err(failed)?;
            instances.push(Instance { service, name, listener, address });
        }
    }
    Ok(instances)
}

/// The endpoints of the services outside the mesh, as their callers' proxies are told them.
fn external(instances: &[Instance]) -> BTreeMap<String, Vec<Endpoint>> {
    let mut all: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    for instance in instances.iter().filter(|instance| instance.service.external) {
        let endpoint = Endpoint {
            instance: instance.name.clone(),
            address: instance.address.to_string(),
            protocol: protocol(instance.service.grpc),
            ..Endpoint::default()
        };
        all.entry(instance.service.name.to_owned()).or_default().push(endpoint);
    }
    all
}

fn protocol(grpc: bool) -> Protocol {
    if grpc { Protocol::Grpc } else { Protocol::Http }
}

/// What every instance needs to start.
struct Opening<'a> {
    args: &'a DemoArgs,
    collector: SocketAddr,
    clock: &'a Clock,
    shop: &'a Shop,
    external: BTreeMap<String, Vec<Endpoint>>,
    /// What runs already; dropped, and so ended, where the rest does not start.
    parts: Parts,
}

impl Opening<'_> {
    /// Starts an instance: its proxy, unless it is outside the mesh, and its app.
    async fn instance(&mut self, instance: Instance, seed: u64) -> Result<(), MeshError> {
        let Instance { service, name, listener, address } = instance;
        let upstreams = match service.external {
            true => BTreeMap::new(),
            false => {
                let app = Some((address, service.grpc));
                self.proxy(service.name, &name, app, &service.upstreams(), seed).await?
            }
        };
        let Some(faults) = self.shop.faults.of(&name) else { return Ok(()) };
        let app = App {
            service: service.name.to_owned(),
            instance: name,
            grpc: service.grpc,
            routes: routes(service, &upstreams),
            work: Work::new(service.latency_ms, service.error_rate, seed),
            faults,
        };
        let stop = self.parts.stop_apps.clone();
        self.parts.apps.spawn(listen::serve(Arc::new(app), listener, stop));
        Ok(())
    }

    /// Starts the proxy of `instance`; where its app finds each of `upstreams`.
    async fn proxy(
        &mut self,
        service: &str,
        instance: &str,
        app: Option<(SocketAddr, bool)>,
        upstreams: &[&'static str],
        seed: u64,
    ) -> Result<BTreeMap<&'static str, SocketAddr>, MeshError> {
        let outbound = |name: &&str| Outbound { name: (*name).to_owned(), listen: ANY_PORT };
        let called = |name: &String| upstreams.contains(&name.as_str());
        let config = Config {
            service: service.to_owned(),
            instance: instance.to_owned(),
            version: "1".to_owned(),
            app: app.map(|(address, _)| address.to_string()),
            inbound: app.map(|_| ANY_PORT),
            protocol: protocol(app.is_some_and(|(_, grpc)| grpc)),
            outbound: upstreams.iter().map(outbound).collect(),
            endpoints: self.external.clone().into_iter().filter(|(name, _)| called(name)).collect(),
            collector: Some(self.collector.to_string()),
            timeout: Duration::from_secs(5),
            retry: RetryPolicy { limit: self.args.retries, budget_pct: 20.0 },
            local_breaker: self.args.local_breaker == "on",
            ..Config::default()
        };
        let failed = |source| MeshError::Proxy { instance: instance.to_owned(), source };
        let running = weir_proxy_tap::start(config, self.clock.clone(), seed).await.map_err(failed)?;
        let named = |name: &&'static str| running.outbound.iter().find(|(to, _)| to == name);
        let addresses = upstreams.iter().filter_map(|name| Some((*name, named(name)?.1))).collect();
        self.parts.proxies.push(running);
        Ok(addresses)
    }
}

/// The routes of `service` with its calls bound to where its proxy takes them.
fn routes(service: &Service, upstreams: &BTreeMap<&'static str, SocketAddr>) -> Vec<AppRoute> {
    // One client per upstream: they share their connections.
    let client = |(&name, address): (&&'static str, &SocketAddr)| {
        let grpc = Service::named(name).is_some_and(|service| service.grpc);
        (name, Upstream::new(name, &format!("http://{address}"), grpc))
    };
    let clients: BTreeMap<&str, Upstream> = upstreams.iter().map(client).collect();
    let bind = |call: &Call| {
        let upstream = clients.get(call.to)?.clone();
        let method = Method::from_bytes(call.method.as_bytes()).ok()?;
        Some(AppCall { upstream, method, path: call.path.to_owned() })
    };
    let route = |route: &Route| AppRoute {
        method: Method::from_bytes(route.method.as_bytes()).ok(),
        path: route.path.to_owned(),
        calls: route.calls.iter().filter_map(bind).collect(),
    };
    service.routes.iter().map(route).collect()
}

/// Waits until a visitor is served, but not for ever: what is wrong then is to be seen.
async fn wait_for_opening(visitor: &Visitor, door: &Visit, shutdown: &CancellationToken) {
    let open = async {
        while !visitor.succeeds(door).await {
            tokio::time::sleep(OPENING_POLL).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(OPENING, open) => (),
        () = shutdown.cancelled() => (),
    }
}

/// What runs beside the visitors.
#[derive(Default)]
struct Parts {
    proxies: Vec<Running>,
    apps: JoinSet<()>,
    stop_apps: CancellationToken,
}

impl Parts {
    /// Ends the proxies, all at once, and then the apps behind them.
    async fn close(mut self) {
        futures::future::join_all(self.proxies.into_iter().map(Running::shutdown)).await;
        self.stop_apps.cancel();
        while self.apps.join_next().await.is_some() {}
    }
}
