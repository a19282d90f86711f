//! The services that the application calls, by host: those that were configured, and those that requests name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use weir_model::policy::Resolve;
use weir_model::{limits, policy};

use crate::run::Proxy;
use crate::upstream::{Origin, Upstream};

/// Where a service is found, by the first that knows it, and its endpoints where they are listed.
pub(crate) fn source(host: &str, proxy: &Proxy) -> (Origin, Vec<policy::Endpoint>) {
    let (config, policy) = (&proxy.config, proxy.policy());
    if let Some(fixed) = config.endpoints.get(host) {
        return (Origin::File, fixed.clone());
    }
    match policy.service(host).map(|service| (&service.resolve, service)) {
        Some((Resolve::Static, listed)) => (Origin::File, listed.endpoints.clone()),
        Some((Resolve::Dns(_) | Resolve::Srv(_), _)) => (Origin::Dns, vec![]),
        _ if config.resolve.contains_key(host) => (Origin::Dns, vec![]),
        _ => (Origin::Registry, vec![]),
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

    /// Adds a service, unless there are too many.
    fn add(
        &self,
        host: &str,
        origin: Origin,
        endpoints: Vec<policy::Endpoint>,
        proxy: &Proxy,
    ) -> Option<Arc<Upstream>> {
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
                Origin::File | Origin::Dns => false,
            };
            let idle = current.iter().find(|(_, one)| is_outside(one) && Arc::strong_count(one) == 1);
            full = Some(idle.map(|(host, _)| Arc::clone(host))?);
        }
        let mut table = HashMap::clone(&current);
        let gone = full.and_then(|idle| table.remove(&idle));
        let upstream = proxy.new_upstream(host, origin, endpoints);
        table.insert(Arc::clone(&upstream.name), Arc::clone(&upstream));
        self.by_host.store(Arc::new(table));
        if origin == Origin::Registry || gone.is_some_and(|gone| gone.origin() == Origin::Registry) {
            self.wanted.notify_one();
        }
        Some(upstream)
    }
}
