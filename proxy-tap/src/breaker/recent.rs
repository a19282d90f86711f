//! What this proxy itself saw of a target in the last ten seconds.

use tokio::time::Instant;

/// Seconds that are remembered.
const SECONDS: usize = 10;

/// A second of a target, of which there are ten for each of ten thousand endpoints: so these are small.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// One more than the second it counts; 0 is none.
    stamp: u32,
    calls: u32,
    errors: u32,
    probes: u32,
    bad_probes: u32,
}

/// Calls by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Calls, probes aside.
    pub(super) calls: u64,
    /// Those that failed.
    pub(super) errors: u64,
    pub(super) probes: u64,
    pub(super) bad_probes: u64,
}

impl Sums {
    fn add(&mut self, slot: &Slot) {
        self.calls += u64::from(slot.calls);
        self.errors += u64::from(slot.errors);
        self.probes += u64::from(slot.probes);
        self.bad_probes += u64::from(slot.bad_probes);
    }

    /// Share of calls that succeeded, probes aside; `None` without any.
    pub(super) fn success_rate(&self) -> Option<f64> {
        (self.calls > 0).then(|| 1.0 - self.errors as f64 / self.calls as f64)
    }

    /// Share of calls and probes that succeeded; 1 without any.
    pub(super) fn overall(&self) -> f64 {
        1.0 - (self.errors + self.bad_probes) as f64 / (self.calls + self.probes).max(1) as f64
    }
}

/// Counts per second, the oldest overwritten.
#[derive(Debug)]
pub(super) struct Recent {
    since: Instant,
    slots: [Slot; SECONDS],
}

impl Recent {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, slots: [Slot::default(); SECONDS] }
    }

    fn stamp(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.since).as_secs() + 1).unwrap_or(u32::MAX)
    }

    pub(super) fn record(&mut self, now: Instant, ok: bool, probe: bool) {
        let (bad, slot) = (u32::from(!ok), self.slot(now));
        let (all, failed) = match probe {
            true => (&mut slot.probes, &mut slot.bad_probes),
            false => (&mut slot.calls, &mut slot.errors),
        };
        *all = all.saturating_add(1);
        *failed = failed.saturating_add(bad);
    }

    /// Counts calls that succeeded.
    pub(super) fn succeeded(&mut self, now: Instant, calls: u64) {
        let slot = self.slot(now);
        slot.calls = slot.calls.saturating_add(u32::try_from(calls).unwrap_or(u32::MAX));
    }

    fn slot(&mut self, now: Instant) -> &mut Slot {
        let stamp = self.stamp(now);
        let slot = &mut self.slots[stamp as usize % SECONDS];
        if slot.stamp != stamp {
            *slot = Slot { stamp, ..Slot::default() };
        }
        slot
    }

    pub(super) fn sums(&self, now: Instant) -> Sums {
        let oldest = self.stamp(now).saturating_sub(SECONDS as u32 - 1).max(1);
        let mut all = Sums::default();
        self.slots.iter().filter(|slot| slot.stamp >= oldest).for_each(|slot| all.add(slot));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ten_seconds_count_and_older_ones_do_not() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        recent.record(start, false, false);
        recent.record(start + Duration::from_secs(9), true, true);
        let at = |s| recent.sums(start + Duration::from_secs(s));
        assert_eq!(at(9), Sums { calls: 1, errors: 1, probes: 1, bad_probes: 0 });
        assert_eq!(at(10), Sums { probes: 1, ..Sums::default() });
        assert_eq!(at(30), Sums::default());
        assert_eq!((at(9).success_rate(), at(10).success_rate()), (Some(0.0), None));
        assert!((at(9).overall() - 0.5).abs() < 1e-9 && (at(30).overall() - 1.0).abs() < 1e-9);
    }
}
