//! Puts one proxy together, runs it, and takes it down in order.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use weir_model::policy::Policy;
use weir_model::policy::destination::OutlierDetection;
use weir_model::{Clock, policy};

use crate::breaker::{Answers, Breakers, Settings};
use crate::call::Party;
use crate::chance::Chance;
use crate::config::Config;
use crate::dial::{self, Dialled, ToCollector};
use crate::doors::{self, Bound, Door};
use crate::drain::{Drain, Tally, Why};
use crate::http1::Malformed;
use crate::listen::Caller;
use crate::mirror::Mirrors;
use crate::route::Buckets;
use crate::services::Services;
use crate::sources::Sources;
use crate::takeover::{self, Held, Offer, Predecessor};
use crate::telemetry::{self, Exporter, Observe, Tap};
use crate::tls::Identity;
use crate::trace::Share;
use crate::upstream::{Connecting, Endpoint, Origin, Upstream};
use crate::{headers, mesh, sources, worker};

pub use error::StartError;

mod error;

/// How often breakers look at the clock.
const BREAKER_TICK: Duration = Duration::from_millis(100);

/// How long a new process that takes over waits to hear where its services are.
const LEARNING: Duration = Duration::from_secs(2);

/// What every task of a proxy shares.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) config: Config,
    pub(crate) identity: Arc<Party>,
    /// Who the proxy is to others, with encryption.
    pub(crate) own_identity: Option<Arc<Identity>>,
    /// What other proxies are told in the peer header.
    pub(crate) peer: HeaderValue,
    pub(crate) clock: Clock,
    pub(crate) chance: Arc<Chance>,
    pub(crate) tap: Arc<Tap>,
    pub(crate) services: Services,
    pub(crate) mesh: mesh::Status,
    /// Answers to hints that wait for the mesh stream.
    pub(crate) answers: Arc<Answers>,
    pub(crate) started: Instant,
    /// Where inbound requests arrive.
    pub(crate) inbound: Option<SocketAddr>,
    /// Its own connections, where others may lead back to it.
    pub(crate) dialled: Option<Arc<Dialled>>,
    /// The connections of each listener.
    pub(crate) tallies: Vec<Arc<Tally>>,
    pub(crate) drain: Arc<Drain>,
    /// Requests that could not be understood.
    malformed: AtomicU64,
    /// Health checks of others.
    checked: AtomicU64,
    pub(crate) mirror: Mirrors,
    pub(crate) sources: Sources,
    /// Rate limits as they stand.
    pub(crate) buckets: Arc<Buckets>,
    /// What is in force; [`Proxy::apply`] changes it.
    pub(crate) policy: ArcSwap<Policy>,
}

impl Proxy {
    /// A request could not be understood.
    pub(crate) fn malformed(&self, malformed: Malformed) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(reason = malformed.reason, "malformed request");
    }

    /// How many requests could not be understood.
    pub(crate) fn malformed_requests(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// Another proxy checks whether the application is healthy.
    pub(crate) fn checked(&self) {
        self.checked.fetch_add(1, Ordering::Relaxed);
    }

    /// How often other proxies checked.
    pub(crate) fn health_checks(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    fn connecting(&self) -> Connecting {
        Connecting {
            workers: self.config.workers,
            identity: self.own_identity.clone(),
            mark: self.config.mark,
            dialled: self.dialled.clone(),
            terms: Arc::default(),
        }
    }

    /// A service as this proxy calls it.
    pub(crate) fn new_upstream(
        &self,
        name: &str,
        origin: Origin,
        endpoints: Vec<policy::Endpoint>,
    ) -> Arc<Upstream> {
        let settings = Settings {
            outlier: OutlierDetection { enabled: self.config.local_breaker, ..OutlierDetection::default() },
            caller: Arc::clone(&self.identity.service),
            instance: Arc::clone(&self.identity.instance),
            service: name.into(),
            answers: Arc::clone(&self.answers),
        };
        let breakers = Breakers::new(settings, Instant::now());
        let upstream = Upstream::new(name, breakers, (origin, endpoints), self.connecting());
        self.apply_to(&upstream, None);
        upstream
    }

    /// Whether `caller` is this proxy. Asked when its first bytes are there, or are overdue: by then whoever made the
    /// connection has noted it.
    pub(crate) fn is_itself(&self, caller: &Caller) -> bool {
        let own = self.dialled.as_ref().zip(caller.local);
        own.is_some_and(|(dialled, destination)| dialled.has(caller.address, destination))
    }

    /// The local application as an endpoint of this very service.
    fn application(&self) -> Option<Arc<Endpoint>> {
        let told = policy::Endpoint {
            instance: self.config.instance.clone(),
            address: self.config.app.clone()?,
            version: self.config.version.clone(),
            region: self.config.region.clone(),
            zone: self.config.zone.clone(),
            namespace: self.config.namespace.clone(),
            protocol: self.config.protocol,
            ..policy::Endpoint::default()
        };
        Some(self.beside(told))
    }

    /// What listens at `address` beside the application, as an endpoint for one connection.
    pub(crate) fn port(&self, address: SocketAddr) -> Arc<Endpoint> {
        self.beside(policy::Endpoint {
            instance: self.config.instance.clone(),
            address: address.to_string(),
            version: self.config.version.clone(),
            region: self.config.region.clone(),
            zone: self.config.zone.clone(),
            namespace: self.config.namespace.clone(),
            ..policy::Endpoint::default()
        })
    }

    fn beside(&self, told: policy::Endpoint) -> Arc<Endpoint> {
        Endpoint::new(&self.identity.service, told, &self.connecting())
    }
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Running {
    /// Where inbound requests arrive.
    pub inbound: Option<SocketAddr>,
    /// Where the application's calls arrive, by service.
    pub outbound: Vec<(String, SocketAddr)>,
    /// Where health and state are served.
    pub admin: Option<SocketAddr>,
    /// Where requests arrive that name their host.
    pub http_proxy: Option<SocketAddr>,
    /// Where redirected connections of the application arrive.
    pub capture: Option<SocketAddr>,
    /// Where redirected connections to the application arrive.
    pub capture_inbound: Option<SocketAddr>,
    proxy: Arc<Proxy>,
    exporter: Option<Exporter>,
    drained: JoinHandle<()>,
    rest: TaskTracker,
    workers: Vec<std::thread::JoinHandle<()>>,
}

/// Starts a proxy on the current tokio runtime, and on a thread for each further worker, with what is no request on
/// [`Config::beside`]; it serves when this returns. With [`Config::takeover`] it first takes the listeners over from
/// the proxy that has them, which drains when this one serves, and goes on unharmed when this one fails.
pub async fn start(mut config: Config, clock: Clock, seed: u64) -> Result<Running, StartError> {
    let name = format!("{}/{}", config.service, config.instance);
    let chance = Arc::new(Chance::new(seed, &name));
    if config.instance.is_empty() {
        config.instance = format!("{}-{:08x}", config.service, chance.u64() as u32);
    }
    let own_identity = config.tls.as_ref().map(|tls| Identity::load(tls.files.clone())).transpose()?;
    if let Some(mark) = config.mark {
        dial::may_mark(mark).map_err(|source| StartError::Mark { mark, source })?;
    }
    let beside = config.beside.clone();
    let connect = |collector| enter(beside.as_ref(), || connect_lazily(collector, config.mark));
    let channel = config.collector.as_deref().map(connect).transpose()?;
    let (handing, bound) = doors(&config).await?;
    doors::lead_elsewhere(&bound, config.app.as_deref())?;
    let proxy = assemble(config, own_identity, &bound, clock, chance, channel.is_some());
    let started = begin(&proxy, handing, bound, channel).await;
    if started.is_err() {
        proxy.drain.leave.cancel();
        proxy.drain.rest.cancel();
    }
    started
}

/// The process before, if there is one, and where the next one will come.
#[derive(Debug)]
struct Handing {
    path: PathBuf,
    predecessor: Option<Predecessor>,
    offer: Offer,
}

/// The listeners, from the process before as far as it has them.
async fn doors(config: &Config) -> Result<(Option<Handing>, Vec<Bound>), StartError> {
    let Some(path) = config.takeover.clone() else { return Ok((None, doors::bind(config, Vec::new())?)) };
    let wanted: Vec<_> =
        Door::wanted(config).into_iter().map(|(door, address)| (door.name(), address)).collect();
    let handing = async {
        let predecessor = takeover::claim(&path, &wanted).await?;
        Ok((predecessor, Offer::bind(&path)?))
    };
    let failed = |source| StartError::Takeover { path: path.clone(), source };
    let (mut predecessor, offer) = handing.await.map_err(failed)?;
    let inherited = predecessor.as_mut().map(|from| std::mem::take(&mut from.listeners));
    let bound = doors::bind(config, inherited.unwrap_or_default())?;
    Ok((Some(Handing { path, predecessor, offer }), bound))
}

async fn begin(
    proxy: &Arc<Proxy>,
    handing: Option<Handing>,
    mut bound: Vec<Bound>,
    channel: Option<Channel>,
) -> Result<Running, StartError> {
    let find = |door: &Door| bound.iter().find(|one| one.door == *door).map(|one| one.address);
    let (inbound, admin) = (find(&Door::Inbound), find(&Door::Admin));
    let (http_proxy, capture) = (find(&Door::HttpProxy), find(&Door::Captured));
    let capture_inbound = find(&Door::CapturedInbound);
    let rest = TaskTracker::new();
    let succeeds = handing.as_ref().and_then(|handing| handing.predecessor.as_ref());
    if let (Some(predecessor), Some(handing)) = (succeeds, &handing) {
        let failed = |source| StartError::Takeover { path: handing.path.clone(), source };
        predecessor.prepared().await.map_err(failed)?;
    }
    // After that: the registration of a process that never serves would outlive it.
    let beside = proxy.config.beside.as_ref();
    enter(beside, || sources::run(proxy, &rest, &proxy.drain.rest));
    let joined = channel.clone().map(|channel| enter(beside, || join_mesh(proxy, channel, inbound)));
    if succeeds.is_some() {
        let _ = timeout(LEARNING, learn(proxy)).await;
    }
    for one in &mut bound {
        one.widen(&proxy.config)?;
    }
    let handing = handing.map(|handing| handing.hold(&bound)).transpose()?;
    let outbound = bound.iter().filter_map(|one| match &one.door {
        Door::Outbound(name) => Some((name.clone(), one.address)),
        _ => None,
    });
    let outbound = outbound.collect();
    let app = proxy.application();
    let workers = serve(proxy, bound, app.as_ref())?;
    enter(beside, || rest.spawn(tick(Arc::clone(proxy), app, proxy.drain.rest.clone())));
    let exporter = channel.map(|channel| Exporter {
        tap: Arc::clone(&proxy.tap),
        channel,
        chance: Arc::clone(&proxy.chance),
    });
    if let Some(exporter) = &exporter {
        enter(beside, || rest.spawn(telemetry::run(exporter.clone(), proxy.drain.rest.clone())));
    }
    if let Some((handing, held)) = handing {
        handing.complete(held, &proxy.drain).await?;
    }
    let drained = tokio::spawn(drained(Arc::clone(proxy), joined));
    let proxy = Arc::clone(proxy);
    Ok(Running {
        inbound,
        outbound,
        admin,
        http_proxy,
        capture,
        capture_inbound,
        proxy,
        exporter,
        drained,
        rest,
        workers,
    })
}

impl Handing {
    /// Keeps a hold on the listeners, for the next process.
    fn hold(self, bound: &[Bound]) -> Result<(Self, Vec<Held>), StartError> {
        match bound.iter().map(Bound::hold).collect::<io::Result<_>>() {
            Ok(held) => Ok((self, held)),
            Err(error) => Err(StartError::Takeover { path: self.path, source: error.into() }),
        }
    }

    /// Lets the process before go, and waits for the next.
    async fn complete(self, held: Vec<Held>, drain: &Arc<Drain>) -> Result<(), StartError> {
        let Self { path, predecessor, mut offer } = self;
        // Before the process before is told to leave: it removes the socket if that is still its own by then, and must
        // not find it so and remove this one's.
        offer.open().map_err(|source| StartError::Takeover { path, source })?;
        if let Some(predecessor) = predecessor {
            predecessor.serving().await;
        }
        let drain = Arc::clone(drain);
        tokio::spawn(async move { offer.run(held, &drain).await });
        Ok(())
    }
}

fn join_mesh(proxy: &Arc<Proxy>, channel: Channel, inbound: Option<SocketAddr>) -> JoinHandle<()> {
    let told = |address: SocketAddr| proxy.config.advertise.clone().unwrap_or_else(|| address.to_string());
    tokio::spawn(mesh::run(Arc::clone(proxy), channel, inbound.map(told), proxy.drain.leave.clone()))
}

/// Waits until it is known where all services are that are asked for.
async fn learn(proxy: &Proxy) {
    let told_here =
        |one: &Arc<Upstream>| one.origin() != Origin::Registry || proxy.config.collector.is_some();
    for upstream in proxy.services.all().into_iter().filter(told_here) {
        upstream.told().await;
    }
}

async fn drained(proxy: Arc<Proxy>, joined: Option<JoinHandle<()>>) {
    proxy.drain.run(joined, proxy.config.drain_delay, proxy.config.drain).await;
}

/// Serves the first listener of each door here and the others on threads of their own; several on each where there
/// are more of them than workers.
fn serve(
    proxy: &Arc<Proxy>,
    bound: Vec<Bound>,
    app: Option<&Arc<Endpoint>>,
) -> Result<Vec<std::thread::JoinHandle<()>>, StartError> {
    let workers = proxy.config.workers.max(1);
    let mut shares: Vec<Vec<(Door, StdListener, Arc<Tally>)>> = (0..workers).map(|_| Vec::new()).collect();
    for (one, tally) in bound.into_iter().zip(&proxy.tallies) {
        for (i, listener) in one.listeners.into_iter().enumerate() {
            shares[i % workers].push((one.door.clone(), listener, Arc::clone(tally)));
        }
    }
    let mut threads = Vec::new();
    for (n, share) in shares.into_iter().enumerate() {
        if n == 0 {
            for (door, listener, tally) in share {
                let address = listener.local_addr().map_err(StartError::Worker)?;
                let failed = |source| StartError::Listen { what: door.flag(), address, source };
                let serve = || doors::serve(proxy, &door, listener, app, &tally);
                let beside = proxy.config.beside.as_ref().filter(|_| door == Door::Admin);
                enter(beside, serve).map_err(failed)?;
            }
            continue;
        }
        let (proxy, app) = (Arc::clone(proxy), app.cloned());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Worker)?;
        let work = move || {
            worker::begin(n);
            runtime.block_on(async {
                for (door, listener, tally) in share {
                    if let Err(error) = doors::serve(&proxy, &door, listener, app.as_ref(), &tally) {
                        tracing::error!(%error, "worker {n} cannot serve {}", door.flag());
                    }
                }
                proxy.drain.rest.cancelled().await;
            });
        };
        let thread = std::thread::Builder::new().name(format!("worker-{n}")).spawn(work);
        threads.push(thread.map_err(StartError::Worker)?);
    }
    Ok(threads)
}

impl Running {
    /// The line that says it serves, with all addresses.
    pub fn ready_line(&self) -> String {
        let mut line = "ready".to_owned();
        let mut add = |what: &str, address: Option<SocketAddr>| {
            line.extend(address.map(|address| format!(" {what}={address}")));
        };
        add("inbound", self.inbound);
        for (name, address) in &self.outbound {
            add(&format!("outbound={name}"), Some(*address));
        }
        add("http-proxy", self.http_proxy);
        add("capture", self.capture);
        add("capture-inbound", self.capture_inbound);
        add("admin", self.admin);
        line
    }

    /// The name of this proxy's endpoint in the mesh.
    pub fn instance(&self) -> &str {
        &self.proxy.identity.instance
    }

    /// Ends when the proxy is about to leave: by [`Running::shutdown`], by `POST /drain` at the admin page, or because
    /// another process has taken its listeners over. Whoever runs it then shuts it down.
    pub fn leaving(&self) -> impl Future<Output = ()> + Send + use<> {
        self.proxy.drain.leave.clone().cancelled_owned()
    }

    /// Drains, unless that was begun before: withdraws the registration, goes on accepting for
    /// [`Config::drain_delay`], then accepts nothing new, lets what was begun end for up to [`Config::drain`], and
    /// sends the last telemetry.
    pub async fn shutdown(self) {
        let drain = &self.proxy.drain;
        drain.begin(Why::Program);
        let _ = self.drained.await;
        drain.rest.cancel();
        self.rest.close();
        self.rest.wait().await;
        if let Some(exporter) = self.exporter {
            telemetry::final_flush(exporter).await;
        }
        let workers = self.workers;
        let ended = move || workers.into_iter().for_each(|worker| drop(worker.join()));
        let _ = tokio::task::spawn_blocking(ended).await;
    }
}

/// Does what spawns tasks and makes sockets on another runtime, if there is one.
fn enter<T>(beside: Option<&Handle>, start: impl FnOnce() -> T) -> T {
    let _entered = beside.map(Handle::enter);
    start()
}

fn connect_lazily(collector: &str, mark: Option<u32>) -> Result<Channel, StartError> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{collector}"))
        .map_err(|_| StartError::Collector(collector.to_owned()))?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    Ok(match mark {
        Some(mark) => endpoint.connect_with_connector_lazy(ToCollector { address: collector.into(), mark }),
        None => endpoint.connect_lazy(),
    })
}

fn assemble(
    mut config: Config,
    own_identity: Option<Arc<Identity>>,
    bound: &[Bound],
    clock: Clock,
    chance: Arc<Chance>,
    exporting: bool,
) -> Arc<Proxy> {
    let identity = Arc::new(Party {
        service: config.service.as_str().into(),
        instance: config.instance.as_str().into(),
        version: config.version.as_str().into(),
        namespace: config.namespace.as_str().into(),
        region: config.region.as_str().into(),
        zone: config.zone.as_str().into(),
        ..Party::default()
    });
    let now = Instant::now();
    // The services have them from here on.
    let fixed = std::mem::take(&mut config.endpoints);
    let observe = Observe {
        exporting,
        sampled: Share::of(config.trace_sampling.fraction()),
        logged: Share::of(config.log_sampling.fraction()),
    };
    let proxy = Arc::new(Proxy {
        services: Services::default(),
        answers: Arc::new(Answers::default()),
        started: now,
        own_identity,
        inbound: bound.iter().find(|one| one.door == Door::Inbound).map(|one| one.address),
        dialled: config.capture.or(config.http_proxy).map(|_| Arc::default()),
        tallies: bound.iter().map(|one| Tally::new(one.door.name())).collect(),
        drain: Drain::new(),
        malformed: AtomicU64::new(0),
        checked: AtomicU64::new(0),
        peer: headers::peer_value(&identity),
        tap: Tap::with(Arc::clone(&identity), clock.clone(), observe),
        mirror: Mirrors::default(),
        sources: Sources::new(&fixed),
        buckets: Buckets::new(now),
        policy: ArcSwap::from_pointee(std::mem::take(&mut config.policy)),
        mesh: mesh::Status::default(),
        identity,
        clock,
        chance,
        config,
    });
    for (name, endpoints) in fixed {
        proxy.services.add(&name, Origin::File, endpoints, &proxy);
    }
    let configured = proxy.config.outbound.iter().map(|outbound| &outbound.name);
    for name in configured.chain(proxy.config.resolve.keys()) {
        proxy.services.get_or_add(name, &proxy);
    }
    for service in &proxy.policy().services {
        proxy.services.get_or_add(&service.host, &proxy);
    }
    proxy
}

/// Lets the breakers of all upstreams, and connections that nobody uses, notice that time has gone by.
async fn tick(proxy: Arc<Proxy>, app: Option<Arc<Endpoint>>, stop: CancellationToken) {
    let mut every = tokio::time::interval(BREAKER_TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let now = Instant::now();
        if let Some(app) = &app {
            app.pool.expire_if_due(now);
        }
        for upstream in proxy.services.all() {
            upstream.breakers().tick(now);
            upstream.sets().tick(now);
            upstream.part();
            if upstream.terms().is_due(now) {
                let endpoints = upstream.endpoints();
                worker::giving_way(endpoints.iter()).for_each(|endpoint| endpoint.pool.expire(now));
            }
        }
    }
}
