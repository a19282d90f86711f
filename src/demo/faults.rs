//! Faults that can be switched on in the demo's services: slow, failing, gone.
//!
//! A fault belongs to instances. Naming a service means all of its replicas, and a list of what is on
//! names the service again where it is on in each of them.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FaultKind {
    /// Ten times as slow, and slower by 50 ms at least.
    Latency,
    /// Answers each request with 500 (gRPC: `INTERNAL`).
    Errors,
    /// Drops each connection without an answer.
    Outage,
}

impl FaultKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 3] = [Self::Latency, Self::Errors, Self::Outage];
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latency => "latency",
            Self::Errors => "errors",
            Self::Outage => "outage",
        })
    }
}

/// The faults of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Active {
    pub(super) latency: bool,
    pub(super) errors: bool,
    pub(super) outage: bool,
}

impl Active {
    fn slot(&mut self, kind: FaultKind) -> &mut bool {
        match kind {
            FaultKind::Latency => &mut self.latency,
            FaultKind::Errors => &mut self.errors,
            FaultKind::Outage => &mut self.outage,
        }
    }

    fn has(mut self, kind: FaultKind) -> bool {
        *self.slot(kind)
    }

    /// The faults that `text` names, separated by white space or commas; none where it is empty.
    pub(super) fn from_text(text: &str) -> Result<Self, String> {
        let mut active = Self::default();
        for word in text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()) {
            let kind = FaultKind::ALL.into_iter().find(|kind| kind.to_string() == word);
            let kind =
                kind.ok_or_else(|| format!("`{word}` is no fault: expected latency, errors or outage"))?;
            *active.slot(kind) = true;
        }
        Ok(active)
    }
}

/// A fault that is on, as `GET /api/demo` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// What goes wrong.
    pub(crate) kind: FaultKind,
    /// `payments`, or `payments/2` for one replica.
    pub(crate) target: String,
}

/// A target that the demo does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{target}` is neither a service of the demo nor `SERVICE/REPLICA`: expected one of {known}")]
pub(crate) struct UnknownTarget {
    target: String,
    known: String,
}

/// The switches of all services.
#[derive(Debug)]
pub(super) struct Faults {
    services: Vec<Switches>,
}

#[derive(Debug)]
struct Switches {
    name: String,
    replicas: Vec<(String, watch::Sender<Active>)>,
}

impl Faults {
    /// Switches, all off, for services and the names of their instances.
    pub(super) fn new(services: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let switches = |(name, instances): (String, Vec<String>)| Switches {
            name,
            replicas: instances
                .into_iter()
                .map(|name| (name, watch::Sender::new(Active::default())))
                .collect(),
        };
        Self { services: services.into_iter().map(switches).collect() }
    }

    /// The services and their instances.
    pub(super) fn services(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.services.iter().map(|service| {
            (service.name.as_str(), service.replicas.iter().map(|(name, _)| name.as_str()).collect())
        })
    }

    /// The faults of `instance` from now on.
    pub(super) fn of(&self, instance: &str) -> Option<watch::Receiver<Active>> {
        let mut replicas = self.services.iter().flat_map(|service| &service.replicas);
        replicas.find(|(name, _)| name == instance).map(|(_, switch)| switch.subscribe())
    }

    /// Switches `kind` on or off at `target`: a service, `service/number`, `service/instance` or an
    /// instance.
    pub(super) fn switch(&self, kind: FaultKind, target: &str, on: bool) -> Result<(), UnknownTarget> {
        let switches = self.find(target);
        if switches.is_empty() {
            let known = self.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>();
            return Err(UnknownTarget { target: target.to_owned(), known: known.join(", ") });
        }
        for switch in switches {
            switch.send_modify(|active| *active.slot(kind) = on);
        }
        Ok(())
    }

    fn find(&self, target: &str) -> Vec<&watch::Sender<Active>> {
        let (service, replica) = match target.split_once('/') {
            Some((service, replica)) => (Some(service), replica),
            None => (None, target),
        };
        let mut found = Vec::new();
        for switches in &self.services {
            if service.is_none() && switches.name == target {
                return switches.replicas.iter().map(|(_, switch)| switch).collect();
            }
            if service.is_some_and(|service| service != switches.name) {
                continue;
            }
            let number = replica.parse::<usize>().ok().filter(|_| service.is_some());
            let fits = |index: usize, name: &str| name == replica || number == Some(index + 1);
            let replicas = switches.replicas.iter().enumerate();
            found.extend(replicas.filter(|(i, (name, _))| fits(*i, name)).map(|(_, (_, switch))| switch));
        }
        found
    }

    /// What is on.
    pub(super) fn list(&self) -> Vec<Fault> {
        let mut list = Vec::new();
        for service in &self.services {
            for kind in FaultKind::ALL {
                let on: Vec<bool> =
                    service.replicas.iter().map(|(_, switch)| switch.borrow().has(kind)).collect();
                if on.iter().all(|&on| on) {
                    list.push(Fault { kind, target: service.name.clone() });
                    continue;
                }
                let numbers = on.iter().zip(1..).filter(|(on, _)| **on).map(|(_, number)| number);
                list.extend(numbers.map(|number: usize| {
                    let target = format!("{}/{number}", service.name);
                    Fault { kind, target }
                }));
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> Faults {
        let payments = (1..=3).map(|n| format!("payments-{n}")).collect();
        Faults::new([("cart".to_owned(), vec!["cart-1".to_owned()]), ("payments".to_owned(), payments)])
    }

    fn targets(faults: &Faults) -> Vec<String> {
        faults.list().into_iter().map(|fault| format!("{} {}", fault.kind, fault.target)).collect()
    }

    #[test]
    fn a_replica_has_three_names() {
        for target in ["payments/2", "payments/payments-2", "payments-2"] {
            let faults = faults();
            faults.switch(FaultKind::Errors, target, true).unwrap();
            assert_eq!(targets(&faults), ["errors payments/2"], "{target}");
            let active = *faults.of("payments-2").unwrap().borrow();
            assert_eq!(active, Active { errors: true, ..Active::default() });
            assert_eq!(*faults.of("payments-1").unwrap().borrow(), Active::default());
        }
    }

    #[test]
    fn a_service_means_all_replicas_and_one_can_be_healed_alone() {
        let faults = faults();
        faults.switch(FaultKind::Latency, "payments", true).unwrap();
        faults.switch(FaultKind::Outage, "cart", true).unwrap();
        assert_eq!(targets(&faults), ["outage cart", "latency payments"]);
        faults.switch(FaultKind::Latency, "payments/1", false).unwrap();
        assert_eq!(targets(&faults), ["outage cart", "latency payments/2", "latency payments/3"]);
        faults.switch(FaultKind::Latency, "payments", false).unwrap();
        assert_eq!(targets(&faults), ["outage cart"]);
    }

    #[test]
    fn unknown_targets_are_refused_with_what_there_is() {
        for target in ["", "/", "payment", "payments/0", "payments/4", "payments/", "cart/payments-1", "2"] {
            let refused = faults().switch(FaultKind::Errors, target, true).unwrap_err();
            assert!(refused.to_string().contains("cart, payments"), "{refused}");
        }
    }

    #[test]
    fn a_fault_file_lists_words() {
        assert_eq!(Active::from_text(" \n"), Ok(Active::default()));
        let both = Active { latency: true, errors: true, outage: false };
        assert_eq!(Active::from_text("errors, latency\n"), Ok(both));
        assert!(Active::from_text("slow").is_err());
    }
}
