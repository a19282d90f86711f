//! Rows of `exemplars`.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use arrow::error::ArrowError;
use weir_model::{SeriesId, SpanId, TraceId};

use crate::Table;
use crate::columns::{At, Blobs, Finished, Longs, Moment, Sparse, SparseMap, Texts};

/// Rows of `exemplars`, whose attributes are all texts unless [`finish_with`](Self::finish_with) has others.
#[derive(Debug, Default)]
pub struct ExemplarRows {
    rows: usize,
    metric: Sparse<Texts>,
    series_id: Vec<i64>,
    time: Moment,
    value: Vec<f64>,
    value_long: Sparse<Longs>,
    trace_id: Sparse<Blobs>,
    span_id: Sparse<Blobs>,
    attributes: SparseMap<Texts>,
}

impl ExemplarRows {
    /// Adds a row and gives its number.
    pub fn push(&mut self, metric: &str, id: SeriesId, time: At, value: f64) -> usize {
        let row = self.rows;
        self.rows += 1;
        self.metric.push(row, metric);
        self.series_id.push(id.to_column());
        self.time.push_at(time);
        self.value.push(value);
        row
    }

    /// Says that the value of row number `row`, the last one so far, came as a whole number.
    pub fn whole(&mut self, row: usize, value: i64) {
        self.value_long.push(row, value);
    }

    /// Says in which trace and span row number `row`, the last one so far, was made; an id of zeros is none.
    pub fn trace(&mut self, row: usize, trace_id: &[u8], span_id: &[u8]) {
        for (column, id) in [(&mut self.trace_id, trace_id), (&mut self.span_id, span_id)] {
            if id.iter().any(|byte| *byte != 0) {
                column.push(row, id);
            }
        }
    }

    /// Adds a row with labels; `trace_id` and `span_id` become ids where they are such.
    pub(super) fn labelled<'l>(
        &mut self,
        metric: &str,
        id: SeriesId,
        time: At,
        value: f64,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    ) {
        let row = self.push(metric, id, time, value);
        // Those that are shown again as they came: in lower case.
        let is_lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
        for (name, value) in labels {
            let trace_id: Option<TraceId> = Some(value)
                .filter(|value| name == "trace_id" && is_lower(value))
                .and_then(|v| v.parse().ok());
            let span_id: Option<SpanId> =
                Some(value).filter(|value| name == "span_id" && is_lower(value)).and_then(|v| v.parse().ok());
            match (trace_id.filter(|id| !id.is_zero()), span_id.filter(|id| !id.is_zero())) {
                (Some(id), _) => self.trace(row, &id.0, &[]),
                (_, Some(id)) => self.trace(row, &[], &id.0),
                _ => self.attributes.push(row, name, value),
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows as a batch.
    pub fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let attributes = std::mem::take(&mut self.attributes);
        self.finish_with(|out| {
            out.map(attributes)?;
            out.absent();
            Ok(())
        })
    }

    /// The rows as a batch with the columns of attributes that `attributes` finishes.
    pub fn finish_with(
        self,
        attributes: impl FnOnce(&mut Finished<'_>) -> Result<(), ArrowError>,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = Table::Exemplars.schema();
        let mut out = Finished::new(schema.fields(), self.rows);
        out.sparse(self.metric)?;
        out.push(Arc::new(Int64Array::from(self.series_id)));
        self.time.columns().into_iter().for_each(|column| out.push(column));
        out.push(Arc::new(Float64Array::from(self.value)));
        out.sparse(self.value_long)?;
        out.sparse(self.trace_id)?;
        out.sparse(self.span_id)?;
        attributes(&mut out)?;
        let columns = out.columns();
        RecordBatch::try_new(schema, columns)
    }
}
