//! What was registered through Consul's API, and how it is: the state of an agent of Consul, kept here for everybody.
//!
//! An instance is as healthy as the worst of its checks. While none is critical, and it has a port, proxies are told
//! of it. TTL checks turn critical when nobody reports in time; an instance that has been critical for as long as its
//! check allows is deregistered.
//!
//! Nothing here reads a clock, does I/O or runs a check: `now` is an argument, [`Agent::due`] says which checks to
//! run, and [`Agent::found`] takes what came of one. Whoever calls gives the [`News`] to the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use weir_model::limits;
use weir_model::mesh::Endpoint;

use super::definition::{CheckDefinition, Kind, ServiceDefinition, Status};
use super::refused::Refused;
use super::written::NewCheck;
use crate::mesh::News;

/// All instances and checks.
#[derive(Debug, Default)]
pub(super) struct Agent {
    services: BTreeMap<String, Service>,
    checks: BTreeMap<String, Check>,
    /// The instances of each service.
    names: BTreeMap<String, BTreeSet<String>>,
    /// Sum of what registrations took.
    bytes: usize,
    /// The number of the last check.
    numbers: u64,
    news: Vec<News>,
}

/// An instance.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) definition: ServiceDefinition,
    bytes: usize,
    checks: BTreeSet<String>,
}

/// A check.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) definition: CheckDefinition,
    pub(super) status: Status,
    pub(super) output: String,
    bytes: usize,
    /// Tells it from one that had its id before.
    number: u64,
    /// When it turned critical.
    critical: Option<Instant>,
    /// Until when a TTL check waits for a report, or when another is to be run; nothing while it runs.
    next: Option<Instant>,
    good: u32,
    bad: u32,
}

/// A check that is to be run.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) kind: Kind,
}

/// What is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    services: Vec<(ServiceDefinition, usize)>,
    checks: Vec<SavedCheck>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedCheck {
    definition: CheckDefinition,
    status: Status,
    output: String,
    bytes: usize,
}

impl Agent {
    /// Takes an instance, or what is new of it, in `bytes` of a request. Checks that it had stay unless `replace`;
    /// those that it has again stay as they are until they are run or reported.
    pub(super) fn register(
        &mut self,
        definition: ServiceDefinition,
        checks: Vec<NewCheck>,
        replace: bool,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Refused> {
        let id = definition.id.clone();
        let known = self.services.get(&id);
        let new = checks.iter().filter(|check| !self.checks.contains_key(&check.definition.id)).count();
        if known.is_none() && self.services.len() >= limits::AGENT_SERVICES {
            return Err(Refused::Full { what: "services", count: limits::AGENT_SERVICES });
        }
        let kept = known.map_or(0, |known| known.checks.len());
        if self.checks.len() + new > limits::AGENT_CHECKS {
            return Err(Refused::Full { what: "checks", count: limits::AGENT_CHECKS });
        }
        if !replace && kept + new > limits::AGENT_SERVICE_CHECKS {
            return Err(Refused::Full { what: "checks of a service", count: limits::AGENT_SERVICE_CHECKS });
        }
        self.room_for(bytes, known.map_or(0, |known| known.bytes))?;
        // Another service may have had a check of that name.
        for check in &checks {
            let taken = self.checks.get(&check.definition.id).map(|known| &known.definition.service_id);
            if taken.is_some_and(|owner| *owner != id) {
                self.forget_check(&check.definition.id);
            }
        }
        let previous = self.services.remove(&id);
        let mut of_service = BTreeSet::new();
        if let Some(previous) = previous {
            self.bytes -= previous.bytes;
            of_service = previous.checks;
            if previous.definition.name != definition.name {
                self.leave(&previous.definition.name, &id);
            }
        }
        if replace {
            for check in std::mem::take(&mut of_service) {
                if !checks.iter().any(|new| new.definition.id == check) {
                    self.drop_check(&check);
                }
            }
        }
        of_service.extend(checks.iter().map(|check| check.definition.id.clone()));
        self.names.entry(definition.name.clone()).or_default().insert(id.clone());
        self.bytes += bytes;
        self.services.insert(id.clone(), Service { definition, bytes, checks: of_service });
        for check in checks {
            self.put_check(check, 0, now);
        }
        self.tell(&id, true);
        Ok(())
    }

    /// Removes an instance and its checks.
    pub(super) fn deregister(&mut self, id: &str) -> Result<(), Refused> {
        let Some(service) = self.services.remove(id) else {
            return Err(Refused::UnknownService(id.to_owned()));
        };
        self.bytes -= service.bytes;
        for check in &service.checks {
            self.drop_check(check);
        }
        self.leave(&service.definition.name, id);
        Ok(())
    }

    /// Takes a check by itself, in `bytes` of a request.
    pub(super) fn register_check(
        &mut self,
        check: NewCheck,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Refused> {
        let (id, service) = (check.definition.id.clone(), check.definition.service_id.clone());
        let known = self.checks.get(&id);
        let owner = known.map(|known| known.definition.service_id.clone());
        if known.is_none() && self.checks.len() >= limits::AGENT_CHECKS {
            return Err(Refused::Full { what: "checks", count: limits::AGENT_CHECKS });
        }
        self.room_for(bytes, known.map_or(0, |known| known.bytes))?;
        if !service.is_empty() {
            let Some(of) = self.services.get(&service) else {
                return Err(Refused::UnknownService(service));
            };
            if !of.checks.contains(&id) && of.checks.len() >= limits::AGENT_SERVICE_CHECKS {
                return Err(Refused::Full {
                    what: "checks of a service",
                    count: limits::AGENT_SERVICE_CHECKS,
                });
            }
        }
        if owner.is_some_and(|owner| owner != service) {
            self.forget_check(&id);
        }
        if let Some(of) = self.services.get_mut(&service) {
            of.checks.insert(id);
        }
        self.put_check(check, bytes, now);
        self.tell(&service, false);
        Ok(())
    }

    /// Removes a check.
    pub(super) fn deregister_check(&mut self, id: &str) -> Result<(), Refused> {
        if !self.checks.contains_key(id) {
            return Err(Refused::UnknownCheck(id.to_owned()));
        }
        self.forget_check(id);
        Ok(())
    }

    /// Takes the report of whoever answers for a TTL check.
    pub(super) fn report(
        &mut self,
        id: &str,
        status: Status,
        output: String,
        now: Instant,
    ) -> Result<(), Refused> {
        let Some(check) = self.checks.get_mut(id) else { return Err(Refused::UnknownCheck(id.to_owned())) };
        let Kind::Ttl(ttl) = check.definition.kind else { return Err(Refused::NoTtl(id.to_owned())) };
        check.next = Some(now + ttl);
        self.set(id, status, output, now);
        Ok(())
    }

    /// What came of running a check.
    pub(super) fn found(&mut self, due: &Due, status: Status, output: String, now: Instant) {
        let Some(check) = self.checks.get_mut(&due.id).filter(|check| check.number == due.number) else {
            return;
        };
        let interval =
            check.definition.kind.timing().map_or(limits::AGENT_INTERVAL, |(interval, _)| interval);
        check.next = Some(now + interval);
        let status = check.counted(status);
        self.set(&due.id, status, output, now);
    }

    /// The checks that are to be run, at most `room` of them, those first that have waited longest.
    pub(super) fn due(&mut self, now: Instant, room: usize) -> Vec<Due> {
        let run = self.checks.iter().filter(|(_, check)| check.definition.kind.timing().is_some());
        let mut due: Vec<(Instant, String)> = run
            .filter_map(|(id, check)| Some((check.next.filter(|next| *next <= now)?, id.clone())))
            .collect();
        due.sort();
        due.truncate(room);
        let start = |(_, id): (Instant, String)| {
            let check = self.checks.get_mut(&id)?;
            check.next = None;
            Some(Due { id, number: check.number, kind: check.definition.kind.clone() })
        };
        due.into_iter().filter_map(start).collect()
    }

    /// Lets TTL checks lapse and deregisters what has been critical for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let lapsed: Vec<String> = self
            .checks
            .iter()
            .filter(|(_, check)| matches!(check.definition.kind, Kind::Ttl(_)))
            .filter(|(_, check)| check.next.is_some_and(|until| until <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in lapsed {
            let Some(check) = self.checks.get_mut(&id) else { continue };
            check.next = None;
            let output = match check.output.as_str() {
                "" => "TTL expired".to_owned(),
                last => format!("TTL expired (last output before timeout follows): {last}"),
            };
            self.set(&id, Status::Critical, output, now);
        }
        let given_up: BTreeSet<String> = self
            .checks
            .values()
            .filter_map(|check| {
                let since = check.critical?;
                let overdue = now.duration_since(since) >= check.definition.deregister_after?;
                overdue.then(|| check.definition.service_id.clone())
            })
            .collect();
        for id in given_up {
            if self.deregister(&id).is_ok() {
                tracing::info!(service_id = id, "critical for too long, deregistered");
            }
        }
    }

    /// What the mesh has not been told yet.
    pub(super) fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// The instances of `service`, sorted.
    pub(super) fn instances(&self, service: &str) -> impl Iterator<Item = &Service> {
        let ids = self.names.get(service).into_iter().flatten();
        ids.filter_map(|id| self.services.get(id))
    }

    /// Every instance, sorted.
    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The instance `id`.
    pub(super) fn service(&self, id: &str) -> Option<&Service> {
        self.services.get(id)
    }

    /// Every check, sorted.
    pub(super) fn checks(&self) -> impl Iterator<Item = &Check> {
        self.checks.values()
    }

    /// The checks of an instance, sorted.
    pub(super) fn checks_of(&self, service: &Service) -> impl Iterator<Item = &Check> {
        service.checks.iter().filter_map(|id| self.checks.get(id))
    }

    /// The worst of its checks.
    pub(super) fn status(&self, service: &Service) -> Status {
        self.checks_of(service).map(|check| check.status).max().unwrap_or(Status::Passing)
    }

    /// What is kept over a restart.
    pub(super) fn saved(&self) -> Saved {
        let services = self.services.values().map(|service| (service.definition.clone(), service.bytes));
        let checks = self.checks.values().map(|check| SavedCheck {
            definition: check.definition.clone(),
            status: check.status,
            output: check.output.clone(),
            bytes: check.bytes,
        });
        Saved { services: services.collect(), checks: checks.collect() }
    }

    /// The agent as it was. Those who report have the time of a new registration to do so; a check is run for the
    /// first time when a share of its interval has gone by that `chance` (0 to 1) says.
    pub(super) fn restored(saved: Saved, now: Instant, mut chance: impl FnMut() -> f64) -> Self {
        let mut agent = Self::default();
        for (definition, bytes) in saved.services {
            // What was taken then is taken now.
            let _ = agent.register(definition, Vec::new(), false, bytes, now);
        }
        for SavedCheck { definition, status, output, bytes } in saved.checks {
            let id = definition.id.clone();
            if agent.register_check(NewCheck { definition, status }, bytes, now).is_ok()
                && let Some(check) = agent.checks.get_mut(&id)
            {
                check.output = output;
                if let Some((interval, _)) = check.definition.kind.timing() {
                    check.next = Some(now + interval.mul_f64(chance().clamp(0.0, 1.0)));
                }
            }
        }
        // That of a service before its checks were there counts for nothing.
        let last: BTreeMap<(String, String), News> = agent
            .news()
            .into_iter()
            .map(|news| ((news.service.clone(), news.instance.clone()), news))
            .collect();
        agent.news = last.into_values().map(|news| News { listed: true, ..news }).collect();
        agent
    }

    fn room_for(&self, bytes: usize, instead_of: usize) -> Result<(), Refused> {
        match self.bytes - instead_of + bytes > limits::AGENT_BYTES {
            true => Err(Refused::Full { what: "bytes of registrations", count: limits::AGENT_BYTES }),
            false => Ok(()),
        }
    }

    fn put_check(&mut self, NewCheck { definition, status }: NewCheck, bytes: usize, now: Instant) {
        self.numbers += 1;
        let previous = self.checks.remove(&definition.id);
        self.bytes -= previous.as_ref().map_or(0, |previous| previous.bytes);
        self.bytes += bytes;
        let next = match definition.kind {
            Kind::Ttl(ttl) => now + ttl,
            Kind::Http(_) | Kind::Tcp { .. } => now,
        };
        let (status, output, critical) = match previous {
            Some(previous) => (previous.status, previous.output, previous.critical),
            None => (status, String::new(), (status == Status::Critical).then_some(now)),
        };
        let check = Check {
            status,
            output,
            bytes,
            number: self.numbers,
            critical,
            next: Some(next),
            good: 0,
            bad: 0,
            definition,
        };
        self.checks.insert(check.definition.id.clone(), check);
    }

    fn drop_check(&mut self, id: &str) -> Option<Check> {
        let check = self.checks.remove(id)?;
        self.bytes -= check.bytes;
        Some(check)
    }

    fn forget_check(&mut self, id: &str) {
        let Some(check) = self.drop_check(id) else { return };
        if let Some(service) = self.services.get_mut(&check.definition.service_id) {
            service.checks.remove(id);
        }
        self.tell(&check.definition.service_id, false);
    }

    /// Only another status is news: what a check prints may differ each time.
    fn set(&mut self, id: &str, status: Status, mut output: String, now: Instant) {
        let Some(check) = self.checks.get_mut(id) else { return };
        cut(&mut output);
        check.output = output;
        if check.status == status {
            return;
        }
        tracing::debug!(check = id, from = %check.status, to = %status, "a check has another status");
        check.status = status;
        check.critical = (status == Status::Critical).then_some(now);
        let service = check.definition.service_id.clone();
        self.tell(&service, false);
    }

    fn tell(&mut self, id: &str, listed: bool) {
        let service = self.services.get(id);
        let endpoint = service.and_then(|service| endpoint_of(&service.definition, self.status(service)));
        self.news.push(News {
            service: service.map(|service| service.definition.name.clone()).unwrap_or_default(),
            instance: id.to_owned(),
            endpoint,
            listed,
        });
    }

    /// The instance `id` is of the service `name` no more.
    fn leave(&mut self, name: &str, id: &str) {
        if let Some(ids) = self.names.get_mut(name) {
            ids.remove(id);
            if ids.is_empty() {
                self.names.remove(name);
            }
        }
        let (service, instance) = (name.to_owned(), id.to_owned());
        self.news.push(News { service, instance, endpoint: None, listed: true });
    }
}

impl Check {
    /// The status after another result, with as many in a row as it takes.
    fn counted(&mut self, result: Status) -> Status {
        let needs = &self.definition;
        if result == Status::Critical {
            (self.good, self.bad) = (0, self.bad.saturating_add(1));
            return match self.bad {
                bad if bad >= needs.failures_critical => Status::Critical,
                bad if bad >= needs.failures_warning => Status::Warning,
                _ => self.status,
            };
        }
        (self.good, self.bad) = (self.good.saturating_add(1), 0);
        if self.good >= needs.successes { result } else { self.status }
    }

    /// How often it is run, and how long that may take.
    pub(super) fn timing(&self) -> (Duration, Duration) {
        self.definition.kind.timing().unwrap_or_default()
    }
}

/// Cuts what a check found to [`limits::AGENT_OUTPUT_BYTES`].
fn cut(output: &mut String) {
    if output.len() > limits::AGENT_OUTPUT_BYTES {
        output.truncate(output.floor_char_boundary(limits::AGENT_OUTPUT_BYTES));
    }
}

/// What an instance may say in its metadata that it speaks; the first unless it does.
const PROTOCOLS: [&str; 3] = ["http", "grpc", "tcp"];

/// What proxies are told of an instance; nothing while it is critical, and where it has no port or a name that they
/// could not put in a header.
fn endpoint_of(definition: &ServiceDefinition, status: Status) -> Option<Endpoint> {
    let weight = match status {
        Status::Passing => definition.weights.passing,
        Status::Warning => definition.weights.warning,
        Status::Critical => return None,
    };
    let nameable = |text: &str| {
        let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b';' | b'=' | b',');
        (1..=128).contains(&text.len()) && text.bytes().all(fits)
    };
    if definition.port == 0 || !nameable(&definition.id) {
        return None;
    }
    let meta = |key: &str| definition.meta.get(key).filter(|text| nameable(text)).cloned();
    let protocol = meta("protocol").filter(|name| PROTOCOLS.contains(&name.as_str()));
    let place = |own: &String, key: &str| Some(own.clone()).filter(|own| nameable(own)).or_else(|| meta(key));
    let address = match definition.address.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:{}", definition.port),
        Err(_) => format!("{}:{}", definition.address, definition.port),
    };
    Some(Endpoint {
        instance: definition.id.clone(),
        address,
        version: meta("version").unwrap_or_default(),
        region: place(&definition.region, "region").unwrap_or_default(),
        zone: place(&definition.zone, "zone").unwrap_or_default(),
        namespace: meta("namespace").unwrap_or_default(),
        protocol: protocol.unwrap_or_else(|| PROTOCOLS[0].to_owned()),
        labels: definition.meta.clone().into_iter().collect(),
        weight: Some(weight.into()),
        priority: 0,
    })
}

#[cfg(test)]
mod tests;
