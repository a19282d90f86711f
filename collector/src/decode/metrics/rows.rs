//! The columns of `samples`, `histograms` and `series`, in the order of their schemas.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use weir_model::SeriesId;
use weir_storage::schema::list_of;
use weir_storage::{Labels, Table};

use super::super::columns::{ListRows, MapColumn, Moment, OptionalMicros};
use super::points::{Exponential, Side};
use super::stale;

/// All rows of a request but those of `series`.
#[derive(Debug, Default)]
pub(super) struct Rows {
    samples: SampleColumns,
    histograms: HistogramColumns,
}

/// A row of `series`.
#[derive(Debug)]
pub(super) struct SeriesRow {
    pub(super) labels: Labels,
    pub(super) id: SeriesId,
    pub(super) time: u64,
    pub(super) kind: &'static str,
    pub(super) unit: Option<Arc<str>>,
    pub(super) help: Option<Arc<str>>,
}

impl Rows {
    pub(super) fn sample(&mut self, name: &str, id: SeriesId, time: u64, start: u64, value: f64) {
        self.samples.key.push(name, id, time, start);
        self.samples.value.append_value(value);
    }

    pub(super) fn histogram(&mut self, name: &str, temporality: i32, id: SeriesId, point: &Exponential) {
        self.histograms.row(name, temporality, id, point);
    }

    /// The batches that have rows, those of `series` first.
    pub(super) fn finish(
        self,
        series: impl Iterator<Item = SeriesRow>,
    ) -> Result<Vec<(Table, RecordBatch)>, ArrowError> {
        let series = finish_series(series)?;
        let (samples, histograms) = (self.samples.finish()?, self.histograms.finish()?);
        let parts = [(Table::Series, series), (Table::Samples, samples), (Table::Histograms, histograms)];
        Ok(parts.into_iter().filter(|(_, batch)| batch.num_rows() > 0).collect())
    }
}

#[derive(Debug, Default)]
struct KeyColumns {
    metric: StringBuilder,
    series_id: Int64Builder,
    time: Moment,
    start_time: OptionalMicros,
}

impl KeyColumns {
    fn push(&mut self, name: &str, id: SeriesId, time: u64, start: u64) {
        self.metric.append_value(name);
        self.series_id.append_value(id.to_column());
        self.time.push(time);
        self.start_time.push(start);
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        let mut out: Vec<ArrayRef> = vec![Arc::new(self.metric.finish()), Arc::new(self.series_id.finish())];
        self.time.finish(&mut out);
        out.push(self.start_time.finish());
        out
    }
}

#[derive(Debug, Default)]
struct SampleColumns {
    key: KeyColumns,
    value: Float64Builder,
}

impl SampleColumns {
    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut out = self.key.finish();
        out.push(Arc::new(self.value.finish()));
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
    rows: usize,
}

impl HistogramColumns {
    fn row(&mut self, name: &str, temporality: i32, id: SeriesId, point: &Exponential) {
        self.key.push(name, id, point.key.time, point.key.start);
        self.temporality.append_value(temporality);
        self.scale.append_value(point.scale);
        self.count.append_value(to_long(point.count));
        // As Prometheus has it: a histogram whose sum is the stale marker ends its series.
        self.sum.append_option(if point.key.no_value { Some(stale()) } else { point.sum });
        self.min.append_option(point.min);
        self.max.append_option(point.max);
        self.zero_threshold.append_value(point.zero_threshold);
        self.zero_count.append_value(to_long(point.zero_count));
        self.positive.row(&point.positive);
        self.negative.row(&point.negative);
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
        self.rows.end_row(self.elements);
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

fn finish_series(rows: impl Iterator<Item = SeriesRow>) -> Result<RecordBatch, ArrowError> {
    let (mut metric, mut series_id, mut time) =
        (StringBuilder::new(), Int64Builder::new(), Moment::default());
    let mut labels = MapColumn::<StringBuilder>::default();
    let (mut kind, mut unit, mut help) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        metric.append_value(row.labels.metric());
        series_id.append_value(row.id.to_column());
        time.push(row.time);
        for (name, value) in row.labels.iter() {
            labels.value(name).append_value(value);
        }
        labels.end_row();
        kind.append_value(row.kind);
        unit.append_option(row.unit);
        help.append_option(row.help);
    }
    let mut out: Vec<ArrayRef> = vec![Arc::new(metric.finish()), Arc::new(series_id.finish())];
    time.finish(&mut out);
    out.push(Arc::new(labels.finish(DataType::Utf8)?));
    out.extend([Arc::new(kind.finish()) as ArrayRef, Arc::new(unit.finish()), Arc::new(help.finish())]);
    RecordBatch::try_new(Table::Series.schema(), out)
}
