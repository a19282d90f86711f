//! The proxy's own judgement of an endpoint: failures in a row, and a success rate far below that of its
//! peers.
//!
//! The rate test counts: with `n` calls of which `k` failed, and a failure rate `p` among the peers, an
//! endpoint is an outlier where so many failures would come by chance less often than once in 10⁹ tests,
//! by Chernoff's bound `P(X >= k) <= exp(-n·KL(k/n ‖ p))` (Hoeffding 1963), and where its rate exceeds
//! theirs by [`EFFECT`]. A test runs once a second.

use std::time::Duration;

use tokio::time::Instant;

use super::recent::Sums;

/// Failures in a row that eject.
pub(super) const IN_A_ROW: u32 = 5;
/// First ejection; each that follows soon is twice as long …
const BASE: Duration = Duration::from_secs(10);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(300);
/// An endpoint that was left alone for this long begins anew.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Fewest calls in ten seconds that are judged, of the endpoint and of its peers.
const CALLS: u64 = 20;
/// Natural logarithm of the chance of a false ejection per test.
const LN_LEVEL: f64 = -20.7;
/// By how much the failure rate must exceed that of the peers.
const EFFECT: f64 = 0.1;
/// Failure rate that peers are taken to have at least.
const FLOOR: f64 = 0.01;

/// What the proxy's own judgement says of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Outlier {
    pub(super) in_a_row: u32,
    /// Ejected until then.
    until: Option<Instant>,
    /// Ejections so far that are remembered.
    pub(super) ejections: u32,
    /// End of the last one.
    ended: Option<Instant>,
}

impl Outlier {
    /// Counts a call that was no probe.
    pub(super) fn record(&mut self, ok: bool) {
        self.in_a_row = if ok { 0 } else { self.in_a_row.saturating_add(1) };
    }

    /// Ejects the endpoint; returns for how long.
    pub(super) fn eject(&mut self, now: Instant) -> Duration {
        let forgotten = self.ended.is_some_and(|ended| now.saturating_duration_since(ended) >= FORGOTTEN);
        self.ejections = if forgotten { 1 } else { self.ejections.saturating_add(1) };
        self.in_a_row = 0;
        let length = BASE.saturating_mul(1 << (self.ejections - 1).min(8)).min(LONGEST);
        self.until = Some(now + length);
        self.ended = self.until;
        length
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Ends an ejection before its time.
    pub(super) fn pardon(&mut self, now: Instant) {
        if self.is_ejected(now) {
            self.until = None;
            self.ended = Some(now);
        }
        self.in_a_row = 0;
    }
}

/// How far an endpoint with `own` outcomes is out of line with its `peers`; `None` where it is not.
pub(super) fn surprise(own: &Sums, peers: &Sums) -> Option<f64> {
    if own.calls < CALLS || peers.calls < CALLS || own.errors == 0 {
        return None;
    }
    // Laplace's estimate keeps few calls from looking like certainty.
    let p = ((peers.errors + 1) as f64 / (peers.calls + 2) as f64).max(FLOOR);
    let q = own.errors as f64 / own.calls as f64;
    if q < p + EFFECT {
        return None;
    }
    let rest = if q < 1.0 { (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln() } else { 0.0 };
    let ln_chance = -(own.calls as f64) * (q * (q / p).ln() + rest);
    (ln_chance <= LN_LEVEL).then_some(-ln_chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(calls: u64, errors: u64) -> Sums {
        Sums { calls, errors, ..Sums::default() }
    }

    #[test]
    fn few_calls_and_small_differences_are_no_outliers() {
        for (own, peers, out) in [
            ((19, 19), (100, 0), false),
            ((20, 20), (100, 0), true),
            ((20, 20), (19, 0), false),
            ((30, 3), (1_000, 5), false),
            ((100, 30), (1_000, 5), true),
            ((100, 30), (1_000, 280), false),
            ((10_000, 600), (100_000, 0), false),
            ((10_000, 1_200), (100_000, 0), true),
            ((50, 0), (100, 50), false),
        ] {
            let found = surprise(&sums(own.0, own.1), &sums(peers.0, peers.1));
            assert_eq!(found.is_some(), out, "{own:?} among {peers:?}: {found:?}");
        }
    }

    #[test]
    fn ejections_grow_with_repeats_and_are_forgotten_in_time() {
        let mut outlier = Outlier::default();
        let mut now = Instant::now();
        let mut lengths = vec![];
        for _ in 0..7 {
            let length = outlier.eject(now);
            assert!(outlier.is_ejected(now) && !outlier.is_ejected(now + length));
            lengths.push(length.as_secs());
            now += length;
        }
        assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(outlier.eject(now + FORGOTTEN).as_secs(), 10);
    }
}
