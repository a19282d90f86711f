//! What a breaker tells the request path: two atomics, no lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// No probe is ever due.
const NEVER: u64 = u64::MAX;

/// The share of its traffic that a target gets, and when its next probe is due.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Bits of a float from 0 to 1.
    share: AtomicU64,
    /// What `next_ns` counts from; set before the first probe is scheduled.
    epoch: OnceLock<Instant>,
    next_ns: AtomicU64,
    every_ns: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            share: AtomicU64::new(1.0_f64.to_bits()),
            epoch: OnceLock::new(),
            next_ns: AtomicU64::new(NEVER),
            every_ns: AtomicU64::new(NEVER),
        }
    }
}

impl Gate {
    /// The share of normal traffic, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        f64::from_bits(self.share.load(Ordering::Relaxed))
    }

    /// Takes the probe that is due, if one is; of several callers one gets it.
    pub(crate) fn take_probe(&self, now: Instant) -> bool {
        let due = self.next_ns.load(Ordering::Relaxed);
        let Some(now) = self.ns(now).filter(|now| due != NEVER && *now >= due) else { return false };
        let next = now.saturating_add(self.every_ns.load(Ordering::Relaxed)).min(NEVER - 1);
        self.next_ns.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn set_share(&self, share: f64) {
        self.share.store(share.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// Lets a probe through at `first` and then every so often. A probe that is due sooner stays.
    pub(super) fn probe_every(&self, every: Duration, first: Instant) {
        self.epoch.get_or_init(|| first.checked_sub(every).unwrap_or(first));
        self.every_ns.store(nanos(every), Ordering::Relaxed);
        let first = self.ns(first).unwrap_or_default();
        self.next_ns.fetch_min(first, Ordering::Relaxed);
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
