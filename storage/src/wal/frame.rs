//! One write as bytes: who it is of, and its record batches as Arrow IPC messages without their schema,
//! which the table's number and the format version imply.

use std::collections::HashMap;
use std::panic::catch_unwind;

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{MetadataVersion, reader, root_as_message};
use arrow::record_batch::RecordBatch;
use weir_model::{TenantId, limits};

use crate::Table;

/// Bytes before each part: the table's number and two lengths.
const PART_HEAD: usize = 9;

/// The payload of a frame, in the pieces it was encoded to.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) len: usize,
}

impl Payload {
    fn push(&mut self, piece: Vec<u8>) {
        self.len += piece.len();
        self.pieces.push(piece);
    }
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
    let mut payload = Payload::default();
    let mut sizes = Vec::with_capacity(parts.len());
    let name = tenant.as_str().as_bytes();
    let mut head = Vec::with_capacity(3 + name.len() + PART_HEAD);
    head.push(name.len() as u8); // at most 64
    head.extend_from_slice(name);
    head.extend_from_slice(&count.to_le_bytes());

    // Eight bytes keep buffers aligned for reading; the default of 64 would treble small batches.
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
    let mut context = IpcWriteContext::default();
    for (table, batch) in parts {
        let mut no_dictionaries = DictionaryTracker::new(false);
        let (_, message) =
            IpcDataGenerator::default().encode(batch, &mut no_dictionaries, &options, &mut context)?;
        let size = message.ipc_message.len() + message.arrow_data.len();
        let len = payload.len + head.len() + PART_HEAD + size;
        if len > max {
            return Err(EncodeError::TooLarge(len, max));
        }
        head.push(table.number());
        head.extend_from_slice(&(message.ipc_message.len() as u32).to_le_bytes());
        head.extend_from_slice(&(message.arrow_data.len() as u32).to_le_bytes());
        payload.push(std::mem::take(&mut head));
        payload.push(message.ipc_message);
        payload.push(message.arrow_data);
        sizes.push(size);
    }
    if !head.is_empty() {
        payload.push(head);
    }
    Ok((payload, sizes))
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
        let table = Table::from_number(number).ok_or_else(|| format!("there is no table {number}"))?;
        let sizes = [length(&mut rest)?, length(&mut rest)?];
        let metadata = take(&mut rest, sizes[0])?;
        let body = take(&mut rest, sizes[1])?;
        if wanted(&tenant, table) {
            // Arrow panics over some metadata that is not sound. No one frame may keep storage from opening.
            let batch = catch_unwind(|| record_batch(table, metadata, body))
                .map_err(|_| "its rows make no sense".to_owned())?
                .map_err(|e| e.to_string())?;
            parts.push(Part { table, batch, bytes: sizes[0] + sizes[1] });
        }
    }
    if rest.is_empty() { Ok((tenant, parts)) } else { Err(format!("{} bytes are left over", rest.len())) }
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

fn record_batch(table: Table, metadata: &[u8], body: &[u8]) -> Result<RecordBatch, ArrowError> {
    let bad = |what: String| ArrowError::IpcError(what);
    let message = root_as_message(metadata).map_err(|e| bad(e.to_string()))?;
    let header = message.header_as_record_batch().ok_or_else(|| bad("not a record batch".to_owned()))?;
    // Copied once, so that rows replayed do not keep a whole segment in memory.
    let body = Buffer::from(body);
    reader::read_record_batch(&body, header, table.schema(), &HashMap::new(), None, &message.version())
}
