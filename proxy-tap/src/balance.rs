//! Which endpoint a request goes to.
//!
//! A [`Set`] is made once per change of endpoints or policy, for a service and for each of its subsets, and
//! never changes but for a few atomics. A pick takes no lock, allocates nothing, and takes the same time for
//! ten endpoints and ten thousand:
//!
//! 1. a probe that is due ([`probes`]: a real request to an endpoint that gets none otherwise);
//! 2. a [`group`] of endpoints, by the load of its priority level ([`levels`]: Envoy's spill-over and
//!    panic) and the weight of its place ([`rules`]: zone before region before the rest, or a distribution);
//! 3. an endpoint of the group: in [`turn`], at random by weight ([`alias`]), the cheaper of two draws by
//!    what is under way or by expected latency ([`load`]), or by a hash ([`wheel`], [`key`]).
//!
//! Whoever is ejected, unhealthy or tried already is passed over; whoever is new gets less. How many are
//! healthy is counted every 100 ms, not per request.

mod alias;
mod group;
mod key;
mod levels;
mod load;
mod probes;
mod rules;
mod turn;
mod wheel;

pub(crate) mod bench;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_model::limits;
use weir_model::policy::destination::Balancer;

pub(crate) use key::Keyed;
pub(crate) use load::{End, Load};
pub(crate) use rules::Rules;

use group::{Group, Terms};
use levels::Count;
use probes::Probes;

use crate::breaker::Schedule;
use crate::chance::{Chance, mix};
use crate::upstream::Endpoint;
use crate::worker;

/// After how long a request counts who is healthy, where the tick of the breakers has not …
const STALE: Duration = Duration::from_millis(150);
/// … which does it every so often for each endpoint there is: counting takes less than a hundredth of that.
const FRESH: Duration = Duration::from_micros(50);

/// The endpoint of an attempt.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) endpoint: Arc<Endpoint>,
    /// The request tests an endpoint that gets none otherwise.
    pub(crate) probe: bool,
}

/// What an attempt asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    /// Where the request failed before.
    pub(crate) tried: &'a [Arc<Endpoint>],
    /// What a consistent hash goes by; at random without it.
    pub(crate) key: Option<u64>,
    /// It is sent to nobody as a test: it tests the edge, so that its failure would say nothing of an endpoint, or
    /// nobody looks at how it fares.
    pub(crate) tests_no_endpoint: bool,
    /// Whether it should go to another level and place than those it failed at.
    pub(crate) other_localities: bool,
}

/// The sets of a service: all its endpoints, and its subsets.
#[derive(Debug)]
pub(crate) struct Sets {
    all: Set,
    subsets: Vec<(String, Set)>,
}

impl Sets {
    pub(crate) fn new(
        all: &[Arc<Endpoint>],
        rules: &Arc<Rules>,
        schedule: &Arc<Schedule>,
        now: Instant,
    ) -> Self {
        let subsets = rules.subsets.iter().map(|subset| {
            let own: Vec<_> = all.iter().filter(|e| e.told.load().has(&subset.labels)).cloned().collect();
            let balancer = subset.balancer.as_ref().unwrap_or(&rules.balancer);
            (subset.name.clone(), Set::new(&own, balancer, rules, schedule, now))
        });
        Self { subsets: subsets.collect(), all: Set::new(all, &rules.balancer, rules, schedule, now) }
    }

    /// The subset of this name, or all where the name is empty; `None` where there is no such subset.
    pub(crate) fn of(&self, subset: &str) -> Option<&Set> {
        match subset {
            "" => Some(&self.all),
            name => self.subsets.iter().find(|(own, _)| own == name).map(|(_, set)| set),
        }
    }

    /// Counts who is healthy, where that was done long ago.
    pub(crate) fn tick(&self, now: Instant) {
        self.all.tick(now);
        self.subsets.iter().for_each(|(_, set)| set.tick(now));
    }

    /// Counts who is healthy.
    pub(crate) fn refresh(&self, now: Instant) {
        self.all.refresh(now);
        self.subsets.iter().for_each(|(_, set)| set.refresh(now));
    }
}

/// Endpoints and all that is needed to choose one.
#[derive(Debug)]
pub(crate) struct Set {
    rules: Arc<Rules>,
    keyed: Option<Keyed>,
    /// By level.
    groups: Vec<Group>,
    probes: Probes,
    epoch: Instant,
    /// Nanoseconds for which a count is good.
    fresh_ns: u64,
    /// Nanoseconds from the epoch to when who is healthy was counted …
    counted: AtomicU64,
    /// … and to when the last one that is new is so no more.
    warm_until: AtomicU64,
}

impl Set {
    pub(crate) fn new(
        endpoints: &[Arc<Endpoint>],
        balancer: &Balancer,
        rules: &Arc<Rules>,
        schedule: &Arc<Schedule>,
        now: Instant,
    ) -> Self {
        let distribution = rules.distribution();
        let mut by_standing = BTreeMap::new();
        for endpoint in worker::giving_way(endpoints) {
            let told = endpoint.told.load();
            if let Some((standing, place_weight)) = rules.standing(distribution, &told) {
                let group = by_standing.entry(standing).or_insert_with(|| (place_weight, Vec::new()));
                group.1.push((Arc::clone(endpoint), told.weight));
            }
        }
        let mut sorted: Vec<_> = by_standing.into_iter().collect();
        let beyond = sorted.split_off(sorted.len().min(limits::BALANCER_GROUPS));
        if let Some((_, (_, last))) = sorted.last_mut() {
            last.extend(beyond.into_iter().flat_map(|(_, (_, more))| more));
        }
        let mut groups: Vec<Group> = Vec::with_capacity(sorted.len());
        let mut before = None;
        for (standing, (place_weight, members)) in sorted {
            let next =
                groups.last().map_or(0, |group| group.level + usize::from(before != Some(standing.level)));
            groups.push(Group::new(next, place_weight, members, balancer));
            before = Some(standing.level);
        }
        let keyed = match balancer {
            Balancer::RingHash { key, .. } | Balancer::Maglev { key, .. } => Some(Keyed::new(key)),
            _ => None,
        };
        let set = Self {
            rules: Arc::clone(rules),
            keyed,
            groups,
            probes: Probes::new(Arc::clone(schedule), now),
            epoch: now,
            fresh_ns: FRESH.as_nanos() as u64 * endpoints.len() as u64,
            counted: AtomicU64::new(0),
            warm_until: AtomicU64::new(0),
        };
        set.refresh(now);
        set
    }

    /// What a request is hashed by; `None` where it is not.
    pub(crate) fn keyed(&self) -> Option<&Keyed> {
        self.keyed.as_ref()
    }

    /// Chooses an endpoint. Somebody is better than nobody: if all who may be taken were tried, one of them
    /// is tried again, and if nobody may be taken, anybody is, unless the policy forbids it (a panic
    /// threshold of 0). `None` where nobody is left.
    pub(crate) fn pick(&self, ask: &Ask<'_>, chance: &Chance, now: Instant) -> Option<Pick> {
        let (at, counted) = (self.ns(now), self.counted.load(Ordering::Relaxed));
        if at.saturating_sub(counted) > (STALE.as_nanos() as u64).max(2 * self.fresh_ns)
            && self.counted.compare_exchange(counted, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.refresh(now);
        }
        if ask.tried.is_empty() && !ask.tests_no_endpoint {
            let all =
                || Box::new(self.groups.iter().flat_map(Group::endpoints)) as Box<dyn Iterator<Item = _>>;
            if let Some(endpoint) = self.probes.take(all, now) {
                return Some(Pick { endpoint, probe: true });
            }
        }
        let first = self.group(ask, chance)?;
        let choose = |tried, all| {
            let terms = self.terms(tried, all, now);
            let others = (0..self.groups.len()).filter(|i| *i != first);
            std::iter::once(first).chain(others).find_map(|i| self.groups[i].choose(&terms, ask.key, chance))
        };
        let again = |all| if ask.tried.is_empty() { None } else { choose(&[], all) };
        let allowed = choose(ask.tried, false).or_else(|| again(false));
        let endpoint = match allowed {
            None if self.rules.panic_below() > 0.0 => choose(ask.tried, true).or_else(|| again(true)),
            found => found,
        };
        Some(Pick { endpoint: Arc::clone(endpoint?), probe: false })
    }

    /// Counts again if that was long ago.
    fn tick(&self, now: Instant) {
        if self.ns(now).saturating_sub(self.counted.load(Ordering::Relaxed)) >= self.fresh_ns {
            self.refresh(now);
        }
    }

    /// Counts who is healthy and shares the traffic out among the groups.
    pub(crate) fn refresh(&self, now: Instant) {
        self.counted.store(self.ns(now), Ordering::Relaxed);
        if let Some(warmup) = &self.rules.warmup {
            let youngest = self.groups.iter().flat_map(Group::endpoints).map(|e| e.age(now)).min();
            let left = warmup.duration.0.saturating_sub(youngest.unwrap_or(Duration::MAX));
            self.warm_until.store(self.ns(now + left), Ordering::Relaxed);
        }
        let terms = self.terms(&[], false, now);
        let mut counts = [Count::default(); limits::BALANCER_GROUPS];
        let mut levels = [Count::default(); limits::BALANCER_GROUPS];
        for (group, count) in self.groups.iter().zip(&mut counts) {
            *count = group.look(&terms);
            levels[group.level].add(*count);
        }
        let factor = self.rules.locality.overprovisioning;
        let mut loads = [levels::Load::default(); limits::BALANCER_GROUPS];
        let used = self.groups.last().map_or(0, |group| group.level + 1);
        levels::loads(&levels[..used], factor, self.rules.panic_below(), &mut loads);
        // What a place gets of its level: its weight, less where it cannot take it.
        let mut parts = [0.0; limits::BALANCER_GROUPS];
        let mut sums = [0.0; limits::BALANCER_GROUPS];
        for (i, group) in self.groups.iter().enumerate() {
            let able = if loads[group.level].panic { 1.0 } else { counts[i].availability(factor) };
            parts[i] = f64::from(group.place_weight) * able;
            sums[group.level] += parts[i];
        }
        let mut up_to = 0.0;
        for (i, group) in self.groups.iter().enumerate() {
            let load = loads[group.level];
            up_to += load.share * parts[i] / f64::max(sums[group.level], f64::MIN_POSITIVE);
            // From a hair's breadth below 1 on it is all: nothing may be lost to rounding.
            let bound = if up_to > 1.0 - 1e-9 { u32::MAX } else { (up_to * 4_294_967_296.0) as u32 };
            group.up_to.store(bound, Ordering::Relaxed);
            group.panic.store(load.panic, Ordering::Relaxed);
        }
    }

    fn terms<'a>(&'a self, tried: &'a [Arc<Endpoint>], all: bool, now: Instant) -> Terms<'a> {
        let warming = self.ns(now) < self.warm_until.load(Ordering::Relaxed);
        Terms { tried, all, warmup: self.rules.warmup.as_ref().filter(|_| warming), now }
    }

    /// The group that is asked first. A consistent hash decides on it too.
    fn group(&self, ask: &Ask<'_>, chance: &Chance) -> Option<usize> {
        if self.groups.len() < 2 {
            return (!self.groups.is_empty()).then_some(0);
        }
        let avoids = ask.other_localities && !ask.tried.is_empty();
        let mut avoided = [false; limits::BALANCER_GROUPS];
        for (avoided, group) in avoided.iter_mut().zip(&self.groups).filter(|_| avoids) {
            *avoided = group.has_one_of(ask.tried);
        }
        let share = |i: usize| {
            let up_to = |i: usize| u64::from(self.groups[i].up_to.load(Ordering::Relaxed));
            // While somebody shares out anew, bounds of before and after may stand side by side.
            up_to(i).saturating_sub(if i == 0 { 0 } else { up_to(i - 1) })
        };
        let left = || (0..self.groups.len()).filter(|i| !avoided[*i]);
        let total: u64 = left().map(share).sum();
        let random = ask.key.map_or_else(|| chance.u64(), |key| mix(key ^ 0x9e37_79b9)) >> 32;
        let mut at = (random * total) >> 32;
        let drawn = left().find(|i| {
            let share = share(*i);
            let is_it = at < share;
            at = at.saturating_sub(share);
            is_it
        });
        drawn.or_else(|| left().next()).or(Some(0))
    }

    fn ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
