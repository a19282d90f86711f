//! What requests write and the breaker reads: counts of one endpoint, without a lock.
//!
//! A success of an ordinary request changes no state: it ends runs of failures and adds to a count. So it is
//! written here by the request itself, and the breaker collects the count when it next looks, at the latest at
//! its tick. Everything else goes to the breaker at once, under its lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::outcome::Fault;

/// Counts of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Score {
    /// Successes that the breaker has not collected.
    good: AtomicU64,
    /// Faults in a row, by the counter of the policy: 5xx, gateway errors, local-origin failures.
    server: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
}

/// Faults in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) server: u32,
    pub(super) gateway: u32,
    pub(super) local: u32,
}

impl Score {
    /// An ordinary request succeeded.
    pub(super) fn succeeded(&self) {
        self.good.fetch_add(1, Ordering::Relaxed);
        self.end_runs();
    }

    /// No fault is in a row with a later one.
    pub(super) fn end_runs(&self) {
        for run in [&self.server, &self.gateway, &self.local] {
            end(run);
        }
    }

    /// Counts a fault; returns the runs that it made longer, the others as 0.
    pub(super) fn failed(&self, fault: Fault) -> Runs {
        let longer = |run: &AtomicU32| run.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        match fault {
            // There was an answer: whoever gave it could be reached.
            Fault::Server | Fault::Gateway => end(&self.local),
            // It says nothing about what the server would have answered.
            Fault::LocalOrigin => return Runs { local: longer(&self.local), ..Runs::default() },
        }
        let server = longer(&self.server);
        let gateway = match fault {
            Fault::Gateway => longer(&self.gateway),
            _ => {
                end(&self.gateway);
                0
            }
        };
        Runs { server, gateway, local: 0 }
    }

    /// Takes the successes that were counted since the last call.
    pub(super) fn collect(&self) -> u64 {
        match self.good.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.good.swap(0, Ordering::Relaxed),
        }
    }
}

/// Written only where it changes something, so that threads that succeed share the line.
fn end(run: &AtomicU32) {
    if run.load(Ordering::Relaxed) != 0 {
        run.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_ended_by_what_contradicts_them() {
        let score = Score::default();
        let runs = |server, gateway, local| Runs { server, gateway, local };
        assert_eq!(score.failed(Fault::Gateway), runs(1, 1, 0));
        assert_eq!(score.failed(Fault::Gateway), runs(2, 2, 0));
        assert_eq!(score.failed(Fault::Server), runs(3, 0, 0), "a 500 ends a run of gateway errors");
        assert_eq!(score.failed(Fault::LocalOrigin), runs(0, 0, 1));
        assert_eq!(score.failed(Fault::LocalOrigin), runs(0, 0, 2));
        assert_eq!(score.failed(Fault::Gateway), runs(4, 1, 0), "no answer does not end a run of bad ones");
        assert_eq!(score.failed(Fault::LocalOrigin), runs(0, 0, 1), "but an answer ends one of none");
        score.succeeded();
        assert_eq!(score.failed(Fault::Gateway), runs(1, 1, 0));
        assert_eq!(score.failed(Fault::LocalOrigin), runs(0, 0, 1));
        assert_eq!((score.collect(), score.collect()), (1, 0));
    }
}
