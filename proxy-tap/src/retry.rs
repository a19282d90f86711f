//! How many retries there may be beside first attempts.
//!
//! The budget keeps retries from feeding an overload: a fifth of the requests (by default) and three a second, so
//! that a quiet service can retry at all. What is sent again is the route's to say (`route/retry.rs`).

use tokio::time::Instant;
use weir_model::policy::Percent;
use weir_model::policy::destination::RetryBudget;

/// Retries that past requests can have saved up.
const SAVED: f64 = 100.0;

/// How many retries are left, as requests come and time goes by.
#[derive(Debug)]
pub(crate) struct Budget {
    share: f64,
    saved: f64,
    /// Retries per second that are always allowed.
    reserve_per_s: f64,
    reserve: f64,
    since: Instant,
}

impl Budget {
    /// A budget of `pct` per cent of the requests, and as many as the policy's default a second.
    pub(crate) fn new(pct: f64, now: Instant) -> Self {
        let percent = Percent::new(pct).unwrap_or(Percent::ALL);
        Self::of(&RetryBudget { percent, ..RetryBudget::default() }, now)
    }

    /// The budget that a policy gives.
    pub(crate) fn of(budget: &RetryBudget, now: Instant) -> Self {
        let (share, reserve_per_s) = (budget.percent.fraction(), f64::from(budget.min_per_second));
        Self { share, saved: 0.0, reserve_per_s, reserve: reserve_per_s, since: now }
    }

    /// A request came in.
    pub(crate) fn deposit(&mut self) {
        self.saved = (self.saved + self.share).min(SAVED);
    }

    /// Takes one retry, if there is one.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        self.reserve = (self.reserve + self.reserve_per_s * elapsed).min(self.reserve_per_s);
        self.since = self.since.max(now);
        let from = if self.reserve >= 1.0 { &mut self.reserve } else { &mut self.saved };
        let enough = *from >= 1.0;
        if enough {
            *from -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_budget_is_three_a_second_and_a_share_of_the_requests() {
        let start = Instant::now();
        let mut budget = Budget::new(20.0, start);
        let take = |budget: &mut Budget, now| {
            std::iter::repeat_with(|| budget.withdraw(now)).take(500).filter(|ok| *ok).count()
        };
        assert_eq!(take(&mut budget, start), 3);
        assert_eq!(take(&mut budget, start + Duration::from_secs(1)), 3);
        (0..100).for_each(|_| budget.deposit());
        let got = take(&mut budget, start + Duration::from_secs(1));
        assert!((19..=20).contains(&got), "{got}");
        (0..100_000).for_each(|_| budget.deposit());
        assert!(take(&mut budget, start + Duration::from_secs(1)) <= 100);
    }

    #[test]
    fn a_policy_can_take_the_reserve_away_or_grant_more() {
        let start = Instant::now();
        for (min_per_second, expected) in [(0, 0), (10, 10)] {
            let budget = RetryBudget { min_per_second, ..RetryBudget::default() };
            let mut budget = Budget::of(&budget, start);
            assert_eq!((0..50).filter(|_| budget.withdraw(start)).count(), expected);
        }
    }
}
