//! Endpoints that are alike to the caller, same level and same place, and the choice among them.
//!
//! A draw takes one by weight in constant time and accepts it with the probability that its breaker and its
//! age allow. A few draws nearly always suffice; where they do not, one look at each endpoint decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::time::Instant;
use weir_model::policy::destination::{Balancer, Warmup};

use super::alias::Alias;
use super::levels::Count;
use super::rules::warmth;
use super::turn::Turn;
use super::wheel::Wheel;
use crate::chance::{Chance, fraction, mix};
use crate::upstream::Endpoint;

/// Draws before all endpoints are looked at.
const DRAWS: usize = 16;

/// Places of a wheel that are looked at before all endpoints are.
const PLACES: usize = 128;

/// Whom a request may go to.
pub(super) struct Terms<'a> {
    /// Where it failed before.
    pub(super) tried: &'a [Arc<Endpoint>],
    /// Whether health and breakers are not asked.
    pub(super) all: bool,
    /// How those who are new are spared; `None` where there are none.
    pub(super) warmup: Option<&'a Warmup>,
    pub(super) now: Instant,
}

impl Terms<'_> {
    /// The share of its traffic that an endpoint may get, from 0 to 1.
    fn share(&self, endpoint: &Endpoint, all: bool) -> f64 {
        if self.tried.iter().any(|tried| std::ptr::eq(&**tried, endpoint)) {
            return 0.0;
        }
        let open = match all {
            true => 1.0,
            false if !endpoint.healthy.load(Ordering::Relaxed) => 0.0,
            false => endpoint.gate.share(),
        };
        match self.warmup {
            Some(warmup) if open > 0.0 => open * warmth(warmup, endpoint.age(self.now)),
            _ => open,
        }
    }
}

#[derive(Debug)]
struct Member {
    endpoint: Arc<Endpoint>,
    weight: u32,
    /// The weight, where 1 is the mean of the group.
    relative: f64,
    /// Of its name.
    hash: u64,
}

#[derive(Debug)]
enum Way {
    InTurn(Turn),
    Random,
    LeastRequest,
    PeakEwma,
    ByHash(Wheel),
}

/// A member that may be taken, and the share it may get.
type Found = Option<(usize, f64)>;

/// Endpoints of one level and place.
#[derive(Debug)]
pub(super) struct Group {
    /// The level's index; 0 is used first.
    pub(super) level: usize,
    /// The weight of the place in its level.
    pub(super) place_weight: u32,
    /// The share of the traffic that goes to the groups up to this one, in parts of 2^32.
    pub(super) up_to: AtomicU32,
    /// Too few are healthy: all are used.
    pub(super) panic: AtomicBool,
    /// Bits of the highest share that a member has, so that draws are not in vain when all have little.
    highest: AtomicU32,
    members: Vec<Member>,
    alias: Alias,
    way: Way,
}

impl Group {
    /// `endpoints` come with weights above 0.
    pub(super) fn new(
        level: usize,
        place_weight: u32,
        mut endpoints: Vec<(Arc<Endpoint>, u32)>,
        balancer: &Balancer,
    ) -> Self {
        // All callers build the same tables, in whichever order they were told.
        endpoints.sort_unstable_by(|a, b| a.0.party.instance.cmp(&b.0.party.instance));
        let weights: Vec<u32> = endpoints.iter().map(|(_, weight)| *weight).collect();
        let mean = weights.iter().map(|w| f64::from(*w)).sum::<f64>() / weights.len() as f64;
        let member = |(endpoint, weight): (Arc<Endpoint>, u32)| {
            let hash = xxhash_rust::xxh3::xxh3_64(endpoint.party.instance.as_bytes());
            Member { endpoint, weight, relative: f64::from(weight) / mean, hash }
        };
        let members: Vec<Member> = endpoints.into_iter().map(member).collect();
        let hashes = || members.iter().map(|member| (member.hash, member.weight)).collect::<Vec<_>>();
        let way = match balancer {
            Balancer::RoundRobin => Way::InTurn(Turn::new(&weights)),
            Balancer::Random => Way::Random,
            Balancer::LeastRequest => Way::LeastRequest,
            Balancer::PeakEwma => Way::PeakEwma,
            Balancer::RingHash { points, .. } => Way::ByHash(Wheel::ring(*points, &hashes())),
            Balancer::Maglev { entries, .. } => Way::ByHash(Wheel::maglev(*entries, &hashes())),
        };
        Self {
            level,
            place_weight,
            up_to: AtomicU32::new(u32::MAX),
            panic: AtomicBool::new(false),
            highest: AtomicU32::new(1.0_f32.to_bits()),
            alias: Alias::new(&weights),
            members,
            way,
        }
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.members.iter().map(|member| &member.endpoint)
    }

    pub(super) fn has_one_of(&self, tried: &[Arc<Endpoint>]) -> bool {
        self.endpoints().any(|endpoint| tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint)))
    }

    /// Counts who is healthy.
    pub(super) fn look(&self, terms: &Terms<'_>) -> Count {
        let all = self.all(terms);
        let mut count = Count { healthy: 0, total: self.members.len() as u32 };
        let mut highest = 0.0_f64;
        for endpoint in self.endpoints() {
            let is_healthy = endpoint.healthy.load(Ordering::Relaxed) && endpoint.gate.share() > 0.0;
            count.healthy += u32::from(is_healthy);
            highest = highest.max(terms.share(endpoint, all));
        }
        let highest = if highest > 0.0 { highest as f32 } else { 1.0 };
        self.highest.store(highest.to_bits(), Ordering::Relaxed);
        count
    }

    /// One of them, if one may be taken.
    pub(super) fn choose(
        &self,
        terms: &Terms<'_>,
        key: Option<u64>,
        chance: &Chance,
    ) -> Option<&Arc<Endpoint>> {
        let found = match (&self.way, key) {
            (Way::ByHash(wheel), Some(key)) => self.by_hash(wheel, key, terms),
            (Way::ByHash(_) | Way::Random, _) => {
                self.draw(terms, chance, None).or_else(|| self.scan(terms, chance))
            }
            (Way::InTurn(turn), _) => self.in_turn(turn, terms, chance),
            (Way::LeastRequest, _) => self.cheaper(terms, chance, |endpoint, weight| {
                let under_way = f64::from(endpoint.in_flight.load(Ordering::Relaxed));
                (under_way + endpoint.load.failures(terms.now)) / weight
            }),
            (Way::PeakEwma, _) => self.cheaper(terms, chance, |endpoint, weight| {
                let under_way = f64::from(endpoint.in_flight.load(Ordering::Relaxed));
                endpoint.load.latency_s(terms.now) * (under_way / weight + 1.0)
            }),
        };
        found.map(|(i, _)| &self.members[i].endpoint)
    }

    fn all(&self, terms: &Terms<'_>) -> bool {
        terms.all || self.panic.load(Ordering::Relaxed)
    }

    fn share(&self, i: usize, terms: &Terms<'_>) -> f64 {
        terms.share(&self.members[i].endpoint, self.all(terms))
    }

    /// With which probability a draw of a member with this share is accepted.
    fn acceptance(&self, share: f64) -> f64 {
        share / f64::from(f32::from_bits(self.highest.load(Ordering::Relaxed)))
    }

    /// The cheaper of two that are drawn (Mitzenmacher, "The power of two choices", 2001). Draws follow the
    /// weights, so at equal cost the first stands: idle endpoints get what their weights say.
    fn cheaper(&self, terms: &Terms<'_>, chance: &Chance, cost: impl Fn(&Endpoint, f64) -> f64) -> Found {
        let one = self.draw(terms, chance, None).or_else(|| self.scan(terms, chance))?;
        let Some(other) = self.draw(terms, chance, Some(one.0)) else { return Some(one) };
        let cost = |(i, share): (usize, f64)| {
            cost(&self.members[i].endpoint, self.members[i].relative * self.acceptance(share))
        };
        Some(if cost(other) < cost(one) { other } else { one })
    }

    fn in_turn(&self, turn: &Turn, terms: &Terms<'_>, chance: &Chance) -> Found {
        for _ in 0..DRAWS {
            let i = turn.next(chance);
            let share = self.share(i, terms);
            if share > 0.0 && chance.happens(self.acceptance(share)) {
                return Some((i, share));
            }
        }
        self.scan(terms, chance)
    }

    fn draw(&self, terms: &Terms<'_>, chance: &Chance, except: Option<usize>) -> Found {
        if except.is_some() && self.members.len() < 2 {
            return None;
        }
        for _ in 0..DRAWS {
            let i = self.alias.draw(chance.u64());
            if except == Some(i) {
                continue;
            }
            let share = self.share(i, terms);
            if share > 0.0 && chance.happens(self.acceptance(share)) {
                return Some((i, share));
            }
        }
        None
    }

    /// The first owner on the wheel that takes this key. One that is allowed a share takes that share of
    /// the keys, always the same ones, so that keys move bit by bit while it grows.
    fn by_hash(&self, wheel: &Wheel, key: u64, terms: &Terms<'_>) -> Found {
        let mut last = usize::MAX;
        for i in wheel.from(key).take(PLACES) {
            if i == last {
                continue;
            }
            last = i;
            let share = self.share(i, terms);
            if share > 0.0 && fraction(mix(key ^ self.members[i].hash)) < self.acceptance(share) {
                return Some((i, share));
            }
        }
        // Hardly anybody is left. All callers still agree: the highest random weight wins (Thaler and
        // Ravishankar, 1998; weights by Schindelhauer and Schomaker, 2005).
        let score = |(i, share): &(usize, f64)| {
            let drawn = fraction(mix(key ^ self.members[*i].hash)).max(f64::MIN_POSITIVE);
            f64::from(self.members[*i].weight) * share / -drawn.ln()
        };
        self.allowed(terms).max_by(|a, b| score(a).total_cmp(&score(b)))
    }

    /// A draw that looks at everybody.
    fn scan(&self, terms: &Terms<'_>, chance: &Chance) -> Found {
        let part = |(i, share): (usize, f64)| f64::from(self.members[i].weight) * share;
        let mut left = chance.f64() * self.allowed(terms).map(part).sum::<f64>();
        let mut last = None;
        for found in self.allowed(terms) {
            last = Some(found);
            left -= part(found);
            if left < 0.0 {
                break;
            }
        }
        last
    }

    fn allowed(&self, terms: &Terms<'_>) -> impl Iterator<Item = (usize, f64)> {
        (0..self.members.len()).map(|i| (i, self.share(i, terms))).filter(|(_, share)| *share > 0.0)
    }
}
