//! One write as bytes: who it is of, and its rows, table by table ([`columns`]).

use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::{Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use weir_model::{TenantId, limits};

use super::columns::{self, Pieces};
use crate::Table;

/// Bytes before each part: the table's number and its length.
const PART_HEAD: usize = 5;
/// The bits of that number above which the table's revision is.
const REVISION_SHIFT: u32 = 6;

/// The payload of a frame, in pieces.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) pieces: Vec<Buffer>,
    pub(crate) len: usize,
}

/// Why a write has no frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("it takes {0} bytes, more than the {1} that fit into a frame")]
    TooLarge(usize, usize),
    #[error("it has {0} parts, more than 65535")]
    TooManyParts(usize),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// The payload of a write, and the bytes that each part takes.
pub(crate) fn encode(
    tenant: &TenantId,
    parts: &[(Table, RecordBatch)],
) -> Result<(Payload, Vec<usize>), EncodeError> {
    encode_within(limits::WAL_FRAME_BYTES, tenant, parts)
}

/// [`encode`], for payloads of up to `max` bytes.
pub(super) fn encode_within(
    max: usize,
    tenant: &TenantId,
    parts: &[(Table, RecordBatch)],
) -> Result<(Payload, Vec<usize>), EncodeError> {
    let count = u16::try_from(parts.len()).map_err(|_| EncodeError::TooManyParts(parts.len()))?;
    let mut out = Pieces::default();
    let name = tenant.as_str().as_bytes();
    out.copy(&[name.len() as u8]); // at most 64
    out.copy(name);
    out.copy(&count.to_le_bytes());
    let mut sizes = Vec::with_capacity(parts.len());
    for (table, batch) in parts {
        let mut rows = Pieces::default();
        columns::write(batch, &mut rows)?;
        let size = rows.len();
        let len = out.len() + PART_HEAD + size;
        if len > max {
            return Err(EncodeError::TooLarge(len, max));
        }
        out.copy(&[table.number() | table.revision() << REVISION_SHIFT]);
        out.copy(&(size as u32).to_le_bytes()); // at most limits::WAL_FRAME_BYTES
        out.append(rows);
        sizes.push(size);
    }
    Ok((Payload { len: out.len(), pieces: out.finish() }, sizes))
}

/// A part of a decoded write, and the bytes it took.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) table: Table,
    pub(crate) batch: RecordBatch,
    pub(crate) bytes: usize,
}

/// The write that `payload` holds; says what is wrong where it holds none. `wanted` tells which tables'
/// parts are decoded; the others are passed over.
pub(crate) fn decode(
    payload: &[u8],
    wanted: impl Fn(&TenantId, Table) -> bool,
) -> Result<(TenantId, Vec<Part>), String> {
    let mut rest = payload;
    let name_len = take(&mut rest, 1)?[0];
    let name = take(&mut rest, usize::from(name_len))?;
    let tenant = std::str::from_utf8(name).ok().and_then(TenantId::new).ok_or("the tenant has no name")?;
    let count = take(&mut rest, 2)?;
    let count = u16::from_le_bytes([count[0], count[1]]);
    let mut parts = Vec::new();
    for _ in 0..count {
        let number = take(&mut rest, 1)?[0];
        let known = Table::from_number(number & ((1 << REVISION_SHIFT) - 1))
            .and_then(|table| Some((table, table.columns_at(number >> REVISION_SHIFT)?)));
        let (table, columns) = known.ok_or_else(|| format!("there is no table {number}"))?;
        let bytes = length(&mut rest)?;
        let rows = take(&mut rest, bytes)?;
        if wanted(&tenant, table) {
            let batch = columns::read(rows, schema_of(table, columns))?;
            let batch = table.fitted(batch).ok_or("it has other columns than its table")?;
            parts.push(Part { table, batch, bytes });
        }
    }
    if rest.is_empty() { Ok((tenant, parts)) } else { Err(format!("{} bytes are left over", rest.len())) }
}

/// The first `columns` columns of a table.
fn schema_of(table: Table, columns: usize) -> SchemaRef {
    let schema = table.schema();
    if columns == schema.fields().len() {
        return schema;
    }
    Arc::new(Schema::new(schema.fields().iter().take(columns).cloned().collect::<Fields>()))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], String> {
    let (taken, left) = rest.split_at_checked(len).ok_or("it ends early")?;
    *rest = left;
    Ok(taken)
}

fn length(rest: &mut &[u8]) -> Result<usize, String> {
    let bytes = take(rest, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}
