//! Whether something is wrong, and at which level: one replica, one caller's edge, or the whole service.
//!
//! Errors: the probability of at least so many errors among so many calls, expected at the rate of the
//! target's own history. Latency: the same for calls above the history's 95th percentile, of which one in
//! twenty is expected; and the median or the 90th percentile must have moved by a factor and an amount that
//! matter. Every target is judged over four windows each second. A replica is to blame when others of the
//! service are well; the whole service is when none of them is.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::Sketch;

use super::baseline::Baseline;
use super::blame::{Trouble, WIDE_EXPLAINED};
use super::config::{Config, WINDOWS};
use super::finding::Kind;
use super::incident::{Part, Place};
use super::state::{PEERS, Service, State};
use super::stats::log10_tail;
use super::window::{Pair, Sums};

/// Calls in ten seconds from which a target counts as known to be well.
const KNOWN_CALLS: u64 = 5;
/// Decimal logarithm of the probability at which a target is no longer clean.
const SUSPICIOUS: f64 = -2.0;
/// … and at which its seconds are kept out of the history.
const DISTURBED: f64 = -4.0;
/// Decimal logarithm of the probability at which a replica differs from the clean ones.
const DIFFERENT: f64 = -3.0;
/// By how much more the latency of a whole service must move than that of one replica among others, which
/// share its load and its machine.
const WIDE_LATENCY: f64 = 4.0 / 3.0;
const WIDE_LATENCY_EFFECT: f64 = 2.0;
/// Services that must be measured for a slowness of everything to be recognised.
const COMMON_SERVICES: usize = 4;
/// Largest slowness of everything that is taken out.
const COMMON_MAX: f64 = 10.0;

/// What a detector found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    /// Seconds it was counted over.
    pub(crate) window: usize,
    /// What was compared: `error_rate`, `latency_p50_seconds` or `latency_p90_seconds`.
    pub(crate) metric: &'static str,
    pub(crate) observed: f64,
    pub(crate) baseline: f64,
    /// Minus the decimal logarithm of the probability.
    pub(crate) score: f64,
    pub(crate) samples: u64,
    /// Of these, failed or slow ones.
    pub(crate) bad: u64,
}

impl Verdict {
    /// Share of the calls that failed or were slow.
    pub(crate) fn bad_share(&self) -> f64 {
        self.bad as f64 / self.samples.max(1) as f64
    }
}

/// A place and what is wrong there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) place: Place,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, Default)]
struct Judgement {
    worst: Option<Verdict>,
    suspicious: bool,
    disturbed: bool,
    known: bool,
}

/// What the detectors say of one service in one tick.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opinion {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) disturbed: bool,
}

/// Judges services; holds what is worked out once per tick.
pub(crate) struct Detector<'a> {
    state: &'a State,
    config: &'a Config,
    level: f64,
    common: [OnceCell<[f64; 2]>; WINDOWS.len()],
}

/// Which calls are judged together.
type Group<'a> = Vec<&'a Pair>;

impl<'a> Detector<'a> {
    pub(crate) fn new(state: &'a State, config: &'a Config) -> Self {
        Self { state, config, level: config.log10_level(), common: Default::default() }
    }

    /// What is wrong with `service`, given what it suffers from others.
    pub(crate) fn examine(&self, name: &Arc<str>, service: &Service, trouble: &Trouble) -> Opinion {
        let mut opinion = Opinion::default();
        if self.state.incidents.contains_key(&Place::service(name)) {
            return opinion;
        }
        let under_way =
            |part: Part| self.state.incidents.contains_key(&Place { service: name.clone(), part });
        let mut rest: Group<'_> = vec![];
        let mut replicas: BTreeMap<&Arc<str>, Group<'_>> = BTreeMap::new();
        for pair in service.pairs.values() {
            if under_way(Part::Endpoint(pair.endpoint.clone())) || under_way(Part::Edge(pair.client.clone()))
            {
                continue;
            }
            rest.push(pair);
            if !pair.endpoint.is_empty() {
                replicas.entry(&pair.endpoint).or_default().push(pair);
            }
        }
        let judged = self.judge_replicas(&replicas, trouble);
        opinion.disturbed = judged.iter().any(|(_, judgement)| judgement.disturbed);
        opinion.candidates = self.bad_replicas(name, &replicas, &judged);
        if opinion.candidates.is_empty() {
            let (candidates, disturbed) = self.wide(name, &rest, trouble);
            opinion.candidates = candidates;
            opinion.disturbed |= disturbed;
        }
        opinion.disturbed |= !opinion.candidates.is_empty();
        opinion
    }

    fn judge_replicas<'g>(
        &self,
        replicas: &BTreeMap<&'g Arc<str>, Group<'_>>,
        trouble: &Trouble,
    ) -> Vec<(&'g Arc<str>, Judgement)> {
        let one = |(&name, group): (&&'g Arc<str>, &Group<'_>)| {
            let others = || {
                replicas.iter().filter(|(other, _)| **other != name).take(PEERS).flat_map(|(_, g)| g).copied()
            };
            let effect = |window: usize| self.replica_effect(group, &others, window);
            let judgement = self.judge(&windows(group), &trouble.share, 0, 2, &effect);
            (name, judgement)
        };
        replicas.iter().map(one).collect()
    }

    /// The replicas that are bad while others are well.
    fn bad_replicas(
        &self,
        name: &Arc<str>,
        replicas: &BTreeMap<&Arc<str>, Group<'_>>,
        judged: &[(&Arc<str>, Judgement)],
    ) -> Vec<Candidate> {
        let clean: Group<'_> = judged
            .iter()
            .filter(|(_, judgement)| judgement.known && !judgement.suspicious)
            .flat_map(|(replica, _)| replicas[*replica].iter().copied())
            .collect();
        if clean.is_empty() {
            return vec![];
        }
        judged
            .iter()
            .filter_map(|(replica, judgement)| {
                let verdict = judgement.worst.clone()?;
                self.differs(&verdict, &replicas[*replica], &clean).then(|| Candidate {
                    place: Place { service: Arc::clone(name), part: Part::Endpoint(Arc::clone(replica)) },
                    verdict,
                })
            })
            .collect()
    }

    /// Whether a replica's calls cannot be of the same kind as those of the clean replicas.
    fn differs(&self, verdict: &Verdict, group: &Group<'_>, clean: &Group<'_>) -> bool {
        let at = WINDOWS.iter().position(|w| *w == verdict.window).unwrap_or(0);
        let (own, others) = (windows(group)[at], windows(clean)[at.max(2)]);
        let rate = |k: u64, n: u64| (k as f64 + 0.5) / (n as f64 + 1.0);
        let (k, n, expected) = match verdict.kind {
            Kind::Latency => (own.slow, own.timed, rate(others.slow, others.timed)),
            Kind::Errors | Kind::Outage => (own.errors, own.calls, rate(others.errors, others.calls)),
        };
        let far = k as f64 / n.max(1) as f64 >= 2.0 * expected || expected > 0.5;
        let slower = verdict.kind != Kind::Latency
            || moved(
                &present(group, verdict.window),
                &present_quantiles(clean, 10),
                self.ratio(),
                self.effect(),
            )
            .is_some();
        far && slower && log10_tail(k, n, expected) <= DIFFERENT
    }

    /// A whole service, or the edge of one caller where the others are well.
    fn wide(&self, name: &Arc<str>, rest: &Group<'_>, trouble: &Trouble) -> (Vec<Candidate>, bool) {
        let all = self.judge_wide(rest, trouble);
        let mut callers: BTreeMap<&Arc<str>, Group<'_>> = BTreeMap::new();
        rest.iter().for_each(|pair| callers.entry(&pair.client).or_default().push(pair));
        let judged: Vec<_> =
            callers.iter().map(|(client, group)| (*client, self.judge_wide(group, trouble))).collect();
        let disturbed = all.disturbed || judged.iter().any(|(_, judgement)| judgement.disturbed);
        let some_well = judged.iter().any(|(_, judgement)| judgement.known && !judgement.suspicious);
        let edges: Vec<_> = judged
            .into_iter()
            .filter_map(|(client, judgement)| {
                let place = Place { service: Arc::clone(name), part: Part::Edge(Arc::clone(client)) };
                Some(Candidate { place, verdict: judgement.worst? })
            })
            .collect();
        if some_well && !edges.is_empty() {
            return (edges, disturbed);
        }
        let whole = all.worst.map(|verdict| Candidate { place: Place::service(name), verdict });
        (whole.into_iter().collect(), disturbed)
    }

    fn judge_wide(&self, group: &Group<'_>, trouble: &Trouble) -> Judgement {
        let explained = trouble.share.map(|share| share * WIDE_EXPLAINED);
        let effect = |window: usize| {
            let at = WINDOWS.iter().position(|w| *w == window)?;
            if trouble.unknown[at] && trouble.has_callees {
                return None;
            }
            let common = self.common_slowness(at);
            let [median, p90] = quantiles(&history(group), self.config)?;
            let history = [median * common[0], p90 * common[1]];
            let ratio = self.ratio() * WIDE_LATENCY;
            moved(&present(group, window), &history, ratio, self.effect() * WIDE_LATENCY_EFFECT)
        };
        self.judge(&windows(group), &explained, 1, 3, &effect)
    }

    fn replica_effect<'g, Others: Iterator<Item = &'g Pair>>(
        &self,
        group: &Group<'_>,
        others: &impl Fn() -> Others,
        window: usize,
    ) -> Option<Moved> {
        let reference = quantiles(&history(group), self.config)
            .unwrap_or_else(|| present_quantiles(&others().collect(), super::config::REMEMBERED));
        moved(&present(group, window), &reference, self.ratio(), self.effect())
    }

    /// Judges counts; `latency_from` is the first window in which latency is judged, and slow calls must
    /// fall into at least `slow_seconds` different seconds.
    fn judge(
        &self,
        sums: &[Sums; WINDOWS.len()],
        explained: &[f64; WINDOWS.len()],
        latency_from: usize,
        slow_seconds: u32,
        effect: &dyn Fn(usize) -> Option<Moved>,
    ) -> Judgement {
        let mut out = Judgement { known: sums[2].calls >= KNOWN_CALLS, ..Judgement::default() };
        let mut best = self.level;
        for (at, (sums, explained)) in sums.iter().zip(explained).enumerate() {
            let surprise = |k: u64, n: u64, expected: f64| {
                let p = (expected / n.max(1) as f64 + explained).min(1.0);
                let far = k as f64 >= n as f64 * (p + self.config.error_effect);
                (p, if far { log10_tail(k, n, p) } else { 0.0 })
            };
            let (p, errors) = surprise(sums.errors, sums.calls, sums.expected_errors);
            if errors <= best && sums.error_seconds.count_ones() >= 2 {
                best = errors;
                out.worst = Some(Verdict {
                    kind: Kind::Errors,
                    window: WINDOWS[at],
                    metric: "error_rate",
                    observed: sums.errors as f64 / sums.calls.max(1) as f64,
                    baseline: p,
                    score: -errors,
                    samples: sums.calls,
                    bad: sums.errors,
                });
            }
            let (_, slow) = surprise(sums.slow, sums.timed, sums.expected_slow);
            let slow = if at >= latency_from { slow } else { 0.0 };
            if slow <= best
                && sums.slow_seconds.count_ones() >= slow_seconds
                && let Some(moved) = effect(WINDOWS[at])
            {
                best = slow;
                out.worst = Some(Verdict {
                    kind: Kind::Latency,
                    window: WINDOWS[at],
                    metric: moved.metric,
                    observed: moved.observed,
                    baseline: moved.reference,
                    score: -slow,
                    samples: sums.timed,
                    bad: sums.slow,
                });
            }
            out.suspicious |= errors.min(slow) <= SUSPICIOUS;
            out.disturbed |= errors.min(slow) <= DISTURBED;
        }
        out
    }

    fn ratio(&self) -> f64 {
        self.config.latency_ratio
    }

    fn effect(&self) -> f64 {
        self.config.latency_effect.as_secs_f64()
    }

    /// By which factor a good three quarters of all services are slower than usual, in the median and the
    /// 90th percentile: a machine that is short of breath, which is no service's fault.
    fn common_slowness(&self, at: usize) -> [f64; 2] {
        *self.common[at].get_or_init(|| {
            let ratios: Vec<[f64; 2]> =
                self.state.services.values().filter_map(|service| self.slowness(service, at)).collect();
            [0, 1].map(|quantile| {
                let mut ratios: Vec<f64> = ratios.iter().map(|both| both[quantile]).collect();
                ratios.sort_by(f64::total_cmp);
                match ratios.len() {
                    ..COMMON_SERVICES => 1.0,
                    n => ratios[(n - 1) / 4].clamp(1.0, COMMON_MAX),
                }
            })
        })
    }

    fn slowness(&self, service: &Service, at: usize) -> Option<[f64; 2]> {
        let group: Group<'_> = service.pairs.values().collect();
        let [median, p90] = quantiles(&history(&group), self.config)?;
        let now = present(&group, WINDOWS[at]);
        let comparable = now.count() >= 10 && median > 0.0 && p90 > 0.0;
        comparable.then_some([now.quantile(0.5)? / median, now.quantile(0.9)? / p90])
    }
}

/// A quantile that moved.
struct Moved {
    metric: &'static str,
    observed: f64,
    reference: f64,
}

/// The median or else the 90th percentile, if it exceeds the reference by `ratio` and by `effect` seconds.
fn moved(now: &Sketch, reference: &[f64; 2], ratio: f64, effect: f64) -> Option<Moved> {
    let quantile = |q, metric, reference: f64| {
        let observed = now.quantile(q)?;
        (observed >= (reference * ratio).max(reference + effect)).then_some(Moved {
            metric,
            observed,
            reference,
        })
    };
    quantile(0.5, "latency_p50_seconds", reference[0])
        .or_else(|| quantile(0.9, "latency_p90_seconds", reference[1]))
}

fn windows(group: &Group<'_>) -> [Sums; WINDOWS.len()] {
    let mut all = [Sums::default(); WINDOWS.len()];
    group.iter().for_each(|pair| pair.add_unsettled(&mut all));
    all
}

fn present(group: &Group<'_>, window: usize) -> Sketch {
    let mut latency = Sketch::default();
    group.iter().for_each(|pair| pair.unsettled_latency(window, &mut latency));
    latency
}

fn present_quantiles(group: &Group<'_>, window: usize) -> [f64; 2] {
    let latency = present(group, window);
    [0.5, 0.9].map(|q| latency.quantile(q).unwrap_or(f64::INFINITY))
}

fn history(group: &Group<'_>) -> Baseline {
    let mut all = Baseline::default();
    group.iter().for_each(|pair| all.merge(&pair.baseline));
    all
}

fn quantiles(history: &Baseline, config: &Config) -> Option<[f64; 2]> {
    if history.timed() < config.baseline_calls / 2.0 {
        return None;
    }
    Some([history.quantile(0.5)?, history.quantile(0.9)?])
}
