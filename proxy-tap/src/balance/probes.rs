//! Which endpoint of a set is due for a probe, without asking each of them for every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::breaker::Schedule;
use crate::upstream::Endpoint;

/// No probe is due, however late it is.
const NEVER: u64 = u64::MAX;

/// The endpoints of a set that wait for probes.
#[derive(Debug)]
pub(super) struct Probes {
    epoch: Instant,
    schedule: Arc<Schedule>,
    /// The state of the schedule that `waiting` was collected in.
    seen: AtomicU64,
    waiting: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Nanoseconds from the epoch to the first of their probes.
    due: AtomicU64,
}

impl Probes {
    pub(super) fn new(schedule: Arc<Schedule>, epoch: Instant) -> Self {
        let (seen, due) = (AtomicU64::new(NEVER), AtomicU64::new(NEVER));
        Self { epoch, schedule, seen, waiting: ArcSwap::default(), due }
    }

    /// An endpoint that is due; of several callers one gets it. `all` are those of the set.
    pub(super) fn take<'a>(
        &self,
        all: impl Fn() -> Box<dyn Iterator<Item = &'a Arc<Endpoint>> + 'a>,
        now: Instant,
    ) -> Option<Arc<Endpoint>> {
        let changes = self.schedule.changes();
        if changes != self.seen.load(Ordering::Relaxed) {
            let waiting: Vec<_> =
                all().filter(|endpoint| endpoint.gate.next_probe().is_some()).cloned().collect();
            self.due.store(self.first(&waiting), Ordering::Relaxed);
            self.waiting.store(Arc::new(waiting));
            // A change since then has moved the schedule on, and the next request collects again.
            self.seen.store(changes, Ordering::Relaxed);
        }
        let due = self.due.load(Ordering::Relaxed);
        if due == NEVER || self.ns(now) < due {
            return None;
        }
        let waiting = self.waiting.load();
        let taken = waiting.iter().find(|endpoint| endpoint.gate.take_probe(now)).cloned();
        // Fails where somebody collected meanwhile, who knows better.
        let _ = self.due.compare_exchange(due, self.first(&waiting), Ordering::Relaxed, Ordering::Relaxed);
        taken
    }

    fn first(&self, waiting: &[Arc<Endpoint>]) -> u64 {
        let times = waiting.iter().filter_map(|endpoint| endpoint.gate.next_probe());
        times.map(|at| self.ns(at)).min().unwrap_or(NEVER)
    }

    fn ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(NEVER - 1)
    }
}
