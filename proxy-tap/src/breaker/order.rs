//! A hint as a breaker obeys it: whom it concerns, what share it leaves, how the way back goes.

use std::sync::Arc;
use std::time::Duration;

use weir_model::hint::{Action, Evidence, Guards, Hint, Mode, Recovery, Target};

use crate::breaker::Settings;
use crate::chance::mix;

/// Probes come at least so often.
const SLOWEST_PROBES: Duration = Duration::from_secs(5);
/// … and at most so often.
const FASTEST_PROBES: Duration = Duration::from_millis(10);
/// Longest growth back to all traffic.
const LONGEST_RAMP: Duration = Duration::from_secs(300);
/// Most probes in a row that a hint may ask for.
const MOST_SUCCESSES: u32 = 20;
/// What a request refused by `admit` is answered with.
const ADMIT_STATUS: u16 = 503;
const ADMIT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The way back of a target.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) probe_every: Duration,
    /// Good probes in a row that end half-open.
    pub(super) successes: u32,
    pub(super) ramp: Duration,
    /// A probe that takes longer is no good one: set where the target was taken out for being slow.
    pub(super) slow: Option<Duration>,
}

impl Way {
    /// The way back from the proxy's own ejection of this length.
    ///
    /// Probes go on meanwhile: an endpoint that every proxy has ejected would otherwise be invisible to the
    /// analysis, which knows of the cause only what proxies see.
    pub(super) fn own(ejection: Duration) -> Self {
        Self {
            probe_every: (ejection / 10).clamp(Duration::from_secs(1), SLOWEST_PROBES),
            successes: 3,
            ramp: Duration::from_secs(10),
            slow: None,
        }
    }

    fn of(recovery: &Recovery, evidence: &Evidence) -> Self {
        let every = Duration::try_from_secs_f64(recovery.probe_rate.recip()).unwrap_or(SLOWEST_PROBES);
        Self {
            probe_every: every.clamp(FASTEST_PROBES, SLOWEST_PROBES),
            successes: recovery.probe_successes.clamp(1, MOST_SUCCESSES),
            ramp: recovery.ramp.min(LONGEST_RAMP),
            slow: slow(evidence),
        }
    }
}

/// Between what was usual and what was observed, where the evidence is a latency in seconds.
fn slow(evidence: &Evidence) -> Option<Duration> {
    let is_latency = evidence.metric.starts_with("latency") && evidence.metric.ends_with("_seconds");
    let is_slower = evidence.baseline > 0.0 && evidence.observed > evidence.baseline;
    if !(is_latency && is_slower) {
        return None;
    }
    let middle = (evidence.observed * evidence.baseline).sqrt().max(1.5 * evidence.baseline);
    Duration::try_from_secs_f64(middle).ok()
}

/// The part of a service that an order concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Edge,
    Endpoint(Arc<str>),
    Zone(Arc<str>),
}

/// A hint that can be obeyed.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) id: Arc<str>,
    pub(super) place: Place,
    /// What it leaves, from 0 to 1.
    pub(super) share: f64,
    pub(super) way: Way,
    pub(super) priority: u32,
    /// The stricter of the hint's and the proxy's own.
    pub(super) guards: Guards,
    /// Whether calls of this proxy could contradict it: they cannot tell how slow is slow.
    pub(super) about_errors: bool,
    /// Why it is evaluated and not obeyed, if it is.
    pub(super) shadow: Option<&'static str>,
    /// What it does, for answers.
    pub(super) does: String,
    /// What a refused request is answered with.
    pub(super) status: u16,
    pub(super) retry_after: Duration,
    pub(super) why: Arc<str>,
}

/// Why a hint cannot be obeyed by this proxy.
pub(super) type Unfit = String;

impl Order {
    pub(super) fn new(hint: &Hint, settings: &Settings) -> Result<Self, Unfit> {
        let place = match &hint.scope.target {
            Target::Service => Place::Edge,
            Target::Endpoint(name) => Place::Endpoint(name.as_str().into()),
            Target::Zone(name) => Place::Zone(name.as_str().into()),
            Target::Subset(_) => return Err("subsets are not supported".to_owned()),
        };
        if !hint.scope.route.is_empty() {
            return Err("routes are not supported".to_owned());
        }
        let part = |what: &str| format!("{what} of {}", describe(&hint.scope.target));
        let (share, does) = match (&hint.action, &place) {
            (Action::Eject, Place::Endpoint(_) | Place::Zone(_)) => (0.0, "ejected".to_owned()),
            (Action::Weight(share), Place::Endpoint(_) | Place::Zone(_)) => {
                (*share, format!("weight {share}"))
            }
            (Action::Open { .. }, Place::Edge) => (0.0, "open, probes aside".to_owned()),
            (Action::Admit(share), Place::Edge) => (*share, format!("admits {share}")),
            (action, _) => return Err(format!("{} is not supported", part(action.name()))),
        };
        let (status, retry_after) = match hint.action {
            Action::Open { status, retry_after } => (status, retry_after),
            _ => (ADMIT_STATUS, ADMIT_RETRY_AFTER),
        };
        Ok(Self {
            id: hint.id.as_str().into(),
            way: Way::of(&hint.recovery, &hint.evidence),
            priority: hint.scope.priority,
            guards: stricter(&hint.guards),
            about_errors: hint.evidence.metric.starts_with("error"),
            shadow: shadow(hint, &settings.instance),
            why: why(&hint.evidence).into(),
            place,
            share: share.clamp(0.0, 1.0),
            does,
            status,
            retry_after,
        })
    }
}

fn describe(target: &Target) -> String {
    match target {
        Target::Service => "a whole service".to_owned(),
        Target::Subset(name) => format!("subset `{name}`"),
        Target::Endpoint(_) => "an endpoint".to_owned(),
        Target::Zone(name) => format!("zone `{name}`"),
    }
}

/// The guards of a hint, none wider than the proxy's own.
fn stricter(guards: &Guards) -> Guards {
    let own = Guards::default();
    Guards {
        min_healthy_pct: guards.min_healthy_pct.max(own.min_healthy_pct),
        max_ejected_pct: guards.max_ejected_pct.min(own.max_ejected_pct),
        min_local_samples: guards.min_local_samples.min(own.min_local_samples).max(1),
        local_veto_success_rate: guards.local_veto_success_rate.min(own.local_veto_success_rate),
    }
}

fn shadow(hint: &Hint, instance: &str) -> Option<&'static str> {
    match hint.mode {
        Mode::DryRun => Some("dry run"),
        Mode::Advise => Some("advice"),
        Mode::Enforce if is_held_out(&hint.id, instance, hint.holdout_pct) => Some("held out for comparison"),
        Mode::Enforce => None,
    }
}

/// Whether this proxy is among the `pct` per cent that ignore a hint. It stays so while the hint lives, and
/// another hint has others.
fn is_held_out(id: &str, instance: &str, pct: u8) -> bool {
    let hash = id.bytes().chain([0]).chain(instance.bytes()).fold(0, |hash, b| mix(hash ^ u64::from(b)));
    hash % 100 < u64::from(pct)
}

/// The evidence in a few words that may stand in a header.
fn why(evidence: &Evidence) -> String {
    let metric: String = evidence.metric.chars().filter(char::is_ascii_graphic).take(64).collect();
    if metric.is_empty() {
        return "no evidence given".to_owned();
    }
    format!("{metric} {:.3} where {:.3} is usual", evidence.observed, evidence.baseline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_held_out_is_as_asked_and_differs_by_hint() {
        let out = |id: &str, pct| (0..2_000).filter(|i| is_held_out(id, &format!("web-{i}"), pct)).count();
        assert_eq!((out("h-1-1", 0), out("h-1-1", 100)), (0, 2_000));
        assert!((150..250).contains(&out("h-1-1", 10)), "{}", out("h-1-1", 10));
        assert!(
            (0..100).any(|i| is_held_out("a", &format!("{i}"), 30) != is_held_out("b", &format!("{i}"), 30))
        );
    }

    #[test]
    fn no_hint_widens_the_guards() {
        let wide = Guards {
            min_healthy_pct: 0,
            max_ejected_pct: 100,
            min_local_samples: u32::MAX,
            local_veto_success_rate: 1.0,
        };
        assert_eq!(stricter(&wide), Guards::default());
        let narrow = Guards { min_healthy_pct: 80, max_ejected_pct: 10, ..wide };
        assert_eq!((stricter(&narrow).min_healthy_pct, stricter(&narrow).max_ejected_pct), (80, 10));
    }

    #[test]
    fn a_way_back_is_possible_whatever_the_hint_says() {
        for probe_rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300] {
            let recovery = Recovery { ramp: Duration::MAX, probe_rate, probe_successes: u32::MAX };
            let way = Way::of(&recovery, &Evidence::default());
            assert!(way.probe_every <= SLOWEST_PROBES && way.probe_every >= FASTEST_PROBES, "{probe_rate}");
            assert!(way.successes <= MOST_SUCCESSES && way.ramp <= LONGEST_RAMP);
        }
    }

    #[test]
    fn a_slow_probe_is_one_nearer_to_the_fault_than_to_the_usual() {
        let evidence = |metric: &str, observed, baseline| Evidence {
            metric: metric.to_owned(),
            observed,
            baseline,
            ..Evidence::default()
        };
        let ms = |evidence| slow(&evidence).map(|limit| limit.as_millis());
        assert_eq!(ms(evidence("latency_p50_seconds", 0.1, 0.001)), Some(10));
        assert_eq!(ms(evidence("latency_p90_seconds", 0.02, 0.01)), Some(15));
        assert_eq!(ms(evidence("error_rate", 0.9, 0.01)), None);
        assert_eq!(ms(evidence("latency_p50_seconds", f64::NAN, 0.01)), None);
    }
}
