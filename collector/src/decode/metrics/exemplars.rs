//! Exemplars: single measurements behind a point, each with the trace that it was made in.
//!
//! An exemplar belongs to the series of its point; that of an explicit-bucket histogram belongs to the bucket
//! that its value falls in. It is taken or dropped by itself: what is wrong with it is not wrong with its
//! point.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use weir_model::{SeriesId, limits};

use super::super::Reason;
use super::super::attributes::{Attribute, AttributeMaps, Attributes};
use super::super::wire::{Fault, Field, Malformed, Reader};
use weir_storage::columns::At;
use weir_storage::rows::ExemplarRows;

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

/// Rows of `exemplars` with attributes of every type.
#[derive(Debug, Default)]
pub(super) struct ExemplarColumns {
    rows: ExemplarRows,
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
        let row = self.rows.push(name, id, At::from_nanos(exemplar.time), exemplar.value());
        if let Some(Measured::Long(value)) = exemplar.value {
            self.rows.whole(row, value);
        }
        self.rows.trace(row, exemplar.trace_id, exemplar.span_id);
        for attribute in attributes {
            self.attributes.push(row, attribute);
        }
    }

    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let attributes = self.attributes;
        self.rows.finish_with(|out| attributes.finish(out))
    }
}
