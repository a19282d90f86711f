//! The endpoints that registered themselves, and for how long they are believed.
//!
//! An endpoint is announced from its registration until it withdraws or has not renewed for
//! [`limits::REGISTRATION_EXPIRY`]. After a start nothing expires for [`limits::REGISTRATION_GRACE`]:
//! proxies keep the endpoints that they know while their collector is away, and the registry is empty
//! when it comes back. For the same reason a *restarted* collector announces a service only when its
//! registrations have been quiet for [`limits::REGISTRATION_SETTLE`], and one that nobody registered
//! only after the grace.
//!
//! Nothing here reads a clock or does I/O: `now` is an argument.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;
use weir_model::limits;
use weir_model::mesh::{Endpoint, Registration};

/// A stream of a proxy; a later one has a higher number.
pub(super) type StreamId = u64;

/// A service and its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredService {
    /// The service.
    pub name: String,
    /// Its instances, sorted.
    pub instances: Vec<String>,
}

/// Why a registration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRegistration {
    #[error("registration has no `{0}`")]
    Missing(&'static str),
    #[error("registration's `{field}` is longer than {} bytes", limits::REGISTRATION_TEXT_BYTES)]
    TooLong { field: &'static str },
    #[error("registration has more than {most} `{field}`")]
    TooMany { field: &'static str, most: usize },
    #[error("the registry is full: {} endpoints", limits::REGISTRY_ENDPOINTS)]
    Full,
}

/// Who is there.
#[derive(Debug)]
pub(super) struct Registry {
    started: Instant,
    restarted: bool,
    entries: HashMap<String, Entry>,
    services: BTreeMap<String, Service>,
}

#[derive(Debug)]
struct Entry {
    stream: StreamId,
    service: String,
    renewed: Instant,
}

/// The endpoints of a service by instance, and how often they changed.
#[derive(Debug)]
struct Service {
    version: u64,
    changed: Instant,
    endpoints: BTreeMap<String, Endpoint>,
}

/// What a proxy is told of a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    /// Raised by each change.
    pub(super) version: u64,
    /// Sorted by instance.
    pub(super) endpoints: Vec<Endpoint>,
}

impl Registry {
    /// An empty registry. `restarted` says that proxies may know endpoints from an earlier run.
    pub(super) fn new(now: Instant, restarted: bool) -> Self {
        Self { started: now, restarted, entries: HashMap::new(), services: BTreeMap::new() }
    }

    /// Takes a registration; the latest stream of an instance owns it.
    pub(super) fn register(
        &mut self,
        stream: StreamId,
        registration: &Registration,
        now: Instant,
    ) -> Result<(), BadRegistration> {
        check(registration)?;
        let instance = &registration.instance;
        match self.entries.get(instance) {
            Some(entry) if entry.stream > stream => return Ok(()),
            Some(entry) if entry.service != registration.service => self.remove(&instance.clone(), now),
            Some(_) => {}
            None if self.entries.len() >= limits::REGISTRY_ENDPOINTS => return Err(BadRegistration::Full),
            None => {}
        }
        let entry = Entry { stream, service: registration.service.clone(), renewed: now };
        self.entries.insert(instance.clone(), entry);
        if registration.address.is_empty() {
            self.remove_endpoint(&registration.service, instance, now);
            return Ok(());
        }
        let service = self.services.entry(registration.service.clone()).or_insert_with(|| Service {
            version: 0,
            changed: now,
            endpoints: BTreeMap::new(),
        });
        let endpoint = endpoint(registration);
        if service.endpoints.get(instance) != Some(&endpoint) {
            service.endpoints.insert(instance.clone(), endpoint);
            service.version += 1;
            service.changed = now;
        }
        Ok(())
    }

    /// Renews the registration of `instance`, if `stream` owns it; says whether it does.
    pub(super) fn renew(&mut self, stream: StreamId, instance: &str, now: Instant) -> bool {
        match self.entries.get_mut(instance) {
            Some(entry) if entry.stream == stream => {
                entry.renewed = now;
                true
            }
            _ => false,
        }
    }

    /// Removes `instance` at its own wish, if `stream` owns it.
    pub(super) fn withdraw(&mut self, stream: StreamId, instance: &str, now: Instant) {
        if self.entries.get(instance).is_some_and(|entry| entry.stream == stream) {
            self.remove(instance, now);
        }
    }

    /// Removes what has not been renewed, unless the grace after a start forbids it.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.in_grace(now) {
            return;
        }
        let lapsed: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| now.duration_since(entry.renewed) >= limits::REGISTRATION_EXPIRY)
            .map(|(instance, _)| instance.clone())
            .collect();
        lapsed.iter().for_each(|instance| self.remove(instance, now));
    }

    /// What to tell of `service`, or `None` while it is too early to say.
    pub(super) fn view(&self, service: &str, now: Instant) -> Option<View> {
        let early = self.restarted && self.in_grace(now);
        let Some(known) = self.services.get(service) else {
            return (!early).then(|| View { version: 0, endpoints: vec![] });
        };
        if early && now.duration_since(known.changed) < limits::REGISTRATION_SETTLE {
            return None;
        }
        Some(View { version: known.version, endpoints: known.endpoints.values().cloned().collect() })
    }

    /// Instances that are registered, clients without an endpoint included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Services that have endpoints.
    pub(super) fn services(&self) -> Vec<RegisteredService> {
        let with_endpoints = self.services.iter().filter(|(_, service)| !service.endpoints.is_empty());
        with_endpoints
            .map(|(name, service)| RegisteredService {
                name: name.clone(),
                instances: service.endpoints.keys().cloned().collect(),
            })
            .collect()
    }

    fn in_grace(&self, now: Instant) -> bool {
        now.duration_since(self.started) < limits::REGISTRATION_GRACE
    }

    fn remove(&mut self, instance: &str, now: Instant) {
        if let Some(entry) = self.entries.remove(instance) {
            self.remove_endpoint(&entry.service, instance, now);
        }
    }

    /// An empty service stays with its version, so that proxies hear of the removal; services are as
    /// bounded as the registrations of one run are.
    fn remove_endpoint(&mut self, service: &str, instance: &str, now: Instant) {
        if let Some(service) = self.services.get_mut(service)
            && service.endpoints.remove(instance).is_some()
        {
            service.version += 1;
            service.changed = now;
        }
    }
}

fn endpoint(registration: &Registration) -> Endpoint {
    Endpoint {
        instance: registration.instance.clone(),
        address: registration.address.clone(),
        version: registration.version.clone(),
        zone: registration.zone.clone(),
        protocol: registration.protocol.clone(),
        labels: registration.labels.clone(),
    }
}

fn check(registration: &Registration) -> Result<(), BadRegistration> {
    let texts = [
        ("instance", &registration.instance, true),
        ("service", &registration.service, true),
        ("version", &registration.version, false),
        ("zone", &registration.zone, false),
        ("address", &registration.address, false),
        ("protocol", &registration.protocol, false),
    ];
    for (field, text, required) in texts {
        if required && text.is_empty() {
            return Err(BadRegistration::Missing(field));
        }
        check_length(field, text)?;
    }
    if registration.labels.len() > limits::REGISTRATION_LABELS {
        return Err(BadRegistration::TooMany { field: "labels", most: limits::REGISTRATION_LABELS });
    }
    if registration.upstreams.len() > limits::REGISTRATION_UPSTREAMS {
        return Err(BadRegistration::TooMany { field: "upstreams", most: limits::REGISTRATION_UPSTREAMS });
    }
    registration
        .labels
        .iter()
        .flat_map(|(key, value)| [key, value])
        .try_for_each(|text| check_length("labels", text))?;
    registration.upstreams.iter().try_for_each(|text| check_length("upstreams", text))
}

fn check_length(field: &'static str, text: &str) -> Result<(), BadRegistration> {
    if text.len() > limits::REGISTRATION_TEXT_BYTES {
        return Err(BadRegistration::TooLong { field });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
