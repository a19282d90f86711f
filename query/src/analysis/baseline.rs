//! What is normal for an edge: its own past, older seconds counting less.

use std::collections::BTreeMap;

use weir_model::Sketch;

/// Decayed counts of calls, errors and latencies (of calls without error).
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Baseline {
    calls: f64,
    errors: f64,
    timed: f64,
    buckets: BTreeMap<i32, f64>,
}

impl Baseline {
    /// Adds a second of history.
    pub(crate) fn add(&mut self, calls: u64, errors: u64, latency: &Sketch) {
        self.calls += calls as f64;
        self.errors += errors as f64;
        for (index, count) in latency.buckets() {
            *self.buckets.entry(index).or_default() += count as f64;
            self.timed += count as f64;
        }
    }

    /// Adds another history.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.timed += other.timed;
        for (&index, &count) in &other.buckets {
            *self.buckets.entry(index).or_default() += count;
        }
    }

    /// Lets everything count `factor` of what it did. Buckets that fade below a thousandth of a call go.
    pub(crate) fn decay(&mut self, factor: f64) {
        self.calls *= factor;
        self.errors *= factor;
        self.buckets.retain(|_, count| {
            *count *= factor;
            *count > 1e-3
        });
        self.timed = self.buckets.values().sum();
    }

    /// Calls of history.
    pub(crate) fn calls(&self) -> f64 {
        self.calls
    }

    /// Calls of history whose latency is known.
    pub(crate) fn timed(&self) -> f64 {
        self.timed
    }

    /// The error rate, one standard error above its estimate.
    pub(crate) fn error_rate(&self) -> f64 {
        let seen = self.errors + 1.0;
        ((seen + seen.sqrt()) / self.calls.max(1.0)).min(1.0)
    }

    /// The latency in seconds below which a share `q` of the calls lies, as [`Sketch::quantile`].
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.timed;
        let mut below = 0.0;
        for (&index, &count) in &self.buckets {
            below += count;
            if below >= rank {
                return Some(middle(index));
            }
        }
        self.buckets.last_key_value().map(|(&index, _)| middle(index))
    }
}

/// The geometric middle of a sketch bucket, in seconds.
fn middle(index: i32) -> f64 {
    (Sketch::upper_bound(index) * Sketch::upper_bound(index - 1)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_agree_with_the_sketch_and_survive_decay() {
        let mut sketch = Sketch::default();
        (1..=1000).for_each(|ms| sketch.record(f64::from(ms) / 1e3));
        let mut baseline = Baseline::default();
        baseline.add(1000, 10, &sketch);
        for q in [0.5, 0.9, 0.95] {
            let (got, want) = (baseline.quantile(q).unwrap(), sketch.quantile(q).unwrap());
            assert!((got / want - 1.0).abs() < 0.05, "{q}: {got} for {want}");
        }
        baseline.decay(0.5);
        assert!((baseline.quantile(0.5).unwrap() - 0.5).abs() < 0.03);
        assert!((baseline.calls() - 500.0).abs() < 1e-9);
        assert!(baseline.error_rate() > 0.01 && baseline.error_rate() < 0.02);
    }

    #[test]
    fn nothing_known_has_no_quantile() {
        assert_eq!(Baseline::default().quantile(0.5), None);
        assert_eq!(Baseline::default().error_rate(), 1.0);
    }
}
