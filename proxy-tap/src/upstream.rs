//! A service that the application calls: its endpoints as they are known now, and their breakers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;
use weir_model::limits;

use crate::breaker::{Breakers, Gate, Outcome};
use crate::call::{Party, Refusal};
use crate::chance::Chance;
use crate::config::{Protocol, StaticEndpoint};

/// One replica that requests can go to.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) party: Arc<Party>,
    pub(crate) address: Arc<str>,
    pub(crate) zone: String,
    pub(crate) protocol: Protocol,
    pub(crate) in_flight: AtomicU32,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pool: Arc<crate::pool::Pool>,
}

impl Endpoint {
    pub(crate) fn new(service: &Arc<str>, told: StaticEndpoint) -> Arc<Self> {
        let party = Party {
            service: Arc::clone(service),
            instance: told.instance.into(),
            version: told.version.into(),
        };
        let address: Arc<str> = told.address.into();
        Arc::new(Self {
            party: Arc::new(party),
            pool: crate::pool::Pool::new(Arc::clone(&address)),
            address,
            zone: told.zone,
            protocol: told.protocol,
            in_flight: AtomicU32::new(0),
            gate: Arc::new(Gate::default()),
        })
    }

    fn is(&self, told: &StaticEndpoint) -> bool {
        *self.party.instance == *told.instance
            && *self.address == *told.address
            && *self.party.version == *told.version
            && self.zone == told.zone
            && self.protocol == told.protocol
    }
}

/// Whether a request may go to the service at all.
#[derive(Debug)]
pub(crate) enum Admission {
    Normal,
    /// Let through to test an open edge.
    Probe,
    Refused(Refusal),
}

/// A service that the application calls.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    /// The service before an endpoint is chosen.
    pub(crate) party: Arc<Party>,
    /// Whether its endpoints come from the configuration and the registry is not asked.
    pub(crate) is_static: bool,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    ever_had_one: AtomicBool,
    pub(crate) turn: AtomicUsize,
    edge: Arc<Gate>,
    breakers: Mutex<Breakers>,
}

impl Upstream {
    pub(crate) fn new(name: &str, breakers: Breakers, fixed: Option<Vec<StaticEndpoint>>) -> Arc<Self> {
        let name: Arc<str> = name.into();
        let upstream = Self {
            party: Arc::new(Party { service: Arc::clone(&name), ..Party::default() }),
            name,
            is_static: fixed.is_some(),
            endpoints: ArcSwap::default(),
            ever_had_one: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            edge: breakers.edge_gate(),
            breakers: Mutex::new(breakers),
        };
        upstream.set(fixed.unwrap_or_default());
        Arc::new(upstream)
    }

    /// Replaces the endpoints. Those that stay keep their connections and what is known of them.
    pub(crate) fn set(&self, mut told: Vec<StaticEndpoint>) {
        // Breakers know endpoints by name, so a name stands for one.
        let mut names = HashSet::new();
        told.retain(|told| names.insert(told.instance.clone()));
        told.truncate(limits::PROXY_ENDPOINTS);
        let old = self.endpoints.load();
        let new: Vec<_> = told
            .into_iter()
            .map(|told| match old.iter().find(|endpoint| endpoint.is(&told)) {
                Some(same) => Arc::clone(same),
                None => Endpoint::new(&self.name, told),
            })
            .collect();
        if !new.is_empty() {
            self.ever_had_one.store(true, Ordering::Relaxed);
        }
        let gates =
            new.iter().map(|e| (Arc::clone(&e.party.instance), e.zone.as_str().into(), Arc::clone(&e.gate)));
        self.breakers().set_endpoints(Instant::now(), gates);
        self.endpoints.store(Arc::new(new));
    }

    pub(crate) fn endpoints(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.endpoints.load()
    }

    pub(crate) fn ever_had_one(&self) -> bool {
        self.ever_had_one.load(Ordering::Relaxed)
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

    /// Tells the breakers how an attempt went.
    pub(crate) fn result(&self, endpoint: &Endpoint, outcome: Outcome) {
        self.breakers().result(Instant::now(), &endpoint.party.instance, outcome);
    }

    /// The breakers of this service; never held across an await.
    pub(crate) fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
