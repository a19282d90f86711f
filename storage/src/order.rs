//! In which order rows go into a file: by day, then by the columns that their table is sorted by.
//!
//! Sorting compares numbers only: a number per text of a column, in the order of the texts, stands for it.
//! Flushes hold few distinct texts and many rows.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::Table;
use crate::series::day_of;

/// Columns that a table is sorted by, at most.
const SORT_COLUMNS: usize = 3;

/// The rows of a day: (batch, row) of each.
pub(crate) type Day = (i32, Vec<(usize, usize)>);

/// Where each row is, by day and in sort order; rows that compare equal stay in the order they came.
pub(crate) fn by_day(table: Table, batches: &[RecordBatch]) -> Result<Vec<Day>, ArrowError> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut keys: Vec<(i32, [u64; SORT_COLUMNS], u32)> = Vec::with_capacity(rows);
    let mut places = Vec::with_capacity(rows);
    for (number, batch) in batches.iter().enumerate() {
        let times = column(batch, table.time_column())?.as_primitive::<TimestampMicrosecondType>();
        for (row, micros) in times.values().iter().enumerate() {
            keys.push((day_of(*micros), [0; SORT_COLUMNS], places.len() as u32)); // flushed long before 2^32
            places.push((number, row));
        }
    }
    for (number, name) in table.sort_columns().iter().enumerate() {
        let columns: Vec<_> = batches.iter().map(|batch| column(batch, name)).collect::<Result<_, _>>()?;
        for (key, rank) in keys.iter_mut().zip(ranks(&columns)?) {
            key.1[number] = rank;
        }
    }
    keys.sort_unstable();
    let mut days: Vec<Day> = Vec::new();
    for (day, _, at) in keys {
        let place = places[at as usize];
        match days.last_mut() {
            Some((last, rows)) if *last == day => rows.push(place),
            _ => days.push((day, vec![place])),
        }
    }
    Ok(days)
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b dyn Array, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("no column `{name}`"));
    batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(missing)
}

/// A number for each row, in the order of the values. No column that tables are sorted by has nulls.
fn ranks(columns: &[&dyn Array]) -> Result<Vec<u64>, ArrowError> {
    let Some(first) = columns.first() else { return Ok(Vec::new()) };
    // With the sign turned round, the bits of integers are in the order of the integers.
    let unsigned = |value: &i64| *value as u64 ^ (1 << 63);
    Ok(match first.data_type() {
        DataType::Utf8 => text_ranks(columns),
        DataType::Int64 => {
            columns.iter().flat_map(|c| c.as_primitive::<Int64Type>().values()).map(unsigned).collect()
        }
        DataType::Timestamp(..) => {
            let values = columns.iter().flat_map(|c| c.as_primitive::<TimestampMicrosecondType>().values());
            values.map(unsigned).collect()
        }
        other => return Err(ArrowError::NotYetImplemented(format!("sorting by a column of {other}"))),
    })
}

fn text_ranks(columns: &[&dyn Array]) -> Vec<u64> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut of_rows = Vec::with_capacity(columns.iter().map(|column| column.len()).sum());
    let mut last: Option<(&str, usize)> = None;
    for column in columns {
        for text in column.as_string::<i32>().iter().map(Option::unwrap_or_default) {
            let number = match last {
                Some((same, number)) if same == text => number,
                _ => {
                    let next = numbers.len();
                    *numbers.entry(text).or_insert(next)
                }
            };
            last = Some((text, number));
            of_rows.push(number);
        }
    }
    let mut texts: Vec<(&str, usize)> = numbers.into_iter().collect();
    texts.sort_unstable();
    let mut ranks = vec![0; texts.len()];
    for (rank, (_, number)) in (0..).zip(texts) {
        ranks[number] = rank;
    }
    of_rows.into_iter().map(|number| ranks[number]).collect()
}

#[cfg(test)]
mod tests;
