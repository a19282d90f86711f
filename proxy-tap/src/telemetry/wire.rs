//! Protobuf written straight into a buffer: the few wire types that OTLP needs, no message objects.
//!
//! Format: protobuf.dev/programming-guides/encoding.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

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

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The form that `sint32` fields have.
pub(crate) fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)) as u32)
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    put_varint(out, u64::from(field << 3 | wire));
}

impl Fields for Vec<u8> {
    fn varint(&mut self, field: u32, value: u64) {
        tag(self, field, VARINT);
        put_varint(self, value);
    }

    fn fixed32(&mut self, field: u32, value: u32) {
        tag(self, field, FIXED32);
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn fixed64(&mut self, field: u32, value: u64) {
        tag(self, field, FIXED64);
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        tag(self, field, LENGTH);
        put_varint(self, value.len() as u64);
        self.extend_from_slice(value);
    }

    fn message(&mut self, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        tag(self, field, LENGTH);
        let at = self.len();
        self.push(0);
        fill(self);
        let length = self.len() - at - 1;
        if length < 0x80 {
            self[at] = length as u8;
        } else {
            let mut prefix = Vec::with_capacity(5);
            put_varint(&mut prefix, length as u64);
            self.splice(at..=at, prefix);
        }
    }

    fn text_attribute(&mut self, field: u32, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.message(field, |kv| {
            kv.bytes(1, key.as_bytes());
            kv.message(2, |any| any.bytes(1, value.as_bytes()));
        });
    }

    fn int_attribute(&mut self, field: u32, key: &str, value: i64) {
        self.message(field, |kv| {
            kv.bytes(1, key.as_bytes());
            kv.message(2, |any| any.varint(3, value as u64));
        });
    }

    fn double_attribute(&mut self, field: u32, key: &str, value: f64) {
        self.message(field, |kv| {
            kv.bytes(1, key.as_bytes());
            kv.message(2, |any| any.double(4, value));
        });
    }

    fn bool_attribute(&mut self, field: u32, key: &str, value: bool) {
        self.message(field, |kv| {
            kv.bytes(1, key.as_bytes());
            kv.message(2, |any| any.varint(2, u64::from(value)));
        });
    }
}

/// An export request: `body` (fields of the innermost list, already tagged) inside its scope and
/// resource. Traces, metrics and logs share these field numbers.
pub(crate) fn request(resource: &[u8], body: &[u8]) -> Vec<u8> {
    let scope = {
        let mut scope = Vec::with_capacity(32);
        scope.bytes(1, b"weir-proxy");
        scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
        scope
    };
    let mut inner = Vec::with_capacity(body.len() + 48);
    inner.bytes(1, &scope);
    inner.extend_from_slice(body);
    let mut outer = Vec::with_capacity(inner.len() + resource.len() + 16);
    outer.bytes(1, resource);
    outer.bytes(2, &inner);
    let mut request = Vec::with_capacity(outer.len() + 8);
    request.bytes(1, &outer);
    request
}
