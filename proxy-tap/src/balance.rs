//! Which endpoint a request goes to.
//!
//! Least request draws two at random, in proportion to the share their breakers allow, and takes the one
//! with fewer requests in flight per share (Mitzenmacher, "The power of two choices", 2001). Round robin
//! takes each in turn and passes over one that allows only a share as often as it says.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use crate::chance::Chance;
use crate::config::Balancer;
use crate::upstream::{Endpoint, Upstream};

/// The endpoint of an attempt.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) endpoint: Arc<Endpoint>,
    /// The request tests an endpoint that gets none otherwise.
    pub(crate) probe: bool,
}

/// Chooses an endpoint for a request that failed at `tried` before. One that is to test the edge
/// (`edge_probe`) does not test an endpoint as well: its failure would say nothing about the others.
pub(crate) fn pick(
    upstream: &Upstream,
    tried: &[Arc<Endpoint>],
    edge_probe: bool,
    policy: Balancer,
    chance: &Chance,
) -> Option<Pick> {
    let all = upstream.endpoints();
    if tried.is_empty() && !edge_probe {
        let now = Instant::now();
        if let Some(due) = all.iter().find(|endpoint| endpoint.gate.take_probe(now)) {
            return Some(Pick { endpoint: Arc::clone(due), probe: true });
        }
    }
    let endpoint = match policy {
        Balancer::RoundRobin => in_turn(upstream, &all, tried, chance),
        Balancer::LeastRequest => less_loaded(&all, tried, chance),
    };
    // Nobody is allowed traffic, or all were tried: any endpoint is better than none.
    let endpoint = endpoint
        .or_else(|| less_loaded(&all, &[], chance))
        .or_else(|| all.iter().min_by_key(|e| e.in_flight.load(Ordering::Relaxed)))?;
    Some(Pick { endpoint: Arc::clone(endpoint), probe: false })
}

fn untried(endpoint: &Arc<Endpoint>, tried: &[Arc<Endpoint>]) -> bool {
    !tried.iter().any(|other| Arc::ptr_eq(other, endpoint))
}

fn share(endpoint: &Arc<Endpoint>, tried: &[Arc<Endpoint>]) -> f64 {
    if untried(endpoint, tried) { endpoint.gate.share() } else { 0.0 }
}

fn less_loaded<'a>(
    all: &'a [Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    chance: &Chance,
) -> Option<&'a Arc<Endpoint>> {
    let total: f64 = all.iter().map(|endpoint| share(endpoint, tried)).sum();
    if total <= 0.0 {
        return None;
    }
    let draw = || {
        let mut left = chance.f64() * total;
        let mut last = None;
        for endpoint in all {
            let share = share(endpoint, tried);
            if share > 0.0 {
                last = Some((endpoint, share));
                left -= share;
                if left < 0.0 {
                    break;
                }
            }
        }
        last
    };
    let load = |(endpoint, share): (&Arc<Endpoint>, f64)| {
        (f64::from(endpoint.in_flight.load(Ordering::Relaxed)) + 1.0) / share
    };
    let (one, other) = (draw()?, draw()?);
    Some(if load(other) < load(one) { other.0 } else { one.0 })
}

fn in_turn<'a>(
    upstream: &Upstream,
    all: &'a [Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    chance: &Chance,
) -> Option<&'a Arc<Endpoint>> {
    let mut passed_over = None;
    for _ in 0..all.len() {
        let turn = upstream.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint = &all[turn % all.len()];
        let share = share(endpoint, tried);
        if share > 0.0 && chance.happens(share) {
            return Some(endpoint);
        }
        if share > 0.0 {
            passed_over = Some(endpoint);
        }
    }
    passed_over
}

#[cfg(test)]
mod tests;
