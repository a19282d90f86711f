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
struct Stretch {
    batch: usize,
    from: usize,
    to: usize,
}

impl Stretch {
    fn len(&self) -> usize {
        self.to - self.from
    }

    fn range(&self) -> Range<usize> {
        self.from..self.to
    }
}

/// Which rows of which batches, in turn.
#[derive(Debug)]
pub(crate) struct Stretches {
    stretches: Vec<Stretch>,
    rows: usize,
}

impl Stretches {
    /// The rows at `places`: (batch, row).
    pub(crate) fn of(places: &[(usize, usize)]) -> Self {
        let mut stretches: Vec<Stretch> = Vec::with_capacity(places.len());
        for &(batch, row) in places {
            match stretches.last_mut() {
                Some(last) if last.batch == batch && last.to == row => last.to += 1,
                _ => stretches.push(Stretch { batch, from: row, to: row + 1 }),
            }
        }
        Self { stretches, rows: places.len() }
    }
}

/// The rows of `batches`, one batch after the other.
pub(crate) fn all(table: Table, batches: &[&RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let whole = |(batch, rows): (usize, &&RecordBatch)| Stretch { batch, from: 0, to: rows.num_rows() };
    let stretches = batches.iter().enumerate().map(whole).collect();
    let rows = batches.iter().map(|batch| batch.num_rows()).sum();
    by_column(table, batches, Stretches { stretches, rows })
}

/// The rows at `places`: (batch, row).
pub(crate) fn rows(
    table: Table,
    batches: &[&RecordBatch],
    places: &[(usize, usize)],
) -> Result<RecordBatch, ArrowError> {
    by_column(table, batches, Stretches::of(places))
}

fn by_column(
    table: Table,
    batches: &[&RecordBatch],
    stretches: Stretches,
) -> Result<RecordBatch, ArrowError> {
    let schema = table.schema();
    let chunks = [stretches];
    let columns = (0..schema.fields().len()).flat_map(|number| column(table, batches, number, &chunks));
    let columns = columns.collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_new(schema, columns)
}

/// The column number `number` of `batches` in the rows of each of `chunks`.
pub(crate) fn column<'c>(
    table: Table,
    batches: &[&'c RecordBatch],
    number: usize,
    chunks: &'c [Stretches],
) -> impl Iterator<Item = Result<ArrayRef, ArrowError>> + use<'c> {
    let columns: Vec<&'c dyn Array> = batches.iter().map(|batch| batch.column(number).as_ref()).collect();
    let is_absent = columns.iter().all(|column| column.null_count() == column.len());
    let schema = table.schema();
    chunks.iter().map(move |Stretches { stretches, rows }| {
        let data_type = schema.field(number).data_type();
        if is_absent {
            return Ok(schema::absent(data_type, *rows));
        }
        gather(data_type, &columns, stretches, *rows)
    })
}

/// The elements of `arrays`, all of `data_type`, that `stretches` name; `len` in all.
fn gather(
    data_type: &DataType,
    arrays: &[&dyn Array],
    stretches: &[Stretch],
    len: usize,
) -> Result<ArrayRef, ArrowError> {
    let valid = valid(arrays, stretches, len);
    Ok(match data_type {
        DataType::Boolean => {
            let bits: Vec<_> = arrays.iter().map(|array| array.as_boolean().values()).collect();
            let mut gathered = BooleanBufferBuilder::new(len);
            append_bits(&mut gathered, stretches, |batch| Some(bits[batch]));
            Arc::new(BooleanArray::new(gathered.finish(), valid))
        }
        DataType::Utf8 => Arc::new(byte_strings::<Utf8Type>(arrays, stretches, len, valid)?),
        DataType::Binary => Arc::new(byte_strings::<BinaryType>(arrays, stretches, len, valid)?),
        DataType::List(element) => {
            let lists: Vec<_> = arrays.iter().map(|array| array.as_list::<i32>()).collect();
            let offsets: Vec<&[i32]> = lists.iter().map(|list| list.value_offsets()).collect();
            let (ends, inner, count) = elements(&offsets, stretches, len)?;
            let values: Vec<&dyn Array> = lists.iter().map(|list| list.values().as_ref()).collect();
            let values = gather(element.data_type(), &values, &inner, count)?;
            Arc::new(ListArray::try_new(Arc::clone(element), ends, values, valid)?)
        }
        DataType::Map(entry, sorted) => {
            let maps: Vec<_> = arrays.iter().map(|array| array.as_map()).collect();
            let offsets: Vec<&[i32]> = maps.iter().map(|map| map.value_offsets()).collect();
            let (ends, inner, count) = elements(&offsets, stretches, len)?;
            let entries: Vec<&dyn Array> = maps.iter().map(|map| map.entries() as &dyn Array).collect();
            let entries = gather(entry.data_type(), &entries, &inner, count)?.as_struct().clone();
            Arc::new(MapArray::try_new(Arc::clone(entry), ends, entries, valid, *sorted)?)
        }
        DataType::Struct(fields) => {
            let structs: Vec<_> = arrays.iter().map(|array| array.as_struct()).collect();
            let column = |(number, field): (usize, &FieldRef)| {
                let columns: Vec<&dyn Array> = structs.iter().map(|of| of.column(number).as_ref()).collect();
                gather(field.data_type(), &columns, stretches, len)
            };
            let columns = fields.iter().enumerate().map(column).collect::<Result<_, ArrowError>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, valid, len)?)
        }
        DataType::Int16 => numbers::<Int16Type>(data_type, arrays, stretches, len, valid)?,
        DataType::Int32 => numbers::<Int32Type>(data_type, arrays, stretches, len, valid)?,
        DataType::Int64 => numbers::<Int64Type>(data_type, arrays, stretches, len, valid)?,
        DataType::Float64 => numbers::<Float64Type>(data_type, arrays, stretches, len, valid)?,
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            numbers::<TimestampMicrosecondType>(data_type, arrays, stretches, len, valid)?
        }
        other => return Err(ArrowError::NotYetImplemented(format!("rows with a column of {other}"))),
    })
}

/// Which elements are not null; nothing where all are.
fn valid(arrays: &[&dyn Array], stretches: &[Stretch], len: usize) -> Option<NullBuffer> {
    if arrays.iter().all(|array| array.null_count() == 0) {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(len);
    append_bits(&mut bits, stretches, |batch| arrays[batch].nulls().map(NullBuffer::inner));
    Some(NullBuffer::new(bits.finish())).filter(|nulls| nulls.null_count() > 0)
}

/// Appends the bits of `of` that `stretches` name; where it has none they are set.
fn append_bits<'b>(
    out: &mut BooleanBufferBuilder,
    stretches: &[Stretch],
    of: impl Fn(usize) -> Option<&'b BooleanBuffer>,
) {
    for stretch in stretches {
        match of(stretch.batch) {
            None => out.append_n(stretch.len(), true),
            Some(bits) if stretch.len() == 1 => out.append(bits.value(stretch.from)),
            Some(bits) => {
                let from = bits.offset() + stretch.from;
                out.append_packed_range(from..from + stretch.len(), bits.values());
            }
        }
    }
}

fn numbers<T: ArrowPrimitiveType>(
    data_type: &DataType,
    arrays: &[&dyn Array],
    stretches: &[Stretch],
    len: usize,
    valid: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let values: Vec<&[T::Native]> =
        arrays.iter().map(|array| &array.as_primitive::<T>().values()[..]).collect();
    let mut gathered: Vec<T::Native> = Vec::with_capacity(len);
    for stretch in stretches {
        match &values[stretch.batch][stretch.range()] {
            [value] => gathered.push(*value),
            values => gathered.extend_from_slice(values),
        }
    }
    let numbers = PrimitiveArray::<T>::try_new(gathered.into(), valid)?;
    Ok(Arc::new(numbers.with_data_type(data_type.clone())))
}

fn byte_strings<T: ByteArrayType<Offset = i32>>(
    arrays: &[&dyn Array],
    stretches: &[Stretch],
    len: usize,
    valid: Option<NullBuffer>,
) -> Result<GenericByteArray<T>, ArrowError> {
    let arrays: Vec<_> = arrays.iter().map(|array| array.as_bytes::<T>()).collect();
    let offsets: Vec<&[i32]> = arrays.iter().map(|array| array.value_offsets()).collect();
    let (ends, inner, bytes) = elements(&offsets, stretches, len)?;
    let values: Vec<&[u8]> = arrays.iter().map(|array| array.value_data()).collect();
    let mut gathered = Vec::with_capacity(bytes);
    for stretch in &inner {
        gathered.extend_from_slice(&values[stretch.batch][stretch.range()]);
    }
    GenericByteArray::try_new(ends, Buffer::from_vec(gathered), valid)
}

/// Where what `offsets` delimit begins and ends once `stretches` are put together, where it is now, and how much there is.
fn elements(
    offsets: &[&[i32]],
    stretches: &[Stretch],
    len: usize,
) -> Result<(OffsetBuffer<i32>, Vec<Stretch>, usize), ArrowError> {
    let mut ends: Vec<i32> = Vec::with_capacity(len + 1);
    let mut inner = Vec::with_capacity(stretches.len());
    let mut count = 0;
    ends.push(0);
    for &Stretch { batch, from, to } in stretches {
        let offsets = &offsets[batch][from..=to];
        let (from, to) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize); // they are not negative
        let before = count;
        count += to - from;
        match offsets {
            [_, _] => ends.push(count as i32),
            [_, offsets @ ..] => ends.extend(offsets.iter().map(|end| *end + (before as i32 - from as i32))),
            [] => {}
        }
        inner.push(Stretch { batch, from, to });
        if count > i32::MAX as usize {
            return Err(ArrowError::OffsetOverflowError(count));
        }
    }
    Ok((OffsetBuffer::new(ends.into()), inner, count))
}

#[cfg(test)]
mod tests;
