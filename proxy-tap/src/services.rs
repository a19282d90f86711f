//! The services that the application calls, by host: those that were configured, and those that requests name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use weir_model::policy::Resolve;
use weir_model::{limits, policy};

use crate::run::Proxy;
use crate::upstream::{Origin, Upstream};

/// Where a service is found, by the first that knows it, and its endpoints where they are listed. The file of
/// endpoints goes before all else.
pub(crate) fn source(host: &str, proxy: &Proxy) -> (Origin, Vec<policy::Endpoint>) {
    match proxy.services.get(host) {
        Some(known) if known.origin() == Origin::File => (Origin::File, vec![]),
        _ => beside_file(host, proxy),
    }
}

fn beside_file(host: &str, proxy: &Proxy) -> (Origin, Vec<policy::Endpoint>) {
    let (config, policy) = (&proxy.config, proxy.policy());
    match policy.service(host).map(|service| (&service.resolve, service)) {
        Some((Resolve::Static, listed)) => (Origin::Policy, listed.endpoints.clone()),
        Some((Resolve::Dns(_) | Resolve::Srv(_), _)) => (Origin::Dns, vec![]),
        _ if config.resolve.contains_key(host) => (Origin::Dns, vec![]),
        _ => (Origin::Registry, vec![]),
    }
}

/// Takes what the file of endpoints says now of a service; `None`: it does not name it any more.
pub(crate) fn listed(host: &str, endpoints: Option<Vec<policy::Endpoint>>, proxy: &Proxy) {
    match (proxy.services.get(host), endpoints) {
        (Some(known), Some(endpoints)) => {
            let was_asked_for = known.origin() == Origin::Registry;
            known.find_by(Origin::File);
            known.set(endpoints);
            if was_asked_for {
                proxy.services.wanted.notify_one();
            }
        }
        (None, Some(endpoints)) => {
            let added = proxy.services.add(host, Origin::File, endpoints.clone(), proxy);
            // A request may have named it at this moment.
            if let Some(other) = added.filter(|one| one.origin() != Origin::File) {
                other.find_by(Origin::File);
                other.set(endpoints);
            }
        }
        (Some(known), None) => {
            let (origin, endpoints) = beside_file(host, proxy);
            move_to(&known, origin, endpoints, proxy);
        }
        (None, None) => {}
    }
}

/// Takes the endpoints of a service from there from now on. Those of before stay until others are told, if anybody
/// can.
pub(crate) fn move_to(upstream: &Upstream, origin: Origin, listed: Vec<policy::Endpoint>, proxy: &Proxy) {
    let is_new = upstream.find_by(origin);
    let tells_nobody = is_new && origin == Origin::Registry && proxy.config.collector.is_none();
    if origin == Origin::Policy || tells_nobody {
        upstream.set(listed);
    }
    if is_new {
        proxy.services.wanted.notify_one();
    }
}

/// The services that the application calls.
#[derive(Debug, Default)]
pub(crate) struct Services {
    by_host: ArcSwap<HashMap<Arc<str>, Arc<Upstream>>>,
    /// Held while the table is replaced.
    change: Mutex<()>,
    /// The collector has to be asked for other services than before.
    pub(crate) wanted: Notify,
}

impl Services {
    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Upstream>> {
        self.by_host.load().values().cloned().collect()
    }

    /// One of which `is` holds.
    pub(crate) fn find(&self, is: impl Fn(&Upstream) -> bool) -> Option<Arc<Upstream>> {
        self.by_host.load().values().find(|one| is(one)).cloned()
    }

    /// The service called `host`.
    pub(crate) fn get(&self, host: &str) -> Option<Arc<Upstream>> {
        self.by_host.load().get(host).cloned()
    }

    /// The service called `host`, as the configuration has it or as the registry will.
    pub(crate) fn get_or_add(&self, host: &str, proxy: &Proxy) -> Option<Arc<Upstream>> {
        self.get(host).or_else(|| {
            let (origin, endpoints) = source(host, proxy);
            self.add(host, origin, endpoints, proxy)
        })
    }

    /// A host outside the mesh, at the address that its name stands for.
    pub(crate) fn external(&self, authority: &str, proxy: &Proxy) -> Option<Arc<Upstream>> {
        self.get(authority).or_else(|| {
            let endpoint = policy::Endpoint {
                instance: authority.to_owned(),
                address: authority.to_owned(),
                ..policy::Endpoint::default()
            };
            self.add(authority, Origin::External, vec![endpoint], proxy)
        })
    }

    /// Adds a service, unless it is known or there are too many.
    pub(crate) fn add(
        &self,
        host: &str,
        origin: Origin,
        endpoints: Vec<policy::Endpoint>,
        proxy: &Proxy,
    ) -> Option<Arc<Upstream>> {
        // For ten thousand endpoints it takes milliseconds: not with the lock.
        let upstream = proxy.new_upstream(host, origin, endpoints);
        let _held = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.get(host) {
            return Some(known);
        }
        let current = self.by_host.load();
        let mut full = None;
        if current.len() >= limits::PROXY_SERVICES {
            // Hosts outside the mesh make room for each other, and so do those that the registry turned out not to
            // know: whoever uses one holds it.
            let is_outside = |one: &Upstream| match one.origin() {
                Origin::External => true,
                Origin::Registry => !one.ever_had_one(),
                Origin::File | Origin::Policy | Origin::Dns => false,
            };
            let idle = current.iter().find(|(_, one)| is_outside(one) && Arc::strong_count(one) == 1);
            full = Some(idle.map(|(host, _)| Arc::clone(host))?);
        }
        let mut table = HashMap::clone(&current);
        let gone = full.and_then(|idle| table.remove(&idle));
        table.insert(Arc::clone(&upstream.name), Arc::clone(&upstream));
        self.by_host.store(Arc::new(table));
        if origin == Origin::Registry || gone.is_some_and(|gone| gone.origin() == Origin::Registry) {
            self.wanted.notify_one();
        }
        Some(upstream)
    }
}
