//! Rows of several batches put together. Columns without a value in any of them are most columns of most
//! spans: they are passed over.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{concat, interleave};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::{Table, schema};

/// Ranges of rows shorter than this on average are gathered row by row.
const RANGE_ROWS: usize = 8;

/// The rows of `batches`, one batch after the other.
pub(crate) fn all(table: Table, batches: &[&RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let rows = batches.iter().map(|batch| batch.num_rows()).sum();
    by_column(table, batches, rows, |columns| concat(columns))
}

/// The rows at `places`: (batch, row).
pub(crate) fn rows(
    table: Table,
    batches: &[&RecordBatch],
    places: &[(usize, usize)],
) -> Result<RecordBatch, ArrowError> {
    let ranges = ranges(places);
    if places.is_empty() || ranges.len() * RANGE_ROWS > places.len() {
        return by_column(table, batches, places.len(), |columns| interleave(columns, places));
    }
    by_column(table, batches, places.len(), |columns| {
        let slices: Vec<ArrayRef> =
            ranges.iter().map(|(batch, rows)| columns[*batch].slice(rows.start, rows.len())).collect();
        concat(&slices.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    })
}

/// Neighbouring rows of one batch together.
fn ranges(places: &[(usize, usize)]) -> Vec<(usize, Range<usize>)> {
    let mut ranges: Vec<(usize, Range<usize>)> = Vec::new();
    for (batch, row) in places {
        match ranges.last_mut() {
            Some((last, rows)) if last == batch && rows.end == *row => rows.end += 1,
            _ => ranges.push((*batch, *row..row + 1)),
        }
    }
    ranges
}

fn by_column(
    table: Table,
    batches: &[&RecordBatch],
    rows: usize,
    put_together: impl Fn(&[&dyn Array]) -> Result<ArrayRef, ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    let schema = table.schema();
    let column = |(number, field): (usize, &arrow::datatypes::FieldRef)| {
        let columns: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(number).as_ref()).collect();
        if columns.iter().all(|column| column.null_count() == column.len()) {
            return Ok(schema::absent(field.data_type(), rows));
        }
        put_together(&columns)
    };
    let columns = schema.fields().iter().enumerate().map(column).collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_new(schema, columns)
}

#[cfg(test)]
mod tests;
