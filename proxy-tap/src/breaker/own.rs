//! The proxy's own outlier detection over all endpoints of a service: who is out of line, and whether enough
//! others are left to eject it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::hint::BreakerState;
use weir_model::policy::destination::OutlierDetection;

use super::decide::Room;
use super::outlier::{self, Window};
use super::recent::Sums;
use super::target::Target;
use super::{Breakers, rates};

/// Counts of requests are collected every so often for each endpoint there is: that takes hundreds of nanoseconds for
/// one, under the lock.
const COLLECT_AFTER: Duration = Duration::from_micros(50);

impl Breakers {
    /// Replaces the policy. Without detection nobody stays ejected by it.
    pub(crate) fn set_outlier(&mut self, now: Instant, policy: OutlierDetection) {
        self.codes.set(&policy);
        self.guards = outlier::guards(&policy);
        if !policy.enabled {
            self.endpoints.iter_mut().for_each(|target| target.outlier.pardon());
        }
        self.settings.outlier = policy;
        self.settle(now, vec![]);
    }

    /// What active checks say of an endpoint now: whether it is healthy, and whether the last check was good.
    /// One that they found unhealthy and that is well again is let go early where it was ejected besides: then probes
    /// decide, which are real requests. Checks that were good all along did not see what requests failed by, and end
    /// nothing.
    pub(crate) fn checked(&mut self, now: Instant, endpoint: &str, healthy: bool, good: bool) {
        let Some(target) = self.endpoints.get_mut(endpoint) else { return };
        let recovers = target.is_unhealthy && healthy && good;
        let ends = recovers && target.outlier.is_ejected(now);
        if ends {
            target.outlier.pardon();
        }
        if std::mem::replace(&mut target.is_unhealthy, !healthy) == healthy || ends {
            self.endpoints.wake(endpoint);
            self.settle(now, vec![]);
        }
    }

    /// Collects what requests counted without a lock.
    pub(super) fn collect(&mut self, now: Instant) {
        self.collects = now + COLLECT_AFTER * self.endpoints.len() as u32;
        let good = self.endpoints.iter_mut().map(|target| target.collect(now)).sum::<u64>();
        if good > 0 {
            self.edge.recent.succeeded(now, good);
        }
    }

    /// An interval is over: compares the endpoints with each other.
    pub(super) fn compare(&mut self, now: Instant) {
        let policy = &self.settings.outlier;
        if policy.enabled {
            let mut outliers = self.below_spread();
            if policy.compare_with_peers {
                outliers.extend(self.worst_outlier(now));
            }
            for target in self.endpoints.iter_mut() {
                if target.state() == BreakerState::Closed {
                    target.outlier.behaved();
                }
            }
            for name in outliers {
                self.try_eject(now, &name);
            }
        }
        self.endpoints.iter_mut().for_each(|target| target.outlier.window = Window::default());
    }

    /// Endpoints whose success rate is too many standard deviations below the mean, by their answers and,
    /// where those are counted apart, by the missing ones.
    fn below_spread(&self) -> Vec<Arc<str>> {
        let policy = &self.settings.outlier;
        let Some(success_rate) = &policy.success_rate else { return vec![] };
        let rate = |pick: fn(&Window) -> (u64, u64)| {
            let judged = self.endpoints.iter().filter(|(_, target)| target.has_traffic());
            let counts = judged.map(|(name, target)| {
                let (requests, bad) = pick(&target.outlier.window);
                (Arc::clone(name), requests, bad)
            });
            rates::below_spread(success_rate, counts)
        };
        let mut found = rate(|window| (window.answers, window.bad));
        if policy.split_external_local_origin_errors {
            found.extend(rate(|window| (window.answers + window.missing, window.missing)));
        }
        found
    }

    /// The endpoint that is furthest out of line with its peers.
    fn worst_outlier(&self, now: Instant) -> Option<Arc<str>> {
        if self.edge.recent.sums(now).errors == 0 {
            return None;
        }
        let sums: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(_, target)| target.has_traffic())
            .map(|(name, target)| (name, target.recent.sums(now)))
            .collect();
        let all = |pick: fn(&Sums) -> u64| sums.iter().map(|(_, sums)| pick(sums)).sum::<u64>();
        let (calls, errors) = (all(|sums| sums.calls), all(|sums| sums.errors));
        let surprise = |(name, own): &(&Arc<str>, Sums)| {
            let peers = Sums { calls: calls - own.calls, errors: errors - own.errors, ..Sums::default() };
            Some((Arc::clone(name), rates::surprise(own, &peers)?))
        };
        let worst = sums.iter().filter_map(surprise).max_by(|a, b| a.1.total_cmp(&b.1));
        worst.map(|(name, _)| name)
    }

    /// Ejects by the proxy's own judgement, if enough others are left. What is out already counts.
    pub(super) fn try_eject(&mut self, now: Instant, endpoint: &str) {
        let mut room = Room::new(self.endpoints.len());
        let from = |target: &Target| if target.is_unhealthy { 0.0 } else { 1.0 };
        for (name, target) in self.endpoints.awake() {
            if target.is_unhealthy {
                room.miss();
            } else if **name != *endpoint {
                // Nothing to decide here: what is out is out, with or without room.
                room.take(target.gate.share());
            }
        }
        let Some(target) = self.endpoints.get(endpoint) else { return };
        let fits = !target.outlier.is_ejected(now) && room.fits(from(target), 0.0, &self.guards);
        if let Some(target) = self.endpoints.wake(endpoint).filter(|_| fits) {
            target.eject(now, &self.settings.outlier);
            self.settle(now, vec![]);
        }
    }
}
