//! The parts of OTLP messages that translations of other formats are written with.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// The records of a `Resource…` entry in its request, of a `Scope…` entry in that, and of a record in that: the
/// numbers are the same for spans, metrics and log records.
pub(crate) const ENTRIES: u32 = 1;
pub(crate) const SCOPES: u32 = 2;
pub(crate) const RECORDS: u32 = 2;

/// The head of a field that holds a message of so many bytes.
pub(crate) fn field(number: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Bytes of such a field with its head.
pub(crate) fn field_length(number: u32, length: usize) -> usize {
    key_len(number) + encoded_len_varint(length as u64) + length
}

/// The bytes of a hex id, filled up with zeros on the left; empty where it is none.
pub(crate) fn id(hex: &str, bytes: usize) -> Vec<u8> {
    if hex.is_empty() || hex.len() > 2 * bytes || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Vec::new();
    }
    let mut id = vec![0; bytes];
    for (at, digit) in hex.bytes().rev().enumerate() {
        let value = char::from(digit).to_digit(16).unwrap_or_default() as u8;
        id[bytes - 1 - at / 2] |= value << (4 * (at % 2));
    }
    id
}

/// An attribute whose value is a text.
pub(crate) fn text(key: &str, value: String) -> KeyValue {
    attribute(key, Value::StringValue(value))
}

/// An attribute.
pub(crate) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_are_filled_up_and_wrong_ones_are_left_to_the_decoder() {
        assert_eq!(id("a", 8), [0, 0, 0, 0, 0, 0, 0, 0x0a]);
        assert_eq!(id("0123456789abcdef", 16)[..9], [0, 0, 0, 0, 0, 0, 0, 0, 0x01]);
        assert_eq!((id("", 8), id("xyz", 8), id("0123456789abcdef0", 8)), (vec![], vec![], vec![]));
    }
}
