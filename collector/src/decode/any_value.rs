//! `AnyValue` bytes as JSON text, which is how an array or a map becomes a label.

use super::wire::Reader;

/// The JSON of the `AnyValue` in `bytes`, which have been checked when they were read; empty for none.
pub(super) fn to_json(bytes: &[u8]) -> String {
    let value = json(Reader::new(bytes), weir_model::limits::ANY_VALUE_DEPTH);
    if value.is_null() { String::new() } else { value.to_string() }
}

fn json(mut message: Reader<'_>, depth: usize) -> serde_json::Value {
    use serde_json::Value;
    let mut value = Value::Null;
    while let Ok(Some(field)) = message.next() {
        value = match field.number {
            1 => field.text().map_or(Value::Null, Value::from),
            2 => field.varint().map_or(Value::Null, |bool| Value::from(bool != 0)),
            3 => field.varint().map_or(Value::Null, |long| Value::from(long as i64)),
            4 => field.double().map_or(Value::Null, Value::from),
            5 if depth > 0 => field.message().map_or(Value::Null, |list| elements(list, depth - 1)),
            6 if depth > 0 => field.message().map_or(Value::Null, |list| entries(list, depth - 1)),
            7 => field.bytes().map_or(Value::Null, |bytes| Value::from(base64(bytes))),
            _ => value,
        };
    }
    value
}

fn elements(mut list: Reader<'_>, depth: usize) -> serde_json::Value {
    let mut values = vec![];
    while let Ok(Some(field)) = list.next() {
        if let (1, Ok(element)) = (field.number, field.message()) {
            values.push(json(element, depth));
        }
    }
    values.into()
}

fn entries(mut list: Reader<'_>, depth: usize) -> serde_json::Value {
    let mut map = serde_json::Map::new();
    while let Ok(Some(field)) = list.next() {
        let (1, Ok(mut entry)) = (field.number, field.message()) else { continue };
        let (mut key, mut value) = (String::new(), serde_json::Value::Null);
        while let Ok(Some(field)) = entry.next() {
            match field.number {
                1 => key = field.text().unwrap_or_default().to_owned(),
                2 => value = field.message().map_or(serde_json::Value::Null, |inner| json(inner, depth)),
                _ => {}
            }
        }
        map.insert(key, value);
    }
    map.into()
}

/// Standard base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let part = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = part(0) << 16 | part(1) << 8 | part(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 0x3f) as usize;
            out.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value};
    use prost::Message;

    #[test]
    fn values_are_shown_as_json() {
        use any_value::Value;
        let of = |value| AnyValue { value: Some(value) };
        let map = KeyValueList {
            values: vec![KeyValue {
                key: "k\"".into(),
                value: Some(of(Value::BytesValue(b"any carnal".to_vec()))),
                ..KeyValue::default()
            }],
        };
        let list = ArrayValue {
            values: vec![
                of(Value::IntValue(-1)),
                of(Value::BoolValue(true)),
                of(Value::DoubleValue(0.5)),
                of(Value::KvlistValue(map)),
                AnyValue { value: None },
            ],
        };
        let bytes = of(Value::ArrayValue(list)).encode_to_vec();
        assert_eq!(to_json(&bytes), r#"[-1,true,0.5,{"k\"":"YW55IGNhcm5hbA=="},null]"#);
        assert_eq!(to_json(&[]), "");
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"ab"), "YWI=");
    }
}
