//! Active checks: whether each endpoint of a service answers when it is asked, apart from traffic.
//!
//! [`run`] is the task of one service with a health check in its policy. Every endpoint is checked at its own
//! time, an interval apart with some jitter, so that neither endpoints nor proxies are checked in step. An
//! endpoint starts healthy, is unhealthy after so many bad checks in a row, and healthy again after so many
//! good ones. What follows is [`Endpoint::healthy`], which balancing reads, and what the breakers are told:
//! [`crate::breaker::Breakers::checked`]. A check sees that an endpoint answers, and not whether it answers
//! well: that is for the breakers.
//!
//! Checks say who they are ([`weir_model::semconv::HEALTH_CHECK_PEER`]): the proxy of the endpoint passes them on and reports nothing of them,
//! since nobody calls there.

mod grpc;
mod http;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use weir_model::limits;
use weir_model::policy::destination::{CheckKind, HealthCheck};

use crate::chance::Chance;
use crate::io::Conn;
use crate::tls::Carries;
use crate::upstream::{Endpoint, Upstream};

/// How often a task looks for new endpoints, at least.
const LOOK: Duration = Duration::from_secs(1);
/// A pause is an interval, give or take this share of it.
const JITTER: f64 = 0.1;

/// Why a check was bad.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("no HTTP answer: {0}")]
    Http(hyper::Error),
    #[error("`{0}` makes no request: {1}; mend `health_check.kind`")]
    Request(String, ::http::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("gRPC status {0}")]
    Grpc(u16),
    #[error(
        "gRPC status 12: the server does not implement grpc.health.v1; check by `tcp`, or add the service"
    )]
    Unimplemented,
    #[error("the answer is no grpc.health.v1.HealthCheckResponse")]
    Malformed,
    #[error("it says that it is {0}")]
    NotServing(&'static str),
}

/// What is known of an endpoint from its checks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Health {
    pub(crate) healthy: bool,
    /// What was wrong in the last check; `None` where it was good, or there was none.
    pub(crate) problem: Option<Arc<str>>,
    /// When the last check ended.
    pub(crate) checked: Option<Instant>,
    /// Healthy or unhealthy since then.
    pub(crate) since: Instant,
    /// Good checks in a row, and bad ones: one of them is 0.
    pub(crate) good: u32,
    pub(crate) bad: u32,
}

impl Health {
    fn new(now: Instant) -> Self {
        Self { healthy: true, problem: None, checked: None, since: now, good: 0, bad: 0 }
    }

    /// A check ended.
    fn note(&mut self, now: Instant, policy: &HealthCheck, result: &Result<(), Failure>) {
        self.checked = Some(now);
        self.problem = result.as_ref().err().map(|failure| failure.to_string().into());
        (self.good, self.bad) = match result {
            Ok(()) => (self.good.saturating_add(1), 0),
            Err(_) => (0, self.bad.saturating_add(1)),
        };
        let turns = match self.healthy {
            true => self.bad >= policy.unhealthy_threshold.max(1),
            false => self.good >= policy.healthy_threshold.max(1),
        };
        if turns {
            self.healthy = !self.healthy;
            self.since = now;
        }
    }
}

/// The checks of one service, as the admin page asks for them.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    known: Mutex<HashMap<Arc<str>, Health>>,
}

impl Checks {
    /// What is known of each endpoint, by name.
    pub(crate) fn views(&self) -> Vec<(Arc<str>, Health)> {
        let mut views: Vec<_> =
            self.known().iter().map(|(name, health)| (Arc::clone(name), health.clone())).collect();
        views.sort_by(|a, b| a.0.cmp(&b.0));
        views
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, Health>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint that is checked.
#[derive(Debug)]
struct Watched {
    endpoint: Arc<Endpoint>,
    health: Health,
}

/// The state of a service's task.
struct Task {
    upstream: Arc<Upstream>,
    policy: HealthCheck,
    checks: Arc<Checks>,
    chance: Arc<Chance>,
    /// By a number that is never used again, so that what is said of an endpoint that left finds nobody.
    watched: HashMap<u64, Watched>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    next: u64,
    seen: Arc<Vec<Arc<Endpoint>>>,
}

/// Checks the endpoints of `upstream` until `stop`; then all of them are healthy, as without checks.
pub(crate) async fn run(
    upstream: Arc<Upstream>,
    policy: HealthCheck,
    checks: Arc<Checks>,
    chance: Arc<Chance>,
    stop: CancellationToken,
) {
    let mut task = Task {
        upstream,
        policy,
        checks,
        chance,
        watched: HashMap::new(),
        due: BinaryHeap::new(),
        next: 0,
        seen: Arc::default(),
    };
    let mut running = JoinSet::new();
    loop {
        task.look();
        let now = Instant::now();
        while running.len() < limits::HEALTH_CHECKS
            && let Some(id) = task.take_due(now)
        {
            let Some(watched) = task.watched.get(&id) else { continue };
            let (policy, endpoint) = (task.policy.clone(), Arc::clone(&watched.endpoint));
            running.spawn(async move { (id, check(&policy, &endpoint).await) });
        }
        let has_room = running.len() < limits::HEALTH_CHECKS;
        let next = task.due.peek().map(|Reverse((at, _))| *at).filter(|_| has_room);
        let look = now + LOOK.min(task.policy.interval.0);
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep_until(next.map_or(look, |next| next.min(look))) => {}
            Some(ended) = running.join_next() => {
                // The other way to end is a panic, of which a check has none.
                if let Ok((id, result)) = ended {
                    task.note(id, &result);
                }
            }
        }
    }
    for watched in task.watched.values() {
        task.tell(&watched.endpoint, true, false);
    }
    task.checks.known().clear();
}

impl Task {
    /// Takes note of endpoints that came and went.
    fn look(&mut self) {
        let now = Instant::now();
        let all = arc_swap::Guard::into_inner(self.upstream.endpoints());
        if Arc::ptr_eq(&all, &self.seen) {
            return;
        }
        let there: HashSet<_> = all.iter().map(Arc::as_ptr).collect();
        self.watched.retain(|_, watched| there.contains(&Arc::as_ptr(&watched.endpoint)));
        let known: HashSet<_> = self.watched.values().map(|watched| Arc::as_ptr(&watched.endpoint)).collect();
        let new: Vec<_> =
            all.iter().filter(|one| !known.contains(&Arc::as_ptr(one))).map(Arc::clone).collect();
        for endpoint in new {
            let id = self.next;
            self.next += 1;
            self.watched.insert(id, Watched { endpoint, health: Health::new(now) });
            let first = self.policy.interval.0.min(LOOK).mul_f64(self.chance.f64());
            self.due.push(Reverse((now + first, id)));
        }
        *self.checks.known() = self
            .watched
            .values()
            .map(|watched| (Arc::clone(&watched.endpoint.party.instance), watched.health.clone()))
            .collect();
        self.seen = all;
    }

    fn take_due(&mut self, now: Instant) -> Option<u64> {
        self.due.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.due.pop().map(|Reverse((_, id))| id)
    }

    /// A check ended: what follows from it, and when the next one is.
    fn note(&mut self, id: u64, result: &Result<(), Failure>) {
        let now = Instant::now();
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let before = watched.health.healthy;
        watched.health.note(now, &self.policy, result);
        let (health, endpoint) = (watched.health.clone(), Arc::clone(&watched.endpoint));
        if health.healthy != before {
            let (service, instance) = (&self.upstream.name, &endpoint.party.instance);
            let problem = health.problem.as_deref().unwrap_or_default();
            tracing::info!(%service, %instance, healthy = health.healthy, problem, "health changed");
        }
        if health.healthy != before {
            self.tell(&endpoint, health.healthy, result.is_ok());
        }
        self.checks.known().insert(Arc::clone(&endpoint.party.instance), health);
        let pause = self.policy.interval.0.mul_f64(1.0 - JITTER + 2.0 * JITTER * self.chance.f64());
        self.due.push(Reverse((now + pause, id)));
    }

    fn tell(&self, endpoint: &Endpoint, healthy: bool, good: bool) {
        let now = Instant::now();
        endpoint.set_healthy(healthy, now);
        self.upstream.breakers().checked(now, &endpoint.party.instance, healthy, good);
    }
}

/// One check, within the policy's timeout.
async fn check(policy: &HealthCheck, endpoint: &Endpoint) -> Result<(), Failure> {
    let address = address(&endpoint.address, policy.port);
    let asked = async {
        match &policy.kind {
            CheckKind::Tcp => connect(endpoint, &address, Carries::Bytes).await.map(drop),
            CheckKind::Http { path, host, statuses } => {
                let host = if host.is_empty() { &*endpoint.party.service } else { host };
                http::check(endpoint, &address, path, host, statuses).await
            }
            CheckKind::Grpc { service } => grpc::check(endpoint, &address, service).await,
        }
    };
    let limit = policy.timeout.0;
    timeout(limit, asked).await.unwrap_or(Err(Failure::Timeout(limit)))
}

/// Connects as requests do: encrypted like them, and known as the proxy's own.
async fn connect(endpoint: &Endpoint, address: &str, carries: Carries) -> Result<Conn, Failure> {
    endpoint.pool.check(address, carries).await.map_err(Failure::Connect)
}

/// `host:port` with the port of the checks.
fn address(of_traffic: &str, port: Option<u16>) -> String {
    match (port, of_traffic.rsplit_once(':')) {
        (Some(port), Some((host, _))) => format!("{host}:{port}"),
        _ => of_traffic.to_owned(),
    }
}

#[cfg(test)]
mod tests;
