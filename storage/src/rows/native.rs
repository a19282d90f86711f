//! Native histograms as Prometheus has them.

use super::histograms::{Counts, HistogramRow, Side};

/// The schema of histograms whose bounds are given.
pub const CUSTOM_BOUNDS: i32 = -53;

/// What is known of whether a histogram's counter was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    /// Nothing: look at the counts.
    #[default]
    Unknown,
    /// It was, just before.
    Reset,
    /// It was not.
    NotReset,
    /// It does not count: it is a gauge.
    Gauge,
}

impl ResetHint {
    /// The hint of that number, which is that of Prometheus' protocols and of the column `reset_hint`; unknown where
    /// there is none.
    pub fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Reset,
            2 => Self::NotReset,
            3 => Self::Gauge,
            _ => Self::Unknown,
        }
    }

    /// As `reset_hint` has it.
    pub(super) fn to_column(self) -> Option<i32> {
        match self {
            Self::Unknown => None,
            Self::Reset => Some(1),
            Self::NotReset => Some(2),
            Self::Gauge => Some(3),
        }
    }
}

/// A native histogram as Prometheus has it: bucket `i` of an exponential schema holds what is above base^(i-1) and
/// not above base^i; of custom bounds, bucket `i` holds what is not above bound `i`, counted from 0.
#[derive(Debug, Clone, Copy)]
pub struct Native<'a> {
    /// −4 to 8, or [`CUSTOM_BOUNDS`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Sum of what was observed; the stale marker ends the series.
    pub sum: f64,
    /// How many observations, and where.
    pub counts: Counts<'a>,
    /// The upper bounds of custom buckets.
    pub bounds: &'a [f64],
    /// What is known of counter resets.
    pub hint: ResetHint,
}

/// OTLP's `AggregationTemporality`.
const UNSPECIFIED: i32 = 0;
const CUMULATIVE: i32 = 2;

impl<'a> Native<'a> {
    /// What ends a series of histograms.
    pub fn stale() -> Self {
        let none = Side::default();
        Self {
            schema: 0,
            zero_threshold: 0.0,
            sum: f64::from_bits(super::STALE_BITS),
            counts: Counts::Whole { count: 0, zero: 0, positive: none, negative: Side::default() },
            bounds: &[],
            hint: ResetHint::Unknown,
        }
    }

    /// As its row holds it.
    pub fn row(&self) -> HistogramRow<'a> {
        let counts = if self.schema == CUSTOM_BOUNDS {
            self.counts
        } else {
            match self.counts {
                Counts::Whole { count, zero, positive, negative } => {
                    Counts::Whole { count, zero, positive: lower(positive), negative: lower(negative) }
                }
                Counts::Float { count, zero, positive, negative } => {
                    Counts::Float { count, zero, positive: lower(positive), negative: lower(negative) }
                }
            }
        };
        HistogramRow {
            temporality: if self.hint == ResetHint::Gauge { UNSPECIFIED } else { CUMULATIVE },
            scale: self.schema,
            sum: Some(self.sum),
            min: None,
            max: None,
            zero_threshold: self.zero_threshold,
            counts,
            bounds: self.bounds,
            hint: self.hint,
        }
    }
}

/// Columns number a bucket by its lower bound, Prometheus by its upper one.
fn lower<T>(side: Side<'_, T>) -> Side<'_, T> {
    let offset = if side.counts.is_empty() { 0 } else { side.offset.saturating_sub(1) };
    Side { offset, ..side }
}
