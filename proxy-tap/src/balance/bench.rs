//! Balancing as a benchmark outside of this crate may drive it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::policy;

use super::{Ask, Rules, Sets};
use crate::breaker::{Change, Schedule};
use crate::chance::{Chance, mix};
use crate::upstream::{Endpoint, Upstream};

/// A service with endpoints that nobody connects to.
#[derive(Debug)]
pub struct BalanceBench {
    upstream: Arc<Upstream>,
    rules: Arc<Rules>,
    schedule: Arc<Schedule>,
    chance: Chance,
}

impl BalanceBench {
    /// A service of so many endpoints of weights 1, 2 and 3 in three zones, the caller's preferred.
    pub fn new(balancer: policy::Balancer, endpoints: usize) -> Self {
        let upstream = Upstream::alone("payments", (0..endpoints).map(endpoint).collect());
        let mut rules = Rules { balancer, zone: "z0".to_owned(), ..Rules::default() };
        rules.locality.prefer = true;
        upstream.balance_by(rules.clone());
        let chance = Chance::new(1, "bench");
        Self { upstream, rules: Arc::new(rules), schedule: Arc::default(), chance }
    }

    /// Chooses an endpoint for the `n`-th request; whether there is one.
    pub fn pick(&self, n: u64, now: Instant) -> bool {
        let ask = Ask { key: Some(mix(n)), ..Ask::default() };
        self.upstream.pick("", &ask, &self.chance, now).is_some()
    }

    /// Makes so many per cent of the endpoints healthy and all others unhealthy.
    pub fn leave(&self, percent: usize) {
        for (i, endpoint) in self.upstream.endpoints().iter().enumerate() {
            // 37 has no divisor in common with 100 and with the zones.
            endpoint.healthy.store(i * 37 % 100 < percent, Ordering::Relaxed);
        }
        self.refresh();
    }

    /// One endpoint goes and another comes, the `n`-th time; how long that takes.
    pub fn change(&self, n: usize) -> Duration {
        let endpoints = self.upstream.endpoints().len();
        let told = (n..n + endpoints).map(endpoint).collect();
        let begun = Instant::now();
        self.upstream.set(told);
        begun.elapsed()
    }

    /// The part of a change for which the results of requests wait: half of the breakers are replaced.
    pub fn tell_breakers(&self) -> Duration {
        let all = self.upstream.endpoints();
        let half = || all.iter().step_by(2);
        let known =
            |e: &Arc<Endpoint>| (Arc::clone(&e.party.instance), e.zone.as_str().into(), Arc::clone(&e.gate));
        let gone = half().map(|e| Arc::clone(&e.party.instance)).collect();
        let mut change = Change::new(Instant::now(), gone, half().map(known));
        let begun = Instant::now();
        self.upstream.breakers().change_endpoints(Instant::now(), &mut change);
        begun.elapsed()
    }

    /// Makes the tables, without putting them to use.
    pub fn make(&self) {
        let endpoints = self.upstream.endpoints();
        std::hint::black_box(Sets::new(&endpoints, &self.rules, &self.schedule, Instant::now()));
    }

    /// Counts who is healthy.
    pub fn refresh(&self) {
        self.upstream.sets().refresh(Instant::now());
    }
}

fn endpoint(i: usize) -> policy::Endpoint {
    policy::Endpoint {
        instance: format!("payments-{i:05}"),
        address: format!("10.0.{}.{}:8080", i / 250, i % 250),
        zone: format!("z{}", i % 3),
        weight: 1 + (i % 3) as u32,
        ..policy::Endpoint::default()
    }
}
