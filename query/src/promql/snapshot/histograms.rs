//! Rows of `histograms` as the native histograms that PromQL knows.
//!
//! A delta is read as a counter that was reset just before: the increase between two of them is then what it says, and
//! their start times tell the rest. What is finer than Prometheus' finest schema is made coarser.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray};
use arrow::compute::cast;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use weir_storage::rows::{self, STALE_BITS};

use crate::promql::error::Error;
use crate::promql::histogram::{Buckets, CUSTOM, FINEST, Histogram, ResetHint};
use crate::promql::source::too_many;

/// The columns that histograms are read from.
pub(super) const COLUMNS: [&str; 19] = [
    "series_id",
    "time",
    "start_time",
    "temporality",
    "scale",
    "count",
    "sum",
    "zero_threshold",
    "zero_count",
    "positive_offset",
    "positive_counts",
    "negative_offset",
    "negative_counts",
    "custom_bounds",
    "count_float",
    "zero_count_float",
    "positive_counts_float",
    "negative_counts_float",
    "reset_hint",
];

/// OTLP's `AggregationTemporality`.
const DELTA: i32 = 1;

/// A histogram as read; none where its series ends.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) time: i64,
    pub(super) start: i64,
    /// The write that it came with: later ones win.
    pub(super) rank: u64,
    pub(super) histogram: Option<Arc<Histogram>>,
}

/// Histograms gathered per series.
#[derive(Debug)]
pub(super) struct Histograms {
    series: Vec<Vec<Read>>,
    limit: usize,
    pub(super) left: usize,
    /// The bounds that were read last: those of one series are mostly the same.
    bounds: Arc<[f64]>,
}

impl Histograms {
    /// None yet, of so many series.
    pub(super) fn new(series: usize, limit: usize) -> Self {
        Self { series: vec![Vec::new(); series], limit, left: limit, bounds: Arc::default() }
    }

    /// Adds the rows of `batch`, of a write `rank`, whose series `place` knows and whose time is wanted.
    pub(super) fn append(
        &mut self,
        batch: &RecordBatch,
        rank: u64,
        place: impl Fn(i64, i64) -> Option<usize>,
    ) -> Result<(), Error> {
        let columns = Columns::of(batch)?;
        for row in 0..batch.num_rows() {
            let time = columns.time.value(row).div_euclid(1000);
            let Some(at) = place(columns.id.value(row), time) else { continue };
            let start =
                if columns.start.is_null(row) { 0 } else { columns.start.value(row).div_euclid(1000) };
            let histogram = columns.histogram(row, &mut self.bounds);
            let size =
                histogram.as_ref().map_or(1, |h| 1 + h.positive.counts.len() + h.negative.counts.len());
            self.left = self.left.checked_sub(size).ok_or_else(|| too_many(self.limit))?;
            self.series[at].push(Read { time, start, rank, histogram: histogram.map(Arc::new) });
        }
        Ok(())
    }

    /// In order of time, one of each.
    pub(super) fn sort(&mut self) {
        for series in &mut self.series {
            series.sort_by_key(|read| read.time);
            series.dedup_by(|next, kept| {
                let same = next.time == kept.time;
                if same {
                    std::mem::swap(next, kept);
                }
                same
            });
        }
    }

    /// Whether a number of the series `at`, written with the write `rank`, stays: what was written last wins, and goes
    /// here where that is the number.
    pub(super) fn yields_to(&mut self, at: usize, time: i64, rank: u64) -> bool {
        let series = &mut self.series[at];
        let Ok(place) = series.binary_search_by_key(&time, |read| read.time) else { return true };
        let later = series[place].rank < rank;
        if later {
            series.remove(place);
        }
        later
    }

    /// Those of the series `at`.
    pub(super) fn take(&mut self, at: usize) -> Vec<Read> {
        std::mem::take(&mut self.series[at])
    }
}

struct Columns<'a> {
    id: &'a arrow::array::Int64Array,
    time: arrow::array::TimestampMicrosecondArray,
    start: arrow::array::TimestampMicrosecondArray,
    temporality: &'a arrow::array::Int32Array,
    scale: &'a arrow::array::Int32Array,
    count: &'a arrow::array::Int64Array,
    sum: &'a arrow::array::Float64Array,
    zero_threshold: &'a arrow::array::Float64Array,
    zero_count: &'a arrow::array::Int64Array,
    offsets: [&'a arrow::array::Int32Array; 2],
    counts: [&'a ListArray; 2],
    bounds: &'a ListArray,
    count_float: &'a arrow::array::Float64Array,
    zero_count_float: &'a arrow::array::Float64Array,
    counts_float: [&'a ListArray; 2],
    reset_hint: &'a arrow::array::Int32Array,
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    batch.column_by_name(name).ok_or_else(|| Error::internal(format!("`histograms` has no column `{name}`")))
}

fn numbers<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a arrow::array::PrimitiveArray<T>, Error> {
    let numbers = column(batch, name)?.as_primitive_opt();
    numbers.ok_or_else(|| Error::internal(format!("column `{name}` of `histograms` has another type")))
}

fn lists<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ListArray, Error> {
    let lists = column(batch, name)?.as_list_opt();
    lists.ok_or_else(|| Error::internal(format!("column `{name}` of `histograms` has another type")))
}

fn times(batch: &RecordBatch, name: &str) -> Result<arrow::array::TimestampMicrosecondArray, Error> {
    // Files may hold a moment in another unit than hot rows do.
    let times = cast(column(batch, name)?, &weir_storage::schema::timestamp()).map_err(Error::internal)?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().clone())
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, Error> {
        Ok(Self {
            id: numbers::<Int64Type>(batch, "series_id")?,
            time: times(batch, "time")?,
            start: times(batch, "start_time")?,
            temporality: numbers::<Int32Type>(batch, "temporality")?,
            scale: numbers::<Int32Type>(batch, "scale")?,
            count: numbers::<Int64Type>(batch, "count")?,
            sum: numbers::<Float64Type>(batch, "sum")?,
            zero_threshold: numbers::<Float64Type>(batch, "zero_threshold")?,
            zero_count: numbers::<Int64Type>(batch, "zero_count")?,
            offsets: [numbers(batch, "positive_offset")?, numbers(batch, "negative_offset")?],
            counts: [lists(batch, "positive_counts")?, lists(batch, "negative_counts")?],
            bounds: lists(batch, "custom_bounds")?,
            count_float: numbers::<Float64Type>(batch, "count_float")?,
            zero_count_float: numbers::<Float64Type>(batch, "zero_count_float")?,
            counts_float: [lists(batch, "positive_counts_float")?, lists(batch, "negative_counts_float")?],
            reset_hint: numbers::<Int32Type>(batch, "reset_hint")?,
        })
    }

    /// The histogram in a row; none where it is the stale marker.
    fn histogram(&self, row: usize, last_bounds: &mut Arc<[f64]>) -> Option<Histogram> {
        let sum = if self.sum.is_null(row) { 0.0 } else { self.sum.value(row) };
        if sum.to_bits() == STALE_BITS {
            return None;
        }
        let scale = self.scale.value(row);
        if scale == CUSTOM {
            let list = self.bounds.is_valid(row).then(|| self.bounds.value(row));
            let bounds = list.as_ref().and_then(|list| list.as_primitive_opt::<Float64Type>());
            let bounds = bounds.map_or(&[][..], |bounds| bounds.values());
            if last_bounds.as_ref() != bounds {
                *last_bounds = bounds.into();
            }
        }
        let float = !self.count_float.is_null(row);
        let number = |floats: &arrow::array::Float64Array, whole: &arrow::array::Int64Array| {
            if float { floats.value(row) } else { whole.value(row) as f64 }
        };
        let hint = if self.reset_hint.is_null(row) { 0 } else { self.reset_hint.value(row) };
        Some(Histogram {
            schema: if scale == CUSTOM { CUSTOM } else { scale.min(FINEST) },
            count: number(self.count_float, self.count),
            sum,
            zero_threshold: self.zero_threshold.value(row),
            zero_count: number(self.zero_count_float, self.zero_count),
            positive: self.buckets(0, row, scale, float),
            negative: self.buckets(1, row, scale, float),
            bounds: if scale == CUSTOM { Arc::clone(last_bounds) } else { Arc::default() },
            hint: match rows::ResetHint::from_number(hint) {
                _ if self.temporality.value(row) == DELTA => ResetHint::Reset,
                rows::ResetHint::Unknown => ResetHint::Unknown,
                rows::ResetHint::Reset => ResetHint::Reset,
                rows::ResetHint::NotReset => ResetHint::NotReset,
                rows::ResetHint::Gauge => ResetHint::Gauge,
            },
        })
    }

    fn buckets(&self, side: usize, row: usize, scale: i32, float: bool) -> Buckets {
        let counts: Vec<f64> = if float {
            let list = self.counts_float[side].value(row);
            list.as_primitive_opt::<Float64Type>().map(|counts| counts.values().to_vec()).unwrap_or_default()
        } else {
            let list = self.counts[side].value(row);
            let whole = list.as_primitive_opt::<Int64Type>();
            whole.map(|whole| whole.values().iter().map(|count| *count as f64).collect()).unwrap_or_default()
        };
        if counts.is_empty() {
            return Buckets::default();
        }
        let offset = self.offsets[side].value(row);
        if scale == CUSTOM {
            return Buckets { offset, counts };
        }
        let (offset, counts) = coarser(offset, counts, scale.saturating_sub(FINEST).max(0) as u32);
        // Columns number a bucket by its lower bound, Prometheus by its upper one.
        Buckets { offset: offset.saturating_add(1), counts }
    }
}

/// Buckets whose base is squared so many times: those whose indexes differ in the last `steps` bits alone become one.
fn coarser(offset: i32, counts: Vec<f64>, steps: u32) -> (i32, Vec<f64>) {
    if steps == 0 {
        return (offset, counts);
    }
    let steps = steps.min(31);
    let first = i64::from(offset) >> steps;
    let last = (i64::from(offset) + counts.len() as i64 - 1) >> steps;
    let mut out = vec![0.0; (last - first + 1) as usize];
    for (index, count) in (i64::from(offset)..).zip(counts) {
        out[((index >> steps) - first) as usize] += count;
    }
    (first as i32, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finer_buckets_become_coarser_ones() {
        // At scale 9 the buckets -3, -2, …, 2 are halves of the buckets -2, -1, 0, 1 at scale 8.
        let counts = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(coarser(-3, counts.clone(), 1), (-2, vec![1.0, 5.0, 9.0, 6.0]));
        assert_eq!(coarser(-3, counts.clone(), 0), (-3, counts.clone()));
        assert_eq!(coarser(-3, counts, 12), (-1, vec![6.0, 15.0]));
    }
}
