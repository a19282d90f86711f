//! Quantiles and fractions of native histograms.

use crate::promql::histogram::{Bucket, Histogram};
use crate::promql::number::Kahan;

/// The function of a histogram called `name`.
pub(super) fn find(name: &str) -> Option<fn(&Histogram) -> f64> {
    Some(match name {
        "histogram_avg" => |h| h.sum / h.count,
        "histogram_count" => |h| h.count,
        "histogram_stddev" => |h| variance(h).sqrt(),
        "histogram_stdvar" => variance,
        "histogram_sum" => |h| h.sum,
        _ => return None,
    })
}

/// The variance, each observation taken to be in the middle of its bucket.
fn variance(histogram: &Histogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut total = Kahan::default();
    for bucket in histogram.buckets() {
        if bucket.count == 0.0 {
            continue;
        }
        let middle = if histogram.is_custom() {
            (bucket.lower + bucket.upper) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.lower * bucket.upper).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        total.add(bucket.count * (middle - mean) * (middle - mean));
    }
    total.total() / histogram.count
}

/// Buckets as interpolation sees them: the zero bucket reaches only to where there are observations.
fn spans(histogram: &Histogram) -> Vec<Bucket> {
    let mut all = histogram.buckets();
    let positive = histogram.positive.counts.iter().any(|c| *c != 0.0);
    let negative = histogram.negative.counts.iter().any(|c| *c != 0.0);
    for bucket in &mut all {
        if histogram.is_custom() {
            if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
                bucket.lower = 0.0;
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            if !negative && positive {
                bucket.lower = 0.0;
            }
            if negative && !positive {
                bucket.upper = 0.0;
            }
        }
    }
    all
}

/// The value at `share` of a bucket: evenly spread in custom and zero buckets, exponentially in others.
fn value_at(histogram: &Histogram, bucket: &Bucket, share: f64) -> f64 {
    let linear = histogram.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0);
    if linear {
        return bucket.lower + (bucket.upper - bucket.lower) * share;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * share).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - share)).exp2()
    }
}

/// The share of a bucket below `value`: the inverse of [`value_at`].
fn share_at(histogram: &Histogram, bucket: &Bucket, value: f64) -> f64 {
    let linear = histogram.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0);
    if linear {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    let at = value.abs().log2();
    if bucket.lower > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
}

/// The `q` quantile, and a remark where NaN observations matter.
pub(super) fn quantile(q: f64, histogram: &Histogram) -> (f64, Option<&'static str>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    let all = spans(histogram);
    let in_buckets: f64 = all.iter().map(|b| b.count).sum();
    let has_nan = histogram.sum.is_nan();
    let rank = q * histogram.count;
    if has_nan && in_buckets < rank {
        return (f64::NAN, Some("has NaN observations, result is NaN"));
    }
    let remark =
        (has_nan && in_buckets < histogram.count).then_some("has NaN observations, result is skewed higher");
    // From the nearer end, so that a rank right between two buckets lands beside filled ones; observations of
    // NaN are in no bucket, so that only counting from below is right with them.
    let from_below = has_nan || q < 0.5;
    let rank = if from_below { rank } else { (1.0 - q) * histogram.count };
    let mut passed = 0.0;
    let in_order: &mut dyn Iterator<Item = &Bucket> =
        if from_below { &mut all.iter() } else { &mut all.iter().rev() };
    let mut found = None;
    for bucket in in_order {
        passed += bucket.count;
        found = Some(bucket);
        if passed >= rank {
            break;
        }
    }
    let Some(bucket) = found else { return (f64::NAN, remark) };
    let share = if from_below { rank - (passed - bucket.count) } else { passed - rank } / bucket.count;
    let value = match () {
        () if histogram.is_custom() && bucket.lower == f64::NEG_INFINITY => bucket.upper,
        () if histogram.is_custom() && bucket.upper == f64::INFINITY => bucket.lower,
        () => value_at(histogram, bucket, share.clamp(0.0, 1.0)),
    };
    (value, remark)
}

/// The share of observations between `lower` and `upper`, and a remark where NaN observations matter.
pub(super) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, Option<&'static str>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    let all = spans(histogram);
    let in_buckets: f64 = all.iter().map(|b| b.count).sum();
    let remark = (histogram.sum.is_nan() && in_buckets < histogram.count)
        .then_some("has NaN observations, which are excluded from all fractions");
    if lower >= upper {
        return (0.0, remark);
    }
    let rank = |value: f64| {
        let mut below = 0.0;
        for bucket in &all {
            if value <= bucket.lower {
                break;
            }
            if value < bucket.upper {
                return match (bucket.lower.is_infinite(), bucket.upper.is_infinite()) {
                    (true, _) => below + bucket.count,
                    (_, true) => below,
                    _ => below + bucket.count * share_at(histogram, bucket, value),
                };
            }
            below += bucket.count;
        }
        below
    };
    ((rank(upper) - rank(lower)) / histogram.count, remark)
}
