//! Rows of `samples`, and the columns that they share with those of `histograms`.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use arrow::error::ArrowError;
use weir_model::SeriesId;

use crate::Table;
use crate::columns::{At, Finished, Micros, Moment, Shorts, Sparse, SparseMap, Texts};

/// What every row of metrics begins with.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The name of the metric.
    pub metric: &'a str,
    /// The series.
    pub id: SeriesId,
    /// When it was measured.
    pub time: At,
    /// When counting began, where that is known.
    pub start: Option<At>,
}

#[derive(Debug, Default)]
pub(super) struct KeyColumns {
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
    #[inline]
    pub(super) fn push(&mut self, key: &Key<'_>) {
        let row = self.rows;
        self.rows += 1;
        self.metric.push(row, key.metric);
        self.series_id.push(key.id.to_column());
        self.time.push_at(key.time);
        if let Some(start) = key.start {
            let (micros, nanos) = start.parts();
            self.start_time.push(row, micros);
            self.start_time_nanos.push(row, nanos);
        }
    }

    pub(super) fn say(&mut self, name: &str, value: &str) {
        if let Some(row) = self.rows.checked_sub(1) {
            self.point.push(row, name, value);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Finishes a batch of `table`: its key, then what `values` finishes, then the rest of the point, then what `more`
    /// finishes.
    pub(super) fn finish(
        self,
        table: Table,
        values: impl FnOnce(&mut Finished<'_>) -> Result<(), ArrowError>,
        more: impl FnOnce(&mut Finished<'_>) -> Result<(), ArrowError>,
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
        more(&mut out)?;
        let columns = out.columns();
        RecordBatch::try_new(schema, columns)
    }
}

/// Rows of `samples`.
#[derive(Debug, Default)]
pub struct SampleRows {
    key: KeyColumns,
    value: Vec<f64>,
}

impl SampleRows {
    /// Adds a row.
    #[inline]
    pub fn push(&mut self, key: &Key<'_>, value: f64) {
        self.key.push(key);
        self.value.push(value);
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
        let values = |out: &mut Finished<'_>| {
            out.push(Arc::new(Float64Array::from(self.value)));
            Ok(())
        };
        self.key.finish(Table::Samples, values, |_| Ok(()))
    }
}
