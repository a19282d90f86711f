//! From the hints in force to an order per target, within what the guards leave room for.
//!
//! Every endpoint that is out or weakened lays claim to a part of the service's capacity, in this order: the
//! proxy's own ejections and those on their way back from one; hints that are obeyed already, by priority
//! and age; hints that are new; endpoints on their way back from a hint that is over. A claim that would
//! leave less than the healthy minimum, or exceed the share that may be out, is dropped: a new hint is
//! clamped, and what was out before is readmitted. So in a panic (the set of endpoints has shrunk) remote
//! ejections go first, a new hint never displaces one in force, and fresh evidence outweighs spent.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;
use weir_model::hint::{BreakerState, Guards, Verdict};

use super::ledger::{Held, Subject};
use super::order::{Order, Place};
use super::target::{Cause, Target};
use super::targets::Targets;

/// How many of a service's endpoints may be out.
#[derive(Debug)]
pub(super) struct Room {
    endpoints: usize,
    capacity: f64,
    out: usize,
}

impl Room {
    pub(super) fn new(endpoints: usize) -> Self {
        Self { endpoints, capacity: endpoints as f64, out: 0 }
    }

    /// Lowers one endpoint from share `from` to share `to`, if the guards allow it. A claim to more than it
    /// has already changes nothing.
    pub(super) fn claim(&mut self, from: f64, to: f64, guards: &Guards) -> bool {
        let fits = self.fits(from, to, guards);
        if fits {
            self.capacity -= (from - to).max(0.0);
            self.out += usize::from(to <= 0.0 && from > 0.0);
        }
        fits
    }

    /// Counts an endpoint that serves nobody although nothing was decided about it.
    pub(super) fn miss(&mut self) {
        self.capacity -= 1.0;
    }

    /// Counts an endpoint that has this share, whatever the guards say.
    pub(super) fn take(&mut self, share: f64) {
        self.capacity -= 1.0 - share;
        self.out += usize::from(share <= 0.0);
    }

    pub(super) fn fits(&self, from: f64, to: f64, guards: &Guards) -> bool {
        if to >= from {
            return true;
        }
        let n = self.endpoints;
        let least = (n * usize::from(guards.min_healthy_pct)).div_ceil(100).max(1);
        let most = match guards.max_ejected_pct {
            0 => 0,
            pct => (n * usize::from(pct) / 100).max(1),
        };
        let out = self.out + usize::from(to <= 0.0);
        self.capacity - (from - to) >= least as f64 - 1e-9 && (to > 0.0 || out <= most)
    }
}

/// What is done about a hint, for one subject.
#[derive(Debug)]
pub(super) struct Decision {
    /// Index of the hint.
    pub(super) held: usize,
    pub(super) subject: Subject,
    pub(super) verdict: Verdict,
    pub(super) would: Option<Verdict>,
    pub(super) reason: String,
}

/// What all targets are to do.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    pub(super) orders: HashMap<Arc<str>, Arc<Order>>,
    pub(super) edge: Option<Arc<Order>>,
    /// Endpoints that are readmitted because too few would be left.
    pub(super) readmitted: Vec<Arc<str>>,
    pub(super) made: Vec<Decision>,
}

struct Claim {
    rank: u8,
    age: (Reverse<u32>, u64),
    endpoint: Arc<str>,
    share: f64,
    guards: Guards,
    /// The hint behind it.
    order: Option<(usize, Arc<Order>)>,
}

const OWN: u8 = 0;
const OBEYED: u8 = 1;
const NEW: u8 = 2;
const ON_THE_WAY: u8 = 3;

/// Weighs all hints in force against what there is.
pub(super) fn decide(
    now: Instant,
    held: &[Held],
    endpoints: &Targets,
    edge: &Target,
    own: &Guards,
) -> Decisions {
    let mut out = Decisions::default();
    let mut claims = vec![];
    let mut shadows = vec![];
    for (index, held) in held.iter().enumerate().filter(|(_, held)| held.in_force()) {
        let order = match &held.order {
            Ok(order) => order,
            Err(reason) => {
                out.say(index, None, (Verdict::Shadowed, None), reason.clone());
                continue;
            }
        };
        if order.place == Place::Edge {
            decide_edge(&mut out, (index, held, order), edge, now);
            continue;
        }
        let concerned = concerned(order, endpoints);
        if concerned.is_empty() {
            out.say(index, None, (Verdict::Shadowed, None), "no such endpoint is known here".to_owned());
        }
        for (name, target) in concerned {
            let obeyed = is_obeyed(held, Some(name));
            let veto = if obeyed { None } else { veto(now, order, target) };
            match (order.shadow, veto) {
                (Some(why), veto) => shadows.push((index, Arc::clone(name), Arc::clone(order), why, veto)),
                (None, Some(reason)) => {
                    out.say(index, Some(Arc::clone(name)), (Verdict::Vetoed, None), reason);
                }
                (None, None) => claims.push(Claim {
                    rank: if obeyed { OBEYED } else { NEW },
                    age: (Reverse(order.priority), held.arrival),
                    endpoint: Arc::clone(name),
                    share: order.share,
                    guards: order.guards,
                    order: Some((index, Arc::clone(order))),
                }),
            }
        }
    }
    let standing = standing(now, endpoints, &claims, own);
    claims.extend(standing);
    let (room, shares) = grant(&mut out, claims, endpoints);
    for (index, name, order, why, veto) in shadows {
        let from = shares.get(&name).copied().unwrap_or(1.0);
        let (would, reason) = match veto {
            Some(reason) => (Verdict::Vetoed, format!("{why}; would be vetoed: {reason}")),
            None if room.fits(from, order.share, &order.guards) => {
                (Verdict::Applied, format!("{why}; would be {}", order.does))
            }
            None => (Verdict::Clamped, format!("{why}; would be clamped: {TOO_FEW}")),
        };
        out.say(index, Some(name), (Verdict::Shadowed, Some(would)), reason);
    }
    out
}

const TOO_FEW: &str = "too few healthy endpoints would be left";

impl Decisions {
    fn say(
        &mut self,
        held: usize,
        subject: Subject,
        (verdict, would): (Verdict, Option<Verdict>),
        reason: String,
    ) {
        self.made.push(Decision { held, subject, verdict, would, reason });
    }
}

/// What is out or weakened and stays so without any of these hints.
fn standing(now: Instant, endpoints: &Targets, hinted: &[Claim], own: &Guards) -> Vec<Claim> {
    let obeyed: HashSet<&Arc<str>> =
        hinted.iter().filter(|claim| claim.rank == OBEYED).map(|claim| &claim.endpoint).collect();
    let claim = |(name, target): (&Arc<str>, &Target)| {
        let (rank, share) = match target.cause()? {
            _ if target.outlier.is_ejected(now) => (OWN, 0.0),
            // At the share that the hint asks for. One that is still on its way there has less.
            _ if target.state() == BreakerState::Soft && obeyed.contains(name) => return None,
            Cause::Local => (OWN, target.share_on_the_way(now)),
            Cause::Hint => (ON_THE_WAY, target.share_on_the_way(now)),
        };
        // Those that were out first keep their place.
        let age = u64::try_from(now.saturating_duration_since(target.since).as_nanos()).unwrap_or(u64::MAX);
        let age = (Reverse(0), u64::MAX - age);
        let guards = if rank == OWN { *own } else { Guards::default() };
        Some(Claim { rank, age, endpoint: Arc::clone(name), share, guards, order: None })
    };
    endpoints.awake().filter_map(claim).collect()
}

/// Grants the claims for which there is room.
fn grant(out: &mut Decisions, mut claims: Vec<Claim>, endpoints: &Targets) -> (Room, HashMap<Arc<str>, f64>) {
    claims.sort_by(|a, b| (a.rank, a.age, &a.endpoint).cmp(&(b.rank, b.age, &b.endpoint)));
    let mut highest: HashMap<Arc<str>, u32> = HashMap::new();
    for claim in &claims {
        if let Some((_, order)) = &claim.order {
            let priority = highest.entry(Arc::clone(&claim.endpoint)).or_default();
            *priority = order.priority.max(*priority);
        }
    }
    let mut room = Room::new(endpoints.len());
    let mut shares: HashMap<Arc<str>, f64> = HashMap::new();
    for (name, _) in endpoints.awake().filter(|(_, target)| target.is_unhealthy) {
        // Whatever is claimed of it costs the service nothing more.
        room.miss();
        shares.insert(Arc::clone(name), 0.0);
    }
    for claim in claims {
        let overruled = claim.order.as_ref().is_some_and(|(_, order)| {
            highest.get(&claim.endpoint).is_some_and(|highest| order.priority < *highest)
        });
        let from = shares.get(&claim.endpoint).copied().unwrap_or(1.0);
        let fits = !overruled && room.claim(from, claim.share, &claim.guards);
        if fits {
            shares.insert(Arc::clone(&claim.endpoint), from.min(claim.share));
        }
        match (claim.order, fits) {
            (None, true) => {}
            (None, false) => out.readmitted.push(claim.endpoint),
            (Some((index, order)), true) => {
                let does = order.does.clone();
                let strictest = out.orders.get(&claim.endpoint).is_none_or(|held| order.share < held.share);
                if strictest {
                    out.orders.insert(Arc::clone(&claim.endpoint), order);
                }
                out.say(index, Some(claim.endpoint), (Verdict::Applied, None), does);
            }
            (Some((index, _)), false) => {
                let reason = if overruled { "a hint of higher priority holds" } else { TOO_FEW };
                out.say(index, Some(claim.endpoint), (Verdict::Clamped, None), reason.to_owned());
            }
        }
    }
    (room, shares)
}

fn decide_edge(
    out: &mut Decisions,
    (index, held, order): (usize, &Held, &Arc<Order>),
    edge: &Target,
    now: Instant,
) {
    let veto = if is_obeyed(held, None) { None } else { veto(now, order, edge) };
    let (verdict, reason) = match (order.shadow, veto) {
        (Some(why), Some(reason)) => {
            let reason = format!("{why}; would be vetoed: {reason}");
            return out.say(index, None, (Verdict::Shadowed, Some(Verdict::Vetoed)), reason);
        }
        (Some(why), None) => {
            let reason = format!("{why}; would be {}", order.does);
            return out.say(index, None, (Verdict::Shadowed, Some(Verdict::Applied)), reason);
        }
        (None, Some(reason)) => (Verdict::Vetoed, reason),
        (None, None) => {
            let weaker = |other: &Arc<Order>| (other.priority, -other.share) < (order.priority, -order.share);
            if out.edge.as_ref().is_none_or(weaker) {
                out.edge = Some(Arc::clone(order));
            }
            (Verdict::Applied, order.does.clone())
        }
    };
    out.say(index, None, (verdict, None), reason);
}

fn is_obeyed(held: &Held, subject: Option<&Arc<str>>) -> bool {
    held.said
        .get(&subject.cloned())
        .is_some_and(|said| said.would.unwrap_or(said.verdict) == Verdict::Applied)
}

fn concerned<'a>(order: &Order, endpoints: &'a Targets) -> Vec<(&'a Arc<str>, &'a Target)> {
    match &order.place {
        Place::Edge => vec![],
        Place::Endpoint(name) => endpoints.entry(name).into_iter().collect(),
        Place::Zone(zone) => endpoints.iter().filter(|(_, target)| target.zone == *zone).collect(),
    }
}

/// Why the proxy's own fresh numbers contradict the hint, if they do and could.
fn veto(now: Instant, order: &Order, target: &Target) -> Option<String> {
    if !order.about_errors || order.share >= 1.0 {
        return None;
    }
    let sums = target.recent.sums(now);
    let rate = sums.success_rate()?;
    let guards = &order.guards;
    let contradicts =
        sums.calls >= u64::from(guards.min_local_samples) && rate >= guards.local_veto_success_rate;
    contradicts.then(|| format!("{} own calls in 10 s, {:.2} % of them well", sums.calls, rate * 100.0))
}
