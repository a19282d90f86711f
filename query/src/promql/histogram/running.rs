//! Sums and means of many histograms, compensated count by count (Kahan, in Neumaier's variant).

use super::arithmetic::{Combined, Incompatible};
use super::{Buckets, Histogram, ResetHint};

/// Histograms added up: the sum so far, and what its counts have lost to rounding.
#[derive(Debug, Clone)]
pub struct Running {
    sum: Histogram,
    lost: Histogram,
    /// How many have been added.
    count: f64,
    /// Whether `sum` holds a mean already, because the sum would overflow.
    incremental: bool,
    /// Whether one of them was known to follow a reset, and one known not to.
    resets: (bool, bool),
}

impl Running {
    /// One histogram.
    pub fn of(first: &Histogram) -> Self {
        let lost = Histogram { count: 0.0, sum: 0.0, zero_count: 0.0, ..first.clone() };
        let lost =
            Histogram { positive: emptied(&first.positive), negative: emptied(&first.negative), ..lost };
        let mut running =
            Self { sum: first.clone(), lost, count: 1.0, incremental: false, resets: (false, false) };
        running.see(first.hint);
        running
    }

    fn see(&mut self, hint: ResetHint) {
        self.resets.0 |= hint == ResetHint::Reset;
        self.resets.1 |= hint == ResetHint::NotReset;
    }

    /// How many histograms there are.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Adds `other` to the sum.
    pub fn add(&mut self, other: &Histogram) -> Result<Combined, Incompatible> {
        self.count += 1.0;
        self.combine(other.clone())
    }

    /// Adds `other` to the mean.
    pub fn add_to_mean(&mut self, other: &Histogram) -> Result<Combined, Incompatible> {
        let before = self.count;
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.clone();
            let combined = next.combine(other.clone())?;
            if !overflows(&next.sum) {
                *self = next;
                return Ok(combined);
            }
            self.incremental = true;
            self.sum.divide(before);
            self.lost.divide(before);
        }
        let share = before / self.count;
        self.sum.scale(share);
        self.lost.scale(share);
        let mut part = other.clone();
        part.divide(self.count);
        self.combine(part)
    }

    /// Adds what `other` has summed up, or its mean where `mean` is asked for.
    pub fn merge(&mut self, other: Self, mean: bool) -> Result<Combined, Incompatible> {
        let (ours, theirs) = (self.count, other.count);
        self.resets = (self.resets.0 | other.resets.0, self.resets.1 | other.resets.1);
        if !mean || !(self.incremental || other.incremental) {
            let mut next = self.clone();
            let combined = next.combine(other.sum.clone())?;
            // What the other has lost to rounding counts, too: it may be all that is left once sums cancel.
            next.combine(Histogram { hint: other.sum.hint, ..other.lost.clone() })?;
            next.count = ours + theirs;
            if !mean || !overflows(&next.sum) {
                *self = next;
                return Ok(combined);
            }
        }
        let mut part = other.mean();
        part.scale(theirs / (ours + theirs));
        if !self.incremental {
            self.incremental = true;
            self.sum.divide(ours);
            self.lost.divide(ours);
        }
        self.sum.scale(ours / (ours + theirs));
        self.lost.scale(ours / (ours + theirs));
        self.count = ours + theirs;
        self.combine(part)
    }

    /// The sum of all.
    pub fn total(mut self) -> Histogram {
        pairs(&mut self.sum, &mut self.lost, |sum, lost| {
            if !sum.is_infinite() {
                *sum += *lost;
            }
        });
        self.sum
    }

    /// Their mean, to which they were added by [`Self::add_to_mean`].
    pub fn mean(mut self) -> Histogram {
        if !self.incremental {
            self.sum.divide(self.count);
            self.lost.divide(self.count);
        }
        self.total()
    }

    fn combine(&mut self, mut other: Histogram) -> Result<Combined, Incompatible> {
        self.see(other.hint);
        let mut combined = self.sum.align(&mut other)?;
        combined.conflicting_resets = self.resets == (true, true);
        self.lost.follow(&self.sum);
        for (ours, lost, theirs) in [
            (&mut self.sum.positive, &mut self.lost.positive, &mut other.positive),
            (&mut self.sum.negative, &mut self.lost.negative, &mut other.negative),
        ] {
            ours.cover(theirs);
            lost.cover(ours);
            // `lost` may reach further after a widening; its buckets there are zero.
            ours.cover(lost);
            theirs.cover(ours);
        }
        add(&mut self.sum.count, &mut self.lost.count, other.count);
        add(&mut self.sum.sum, &mut self.lost.sum, other.sum);
        add(&mut self.sum.zero_count, &mut self.lost.zero_count, other.zero_count);
        for (ours, lost, theirs) in [
            (&mut self.sum.positive, &mut self.lost.positive, &other.positive),
            (&mut self.sum.negative, &mut self.lost.negative, &other.negative),
        ] {
            let each = ours.counts.iter_mut().zip(&mut lost.counts).zip(&theirs.counts);
            each.for_each(|((sum, lost), value)| add(sum, lost, *value));
        }
        Ok(combined)
    }
}

fn emptied(buckets: &Buckets) -> Buckets {
    Buckets { offset: buckets.offset, counts: vec![0.0; buckets.counts.len()] }
}

fn add(sum: &mut f64, lost: &mut f64, value: f64) {
    let total = *sum + value;
    if total.is_infinite() {
        *lost = 0.0;
    } else if sum.abs() >= value.abs() {
        *lost += (*sum - total) + value;
    } else {
        *lost += (value - total) + *sum;
    }
    *sum = total;
}

fn overflows(histogram: &Histogram) -> bool {
    let counts = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    counts.chain([&histogram.count, &histogram.sum, &histogram.zero_count]).any(|value| value.is_infinite())
}

/// Calls `each` on every number of two histograms of one layout.
fn pairs(a: &mut Histogram, b: &mut Histogram, each: impl Fn(&mut f64, &mut f64)) {
    each(&mut a.count, &mut b.count);
    each(&mut a.sum, &mut b.sum);
    each(&mut a.zero_count, &mut b.zero_count);
    for (a, b) in [(&mut a.positive, &mut b.positive), (&mut a.negative, &mut b.negative)] {
        a.cover(b);
        b.cover(a);
        a.counts.iter_mut().zip(&mut b.counts).for_each(|(a, b)| each(a, b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_survive_a_merge_of_sums_that_cancel() {
        let mut one = Running::of(&histogram(3.1, 0, &[1.0]));
        one.add(&histogram(1e100, 0, &[1.0])).expect("compatible");
        let mut other = Running::of(&histogram(-1e100, 0, &[1.0]));
        other.add(&histogram(1.3, 0, &[1.0])).expect("compatible");
        one.merge(other, false).expect("compatible");
        assert_eq!(one.total().sum, 4.4);
    }

    fn histogram(sum: f64, offset: i32, counts: &[f64]) -> Histogram {
        let positive = Buckets { offset, counts: counts.to_vec() };
        Histogram { count: counts.iter().sum(), sum, positive, ..Histogram::default() }
    }

    #[test]
    fn small_parts_survive_large_ones_that_cancel() {
        let mut running = Running::of(&histogram(1.0, 0, &[1.0]));
        for sum in [1e100, 1.0, -1e100] {
            running.add(&histogram(sum, 3, &[1.0, 2.0])).expect("compatible");
        }
        let total = running.total();
        assert_eq!(total.sum, 2.0);
        assert_eq!(total.positive.get(0), 1.0);
        assert_eq!(total.positive.get(4), 6.0);
    }

    #[test]
    fn a_mean_of_numbers_whose_sum_overflows_is_finite() {
        let mut running = Running::of(&histogram(1e308, 0, &[1.0]));
        for _ in 0..3 {
            running.add_to_mean(&histogram(1e308, 0, &[1.0])).expect("compatible");
        }
        let mean = running.mean();
        assert!((mean.sum / 1e308 - 1.0).abs() < 1e-12, "{}", mean.sum);
        assert_eq!(mean.positive.get(0), 1.0);
    }
}
