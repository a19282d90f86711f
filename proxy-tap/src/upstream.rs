//! A service that the application calls: its endpoints as they are known now, and their breakers.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_model::policy::destination::{OutlierDetection, Tls};
use weir_model::{limits, policy};

use crate::applied::Applied;
use crate::balance::{Ask, End, Load, Pick, Rules, Sets};
use crate::breaker::{Breakers, Change, Codes, Gate, Outcome, Schedule, Settings, View};
use crate::call::{Party, Refusal};
use crate::chance::Chance;
use crate::config::Protocol;
use crate::dial::Dialled;
use crate::health::Checks;
use crate::pool::{Pool, Terms};
use crate::tls::{Identity, Toward};
use crate::worker;

/// How often it is looked whether what was replaced is still in use …
const RETIRE_LOOKS: u32 = 20;
/// … and how long is waited in between. A request looks at it for microseconds.
const RETIRE_LOOK: Duration = Duration::from_micros(200);

/// Connections to endpoints that are gone which are closed at a time, at least …
const PARTED: usize = 16;
/// … and the share of those endpoints that are parted with at a time, so that it does not take for ever.
const PARTED_SHARE: usize = 64;

/// One replica that requests can go to.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) party: Arc<Party>,
    pub(crate) address: Arc<str>,
    pub(crate) zone: String,
    pub(crate) protocol: Protocol,
    /// As it was told last: what may change while it stays the same process, such as its weight, is here.
    pub(crate) told: ArcSwap<policy::Endpoint>,
    pub(crate) in_flight: AtomicU32,
    /// What requests to it cost lately.
    pub(crate) load: Load,
    /// What active checks say; changed by [`Endpoint::set_healthy`].
    pub(crate) healthy: AtomicBool,
    /// When it became known.
    pub(crate) since: Instant,
    /// Nanoseconds from then to when its slow start began.
    begun_ns: AtomicU64,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pool: Arc<Pool>,
}

impl Endpoint {
    pub(crate) fn new(service: &Arc<str>, told: policy::Endpoint, connecting: &Connecting) -> Arc<Self> {
        let party = Party {
            service: Arc::clone(service),
            instance: told.instance.as_str().into(),
            version: told.version.as_str().into(),
            namespace: told.namespace.as_str().into(),
            region: told.region.as_str().into(),
            zone: told.zone.as_str().into(),
            ..Party::default()
        };
        let address: Arc<str> = told.address.as_str().into();
        let now = Instant::now();
        Arc::new(Self {
            party: Arc::new(party),
            pool: Pool::new(Arc::clone(&address), connecting),
            address,
            zone: told.zone.clone(),
            protocol: told.protocol,
            told: ArcSwap::from_pointee(told),
            in_flight: AtomicU32::new(0),
            load: Load::new(now),
            healthy: AtomicBool::new(true),
            since: now,
            begun_ns: AtomicU64::new(0),
            gate: Arc::new(Gate::default()),
        })
    }

    /// An attempt ended. Whoever counted it in `in_flight` counts it out.
    pub(crate) fn done(&self, end: End, took: Duration, now: Instant) {
        self.load.record(end, took, now);
    }

    /// What active checks say. One that becomes healthy begins slowly again.
    pub(crate) fn set_healthy(&self, healthy: bool, now: Instant) {
        let was = self.healthy.swap(healthy, Ordering::Relaxed);
        if healthy && !was {
            let ns = now.saturating_duration_since(self.since).as_nanos();
            self.begun_ns.store(u64::try_from(ns).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How long it has been there, for its slow start.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        let begun = Duration::from_nanos(self.begun_ns.load(Ordering::Relaxed));
        now.saturating_duration_since(self.since).saturating_sub(begun)
    }

    fn is(&self, told: &policy::Endpoint) -> bool {
        *self.party.instance == *told.instance
            && *self.address == *told.address
            && *self.party.version == *told.version
            && *self.party.namespace == *told.namespace
            && *self.party.region == *told.region
            && self.zone == told.zone
            && self.protocol == told.protocol
    }
}

type Endpoints = Vec<Arc<Endpoint>>;

/// Whether a request may go to the service at all.
#[derive(Debug)]
pub(crate) enum Admission {
    Normal,
    /// Let through to test an open edge.
    Probe,
    Refused(Refusal),
}

/// Where a service's endpoints come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file of endpoints, or the configuration.
    File,
    /// The list in the policy.
    Policy,
    /// Names of the DNS.
    Dns,
    /// The collector's registry.
    Registry,
    /// Its name: a host outside the mesh.
    External,
}

impl Origin {
    const ALL: [Self; 5] = [Self::File, Self::Policy, Self::Dns, Self::Registry, Self::External];
}

/// How connections to a service's endpoints are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connecting {
    /// Workers, of which each has its own connections.
    pub(crate) workers: usize,
    /// Who the proxy is to others of the mesh.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The mark of the proxy's own connections.
    pub(crate) mark: Option<u32>,
    /// Where the proxy's own connections are noted, if they have to be.
    pub(crate) dialled: Option<Arc<Dialled>>,
    /// What holds for all of them together.
    pub(crate) terms: Arc<Terms>,
}

/// A service that the application calls.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    /// The service before an endpoint is chosen.
    pub(crate) party: Arc<Party>,
    origin: AtomicU8,
    /// Raised when its endpoints were told for the first time.
    told: watch::Sender<bool>,
    connecting: Connecting,
    /// What the policy says of it.
    applied: ArcSwap<Applied>,
    /// How active checks fare.
    pub(crate) checks: Arc<Checks>,
    endpoints: ArcSwap<Endpoints>,
    /// Those that are gone and have connections still.
    gone: Mutex<Endpoints>,
    ever_had_one: AtomicBool,
    sets: ArcSwap<Sets>,
    /// How it is balanced. Held while sets are made, never on the way of a request.
    rules: Mutex<Arc<Rules>>,
    schedule: Arc<Schedule>,
    edge: Arc<Gate>,
    codes: Arc<Codes>,
    breakers: Mutex<Breakers>,
}

impl Upstream {
    pub(crate) fn new(
        name: &str,
        breakers: Breakers,
        (origin, endpoints): (Origin, Vec<policy::Endpoint>),
        connecting: Connecting,
    ) -> Arc<Self> {
        let name: Arc<str> = name.into();
        let (rules, schedule) = (Arc::<Rules>::default(), Arc::<Schedule>::default());
        let upstream = Self {
            party: Arc::new(Party { service: Arc::clone(&name), ..Party::default() }),
            name: Arc::clone(&name),
            told: watch::Sender::new(false),
            applied: ArcSwap::from_pointee(Applied::plain(&name)),
            checks: Arc::default(),
            connecting,
            endpoints: ArcSwap::default(),
            gone: Mutex::default(),
            ever_had_one: AtomicBool::new(false),
            sets: ArcSwap::from_pointee(Sets::new(&[], &rules, &schedule, Instant::now())),
            rules: Mutex::new(rules),
            schedule,
            edge: breakers.edge_gate(),
            codes: breakers.codes(),
            breakers: Mutex::new(breakers),
            origin: AtomicU8::new(origin as u8),
        };
        upstream.terms().encrypt(upstream.toward(None));
        if matches!(origin, Origin::File | Origin::Policy | Origin::External) {
            upstream.set(endpoints);
        }
        Arc::new(upstream)
    }

    /// A service on its own, for benchmarks and tests: no proxy and no policy has it.
    pub(crate) fn alone(name: &str, endpoints: Vec<policy::Endpoint>) -> Arc<Self> {
        let settings = Settings {
            outlier: OutlierDetection::default(),
            caller: "web".into(),
            instance: "web-1".into(),
            service: name.into(),
            answers: Arc::default(),
        };
        let breakers = Breakers::new(settings, Instant::now());
        Self::new(name, breakers, (Origin::File, endpoints), Connecting::default())
    }

    /// Where its endpoints come from.
    pub(crate) fn origin(&self) -> Origin {
        Origin::ALL[usize::from(self.origin.load(Ordering::Relaxed))]
    }

    /// Takes its endpoints from there from now on; whether that is new. Those of before stay until others are told.
    pub(crate) fn find_by(&self, origin: Origin) -> bool {
        if self.origin.swap(origin as u8, Ordering::Relaxed) == origin as u8 {
            return false;
        }
        self.terms().encrypt(self.toward(self.applied().service.destination.tls.as_ref()));
        true
    }

    /// What the policy says of it.
    pub(crate) fn applied(&self) -> Arc<Applied> {
        self.applied.load_full()
    }

    /// The terms of its connections.
    pub(crate) fn terms(&self) -> &Terms {
        &self.connecting.terms
    }

    /// Does from now on what the policy says.
    pub(crate) fn apply(&self, applied: Applied) {
        let to = &applied.service.destination;
        self.terms().set(&to.connections);
        if self.applied.load().service.destination.tls != to.tls {
            self.terms().encrypt(self.toward(to.tls.as_ref()));
        }
        self.applied.store(Arc::new(applied));
    }

    fn toward(&self, told: Option<&Tls>) -> Option<Toward> {
        let is_mesh = matches!(self.origin(), Origin::File | Origin::Policy | Origin::Registry);
        Toward::new(&self.name, told, self.connecting.identity.as_ref(), is_mesh)
    }

    /// Waits until endpoints were told, if only that there are none.
    pub(crate) async fn told(&self) {
        // The sender is here, so it cannot be gone.
        let _ = self.told.subscribe().wait_for(|told| *told).await;
    }

    /// Whether it is passed on byte by byte: its endpoints take nothing else.
    pub(crate) fn is_tcp(&self) -> bool {
        let endpoints = self.endpoints.load();
        !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.protocol == Protocol::Tcp)
    }

    /// Replaces the endpoints. Those that stay keep their connections and what is known of them. For ten
    /// thousand of them it takes milliseconds, during which requests go by the old ones: whoever calls it is
    /// no thread that serves any. Callers take turns, and the last one's endpoints stay.
    pub(crate) fn set(&self, mut told: Vec<policy::Endpoint>) {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for one in told.iter_mut().filter(|one| one.instance.is_empty()) {
            one.instance.clone_from(&one.address);
        }
        // Breakers know endpoints by name, so a name stands for one.
        let mut names = HashSet::with_capacity(told.len());
        let firsts: Vec<bool> = told.iter().map(|told| names.insert(told.instance.as_str())).collect();
        let mut firsts = firsts.into_iter();
        told.retain(|_| firsts.next().unwrap_or_default());
        told.truncate(limits::PROXY_ENDPOINTS);
        let old = self.endpoints.load_full();
        let by_name: HashMap<&str, _> = old.iter().map(|e| (&*e.party.instance, e)).collect();
        let known = |told: &policy::Endpoint| by_name.get(told.instance.as_str()).filter(|e| e.is(told));
        let new = worker::giving_way(told).map(|told| match known(&told) {
            Some(same) => {
                if **same.told.load() != told {
                    same.told.store(Arc::new(told));
                }
                Arc::clone(same)
            }
            None => {
                let new = Endpoint::new(&self.name, told, &self.connecting);
                new.gate.report_to(&self.schedule);
                new
            }
        });
        let new: Arc<Vec<_>> = Arc::new(new.collect());
        if !new.is_empty() {
            self.ever_had_one.store(true, Ordering::Relaxed);
        }
        let now = Instant::now();
        let sets = Arc::new(Sets::new(&new, &rules, &self.schedule, now));
        let (come, gone) = difference(&old, &new);
        let come =
            come.iter().map(|e| (Arc::clone(&e.party.instance), e.zone.as_str().into(), Arc::clone(&e.gate)));
        let names = gone.iter().map(|endpoint| Arc::clone(&endpoint.party.instance)).collect();
        let mut change = Change::new(now, names, come);
        self.breakers().change_endpoints(now, &mut change);
        retire(self.sets.swap(sets));
        self.told.send_replace(true);
        drop(old);
        retire(self.endpoints.swap(new));
        self.part_from(gone);
    }

    fn part_from(&self, gone: Endpoints) {
        let connected: Endpoints =
            worker::giving_way(gone).filter(|endpoint| endpoint.pool.has_idle()).collect();
        let mut all = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(connected);
        // The oldest are closed at once where there are more than anybody waits for.
        let too_many = all.len().saturating_sub(limits::PROXY_ENDPOINTS);
        all.drain(..too_many);
    }

    /// Closes connections to endpoints that are gone, some of them at a time: thousands at once would hold up whoever is
    /// at their other ends.
    pub(crate) fn part(&self) {
        let mut all = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = PARTED.max(all.len() / PARTED_SHARE);
        while left > 0
            && let Some(endpoint) = all.last()
        {
            if endpoint.pool.close_one() {
                left -= 1;
                std::thread::yield_now();
            } else {
                all.pop();
            }
        }
    }

    /// Balances by these rules from now on.
    pub(crate) fn balance_by(&self, rules: Rules) {
        let mut held = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if **held != rules {
            *held = Arc::new(rules);
            let sets = Sets::new(&self.endpoints.load(), &held, &self.schedule, Instant::now());
            retire(self.sets.swap(Arc::new(sets)));
        }
    }

    /// What endpoints are chosen from.
    pub(crate) fn sets(&self) -> arc_swap::Guard<Arc<Sets>> {
        self.sets.load()
    }

    /// Chooses an endpoint of a subset, or of all where `subset` is empty; `None` where there is none.
    pub(crate) fn pick(&self, subset: &str, ask: &Ask<'_>, chance: &Chance, now: Instant) -> Option<Pick> {
        self.sets.load().of(subset)?.pick(ask, chance, now)
    }

    pub(crate) fn endpoints(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.endpoints.load()
    }

    pub(crate) fn ever_had_one(&self) -> bool {
        self.ever_had_one.load(Ordering::Relaxed)
    }

    /// Whether its name is one of the mesh, with endpoints now or without. One that the registry was asked for and has
    /// never had may be any host's.
    pub(crate) fn is_of_mesh(&self) -> bool {
        match self.origin() {
            Origin::File | Origin::Policy | Origin::Dns => true,
            Origin::Registry => self.ever_had_one(),
            Origin::External => false,
        }
    }

    /// Asks the breaker of the edge.
    pub(crate) fn admit(&self, now: Instant, chance: &Chance) -> Admission {
        let share = self.edge.share();
        if share >= 1.0 {
            return Admission::Normal;
        }
        if self.edge.take_probe(now) {
            return Admission::Probe;
        }
        if share > 0.0 && chance.happens(share) {
            return Admission::Normal;
        }
        self.breakers().edge_refusal().map_or(Admission::Normal, Admission::Refused)
    }

    /// Whether the breaker of the edge lets a copy of a request through, which is never a test.
    pub(crate) fn takes_copy(&self, chance: &Chance) -> bool {
        let share = self.edge.share();
        share >= 1.0 || (share > 0.0 && chance.happens(share))
    }

    /// Tells the breakers how an attempt went; takes their lock for failures and probes alone.
    pub(crate) fn result(&self, endpoint: &Endpoint, outcome: Outcome) {
        if endpoint.gate.settles(&self.codes, &outcome) {
            return;
        }
        self.breakers().result(Instant::now(), &endpoint.party.instance, outcome);
    }

    /// All breakers: the edge first, then the endpoints by name.
    pub(crate) fn breaker_views(&self, now: Instant) -> Vec<View> {
        // Sorted without the lock, for which failures wait.
        let mut views = self.breakers().views(now);
        views.sort_unstable_by(|a, b| a.endpoint.cmp(&b.endpoint));
        views
    }

    /// The breakers of this service; never held across an await.
    pub(crate) fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that come and those that go where `new` follows `old`.
fn difference(old: &Endpoints, new: &Endpoints) -> (Endpoints, Endpoints) {
    let not_in = |all: &Endpoints, others: &Endpoints| -> Endpoints {
        let others: HashSet<_> = others.iter().map(Arc::as_ptr).collect();
        all.iter().filter(|endpoint| !others.contains(&Arc::as_ptr(endpoint))).cloned().collect()
    };
    (not_in(new, old), not_in(old, new))
}

/// Drops what was replaced, when no request looks at it any more: whoever is the last to let go of thousands of
/// endpoints closes their connections.
fn retire<T>(old: Arc<T>) {
    for _ in 0..RETIRE_LOOKS {
        if Arc::strong_count(&old) == 1 {
            return;
        }
        std::thread::sleep(RETIRE_LOOK);
    }
}

#[cfg(test)]
mod tests;
