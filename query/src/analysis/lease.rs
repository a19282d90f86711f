//! From a finding to a hint, within the guards: never the last healthy endpoint, never more than the share
//! that may be ejected, and an edge is opened only where most of its calls fail anyway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::hint::{Action, Evidence, Hint, Recovery, Scope, Target};
use weir_model::{UnixNanos, limits};

use super::config::Config;
use super::finding::{Finding, Kind};
use super::incident::{Part, Place};
use super::state::{Service, State};
use super::window::Sums;

/// Fewest probes per second of an ejected endpoint: at least one within a lease of 15 s, with room to spare.
const EJECT_PROBES: f64 = 0.1;
/// Fewest probes per second of an open edge.
const OPEN_PROBES: f64 = 0.2;
/// What a refused request is answered with, and when to come back.
const OPEN_STATUS: u16 = 503;
const OPEN_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Endpoints without a call for this long do not count as there.
const PRESENT_SECONDS: u64 = 60;

/// What happened to a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintChange {
    /// It is new.
    Issued,
    /// Its lease was extended.
    Renewed,
    /// It is no longer in force.
    Withdrawn,
}

impl HintChange {
    /// Its name, as tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Renewed => "renewed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A change of a hint.
#[derive(Debug, Clone, PartialEq)]
pub struct HintEvent {
    /// When.
    pub time: UnixNanos,
    /// Which way.
    pub change: HintChange,
    /// The hint after it.
    pub hint: Hint,
    /// Why, for a person.
    pub reason: String,
}

/// A hint in force.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) hint: Hint,
    /// The second it was issued or last renewed.
    pub(crate) renewed: u64,
}

impl Lease {
    pub(crate) fn renew(&mut self, second: u64, now: UnixNanos) {
        self.renewed = second;
        self.hint.revision += 1;
        self.hint.issued_at = now;
    }
}

/// The hint that helps against `finding`, if there is one and the guards allow it.
pub(crate) fn issue(
    state: &mut State,
    place: &Place,
    finding: &Finding,
    now: UnixNanos,
    config: &Config,
) -> Option<Lease> {
    if hints(state).count() >= limits::HINTS {
        return None;
    }
    let service = state.services.get(&place.service)?;
    let (scope, action, least_probes) = match &place.part {
        Part::Endpoint(endpoint) if may_eject(state, place, service, config) => {
            let target = Target::Endpoint(endpoint.to_string());
            (
                Scope { service: place.service.to_string(), target, ..Scope::default() },
                Action::Eject,
                EJECT_PROBES,
            )
        }
        Part::Service | Part::Edge(_) if failing(finding, config) => {
            let callers = may_open(state, place, service, config)?;
            let action = Action::Open { status: OPEN_STATUS, retry_after: OPEN_RETRY_AFTER };
            (Scope { callers, service: place.service.to_string(), ..Scope::default() }, action, OPEN_PROBES)
        }
        _ => return None,
    };
    let probe_rate = (config.probe_share * calls_per_second_and_caller(service))
        .clamp(least_probes, config.recovery.probe_rate.max(least_probes));
    state.hints_made += 1;
    let hint = Hint {
        id: format!("h-{}-{}", state.epoch, state.hints_made),
        revision: 1,
        epoch: state.epoch,
        issued_at: now,
        ttl: config.hint_ttl,
        scope,
        action,
        mode: config.mode,
        holdout_pct: 0,
        evidence: evidence(finding),
        guards: config.guards,
        recovery: Recovery { probe_rate, ..config.recovery },
    };
    Some(Lease { hint, renewed: state.second })
}

/// All hints in force.
pub(crate) fn hints(state: &State) -> impl Iterator<Item = (&Place, &Hint)> {
    state.incidents.iter().filter_map(|(place, incident)| Some((place, &incident.lease.as_ref()?.hint)))
}

fn failing(finding: &Finding, config: &Config) -> bool {
    finding.kind != Kind::Latency && finding.observed >= config.open_error_rate
}

/// Whether one more endpoint of the service may be ejected. The incident in question is not among
/// `state.incidents` while it is attended to.
fn may_eject(state: &State, place: &Place, service: &Service, config: &Config) -> bool {
    let here = |other: &&Place| {
        other.service == place.service && matches!(other.part, Part::Endpoint(_)) && *other != place
    };
    let is_sick = |name: &Arc<str>| {
        let part = Part::Endpoint(Arc::clone(name));
        state.incidents.contains_key(&Place { service: Arc::clone(&place.service), part })
    };
    let present = |name: &Arc<str>| {
        let mut pairs = service.pairs.values().filter(|pair| pair.endpoint == *name);
        is_sick(name) || pairs.any(|pair| pair.last_seen + PRESENT_SECONDS >= state.second)
    };
    let known = service.endpoints().iter().filter(|name| present(name)).count();
    let sick = state.incidents.keys().filter(here).count();
    let ejected = hints(state).filter(|(other, _)| here(other)).count() + 1;
    let most = (known * usize::from(config.guards.max_ejected_pct) / 100).max(1);
    let least_healthy = (known * usize::from(config.guards.min_healthy_pct)).div_ceil(100).max(1);
    ejected <= most && known.saturating_sub(ejected) >= least_healthy && known.saturating_sub(sick + 1) >= 1
}

/// The callers whose edge may be opened, those with most errors first; `None` where none may.
fn may_open(state: &State, place: &Place, service: &Service, config: &Config) -> Option<Vec<String>> {
    let clients = service.clients();
    let taken: Vec<&String> = hints(state)
        .filter(|(other, hint)| other.service == place.service && matches!(hint.action, Action::Open { .. }))
        .flat_map(|(_, hint)| &hint.scope.callers)
        .collect();
    let most = (clients.len() * usize::from(config.guards.max_ejected_pct) / 100).max(1);
    let room = most.checked_sub(taken.len()).filter(|room| *room > 0)?;
    let mut errors: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
    for pair in service.pairs.values() {
        let total = errors.entry(&pair.client).or_default();
        *total = total.saturating_add(pair.sums(10).errors);
    }
    let mut callers: Vec<_> = errors
        .into_iter()
        .filter(|(client, errors)| {
            let concerned = match &place.part {
                Part::Edge(only) => **client == *only,
                Part::Service | Part::Endpoint(_) => true,
            };
            concerned && *errors > 0 && !taken.iter().any(|name| name.as_str() == client.as_ref())
        })
        .collect();
    callers.sort_by_key(|&(client, errors)| (std::cmp::Reverse(errors), client));
    callers.truncate(room);
    (!callers.is_empty()).then(|| callers.into_iter().map(|(client, _)| client.to_string()).collect())
}

fn calls_per_second_and_caller(service: &Service) -> f64 {
    let mut sums = Sums::default();
    service.pairs.values().for_each(|pair| sums.add(&pair.sums(30)));
    let seconds = service.pairs.values().map(|pair| pair.remembered().min(30)).max().unwrap_or(1).max(1);
    sums.calls as f64 / seconds as f64 / service.clients().len().max(1) as f64
}

fn evidence(finding: &Finding) -> Evidence {
    Evidence {
        detector: finding.detector.to_owned(),
        metric: finding.metric.to_owned(),
        window: finding.window,
        observed: finding.observed,
        baseline: finding.baseline,
        score: finding.score,
        samples: finding.samples,
        callers_agreeing: finding.callers_agreeing,
        trace_ids: finding.trace_ids.clone(),
        causal_path: finding.causal_path.clone(),
        query: finding.query.clone(),
        finding: finding.id.clone(),
    }
}
