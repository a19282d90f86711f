//! The rows of a request: the columns of `samples` and `histograms` in the order of their schemas, and beside
//! them those of `exemplars` and `series`.

use std::sync::Arc;

use arrow::array::{Float64Array, Int32Array, Int64Array, ListArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use weir_model::{SeriesId, UnixNanos};
use weir_storage::Table;
use weir_storage::schema::{absent, list_of};

use super::super::columns::{Finished, Micros, Moment, Shorts, Sparse, SparseMap, Texts};
use super::described::{SeriesColumns, SeriesRow};
use super::exemplars::ExemplarColumns;
use super::points::{Exponential, PointKey, Rest, Side};
use super::stale;

/// All rows of a request but those of `series`.
#[derive(Debug, Default)]
pub(super) struct Rows {
    samples: SampleColumns,
    histograms: HistogramColumns,
    pub(super) exemplars: ExemplarColumns,
}

impl Rows {
    /// A row of `samples`; `rest` is what of the point this row says and no column does.
    pub(super) fn sample(&mut self, name: &str, id: SeriesId, at: &PointKey, value: f64, rest: &[Rest]) {
        self.samples.key.push(name, id, at, rest);
        self.samples.value.push(value);
    }

    pub(super) fn histogram(&mut self, name: &str, temporality: i32, id: SeriesId, point: &Exponential) {
        self.histograms.row(name, temporality, id, point);
    }

    /// The batches that have rows, those of `series` first.
    pub(super) fn finish<'a>(
        self,
        series: impl Iterator<Item = SeriesRow<'a>>,
    ) -> Result<Vec<(Table, RecordBatch)>, ArrowError> {
        let mut of_series = SeriesColumns::default();
        series.for_each(|row| of_series.row(row));
        let parts = [
            (Table::Series, of_series.finish()?),
            (Table::Samples, self.samples.finish()?),
            (Table::Histograms, self.histograms.finish()?),
            (Table::Exemplars, self.exemplars.finish()?),
        ];
        Ok(parts.into_iter().filter(|(_, batch)| batch.num_rows() > 0).collect())
    }
}

#[derive(Debug, Default)]
struct KeyColumns {
    rows: usize,
    metric: Sparse<Texts>,
    series_id: Vec<i64>,
    time: Moment,
    start_time: Sparse<Micros>,
    start_time_nanos: Sparse<Shorts>,
    /// What of a point its row says and no other column does.
    point: SparseMap<Texts>,
}

impl KeyColumns {
    fn push(&mut self, name: &str, id: SeriesId, at: &PointKey, rest: &[Rest]) {
        let row = self.rows;
        self.rows += 1;
        self.metric.push(row, name);
        self.series_id.push(id.to_column());
        self.time.push(at.time);
        // Zero is what OTLP calls unknown.
        if at.start > 0 {
            let (micros, nanos) = UnixNanos(at.start).to_columns();
            self.start_time.push(row, micros);
            self.start_time_nanos.push(row, nanos);
        }
        for (name, value) in rest {
            self.point.push(row, name, value);
        }
    }

    /// Finishes a batch of `table`: its key, then what `values` finishes, then the rest of the point.
    fn finish(
        self,
        table: Table,
        values: impl FnOnce(&mut Finished<'_>) -> Result<(), ArrowError>,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = table.schema();
        let mut out = Finished::new(schema.fields(), self.rows);
        out.sparse(self.metric)?;
        out.push(Arc::new(Int64Array::from(self.series_id)));
        self.time.columns().into_iter().for_each(|column| out.push(column));
        out.sparse(self.start_time)?;
        out.sparse(self.start_time_nanos)?;
        values(&mut out)?;
        out.map(self.point)?;
        let columns = out.columns();
        RecordBatch::try_new(schema, columns)
    }
}

#[derive(Debug, Default)]
struct SampleColumns {
    key: KeyColumns,
    value: Vec<f64>,
}

impl SampleColumns {
    fn finish(self) -> Result<RecordBatch, ArrowError> {
        self.key.finish(Table::Samples, |out| {
            out.push(Arc::new(Float64Array::from(self.value)));
            Ok(())
        })
    }
}

#[derive(Debug, Default)]
struct HistogramColumns {
    key: KeyColumns,
    temporality: Vec<i32>,
    scale: Vec<i32>,
    count: Vec<i64>,
    sum: Vec<Option<f64>>,
    min: Vec<Option<f64>>,
    max: Vec<Option<f64>>,
    zero_threshold: Vec<f64>,
    zero_count: Vec<i64>,
    positive: SideColumns,
    negative: SideColumns,
}

impl HistogramColumns {
    fn row(&mut self, name: &str, temporality: i32, id: SeriesId, point: &Exponential) {
        self.key.push(name, id, &point.key, &point.rest());
        self.temporality.push(temporality);
        self.scale.push(point.scale);
        self.count.push(to_long(point.count));
        // As Prometheus has it: a histogram whose sum is the stale marker ends its series.
        self.sum.push(if point.key.no_value() { Some(stale()) } else { point.sum });
        self.min.push(point.min);
        self.max.push(point.max);
        self.zero_threshold.push(point.zero_threshold);
        self.zero_count.push(to_long(point.zero_count));
        self.positive.row(&point.positive);
        self.negative.row(&point.negative);
    }

    fn finish(self) -> Result<RecordBatch, ArrowError> {
        let rows = self.scale.len();
        self.key.finish(Table::Histograms, |out| {
            out.push(Arc::new(Int32Array::from(self.temporality)));
            out.push(Arc::new(Int32Array::from(self.scale)));
            out.push(Arc::new(Int64Array::from(self.count)));
            out.push(Arc::new(Float64Array::from(self.sum)));
            out.push(Arc::new(Float64Array::from(self.min)));
            out.push(Arc::new(Float64Array::from(self.max)));
            out.push(Arc::new(Float64Array::from(self.zero_threshold)));
            out.push(Arc::new(Int64Array::from(self.zero_count)));
            self.positive.finish(out)?;
            self.negative.finish(out)?;
            out.push(absent(&list_of(DataType::Float64), rows));
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SideColumns {
    offset: Vec<i32>,
    /// Where each row ends among the counts.
    ends: Vec<i32>,
    counts: Vec<i64>,
}

impl Default for SideColumns {
    fn default() -> Self {
        Self { offset: Vec::new(), ends: vec![0], counts: Vec::new() }
    }
}

impl SideColumns {
    fn row(&mut self, side: &Side) {
        self.offset.push(side.offset);
        self.counts.extend(side.counts.iter().map(|count| to_long(*count)));
        // Counts are paid for from a budget far below `i32::MAX`.
        self.ends.push(i32::try_from(self.counts.len()).unwrap_or(i32::MAX));
    }

    fn finish(self, out: &mut Finished<'_>) -> Result<(), ArrowError> {
        out.push(Arc::new(Int32Array::from(self.offset)));
        let DataType::List(element) = list_of(DataType::Int64) else {
            return Err(ArrowError::SchemaError("not a list".into()));
        };
        let counts = Arc::new(Int64Array::from(self.counts));
        out.push(Arc::new(ListArray::try_new(element, OffsetBuffer::new(self.ends.into()), counts, None)?));
        Ok(())
    }
}

fn to_long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
