//! What a breaker and the request path tell each other: atomics, no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::outcome::{Codes, Outcome};
use super::score::Score;

/// No probe is ever due.
const NEVER: u64 = u64::MAX;

/// How often a probe was scheduled at any endpoint of a service. While it stays the same, who waits for one
/// need not be found out again.
#[derive(Debug, Default)]
pub(crate) struct Schedule(AtomicU64);

impl Schedule {
    pub(crate) fn changes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The share of its traffic that a target gets, and when its next probe is due.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Bits of a float from 0 to 1.
    share: AtomicU64,
    /// What `next_ns` counts from; set before the first probe is scheduled.
    epoch: OnceLock<Instant>,
    next_ns: AtomicU64,
    every_ns: AtomicU64,
    schedule: OnceLock<Arc<Schedule>>,
    pub(super) score: Score,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            share: AtomicU64::new(1.0_f64.to_bits()),
            epoch: OnceLock::new(),
            next_ns: AtomicU64::new(NEVER),
            every_ns: AtomicU64::new(NEVER),
            schedule: OnceLock::new(),
            score: Score::default(),
        }
    }
}

impl Gate {
    /// The share of normal traffic, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        f64::from_bits(self.share.load(Ordering::Relaxed))
    }

    /// From now on, counts in `schedule` when probes are scheduled.
    pub(crate) fn report_to(&self, schedule: &Arc<Schedule>) {
        self.schedule.get_or_init(|| Arc::clone(schedule));
    }

    /// When the next probe is due; `None` where none is scheduled.
    pub(crate) fn next_probe(&self) -> Option<Instant> {
        let due = self.next_ns.load(Ordering::Relaxed);
        // A time that no clock reaches is none.
        self.epoch.get().filter(|_| due != NEVER)?.checked_add(Duration::from_nanos(due))
    }

    /// Takes the probe that is due, if one is; of several callers one gets it.
    pub(crate) fn take_probe(&self, now: Instant) -> bool {
        let due = self.next_ns.load(Ordering::Relaxed);
        let Some(now) = self.ns(now).filter(|now| due != NEVER && *now >= due) else { return false };
        let next = now.saturating_add(self.every_ns.load(Ordering::Relaxed)).min(NEVER - 1);
        self.next_ns.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Counts an outcome that changes no state; false for one that the breaker has to be told of.
    pub(crate) fn settles(&self, codes: &Codes, outcome: &Outcome) -> bool {
        let settles = !outcome.probe && codes.fault(outcome).is_none();
        if settles {
            self.score.succeeded();
        }
        settles
    }

    pub(crate) fn set_share(&self, share: f64) {
        self.share.store(share.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// Lets a probe through at `first` and then every so often. A probe that is due sooner stays.
    pub(crate) fn probe_every(&self, every: Duration, first: Instant) {
        self.epoch.get_or_init(|| first.checked_sub(every).unwrap_or(first));
        self.every_ns.store(nanos(every), Ordering::Relaxed);
        let first = self.ns(first).unwrap_or_default();
        self.next_ns.fetch_min(first, Ordering::Relaxed);
        if let Some(schedule) = self.schedule.get() {
            schedule.0.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether a probe would be let through at this time.
    #[cfg(test)]
    pub(super) fn is_probe_due(&self, at: Instant) -> bool {
        let due = self.next_ns.load(Ordering::Relaxed);
        due != NEVER && self.ns(at).is_some_and(|at| at >= due)
    }

    pub(super) fn no_probes(&self) {
        self.next_ns.store(NEVER, Ordering::Relaxed);
    }

    fn ns(&self, at: Instant) -> Option<u64> {
        self.epoch.get().map(|epoch| nanos(at.saturating_duration_since(*epoch)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER - 1).min(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_one_at_a_time_and_never_more_often_than_said() {
        let (gate, start) = (Gate::default(), Instant::now());
        assert!(!gate.take_probe(start + Duration::from_secs(100)), "a closed gate has none");
        gate.probe_every(Duration::from_secs(4), start + Duration::from_secs(1));
        let taken = (0..200).filter(|i| gate.take_probe(start + Duration::from_millis(100 * i))).count();
        assert_eq!(taken, 5, "at 1, 5, 9, 13 and 17 s");
        gate.no_probes();
        assert!(!gate.take_probe(start + Duration::from_secs(100)));
    }

    #[test]
    fn the_share_stays_within_its_bounds() {
        let gate = Gate::default();
        assert!((gate.share() - 1.0).abs() < f64::EPSILON);
        gate.set_share(-3.0);
        assert!(gate.share().abs() < f64::EPSILON);
        gate.set_share(7.0);
        assert!((gate.share() - 1.0).abs() < f64::EPSILON);
    }
}
