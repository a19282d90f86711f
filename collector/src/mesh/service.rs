//! The `Mesh` service: one stream and one task for each proxy.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_model::hint::{Ack, HintSet};
use weir_model::limits;
use weir_model::mesh::{
    self, EndpointSet, FromProxy, Registration, ToProxy, Watch, Welcome, from_proxy, mesh_server, to_proxy,
};

use super::acks::ProxyAck;
use super::rates::Rates;
use super::registry::{BadRegistration, RegisteredService, Registry, StreamId, check_upstreams};
use crate::counters::Counters;

/// The control plane, shared by all streams.
#[derive(Debug, Clone)]
pub(crate) struct MeshService(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    epoch: u64,
    registry: Mutex<Registry>,
    rates: Mutex<Rates>,
    /// Wakes the streams when the registry may say something new.
    changes: watch::Sender<()>,
    hints: watch::Receiver<HintSet>,
    acks: mpsc::Sender<ProxyAck>,
    streams: AtomicU64,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

/// How often expiry is looked for.
const EXPIRE_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

impl MeshService {
    /// A control plane of the run `epoch`; the first run of a data directory is 1.
    pub(crate) fn new(
        epoch: u64,
        hints: watch::Receiver<HintSet>,
        acks: mpsc::Sender<ProxyAck>,
        counters: Arc<Counters>,
        stop: CancellationToken,
    ) -> Self {
        let (registry, rates) = (Mutex::new(Registry::new(Instant::now(), epoch)), Mutex::default());
        let (changes, _) = watch::channel(());
        let streams = AtomicU64::new(0);
        Self(Arc::new(Shared { epoch, registry, rates, changes, hints, acks, streams, counters, stop }))
    }

    /// Lets registrations and claims on limits lapse, until `stop`.
    pub(crate) async fn run_expiry(&self) {
        let mut ticks = tokio::time::interval(EXPIRE_EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.0.registry().expire(Instant::now());
                    self.0.rates().expire(Instant::now());
                    // A service that was held back may be due, too.
                    self.0.changes.send_replace(());
                }
                () = self.0.stop.cancelled() => return,
            }
        }
    }

    /// Services that have endpoints.
    pub(crate) fn services(&self) -> Vec<RegisteredService> {
        self.0.registry().services()
    }

    /// What `look` finds in the registry.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&self.0.registry())
    }

    /// Takes in what somebody who answers for endpoints has to say of them.
    pub(crate) fn hear(&self, news: Vec<News>, now: Instant) {
        if news.is_empty() {
            return;
        }
        let mut registry = self.0.registry();
        for News { service, instance, endpoint, listed } in news {
            match (service.as_str(), endpoint) {
                ("", _) => registry.touch_all(),
                (service, Some(endpoint)) => {
                    registry.announce(service, endpoint, now);
                    registry.touch(service, listed);
                }
                (service, None) => {
                    registry.retract(service, &instance, now);
                    registry.touch(service, listed);
                }
            }
        }
        drop(registry);
        self.0.changes.send_replace(());
    }

    /// Wakes when the registry may say something new.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Instances that are registered.
    pub(crate) fn registered(&self) -> usize {
        self.0.registry().len()
    }

    /// Claims of proxies on limits that they share.
    pub(crate) fn rate_claims(&self) -> usize {
        self.0.rates().len()
    }
}

/// What has become of an instance that somebody else answers for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct News {
    /// Its service; empty for something that belongs to none.
    pub(crate) service: String,
    /// Its name.
    pub(crate) instance: String,
    /// Where requests may go, if they may.
    pub(crate) endpoint: Option<mesh::Endpoint>,
    /// Whether the instance is new or gone.
    pub(crate) listed: bool,
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl mesh_server::Mesh for MeshService {
    type JoinStream = ReceiverStream<Result<ToProxy, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let (out, answers) = mpsc::channel(limits::MESH_STREAM_QUEUE);
        let stream = self.0.streams.fetch_add(1, Ordering::Relaxed);
        let proxy = Proxy {
            mesh: Arc::clone(&self.0),
            stream,
            out,
            registration: Registration::default(),
            endpoints_sent: HashMap::new(),
            hints_sent: None,
            withdrawn: false,
        };
        tokio::spawn(proxy.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// One joined proxy.
struct Proxy {
    mesh: Arc<Shared>,
    stream: StreamId,
    out: mpsc::Sender<Result<ToProxy, Status>>,
    registration: Registration,
    /// The version of each upstream's endpoints that was sent last.
    endpoints_sent: HashMap<String, u64>,
    /// Id and revision of each hint that was sent last.
    hints_sent: Option<Vec<(String, u64)>>,
    /// Whether the endpoint takes no more requests; renewals then only keep the stream alive.
    withdrawn: bool,
}

/// Why a stream ends.
enum End {
    /// The proxy left.
    Left,
    /// The proxy is told why.
    Refused(Status),
    /// The proxy does not read.
    Slow,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl Proxy {
    async fn run(mut self, incoming: Streaming<FromProxy>) {
        match self.serve(incoming).await {
            Ok(()) | Err(End::Left) => {}
            // There may be no room for the reason: then the stream just ends.
            Err(End::Refused(status)) => drop(self.out.try_send(Err(status))),
            Err(End::Slow) => {
                tracing::warn!(instance = self.registration.instance, "proxy reads too slowly, disconnected");
                self.mesh.counters.slow_proxies.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn serve(&mut self, mut incoming: Streaming<FromProxy>) -> Result<(), End> {
        let mut changes = self.mesh.changes.subscribe();
        let mut hints = self.mesh.hints.clone();
        hints.mark_changed();
        let mut hints_open = true;
        self.welcome(&mut incoming).await?;
        loop {
            self.send_endpoints().await?;
            tokio::select! {
                message = incoming.message() => match message? {
                    Some(message) => {
                        if self.receive(message).await? {
                            // About those there may be other hints.
                            hints.mark_changed();
                        }
                    }
                    None => return Ok(()),
                },
                changed = changes.changed() => changed.map_err(|_| End::Left)?,
                changed = hints.changed(), if hints_open => {
                    // The analysis may end before the mesh does; the hints in force then lapse.
                    hints_open = changed.is_ok();
                    let set = hints.borrow_and_update().clone();
                    self.send_hints(set).await?;
                }
                () = self.mesh.stop.cancelled() => {
                    return Err(Status::unavailable("the collector is shutting down, join again").into());
                }
            }
        }
    }

    /// Waits for the registration that opens a stream, and answers it.
    async fn welcome(&mut self, incoming: &mut Streaming<FromProxy>) -> Result<(), End> {
        let first = tokio::time::timeout(limits::MESH_PATIENCE, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no registration came, it must open the stream"))??;
        match first.and_then(|message| message.message) {
            Some(from_proxy::Message::Register(registration)) => self.register(registration)?,
            _ => return Err(Status::invalid_argument("a registration must open the stream").into()),
        }
        let renew_every_ms = limits::REGISTRATION_RENEW.as_millis() as u32;
        self.send(to_proxy::Message::Welcome(Welcome { epoch: self.mesh.epoch, renew_every_ms })).await
    }

    /// Does what a message says; whether the proxy now wants to hear of other services.
    async fn receive(&mut self, message: FromProxy) -> Result<bool, End> {
        match message.message {
            Some(from_proxy::Message::Register(registration)) => {
                self.register(registration)?;
                return Ok(true);
            }
            Some(from_proxy::Message::Renew(_)) => self.renew()?,
            Some(from_proxy::Message::Withdraw(_)) => {
                self.withdrawn = true;
                self.mesh.registry().withdraw(self.stream, &self.registration.instance, Instant::now());
                self.mesh.changes.send_replace(());
            }
            Some(from_proxy::Message::Ack(ack)) => self.store(ack),
            Some(from_proxy::Message::Watch(watch)) => {
                self.watch(watch)?;
                return Ok(true);
            }
            Some(from_proxy::Message::Rates(rates)) => self.grant(rates).await?,
            None => {}
        }
        Ok(false)
    }

    fn register(&mut self, registration: Registration) -> Result<(), Status> {
        let registered = self.mesh.registry().register(self.stream, &registration, Instant::now());
        registered.map_err(|error| match error {
            BadRegistration::Full => Status::resource_exhausted(error.to_string()),
            _ => Status::invalid_argument(error.to_string()),
        })?;
        self.wants(&registration.upstreams);
        self.registration = registration;
        self.withdrawn = false;
        self.mesh.changes.send_replace(());
        Ok(())
    }

    /// Tells from now on of these services.
    fn watch(&mut self, Watch { services }: Watch) -> Result<(), Status> {
        check_upstreams(&services).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.wants(&services);
        self.registration.upstreams = services;
        Ok(())
    }

    /// Forgets what was sent of other services: who names one again later is told anew.
    fn wants(&mut self, services: &[String]) {
        let wanted: HashSet<&String> = services.iter().collect();
        self.endpoints_sent.retain(|service, _| wanted.contains(service));
    }

    /// A renewal of an entry that has expired registers it again.
    fn renew(&mut self) -> Result<(), Status> {
        if !self.withdrawn
            && !self.mesh.registry().renew(self.stream, &self.registration.instance, Instant::now())
        {
            self.register(self.registration.clone())?;
        }
        Ok(())
    }

    /// Answers what came for limits with the parts that this proxy may admit.
    async fn grant(&self, mesh::Rates { demands }: mesh::Rates) -> Result<(), End> {
        let now = Instant::now();
        let grants: Vec<mesh::Grant> = {
            let mut rates = self.mesh.rates();
            let taken = demands.iter().take(limits::RATE_DEMANDS);
            taken.filter_map(|demand| rates.claim(self.stream, demand, now)).collect()
        };
        let dropped = (demands.len() - grants.len()) as u64;
        self.mesh.counters.rate_demands_dropped.fetch_add(dropped, Ordering::Relaxed);
        self.send(to_proxy::Message::Grants(mesh::Grants { grants })).await
    }

    fn store(&self, ack: mesh::HintAck) {
        let epoch = self.mesh.epoch;
        let stored = Ack::try_from(ack).map_err(|error| error.to_string()).and_then(|ack| {
            let proxy = self.registration.instance.clone();
            let proxy_service = self.registration.service.clone();
            let ack = ProxyAck { ack, epoch, proxy, proxy_service };
            self.mesh.acks.try_send(ack).map_err(|error| error.to_string())
        });
        if let Err(error) = stored {
            tracing::warn!(instance = self.registration.instance, error, "an answer to a hint was dropped");
            self.mesh.counters.acks_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends the endpoints of each upstream that are not what was sent last.
    async fn send_endpoints(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let news: Vec<(String, u64, EndpointSet)> = {
            let registry = self.mesh.registry();
            let upstreams = self.registration.upstreams.iter();
            upstreams
                .filter_map(|service| {
                    let view = registry.view(service, now)?;
                    let known = self.endpoints_sent.get(service) == Some(&view.version);
                    let set = EndpointSet { service: service.clone(), endpoints: view.endpoints };
                    (!known).then(|| (service.clone(), view.version, set))
                })
                .collect()
        };
        for (service, version, set) in news {
            self.send(to_proxy::Message::Endpoints(set)).await?;
            self.endpoints_sent.insert(service, version);
        }
        Ok(())
    }

    /// Sends the hints that concern this proxy, if they are not what was sent last.
    async fn send_hints(&mut self, set: HintSet) -> Result<(), End> {
        let service = &self.registration.service;
        let concerns = |hint: &&weir_model::hint::Hint| {
            let callers = &hint.scope.callers;
            self.registration.upstreams.contains(&hint.scope.service)
                && (callers.is_empty() || callers.contains(service))
        };
        let hints: Vec<mesh::Hint> = set.hints.iter().filter(concerns).map(mesh::Hint::from).collect();
        let sent: Vec<(String, u64)> = hints.iter().map(|hint| (hint.id.clone(), hint.revision)).collect();
        if self.hints_sent.as_ref() == Some(&sent) {
            return Ok(());
        }
        let set = mesh::HintSet { epoch: self.mesh.epoch, revision: set.revision, hints };
        self.send(to_proxy::Message::Hints(set)).await?;
        self.hints_sent = Some(sent);
        Ok(())
    }

    async fn send(&self, message: to_proxy::Message) -> Result<(), End> {
        let message = ToProxy { message: Some(message) };
        match tokio::time::timeout(limits::MESH_PATIENCE, self.out.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => Err(End::Slow),
        }
    }
}
