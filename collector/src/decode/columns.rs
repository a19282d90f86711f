//! Arrow columns in the shapes that the table schemas repeat: moments, maps, lists of structs.

pub(super) mod sparse;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, Int16Array, ListArray, MapArray, NullBufferBuilder, StringBuilder,
    StructArray, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use weir_model::UnixNanos;
use weir_storage::schema::{list_of, map_of};

/// A moment: microseconds, and the nanoseconds that they leave out.
#[derive(Debug, Default)]
pub(super) struct Moment {
    micros: Vec<i64>,
    nanos: Vec<i16>,
}

impl Moment {
    /// With room for `rows` of them.
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self { micros: Vec::with_capacity(rows), nanos: Vec::with_capacity(rows) }
    }

    pub(super) fn push(&mut self, nanos: u64) {
        let (micros, rest) = UnixNanos(nanos).to_columns();
        self.micros.push(micros);
        self.nanos.push(rest);
    }

    pub(super) fn finish(self, out: &mut Vec<ArrayRef>) {
        let [micros, nanos] = self.columns();
        out.push(micros);
        out.push(nanos);
    }

    /// Its two columns.
    pub(super) fn columns(self) -> [ArrayRef; 2] {
        let micros = TimestampMicrosecondArray::new(self.micros.into(), None).with_timezone("UTC");
        [Arc::new(micros), Arc::new(Int16Array::new(self.nanos.into(), None))]
    }
}

/// A nullable column of microsecond timestamps, without their remainder.
#[derive(Debug, Default)]
pub(super) struct OptionalMicros(TimestampMicrosecondBuilder);

impl OptionalMicros {
    /// Appends the moment, or null for zero, which OTLP calls unknown.
    pub(super) fn push(&mut self, nanos: u64) {
        self.0.append_option((nanos > 0).then(|| UnixNanos(nanos).to_columns().0));
    }

    pub(super) fn finish(mut self) -> ArrayRef {
        Arc::new(self.0.finish().with_timezone("UTC"))
    }
}

/// Where the rows of a map or list end within its entries.
#[derive(Debug)]
struct Rows {
    ends: Vec<i32>,
    valid: NullBufferBuilder,
}

impl Default for Rows {
    fn default() -> Self {
        Self { ends: vec![0], valid: NullBufferBuilder::new(0) }
    }
}

impl Rows {
    fn end_row(&mut self, end: usize) {
        self.ends.push(i32::try_from(end).unwrap_or(i32::MAX));
        self.valid.append_non_null();
    }
}

/// A column of maps from text.
#[derive(Debug)]
pub(super) struct MapColumn<V> {
    keys: StringBuilder,
    values: V,
    rows: Rows,
}

impl<V: Default> Default for MapColumn<V> {
    fn default() -> Self {
        Self { keys: StringBuilder::new(), values: V::default(), rows: Rows::default() }
    }
}

impl<V: ArrayBuilder> MapColumn<V> {
    /// Adds an entry called `key` to the current row; the caller appends one value.
    pub(super) fn value(&mut self, key: &str) -> &mut V {
        self.keys.append_value(key);
        &mut self.values
    }

    /// Ends the row; an empty one is an empty map.
    pub(super) fn end_row(&mut self) {
        self.rows.end_row(self.keys.len());
    }

    pub(super) fn finish(mut self, value_type: DataType) -> Result<MapArray, ArrowError> {
        let DataType::Map(entry, sorted) = map_of(value_type) else {
            return Err(ArrowError::SchemaError("not a map".into()));
        };
        let DataType::Struct(fields) = entry.data_type() else {
            return Err(ArrowError::SchemaError("not a map entry".into()));
        };
        let columns: Vec<ArrayRef> = vec![Arc::new(self.keys.finish()), self.values.finish()];
        let entries = StructArray::try_new(fields.clone(), columns, None)?;
        let ends = OffsetBuffer::new(self.rows.ends.into());
        MapArray::try_new(entry, ends, entries, self.rows.valid.finish(), sorted)
    }
}

/// The rows of a column of lists; the elements are built beside it.
#[derive(Debug, Default)]
pub(super) struct ListRows(Rows);

impl ListRows {
    /// Ends the row behind the element number `end`; an empty one is an empty list.
    pub(super) fn end_row(&mut self, end: usize) {
        self.0.end_row(end);
    }

    /// Lists of these elements.
    pub(super) fn finish(mut self, elements: ArrayRef) -> Result<ArrayRef, ArrowError> {
        let DataType::List(field) = list_of(elements.data_type().clone()) else {
            return Err(ArrowError::SchemaError("not a list".into()));
        };
        let ends = OffsetBuffer::new(self.0.ends.into());
        Ok(Arc::new(ListArray::try_new(field, ends, elements, self.0.valid.finish())?))
    }
}
