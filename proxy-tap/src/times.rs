//! How long something took that happens now and then, as a histogram for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds; the last bucket has none.
const BOUNDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Times by bucket.
#[derive(Debug, Default)]
pub(crate) struct Times {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Times {
    pub(crate) fn record(&self, took: Duration) {
        let at = BOUNDS.partition_point(|bound| *bound < took.as_secs_f64());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Times up to each bound, the last of which is infinite.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0, |total, (bound, count)| {
            *total += count.load(Ordering::Relaxed);
            Some((bound, *total))
        })
    }

    /// Seconds altogether.
    pub(crate) fn sum_s(&self) -> f64 {
        self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_all_buckets_that_it_fits_into() {
        let times = Times::default();
        [5, 6, 2_000].iter().for_each(|ms| times.record(Duration::from_millis(*ms)));
        let of = |bound: f64| times.buckets().find(|(own, _)| *own >= bound).unwrap().1;
        assert_eq!([0.001, 0.005, 0.01, 1.0, 9.0].map(of), [0, 1, 2, 2, 3]);
        assert!((times.sum_s() - 2.011).abs() < 1e-9);
    }
}
