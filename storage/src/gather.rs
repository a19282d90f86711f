//! Rows of several batches put together, in ranges: of the entries of a map and of the bytes of texts, what is beside
//! each other is copied at once, which arrow's `interleave` does one by one. Columns without a value in any of
//! the batches are most columns of most spans: they are passed over.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, GenericByteArray,
    ListArray, MapArray, PrimitiveArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    BinaryType, ByteArrayType, DataType, FieldRef, Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, Utf8Type,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::{Table, schema};

/// Neighbouring rows of a batch, or neighbouring elements of an array of it.
#[derive(Debug, Clone, Copy)]
struct Slice {
    batch: usize,
    from: usize,
    to: usize,
}

impl Slice {
    fn len(&self) -> usize {
        self.to - self.from
    }

    fn range(&self) -> Range<usize> {
        self.from..self.to
    }
}

/// Which rows of which batches, in turn.
#[derive(Debug)]
pub(crate) struct Slices {
    slices: Vec<Slice>,
    rows: usize,
}

impl Slices {
    /// The rows at `places`: (batch, row).
    pub(crate) fn of(places: &[(usize, usize)]) -> Self {
        let mut slices: Vec<Slice> = Vec::with_capacity(places.len());
        for &(batch, row) in places {
            match slices.last_mut() {
                Some(last) if last.batch == batch && last.to == row => last.to += 1,
                _ => slices.push(Slice { batch, from: row, to: row + 1 }),
            }
        }
        Self { slices, rows: places.len() }
    }
}

/// The rows of `batches`, one batch after the other.
pub(crate) fn all(table: Table, batches: &[&RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let whole = |(batch, rows): (usize, &&RecordBatch)| Slice { batch, from: 0, to: rows.num_rows() };
    let slices = batches.iter().enumerate().map(whole).collect();
    let rows = batches.iter().map(|batch| batch.num_rows()).sum();
    by_column(table, batches, Slices { slices, rows })
}

/// The rows at `places`: (batch, row).
pub(crate) fn rows(
    table: Table,
    batches: &[&RecordBatch],
    places: &[(usize, usize)],
) -> Result<RecordBatch, ArrowError> {
    by_column(table, batches, Slices::of(places))
}

fn by_column(table: Table, batches: &[&RecordBatch], slices: Slices) -> Result<RecordBatch, ArrowError> {
    let schema = table.schema();
    let chunks = [slices];
    let columns = (0..schema.fields().len()).flat_map(|number| column(table, batches, number, &chunks));
    let columns = columns.collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_new(schema, columns)
}

/// The column number `number` of `batches` in the rows of each of `chunks`.
pub(crate) fn column<'c>(
    table: Table,
    batches: &[&'c RecordBatch],
    number: usize,
    chunks: &'c [Slices],
) -> impl Iterator<Item = Result<ArrayRef, ArrowError>> + use<'c> {
    let columns: Vec<&'c dyn Array> = batches.iter().map(|batch| batch.column(number).as_ref()).collect();
    let is_absent = columns.iter().all(|column| column.null_count() == column.len());
    let schema = table.schema();
    chunks.iter().map(move |Slices { slices, rows }| {
        let data_type = schema.field(number).data_type();
        if is_absent {
            return Ok(schema::absent(data_type, *rows));
        }
        gather(data_type, &columns, slices, *rows)
    })
}

/// The elements of `arrays`, all of `data_type`, that `slices` name; `len` in all.
fn gather(
    data_type: &DataType,
    arrays: &[&dyn Array],
    slices: &[Slice],
    len: usize,
) -> Result<ArrayRef, ArrowError> {
    let valid = valid(arrays, slices, len);
    Ok(match data_type {
        DataType::Boolean => {
            let bits: Vec<_> = arrays.iter().map(|array| array.as_boolean().values()).collect();
            let mut gathered = BooleanBufferBuilder::new(len);
            append_bits(&mut gathered, slices, |batch| Some(bits[batch]));
            Arc::new(BooleanArray::new(gathered.finish(), valid))
        }
        DataType::Utf8 => Arc::new(byte_strings::<Utf8Type>(arrays, slices, len, valid)?),
        DataType::Binary => Arc::new(byte_strings::<BinaryType>(arrays, slices, len, valid)?),
        DataType::List(element) => {
            let lists: Vec<_> = arrays.iter().map(|array| array.as_list::<i32>()).collect();
            let offsets: Vec<&[i32]> = lists.iter().map(|list| list.value_offsets()).collect();
            let (ends, inner, count) = elements(&offsets, slices, len)?;
            let values: Vec<&dyn Array> = lists.iter().map(|list| list.values().as_ref()).collect();
            let values = gather(element.data_type(), &values, &inner, count)?;
            Arc::new(ListArray::try_new(Arc::clone(element), ends, values, valid)?)
        }
        DataType::Map(entry, sorted) => {
            let maps: Vec<_> = arrays.iter().map(|array| array.as_map()).collect();
            let offsets: Vec<&[i32]> = maps.iter().map(|map| map.value_offsets()).collect();
            let (ends, inner, count) = elements(&offsets, slices, len)?;
            let entries: Vec<&dyn Array> = maps.iter().map(|map| map.entries() as &dyn Array).collect();
            let entries = gather(entry.data_type(), &entries, &inner, count)?.as_struct().clone();
            Arc::new(MapArray::try_new(Arc::clone(entry), ends, entries, valid, *sorted)?)
        }
        DataType::Struct(fields) => {
            let structs: Vec<_> = arrays.iter().map(|array| array.as_struct()).collect();
            let column = |(number, field): (usize, &FieldRef)| {
                let columns: Vec<&dyn Array> = structs.iter().map(|of| of.column(number).as_ref()).collect();
                gather(field.data_type(), &columns, slices, len)
            };
            let columns = fields.iter().enumerate().map(column).collect::<Result<_, ArrowError>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, valid, len)?)
        }
        DataType::Int16 => numbers::<Int16Type>(data_type, arrays, slices, len, valid)?,
        DataType::Int32 => numbers::<Int32Type>(data_type, arrays, slices, len, valid)?,
        DataType::Int64 => numbers::<Int64Type>(data_type, arrays, slices, len, valid)?,
        DataType::Float64 => numbers::<Float64Type>(data_type, arrays, slices, len, valid)?,
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            numbers::<TimestampMicrosecondType>(data_type, arrays, slices, len, valid)?
        }
        other => return Err(ArrowError::NotYetImplemented(format!("rows with a column of {other}"))),
    })
}

/// Which elements are not null; nothing where all are.
fn valid(arrays: &[&dyn Array], slices: &[Slice], len: usize) -> Option<NullBuffer> {
    if arrays.iter().all(|array| array.null_count() == 0) {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(len);
    append_bits(&mut bits, slices, |batch| arrays[batch].nulls().map(NullBuffer::inner));
    Some(NullBuffer::new(bits.finish())).filter(|nulls| nulls.null_count() > 0)
}

/// Appends the bits of `of` that `slices` name; where it has none they are set.
fn append_bits<'b>(
    out: &mut BooleanBufferBuilder,
    slices: &[Slice],
    of: impl Fn(usize) -> Option<&'b BooleanBuffer>,
) {
    for slice in slices {
        match of(slice.batch) {
            None => out.append_n(slice.len(), true),
            Some(bits) if slice.len() == 1 => out.append(bits.value(slice.from)),
            Some(bits) => {
                let from = bits.offset() + slice.from;
                out.append_packed_range(from..from + slice.len(), bits.values());
            }
        }
    }
}

fn numbers<T: ArrowPrimitiveType>(
    data_type: &DataType,
    arrays: &[&dyn Array],
    slices: &[Slice],
    len: usize,
    valid: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let values: Vec<&[T::Native]> =
        arrays.iter().map(|array| &array.as_primitive::<T>().values()[..]).collect();
    let mut gathered: Vec<T::Native> = Vec::with_capacity(len);
    for slice in slices {
        match &values[slice.batch][slice.range()] {
            [value] => gathered.push(*value),
            values => gathered.extend_from_slice(values),
        }
    }
    let numbers = PrimitiveArray::<T>::try_new(gathered.into(), valid)?;
    Ok(Arc::new(numbers.with_data_type(data_type.clone())))
}

fn byte_strings<T: ByteArrayType<Offset = i32>>(
    arrays: &[&dyn Array],
    slices: &[Slice],
    len: usize,
    valid: Option<NullBuffer>,
) -> Result<GenericByteArray<T>, ArrowError> {
    let arrays: Vec<_> = arrays.iter().map(|array| array.as_bytes::<T>()).collect();
    let offsets: Vec<&[i32]> = arrays.iter().map(|array| array.value_offsets()).collect();
    let (ends, inner, bytes) = elements(&offsets, slices, len)?;
    let values: Vec<&[u8]> = arrays.iter().map(|array| array.value_data()).collect();
    let mut gathered = Vec::with_capacity(bytes);
    for slice in &inner {
        gathered.extend_from_slice(&values[slice.batch][slice.range()]);
    }
    GenericByteArray::try_new(ends, Buffer::from_vec(gathered), valid)
}

/// Where what `offsets` delimit begins and ends once `slices` are put together, where it is now, and how much there is.
fn elements(
    offsets: &[&[i32]],
    slices: &[Slice],
    len: usize,
) -> Result<(OffsetBuffer<i32>, Vec<Slice>, usize), ArrowError> {
    let mut ends: Vec<i32> = Vec::with_capacity(len + 1);
    let mut inner = Vec::with_capacity(slices.len());
    let mut count = 0;
    ends.push(0);
    for &Slice { batch, from, to } in slices {
        let offsets = &offsets[batch][from..=to];
        let (from, to) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize); // they are not negative
        let before = count;
        count += to - from;
        match offsets {
            [_, _] => ends.push(count as i32),
            [_, offsets @ ..] => ends.extend(offsets.iter().map(|end| *end + (before as i32 - from as i32))),
            [] => {}
        }
        inner.push(Slice { batch, from, to });
        if count > i32::MAX as usize {
            return Err(ArrowError::OffsetOverflowError(count));
        }
    }
    Ok((OffsetBuffer::new(ends.into()), inner, count))
}

#[cfg(test)]
mod tests;
