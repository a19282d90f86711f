//! Native histograms: exponential buckets of a schema, or custom bounds.

mod arithmetic;
mod running;

use std::sync::Arc;

use weir_storage::rows;

pub use arithmetic::{Combined, Incompatible};
pub use running::Running;

/// The schema of histograms with custom bounds.
pub const CUSTOM: i32 = -53;
/// Finest schema.
pub const FINEST: i32 = 8;
/// Coarsest schema.
pub const COARSEST: i32 = -4;
/// Most buckets on one side: every power of the finest base within a double's range.
pub const BUCKETS: usize = 2 * 1100 * 256;

/// Whether a histogram counts up, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    /// Look at the buckets.
    #[default]
    Unknown,
    /// The counter was reset just before.
    Reset,
    /// It was not.
    NotReset,
    /// It is a gauge.
    Gauge,
}

/// Consecutive buckets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets {
    /// Index of the first.
    pub offset: i32,
    /// Their counts.
    pub counts: Vec<f64>,
}

/// A histogram with float counts. Bucket `i` of an exponential schema holds values in
/// `(base^(i-1), base^i]` with `base = 2^(2^-schema)`; of custom bounds, those up to bound `i`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// −4 to 8, or [`CUSTOM`].
    pub schema: i32,
    /// Observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in it.
    pub zero_count: f64,
    /// Buckets of positive values.
    pub positive: Buckets,
    /// Buckets of negative values, by magnitude.
    pub negative: Buckets,
    /// Upper bounds of custom buckets; the last bucket is open.
    pub bounds: Arc<[f64]>,
    /// How it counts.
    pub hint: ResetHint,
}

/// A bucket as a range of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Observations.
    pub count: f64,
}

impl Histogram {
    /// Whether the bounds are custom.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM
    }

    /// It as it is stored: with counts in fractions.
    pub fn native(&self) -> rows::Native<'_> {
        fn side(buckets: &Buckets) -> rows::Side<'_, f64> {
            rows::Side { offset: buckets.offset, counts: &buckets.counts }
        }
        rows::Native {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            counts: rows::Counts::Float {
                count: self.count,
                zero: self.zero_count,
                positive: side(&self.positive),
                negative: side(&self.negative),
            },
            bounds: &self.bounds,
            hint: match self.hint {
                ResetHint::Unknown => rows::ResetHint::Unknown,
                ResetHint::Reset => rows::ResetHint::Reset,
                ResetHint::NotReset => rows::ResetHint::NotReset,
                ResetHint::Gauge => rows::ResetHint::Gauge,
            },
        }
    }

    /// Upper bound of the magnitudes in bucket `index`.
    pub fn upper(&self, index: i32) -> f64 {
        if self.is_custom() {
            return match usize::try_from(index) {
                Ok(at) => self.bounds.get(at).copied().unwrap_or(f64::INFINITY),
                Err(_) => f64::NEG_INFINITY,
            };
        }
        // 2^(index · 2^-schema), split so that whole powers are exact.
        let exponent = f64::from(index) * 2f64.powi(-self.schema);
        if exponent >= 1024.0 {
            return if exponent == 1024.0 { f64::MAX } else { f64::INFINITY };
        }
        exponent.exp2()
    }

    /// The non-empty buckets in ascending order of value, the zero bucket among them.
    pub fn buckets(&self) -> Vec<Bucket> {
        let side = |buckets: &Buckets| -> Vec<Bucket> {
            let each = buckets.counts.iter().zip(buckets.offset..);
            let filled = each.filter(|(count, _)| **count != 0.0);
            filled
                .map(|(&count, i)| Bucket { lower: self.upper(i - 1), upper: self.upper(i), count })
                .collect()
        };
        let mut all: Vec<Bucket> = side(&self.negative)
            .into_iter()
            .rev()
            .map(|b| Bucket { lower: -b.upper, upper: -b.lower, count: b.count })
            .collect();
        if self.zero_count != 0.0 {
            let (lower, upper) = (-self.zero_threshold, self.zero_threshold);
            all.push(Bucket { lower, upper, count: self.zero_count });
        }
        all.extend(side(&self.positive));
        all
    }
}

impl Buckets {
    /// The count of bucket `index`.
    pub fn get(&self, index: i32) -> f64 {
        usize::try_from(index - self.offset).ok().and_then(|at| self.counts.get(at)).copied().unwrap_or(0.0)
    }

    /// Without empty buckets at either end.
    pub fn trimmed(&self) -> Self {
        let Some(first) = self.counts.iter().position(|c| *c != 0.0) else { return Self::default() };
        let last = self.counts.iter().rposition(|c| *c != 0.0).unwrap_or(first);
        Self { offset: self.offset + first as i32, counts: self.counts[first..=last].to_vec() }
    }
}

impl std::fmt::Display for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::promql::number::show;
        write!(f, "{{count:{}, sum:{}", show(self.count), show(self.sum))?;
        for bucket in self.buckets() {
            let (open, close) = if bucket.lower <= 0.0 && bucket.upper >= 0.0 && !self.is_custom() {
                ('[', ']')
            } else if bucket.upper < 0.0 {
                ('[', ')')
            } else {
                ('(', ']')
            };
            write!(f, ", {open}{},{}{close}:{}", show(bucket.lower), show(bucket.upper), show(bucket.count))?;
        }
        f.write_str("}")
    }
}

impl Histogram {
    /// The part below `bound` (or above it): buckets on the far side are emptied, that which holds the bound
    /// is shared out evenly.
    pub fn trimmed(&self, bound: f64, keep_below: bool) -> Self {
        let mut out = self.clone();
        let kept = |lower: f64, upper: f64| {
            let below = match () {
                () if bound >= upper => 1.0,
                () if bound <= lower => 0.0,
                () if lower.is_infinite() => 1.0,
                () if upper.is_infinite() => 0.0,
                () => (bound - lower) / (upper - lower),
            };
            if keep_below { below } else { 1.0 - below }
        };
        for (at, count) in out.positive.counts.iter_mut().enumerate() {
            let index = self.positive.offset + at as i32;
            *count *= kept(self.upper(index - 1), self.upper(index));
        }
        for (at, count) in out.negative.counts.iter_mut().enumerate() {
            let index = self.negative.offset + at as i32;
            *count *= kept(-self.upper(index), -self.upper(index - 1));
        }
        out.zero_count *= kept(-self.zero_threshold, self.zero_threshold);
        out.count = out.zero_count + out.positive.counts.iter().chain(&out.negative.counts).sum::<f64>();
        out
    }
}
