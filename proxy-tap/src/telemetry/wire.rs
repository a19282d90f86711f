//! Protobuf written straight into a buffer: the few wire types that OTLP needs, no message objects.
//!
//! Format: protobuf.dev/programming-guides/encoding.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// The tags of the fields of a `KeyValue`.
const KEY: u8 = 1 << 3 | LENGTH as u8;
const VALUE: u8 = 2 << 3 | LENGTH as u8;

/// Appends fields of one message to a buffer.
pub(crate) trait Fields {
    fn varint(&mut self, field: u32, value: u64);
    fn fixed32(&mut self, field: u32, value: u32);
    fn fixed64(&mut self, field: u32, value: u64);
    fn double(&mut self, field: u32, value: f64);
    fn bytes(&mut self, field: u32, value: &[u8]);
    fn message(&mut self, field: u32, fill: impl FnOnce(&mut Vec<u8>));
    /// A `KeyValue` with a text; nothing where the text is empty.
    fn text_attribute(&mut self, field: u32, key: &str, value: &str);
    /// A `KeyValue` with a whole number.
    fn int_attribute(&mut self, field: u32, key: &str, value: i64);
    /// A `KeyValue` with a float.
    fn double_attribute(&mut self, field: u32, key: &str, value: f64);
    /// A `KeyValue` with a truth value.
    fn bool_attribute(&mut self, field: u32, key: &str, value: bool);
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a varint takes.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    let bits = (value | 1).ilog2() as usize + 1;
    bits.div_ceil(7)
}

/// The form that `sint32` fields have.
pub(crate) fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)) as u32)
}

#[inline]
fn tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    put_varint(out, u64::from(field << 3 | wire));
}

/// What of a `KeyValue` comes before its value: `value` is the length of that `AnyValue`.
#[inline]
fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: usize) {
    let lengths = varint_len(key.len() as u64) + varint_len(value as u64);
    let length = 2 + lengths + key.len() + value;
    out.reserve(length + 8);
    if field < 16 && length < 0x80 {
        // All numbers take one byte.
        out.extend_from_slice(&[(field << 3 | LENGTH) as u8, length as u8, KEY, key.len() as u8]);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(&[VALUE, value as u8]);
        return;
    }
    tag(out, field, LENGTH);
    put_varint(out, length as u64);
    out.bytes(1, key.as_bytes());
    tag(out, 2, LENGTH);
    put_varint(out, value as u64);
}

impl Fields for Vec<u8> {
    #[inline]
    fn varint(&mut self, field: u32, value: u64) {
        tag(self, field, VARINT);
        put_varint(self, value);
    }

    #[inline]
    fn fixed32(&mut self, field: u32, value: u32) {
        tag(self, field, FIXED32);
        self.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    fn fixed64(&mut self, field: u32, value: u64) {
        tag(self, field, FIXED64);
        self.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    #[inline]
    fn bytes(&mut self, field: u32, value: &[u8]) {
        tag(self, field, LENGTH);
        put_varint(self, value.len() as u64);
        self.extend_from_slice(value);
    }

    #[inline]
    fn message(&mut self, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        tag(self, field, LENGTH);
        let at = self.len();
        self.push(0);
        fill(self);
        finish_message(self, at);
    }

    #[inline]
    fn text_attribute(&mut self, field: u32, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        attribute(self, field, key, 1 + varint_len(value.len() as u64) + value.len());
        self.bytes(1, value.as_bytes());
    }

    #[inline]
    fn int_attribute(&mut self, field: u32, key: &str, value: i64) {
        attribute(self, field, key, 1 + varint_len(value as u64));
        self.varint(3, value as u64);
    }

    #[inline]
    fn double_attribute(&mut self, field: u32, key: &str, value: f64) {
        attribute(self, field, key, 9);
        self.double(4, value);
    }

    #[inline]
    fn bool_attribute(&mut self, field: u32, key: &str, value: bool) {
        attribute(self, field, key, 2);
        self.varint(2, u64::from(value));
    }
}

/// Puts the length of the message that begins behind `at` there, where one byte is kept for it.
fn finish_message(out: &mut Vec<u8>, at: usize) {
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let more = varint_len(length as u64) - 1;
    let end = out.len();
    out.extend_from_slice(&[0; 9][..more]);
    out.copy_within(at + 1..end, at + 1 + more);
    let mut rest = length;
    for byte in &mut out[at..at + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[at + more] = rest as u8;
}

/// Gives the attributes in `block`, all of which are of one field below 16, to another one.
pub(crate) fn retag(mut block: &mut [u8], field: u32) {
    while let [tag, rest @ ..] = block {
        *tag = (field << 3 | LENGTH) as u8;
        let (mut length, mut at, mut shift) = (0_usize, 0, 0);
        while let Some(byte) = rest.get(at) {
            length |= usize::from(byte & 0x7f) << shift;
            (at, shift) = (at + 1, shift + 7);
            if *byte < 0x80 {
                break;
            }
        }
        block = rest.get_mut(at + length..).unwrap_or_default();
    }
}

/// What an export request begins with as a gRPC message: its length, and all that comes before the `body` bytes of
/// its records (fields of the innermost list, already tagged), inside their scope and resource. Traces, metrics and
/// logs share these field numbers.
pub(crate) fn beginning(resource: &[u8], body: usize) -> Vec<u8> {
    let mut scope = Vec::with_capacity(32);
    scope.bytes(1, b"weir-proxy");
    scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
    let nested = |length: usize| 1 + varint_len(length as u64) + length;
    let inner = nested(scope.len()) + body;
    let outer = nested(resource.len()) + nested(inner);
    let mut request = Vec::with_capacity(5 + nested(outer) - body);
    // Not compressed.
    request.push(0);
    request.extend_from_slice(&u32::try_from(nested(outer)).unwrap_or(u32::MAX).to_be_bytes());
    for (field, length) in [(1, outer), (1, resource.len())] {
        tag(&mut request, field, LENGTH);
        put_varint(&mut request, length as u64);
    }
    request.extend_from_slice(resource);
    tag(&mut request, 2, LENGTH);
    put_varint(&mut request, inner as u64);
    request.bytes(1, &scope);
    request
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
    use opentelemetry_proto::tonic::trace::v1::Span;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    proptest! {
        #[test]
        fn lengths_of_any_size_are_right(key in "[a-z.]{1,200}", text in "\\PC{1,300}", long in 0_usize..40_000, n: i64) {
            let mut span = Vec::new();
            span.bytes(1, &vec![7; long]);
            let at = span.len();
            span.text_attribute(6, &key, &text);
            span.int_attribute(6, &key, n);
            span.double_attribute(6, &key, 0.5);
            span.bool_attribute(6, &key, true);
            retag(&mut span[at..], 9);
            let mut outer = Vec::new();
            outer.message(2, |message| message.extend_from_slice(&span));
            // As a field of another message: number 2, its length, itself.
            let mut rest = &outer[1..];
            prop_assert_eq!(prost::decode_length_delimiter(&mut rest).unwrap(), span.len());
            let decoded = Span::decode(rest).unwrap();
            prop_assert_eq!(decoded.trace_id.len(), long);
            let value = |kv: &KeyValue| kv.value.clone().unwrap().value.unwrap();
            prop_assert!(decoded.attributes.iter().all(|kv| kv.key == key));
            let values: Vec<_> = decoded.attributes.iter().map(value).collect();
            prop_assert_eq!(values, [
                any_value::Value::StringValue(text),
                any_value::Value::IntValue(n),
                any_value::Value::DoubleValue(0.5),
                any_value::Value::BoolValue(true),
            ]);
        }

        #[test]
        fn the_length_of_a_varint_is_known_before(value: u64, shift in 0..64) {
            let mut out = Vec::new();
            put_varint(&mut out, value >> shift);
            prop_assert_eq!(out.len(), varint_len(value >> shift));
        }
    }
}
