//! Attributes: read from the wire without copying, written to five maps by value type.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use arrow::error::ArrowError;
use weir_model::limits;
use weir_storage::schema::PROMOTED;

use super::Reason;
use super::wire::{Fault, Reader};
use weir_storage::columns::{Blobs, Bools, Doubles, Finished, Longs, SparseMap, Texts};

/// One attribute, borrowed from the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    pub(super) key: &'a str,
    pub(super) value: Value<'a>,
    /// The `AnyValue` as sent.
    pub(super) raw: &'a [u8],
    hash: u32,
    /// The number in [`PROMOTED`] that the key has.
    promoted: Option<u8>,
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Str(&'a str),
    Bool(bool),
    Long(i64),
    Double(f64),
    /// An array, a map, bytes, or nothing: see the raw bytes.
    Other,
}

/// Attributes of several scopes, one after the other; the memory is used again from record to record.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a> {
    list: Vec<Attribute<'a>>,
    keys: Keys<'a>,
    scope: usize,
    seen: HashSet<&'a str>,
    /// How many were left out because their key was there already: the first one stays.
    pub(super) repeated: u64,
}

/// The keys that were read last: the same ones come with every record.
#[derive(Debug, Default)]
struct Keys<'a>(Vec<Key<'a>>);

#[derive(Debug, Clone, Copy, Default)]
struct Key<'a> {
    text: &'a str,
    hash: u32,
    promoted: Option<u8>,
}

/// Keys that are remembered, each in the place that its hash says.
const KEYS: usize = 128;

impl<'a> Keys<'a> {
    #[inline]
    fn resolve(&mut self, key: &'a [u8]) -> Result<Key<'a>, Fault> {
        let hash = hash(key);
        if self.0.is_empty() {
            self.0.resize(KEYS, Key::default());
        }
        let known = &mut self.0[hash as usize % KEYS];
        if known.hash != hash || !is_same(known.text.as_bytes(), key) {
            let text = std::str::from_utf8(key).map_err(|_| Reason::InvalidUtf8)?;
            *known = Key { text, hash, promoted: promoted_number(text) };
        }
        Ok(*known)
    }
}

/// Whether two keys are the same one, eight bytes at a time.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let (Some(tail), Some(other_tail)) = (one.last_chunk(), other.last_chunk()) else { return one == other };
    let number = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let (head, other_head) = (one.as_chunks::<8>().0, other.as_chunks::<8>().0);
    one.len() == other.len()
        && number(tail) == number(other_tail)
        && head.iter().zip(other_head).all(|(one, other)| number(one) == number(other))
}

/// Tells keys apart by their first and last bytes and their length; zero for the empty one.
#[inline]
fn hash(key: &[u8]) -> u32 {
    let (head, tail) = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => (key.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0),
    };
    let mixed = (head ^ tail.rotate_left(29)).wrapping_add(key.len() as u64);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 // the golden ratio, as Knuth has it
}

fn promoted_number(key: &str) -> Option<u8> {
    static NUMBERS: LazyLock<HashMap<&'static str, u8>> =
        LazyLock::new(|| (0..).zip(PROMOTED).map(|(number, promoted)| (promoted.key, number)).collect());
    NUMBERS.get(key).copied()
}

/// Up to this many attributes of a scope are compared one by one to find repeated keys.
const COMPARED: usize = 24;

impl<'a> Attributes<'a> {
    /// Forgets all attributes.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.begin();
    }

    /// Begins a new scope and says where.
    pub(super) fn begin(&mut self) -> usize {
        self.scope = self.list.len();
        self.seen.clear();
        self.scope
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Attribute<'a>] {
        &self.list
    }

    /// Reads a `KeyValue` message into the current scope.
    pub(super) fn read(&mut self, message: Reader<'a>) -> Result<(), Fault> {
        let attribute = key_value(message, &mut self.keys)?;
        let scope = &self.list[self.scope..];
        let repeated = if scope.len() < COMPARED {
            scope.iter().any(|other| other.hash == attribute.hash && other.key == attribute.key)
        } else {
            if self.seen.is_empty() {
                self.seen.extend(scope.iter().map(|other| other.key));
            }
            !self.seen.insert(attribute.key)
        };
        if repeated {
            self.repeated += 1;
        } else if self.list.len() >= limits::RECORD_PARTS {
            return Err(Reason::ManyParts.into());
        } else {
            self.list.push(attribute);
        }
        Ok(())
    }
}

#[inline]
fn key_value<'a>(message: Reader<'a>, keys: &mut Keys<'a>) -> Result<Attribute<'a>, Fault> {
    let Some((key, raw, value)) = usual_key_value(message.bytes()) else {
        return any_key_value(message, keys);
    };
    let Key { text, hash, promoted } = keys.resolve(key)?;
    Ok(Attribute { key: text, value, raw, hash, promoted })
}

/// Key, bytes of the value and value of a `KeyValue` as nearly all are: a short key, then a short value, which is a text
/// or a number. Whatever is not quite so is left to [`any_key_value`].
#[inline]
fn usual_key_value(message: &[u8]) -> Option<(&[u8], &[u8], Value<'_>)> {
    let (key, rest) = short(0x0a, message)?;
    let (raw, rest) = short(0x12, rest)?;
    if !rest.is_empty() {
        return None;
    }
    let value = match raw {
        [0x0a, len @ ..0x80, text @ ..] if usize::from(*len) == text.len() => {
            Value::Str(std::str::from_utf8(text).ok()?)
        }
        [0x10, bool @ ..2] => Value::Bool(*bool != 0),
        [0x18, low @ ..0x80] => Value::Long(i64::from(*low)),
        [0x18, low @ 0x80..=0xff, high @ ..0x80] => {
            Value::Long(i64::from(low & 0x7f) | i64::from(*high) << 7)
        }
        [0x21, double @ ..] => Value::Double(f64::from_le_bytes(double.try_into().ok()?)),
        _ => return None,
    };
    Some((key, raw, value))
}

/// The payload of the field that `bytes` begin with, and what follows it, where the key is `key` and the length takes
/// one byte.
#[inline]
fn short(key: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [first, len @ ..0x80, rest @ ..] if *first == key => rest.split_at_checked(usize::from(*len)),
        _ => None,
    }
}

fn any_key_value<'a>(mut message: Reader<'a>, keys: &mut Keys<'a>) -> Result<Attribute<'a>, Fault> {
    let mut attribute = Attribute { key: "", value: Value::Other, raw: &[], hash: 0, promoted: None };
    while let Some(field) = message.next()? {
        match field.number {
            1 => {
                let key = keys.resolve(field.bytes()?)?;
                (attribute.key, attribute.hash, attribute.promoted) = (key.text, key.hash, key.promoted);
            }
            2 => {
                let value = field.message()?;
                attribute.raw = value.bytes();
                attribute.value = any_value(value, limits::ANY_VALUE_DEPTH)?;
            }
            _ => {}
        }
    }
    Ok(attribute)
}

/// Reads an `AnyValue`, checking everything inside that may nest `depth` deep.
pub(super) fn any_value(mut message: Reader<'_>, depth: usize) -> Result<Value<'_>, Fault> {
    if depth == 0 {
        return Err(Reason::TooDeep.into());
    }
    let mut value = Value::Other;
    while let Some(field) = message.next()? {
        value = match field.number {
            1 => Value::Str(field.text()?),
            2 => Value::Bool(field.varint()? != 0),
            3 => Value::Long(field.varint()? as i64),
            4 => Value::Double(field.double()?),
            5 => {
                check_elements(field.message()?, depth - 1)?;
                Value::Other
            }
            6 => {
                check_entries(field.message()?, depth - 1)?;
                Value::Other
            }
            7 => {
                field.bytes()?;
                Value::Other
            }
            _ => value,
        };
    }
    Ok(value)
}

fn check_elements(mut array: Reader<'_>, depth: usize) -> Result<(), Fault> {
    while let Some(field) = array.next()? {
        if field.number == 1 {
            any_value(field.message()?, depth)?;
        }
    }
    Ok(())
}

fn check_entries(mut list: Reader<'_>, depth: usize) -> Result<(), Fault> {
    while let Some(field) = list.next()? {
        if field.number != 1 {
            continue;
        }
        let mut entry = field.message()?;
        while let Some(field) = entry.next()? {
            match field.number {
                1 => drop(field.text()?),
                2 => drop(any_value(field.message()?, depth)?),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The number in [`PROMOTED`] of the column that this attribute of a span or resource belongs in.
#[inline]
pub(super) fn promoted(attribute: &Attribute<'_>, resource: bool) -> Option<usize> {
    let number = usize::from(attribute.promoted?);
    let column = &PROMOTED[number];
    let fits = match attribute.value {
        Value::Str(_) => !column.long,
        Value::Long(_) => column.long,
        _ => false,
    };
    (fits && column.resource == resource).then_some(number)
}

/// The five map columns of one scope.
#[derive(Debug, Default)]
pub(super) struct AttributeMaps {
    text: SparseMap<Texts>,
    long: SparseMap<Longs>,
    double: SparseMap<Doubles>,
    bool: SparseMap<Bools>,
    other: SparseMap<Blobs>,
}

impl AttributeMaps {
    /// Of `rows` rows, or fewer.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            text: SparseMap::new(rows),
            long: SparseMap::new(rows),
            double: SparseMap::new(rows),
            bool: SparseMap::new(rows),
            other: SparseMap::new(rows),
        }
    }

    /// Adds to row number `row`; rows come in order.
    #[inline]
    pub(super) fn push(&mut self, row: usize, attribute: &Attribute<'_>) {
        match attribute.value {
            Value::Str(text) => self.text.push(row, attribute.key, text),
            Value::Long(long) => self.long.push(row, attribute.key, long),
            Value::Double(double) => self.double.push(row, attribute.key, double),
            Value::Bool(bool) => self.bool.push(row, attribute.key, bool),
            Value::Other => self.other.push(row, attribute.key, attribute.raw),
        }
    }

    /// Gives the attributes of row number `row`, the last one so far, to `times` rows more.
    pub(super) fn again(&mut self, row: usize, times: usize) {
        self.text.again(row, times);
        self.long.again(row, times);
        self.double.again(row, times);
        self.bool.again(row, times);
        self.other.again(row, times);
    }

    /// The columns, in the order of the schema.
    pub(super) fn finish(self, out: &mut Finished<'_>) -> Result<(), ArrowError> {
        out.map(self.text)?;
        out.map(self.long)?;
        out.map(self.double)?;
        out.map(self.bool)?;
        out.map(self.other)
    }
}

/// The two map columns of an event or a link: texts, and the `AnyValue` bytes of everything else.
#[derive(Debug)]
pub(super) struct TextMaps {
    text: SparseMap<Texts>,
    other: SparseMap<Blobs>,
}

impl TextMaps {
    /// Of `rows` rows, or about as many.
    pub(super) fn new(rows: usize) -> Self {
        Self { text: SparseMap::new(rows), other: SparseMap::new(rows) }
    }

    /// Row number `row` of these attributes; rows come in order.
    pub(super) fn row(&mut self, row: usize, attributes: &[Attribute<'_>]) {
        for attribute in attributes {
            match attribute.value {
                Value::Str(text) => self.text.push(row, attribute.key, text),
                _ => self.other.push(row, attribute.key, attribute.raw),
            }
        }
    }

    /// The columns, in the order of the schema.
    pub(super) fn finish(self, out: &mut Finished<'_>) -> Result<(), ArrowError> {
        out.map(self.text)?;
        out.map(self.other)
    }
}

/// What these attributes take in a row, roughly: keys and values, and the offsets beside them.
pub(super) fn cost(attributes: &[Attribute<'_>]) -> usize {
    attributes.iter().map(|attribute| attribute.key.len() + attribute.raw.len() + 16).sum()
}
