//! The last half minute of one (caller, endpoint) pair, judged second by second as it came in.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_model::Sketch;

use super::baseline::Baseline;
use super::config::{Config, HISTORY_AGE, REMEMBERED, WINDOWS};
use super::tick::Cell;

/// Share of the calls that lies above the 95th percentile when nothing is wrong.
const ABOVE_Q95: f64 = 0.05;
/// Error rate that is expected where nothing is known yet.
const COLD_ERROR_RATE: f64 = 0.05;
/// Calls by which the other replicas can stand in for a baseline.
const PEER_CALLS: u64 = 30;

/// What a pair's calls are compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reference {
    /// Expected share of errors.
    pub(crate) error_rate: f64,
    /// Latency in seconds that few calls exceed, and the share that does.
    pub(crate) slow: Option<(f64, f64)>,
}

impl Reference {
    /// What history says, if there is enough of it.
    pub(crate) fn of_history(history: &Baseline, config: &Config) -> Option<Self> {
        (history.calls() >= config.baseline_calls).then(|| Self {
            error_rate: history.error_rate().max(config.error_floor),
            slow: history
                .quantile(1.0 - ABOVE_Q95)
                .filter(|_| history.timed() >= config.baseline_calls / 2.0)
                .map(|q95| (q95, share_above(history.timed()))),
        })
    }

    /// What the other replicas do at present.
    pub(crate) fn of_peers(peers: &Sketch) -> Self {
        let slow = (peers.count() >= PEER_CALLS)
            .then(|| peers.quantile(1.0 - ABOVE_Q95))
            .flatten()
            .map(|q95| (q95, share_above(peers.count() as f64)));
        Self { error_rate: COLD_ERROR_RATE, slow }
    }

    /// The latency in seconds at which a single call counts as bad.
    pub(crate) fn limit(&self, config: &Config) -> Option<f64> {
        let (q95, _) = self.slow?;
        Some((q95 * config.latency_ratio).max(q95 + config.latency_effect.as_secs_f64()))
    }
}

/// The expected share above an estimated 95th percentile: two standard errors of the estimate on top.
fn share_above(calls: f64) -> f64 {
    (ABOVE_Q95 + 2.0 * (ABOVE_Q95 * (1.0 - ABOVE_Q95) / calls.max(1.0)).sqrt()).min(0.3)
}

/// Counts of one second, or the sum of several.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sums {
    /// Answered or failed calls, probes included.
    pub(crate) calls: u64,
    /// Failed ones.
    pub(crate) errors: u64,
    /// Failed ones that were to be expected.
    pub(crate) expected_errors: f64,
    /// Calls without error whose latency could be judged.
    pub(crate) timed: u64,
    /// Of these, above the reference's 95th percentile.
    pub(crate) slow: u64,
    /// Of these, how many were to be expected.
    pub(crate) expected_slow: f64,
    /// Refused before they left.
    pub(crate) refused: u64,
    /// Probes that went well.
    pub(crate) probes_good: u64,
    /// Probes that failed or took too long.
    pub(crate) probes_bad: u64,
    /// Calls that were no probes.
    pub(crate) traffic: u64,
    /// Of these, failed.
    pub(crate) traffic_errors: u64,
    /// Of these, beyond the limit for a single call.
    pub(crate) traffic_slow: u64,
    /// In which of the seconds something failed: bit 0 is the newest.
    pub(crate) error_seconds: u32,
    /// In which of them something was slow.
    pub(crate) slow_seconds: u32,
}

impl Sums {
    /// Adds `other`, of the same seconds or others.
    pub(crate) fn add(&mut self, other: &Self) {
        let plus = u64::saturating_add;
        self.calls = plus(self.calls, other.calls);
        self.errors = plus(self.errors, other.errors);
        self.expected_errors += other.expected_errors;
        self.timed = plus(self.timed, other.timed);
        self.slow = plus(self.slow, other.slow);
        self.expected_slow += other.expected_slow;
        self.refused = plus(self.refused, other.refused);
        self.probes_good = plus(self.probes_good, other.probes_good);
        self.probes_bad = plus(self.probes_bad, other.probes_bad);
        self.traffic = plus(self.traffic, other.traffic);
        self.traffic_errors = plus(self.traffic_errors, other.traffic_errors);
        self.traffic_slow = plus(self.traffic_slow, other.traffic_slow);
        self.error_seconds |= other.error_seconds;
        self.slow_seconds |= other.slow_seconds;
    }

    /// Share of the ordinary calls that failed or took too long.
    pub(crate) fn traffic_bad_share(&self) -> f64 {
        let bad = self.traffic_errors.saturating_add(self.traffic_slow).min(self.traffic);
        if self.traffic == 0 { 0.0 } else { bad as f64 / self.traffic as f64 }
    }

    /// Trouble in these calls beyond what was to be expected.
    pub(crate) fn excess(&self) -> f64 {
        (self.errors as f64 - self.expected_errors).max(0.0)
            + (self.slow as f64 - self.expected_slow).max(0.0)
            + self.refused as f64
    }
}

#[derive(Debug, Clone, Default)]
struct Second {
    sums: Sums,
    latency: Sketch,
}

/// One caller's calls to one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// The calling service.
    pub(crate) client: Arc<str>,
    /// The endpoint; empty where none was chosen.
    pub(crate) endpoint: Arc<str>,
    /// Its history.
    pub(crate) baseline: Baseline,
    /// The second it was first seen.
    pub(crate) first_seen: u64,
    /// The second of its last call.
    pub(crate) last_seen: u64,
    seconds: VecDeque<Second>,
    /// The newest seconds that are not part of an earlier finding.
    unsettled: usize,
}

impl Pair {
    /// A pair first seen in `second`.
    pub(crate) fn new(client: Arc<str>, endpoint: Arc<str>, second: u64) -> Self {
        Self {
            client,
            endpoint,
            baseline: Baseline::default(),
            first_seen: second,
            last_seen: second,
            seconds: VecDeque::with_capacity(REMEMBERED),
            unsettled: 0,
        }
    }

    /// Appends a second in which `cell` was measured, compared with `reference`.
    pub(crate) fn push(&mut self, cell: Option<&Cell>, reference: &Reference, config: &Config) {
        if self.seconds.len() == REMEMBERED {
            self.seconds.pop_front();
        }
        self.unsettled = (self.unsettled + 1).min(REMEMBERED);
        self.seconds.push_back(cell.map(|cell| judge(cell, reference, config)).unwrap_or_default());
    }

    /// Forgets the recent seconds, as if nothing had been called.
    pub(crate) fn clear(&mut self) {
        self.seconds.clear();
    }

    /// Keeps what was measured so far from being held against the pair again; it still explains what its
    /// callers suffered.
    pub(crate) fn settle(&mut self) {
        self.unsettled = 0;
    }

    /// Whether the pair had been there for `seconds` in the second `at`.
    pub(crate) fn is_warm(&self, at: u64, seconds: u64) -> bool {
        at >= self.first_seen.saturating_add(seconds)
    }

    /// Moves the second that has come of age into the history.
    pub(crate) fn learn(&mut self) {
        let Some(at) = self.seconds.len().checked_sub(HISTORY_AGE + 1) else { return };
        let second = &self.seconds[at];
        self.baseline.add(second.sums.traffic, second.sums.traffic_errors, &second.latency);
    }

    /// The newest `window` seconds added up.
    pub(crate) fn sums(&self, window: usize) -> Sums {
        let mut total = Sums::default();
        self.accumulate(window, &mut total, 0);
        total
    }

    /// Adds the seconds of each window to `all`.
    pub(crate) fn add_windows(&self, all: &mut [Sums; WINDOWS.len()]) {
        self.add_each(WINDOWS, all);
    }

    /// As [`Self::add_windows`], without the seconds of an earlier finding.
    pub(crate) fn add_unsettled(&self, all: &mut [Sums; WINDOWS.len()]) {
        self.add_each(WINDOWS.map(|window| window.min(self.unsettled)), all);
    }

    /// As [`Self::add_windows`], each window longer by `extra` seconds.
    pub(crate) fn add_longer(&self, extra: usize, all: &mut [Sums; WINDOWS.len()]) {
        self.add_each(WINDOWS.map(|window| window + extra), all);
    }

    fn add_each(&self, windows: [usize; WINDOWS.len()], all: &mut [Sums; WINDOWS.len()]) {
        let mut total = Sums::default();
        let mut done = 0;
        for (sums, window) in all.iter_mut().zip(windows) {
            self.accumulate(window, &mut total, done);
            done = window;
            sums.add(&total);
        }
    }

    /// How many seconds are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.seconds.len()
    }

    fn accumulate(&self, window: usize, total: &mut Sums, skip: usize) {
        for (age, second) in self.seconds.iter().rev().enumerate().take(window).skip(skip) {
            let mut sums = second.sums;
            sums.error_seconds = u32::from(sums.errors > 0) << age.min(31);
            sums.slow_seconds = u32::from(sums.slow > 0) << age.min(31);
            total.add(&sums);
        }
    }

    /// Merges the latencies of the newest `window` seconds into `into`, without those of an earlier finding.
    pub(crate) fn unsettled_latency(&self, window: usize, into: &mut Sketch) {
        self.latency(window.min(self.unsettled), into);
    }

    /// Merges the latencies of the newest `window` seconds into `into`.
    pub(crate) fn latency(&self, window: usize, into: &mut Sketch) {
        self.seconds.iter().rev().take(window).for_each(|second| into.merge(&second.latency));
    }
}

fn judge(cell: &Cell, reference: &Reference, config: &Config) -> Second {
    let (traffic, probes) = (&cell.traffic, &cell.probes);
    let mut latency = traffic.latency.clone();
    latency.merge(&probes.latency);
    let limit = reference.limit(config);
    let beyond = |sketch: &Sketch| limit.map_or(0, |limit| sketch.count_above(limit));
    let errors = traffic.errors.saturating_add(probes.errors);
    let calls = cell.calls();
    let probes_bad = probes.errors.saturating_add(beyond(&probes.latency)).min(probes.calls());
    let mut sums = Sums {
        calls,
        errors,
        expected_errors: calls as f64 * reference.error_rate,
        refused: cell.refused,
        probes_good: probes.calls() - probes_bad,
        probes_bad,
        traffic: traffic.calls(),
        traffic_errors: traffic.errors,
        traffic_slow: beyond(&traffic.latency),
        ..Sums::default()
    };
    if let Some((q95, share)) = reference.slow {
        sums.timed = latency.count();
        sums.slow = latency.count_above(q95);
        sums.expected_slow = sums.timed as f64 * share;
    }
    Second { sums, latency }
}
