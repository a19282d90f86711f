//! Endpoints whose requests fail more often than those of the others.
//!
//! Two tests. **By chance**: with `n` calls of which `k` failed, and a failure rate `p` among the peers, an
//! endpoint is an outlier where so many failures would come by chance less often than once in 10⁹ tests,
//! by Chernoff's bound `P(X >= k) <= exp(-n·KL(k/n ‖ p))` (Hoeffding 1963), and where its rate exceeds
//! theirs by [`EFFECT`]. **By spread**, as Envoy does it: with enough endpoints of enough requests, one is an
//! outlier where its success rate is below `mean - stdev · factor / 1000` of all of them.

use weir_model::policy::destination::SuccessRate;

use super::recent::Sums;

/// Fewest calls in ten seconds that are judged, of the endpoint and of its peers.
const CALLS: u64 = 20;
/// Natural logarithm of the chance of a false ejection per test.
const LN_LEVEL: f64 = -20.7;
/// By how much the failure rate must exceed that of the peers.
const EFFECT: f64 = 0.1;
/// Failure rate that peers are taken to have at least.
const FLOOR: f64 = 0.01;

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

/// Those of `endpoints`, each with its requests and failures in an interval, whose success rate is below the
/// threshold; the worst first.
pub(super) fn below_spread<T>(
    policy: &SuccessRate,
    endpoints: impl Iterator<Item = (T, u64, u64)>,
) -> Vec<T> {
    let volume = u64::from(policy.request_volume).max(1);
    let mut rates: Vec<(T, f64)> = endpoints
        .filter(|(_, requests, _)| *requests >= volume)
        .map(|(endpoint, requests, bad)| (endpoint, 1.0 - bad as f64 / requests as f64))
        .collect();
    let n = rates.len();
    if n == 0 || n < policy.minimum_hosts as usize {
        return vec![];
    }
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / n as f64;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / n as f64;
    let threshold = mean - variance.sqrt() * f64::from(policy.stdev_factor) / 1_000.0;
    // What is equal but for rounding is not below.
    rates.retain(|(_, rate)| *rate < threshold - 1e-9);
    rates.sort_by(|a, b| a.1.total_cmp(&b.1));
    rates.into_iter().map(|(endpoint, _)| endpoint).collect()
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
    fn the_threshold_is_so_many_standard_deviations_below_the_mean() {
        let out = |policy: &SuccessRate, bad: &[u64]| {
            below_spread(policy, bad.iter().enumerate().map(|(i, bad)| (i, 100, *bad)))
        };
        let policy = SuccessRate::default();
        // Rates 1, 1, 1, 1, 0.5: mean 0.9, deviation 0.2, threshold 0.9 - 1.9 · 0.2 = 0.52.
        assert_eq!(out(&policy, &[0, 0, 50, 0, 0]), [2]);
        let wide = SuccessRate { stdev_factor: 2_001, ..policy.clone() };
        assert_eq!(out(&wide, &[0, 0, 50, 0, 0]), [0; 0], "threshold 0.4998");
        assert_eq!(out(&policy, &[0, 0, 50, 0]), [0; 0], "four are too few");
        let busy = SuccessRate { request_volume: 101, ..policy.clone() };
        assert_eq!(out(&busy, &[0, 0, 50, 0, 0]), [0; 0], "nobody had so many requests");
        assert_eq!(out(&policy, &[7; 9]), [0; 0], "alike");
        let narrow = SuccessRate { stdev_factor: 1_000, minimum_hosts: 0, ..policy };
        assert_eq!(out(&narrow, &[0, 0, 0, 60, 0, 80, 0, 0]), [5, 3], "the worst first");
        assert_eq!(out(&narrow, &[]), [0; 0]);
    }
}
