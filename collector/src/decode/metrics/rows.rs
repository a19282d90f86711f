//! The rows of a request: the columns of `samples` and `histograms` in the order of their schemas, and beside
//! them those of `exemplars` and `series`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, Int16Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use weir_model::{SeriesId, UnixNanos};
use weir_storage::Table;
use weir_storage::schema::list_of;

use super::super::columns::{ListRows, MapColumn, Moment, OptionalMicros};
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
        self.samples.key.push(name, id, at);
        self.samples.value.append_value(value);
        push_rest(&mut self.samples.point, rest);
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
    metric: StringBuilder,
    series_id: Int64Builder,
    time: Moment,
    start_time: OptionalMicros,
    start_time_nanos: Int16Builder,
}

impl KeyColumns {
    fn push(&mut self, name: &str, id: SeriesId, at: &PointKey) {
        self.metric.append_value(name);
        self.series_id.append_value(id.to_column());
        self.time.push(at.time);
        self.start_time.push(at.start);
        self.start_time_nanos.append_option((at.start > 0).then(|| UnixNanos(at.start).to_columns().1));
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        let mut out: Vec<ArrayRef> = vec![Arc::new(self.metric.finish()), Arc::new(self.series_id.finish())];
        self.time.finish(&mut out);
        out.push(self.start_time.finish());
        out.push(Arc::new(self.start_time_nanos.finish()));
        out
    }
}

#[derive(Debug, Default)]
struct SampleColumns {
    key: KeyColumns,
    value: Float64Builder,
    point: MapColumn<StringBuilder>,
}

fn push_rest(column: &mut MapColumn<StringBuilder>, rest: &[Rest]) {
    for (name, value) in rest {
        column.value(name).append_value(value);
    }
    column.end_row();
}

impl SampleColumns {
    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut out = self.key.finish();
        out.push(Arc::new(self.value.finish()));
        out.push(Arc::new(self.point.finish(DataType::Utf8)?));
        RecordBatch::try_new(Table::Samples.schema(), out)
    }
}

#[derive(Debug, Default)]
struct HistogramColumns {
    key: KeyColumns,
    temporality: Int32Builder,
    scale: Int32Builder,
    count: Int64Builder,
    sum: Float64Builder,
    min: Float64Builder,
    max: Float64Builder,
    zero_threshold: Float64Builder,
    zero_count: Int64Builder,
    positive: SideColumns,
    negative: SideColumns,
    point: MapColumn<StringBuilder>,
    rows: usize,
}

impl HistogramColumns {
    fn row(&mut self, name: &str, temporality: i32, id: SeriesId, point: &Exponential) {
        self.key.push(name, id, &point.key);
        self.temporality.append_value(temporality);
        self.scale.append_value(point.scale);
        self.count.append_value(to_long(point.count));
        // As Prometheus has it: a histogram whose sum is the stale marker ends its series.
        self.sum.append_option(if point.key.no_value() { Some(stale()) } else { point.sum });
        self.min.append_option(point.min);
        self.max.append_option(point.max);
        self.zero_threshold.append_value(point.zero_threshold);
        self.zero_count.append_value(to_long(point.zero_count));
        self.positive.row(&point.positive);
        self.negative.row(&point.negative);
        push_rest(&mut self.point, &point.rest());
        self.rows += 1;
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut out = self.key.finish();
        out.extend([
            Arc::new(self.temporality.finish()) as ArrayRef,
            Arc::new(self.scale.finish()),
            Arc::new(self.count.finish()),
            Arc::new(self.sum.finish()),
            Arc::new(self.min.finish()),
            Arc::new(self.max.finish()),
            Arc::new(self.zero_threshold.finish()),
            Arc::new(self.zero_count.finish()),
        ]);
        self.positive.finish(&mut out)?;
        self.negative.finish(&mut out)?;
        out.push(arrow::array::new_null_array(&list_of(DataType::Float64), self.rows));
        out.push(Arc::new(self.point.finish(DataType::Utf8)?));
        RecordBatch::try_new(Table::Histograms.schema(), out)
    }
}

#[derive(Debug, Default)]
struct SideColumns {
    offset: Int32Builder,
    counts: Int64Builder,
    elements: usize,
    rows: ListRows,
}

impl SideColumns {
    fn row(&mut self, side: &Side) {
        self.offset.append_value(side.offset);
        side.counts.iter().for_each(|count| self.counts.append_value(to_long(*count)));
        self.elements += side.counts.len();
        self.rows.end_row_not_null(self.elements);
    }

    fn finish(mut self, out: &mut Vec<ArrayRef>) -> Result<(), ArrowError> {
        out.push(Arc::new(self.offset.finish()));
        out.push(self.rows.finish(Arc::new(self.counts.finish()))?);
        Ok(())
    }
}

fn to_long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
