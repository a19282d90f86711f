//! Histograms added, subtracted, scaled and compared.

use std::sync::Arc;

use super::{Buckets, CUSTOM, Histogram, ResetHint};
use crate::promql::number::almost_equal;

/// Two histograms cannot be combined: one has exponential buckets and the other custom ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incompatible;

/// What happened when histograms were combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combined {
    /// One was known to be reset and the other known not to be.
    pub conflicting_resets: bool,
    /// Custom bounds differed and were reconciled.
    pub reconciled: bool,
}

impl Histogram {
    /// Adds `other`.
    pub fn add(&mut self, other: &Self) -> Result<Combined, Incompatible> {
        self.combine(other, 1.0)
    }

    /// Takes `other` away; the result is a gauge.
    pub fn sub(&mut self, other: &Self) -> Result<Combined, Incompatible> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Self, sign: f64) -> Result<Combined, Incompatible> {
        let mut other = other.clone();
        let combined = self.align(&mut other)?;
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        self.zero_count += sign * other.zero_count;
        add_buckets(&mut self.positive, &other.positive, sign);
        add_buckets(&mut self.negative, &other.negative, sign);
        Ok(combined)
    }

    /// Brings both to one schema, zero bucket and bounds; the hint becomes that of the two combined.
    pub(super) fn align(&mut self, other: &mut Self) -> Result<Combined, Incompatible> {
        let mut combined = Combined::default();
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        (self.hint, combined.conflicting_resets) = merged_hint(self.hint, other.hint);
        if self.schema == CUSTOM {
            if self.bounds != other.bounds {
                combined.reconciled = true;
                let shared = shared_bounds(&self.bounds, &other.bounds);
                self.rebind(&shared);
                other.rebind(&shared);
            }
            return Ok(combined);
        }
        let schema = self.schema.min(other.schema);
        self.coarsen(schema);
        other.coarsen(schema);
        self.widen_zero(other);
        Ok(combined)
    }

    /// Takes on the layout that `leader`, of the same layout before, has come to.
    pub(super) fn follow(&mut self, leader: &Self) {
        if self.schema == CUSTOM {
            if self.bounds != leader.bounds {
                self.rebind(&leader.bounds);
            }
            return;
        }
        self.coarsen(leader.schema);
        if self.zero_threshold < leader.zero_threshold {
            self.absorb_zero(leader.zero_threshold);
        }
    }

    /// Sums custom buckets into those of `shared`, some of the bounds there are.
    fn rebind(&mut self, shared: &Arc<[f64]>) {
        self.positive = rebound(&self.positive, &self.bounds, shared);
        self.bounds = Arc::clone(shared);
    }

    /// All counts and the sum times `factor`.
    pub fn scale(&mut self, factor: f64) {
        let counts = self.positive.counts.iter_mut().chain(&mut self.negative.counts);
        counts.chain([&mut self.count, &mut self.sum, &mut self.zero_count]).for_each(|c| *c *= factor);
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// All counts and the sum divided by `divisor`. By zero, empty buckets vanish and the rest is infinite.
    pub fn divide(&mut self, divisor: f64) {
        let counts = self.positive.counts.iter_mut().chain(&mut self.negative.counts);
        counts.filter(|c| **c != 0.0).for_each(|c| *c /= divisor);
        [&mut self.count, &mut self.sum, &mut self.zero_count].into_iter().for_each(|c| *c /= divisor);
        if divisor == 0.0 {
            self.positive = Buckets::default();
            self.negative = Buckets::default();
        }
        if divisor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Merges buckets to those of a coarser exponential schema.
    pub fn coarsen(&mut self, schema: i32) {
        if self.schema <= schema || self.is_custom() {
            return;
        }
        let shift = (self.schema - schema) as u32;
        self.positive = self.positive.coarser(shift);
        self.negative = self.negative.coarser(shift);
        self.schema = schema;
    }

    /// Makes the zero buckets of both equally wide, taking in the buckets that they reach.
    fn widen_zero(&mut self, other: &mut Self) {
        // Widening one past a filled bucket may reach further than the other: repeat until they agree.
        while self.zero_threshold != other.zero_threshold {
            let wide = self.zero_threshold.max(other.zero_threshold);
            let narrow = if self.zero_threshold < wide { &mut *self } else { &mut *other };
            narrow.widen_zero_to(wide);
        }
    }

    fn widen_zero_to(&mut self, threshold: f64) {
        let mut reach = threshold;
        for negative in [false, true] {
            let side = if negative { &self.negative } else { &self.positive };
            for (at, count) in side.counts.iter().enumerate() {
                let index = side.offset + at as i32;
                if *count != 0.0 && self.upper(index - 1) < threshold {
                    reach = reach.max(self.upper(index));
                }
            }
        }
        self.absorb_zero(reach);
    }

    /// Makes the zero bucket reach to `threshold`, the bound of a bucket, and takes in what it covers.
    fn absorb_zero(&mut self, threshold: f64) {
        for negative in [false, true] {
            let (offset, len) = {
                let side = if negative { &self.negative } else { &self.positive };
                (side.offset, side.counts.len())
            };
            for at in 0..len {
                if self.upper(offset + at as i32) <= threshold {
                    let side = if negative { &mut self.negative } else { &mut self.positive };
                    self.zero_count += std::mem::take(&mut side.counts[at]);
                }
            }
        }
        self.zero_threshold = threshold;
    }

    /// Whether `before` must have been reset to become `self`.
    pub fn reset_since(&self, before: &Self) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            // A gauge is never reset; asked anyway, look at the buckets.
            ResetHint::Gauge | ResetHint::Unknown => {}
        }
        if self.count < before.count || self.is_custom() != before.is_custom() {
            return true;
        }
        if self.is_custom() && self.bounds != before.bounds {
            let shared = shared_bounds(&self.bounds, &before.bounds);
            let now = rebound(&self.positive, &self.bounds, &shared);
            return fell(&rebound(&before.positive, &before.bounds, &shared), &now);
        }
        if self.schema > before.schema {
            return true;
        }
        let mut old = before.clone();
        old.coarsen(self.schema);
        if self.zero_threshold < old.zero_threshold {
            return true;
        }
        if self.zero_threshold > old.zero_threshold {
            old.widen_zero_to(self.zero_threshold);
            if old.zero_threshold != self.zero_threshold {
                return true;
            }
        }
        self.zero_count < old.zero_count
            || fell(&old.positive, &self.positive)
            || fell(&old.negative, &self.negative)
    }

    /// Whether both hold the same counts, within a relative `tolerance`.
    pub fn agrees(&self, other: &Self, tolerance: f64) -> bool {
        let near = |a: f64, b: f64| almost_equal(a, b, tolerance);
        let sides = |a: &Buckets, b: &Buckets| {
            let (a, b) = (a.trimmed(), b.trimmed());
            a.counts.len() == b.counts.len()
                && (a.counts.is_empty() || a.offset == b.offset)
                && a.counts.iter().zip(&b.counts).all(|(x, y)| near(*x, *y))
        };
        self.schema == other.schema
            && near(self.count, other.count)
            && near(self.sum, other.sum)
            && near(self.zero_count, other.zero_count)
            && (self.is_custom() || near(self.zero_threshold, other.zero_threshold))
            && self.bounds.len() == other.bounds.len()
            && self.bounds.iter().zip(other.bounds.iter()).all(|(x, y)| near(*x, *y))
            && sides(&self.positive, &other.positive)
            && sides(&self.negative, &other.negative)
    }
}

fn merged_hint(a: ResetHint, b: ResetHint) -> (ResetHint, bool) {
    match (a, b) {
        _ if a == b => (a, false),
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
        (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
        _ => (ResetHint::Unknown, true),
    }
}

/// Whether a bucket of `now` holds less than in `before`.
fn fell(before: &Buckets, now: &Buckets) -> bool {
    before.counts.iter().zip(before.offset..).any(|(count, index)| now.get(index) < *count)
}

fn add_buckets(to: &mut Buckets, from: &Buckets, sign: f64) {
    let from = from.trimmed();
    if from.counts.is_empty() {
        return;
    }
    *to = to.trimmed();
    to.cover(&from);
    let start = (from.offset - to.offset) as usize;
    for (to, from) in to.counts[start..].iter_mut().zip(&from.counts) {
        *to += sign * from;
    }
}

impl Buckets {
    /// Adds empty buckets so that all those of `other` are there.
    pub(super) fn cover(&mut self, other: &Self) {
        if other.counts.is_empty() {
            return;
        }
        if self.counts.is_empty() {
            self.offset = other.offset;
        }
        if other.offset < self.offset {
            let gap = (self.offset - other.offset) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0.0, gap));
            self.offset = other.offset;
        }
        let end = (other.offset - self.offset) as usize + other.counts.len();
        self.counts.resize(self.counts.len().max(end), 0.0);
    }

    /// The buckets of a schema that is coarser by `shift`.
    fn coarser(&self, shift: u32) -> Self {
        let target = |index: i32| ((index - 1) >> shift) + 1;
        if self.counts.is_empty() {
            return Self::default();
        }
        let offset = target(self.offset);
        let last = target(self.offset + self.counts.len() as i32 - 1);
        let mut counts = vec![0.0; (last - offset + 1) as usize];
        for (at, count) in self.counts.iter().enumerate() {
            counts[(target(self.offset + at as i32) - offset) as usize] += count;
        }
        Self { offset, counts }
    }
}

fn shared_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    a.iter().copied().filter(|bound| b.contains(bound)).collect()
}

/// Counts of buckets with bounds `from`, summed into those of `to`, which are some of them.
fn rebound(buckets: &Buckets, from: &[f64], to: &[f64]) -> Buckets {
    let mut counts = vec![0.0; to.len() + 1];
    for (count, index) in buckets.counts.iter().zip(buckets.offset..) {
        let bound = usize::try_from(index).ok().and_then(|i| from.get(i));
        let at = bound.map_or(to.len(), |bound| to.partition_point(|t| t < bound));
        counts[at] += count;
    }
    Buckets { offset: 0, counts }
}
