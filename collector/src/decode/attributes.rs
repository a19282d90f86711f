//! Attributes: read from the wire without copying, written to five maps by value type.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow::error::ArrowError;
use weir_model::limits;
use weir_storage::schema::{self, PROMOTED};

use super::Reason;
use super::columns::MapColumn;
use super::wire::{Fault, Reader};

/// One attribute, borrowed from the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    pub(super) key: &'a str,
    pub(super) value: Value<'a>,
    /// The `AnyValue` as sent.
    pub(super) raw: &'a [u8],
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
    scope: usize,
    seen: HashSet<&'a str>,
    /// How many were left out because their key was there already: the first one stays.
    pub(super) repeated: u64,
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
        let attribute = key_value(message)?;
        let scope = &self.list[self.scope..];
        let repeated = if scope.len() < COMPARED {
            scope.iter().any(|other| other.key == attribute.key)
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

fn key_value(mut message: Reader<'_>) -> Result<Attribute<'_>, Fault> {
    let mut attribute = Attribute { key: "", value: Value::Other, raw: &[] };
    while let Some(field) = message.next()? {
        match field.number {
            1 => attribute.key = field.text()?,
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
pub(super) fn promoted(attribute: &Attribute<'_>, resource: bool) -> Option<usize> {
    static KEYS: LazyLock<std::collections::HashMap<&'static str, usize>> =
        LazyLock::new(|| PROMOTED.iter().enumerate().map(|(index, p)| (p.key, index)).collect());
    let index = *KEYS.get(attribute.key)?;
    let column = &PROMOTED[index];
    let fits = match attribute.value {
        Value::Str(_) => !column.long,
        Value::Long(_) => column.long,
        _ => false,
    };
    (fits && column.resource == resource).then_some(index)
}

/// The five map columns of one scope.
#[derive(Debug, Default)]
pub(super) struct AttributeMaps {
    text: MapColumn<StringBuilder>,
    long: MapColumn<Int64Builder>,
    double: MapColumn<Float64Builder>,
    bool: MapColumn<BooleanBuilder>,
    other: MapColumn<BinaryBuilder>,
}

impl AttributeMaps {
    /// Adds to the current row.
    pub(super) fn push(&mut self, attribute: &Attribute<'_>) {
        match attribute.value {
            Value::Str(text) => self.text.value(attribute.key).append_value(text),
            Value::Long(long) => self.long.value(attribute.key).append_value(long),
            Value::Double(double) => self.double.value(attribute.key).append_value(double),
            Value::Bool(bool) => self.bool.value(attribute.key).append_value(bool),
            Value::Other => self.other.value(attribute.key).append_value(attribute.raw),
        }
    }

    /// Ends the row; a map that got nothing is null.
    pub(super) fn end_row(&mut self) {
        self.text.end_row();
        self.long.end_row();
        self.double.end_row();
        self.bool.end_row();
        self.other.end_row();
    }

    /// A row of these attributes.
    pub(super) fn row(&mut self, attributes: &[Attribute<'_>]) {
        attributes.iter().for_each(|attribute| self.push(attribute));
        self.end_row();
    }

    /// The columns, in the order of the schema.
    pub(super) fn finish(self, out: &mut Vec<ArrayRef>) -> Result<(), ArrowError> {
        let [text, long, double, bool, other] = schema::attribute_maps().map(|(_, value)| value);
        out.push(Arc::new(self.text.finish(text)?));
        out.push(Arc::new(self.long.finish(long)?));
        out.push(Arc::new(self.double.finish(double)?));
        out.push(Arc::new(self.bool.finish(bool)?));
        out.push(Arc::new(self.other.finish(other)?));
        Ok(())
    }
}

/// The two map columns of an event or a link: texts, and the `AnyValue` bytes of everything else.
#[derive(Debug, Default)]
pub(super) struct TextMaps {
    text: MapColumn<StringBuilder>,
    other: MapColumn<BinaryBuilder>,
}

impl TextMaps {
    /// A row of these attributes.
    pub(super) fn row(&mut self, attributes: &[Attribute<'_>]) {
        for attribute in attributes {
            match attribute.value {
                Value::Str(text) => self.text.value(attribute.key).append_value(text),
                _ => self.other.value(attribute.key).append_value(attribute.raw),
            }
        }
        self.text.end_row();
        self.other.end_row();
    }

    /// The columns, in the order of the schema.
    pub(super) fn finish(self, out: &mut Vec<ArrayRef>) -> Result<(), ArrowError> {
        let [text, .., other] = schema::attribute_maps().map(|(_, value)| value);
        out.push(Arc::new(self.text.finish(text)?));
        out.push(Arc::new(self.other.finish(other)?));
        Ok(())
    }
}

/// What these attributes take in a row, roughly: keys and values, and the offsets beside them.
pub(super) fn cost(attributes: &[Attribute<'_>]) -> usize {
    attributes.iter().map(|attribute| attribute.key.len() + attribute.raw.len() + 16).sum()
}
