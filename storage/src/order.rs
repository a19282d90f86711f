//! In which order rows go into a file: by day, then by what their table is sorted by.
//!
//! Sorting compares numbers only: a number per text of a column, in the order of the texts, stands for it, and two
//! for an id. Flushes hold few distinct texts and many rows.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Table;
use crate::schema::{STRETCH_MICROS, SortBy};
use crate::series::day_of;

/// Numbers that what a table is sorted by becomes, at most.
const SORT_NUMBERS: usize = 4;
/// Bytes of an id that rows are sorted by.
const ID_BYTES: usize = 16;

/// The rows of a day: (batch, row) of each.
pub(crate) type Day = (i32, Vec<(usize, usize)>);

/// Where each row is, by day and in sort order; rows that compare equal stay in the order they came.
pub(crate) fn by_day(table: Table, batches: &[RecordBatch]) -> Result<Vec<Day>, ArrowError> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut keys: Vec<(i32, [u64; SORT_NUMBERS], u32)> = Vec::with_capacity(rows);
    let mut places = Vec::with_capacity(rows);
    for (number, batch) in batches.iter().enumerate() {
        let times = column(batch, table.time_column())?.as_primitive::<TimestampMicrosecondType>();
        for (row, micros) in times.values().iter().enumerate() {
            keys.push((day_of(*micros), [0; SORT_NUMBERS], places.len() as u32)); // flushed long before 2^32
            places.push((number, row));
        }
    }
    let of_batches: Vec<Vec<ArrayRef>> =
        batches.iter().map(|batch| key_columns(table, batch)).collect::<Result<_, _>>()?;
    let mut number = 0;
    for column in 0..table.sort_order().len() {
        let columns: Vec<&dyn Array> = of_batches.iter().map(|columns| columns[column].as_ref()).collect();
        for ranks in ranks(&columns)? {
            for (key, rank) in keys.iter_mut().zip(ranks) {
                key.1[number] = rank;
            }
            number += 1;
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

/// The columns whose values, compared in turn, tell which row comes first.
pub(crate) fn key_columns(table: Table, rows: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
    let key = |by: &SortBy| {
        let column = column(rows, by.column())?;
        Ok(match by {
            SortBy::Value(_) => Arc::clone(column),
            SortBy::Stretch(_) => {
                let micros = column.as_primitive::<TimestampMicrosecondType>();
                Arc::new(micros.unary::<_, Int64Type>(|micros| micros.div_euclid(STRETCH_MICROS)))
            }
        })
    };
    table.sort_order().iter().map(key).collect()
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
}

/// A number for each row, in the order of the values, or a first and a second one. No column that tables are sorted
/// by has nulls.
fn ranks(columns: &[&dyn Array]) -> Result<Vec<Vec<u64>>, ArrowError> {
    let Some(first) = columns.first() else { return Ok(Vec::new()) };
    // With the sign turned round, the bits of integers are in the order of the integers.
    let unsigned = |value: &i64| *value as u64 ^ (1 << 63);
    let numbers = match first.data_type() {
        DataType::Binary if columns.iter().all(|column| column.as_binary::<i32>().iter().all(is_id)) => {
            return Ok(id_ranks(columns));
        }
        DataType::Utf8 => text_ranks(columns.iter().map(|c| c.as_string::<i32>().iter())),
        DataType::Binary => text_ranks(columns.iter().map(|c| c.as_binary::<i32>().iter())),
        DataType::Int64 => {
            columns.iter().flat_map(|c| c.as_primitive::<Int64Type>().values()).map(unsigned).collect()
        }
        DataType::Timestamp(..) => {
            let values = columns.iter().flat_map(|c| c.as_primitive::<TimestampMicrosecondType>().values());
            values.map(unsigned).collect()
        }
        other => return Err(ArrowError::NotYetImplemented(format!("sorting by a column of {other}"))),
    };
    Ok(vec![numbers])
}

fn is_id(value: Option<&[u8]>) -> bool {
    value.is_some_and(|id| id.len() == ID_BYTES)
}

/// The upper and the lower halves of ids.
fn id_ranks(columns: &[&dyn Array]) -> Vec<Vec<u64>> {
    let ids = columns.iter().flat_map(|column| column.as_binary::<i32>().iter().flatten());
    let halves = ids.filter_map(|id| Some((id.first_chunk()?, id.last_chunk()?)));
    let (upper, lower) = halves.map(|(a, b)| (u64::from_be_bytes(*a), u64::from_be_bytes(*b))).unzip();
    vec![upper, lower]
}

/// Hashes texts and bytes, of which there are few and which come again and again.
#[derive(Default)]
struct TextHasher(u64);

impl Hasher for TextHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// What ends a text.
    fn write_u8(&mut self, _: u8) {}
}

fn text_ranks<T: Copy + Eq + Hash + Ord + Default>(
    columns: impl Iterator<Item = impl Iterator<Item = Option<T>>>,
) -> Vec<u64> {
    let mut numbers: HashMap<T, usize, BuildHasherDefault<TextHasher>> = HashMap::default();
    let mut of_rows = Vec::new();
    let mut last: Option<(T, usize)> = None;
    for column in columns {
        for text in column.map(Option::unwrap_or_default) {
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
    let mut texts: Vec<(T, usize)> = numbers.into_iter().collect();
    texts.sort_unstable();
    let mut ranks = vec![0; texts.len()];
    for (rank, (_, number)) in (0..).zip(texts) {
        ranks[number] = rank;
    }
    of_rows.into_iter().map(|number| ranks[number]).collect()
}

#[cfg(test)]
mod tests;
