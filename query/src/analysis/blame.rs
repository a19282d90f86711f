//! Who is to blame: what a service suffers from its callees is subtracted before it is judged.
//!
//! A callee's trouble is counted where the service itself meets it, on its own outgoing calls: failed and
//! refused ones, and slow ones beyond the usual share. Divided by the calls that came in, that is the share
//! of them which the service can pass on without a fault of its own. One level is enough: the caller of a
//! victim is itself explained by the victim's trouble, up to the edge of the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::config::WINDOWS;
use super::incident::Place;
use super::state::State;
use super::window::Sums;

/// By how many seconds the callees' windows reach back further: a call ends later at its caller, and two
/// proxies cut their seconds at different moments.
const SKEW_SECONDS: usize = 2;
/// How much of a fault in the callees counts against a finding on a whole service or edge: callers of a slow
/// service queue up, so that more than their share of the calls suffers.
pub(crate) const WIDE_EXPLAINED: f64 = 2.0;
/// Longest causal path.
const PATH_LENGTH: usize = 16;

/// What a service suffers from the services it calls.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Trouble {
    /// Share of the incoming calls that it explains, per window.
    pub(crate) share: [f64; WINDOWS.len()],
    /// Per window, whether callees were slow to an extent that nobody can judge yet.
    pub(crate) unknown: [bool; WINDOWS.len()],
    /// Whether the service calls others at all.
    pub(crate) has_callees: bool,
    /// Whether it is worth keeping out of the history.
    pub(crate) grave: bool,
}

/// The trouble of every service that calls others.
pub(crate) fn troubles(state: &State) -> BTreeMap<Arc<str>, Trouble> {
    let mut excess: BTreeMap<&Arc<str>, ([f64; WINDOWS.len()], [Sums; WINDOWS.len()])> = BTreeMap::new();
    for pair in state.services.values().flat_map(|service| service.pairs.values()) {
        let mut sums = [Sums::default(); WINDOWS.len()];
        pair.add_longer(SKEW_SECONDS, &mut sums);
        let (shares, totals) = excess.entry(&pair.client).or_default();
        for ((share, total), sums) in shares.iter_mut().zip(totals).zip(&sums) {
            *share += sums.excess();
            total.add(sums);
        }
    }
    let trouble = |name: &Arc<str>, excess: [f64; WINDOWS.len()], out: [Sums; WINDOWS.len()]| {
        let mut incoming = [Sums::default(); WINDOWS.len()];
        if let Some(service) = state.services.get(name) {
            service.pairs.values().for_each(|pair| pair.add_windows(&mut incoming));
        }
        let mut trouble = Trouble { has_callees: true, ..Trouble::default() };
        for at in 0..WINDOWS.len() {
            let calls = incoming[at].calls.max(1) as f64;
            trouble.share[at] = excess[at] / calls;
            let answered = out[at].calls.saturating_sub(out[at].errors);
            trouble.unknown[at] = out[at].timed * 2 < answered;
            trouble.grave |= excess[at] >= 3.0 && trouble.share[at] >= 0.05;
        }
        trouble
    };
    excess.into_iter().map(|(name, (excess, out))| (Arc::clone(name), trouble(name, excess, out))).collect()
}

/// The services from the symptom to the cause: the callers of `service` upwards, each time the one with
/// most bad calls and then most calls, turned round.
pub(crate) fn causal_path(state: &State, service: &Arc<str>, client: Option<&Arc<str>>) -> Vec<String> {
    let mut path = vec![Arc::clone(service)];
    let mut next = client.cloned();
    while path.len() < PATH_LENGTH {
        let at = path.last().unwrap_or(service);
        let Some(caller) = next.take().or_else(|| worst_caller(state, at)) else { break };
        if caller.is_empty() || path.contains(&caller) {
            break;
        }
        path.push(caller);
    }
    path.iter().rev().map(ToString::to_string).collect()
}

fn worst_caller(state: &State, service: &Arc<str>) -> Option<Arc<str>> {
    let mut callers: BTreeMap<&Arc<str>, (u64, u64)> = BTreeMap::new();
    for pair in state.services.get(service)?.pairs.values() {
        let sums = pair.sums(10);
        let (bad, calls) = callers.entry(&pair.client).or_default();
        *bad = bad.saturating_add(sums.errors).saturating_add(sums.traffic_slow);
        *calls = calls.saturating_add(sums.calls);
    }
    callers.into_iter().max_by_key(|&(_, weight)| weight).map(|(name, _)| Arc::clone(name))
}

/// Whether what is wrong with the calls at `place` is no more than its service suffers from its callees.
pub(crate) fn accounts_for(state: &State, place: &Place) -> bool {
    let Some(trouble) = troubles(state).remove(&place.service) else { return false };
    let mut sums = [Sums::default(); WINDOWS.len()];
    let pairs = state.services.get(&place.service).into_iter().flat_map(|service| service.pairs.values());
    pairs.filter(|pair| place.holds(pair)).for_each(|pair| pair.add_windows(&mut sums));
    let suffered = |at: usize| {
        let bad = (sums[at].excess() - sums[at].refused as f64) / sums[at].calls.max(1) as f64;
        trouble.share[at] > 0.0 && WIDE_EXPLAINED * trouble.share[at] >= bad
    };
    (2..WINDOWS.len()).all(suffered)
}

/// Whether a service that `service` calls, directly or through others, has an open finding.
pub(crate) fn callee_has_finding(state: &State, service: &Arc<str>) -> bool {
    let mut seen = BTreeSet::from([Arc::clone(service)]);
    let mut next = vec![Arc::clone(service)];
    while let Some(caller) = next.pop() {
        for (name, callee) in &state.services {
            if callee.pairs.values().any(|pair| pair.client == caller) && seen.insert(Arc::clone(name)) {
                if state.incidents.keys().any(|place| place.service == *name) {
                    return true;
                }
                next.push(Arc::clone(name));
            }
        }
    }
    false
}
