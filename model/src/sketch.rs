//! A mergeable latency sketch: an exponential histogram with a fixed base, so that merging adds counts.
//!
//! The buckets are those of OpenTelemetry's exponential histogram at scale 4: bucket `i` holds values in
//! `(b^i, b^(i+1)]` with `b = 2^(1/16)`, about 4.4 % wide, so a quantile is off by at most 2.2 %
//! (opentelemetry.io, "Metrics Data Model", ExponentialHistogram). Values are seconds.

use std::collections::BTreeMap;

/// The OpenTelemetry scale of the buckets.
pub const SCALE: i32 = 4;
/// Buckets per doubling.
const PER_DOUBLING: f64 = 16.0;
/// Lowest and highest bucket: about 1 ns and 18 hours. Values beyond are counted in these.
const RANGE: std::ops::RangeInclusive<i32> = -480..=256;

/// Counts per bucket, the sum of the values, and the largest one seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sketch {
    buckets: BTreeMap<i32, u64>,
    zero: u64,
    sum: f64,
}

/// Why bytes are not a sketch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a sketch: {0}")]
pub struct BadSketch(&'static str);

impl Sketch {
    /// Counts one value in seconds. Zero and below go to the zero bucket; NaN is ignored.
    pub fn record(&mut self, seconds: f64) {
        self.record_many(seconds, 1);
    }

    /// Counts `n` values of the same size.
    pub fn record_many(&mut self, seconds: f64, n: u64) {
        if seconds.is_nan() || n == 0 {
            return;
        }
        self.sum += seconds * n as f64;
        if seconds <= 0.0 {
            self.zero += n;
        } else {
            *self.buckets.entry(Self::index_of(seconds)).or_default() += n;
        }
    }

    /// The bucket that holds `seconds`, which is above zero.
    pub fn index_of(seconds: f64) -> i32 {
        let index = (seconds.log2() * PER_DOUBLING).ceil() - 1.0;
        (index as i32).clamp(*RANGE.start(), *RANGE.end())
    }

    /// The upper bound of bucket `index`, in seconds.
    pub fn upper_bound(index: i32) -> f64 {
        (f64::from(index + 1) / PER_DOUBLING).exp2()
    }

    /// Adds `count` values to bucket `index`; for decoders, which add the sum with [`Self::add_sum`].
    pub fn add_bucket(&mut self, index: i32, count: u64) {
        if count > 0 {
            *self.buckets.entry(index.clamp(*RANGE.start(), *RANGE.end())).or_default() += count;
        }
    }

    /// Adds to the count of values at or below zero.
    pub fn add_zero(&mut self, count: u64) {
        self.zero += count;
    }

    /// Adds to the sum of the values, in seconds.
    pub fn add_sum(&mut self, seconds: f64) {
        self.sum += seconds;
    }

    /// Adds everything `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (&index, &count) in &other.buckets {
            *self.buckets.entry(index).or_default() += count;
        }
        self.zero += other.zero;
        self.sum += other.sum;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.zero + self.buckets.values().sum::<u64>()
    }

    /// How many values were at or below zero.
    pub fn zero_count(&self) -> u64 {
        self.zero
    }

    /// Sum of the values in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.zero == 0 && self.buckets.is_empty()
    }

    /// The buckets with a count, lowest first.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.buckets.iter().map(|(&index, &count)| (index, count))
    }

    /// The value in seconds below which a share `q` (0 to 1) of the values lies: the geometric middle
    /// of its bucket. `None` where nothing was counted.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * (count - 1) as f64).round() as u64;
        let mut below = self.zero;
        if rank < below {
            return Some(0.0);
        }
        for (&index, &n) in &self.buckets {
            below += n;
            if rank < below {
                return Some(((f64::from(index) + 0.5) / PER_DOUBLING).exp2());
            }
        }
        None
    }

    /// How many values lie in buckets wholly above `seconds`.
    pub fn count_above(&self, seconds: f64) -> u64 {
        if seconds <= 0.0 {
            return self.buckets.values().sum();
        }
        self.buckets.range(Self::index_of(seconds) + 1..).map(|(_, n)| n).sum()
    }

    /// The sketch as bytes, as the column `edges.sketch` holds it: version 1, sum as little-endian
    /// float, then varints: zero count, number of buckets, and per bucket the zigzag difference from
    /// the previous index and the count.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 3 * self.buckets.len());
        out.push(1);
        out.extend_from_slice(&self.sum.to_le_bytes());
        put_varint(&mut out, self.zero);
        put_varint(&mut out, self.buckets.len() as u64);
        let mut previous = 0_i32;
        for (&index, &count) in &self.buckets {
            let step = i64::from(index) - i64::from(previous);
            put_varint(&mut out, ((step << 1) ^ (step >> 63)) as u64);
            put_varint(&mut out, count);
            previous = index;
        }
        out
    }

    /// The sketch that [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadSketch> {
        let (&version, rest) = bytes.split_first().ok_or(BadSketch("empty"))?;
        if version != 1 {
            return Err(BadSketch("unknown version"));
        }
        let (sum, mut rest) = rest.split_first_chunk::<8>().ok_or(BadSketch("cut short"))?;
        let mut sketch = Self { sum: f64::from_le_bytes(*sum), ..Self::default() };
        sketch.zero = take_varint(&mut rest)?;
        let mut index = 0_i64;
        for _ in 0..take_varint(&mut rest)? {
            let step = take_varint(&mut rest)?;
            index = index.saturating_add((step >> 1) as i64 ^ -((step & 1) as i64));
            let index = i32::try_from(index).map_err(|_| BadSketch("bucket out of range"))?;
            let count = take_varint(&mut rest)?;
            sketch.add_bucket(index, count);
        }
        rest.is_empty().then_some(sketch).ok_or(BadSketch("bytes after the end"))
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, BadSketch> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(BadSketch("cut short"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(BadSketch("number too long"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quantile_is_within_its_bucket(mut values in prop::collection::vec(1e-6_f64..100.0, 1..200), q in 0.0_f64..=1.0) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|v| sketch.record(*v));
            values.sort_by(f64::total_cmp);
            let exact = values[(q * (values.len() - 1) as f64).round() as usize];
            let got = sketch.quantile(q).unwrap();
            prop_assert!((got / exact - 1.0).abs() < 0.023, "{got} for {exact}");
        }

        #[test]
        fn merging_is_recording_both(a in prop::collection::vec(-1.0_f64..10.0, 0..50), b in prop::collection::vec(0.0_f64..10.0, 0..50)) {
            let mut left = Sketch::default();
            let mut right = Sketch::default();
            let mut both = Sketch::default();
            a.iter().for_each(|v| { left.record(*v); both.record(*v); });
            b.iter().for_each(|v| { right.record(*v); both.record(*v); });
            left.merge(&right);
            prop_assert_eq!(left.count(), both.count());
            prop_assert!((left.sum() - both.sum()).abs() < 1e-9);
            prop_assert!(left.buckets().eq(both.buckets()));
        }

        #[test]
        fn bytes_round_trip(values in prop::collection::vec(0.0_f64..1e4, 0..100)) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|v| sketch.record(*v));
            prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch));
        }

        #[test]
        fn hostile_bytes_are_refused_not_trusted(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Sketch::from_bytes(&bytes);
        }
    }

    #[test]
    fn bounds_are_open_below_and_closed_above() {
        assert_eq!(Sketch::index_of(1.0), -1);
        assert_eq!(Sketch::index_of(1.000_001), 0);
        assert!((Sketch::upper_bound(15) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn count_above_leaves_out_the_bucket_of_the_bound() {
        let mut sketch = Sketch::default();
        for ms in [1.0, 2.0, 4.0, 8.0] {
            sketch.record(ms / 1e3);
        }
        assert_eq!(sketch.count_above(0.003), 2);
        assert_eq!(sketch.count_above(0.0), 4);
        assert_eq!(sketch.count_above(1.0), 0);
    }
}
