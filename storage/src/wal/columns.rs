//! Rows as bytes: the buffers of their columns one after the other, without a word about what the schema and the
//! number of rows imply already. Columns without a value take one bit.
//!
//! Writing copies nothing but small buffers; reading copies each, to where Arrow wants it aligned, and checks
//! everything, because a checksum proves where bytes come from, not that they make sense.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, ListArray, MapArray, RecordBatch, StringArray,
    StructArray, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::error::ArrowError;

/// Buffers up to this size are copied together: a piece of its own costs more.
const SMALL_BYTES: usize = 1 << 10;

/// Bytes in the pieces they came in.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pieces: Vec<Buffer>,
    /// What comes after them.
    tail: Vec<u8>,
    len: usize,
}

impl Pieces {
    /// Appends a copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    fn share(&mut self, buffer: Buffer) {
        if buffer.len() <= SMALL_BYTES {
            return self.copy(&buffer);
        }
        self.len += buffer.len();
        self.end_tail();
        self.pieces.push(buffer);
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(Buffer::from_vec(std::mem::take(&mut self.tail)));
        }
    }

    /// Appends all of `other`.
    pub(crate) fn append(&mut self, other: Self) {
        other.finish().into_iter().for_each(|piece| self.share(piece));
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The pieces, in order.
    pub(crate) fn finish(mut self) -> Vec<Buffer> {
        self.end_tail();
        self.pieces
    }
}

/// Appends the rows of `batch`.
pub(crate) fn write(batch: &RecordBatch, out: &mut Pieces) -> Result<(), ArrowError> {
    let rows = batch.num_rows();
    let count = u32::try_from(rows).map_err(|e| ArrowError::InvalidArgumentError(e.to_string()))?;
    out.copy(&count.to_le_bytes());
    let mut present = vec![0; batch.num_columns().div_ceil(8)];
    for (number, column) in batch.columns().iter().enumerate() {
        if column.null_count() < rows {
            present[number / 8] |= 1 << (number % 8);
        }
    }
    out.copy(&present);
    for column in batch.columns().iter().filter(|column| column.null_count() < rows) {
        write_column(column, out)?;
    }
    Ok(())
}

fn write_column(column: &dyn Array, out: &mut Pieces) -> Result<(), ArrowError> {
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => {
            out.copy(&[1]);
            write_bits(nulls.inner(), out);
        }
        None => out.copy(&[0]),
    }
    match column.data_type() {
        DataType::Boolean => write_bits(column.as_boolean().values(), out),
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            let (first, last) = write_offsets(texts.offsets(), out);
            out.share(texts.values().slice_with_length(first, last - first));
        }
        DataType::Binary => {
            let blobs = column.as_binary::<i32>();
            let (first, last) = write_offsets(blobs.offsets(), out);
            out.share(blobs.values().slice_with_length(first, last - first));
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let (first, last) = write_offsets(lists.offsets(), out);
            write_column(&lists.values().slice(first, last - first), out)?;
        }
        DataType::Map(..) => {
            let maps = column.as_map();
            let (first, last) = write_offsets(maps.offsets(), out);
            write_column(&maps.entries().slice(first, last - first), out)?;
        }
        DataType::Struct(_) => {
            column.as_struct().columns().iter().try_for_each(|column| write_column(column, out))?;
        }
        other => {
            let width = width(other)?;
            let data = column.to_data();
            let values = data.buffers().first().cloned().unwrap_or_default();
            out.share(values.slice_with_length(data.offset() * width, data.len() * width));
        }
    }
    Ok(())
}

/// Appends bits, the first of them in the lowest bit of the first byte.
fn write_bits(bits: &BooleanBuffer, out: &mut Pieces) {
    let bytes = bits.sliced();
    out.share(bytes.slice_with_length(0, bits.len().div_ceil(8)));
}

/// Appends offsets from zero on; gives the first and the last as they are.
fn write_offsets(offsets: &OffsetBuffer<i32>, out: &mut Pieces) -> (usize, usize) {
    let first = offsets[0];
    if first == 0 {
        out.share(offsets.inner().inner().clone());
    } else {
        let from_zero: Vec<i32> = offsets.iter().map(|offset| offset - first).collect();
        out.share(Buffer::from_vec(from_zero));
    }
    (first as usize, offsets[offsets.len() - 1] as usize)
}

/// Bytes of a value of a type of fixed width.
fn width(data_type: &DataType) -> Result<usize, ArrowError> {
    let width = data_type.primitive_width();
    width.ok_or_else(|| ArrowError::NotYetImplemented(format!("a column of {data_type}")))
}

/// The rows that `bytes` are, which have the columns of `schema`.
pub(crate) fn read(bytes: &[u8], schema: SchemaRef) -> Result<RecordBatch, String> {
    let mut reader = Reader { rest: bytes };
    let count = reader.take(4)?;
    let rows = u32::from_le_bytes([count[0], count[1], count[2], count[3]]) as usize;
    let present = reader.take(schema.fields().len().div_ceil(8))?;
    let is_present = |number: usize| present[number / 8] & (1 << (number % 8)) != 0;
    if (schema.fields().len()..8 * present.len()).any(is_present) {
        return Err("it has columns that its table has not".to_owned());
    }
    // Each table has a moment, which takes eight bytes a row: no more rows than there are bytes for are made room for.
    if rows.saturating_mul(8) > reader.rest.len() {
        return Err(format!("it is too short for {rows} rows"));
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (number, field) in schema.fields().iter().enumerate() {
        columns.push(if is_present(number) {
            reader.column(field, rows)?
        } else {
            crate::schema::absent(field.data_type(), rows)
        });
    }
    if !reader.rest.is_empty() {
        return Err(format!("{} bytes are left over behind its rows", reader.rest.len()));
    }
    RecordBatch::try_new(schema, columns).map_err(|e| e.to_string())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, left) = self.rest.split_at_checked(len).ok_or("it ends early")?;
        self.rest = left;
        Ok(taken)
    }

    fn column(&mut self, field: &Field, len: usize) -> Result<ArrayRef, String> {
        let valid = match self.take(1)? {
            [0] => None,
            [1] => Some(NullBuffer::new(self.bits(len)?)),
            _ => return Err(format!("it does not say which rows of `{}` are null", field.name())),
        };
        let made = |e: ArrowError| format!("column `{}`: {e}", field.name());
        Ok(match field.data_type() {
            DataType::Boolean => Arc::new(BooleanArray::new(self.bits(len)?, valid)),
            DataType::Utf8 => {
                let (ends, bytes) = self.byte_strings(len)?;
                Arc::new(StringArray::try_new(ends, bytes, valid).map_err(made)?)
            }
            DataType::Binary => {
                let (ends, bytes) = self.byte_strings(len)?;
                Arc::new(BinaryArray::try_new(ends, bytes, valid).map_err(made)?)
            }
            DataType::List(element) => {
                let (ends, count) = self.offsets(len)?;
                let elements = self.column(element, count)?;
                Arc::new(ListArray::try_new(Arc::clone(element), ends, elements, valid).map_err(made)?)
            }
            DataType::Map(entry, sorted) => {
                let (ends, count) = self.offsets(len)?;
                let entries = self.column(entry, count)?;
                let entries = entries.as_struct().clone();
                Arc::new(MapArray::try_new(Arc::clone(entry), ends, entries, valid, *sorted).map_err(made)?)
            }
            DataType::Struct(fields) => {
                let columns = fields
                    .iter()
                    .map(|field: &FieldRef| self.column(field, len))
                    .collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new(fields.clone(), columns, valid).map_err(made)?)
            }
            other => {
                let values = self.take(len.saturating_mul(width(other).map_err(made)?))?;
                let data = arrow::array::ArrayData::builder(other.clone())
                    .len(len)
                    .add_buffer(Buffer::from(values))
                    .nulls(valid);
                make_array(data.build().map_err(made)?)
            }
        })
    }

    fn bits(&mut self, len: usize) -> Result<BooleanBuffer, String> {
        Ok(BooleanBuffer::new(Buffer::from(self.take(len.div_ceil(8))?), 0, len))
    }

    fn byte_strings(&mut self, len: usize) -> Result<(OffsetBuffer<i32>, Buffer), String> {
        let (ends, bytes) = self.offsets(len)?;
        Ok((ends, Buffer::from(self.take(bytes)?)))
    }

    /// Offsets of `len` values, and the last of them.
    fn offsets(&mut self, len: usize) -> Result<(OffsetBuffer<i32>, usize), String> {
        let bytes = self.take(len.saturating_add(1).saturating_mul(4))?;
        let offsets = ScalarBuffer::<i32>::from(Buffer::from(bytes));
        let rise = offsets[0] == 0 && offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if !rise {
            return Err("its offsets do not rise from zero".to_owned());
        }
        let last = offsets[len] as usize; // not below the first
        Ok((OffsetBuffer::new(offsets), last))
    }
}

#[cfg(test)]
mod tests;
