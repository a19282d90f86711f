//! Limits on the rate of requests that proxies share: which part of each a proxy may admit, and for how long.
//!
//! A proxy tells how many requests came for a limit lately, and gets its part in answer. The parts of all that told so
//! within a lease add up to the limit: everybody gets what it wants while that is no more than an even part of what is
//! left (max-min fairness), and what nobody wants is given away evenly, so that a proxy whose traffic grows is not held
//! back until it has said so. A part that others have grown into is taken back with the next answer: until then, for as
//! long as proxies wait between two reports, more than the limit may be out.
//!
//! A limit of a second needs other leases than one of an hour, of which a proxy asks now and then: a lease is as long as
//! the time of the limit, between [`limits::RATE_LEASE_LEAST`] and [`limits::RATE_LEASE_MOST`].
//!
//! Nothing here reads a clock or does I/O: `now` is an argument. An answer takes a few passes over the claims on its limit.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::limits;
use weir_model::mesh::{Demand, Grant};

use super::registry::StreamId;

/// Names a bucket: what [`Demand::key`] has.
type Key = [u8; 16];

/// Who wants how much of each limit.
#[derive(Debug, Default)]
pub(super) struct Rates {
    limits: HashMap<Key, Vec<Claim>>,
    /// Claims on all limits together, [`limits::RATE_CLAIMS`] at most.
    claims: usize,
}

/// What one proxy wants of a limit.
#[derive(Debug, Clone, Copy)]
struct Claim {
    proxy: StreamId,
    wanted_per_s: f64,
    lapses: Instant,
}

impl Rates {
    /// The part of `proxy`, which it may have until it asks again or the lease is over; nothing where the demand makes
    /// no sense or there is no room for it.
    pub(super) fn claim(&mut self, proxy: StreamId, demand: &Demand, now: Instant) -> Option<Grant> {
        let key = Key::try_from(demand.key.as_slice()).ok()?;
        let per = Duration::from_nanos(demand.per_ns);
        let limit_per_s = f64::from(demand.requests) / per.as_secs_f64();
        let wanted_per_s = demand.wanted_per_s;
        let makes_sense = |rate: f64| rate.is_finite() && rate > 0.0;
        if !makes_sense(limit_per_s) || !makes_sense(wanted_per_s) {
            return None;
        }
        let lease = per.clamp(limits::RATE_LEASE_LEAST, limits::RATE_LEASE_MOST);
        let claim = Claim { proxy, wanted_per_s, lapses: now + lease };
        let is_full = self.claims >= limits::RATE_CLAIMS;
        let before =
            self.limits.get_mut(&key).and_then(|claims| claims.iter_mut().find(|one| one.proxy == proxy));
        match before {
            Some(before) => *before = claim,
            None if is_full => return None,
            None => {
                self.limits.entry(key).or_default().push(claim);
                self.claims += 1;
            }
        }
        let live =
            self.limits.get(&key)?.iter().filter(|claim| claim.lapses > now).map(|claim| claim.wanted_per_s);
        Some(Grant {
            key: demand.key.clone(),
            per_s: part(wanted_per_s, limit_per_s, live),
            lease_ms: lease.as_millis() as u32,
        })
    }

    /// Forgets what has lapsed.
    pub(super) fn expire(&mut self, now: Instant) {
        self.limits.retain(|_, claims| {
            claims.retain(|claim| claim.lapses > now);
            !claims.is_empty()
        });
        self.claims = self.limits.values().map(Vec::len).sum();
    }

    /// Claims that are kept.
    pub(super) fn len(&self) -> usize {
        self.claims
    }
}

/// What of `limit` somebody gets who wants `own`, which is one of `all`.
fn part(own: f64, limit: f64, all: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = all.clone().count().max(1) as f64;
    let unwanted = limit - all.clone().sum::<f64>();
    if unwanted >= 0.0 {
        return own + unwanted / count;
    }
    // The level up to which everybody's wants are met: it rises as those below it leave what they do not want.
    let (mut level, mut met) = (limit / count, 0.0);
    loop {
        let (below, sum) = all
            .clone()
            .filter(|wanted| *wanted <= level)
            .fold((0.0, 0.0), |(count, sum), wanted| (count + 1.0, sum + wanted));
        // All of them are below by a rounding error alone: together they want more than there is.
        if below <= met || below >= count {
            return own.min(level);
        }
        (level, met) = ((limit - sum) / (count - below), below);
    }
}

#[cfg(test)]
mod tests;
