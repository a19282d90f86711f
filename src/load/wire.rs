//! The few protobuf primitives that batches are assembled with from pre-encoded parts.

use prost::Message;

/// The bytes of a varint.
pub(super) fn put_varint(buf: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, buf);
}

/// A length-delimited field: a string, bytes, or an encoded message.
pub(super) fn put_bytes(buf: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    put_varint(buf, u64::from(tag << 3 | 2));
    put_varint(buf, bytes.len() as u64);
    buf.extend_from_slice(bytes);
}

/// A `fixed64`, `sfixed64` or (as bits) `double` field.
pub(super) fn put_fixed64(buf: &mut Vec<u8>, tag: u32, value: u64) {
    put_varint(buf, u64::from(tag << 3 | 1));
    buf.extend_from_slice(&value.to_le_bytes());
}

/// A varint field.
pub(super) fn put_uint(buf: &mut Vec<u8>, tag: u32, value: u64) {
    put_varint(buf, u64::from(tag << 3));
    put_varint(buf, value);
}

/// `message` as field `tag` of the message around it.
pub(super) fn put_message(buf: &mut Vec<u8>, tag: u32, message: &impl Message) {
    put_bytes(buf, tag, &message.encode_to_vec());
}
