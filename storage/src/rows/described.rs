//! Rows of `series`: labels, and what is known of their metric.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::error::ArrowError;
use weir_model::SeriesId;

use crate::columns::{At, Finished, Moment, Sparse, SparseMap, Texts};
use crate::{Labels, Table};

/// What is known of a metric; what is empty is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// `counter`, `gauge`, `histogram`, `summary`, `unknown`, or another type of Prometheus'.
    pub kind: Arc<str>,
    /// In which unit it is measured.
    pub unit: Arc<str>,
    /// What it is.
    pub help: Arc<str>,
}

/// Rows of `series`.
#[derive(Debug, Default)]
pub struct SeriesRows {
    rows: usize,
    metric: Sparse<Texts>,
    series_id: Vec<i64>,
    time: Moment,
    labels: SparseMap<Texts>,
    kind: Sparse<Texts>,
    unit: Sparse<Texts>,
    help: Sparse<Texts>,
}

impl SeriesRows {
    /// Adds a row and gives its number; `time` is when the series was first seen that day.
    pub fn push(&mut self, labels: &Labels, id: SeriesId, time: At, metadata: &Metadata) -> usize {
        let row = self.rows;
        self.rows += 1;
        self.metric.push(row, labels.metric());
        self.series_id.push(id.to_column());
        self.time.push_at(time);
        for (name, value) in labels.iter() {
            self.labels.push(row, name, value);
        }
        self.kind.push_text(row, &metadata.kind);
        self.unit.push_text(row, &metadata.unit);
        self.help.push_text(row, &metadata.help);
        row
    }

    /// The series of row number `row` was seen at `time` already.
    pub fn set_earlier(&mut self, row: usize, time: At) {
        self.time.set_earlier(row, time);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows as a batch.
    pub fn finish(self) -> Result<RecordBatch, ArrowError> {
        self.finish_with(|out| {
            out.absent();
            Ok(())
        })
    }

    /// The rows as a batch with the columns behind `help` that `more` finishes.
    pub fn finish_with(
        self,
        more: impl FnOnce(&mut Finished<'_>) -> Result<(), ArrowError>,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = Table::Series.schema();
        let mut out = Finished::new(schema.fields(), self.rows);
        out.sparse(self.metric)?;
        out.push(Arc::new(Int64Array::from(self.series_id)));
        self.time.columns().into_iter().for_each(|column| out.push(column));
        out.map(self.labels)?;
        out.sparse(self.kind)?;
        out.sparse(self.unit)?;
        out.sparse(self.help)?;
        more(&mut out)?;
        let columns = out.columns();
        RecordBatch::try_new(schema, columns)
    }
}
