//! Columns most of whose rows have no value: a row without one costs nothing, and a column without any costs
//! nothing at all.
//!
//! A value names its row; whatever lies between it and the row before it is null.

mod lists;
mod moment;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray, NullBufferBuilder,
    PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Fields, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use crate::schema;

pub use lists::Lists;
pub use moment::{At, Moment};

/// What is reserved for the texts of a column, at most: they may turn out shorter than the first.
const RESERVED_BYTES: usize = 64 << 10;

/// The values of a column, one after the other.
pub trait Values: Default {
    /// One of them.
    type Value<'v>;

    /// Appends a value; `rows` are expected in all.
    fn push(&mut self, value: Self::Value<'_>, rows: usize);

    /// Appends `count` values that stand for null.
    fn skip(&mut self, count: usize);

    /// Appends, `times` times, all values from number `from` on.
    fn again(&mut self, from: usize, times: usize);

    /// How many there are.
    fn count(&self) -> usize;

    /// All of them as an array.
    fn finish(self, data_type: &DataType, valid: Option<NullBuffer>) -> Result<ArrayRef, ArrowError>;
}

/// Texts, or byte strings.
#[derive(Debug, Default)]
pub struct Bytes {
    /// Where each begins, and where the last one ends.
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Bytes {
    #[inline]
    fn append(&mut self, value: &[u8], rows: usize) {
        if self.ends.is_empty() {
            self.begin(rows);
        }
        if self.bytes.is_empty() {
            self.bytes.reserve((rows * value.len()).min(RESERVED_BYTES));
        }
        self.bytes.extend_from_slice(value);
        self.ends.push(end(self.bytes.len()));
    }

    fn begin(&mut self, rows: usize) {
        self.ends.reserve(rows + 1);
        self.ends.push(0);
    }

    fn pad(&mut self, count: usize) {
        if self.ends.is_empty() {
            self.begin(count);
        }
        self.ends.resize(self.ends.len() + count, end(self.bytes.len()));
    }

    fn repeat(&mut self, from: usize, times: usize) {
        let ends = from + 1..self.ends.len();
        let begin = self.ends[from] as usize;
        let block = begin..self.bytes.len();
        self.bytes.reserve(times * block.len());
        self.ends.reserve(times * ends.len());
        for time in 1..=times {
            let shift = end(time * block.len());
            self.bytes.extend_from_within(block.clone());
            for number in ends.clone() {
                self.ends.push(self.ends[number] + shift);
            }
        }
    }

    fn count(&self) -> usize {
        self.ends.len().saturating_sub(1)
    }

    fn parts(mut self) -> (OffsetBuffer<i32>, Buffer) {
        if self.ends.is_empty() {
            self.ends.push(0);
        }
        (OffsetBuffer::new(self.ends.into()), Buffer::from_vec(self.bytes))
    }
}

/// An offset; a request is paid for from a budget far below `i32::MAX`.
fn end(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// Texts.
#[derive(Debug, Default)]
pub struct Texts(Bytes);

impl Values for Texts {
    type Value<'v> = &'v str;

    #[inline]
    fn push(&mut self, value: &str, rows: usize) {
        self.0.append(value.as_bytes(), rows);
    }

    fn skip(&mut self, count: usize) {
        self.0.pad(count);
    }

    fn again(&mut self, from: usize, times: usize) {
        self.0.repeat(from, times);
    }

    fn count(&self) -> usize {
        self.0.count()
    }

    fn finish(self, _: &DataType, valid: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let (ends, bytes) = self.0.parts();
        Ok(Arc::new(StringArray::try_new(ends, bytes, valid)?))
    }
}

/// Byte strings.
#[derive(Debug, Default)]
pub struct Blobs(Bytes);

impl Values for Blobs {
    type Value<'v> = &'v [u8];

    #[inline]
    fn push(&mut self, value: &[u8], rows: usize) {
        self.0.append(value, rows);
    }

    fn skip(&mut self, count: usize) {
        self.0.pad(count);
    }

    fn again(&mut self, from: usize, times: usize) {
        self.0.repeat(from, times);
    }

    fn count(&self) -> usize {
        self.0.count()
    }

    fn finish(self, _: &DataType, valid: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let (ends, bytes) = self.0.parts();
        Ok(Arc::new(BinaryArray::try_new(ends, bytes, valid)?))
    }
}

/// Numbers of one width.
#[derive(Debug)]
pub struct Numbers<T: ArrowPrimitiveType>(Vec<T::Native>);

/// Integers.
pub type Longs = Numbers<Int64Type>;
/// Integers of half that width.
pub type Int32s = Numbers<Int32Type>;
/// Small integers.
pub type Shorts = Numbers<Int16Type>;
/// Floating point numbers.
pub type Doubles = Numbers<Float64Type>;
/// Microseconds in UTC.
pub type Micros = Numbers<TimestampMicrosecondType>;

impl<T: ArrowPrimitiveType> Default for Numbers<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: ArrowPrimitiveType> Values for Numbers<T> {
    type Value<'v> = T::Native;

    #[inline]
    fn push(&mut self, value: T::Native, rows: usize) {
        if self.0.is_empty() {
            self.0.reserve(rows);
        }
        self.0.push(value);
    }

    fn skip(&mut self, count: usize) {
        self.0.resize(self.0.len() + count, T::default_value());
    }

    fn again(&mut self, from: usize, times: usize) {
        let block = from..self.0.len();
        self.0.reserve(times * block.len());
        (0..times).for_each(|_| self.0.extend_from_within(block.clone()));
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn finish(self, data_type: &DataType, valid: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let numbers = PrimitiveArray::<T>::try_new(self.0.into(), valid)?;
        Ok(Arc::new(numbers.with_data_type(data_type.clone())))
    }
}

/// Truth values.
#[derive(Debug)]
pub struct Bools(BooleanBufferBuilder);

impl Default for Bools {
    fn default() -> Self {
        Self(BooleanBufferBuilder::new(0))
    }
}

impl Values for Bools {
    type Value<'v> = bool;

    fn push(&mut self, value: bool, _: usize) {
        self.0.append(value);
    }

    fn skip(&mut self, count: usize) {
        self.0.append_n(count, false);
    }

    fn again(&mut self, from: usize, times: usize) {
        let block: Vec<bool> = (from..self.0.len()).map(|number| self.0.get_bit(number)).collect();
        (0..times).for_each(|_| self.0.append_slice(&block));
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn finish(mut self, _: &DataType, valid: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(BooleanArray::new(self.0.finish(), valid)))
    }
}

/// A column of which any row may be null.
#[derive(Debug)]
pub struct Sparse<V> {
    values: V,
    valid: NullBufferBuilder,
    rows: usize,
}

impl<V: Values> Default for Sparse<V> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<V: Values> Sparse<V> {
    /// A column of `rows` rows, or fewer.
    pub fn new(rows: usize) -> Self {
        Self { values: V::default(), valid: NullBufferBuilder::new(rows), rows }
    }

    /// Gives row number `row` its value; rows come in order.
    #[inline]
    pub fn push(&mut self, row: usize, value: V::Value<'_>) {
        self.reach(row);
        self.values.push(value, self.rows);
        self.valid.append_non_null();
    }

    /// Gives the value of row number `row`, the last one so far, to `times` rows more; nothing where it has none.
    pub fn again(&mut self, row: usize, times: usize) {
        if self.values.count() == row + 1 {
            self.values.again(row, times);
            self.valid.append_n_non_nulls(times);
        }
    }

    #[inline]
    fn reach(&mut self, row: usize) {
        let missing = row - self.values.count().min(row);
        if missing > 0 {
            self.values.skip(missing);
            self.valid.append_n_nulls(missing);
        }
    }

    /// The column, of exactly `rows` rows.
    pub fn finish(mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        if self.values.count() == 0 {
            return Ok(schema::absent(data_type, rows));
        }
        self.reach(rows);
        self.values.finish(data_type, self.valid.finish())
    }
}

impl Sparse<Texts> {
    /// Gives row number `row` its text, unless it is empty.
    #[inline]
    pub fn push_text(&mut self, row: usize, text: &str) {
        if !text.is_empty() {
            self.push(row, text);
        }
    }
}

/// Which entries of a map, or elements of a list, belong to which row; a row without any is null.
#[derive(Debug)]
pub struct Rows {
    /// Where each row begins among the entries.
    starts: Vec<i32>,
    valid: NullBufferBuilder,
    rows: usize,
}

impl Rows {
    /// Of `rows` rows, or fewer.
    pub fn new(rows: usize) -> Self {
        Self { starts: Vec::new(), valid: NullBufferBuilder::new(rows), rows }
    }

    /// The entry number `entry` belongs to row number `row`; both come in order.
    #[inline]
    pub fn enter(&mut self, row: usize, entry: usize) {
        let begun = self.starts.len();
        if row < begun {
            return;
        }
        if begun == 0 {
            self.starts.reserve(self.rows + 1);
        }
        self.starts.resize(row + 1, end(entry));
        if row > begun {
            self.valid.append_n_nulls(row - begun);
        }
        self.valid.append_non_null();
    }

    /// `times` rows more that are like row number `row`, whose `count` entries were the last ones; says where these begin.
    fn again(&mut self, row: usize, times: usize, count: usize) -> Option<usize> {
        let begin = *self.starts.get(row)?;
        let own = end(count) - begin;
        self.starts.extend((1..=times).map(|time| begin + end(time) * own));
        self.valid.append_n_non_nulls(times);
        Some(begin as usize)
    }

    /// Where `rows` rows lie among `entries`, and which are not null.
    fn finish(mut self, rows: usize, entries: usize) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        self.valid.append_n_nulls(rows - self.starts.len().min(rows));
        self.starts.resize(rows + 1, end(entries));
        (OffsetBuffer::new(self.starts.into()), self.valid.finish())
    }

    /// Lists of structs, whose columns `elements` finishes; `data_type` is that of the lists.
    fn finish_structs(
        self,
        data_type: &DataType,
        rows: usize,
        count: usize,
        elements: impl FnOnce(&mut Finished<'_>) -> Result<(), ArrowError>,
    ) -> Result<ArrayRef, ArrowError> {
        let (DataType::List(element), false) = (data_type, self.starts.is_empty()) else {
            return Ok(schema::absent(data_type, rows));
        };
        let fields = fields_of(element.data_type());
        let mut finished = Finished::new(&fields, count);
        elements(&mut finished)?;
        let structs = StructArray::try_new(fields.clone(), finished.columns, None)?;
        let (ends, valid) = self.finish(rows, count);
        Ok(Arc::new(ListArray::try_new(Arc::clone(element), ends, Arc::new(structs), valid)?))
    }
}

fn fields_of(data_type: &DataType) -> Fields {
    match data_type {
        DataType::Struct(fields) => fields.clone(),
        _ => Fields::empty(),
    }
}

/// A column of maps from text.
#[derive(Debug)]
pub struct SparseMap<V> {
    keys: Texts,
    values: V,
    rows: Rows,
}

impl<V: Values> Default for SparseMap<V> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<V: Values> SparseMap<V> {
    /// A column of `rows` rows, or fewer.
    pub fn new(rows: usize) -> Self {
        Self { keys: Texts::default(), values: V::default(), rows: Rows::new(rows) }
    }

    /// Adds an entry to row number `row`; rows come in order.
    #[inline]
    pub fn push(&mut self, row: usize, key: &str, value: V::Value<'_>) {
        self.rows.enter(row, self.keys.count());
        self.keys.push(key, self.rows.rows);
        self.values.push(value, self.rows.rows);
    }

    /// Gives the entries of row number `row`, the last one so far, to `times` rows more; nothing where it has none.
    pub fn again(&mut self, row: usize, times: usize) {
        if let Some(from) = self.rows.again(row, times, self.keys.count()) {
            self.keys.again(from, times);
            self.values.again(from, times);
        }
    }

    /// The column, of exactly `rows` rows; `data_type` is that of the maps.
    pub fn finish(self, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        let (DataType::Map(entry, sorted), false) = (data_type, self.keys.count() == 0) else {
            return Ok(schema::absent(data_type, rows));
        };
        let (ends, valid) = self.rows.finish(rows, self.keys.count());
        let fields = fields_of(entry.data_type());
        let type_of = |number: usize| fields.get(number).map_or(&DataType::Null, |field| field.data_type());
        let columns = vec![self.keys.finish(type_of(0), None)?, self.values.finish(type_of(1), None)?];
        let entries = StructArray::try_new(fields.clone(), columns, None)?;
        Ok(Arc::new(MapArray::try_new(Arc::clone(entry), ends, entries, valid, *sorted)?))
    }
}

/// The columns of a batch or of a struct, as they are finished one after the other.
#[derive(Debug)]
pub struct Finished<'f> {
    fields: &'f Fields,
    rows: usize,
    columns: Vec<ArrayRef>,
}

impl<'f> Finished<'f> {
    /// None yet of those that `fields` describe, of `rows` rows each.
    pub fn new(fields: &'f Fields, rows: usize) -> Self {
        Self { fields, rows, columns: Vec::with_capacity(fields.len()) }
    }

    /// The type of the next one.
    fn data_type(&self) -> &'f DataType {
        self.fields.get(self.columns.len()).map_or(&DataType::Null, |field| field.data_type())
    }

    /// The next column.
    pub fn push(&mut self, column: ArrayRef) {
        self.columns.push(column);
    }

    /// The next column.
    pub fn sparse<V: Values>(&mut self, column: Sparse<V>) -> Result<(), ArrowError> {
        self.columns.push(column.finish(self.data_type(), self.rows)?);
        Ok(())
    }

    /// The next column: a list for each row.
    pub fn lists<T: ArrowPrimitiveType>(&mut self, column: Lists<T>) -> Result<(), ArrowError> {
        self.columns.push(column.finish(self.data_type(), None)?);
        Ok(())
    }

    /// The next column.
    pub fn map<V: Values>(&mut self, column: SparseMap<V>) -> Result<(), ArrowError> {
        self.columns.push(column.finish(self.data_type(), self.rows)?);
        Ok(())
    }

    /// The next column: lists of `count` structs in all, whose columns `elements` finishes.
    pub fn list(
        &mut self,
        rows: Rows,
        count: usize,
        elements: impl FnOnce(&mut Finished<'_>) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError> {
        self.columns.push(rows.finish_structs(self.data_type(), self.rows, count, elements)?);
        Ok(())
    }

    /// The other columns, all without values.
    pub fn absent(&mut self) {
        for field in &self.fields[self.columns.len().min(self.fields.len())..] {
            self.columns.push(schema::absent(field.data_type(), self.rows));
        }
    }

    /// All of them.
    pub fn columns(self) -> Vec<ArrayRef> {
        self.columns
    }
}
