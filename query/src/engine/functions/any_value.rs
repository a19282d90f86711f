//! OTLP `AnyValue` bytes as JSON text (opentelemetry-proto, `common/v1/common.proto`): arrays and maps as
//! such, byte strings as hex. Total: what is cut short or nested too deep shows as `null`.

use weir_model::limits::ANY_VALUE_DEPTH;

/// A text as it is, anything else as JSON.
pub(super) fn to_text(bytes: &[u8]) -> String {
    if let Some(Field { number: 1, value: Wire::Bytes(text) }) = last_field(bytes) {
        return String::from_utf8_lossy(text).into_owned();
    }
    let mut out = String::new();
    put_json(&mut out, bytes, 0);
    out
}

/// Two lowercase digits of each byte.
pub(super) fn hex(bytes: &[u8]) -> Vec<u8> {
    const PAIRS: [[u8; 2]; 256] = {
        let digits = b"0123456789abcdef";
        let mut pairs = [[0; 2]; 256];
        let mut byte = 0;
        while byte < pairs.len() {
            pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
            byte += 1;
        }
        pairs
    };
    let mut digits = vec![0; bytes.len() * 2];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
    digits
}

fn put_json(out: &mut String, bytes: &[u8], depth: usize) {
    let field = last_field(bytes).filter(|_| depth < ANY_VALUE_DEPTH);
    match field.map(|field| (field.number, field.value)) {
        Some((1, Wire::Bytes(text))) => put_text(out, &String::from_utf8_lossy(text)),
        Some((2, Wire::Number(flag))) => out.push_str(if flag == 0 { "false" } else { "true" }),
        Some((3, Wire::Number(number))) => out.push_str(&(number as i64).to_string()),
        Some((4, Wire::Fixed(bits))) => match serde_json::Number::from_f64(f64::from_bits(bits)) {
            Some(number) => out.push_str(&number.to_string()),
            None => put_text(out, &super::attributes::double_text(f64::from_bits(bits))),
        },
        Some((5, Wire::Bytes(list))) => {
            let items = fields(list).filter_map(|field| field.bytes(1));
            put_all(out, ('[', ']'), items, |out, item| put_json(out, item, depth + 1));
        }
        Some((6, Wire::Bytes(map))) => {
            let entries = fields(map).filter_map(|field| field.bytes(1));
            put_all(out, ('{', '}'), entries, |out, entry| {
                let key = fields(entry).find_map(|field| field.bytes(1)).unwrap_or_default();
                put_text(out, &String::from_utf8_lossy(key));
                out.push(':');
                let value = fields(entry).find_map(|field| field.bytes(2)).unwrap_or_default();
                put_json(out, value, depth + 1);
            });
        }
        Some((7, Wire::Bytes(bytes))) => {
            out.push('"');
            out.extend(hex(bytes).into_iter().map(char::from));
            out.push('"');
        }
        _ => out.push_str("null"),
    }
}

fn put_all<'a>(
    out: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = &'a [u8]>,
    put: impl Fn(&mut String, &'a [u8]),
) {
    out.push(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        put(out, item);
    }
    out.push(close);
}

fn put_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

struct Field<'a> {
    number: u64,
    value: Wire<'a>,
}

enum Wire<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Field<'a> {
    fn bytes(&self, number: u64) -> Option<&'a [u8]> {
        match self.value {
            Wire::Bytes(bytes) if self.number == number => Some(bytes),
            _ => None,
        }
    }
}

/// Of a `oneof`, the last field on the wire counts.
fn last_field(bytes: &[u8]) -> Option<Field<'_>> {
    fields(bytes).last()
}

/// The fields of a message, up to the first that is cut short.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Field<'_>> {
    std::iter::from_fn(move || {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            1 => {
                let (fixed, rest) = bytes.split_first_chunk::<8>()?;
                bytes = rest;
                Wire::Fixed(u64::from_le_bytes(*fixed))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Wire::Bytes(value)
            }
            5 => {
                bytes = bytes.get(4..)?;
                Wire::Other
            }
            _ => return None,
        };
        Some(Field { number: tag >> 3, value })
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_bytes_make_valid_json(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut json = String::new();
            put_json(&mut json, &bytes, 0);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
        }
    }

    #[test]
    fn lists_and_maps_become_json() {
        // array [1, "a"], by hand: value 5 { value 1 { int 3 } value 1 { string 1 } }
        let array = [0x2a, 0x09, 0x0a, 0x02, 0x18, 0x01, 0x0a, 0x03, 0x0a, 0x01, b'a'];
        assert_eq!(to_text(&array), r#"[1,"a"]"#);
        let map = [0x32, 0x09, 0x0a, 0x07, 0x0a, 0x01, b'k', 0x12, 0x02, 0x10, 0x01];
        assert_eq!(to_text(&map), r#"{"k":true}"#);
        assert_eq!(to_text(&[0x3a, 0x02, 0xca, 0xfe]), r#""cafe""#);
        assert_eq!(to_text(b"\x0a\x02hi"), "hi");
        assert_eq!(to_text(&[]), "null");
    }

    #[test]
    fn deep_nesting_ends() {
        let mut bytes = vec![0x18, 0x01];
        for _ in 0..100 {
            let mut list = vec![0x0a];
            put_len(&mut list, bytes.len());
            list.extend(&bytes);
            bytes = vec![0x2a];
            put_len(&mut bytes, list.len());
            bytes.extend(&list);
        }
        assert!(to_text(&bytes).contains("[null]"));
    }

    fn put_len(out: &mut Vec<u8>, mut length: usize) {
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
    }
}
