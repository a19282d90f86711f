//! Rows of the service graph that say what was added to one bucket of one edge become one row that says it all.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use weir_model::Sketch;

use super::merge::columns;

/// What tells one bucket of one edge, as one side reported it, from another.
const BUCKET: [&str; 7] = ["time", "time_nanos", "client", "server", "endpoint", "protocol", "reporter"];

/// The rows of `rows` added up by bucket, in the order in which buckets first come. Rows whose sketch cannot be read
/// stay as they are.
pub(super) fn by_bucket(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let key = columns(rows, &BUCKET)?;
    let fields = key.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let keys = RowConverter::new(fields)?.convert_columns(&key)?;
    let sketches = columns(rows, &["sketch"])?;
    let sketches = sketches[0].as_binary::<i32>();
    let mut sums: HashMap<&[u8], usize> = HashMap::new();
    // The first row of each sum, the sum of each row, and the sketch of each sum where it is one of several.
    let mut first = Vec::new();
    let mut sum_of = Vec::with_capacity(rows.num_rows());
    let mut merged: Vec<Option<Sketch>> = Vec::new();
    for row in 0..rows.num_rows() {
        let sketch = Sketch::from_bytes(sketches.value(row)).ok();
        let next = first.len();
        let sum = match &sketch {
            Some(_) => *sums.entry(keys.row(row).data()).or_insert(next),
            None => next,
        };
        if sum == next {
            first.push(row as u32); // a group of rows is far smaller
            merged.push(sketch);
        } else if let (Some(so_far), Some(sketch)) = (&mut merged[sum], &sketch) {
            so_far.merge(sketch);
        }
        sum_of.push(sum);
    }
    if first.len() == rows.num_rows() {
        return Ok(rows.clone());
    }
    let first = UInt32Array::from(first);
    let summed =
        |(field, column): (&Arc<arrow::datatypes::Field>, &ArrayRef)| -> Result<ArrayRef, ArrowError> {
            Ok(match (field.data_type(), field.name().as_str()) {
                (DataType::Int64, _) => {
                    let values = column.as_primitive::<Int64Type>().values();
                    let mut sums = vec![0_i64; first.len()];
                    sum_of
                        .iter()
                        .zip(values)
                        .for_each(|(sum, value)| sums[*sum] = sums[*sum].saturating_add(*value));
                    Arc::new(Int64Array::from(sums))
                }
                (DataType::Boolean, _) => {
                    let values = column.as_boolean();
                    let mut all = vec![true; first.len()];
                    sum_of.iter().enumerate().for_each(|(row, sum)| all[*sum] &= values.value(row));
                    Arc::new(BooleanArray::from(all))
                }
                (_, "sketch") => {
                    let sketch = |(at, merged): (usize, &Option<Sketch>)| match merged {
                        Some(sketch) => sketch.to_bytes(),
                        None => sketches.value(first.value(at) as usize).to_vec(),
                    };
                    Arc::new(BinaryArray::from_iter_values(merged.iter().enumerate().map(sketch)))
                }
                _ => take(column, &first, None)?,
            })
        };
    let fields = rows.schema_ref().fields();
    let columns = fields.iter().zip(rows.columns()).map(summed).collect::<Result<_, _>>()?;
    RecordBatch::try_new(rows.schema(), columns)
}
