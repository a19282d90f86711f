//! The life of a finding and of its hint: opened, renewed while evidence is fresh, withdrawn when the target
//! is well, lapsed when nobody knows.

use std::sync::Arc;

use weir_model::UnixNanos;

use super::config::Config;
use super::detect::Verdict;
use super::finding::{Finding, FindingEvent, FindingState, Kind, Severity};
use super::lease::{HintChange, HintEvent, Lease};
use super::state::State;
use super::window::{Pair, Sums};
use super::{Outcome, blame, finding, lease};

/// Seconds without a bad call before ordinary traffic proves that a target is well.
const WELL_SECONDS: u64 = 10;
/// Seconds between two updates of an open finding.
const UPDATE_SECONDS: u64 = 30;
/// Good probes that prove a target well, at least and at most.
const GOOD_PROBES: std::ops::RangeInclusive<u64> = 3..=12;
/// How likely a target that is as bad as it was may pass all its probes.
const PASS_BY_CHANCE: f64 = 0.05;
/// For how long a target that turns bad again is met with more patience.
const MEMORY_SECONDS: u64 = 600;
/// Least time before a hint is withdrawn again, after the first relapse; doubled by each further one.
const FIRST_HOLD_SECONDS: u64 = 10;
const MAX_HOLD_SECONDS: u64 = 300;
/// For how long after its opening a finding may still turn out to be a callee's fault.
const EXPLAIN_SECONDS: u64 = 60;

/// For how long after its opening a finding of errors may turn out to be an outage, how many calls must have
/// failed without one that was answered, and how far apart two proxies may cut their seconds.
const GONE_SECONDS: u64 = 15;
const GONE_CALLS: u64 = 3;
const SKEW_SECONDS: u64 = 1;

/// The part of a service that is concerned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Service,
    /// The calls of one client.
    Edge(Arc<str>),
    Endpoint(Arc<str>),
}

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) service: Arc<str>,
    pub(crate) part: Part,
}

impl Place {
    pub(crate) fn service(name: &Arc<str>) -> Self {
        Self { service: Arc::clone(name), part: Part::Service }
    }

    pub(crate) fn holds(&self, pair: &Pair) -> bool {
        match &self.part {
            Part::Service => true,
            Part::Edge(client) => pair.client == *client,
            Part::Endpoint(endpoint) => pair.endpoint == *endpoint,
        }
    }

    fn level(&self) -> &'static str {
        match self.part {
            Part::Service => "service",
            Part::Edge(_) => "edge",
            Part::Endpoint(_) => "endpoint",
        }
    }
}

/// What is remembered of a place after its finding is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// Relapses so far.
    relapses: u32,
    /// Until which second.
    pub(crate) expires: u64,
}

/// An open finding and its hint.
#[derive(Debug, Clone)]
pub(crate) struct Incident {
    pub(crate) finding: Finding,
    pub(crate) lease: Option<Lease>,
    pub(crate) opened: u64,
    /// Share of bad calls when it was opened.
    bad_share: f64,
    last_bad: u64,
    last_call: u64,
    good_probes: u64,
    relapses: u32,
    hold_until: u64,
    updated: u64,
}

impl Incident {
    fn good_probes_needed(&self) -> u64 {
        let share = self.bad_share.clamp(0.01, 0.99);
        let needed = (PASS_BY_CHANCE.ln() / (-share).ln_1p()).ceil() as u64;
        needed.clamp(*GOOD_PROBES.start(), *GOOD_PROBES.end())
    }

    fn hold(&mut self, second: u64) {
        let hold = match self.relapses {
            0 => 0,
            n => (FIRST_HOLD_SECONDS << (n - 1).min(16)).min(MAX_HOLD_SECONDS),
        };
        self.hold_until = second + hold;
    }
}

/// What was measured of an incident's target.
struct Measured {
    tick: Sums,
    five: Sums,
    ten: Sums,
    all: Sums,
}

impl Measured {
    fn of(state: &State, place: &Place) -> Self {
        let mut out =
            Self { tick: Sums::default(), five: Sums::default(), ten: Sums::default(), all: Sums::default() };
        let pairs = state.services.get(&place.service).into_iter().flat_map(|s| s.pairs.values());
        for pair in pairs.filter(|pair| place.holds(pair)) {
            out.tick.add(&pair.sums(1));
            out.five.add(&pair.sums(5));
            out.ten.add(&pair.sums(10));
            out.all.add(&pair.sums(30));
        }
        out
    }

    /// The share of bad calls up to which traffic is well.
    fn bar(sums: &Sums) -> f64 {
        0.05 + sums.expected_errors / sums.calls.max(1) as f64
    }

    fn bad_now(&self, bad_share: f64) -> bool {
        let traffic_now = self.tick.traffic_errors > 0 || self.tick.traffic_slow > 0;
        let traffic_lately = self.five.traffic_errors.saturating_add(self.five.traffic_slow) >= 2
            && self.five.traffic_bad_share() >= Self::bar(&self.five).max(0.2 * bad_share);
        self.tick.probes_bad > 0 || (traffic_now && traffic_lately)
    }

    fn traffic_is_well(&self, since_bad: u64) -> bool {
        let well =
            |sums: &Sums, calls: u64| sums.traffic >= calls && sums.traffic_bad_share() <= Self::bar(sums);
        since_bad >= WELL_SECONDS && well(&self.ten, 10) || since_bad >= 30 && well(&self.all, 5)
    }
}

/// Opens a finding, and asks for its hint.
pub(crate) fn open(state: &mut State, place: Place, verdict: &Verdict, now: UnixNanos, out: &mut Outcome) {
    let second = state.second;
    state.findings_made += 1;
    let id = format!("f-{}-{}", state.epoch, state.findings_made);
    let finding = describe(state, &place, verdict, id, now);
    let relapses = state.records.get(&place).map_or(0, |record| record.relapses + 1);
    let mut incident = Incident {
        finding,
        lease: None,
        opened: second,
        bad_share: verdict.bad_share(),
        last_bad: second,
        last_call: second,
        good_probes: 0,
        relapses,
        hold_until: 0,
        updated: second,
    };
    incident.hold(second);
    out.findings.push(FindingEvent {
        time: now,
        state: FindingState::Opened,
        finding: incident.finding.clone(),
    });
    state.incidents.insert(place, incident);
}

fn describe(state: &State, place: &Place, verdict: &Verdict, id: String, now: UnixNanos) -> Finding {
    let service = state.services.get(&place.service);
    let replicas = service.map_or(0, |s| s.endpoints().len());
    let client = match &place.part {
        Part::Edge(client) => Some(client),
        Part::Service | Part::Endpoint(_) => None,
    };
    let mut causal_path = blame::causal_path(state, &place.service, client);
    let mut endpoint = None;
    if let Part::Endpoint(name) = &place.part {
        causal_path.push(name.to_string());
        endpoint = Some(name.to_string());
    }
    let onset = state.second.saturating_sub(verdict.window as u64);
    Finding {
        id,
        kind: verdict.kind,
        severity: Severity::of(verdict),
        level: place.level(),
        client: client.map(ToString::to_string),
        service: place.service.to_string(),
        endpoint,
        detector: finding::detector(verdict.kind),
        metric: verdict.metric,
        window: std::time::Duration::from_secs(verdict.window as u64),
        observed: verdict.observed,
        baseline: verdict.baseline,
        score: verdict.score.min(1e3),
        samples: verdict.samples,
        callers_agreeing: agreeing(state, place, verdict),
        causal_path,
        trace_ids: vec![],
        message: finding::message(place, verdict, replicas),
        query: finding::query(place, state.reporter(&place.service).name(), onset, state.second),
        opened_at: now,
    }
}

/// Whether every call since the target's own proxies last answered one has failed, and some did.
fn is_gone(state: &State, place: &Place) -> bool {
    let Some(service) = state.services.get(&place.service) else { return false };
    let mut since = Sums::default();
    for pair in service.pairs.values().filter(|pair| place.holds(pair) && !pair.endpoint.is_empty()) {
        let Some(at) = state.answered_at(&place.service, &pair.endpoint) else { return false };
        since.add(&pair.sums(state.second.saturating_sub(at + SKEW_SECONDS) as usize));
    }
    since.errors >= GONE_CALLS && since.errors == since.calls
}

fn agreeing(state: &State, place: &Place, verdict: &Verdict) -> u32 {
    let Some(service) = state.services.get(&place.service) else { return 0 };
    let agrees = |client: &Arc<str>| {
        let mut sums = Sums::default();
        let pairs = service.pairs.values().filter(|pair| pair.client == *client && place.holds(pair));
        pairs.for_each(|pair| sums.add(&pair.sums(verdict.window)));
        match verdict.kind {
            Kind::Latency => sums.slow > 0 && sums.slow as f64 > 2.0 * sums.expected_slow,
            Kind::Errors | Kind::Outage => sums.errors > 0 && sums.errors as f64 > 2.0 * sums.expected_errors,
        }
    };
    service.clients().iter().filter(|client| agrees(client)).count() as u32
}

/// Why a finding is closed.
enum Over {
    Well(&'static str),
    Silent,
    Explained,
}

/// Moves every open finding on by a tick. `explained` tells whether a callee's fault accounts for a place.
pub(crate) fn advance(
    state: &mut State,
    now: UnixNanos,
    config: &Config,
    explained: &dyn Fn(&State, &Place) -> bool,
    out: &mut Outcome,
) {
    let places: Vec<Place> = state.incidents.keys().cloned().collect();
    for place in places {
        let Some(mut incident) = state.incidents.remove(&place) else { continue };
        let over = measure(state, &place, &mut incident, config, explained);
        state.disturb(&place.service);
        match over {
            Some(over) => close(state, place, incident, now, &over, out),
            None => {
                attend(state, &place, &mut incident, now, config, out);
                state.incidents.insert(place, incident);
            }
        }
    }
}

fn measure(
    state: &State,
    place: &Place,
    incident: &mut Incident,
    config: &Config,
    explained: &dyn Fn(&State, &Place) -> bool,
) -> Option<Over> {
    let second = state.second;
    let measured = Measured::of(state, place);
    if measured.tick.calls > 0 {
        incident.last_call = second;
    }
    if measured.bad_now(incident.bad_share) {
        incident.last_bad = second;
        incident.good_probes = 0;
    } else {
        incident.good_probes = incident.good_probes.saturating_add(measured.tick.probes_good);
    }
    if incident.finding.kind == Kind::Errors
        && second <= incident.opened + GONE_SECONDS
        && is_gone(state, place)
    {
        incident.finding.kind = Kind::Outage;
        incident.finding.severity = Severity::Critical;
        incident.finding.message.push_str("; its own proxy answers none of them");
        incident.updated = 0;
    }
    let since_bad = second - incident.last_bad;
    let wide = !matches!(place.part, Part::Endpoint(_));
    if wide && second <= incident.opened + EXPLAIN_SECONDS && explained(state, place) {
        return Some(Over::Explained);
    }
    if second < incident.hold_until {
        return None;
    }
    if incident.good_probes >= incident.good_probes_needed() && since_bad > 0 {
        Some(Over::Well("its probes succeed"))
    } else if measured.traffic_is_well(since_bad) {
        Some(Over::Well("its calls are as usual"))
    } else if second >= incident.last_call + config.silence_seconds {
        Some(Over::Silent)
    } else {
        None
    }
}

fn close(
    state: &mut State,
    place: Place,
    mut incident: Incident,
    now: UnixNanos,
    over: &Over,
    out: &mut Outcome,
) {
    let target = match &place.part {
        Part::Endpoint(endpoint) => endpoint.to_string(),
        Part::Edge(client) => format!("{} as called by {client}", place.service),
        Part::Service => place.service.to_string(),
    };
    let reason = match over {
        Over::Well(why) => format!("{target} is well again: {why}"),
        Over::Silent => format!("{target} is no longer called"),
        Over::Explained => format!("{target} only passes on what a service it calls does wrong"),
    };
    if let Some(lease) = incident.lease.take() {
        out.hints.push(HintEvent {
            time: now,
            change: HintChange::Withdrawn,
            hint: lease.hint,
            reason: reason.clone(),
        });
    }
    if let Over::Well(_) = over {
        let expires = state.second + MEMORY_SECONDS;
        state.records.insert(place.clone(), Record { relapses: incident.relapses, expires });
    }
    let pairs = state.services.get_mut(&place.service).into_iter().flat_map(|s| s.pairs.values_mut());
    pairs.filter(|pair| place.holds(pair)).for_each(Pair::settle);
    incident.finding.message = reason;
    out.findings.push(FindingEvent { time: now, state: FindingState::Resolved, finding: incident.finding });
}

/// Renews, issues or lets lapse the incident's hint, and reports on it from time to time.
fn attend(
    state: &mut State,
    place: &Place,
    incident: &mut Incident,
    now: UnixNanos,
    config: &Config,
    out: &mut Outcome,
) {
    let second = state.second;
    let fresh = incident.last_bad + config.hint_ttl.as_secs() >= second;
    if let Some(lease) = &mut incident.lease {
        if fresh && second >= lease.renewed + config.hint_renew.as_secs().max(1) {
            lease.renew(second, now);
            out.hints.push(HintEvent {
                time: now,
                change: HintChange::Renewed,
                hint: lease.hint.clone(),
                reason: "fresh evidence".to_owned(),
            });
        } else if second >= lease.renewed + config.hint_ttl.as_secs() {
            let hint = lease.hint.clone();
            incident.lease = None;
            incident.relapses += 1;
            incident.hold(second);
            let reason = "lapsed: no fresh evidence".to_owned();
            out.hints.push(HintEvent { time: now, change: HintChange::Withdrawn, hint, reason });
        }
    } else if incident.last_bad == second
        && let Some(lease) = lease::issue(state, place, &incident.finding, now, config)
    {
        out.hints.push(HintEvent {
            time: now,
            change: HintChange::Issued,
            hint: lease.hint.clone(),
            reason: incident.finding.message.clone(),
        });
        incident.lease = Some(lease);
    }
    if fresh && second >= incident.updated + UPDATE_SECONDS {
        incident.updated = second;
        out.findings.push(FindingEvent {
            time: now,
            state: FindingState::Updated,
            finding: incident.finding.clone(),
        });
    }
}
