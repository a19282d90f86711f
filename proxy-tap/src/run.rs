//! Puts one proxy together, runs it, and takes it down in order.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use weir_model::Clock;

use crate::breaker::{Answers, Breakers, Settings};
use crate::call::Party;
use crate::chance::Chance;
use crate::config::{Config, StaticEndpoint};
use crate::retry::Budget;
use crate::telemetry::{self, Exporter, Tap};
use crate::upstream::{Endpoint, Upstream};
use crate::{admin, headers, inbound, listen, mesh, outbound};

/// How long requests in flight may take to end when the proxy stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How often breakers look at the clock.
const BREAKER_TICK: Duration = Duration::from_millis(100);

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("cannot listen on `{address}` for {what}: {source}; choose another with {what}")]
    Listen {
        /// The flag that gave it.
        what: String,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The collector's address is not one.
    #[error("`{0}` is not an address of a collector; give --collector host:port or none")]
    Collector(String),
}

/// What every task of a proxy shares.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) config: Config,
    pub(crate) identity: Arc<Party>,
    /// What other proxies are told in the peer header.
    pub(crate) peer: HeaderValue,
    pub(crate) clock: Clock,
    pub(crate) chance: Arc<Chance>,
    pub(crate) tap: Arc<Tap>,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) mesh: mesh::Status,
    /// Answers to hints that wait for the mesh stream.
    pub(crate) answers: Arc<Answers>,
    pub(crate) started: Instant,
    budget: Mutex<Budget>,
}

impl Proxy {
    pub(crate) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
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
    proxy: Arc<Proxy>,
    exporter: Option<Exporter>,
    /// Ends in this order: registration, listeners, everything else.
    leave: CancellationToken,
    stop_listening: CancellationToken,
    stop_rest: CancellationToken,
    connections: TaskTracker,
    joined: Option<tokio::task::JoinHandle<()>>,
    rest: TaskTracker,
}

/// Starts a proxy on the current tokio runtime; it serves when this returns.
pub async fn start(mut config: Config, clock: Clock, seed: u64) -> Result<Running, StartError> {
    let name = format!("{}/{}", config.service, config.instance);
    let chance = Arc::new(Chance::new(seed, &name));
    if config.instance.is_empty() {
        config.instance = format!("{}-{:08x}", config.service, chance.u64() as u32);
    }
    let bound = Bound::listen(&config).await?;
    let channel = config.collector.as_deref().map(connect_lazily).transpose()?;
    let proxy = assemble(config, clock, Arc::clone(&chance), channel.is_some());
    let (leave, stop_listening, stop_rest) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let (connections, rest) = (TaskTracker::new(), TaskTracker::new());
    let (inbound, outbound, admin) = (bound.inbound_addr(), bound.outbound_addrs(&proxy), bound.admin_addr());
    bound.serve(&proxy, &leave, &stop_listening, &stop_rest, &connections);
    rest.spawn(tick(Arc::clone(&proxy), stop_rest.clone()));
    let exporter = channel.as_ref().map(|channel| Exporter {
        tap: Arc::clone(&proxy.tap),
        channel: channel.clone(),
        chance: Arc::clone(&chance),
    });
    if let Some(exporter) = &exporter {
        rest.spawn(telemetry::run(exporter.clone(), stop_rest.clone()));
    }
    let joined = channel.map(|channel| {
        let told =
            |address: SocketAddr| proxy.config.advertise.clone().unwrap_or_else(|| address.to_string());
        let advertised = inbound.map(told);
        tokio::spawn(mesh::run(Arc::clone(&proxy), channel, advertised, leave.clone()))
    });
    Ok(Running {
        inbound,
        outbound,
        admin,
        proxy,
        exporter,
        leave,
        stop_listening,
        stop_rest,
        connections,
        joined,
        rest,
    })
}

impl Running {
    /// The line that says it serves, with all addresses.
    pub fn ready_line(&self) -> String {
        let mut line = "ready".to_owned();
        if let Some(address) = self.inbound {
            line.push_str(&format!(" inbound={address}"));
        }
        for (name, address) in &self.outbound {
            line.push_str(&format!(" outbound={name}={address}"));
        }
        if let Some(address) = self.admin {
            line.push_str(&format!(" admin={address}"));
        }
        line
    }

    /// The name of this proxy's endpoint in the mesh.
    pub fn instance(&self) -> &str {
        &self.proxy.identity.instance
    }

    /// Drains: withdraws the registration, accepts nothing new, lets requests in flight end for up to
    /// 5 s, and sends the last telemetry.
    pub async fn shutdown(self) {
        self.leave.cancel();
        if let Some(joined) = self.joined {
            let _ = timeout(Duration::from_secs(1), joined).await;
        }
        self.stop_listening.cancel();
        self.connections.close();
        if timeout(DRAIN, self.connections.wait()).await.is_err() {
            tracing::warn!(left = self.connections.len(), "connections were still open after 5 s");
        }
        self.stop_rest.cancel();
        self.rest.close();
        self.rest.wait().await;
        if let Some(exporter) = self.exporter {
            telemetry::final_flush(exporter).await;
        }
    }
}

fn connect_lazily(collector: &str) -> Result<Channel, StartError> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{collector}"))
        .map_err(|_| StartError::Collector(collector.to_owned()))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect_lazy())
}

fn assemble(config: Config, clock: Clock, chance: Arc<Chance>, exporting: bool) -> Arc<Proxy> {
    let identity = Arc::new(Party {
        service: config.service.as_str().into(),
        instance: config.instance.as_str().into(),
        version: config.version.as_str().into(),
    });
    let now = Instant::now();
    let answers = Arc::new(Answers::default());
    let upstreams = config.outbound.iter().map(|outbound| {
        let settings = Settings {
            local: config.local_breaker,
            caller: Arc::clone(&identity.service),
            instance: Arc::clone(&identity.instance),
            service: outbound.name.as_str().into(),
            answers: Arc::clone(&answers),
        };
        let fixed: Option<Vec<StaticEndpoint>> = config.endpoints.get(&outbound.name).cloned();
        Upstream::new(&outbound.name, Breakers::new(settings, now), fixed)
    });
    Arc::new(Proxy {
        upstreams: upstreams.collect(),
        answers,
        started: now,
        peer: headers::peer_value(&identity),
        tap: Tap::new(Arc::clone(&identity), clock.clone(), exporting),
        budget: Mutex::new(Budget::new(config.retry.budget_pct, now)),
        mesh: mesh::Status::default(),
        identity,
        clock,
        chance,
        config,
    })
}

/// Lets the breakers of all upstreams notice that time has gone by.
async fn tick(proxy: Arc<Proxy>, stop: CancellationToken) {
    let mut every = tokio::time::interval(BREAKER_TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        for upstream in &proxy.upstreams {
            upstream.breakers().tick(Instant::now());
        }
    }
}

/// Listeners that have their addresses and do not serve yet.
struct Bound {
    inbound: Option<TcpListener>,
    outbound: Vec<TcpListener>,
    admin: Option<TcpListener>,
}

impl Bound {
    async fn listen(config: &Config) -> Result<Self, StartError> {
        let inbound = match config.inbound {
            Some(address) => Some(bind("--inbound".to_owned(), address).await?),
            None => None,
        };
        let mut outbound = Vec::new();
        for to in &config.outbound {
            outbound.push(bind(format!("--outbound {}", to.name), to.listen).await?);
        }
        let admin = match config.admin {
            Some(address) => Some(bind("--admin".to_owned(), address).await?),
            None => None,
        };
        Ok(Self { inbound, outbound, admin })
    }

    fn inbound_addr(&self) -> Option<SocketAddr> {
        self.inbound.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    fn outbound_addrs(&self, proxy: &Proxy) -> Vec<(String, SocketAddr)> {
        let addresses = self.outbound.iter().filter_map(|listener| listener.local_addr().ok());
        let names = proxy.config.outbound.iter().map(|outbound| outbound.name.clone());
        names.zip(addresses).collect()
    }

    fn serve(
        self,
        proxy: &Arc<Proxy>,
        leave: &CancellationToken,
        stop: &CancellationToken,
        stop_admin: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        if let (Some(listener), Some(app)) = (self.inbound, application(proxy)) {
            let proxy = Arc::clone(proxy);
            let handler = move |request| inbound::handle(Arc::clone(&proxy), Arc::clone(&app), request);
            tasks.spawn(listen::serve(listener, handler, stop.clone(), tasks.clone()));
        }
        for (listener, upstream) in self.outbound.into_iter().zip(&proxy.upstreams) {
            let (proxy, upstream) = (Arc::clone(proxy), Arc::clone(upstream));
            let handler = move |request| outbound::handle(Arc::clone(&proxy), Arc::clone(&upstream), request);
            tasks.spawn(listen::serve(listener, handler, stop.clone(), tasks.clone()));
        }
        if let Some(listener) = self.admin {
            let (proxy, draining) = (Arc::clone(proxy), leave.clone());
            let handler = move |request| admin::handle(Arc::clone(&proxy), draining.is_cancelled(), request);
            // Health is asked for until the end, so this listener is not among those that drain.
            tokio::spawn(listen::serve(listener, handler, stop_admin.clone(), TaskTracker::new()));
        }
    }
}

async fn bind(what: String, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { what, address, source })
}

/// The local application as an endpoint of this very service.
fn application(proxy: &Proxy) -> Option<Arc<Endpoint>> {
    let told = StaticEndpoint {
        instance: proxy.config.instance.clone(),
        address: proxy.config.app.clone()?,
        version: proxy.config.version.clone(),
        zone: proxy.config.zone.clone(),
        protocol: proxy.config.protocol,
    };
    Some(Endpoint::new(&proxy.identity.service, told))
}
