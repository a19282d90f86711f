//! The endpoints that registered themselves, and for how long they are believed.
//!
//! Beside them stand the endpoints that somebody else answers for, which come and go when that one says so
//! ([`Registry::announce`]). Where both name an instance, its own registration counts.
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

/// How far the numbers of one run are from those of the next: more changes than a run can have, and a number
/// that a client's doubles still hold exactly after two million runs.
const NUMBERS_PER_RUN: u64 = 1 << 32;

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
    #[error("registration's `{field}` is above {most}")]
    TooHigh { field: &'static str, most: u32 },
    #[error("the registry is full: {} endpoints", limits::REGISTRY_ENDPOINTS)]
    Full,
}

/// Who is there.
#[derive(Debug)]
pub(crate) struct Registry {
    started: Instant,
    restarted: bool,
    entries: HashMap<String, Entry>,
    services: BTreeMap<String, Service>,
    /// The number of the last change. No number is given twice, neither in this run nor in a later one.
    last: u64,
    /// The last change to which services or instances there are.
    listed: u64,
    /// At least the last change of each service that was forgotten because it had no endpoints left.
    forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    stream: StreamId,
    service: String,
    renewed: Instant,
}

/// The endpoints of a service by instance, and when they changed.
#[derive(Debug, Default)]
struct Service {
    /// The last change to the endpoints.
    version: u64,
    /// The last change to anything that is known of the service.
    index: u64,
    /// When the endpoints changed; never where there have been none.
    changed: Option<Instant>,
    endpoints: BTreeMap<String, Endpoint>,
    /// Those that somebody else answers for.
    announced: BTreeMap<String, Endpoint>,
}

impl Service {
    fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.announced.is_empty()
    }

    /// Each instance once, sorted.
    fn instances(&self) -> BTreeMap<&String, &Endpoint> {
        self.announced.iter().chain(&self.endpoints).collect()
    }
}

/// What a proxy is told of a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    /// Raised by each change; 0 where there are no endpoints.
    pub(super) version: u64,
    /// Sorted by instance.
    pub(super) endpoints: Vec<Endpoint>,
}

impl Registry {
    /// An empty registry of the run `epoch`. From the second run on proxies may know endpoints from an earlier one.
    pub(super) fn new(now: Instant, epoch: u64) -> Self {
        let first = epoch.saturating_mul(NUMBERS_PER_RUN);
        Self {
            started: now,
            restarted: epoch > 1,
            entries: HashMap::new(),
            services: BTreeMap::new(),
            last: first,
            listed: first,
            forgotten: first,
        }
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
        let endpoint = endpoint(registration);
        let service = self.services.entry(registration.service.clone()).or_default();
        if service.endpoints.get(instance) != Some(&endpoint) {
            service.endpoints.insert(instance.clone(), endpoint);
            self.changed(&registration.service, now);
            self.listed = self.last;
        }
        Ok(())
    }

    /// Takes an endpoint that somebody else answers for, until it is retracted.
    pub(super) fn announce(&mut self, service: &str, endpoint: Endpoint, now: Instant) {
        let known = self.services.entry(service.to_owned()).or_default();
        if known.announced.get(&endpoint.instance) != Some(&endpoint) {
            known.announced.insert(endpoint.instance.clone(), endpoint);
            self.changed(service, now);
        }
    }

    /// Removes an endpoint that was announced.
    pub(super) fn retract(&mut self, service: &str, instance: &str, now: Instant) {
        let known = self.services.get_mut(service);
        if known.is_some_and(|known| known.announced.remove(instance).is_some()) {
            self.changed(service, now);
        }
    }

    /// Something else is now known of `service`; `listed` says that there are other services or instances than before.
    pub(super) fn touch(&mut self, service: &str, listed: bool) {
        self.last += 1;
        self.services.entry(service.to_owned()).or_default().index = self.last;
        if listed {
            self.listed = self.last;
        }
    }

    /// Something else is now known that belongs to no service.
    pub(super) fn touch_all(&mut self) {
        self.last += 1;
    }

    /// The number of the last change to what is known of `service`.
    pub(crate) fn index(&self, service: &str) -> u64 {
        self.services.get(service).map_or(self.forgotten, |known| known.index)
    }

    /// The number of the last change to which services and instances there are.
    pub(crate) fn list_index(&self) -> u64 {
        self.listed
    }

    /// The number of the last change of any kind.
    pub(crate) fn last_index(&self) -> u64 {
        self.last
    }

    /// The endpoints of `service` that registered themselves, sorted.
    pub(crate) fn own_endpoints(&self, service: &str) -> impl Iterator<Item = &Endpoint> {
        self.services.get(service).into_iter().flat_map(|known| known.endpoints.values())
    }

    /// The services with endpoints that registered themselves, sorted.
    pub(crate) fn own_services(&self) -> impl Iterator<Item = &String> {
        self.services.iter().filter(|(_, known)| !known.endpoints.is_empty()).map(|(name, _)| name)
    }

    /// Whether it is too early to say which endpoints `service` has.
    pub(crate) fn is_early(&self, service: &str, now: Instant) -> bool {
        if !self.may_be_incomplete(now) {
            return false;
        }
        let changed = self.services.get(service).and_then(|known| known.changed);
        changed.is_none_or(|changed| now.duration_since(changed) < limits::REGISTRATION_SETTLE)
    }

    /// Whether endpoints of an earlier run may be missing still.
    pub(crate) fn may_be_incomplete(&self, now: Instant) -> bool {
        self.restarted && self.in_grace(now)
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
        let empty = self.services.values().filter(|service| service.is_empty());
        self.forgotten = empty.map(|service| service.index).fold(self.forgotten, u64::max);
        self.services.retain(|_, service| !service.is_empty());
    }

    /// What to tell of `service`, or `None` while it is too early to say.
    pub(super) fn view(&self, service: &str, now: Instant) -> Option<View> {
        if self.is_early(service, now) {
            return None;
        }
        match self.services.get(service).filter(|known| !known.is_empty()) {
            Some(known) => {
                let endpoints = known.instances().into_values().cloned().collect();
                Some(View { version: known.version, endpoints })
            }
            None => Some(View { version: 0, endpoints: vec![] }),
        }
    }

    /// Instances that are registered, clients without an endpoint included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Services that have endpoints.
    pub(super) fn services(&self) -> Vec<RegisteredService> {
        let with_endpoints = self.services.iter().filter(|(_, service)| !service.is_empty());
        with_endpoints
            .map(|(name, service)| RegisteredService {
                name: name.clone(),
                instances: service.instances().into_keys().cloned().collect(),
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

    /// An empty service stays until the next look for what has expired, so that everybody hears of the removal
    /// even while a restarted registry keeps still about services that it does not know.
    fn remove_endpoint(&mut self, service: &str, instance: &str, now: Instant) {
        let known = self.services.get_mut(service);
        if known.is_some_and(|known| known.endpoints.remove(instance).is_some()) {
            self.changed(service, now);
            self.listed = self.last;
        }
    }

    fn changed(&mut self, service: &str, now: Instant) {
        self.last += 1;
        if let Some(service) = self.services.get_mut(service) {
            (service.version, service.index, service.changed) = (self.last, self.last, Some(now));
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
        region: registration.region.clone(),
        namespace: registration.namespace.clone(),
        weight: registration.weight,
        priority: registration.priority,
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
        ("region", &registration.region, false),
        ("namespace", &registration.namespace, false),
    ];
    for (field, text, required) in texts {
        if required && text.is_empty() {
            return Err(BadRegistration::Missing(field));
        }
        check_length(field, text)?;
    }
    for (field, number, most) in [
        ("weight", registration.weight.unwrap_or_default(), limits::ENDPOINT_WEIGHT),
        ("priority", registration.priority, limits::ENDPOINT_PRIORITY),
    ] {
        if number > most {
            return Err(BadRegistration::TooHigh { field, most });
        }
    }
    if registration.labels.len() > limits::REGISTRATION_LABELS {
        return Err(BadRegistration::TooMany { field: "labels", most: limits::REGISTRATION_LABELS });
    }
    registration
        .labels
        .iter()
        .flat_map(|(key, value)| [key, value])
        .try_for_each(|text| check_length("labels", text))?;
    check_upstreams(&registration.upstreams)
}

/// Whether a proxy may want these services.
pub(super) fn check_upstreams(services: &[String]) -> Result<(), BadRegistration> {
    if services.len() > limits::REGISTRATION_UPSTREAMS {
        return Err(BadRegistration::TooMany { field: "upstreams", most: limits::REGISTRATION_UPSTREAMS });
    }
    services.iter().try_for_each(|text| check_length("upstreams", text))
}

fn check_length(field: &'static str, text: &str) -> Result<(), BadRegistration> {
    if text.len() > limits::REGISTRATION_TEXT_BYTES {
        return Err(BadRegistration::TooLong { field });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
