//! Histograms: buckets of fixed bounds, and exponential ones whose number follows from what was seen.

use weir_model::sketch::SCALE;

use super::wire::{Fields, put_varint, zigzag};

/// A classic histogram; its last bucket has no bound. The bounds are the same at each call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Classic<const N: usize> {
    counts: [u64; N],
    sum: f64,
}

impl<const N: usize> Default for Classic<N> {
    fn default() -> Self {
        Self { counts: [0; N], sum: 0.0 }
    }
}

impl<const N: usize> Classic<N> {
    #[inline]
    pub(super) fn record(&mut self, bounds: &[f64], value: f64) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        self.counts[bucket.min(N - 1)] += 1;
        self.sum += value;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// As an export and a page need it.
    pub(super) fn view<'a>(&'a self, bounds: &'static [f64]) -> ClassicView<'a> {
        ClassicView { bounds, counts: &self.counts, sum: self.sum }
    }
}

/// A classic histogram of any number of buckets.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassicView<'a> {
    pub(super) bounds: &'static [f64],
    pub(super) counts: &'a [u64],
    pub(super) sum: f64,
}

impl ClassicView<'_> {
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Appends the fields of a `HistogramDataPoint`.
    pub(super) fn encode(&self, point: &mut Vec<u8>) {
        point.fixed64(4, self.count());
        point.double(5, self.sum);
        point
            .message(6, |packed| self.counts.iter().for_each(|n| packed.extend_from_slice(&n.to_le_bytes())));
        point
            .message(7, |packed| self.bounds.iter().for_each(|b| packed.extend_from_slice(&b.to_le_bytes())));
    }
}

/// How many buckets an exponential histogram makes room for at once.
const STEP: i32 = 16;

/// An exponential histogram at the scale that `SHIFT` takes from [`SCALE`]: each step halves the number of
/// buckets. Values outside `LOW..=HIGH` count in the nearest bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exponential<const SHIFT: i32, const LOW: i32, const HIGH: i32> {
    /// The bucket that the first count is of; a multiple of [`STEP`].
    first: i32,
    counts: Vec<u64>,
    zero: u64,
    count: u64,
    sum: f64,
}

/// Seconds, as the edge metric has them: 1 ns to 18 hours, buckets 4.4 % wide.
pub(super) type Seconds = Exponential<0, -480, 256>;
/// Milliseconds, as Istio's duration has them: 1 µs to 70 minutes, buckets 9 % wide, at most 272 of them.
pub(super) type Millis = Exponential<1, -80, 176>;

/// The fractions of `2^(k/16)` for k in 1 to 15, as a double holds them.
const SIXTEENTHS: [u64; 15] = [
    0x0_b558_6cf9_890f,
    0x1_72b8_3c7d_517b,
    0x2_387a_6e75_6238,
    0x3_06fe_0a31_b715,
    0x3_dea6_4c12_3422,
    0x4_bfda_d536_2a27,
    0x5_ab07_dd48_5429,
    0x6_a09e_667f_3bcd,
    0x7_a114_73eb_0187,
    0x8_ace5_422a_a0db,
    0x9_c491_82a3_f090,
    0xa_e89f_995a_d3ad,
    0xc_199b_dd85_529c,
    0xd_5818_dcfb_a487,
    0xe_a4af_a2a4_90da,
];

/// The bucket at [`SCALE`] of a value above zero: as `Sketch::index_of`, from the bits of the double and so
/// without a logarithm (opentelemetry.io, "Metrics Data Model", "Extract the Exponent").
#[inline]
fn index_of(value: f64) -> i32 {
    const { assert!(SCALE == 4) };
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1023;
    let fraction = bits & ((1 << 52) - 1);
    // A power of two is the upper bound of its bucket, which is the one below.
    let within = SIXTEENTHS.partition_point(|bound| *bound < fraction) as i32;
    exponent * 16 + within - i32::from(fraction == 0)
}

impl<const SHIFT: i32, const LOW: i32, const HIGH: i32> Exponential<SHIFT, LOW, HIGH> {
    #[inline]
    pub(super) fn record(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        if value > 0.0 {
            *self.at((index_of(value) >> SHIFT).clamp(LOW, HIGH)) += 1;
        } else {
            self.zero += 1;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (index, count) in (other.first..).zip(&other.counts).filter(|(_, count)| **count > 0) {
            *self.at(index) += count;
        }
        self.zero += other.zero;
        self.count += other.count;
        self.sum += other.sum;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    #[inline]
    fn at(&mut self, index: i32) -> &mut u64 {
        let within = index.wrapping_sub(self.first) as usize;
        if index < self.first || within >= self.counts.len() {
            self.make_room(index);
        }
        let within = (index - self.first) as usize;
        &mut self.counts[within]
    }

    #[cold]
    fn make_room(&mut self, index: i32) {
        let (low, past) = (index.div_euclid(STEP) * STEP, (index.div_euclid(STEP) + 1) * STEP);
        if self.counts.is_empty() {
            (self.first, self.counts) = (low, vec![0; STEP as usize]);
        } else if low < self.first {
            let more = (self.first - low) as usize;
            self.counts.splice(..0, std::iter::repeat_n(0, more));
            self.first = low;
        } else {
            self.counts.resize((past - self.first) as usize, 0);
        }
    }

    /// Appends the fields of an `ExponentialHistogramDataPoint`.
    pub(super) fn encode(&self, point: &mut Vec<u8>) {
        point.fixed64(4, self.count);
        point.double(5, self.sum);
        point.varint(6, zigzag(SCALE - SHIFT));
        point.fixed64(7, self.zero);
        let filled = |count: &u64| *count > 0;
        let Some(from) = self.counts.iter().position(filled) else { return };
        let to = self.counts.iter().rposition(filled).unwrap_or(from);
        point.message(8, |buckets| {
            buckets.varint(1, zigzag(self.first + from as i32));
            buckets.message(2, |counts| {
                self.counts[from..=to].iter().for_each(|count| put_varint(counts, *count));
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_model::Sketch;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_in_the_bucket_that_the_sketch_has_for_it(value in 1e-9_f64..6e4) {
            let index = index_of(value);
            // Where the two differ, the value is a bound but for the last bits of it.
            let is_bound = (Sketch::upper_bound(index.min(Sketch::index_of(value))) / value - 1.0).abs() < 1e-12;
            prop_assert!(index == Sketch::index_of(value) || is_bound, "{value}: {index}");
        }

        #[test]
        fn merging_is_recording_both(
            a in prop::collection::vec(-1.0_f64..1e7, 0..60),
            b in prop::collection::vec(1e-7_f64..1.0, 0..60),
        ) {
            let of = |values: &[f64]| {
                let mut histogram = Millis::default();
                values.iter().for_each(|value| histogram.record(*value));
                histogram
            };
            let (mut merged, both) = (of(&a), of(&[a.clone(), b.clone()].concat()));
            merged.merge(&of(&b));
            let encoded = |histogram: &Millis| {
                let mut out = vec![];
                Millis { sum: 0.0, ..histogram.clone() }.encode(&mut out);
                out
            };
            prop_assert_eq!(encoded(&merged), encoded(&both));
            prop_assert!((merged.sum - both.sum).abs() < 1e-6 * both.sum.abs().max(1.0));
            prop_assert!(both.counts.len() <= 272);
            prop_assert_eq!(both.counts.iter().sum::<u64>() + both.zero, both.count);
        }
    }

    #[test]
    fn powers_of_two_are_upper_bounds() {
        for (value, index) in
            [(1.0, -1), (1.000_001, 0), (2.0, 15), (0.5, -17), (0.040, Sketch::index_of(0.040))]
        {
            assert_eq!(index_of(value), index, "{value}");
        }
    }

    #[test]
    fn what_is_beyond_counts_at_the_ends() {
        let mut histogram = Millis::default();
        let values = [f64::INFINITY, 1e300, f64::MIN_POSITIVE, 5e-324, 0.0, -1.0, f64::NAN];
        values.iter().for_each(|value| histogram.record(*value));
        assert_eq!((histogram.count, histogram.zero), (7, 3));
        assert_eq!((*histogram.at(176), *histogram.at(-80)), (2, 2));
        assert!(histogram.counts.len() <= 272);
    }
}
