//! A small mesh in virtual time: open-loop load, replicas behind a least-request balancer, callers that fail
//! and wait with their callees, proxies that obey hints and report each second. Same seed, same run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_model::hint::{Action, Hint, Mode, Target};
use weir_model::{Sketch, UnixNanos};

use crate::analysis::{
    Cell, Class, Config, EdgeKey, FindingEvent, HintEvent, Reporter, SeriesKey, State, Tick, step,
};

/// Seconds since 1970 at which every run starts.
pub(super) const START: u64 = 1_800_000_000;

/// A small seeded generator (splitmix64).
struct Rng(u64);

impl Rng {
    fn with_seed(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn f64(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) replicas: usize,
    /// Median of its own work.
    pub(super) median_ms: f64,
    /// Spread of its own work: sigma of a log-normal.
    pub(super) sigma: f64,
    pub(super) error_rate: f64,
    /// Whom it calls, and with which probability per request.
    pub(super) calls: Vec<(&'static str, f64)>,
}

pub(super) fn service(
    name: &'static str,
    replicas: usize,
    median_ms: f64,
    calls: &[(&'static str, f64)],
) -> Service {
    Service { name, replicas, median_ms, sigma: 0.5, error_rate: 0.0005, calls: calls.to_vec() }
}

/// Eight services: load > frontend > (catalog > db, cart > store, checkout > (payments × 3 > bank, stock)).
pub(super) fn shop() -> Vec<Service> {
    vec![
        service("frontend", 1, 4.0, &[("catalog", 0.6), ("cart", 0.5), ("checkout", 0.7)]),
        service("catalog", 1, 3.0, &[("db", 1.0)]),
        service("cart", 1, 3.0, &[("store", 1.0)]),
        service("checkout", 1, 5.0, &[("payments", 1.0), ("stock", 1.0)]),
        service("payments", 3, 6.0, &[("bank", 0.8)]),
        service("stock", 1, 3.0, &[("db", 0.5)]),
        service("db", 1, 2.0, &[]),
        service("store", 1, 1.0, &[]),
        service("bank", 1, 12.0, &[]),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    Errors(f64),
    Slow(f64),
    Outage,
}

#[derive(Debug, Clone, Copy)]
struct Scheduled {
    service: &'static str,
    replica: Option<usize>,
    fault: Fault,
    from: f64,
    to: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Breaker {
    Open { last_probe: f64, rate: f64 },
    HalfOpen { last_probe: f64, rate: f64, good: u32 },
    Ramp { since: f64 },
}

/// What the clients of the mesh saw in one second.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) latency: Sketch,
}

pub(super) struct Mesh {
    services: BTreeMap<&'static str, Service>,
    rng: Rng,
    config: Config,
    pub(super) state: State,
    second: u64,
    pub(super) rps: f64,
    faults: Vec<Scheduled>,
    in_flight: BTreeMap<(&'static str, usize), Vec<f64>>,
    phases: BTreeMap<&'static str, f64>,
    cells: BTreeMap<u64, BTreeMap<EdgeKey, Cell>>,
    breakers: BTreeMap<(&'static str, String), Breaker>,
    opened: BTreeMap<(String, String), f64>,
    open_probes: BTreeMap<(String, String), f64>,
    obeyed: BTreeSet<String>,
    pub(super) seen: Vec<Seen>,
    pub(super) findings: Vec<(u64, FindingEvent)>,
    pub(super) hints: Vec<(u64, HintEvent)>,
}

impl Mesh {
    pub(super) fn new(services: Vec<Service>, rps: f64, seed: u64, mode: Mode) -> Self {
        Self {
            services: services.into_iter().map(|s| (s.name, s)).collect(),
            rng: Rng::with_seed(seed),
            config: Config { mode, ..Config::default() },
            state: State::new(7),
            second: 0,
            rps,
            faults: vec![],
            in_flight: BTreeMap::new(),
            phases: BTreeMap::new(),
            cells: BTreeMap::new(),
            breakers: BTreeMap::new(),
            opened: BTreeMap::new(),
            open_probes: BTreeMap::new(),
            obeyed: BTreeSet::new(),
            seen: vec![],
            findings: vec![],
            hints: vec![],
        }
    }

    pub(super) fn fault(
        &mut self,
        service: &'static str,
        replica: Option<usize>,
        fault: Fault,
        from: u64,
        to: u64,
    ) {
        self.faults.push(Scheduled { service, replica, fault, from: from as f64, to: to as f64 });
    }

    /// Runs until `second`, counted from the start.
    pub(super) fn run(&mut self, second: u64) {
        while self.second < second {
            self.one_second();
        }
    }

    fn one_second(&mut self) {
        let start = self.second as f64;
        self.seen.push(Seen::default());
        let mut at = start + self.gap();
        while at < start + 1.0 {
            let (ok, took, _) = self.call("load", "frontend", at);
            let seen = self.seen.last_mut().unwrap();
            seen.calls += 1;
            seen.errors += u64::from(!ok);
            seen.latency.record(took);
            at += self.gap();
        }
        self.second += 1;
        if self.second >= 3 {
            self.close(self.second - 3);
        }
    }

    fn gap(&mut self) -> f64 {
        -(1.0 - self.rng.f64()).ln() / self.rps.max(1e-9)
    }

    fn close(&mut self, second: u64) {
        let tick = Tick {
            second: START + second,
            now: UnixNanos((START + self.second) * 1_000_000_000),
            cells: self.cells.remove(&second).unwrap_or_default(),
        };
        let outcome = step(&mut self.state, &tick, &self.config);
        let now = self.second;
        self.findings.extend(outcome.findings.into_iter().map(|event| (now, event)));
        self.hints.extend(outcome.hints.into_iter().map(|event| (now, event)));
        self.obey();
    }

    /// What the proxies do with the hints in force, a moment later.
    fn obey(&mut self) {
        if self.config.mode != Mode::Enforce {
            return;
        }
        let now = self.second as f64;
        let hints = self.state.hints();
        self.opened.clear();
        let mut ejected: BTreeMap<String, &Hint> = BTreeMap::new();
        for hint in &hints {
            match (&hint.action, &hint.scope.target) {
                (Action::Eject, Target::Endpoint(name)) => {
                    ejected.insert(name.clone(), hint);
                }
                (Action::Open { .. }, _) => hint.scope.callers.iter().for_each(|caller| {
                    self.opened
                        .insert((caller.clone(), hint.scope.service.clone()), hint.recovery.probe_rate);
                }),
                other => panic!("unexpected {other:?}"),
            }
        }
        for (name, hint) in &ejected {
            if self.obeyed.insert(name.clone()) {
                for caller in self.callers_of(&hint.scope.service) {
                    let rate = hint.recovery.probe_rate;
                    self.breakers.insert((caller, name.clone()), Breaker::Open { last_probe: now, rate });
                }
            }
        }
        self.obeyed.retain(|name| ejected.contains_key(name));
        for ((_, name), breaker) in &mut self.breakers {
            if let (Breaker::Open { last_probe, rate }, false) = (*breaker, ejected.contains_key(name)) {
                *breaker = Breaker::HalfOpen { last_probe, rate, good: 0 };
            }
        }
    }

    fn callers_of(&self, service: &str) -> Vec<&'static str> {
        let calls = |s: &&Service| s.calls.iter().any(|(name, _)| *name == service);
        self.services.values().filter(calls).map(|s| s.name).collect()
    }

    /// A call at `at`: whether it succeeded, how long it took, whether it was refused.
    fn call(&mut self, client: &'static str, server: &'static str, at: f64) -> (bool, f64, bool) {
        let edge = (client.to_owned(), server.to_owned());
        let mut tests_edge = false;
        if let Some(rate) = self.opened.get(&edge) {
            let last = self.open_probes.entry(edge).or_default();
            tests_edge = at - *last >= 1.0 / rate;
            if tests_edge {
                *last = at;
            } else {
                self.report(client, server, "", Class::Refused, false, 0.0, at);
                return (false, 0.0, true);
            }
        }
        let service = self.services[server].clone();
        let (replica, probe) = self.choose(client, &service, at);
        let probe = probe || tests_edge;
        let fault = self.fault_of(server, replica, at);
        let instance = format!("{server}-{}", replica + 1);
        if fault == Some(Fault::Outage) {
            self.report(client, server, &instance, Class::Error, probe, 0.0005, at + 0.0005);
            self.learn(client, &instance, probe, false, at);
            return (false, 0.0005, false);
        }
        let mut took = service.median_ms / 1e3 * (service.sigma * self.normal()).exp();
        let mut ok = self.rng.f64() >= service.error_rate;
        match fault {
            Some(Fault::Errors(share)) => ok &= self.rng.f64() >= share,
            Some(Fault::Slow(factor)) => took *= factor,
            Some(Fault::Outage) | None => {}
        }
        for (callee, share) in service.calls.clone() {
            if ok && self.rng.f64() < share {
                let (fine, waited, _) = self.call(server, callee, at + took);
                took += waited;
                ok &= fine;
            }
        }
        self.in_flight.entry((server, replica)).or_default().push(at + took);
        let class = if ok { Class::Ok } else { Class::Error };
        self.report(client, server, &instance, class, probe, took, at + took);
        self.learn(client, &instance, probe, ok, at + took);
        (ok, took, false)
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * self.rng.f64()).cos()
    }

    fn fault_of(&self, service: &str, replica: usize, at: f64) -> Option<Fault> {
        let hits = |f: &&Scheduled| {
            f.service == service && f.replica.is_none_or(|r| r == replica) && (f.from..f.to).contains(&at)
        };
        self.faults.iter().find(hits).map(|f| f.fault)
    }

    /// The replica for a call, and whether it is a probe: two choices, the one with less in flight.
    fn choose(&mut self, client: &'static str, service: &Service, at: f64) -> (usize, bool) {
        let mut eligible = vec![];
        for replica in 0..service.replicas {
            let key = (client, format!("{}-{}", service.name, replica + 1));
            let Some(breaker) = self.breakers.get_mut(&key) else {
                eligible.push(replica);
                continue;
            };
            match breaker {
                Breaker::Open { last_probe, rate } | Breaker::HalfOpen { last_probe, rate, .. } => {
                    if at - *last_probe >= 1.0 / *rate {
                        *last_probe = at;
                        return (replica, true);
                    }
                }
                Breaker::Ramp { since } => {
                    let share = (at - *since) / 10.0;
                    if share >= 1.0 {
                        self.breakers.remove(&key);
                        eligible.push(replica);
                    } else if self.rng.f64() < share {
                        eligible.push(replica);
                    }
                }
            }
        }
        if eligible.is_empty() {
            eligible.push(0);
        }
        let load = |mesh: &mut Self| {
            let replica = eligible[mesh.rng.below(eligible.len())];
            let busy = mesh.in_flight.entry((service.name, replica)).or_default();
            busy.retain(|end| *end > at);
            (busy.len(), replica)
        };
        let (first, second) = (load(self), load(self));
        (first.min(second).1, false)
    }

    /// What a proxy's own breaker learns from a probe.
    fn learn(&mut self, client: &'static str, instance: &str, probe: bool, ok: bool, at: f64) {
        if probe
            && let Some(breaker) = self.breakers.get_mut(&(client, instance.to_owned()))
            && let Breaker::HalfOpen { last_probe, rate, good } = *breaker
        {
            let good = if ok { good + 1 } else { 0 };
            *breaker = if good >= 3 {
                Breaker::Ramp { since: at }
            } else {
                Breaker::HalfOpen { last_probe, rate, good }
            };
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of a call")]
    fn report(
        &mut self,
        client: &'static str,
        server: &str,
        endpoint: &str,
        class: Class,
        probe: bool,
        took: f64,
        end: f64,
    ) {
        let mut latency = Sketch::default();
        latency.record(took);
        for (reporter, by) in [(Reporter::Source, client), (Reporter::Destination, "destination")] {
            let unseen = class == Class::Refused || took == 0.0005;
            if reporter == Reporter::Destination && (unseen || client == "load") {
                continue;
            }
            let rng = &mut self.rng;
            let phase = *self
                .phases
                .entry(if by == client { client } else { "destination" })
                .or_insert_with(|| rng.f64());
            let second = (end + phase) as u64;
            let edge = EdgeKey {
                client: client.into(),
                server: server.into(),
                endpoint: endpoint.into(),
                protocol: "http".into(),
                reporter,
            };
            if second + 3 > self.second {
                let cells = self.cells.entry(second).or_default();
                cells.entry(edge.clone()).or_default().add(&SeriesKey { edge, class, probe }, 1, &latency);
            }
        }
    }

    /// Share of the clients' calls that succeeded in `[from, to)`.
    pub(super) fn success(&self, from: u64, to: u64) -> f64 {
        let (mut calls, mut errors) = (0, 0);
        for seen in &self.seen[from as usize..to as usize] {
            calls += seen.calls;
            errors += seen.errors;
        }
        1.0 - errors as f64 / calls.max(1) as f64
    }

    /// The clients' latency quantile in `[from, to)`, in seconds.
    pub(super) fn quantile(&self, q: f64, from: u64, to: u64) -> f64 {
        let mut all = Sketch::default();
        self.seen[from as usize..to as usize].iter().for_each(|seen| all.merge(&seen.latency));
        all.quantile(q).unwrap_or(0.0)
    }

    /// `second level kind client>service/endpoint state`, one line per change of a finding.
    pub(super) fn story(&self) -> Vec<String> {
        let line = |(at, event): &(u64, FindingEvent)| {
            let f = &event.finding;
            format!(
                "{at} {} {} {} {}>{}/{} {:?} {}",
                event.state.name(),
                f.level,
                f.kind.name(),
                f.client.as_deref().unwrap_or("*"),
                f.service,
                f.endpoint.as_deref().unwrap_or("*"),
                f.causal_path,
                f.message
            )
        };
        let hint = |(at, event): &(u64, HintEvent)| {
            format!(
                "{at} {} {} {} r{} {}",
                event.change.name(),
                event.hint.id,
                event.hint.action.name(),
                event.hint.revision,
                event.reason
            )
        };
        self.findings.iter().map(line).chain(self.hints.iter().map(hint)).collect()
    }
}

/// How long after `onset` a finding names exactly this target, if the first one does.
pub(super) fn found(mesh: &Mesh, service: &str, endpoint: Option<&str>, onset: u64) -> Option<Duration> {
    let (at, event) = mesh.findings.iter().find(|(_, e)| e.state.name() == "opened")?;
    let right = event.finding.service == service && event.finding.endpoint.as_deref() == endpoint;
    right.then(|| Duration::from_secs(at.saturating_sub(onset)))
}
