//! Rows of every table, plain but complete.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int16Array, Int32Array, Int64Array,
    ListArray, MapArray, MapBuilder, MapFieldNames, StringArray, StringBuilder, TimestampMicrosecondArray,
    new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;

use crate::{Labels, Table};

/// 2026-11-18T16:26:40Z.
pub(crate) const NOON: i64 = 1_795_000_000_000_000;

/// `n` rows of a table: `columns` as given, null where that is allowed, zero or empty elsewhere.
pub(crate) fn batch(table: Table, n: usize, columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let schema = table.schema();
    let arrays = schema.fields().iter().map(|field| {
        let given = columns.iter().find(|(name, _)| name == field.name());
        match (given, field.is_nullable()) {
            (Some((_, array)), _) => Arc::clone(array),
            (None, true) => new_null_array(field.data_type(), n),
            (None, false) => zeros(field.data_type(), n),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), arrays.collect()).expect("columns fit the schema")
}

fn zeros(data_type: &DataType, n: usize) -> ArrayRef {
    match data_type {
        DataType::Int16 => Arc::new(Int16Array::from(vec![0; n])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![0; n])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![0; n])),
        DataType::Float64 => Arc::new(Float64Array::from(vec![0.0; n])),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; n])),
        DataType::Utf8 => Arc::new(StringArray::from(vec![""; n])),
        DataType::Binary => Arc::new(BinaryArray::from(vec![b"".as_slice(); n])),
        DataType::Timestamp(..) => times(vec![NOON; n]),
        DataType::List(element) => {
            let none = OffsetBuffer::from_lengths(vec![0; n]);
            let values = new_empty_array(element.data_type());
            Arc::new(ListArray::new(Arc::clone(element), none, values, None))
        }
        DataType::Map(entry, sorted) => {
            let none = OffsetBuffer::from_lengths(vec![0; n]);
            let entries = new_empty_array(entry.data_type()).as_struct().clone();
            Arc::new(MapArray::new(Arc::clone(entry), none, entries, None, *sorted))
        }
        other => unreachable!("no table has a required column of {other}"),
    }
}

pub(crate) fn times(micros: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
}

/// A sample for each number: it is the value; series and metric alternate.
pub(crate) fn samples(numbers: Range<u64>) -> RecordBatch {
    let numbers: Vec<u64> = numbers.collect();
    let text = |n: &u64| format!("metric_{}", n % 3);
    batch(
        Table::Samples,
        numbers.len(),
        &[
            ("metric", Arc::new(StringArray::from_iter_values(numbers.iter().map(text)))),
            ("series_id", Arc::new(Int64Array::from_iter_values(numbers.iter().map(|n| (n % 7) as i64)))),
            ("time", times(numbers.iter().map(|n| NOON - *n as i64 * 1_000).collect())),
            ("value", Arc::new(Float64Array::from_iter_values(numbers.iter().map(|n| *n as f64)))),
        ],
    )
}

/// The values of samples, ascending.
pub(crate) fn values(rows: &[RecordBatch]) -> Vec<u64> {
    let mut values: Vec<u64> = Vec::new();
    for batch in rows {
        let column = batch.column_by_name("value").expect("samples have it");
        values.extend(column.as_primitive::<Float64Type>().values().iter().map(|value| *value as u64));
    }
    values.sort_unstable();
    values
}

/// A span for each number, which is its duration and in its ids; services and names alternate.
pub(crate) fn spans(numbers: Range<u64>) -> RecordBatch {
    let numbers: Vec<u64> = numbers.collect();
    let ids = |len: usize| {
        let id = move |n: &u64| -> Vec<u8> { (n + 1).to_be_bytes().into_iter().cycle().take(len).collect() };
        Arc::new(BinaryArray::from_iter_values(numbers.iter().map(id)))
    };
    let text = |prefix: &str, of: u64| {
        Arc::new(StringArray::from_iter_values(numbers.iter().map(|n| format!("{prefix}{}", n % of))))
    };
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut attributes = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for n in &numbers {
        attributes.keys().append_value("number");
        attributes.values().append_value(n.to_string());
        attributes.append(true).expect("keys and values pair up");
    }
    batch(
        Table::Spans,
        numbers.len(),
        &[
            ("trace_id", ids(16)),
            ("span_id", ids(8)),
            ("service", text("service-", 5)),
            ("name", text("GET /", 3)),
            ("start_time", times(numbers.iter().map(|n| NOON + (*n as i64 * 7919) % 1_000_000).collect())),
            ("duration_ns", Arc::new(Int64Array::from_iter_values(numbers.iter().map(|n| *n as i64)))),
            ("attributes_str", Arc::new(attributes.finish())),
        ],
    )
}

/// A row for each label set, at `micros`.
pub(crate) fn series(labels: &[Labels], micros: i64) -> RecordBatch {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for set in labels {
        for (name, value) in set.iter() {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true).expect("keys and values pair up");
    }
    batch(
        Table::Series,
        labels.len(),
        &[
            ("metric", Arc::new(StringArray::from_iter_values(labels.iter().map(Labels::metric)))),
            ("series_id", Arc::new(Int64Array::from_iter_values(labels.iter().map(|l| l.id().to_column())))),
            ("time", times(vec![micros; labels.len()])),
            ("labels", Arc::new(maps.finish()) as ArrayRef),
        ],
    )
}
