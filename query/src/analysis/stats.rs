//! The one probability the detectors need: how surprising it is to count at least `k` among `n`.

/// Most trials that are reckoned with; near the mean the terms shrink over about the root of it.
const TRIALS: u64 = 1_000_000;

/// Decimal logarithm of P(X ≥ k) for X binomial with `n` trials of probability `p`; never above zero.
///
/// The terms from `k` upwards are added relative to the first one, which is exact enough at any size
/// because they shrink geometrically above the mean; at or below the mean the answer is 0 (no surprise).
pub(crate) fn log10_tail(k: u64, n: u64, p: f64) -> f64 {
    if n > TRIALS {
        // Larger numbers are taken for a sample: less surprise, and a bounded loop.
        return log10_tail((k as f64 / n as f64 * TRIALS as f64) as u64, TRIALS, p);
    }
    if k == 0 || n == 0 || k as f64 <= n as f64 * p || p >= 1.0 {
        return 0.0;
    }
    if p <= 0.0 || k > n {
        return f64::NEG_INFINITY;
    }
    let odds = p / (1.0 - p);
    let (mut term, mut sum) = (1.0_f64, 1.0_f64);
    for i in k..n {
        term *= odds * (n - i) as f64 / (i + 1) as f64;
        sum += term;
        if term < sum * 1e-12 {
            break;
        }
    }
    let first = ln_choose(n, k) + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p();
    ((first + sum.ln()) / std::f64::consts::LN_10).min(0.0)
}

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Stirling's series to the fifth power, after shifting small arguments up (Abramowitz and Stegun 6.1.41).
fn ln_factorial(n: u64) -> f64 {
    let mut x = n as f64 + 1.0;
    let mut shift = 0.0;
    while x < 16.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let series = inverse * (1.0 / 12.0 - inverse * inverse * (1.0 / 360.0 - inverse * inverse / 1260.0));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(k: u64, n: u64, p: f64) -> f64 {
        let pmf = |i: u64| {
            let choose = (0..i).fold(1.0, |c, j| c * (n - j) as f64 / (j + 1) as f64);
            choose * p.powi(i as i32) * (1.0 - p).powi((n - i) as i32)
        };
        (k..=n).map(pmf).sum()
    }

    #[test]
    fn the_tail_is_the_sum_of_the_terms() {
        for n in [1, 5, 30, 100] {
            for k in 1..=n {
                for p in [0.01, 0.05, 0.3] {
                    if k as f64 <= n as f64 * p {
                        continue;
                    }
                    let (got, want) = (log10_tail(k, n, p), exact(k, n, p).log10());
                    assert!((got - want).abs() < 1e-6, "k={k} n={n} p={p}: {got} for {want}");
                }
            }
        }
    }

    #[test]
    fn odd_arguments_have_an_answer() {
        assert_eq!(log10_tail(0, 10, 0.1), 0.0);
        assert_eq!(log10_tail(3, 0, 0.1), 0.0);
        assert_eq!(log10_tail(1, 10, 0.5), 0.0);
        assert_eq!(log10_tail(10, 10, 1.0), 0.0);
        assert_eq!(log10_tail(1, 10, 0.0), f64::NEG_INFINITY);
        assert!(log10_tail(1_000_000, 1_000_000_000, 1e-4) < -9.0);
        assert!(log10_tail(u64::MAX, u64::MAX, 0.01).is_finite());
    }
}
