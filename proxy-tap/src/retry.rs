//! The one retry policy: what may be sent again, and how much of it.
//!
//! Sent again is what the server did not process (no connection, a refused stream), what it declined
//! (503, gRPC `UNAVAILABLE`), and what broke off before an answer where the method is idempotent
//! (RFC 9110 section 9.2.2). The budget keeps retries from feeding an overload: a fifth of the requests
//! (by default) and three a second, so that a quiet service can retry at all.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::chance::Chance;

/// Retries per second that are always allowed.
const RESERVE_PER_S: f64 = 3.0;
/// Retries that past requests can have saved up.
const SAVED: f64 = 100.0;
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How an attempt failed, as far as a retry is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request did not reach the server, or was not processed.
    NotProcessed,
    /// The connection broke before the head of a response.
    Reset,
    /// 503 or `UNAVAILABLE`.
    Declined,
}

/// Whether a request that failed so may be sent again.
pub(crate) fn may_repeat(failure: Failure, method: &Method) -> bool {
    match failure {
        Failure::NotProcessed | Failure::Declined => true,
        Failure::Reset => method.is_idempotent(),
    }
}

/// How long to wait before retry number `n`, the first being 0.
pub(crate) fn pause(n: u32, chance: &Chance) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << n.min(8)).min(LONGEST_PAUSE).mul_f64(chance.f64())
}

/// How many retries are left, as requests come and time goes by.
#[derive(Debug)]
pub(crate) struct Budget {
    share: f64,
    saved: f64,
    reserve: f64,
    since: Instant,
}

impl Budget {
    /// A budget of `pct` per cent of the requests.
    pub(crate) fn new(pct: f64, now: Instant) -> Self {
        Self { share: pct / 100.0, saved: 0.0, reserve: RESERVE_PER_S, since: now }
    }

    /// A request came in.
    pub(crate) fn deposit(&mut self) {
        self.saved = (self.saved + self.share).min(SAVED);
    }

    /// Takes one retry, if there is one.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        self.reserve = (self.reserve + RESERVE_PER_S * elapsed).min(RESERVE_PER_S);
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
    fn only_idempotent_methods_are_repeated_after_a_reset() {
        assert!(may_repeat(Failure::Reset, &Method::GET));
        assert!(!may_repeat(Failure::Reset, &Method::POST));
        assert!(may_repeat(Failure::NotProcessed, &Method::POST));
        assert!(may_repeat(Failure::Declined, &Method::POST));
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let chance = Chance::new(7, "");
        for n in 0..40 {
            assert!(pause(n, &chance) <= LONGEST_PAUSE);
        }
    }
}
