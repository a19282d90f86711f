//! A native histogram as it was exposed, and how it is made coarser where a job bounds its buckets.

/// A native histogram. Bucket `i` holds what is above base^(i-1) and not above base^i.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Native {
    /// −4 to 8, or [`Native::CUSTOM`].
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) sum: f64,
    /// Whether it does not count, but measures.
    pub(crate) gauge: bool,
    /// Whether its counts are not whole.
    pub(crate) is_float: bool,
    pub(crate) count: f64,
    /// The count, where it is whole.
    pub(crate) whole_count: u64,
    pub(crate) zero: f64,
    /// The count of zeros, where it is whole.
    pub(crate) whole_zero: u64,
    pub(crate) positive: Buckets,
    pub(crate) negative: Buckets,
    /// The upper bounds of custom buckets, without infinity.
    pub(crate) bounds: Vec<f64>,
}

/// The buckets of one side of zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Buckets {
    /// The index of the first.
    pub(crate) first: i32,
    /// Counts of a histogram of floats …
    pub(crate) counts: Vec<f64>,
    /// … or of another.
    pub(crate) whole: Vec<u64>,
}

/// The coarsest schema.
const COARSEST: i32 = -4;

impl Native {
    /// The schema of buckets whose bounds are given.
    pub(crate) const CUSTOM: i32 = -53;

    /// Merges buckets until there are at most `most` of them that hold something, where that is possible; zero is
    /// no bound. False where it is not.
    pub(crate) fn fit(&mut self, most: u64) -> bool {
        while most > 0 && self.filled() as u64 > most {
            if self.schema <= COARSEST {
                return false;
            }
            self.coarsen();
        }
        true
    }

    /// Merges buckets until one is at least `factor` times as wide as the one before it, where that is possible.
    pub(crate) fn widen(&mut self, factor: f64) {
        // A schema's factor is 2^(2^-schema).
        while factor > 1.0 && self.schema > COARSEST && 2_f64.powf(2_f64.powi(-self.schema)) < factor {
            self.coarsen();
        }
    }

    fn filled(&self) -> usize {
        self.positive.filled() + self.negative.filled()
    }

    fn coarsen(&mut self) {
        self.schema -= 1;
        self.positive.merge_pairs();
        self.negative.merge_pairs();
    }
}

impl Buckets {
    fn filled(&self) -> usize {
        let floats = self.counts.iter().filter(|count| **count != 0.0).count();
        floats + self.whole.iter().filter(|count| **count != 0).count()
    }

    /// Makes one bucket of two, as the next coarser schema has it: `2i-1` and `2i` become `i`.
    fn merge_pairs(&mut self) {
        let first = (self.first + 1) >> 1;
        let into = |index: usize| (((self.first + index as i32 + 1) >> 1) - first) as usize;
        let length = |count: usize| if count == 0 { 0 } else { into(count - 1) + 1 };
        let mut counts = vec![0.0; length(self.counts.len())];
        self.counts.iter().enumerate().for_each(|(index, count)| counts[into(index)] += count);
        let mut whole = vec![0_u64; length(self.whole.len())];
        for (index, count) in self.whole.iter().enumerate() {
            let bucket = &mut whole[into(index)];
            *bucket = bucket.saturating_add(*count);
        }
        *self = Self { first, counts, whole };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_merge_as_schemas_nest() {
        let mut side = Buckets { first: -1, counts: vec![], whole: vec![1, 2, 4, 8, 16] }; // -1 to 3
        side.merge_pairs(); // (-1, 0), (1, 2), (3, 4)
        assert_eq!(side, Buckets { first: 0, counts: vec![], whole: vec![3, 12, 16] });
        side.merge_pairs(); // (-1, 0), (1, 2)
        assert_eq!(side, Buckets { first: 0, counts: vec![], whole: vec![3, 28] });
    }

    #[test]
    fn bounds_on_buckets_lower_the_schema() {
        let positive = Buckets { first: 1, counts: vec![], whole: vec![1; 8] };
        let mut native = Native { schema: 3, positive, ..Native::default() };
        native.widen(1.1); // 2^(1/8) is 1.09, 2^(1/4) is 1.19
        assert_eq!((native.schema, native.positive.whole.len()), (2, 4));
        assert!(native.fit(3));
        assert_eq!((native.schema, native.positive.whole.as_slice()), (1, [4, 4].as_slice()));
        let mut hopeless = Native { schema: -4, ..native.clone() };
        assert!(!hopeless.fit(1));
    }
}
