//! Quantiles and fractions of classic histograms: cumulative counts per `le`.

use crate::promql::number::almost_equal;

/// Relative difference between neighbouring buckets that is taken for a rounding error.
const SMALL_DELTA: f64 = 1e-12;

/// How many observations were at most `upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClassicBucket {
    pub(super) upper: f64,
    pub(super) count: f64,
}

/// Sorts, merges buckets of one bound, and makes counts rise. Tells whether they had to be forced to; none
/// where the `+Inf` bucket is missing.
fn prepared(buckets: &mut Vec<ClassicBucket>) -> Option<bool> {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last()?.upper != f64::INFINITY {
        return None;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    let mut forced = false;
    let mut before = buckets.first()?.count;
    for bucket in buckets.iter_mut().skip(1) {
        if almost_equal(before, bucket.count, SMALL_DELTA) {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            forced = true;
        } else {
            before = bucket.count;
        }
    }
    Some(forced)
}

/// The `q` quantile, and whether counts had to be fixed for it.
pub(super) fn quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if !(0.0..=1.0).contains(&q) {
        return (if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, false);
    }
    let Some(forced) = prepared(buckets) else { return (f64::NAN, false) };
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, forced);
    }
    let mut rank = q * observations;
    let at = buckets[..last].partition_point(|bucket| bucket.count < rank);
    if at == last {
        return (buckets[last - 1].upper, forced);
    }
    let bucket = buckets[at];
    if at == 0 && bucket.upper <= 0.0 {
        return (bucket.upper, forced);
    }
    let (mut lower, mut count) = (0.0, bucket.count);
    if at > 0 {
        lower = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (lower + (bucket.upper - lower) * (rank / count), forced)
}

/// The share of observations between `lower` and `upper`.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, bool) {
    let Some(forced) = prepared(buckets) else { return (f64::NAN, false) };
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, forced);
    }
    if lower >= upper {
        return (0.0, forced);
    }
    ((rank_of(upper, buckets) - rank_of(lower, buckets)) / count, forced)
}

/// How many observations are taken to be below `value`.
fn rank_of(value: f64, buckets: &[ClassicBucket]) -> f64 {
    let mut below = 0.0;
    for (at, bucket) in buckets.iter().enumerate() {
        let start = match at {
            0 if bucket.upper > 0.0 => 0.0,
            0 => f64::NEG_INFINITY,
            at => buckets[at - 1].upper,
        };
        if value <= start {
            return below;
        }
        if value < bucket.upper {
            // Nothing is known about where in an endless bucket the observations are.
            return match (start.is_infinite(), bucket.upper.is_infinite()) {
                (true, _) => bucket.count,
                (_, true) => below,
                _ => below + (bucket.count - below) * (value - start) / (bucket.upper - start),
            };
        }
        below = bucket.count;
    }
    below
}
