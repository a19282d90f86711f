//! Rows of `histograms`: exponential buckets or custom bounds, counts whole or not.

use std::sync::Arc;

use arrow::array::{Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int64Type};
use arrow::error::ArrowError;

use super::native::ResetHint;
use super::samples::{Key, KeyColumns};
use crate::Table;
use crate::columns::{Doubles, Finished, Int32s, Lists, Sparse};

/// A histogram as its row holds it.
#[derive(Debug, Clone, Copy)]
pub struct HistogramRow<'a> {
    /// OTLP's: 1 delta, 2 cumulative.
    pub temporality: i32,
    /// The base of the buckets is 2^(2^-scale); [`CUSTOM_BOUNDS`](super::CUSTOM_BOUNDS) says that bounds are given.
    pub scale: i32,
    /// Sum of what was observed.
    pub sum: Option<f64>,
    /// The least that was observed.
    pub min: Option<f64>,
    /// The most that was observed.
    pub max: Option<f64>,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// How many observations, and where.
    pub counts: Counts<'a>,
    /// The upper bounds of custom buckets.
    pub bounds: &'a [f64],
    /// What is known of counter resets.
    pub hint: ResetHint,
}

/// How many observations there are, and how many in which bucket.
#[derive(Debug, Clone, Copy)]
pub enum Counts<'a> {
    /// In whole numbers.
    Whole {
        /// In all.
        count: u64,
        /// In the zero bucket.
        zero: u64,
        /// In buckets of positive values.
        positive: Side<'a, u64>,
        /// In buckets of negative values.
        negative: Side<'a, u64>,
    },
    /// In fractions.
    Float {
        /// In all.
        count: f64,
        /// In the zero bucket.
        zero: f64,
        /// In buckets of positive values.
        positive: Side<'a, f64>,
        /// In buckets of negative values.
        negative: Side<'a, f64>,
    },
}

/// The buckets of one sign.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a, T> {
    /// The index of the first bucket.
    pub offset: i32,
    /// The counts from there on.
    pub counts: &'a [T],
}

impl<T> Default for Side<'_, T> {
    fn default() -> Self {
        Self { offset: 0, counts: &[] }
    }
}

/// Rows of `histograms`; indexes of buckets are OTLP's, which are one below those of Prometheus.
#[derive(Debug, Default)]
pub struct HistogramRows {
    key: KeyColumns,
    temporality: Vec<i32>,
    scale: Vec<i32>,
    count: Vec<i64>,
    sum: Sparse<Doubles>,
    min: Sparse<Doubles>,
    max: Sparse<Doubles>,
    zero_threshold: Vec<f64>,
    zero_count: Vec<i64>,
    positive: SideColumns,
    negative: SideColumns,
    bounds: Sparse<Lists<Float64Type>>,
    count_float: Sparse<Doubles>,
    zero_count_float: Sparse<Doubles>,
    reset_hint: Sparse<Int32s>,
}

impl HistogramRows {
    /// Adds a row.
    pub fn push(&mut self, key: &Key<'_>, histogram: &HistogramRow<'_>) {
        let row = self.key.len();
        self.key.push(key);
        self.temporality.push(histogram.temporality);
        self.scale.push(histogram.scale);
        self.zero_threshold.push(histogram.zero_threshold);
        for (column, value) in
            [(&mut self.sum, histogram.sum), (&mut self.min, histogram.min), (&mut self.max, histogram.max)]
        {
            if let Some(value) = value {
                column.push(row, value);
            }
        }
        match histogram.counts {
            Counts::Whole { count, zero, positive, negative } => {
                self.count.push(to_long(count));
                self.zero_count.push(to_long(zero));
                self.positive.whole(&positive);
                self.negative.whole(&negative);
            }
            Counts::Float { count, zero, positive, negative } => {
                self.count.push(0);
                self.zero_count.push(0);
                self.count_float.push(row, count);
                self.zero_count_float.push(row, zero);
                self.positive.float(row, &positive);
                self.negative.float(row, &negative);
            }
        }
        if !histogram.bounds.is_empty() {
            self.bounds.push(row, histogram.bounds);
        }
        if let Some(hint) = histogram.hint.to_column() {
            self.reset_hint.push(row, hint);
        }
    }

    /// Says of the last row what no column does: see `point` in FORMAT.md.
    pub fn say(&mut self, name: &str, value: &str) {
        self.key.say(name, value);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.key.len() == 0
    }

    /// The rows as a batch.
    pub fn finish(self) -> Result<RecordBatch, ArrowError> {
        let (positive, positive_float) = (self.positive.whole, self.positive.float);
        let (negative, negative_float) = (self.negative.whole, self.negative.float);
        let values = |out: &mut Finished<'_>| {
            out.push(Arc::new(Int32Array::from(self.temporality)));
            out.push(Arc::new(Int32Array::from(self.scale)));
            out.push(Arc::new(Int64Array::from(self.count)));
            out.sparse(self.sum)?;
            out.sparse(self.min)?;
            out.sparse(self.max)?;
            out.push(Arc::new(Float64Array::from(self.zero_threshold)));
            out.push(Arc::new(Int64Array::from(self.zero_count)));
            out.push(Arc::new(Int32Array::from(self.positive.offset)));
            out.lists(positive)?;
            out.push(Arc::new(Int32Array::from(self.negative.offset)));
            out.lists(negative)?;
            out.sparse(self.bounds)
        };
        let floats = |out: &mut Finished<'_>| {
            out.sparse(self.count_float)?;
            out.sparse(self.zero_count_float)?;
            out.sparse(positive_float)?;
            out.sparse(negative_float)?;
            out.sparse(self.reset_hint)
        };
        self.key.finish(Table::Histograms, values, floats)
    }
}

/// The buckets of one sign: counts of a row are in one of both columns.
#[derive(Debug, Default)]
struct SideColumns {
    offset: Vec<i32>,
    whole: Lists<Int64Type>,
    float: Sparse<Lists<Float64Type>>,
}

impl SideColumns {
    fn whole(&mut self, side: &Side<'_, u64>) {
        self.offset.push(side.offset);
        self.whole.extend(side.counts.iter().map(|count| to_long(*count)));
    }

    fn float(&mut self, row: usize, side: &Side<'_, f64>) {
        self.offset.push(side.offset);
        self.whole.extend(std::iter::empty::<<Int64Type as ArrowPrimitiveType>::Native>());
        self.float.push(row, side.counts);
    }
}

fn to_long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
