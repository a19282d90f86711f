//! The columns of an answer by name and type, for routes that make something of its rows.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;

use crate::engine::Answer;

/// One row of an answer. A column that is absent, null or of another type reads as nothing.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    batch: &'a RecordBatch,
    index: usize,
}

/// The rows of `answer`, in order.
pub(super) fn rows(answer: &Answer) -> impl Iterator<Item = Row<'_>> {
    answer.batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |index| Row { batch, index }))
}

impl<'a> Row<'a> {
    fn column(&self, name: &str) -> Option<&'a dyn Array> {
        let column = self.batch.column_by_name(name)?;
        column.is_valid(self.index).then_some(column.as_ref())
    }

    pub(super) fn text(&self, name: &str) -> &'a str {
        self.column(name).and_then(|c| c.as_string_opt::<i32>()).map_or("", |c| c.value(self.index))
    }

    pub(super) fn long(&self, name: &str) -> Option<i64> {
        self.column(name)?.as_primitive_opt::<Int64Type>().map(|c| c.value(self.index))
    }

    pub(super) fn double(&self, name: &str) -> Option<f64> {
        self.column(name)?.as_primitive_opt::<Float64Type>().map(|c| c.value(self.index))
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.column(name).and_then(|c| c.as_boolean_opt()).is_some_and(|c| c.value(self.index))
    }

    pub(super) fn bytes(&self, name: &str) -> &'a [u8] {
        self.column(name).and_then(|c| c.as_binary_opt::<i32>()).map_or(&[], |c| c.value(self.index))
    }

    /// Nanoseconds since the epoch.
    pub(super) fn moment(&self, name: &str) -> Option<i64> {
        self.column(name)?.as_primitive_opt::<TimestampNanosecondType>().map(|c| c.value(self.index))
    }

    pub(super) fn texts(&self, name: &str) -> Vec<&'a str> {
        let Some(list) = self.column(name).and_then(|c| c.as_list_opt::<i32>()) else { return Vec::new() };
        if list.value_type() != DataType::Utf8 {
            return Vec::new();
        }
        let (from, to) =
            (list.value_offsets()[self.index] as usize, list.value_offsets()[self.index + 1] as usize);
        let values = list.values().as_string::<i32>();
        (from..to).filter(|at| values.is_valid(*at)).map(|at| values.value(at)).collect()
    }

    /// The value as an answer in JSON shows it.
    pub(super) fn json(&self, name: &str) -> serde_json::Value {
        let mut out = String::new();
        match self.column(name) {
            Some(column) => super::encode::put_json(&mut out, column, self.index),
            None => out.push_str("null"),
        }
        serde_json::from_str(&out).unwrap_or_default()
    }
}
