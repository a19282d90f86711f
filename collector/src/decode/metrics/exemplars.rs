//! Exemplars: single measurements behind a point, each with the trace that it was made in.
//!
//! An exemplar belongs to the series of its point; that of an explicit-bucket histogram belongs to the bucket
//! that its value falls in. It is taken or dropped by itself: what is wrong with it is not wrong with its
//! point.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use arrow::error::ArrowError;
use weir_model::{SeriesId, limits};
use weir_storage::Table;

use super::super::Reason;
use super::super::attributes::{Attribute, AttributeMaps, Attributes};
use super::super::columns::{Blobs, Finished, Longs, Moment, Sparse, Texts};
use super::super::wire::{Fault, Field, Malformed, Reader};

/// The exemplars of the point in hand, unread.
#[derive(Debug, Default)]
pub(super) struct Exemplars<'a> {
    pub(super) messages: Vec<Reader<'a>>,
    /// How many there are beyond [`limits::POINT_EXEMPLARS`].
    pub(super) more: u64,
}

impl<'a> Exemplars<'a> {
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.more = 0;
    }

    /// Notes the exemplar that `field` of a point holds.
    pub(super) fn note(&mut self, field: &Field<'a>) -> Result<(), Malformed> {
        let message = field.message()?;
        if self.messages.len() < limits::POINT_EXEMPLARS {
            self.messages.push(message);
        } else {
            self.more += 1;
        }
        Ok(())
    }
}

/// One measurement.
#[derive(Debug, Default)]
pub(super) struct Exemplar<'a> {
    pub(super) time: u64,
    value: Option<Measured>,
    trace_id: &'a [u8],
    span_id: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
enum Measured {
    Double(f64),
    Long(i64),
}

impl<'a> Exemplar<'a> {
    /// Reads an exemplar, and into `attributes` those that its series leaves out.
    pub(super) fn read(mut message: Reader<'a>, attributes: &mut Attributes<'a>) -> Result<Self, Fault> {
        let mut exemplar = Self::default();
        while let Some(field) = message.next()? {
            match field.number {
                2 => exemplar.time = field.fixed64()?,
                3 => exemplar.value = Some(Measured::Double(field.double()?)),
                4 => exemplar.span_id = field.bytes()?,
                5 => exemplar.trace_id = field.bytes()?,
                6 => exemplar.value = Some(Measured::Long(field.fixed64()? as i64)),
                7 => attributes.read(field.message()?)?,
                _ => {}
            }
        }
        Ok(exemplar)
    }

    /// Checks that it says when, what, and nothing that is no id.
    pub(super) fn check(&self) -> Result<(), Reason> {
        if self.time == 0 {
            return Err(Reason::NoTime);
        }
        if self.value.is_none() {
            return Err(Reason::NoValue);
        }
        if !matches!(self.trace_id.len(), 0 | 16) {
            return Err(Reason::TraceId);
        }
        if !matches!(self.span_id.len(), 0 | 8) {
            return Err(Reason::SpanId);
        }
        Ok(())
    }

    /// The value, as series have it.
    pub(super) fn value(&self) -> f64 {
        match self.value {
            Some(Measured::Double(value)) => value,
            Some(Measured::Long(value)) => value as f64,
            None => f64::NAN,
        }
    }

    /// The first of the rising `bounds` that the value is not above; behind them all where there is none.
    pub(super) fn bucket(&self, bounds: &[f64]) -> usize {
        let value = self.value();
        if value.is_nan() { bounds.len() } else { bounds.partition_point(|bound| *bound < value) }
    }
}

/// The columns of `exemplars`, in the order of the schema.
#[derive(Debug, Default)]
pub(super) struct ExemplarColumns {
    rows: usize,
    metric: Sparse<Texts>,
    series_id: Vec<i64>,
    time: Moment,
    value: Vec<f64>,
    value_long: Sparse<Longs>,
    trace_id: Sparse<Blobs>,
    span_id: Sparse<Blobs>,
    attributes: AttributeMaps,
}

impl ExemplarColumns {
    pub(super) fn row(
        &mut self,
        name: &str,
        id: SeriesId,
        exemplar: &Exemplar<'_>,
        attributes: &[Attribute<'_>],
    ) {
        let row = self.rows;
        self.rows += 1;
        self.metric.push(row, name);
        self.series_id.push(id.to_column());
        self.time.push(exemplar.time);
        self.value.push(exemplar.value());
        if let Some(Measured::Long(value)) = exemplar.value {
            self.value_long.push(row, value);
        }
        for (column, id) in [(&mut self.trace_id, exemplar.trace_id), (&mut self.span_id, exemplar.span_id)] {
            // An id of zeros is none.
            if id.iter().any(|byte| *byte != 0) {
                column.push(row, id);
            }
        }
        for attribute in attributes {
            self.attributes.push(row, attribute);
        }
    }

    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let schema = Table::Exemplars.schema();
        let mut out = Finished::new(schema.fields(), self.rows);
        out.sparse(self.metric)?;
        out.push(Arc::new(Int64Array::from(self.series_id)));
        self.time.columns().into_iter().for_each(|column| out.push(column));
        out.push(Arc::new(Float64Array::from(self.value)));
        out.sparse(self.value_long)?;
        out.sparse(self.trace_id)?;
        out.sparse(self.span_id)?;
        self.attributes.finish(&mut out)?;
        let columns = out.columns();
        RecordBatch::try_new(schema, columns)
    }
}
