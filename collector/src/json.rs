//! OTLP/JSON to OTLP protobuf bytes, so that there is one decoder (opentelemetry.io, "OTLP
//! Specification", JSON Protobuf Encoding).
//!
//! A table of the messages ([`schema`]) drives a streaming parser; no tree of values is built. Trace and
//! span ids are hex, 64-bit integers are numbers or strings, enums are numbers, fields that are unknown
//! are ignored, and a `null` is a field that is absent.

mod schema;

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::decode::Signal;
use schema::{Field, Kind, Message};

/// The request as protobuf.
pub(crate) fn to_protobuf(signal: Signal, json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut parser = serde_json::Deserializer::from_slice(json);
    parser.deserialize_map(MessageVisitor { message: request(signal), out: &mut out })?;
    parser.end()?;
    Ok(out)
}

/// An element of the request's one list, such as an entry of `resourceSpans`, as a request of its own.
pub(crate) fn entry_to_protobuf(signal: Signal, json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let [field] = request(signal).0 else { return Err(Error::custom("a request is a list of entries")) };
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut parser = serde_json::Deserializer::from_slice(json);
    ValueSeed { field, out: &mut out, element: true }.deserialize(&mut parser)?;
    parser.end()?;
    Ok(out)
}

fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &schema::TRACES,
        Signal::Metrics => &schema::METRICS,
        Signal::Logs => &schema::LOGS,
    }
}

/// Writes the fields of a JSON object.
struct MessageVisitor<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> Visitor<'de> for MessageVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(NameSeed(self.message))? {
            match name {
                Some(field) => map.next_value_seed(ValueSeed { field, out: self.out, element: false })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Finds the field that a key names.
struct NameSeed(&'static Message);

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.0.iter().find(|field| field.name == name))
    }
}

/// Writes the value of a field, or of one element where it is repeated.
struct ValueSeed<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    element: bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if matches!(self.field.kind, Kind::Double) && self.element == self.field.repeated {
            // The parser's own doubles may be off by the last digit.
            return self.double_text(<&RawValue>::deserialize(deserializer)?.get());
        }
        deserializer.deserialize_any(self)
    }
}

impl ValueSeed<'_> {
    fn wrong<E: Error>(&self, found: &str) -> E {
        E::custom(format_args!("field `{}` is {found}, expected {}", self.field.name, self.expected()))
    }

    fn expected(&self) -> &'static str {
        match self.field.kind {
            _ if self.field.repeated && !self.element => "an array",
            Kind::Text => "a string",
            Kind::Hex => "a string of hex digits",
            Kind::Base64 => "a string of base64",
            Kind::Bool => "true or false",
            Kind::Double => "a number",
            Kind::Message(_) => "an object",
            Kind::Varint32
            | Kind::Zigzag32
            | Kind::Fixed32
            | Kind::Varint64
            | Kind::Fixed64
            | Kind::Sfixed64 => "an integer",
        }
    }

    fn check_single<E: Error>(&self, found: &str) -> Result<(), E> {
        if self.field.repeated && !self.element { Err(self.wrong(found)) } else { Ok(()) }
    }

    fn put_bytes(self, bytes: &[u8]) {
        put_varint(self.out, self.key(2));
        put_varint(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn key(&self, wire_type: u64) -> u64 {
        u64::from(self.field.number) << 3 | wire_type
    }

    /// Writes an integer, if it is in the range of the field.
    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let out_of_range = || E::custom(format_args!("field `{}` is out of range: {value}", self.field.name));
        let small = |least: i64, most: i64| {
            i64::try_from(value).ok().filter(|v| (least..=most).contains(v)).ok_or_else(out_of_range)
        };
        match self.field.kind {
            Kind::Varint32 => {
                let value = small(i32::MIN.into(), u32::MAX.into())?;
                put_varint(self.out, self.key(0));
                put_varint(self.out, value as u64);
            }
            Kind::Zigzag32 => {
                let value = small(i32::MIN.into(), i32::MAX.into())?;
                put_varint(self.out, self.key(0));
                put_varint(self.out, ((value << 1) ^ (value >> 63)) as u64);
            }
            Kind::Fixed32 => {
                let value = small(0, u32::MAX.into())?;
                put_varint(self.out, self.key(5));
                self.out.extend_from_slice(&(value as u32).to_le_bytes());
            }
            Kind::Varint64 => {
                let value = i64::try_from(value).map(|v| v as u64).or(u64::try_from(value));
                let value = value.map_err(|_| out_of_range())?;
                put_varint(self.out, self.key(0));
                put_varint(self.out, value);
            }
            Kind::Fixed64 => {
                let value = u64::try_from(value).map_err(|_| out_of_range())?;
                put_varint(self.out, self.key(1));
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Sfixed64 => {
                let value = i64::try_from(value).map_err(|_| out_of_range())?;
                put_varint(self.out, self.key(1));
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            _ => return Err(self.wrong("a number")),
        }
        Ok(())
    }

    /// Writes the double that a JSON value stands for.
    fn double_text<E: Error>(self, json: &str) -> Result<(), E> {
        let value = match json {
            "null" if !self.element => return Ok(()),
            "\"NaN\"" => Some(f64::NAN),
            "\"Infinity\"" => Some(f64::INFINITY),
            "\"-Infinity\"" => Some(f64::NEG_INFINITY),
            // Rust also reads `inf`, and numbers beyond a double's range as infinite.
            _ => json.trim_matches('"').parse().ok().filter(|value: &f64| value.is_finite()),
        };
        let found = match json.as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'n') => "null",
            Some(b't' | b'f') => "a boolean",
            _ => "out of range",
        };
        match value {
            Some(value) => {
                put_varint(self.out, self.key(1));
                self.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            None => Err(self.wrong(found)),
        }
    }

    /// Writes a number with a fraction or exponent into a field of integers: some writers put `.0` there.
    fn fraction<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Text | Kind::Hex | Kind::Base64 | Kind::Bool | Kind::Message(_) | Kind::Double => {
                Err(self.wrong("a number"))
            }
            _ if value.fract() == 0.0 && value.abs() < 2_f64.powi(53) => self.integer(value as i128),
            _ => Err(self.wrong("a fraction")),
        }
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.field.kind {
            _ if !self.element => Ok(()),
            // Some writers put `null` for an empty value into an array.
            Kind::Message(_) => {
                self.put_bytes(&[]);
                Ok(())
            }
            _ => Err(self.wrong("null")),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.check_single("a boolean")?;
        if !matches!(self.field.kind, Kind::Bool) {
            return Err(self.wrong("a boolean"));
        }
        put_varint(self.out, self.key(0));
        put_varint(self.out, value.into());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.check_single("a number")?;
        self.integer(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.check_single("a number")?;
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.check_single("a number")?;
        self.fraction(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.check_single("a string")?;
        match self.field.kind {
            Kind::Text => self.put_bytes(text.as_bytes()),
            Kind::Hex => match from_hex(text) {
                Some(bytes) => self.put_bytes(&bytes),
                None => return Err(self.wrong("no hex")),
            },
            Kind::Base64 => match from_base64(text) {
                Some(bytes) => self.put_bytes(&bytes),
                None => return Err(self.wrong("no base64")),
            },
            Kind::Bool | Kind::Message(_) | Kind::Double => return Err(self.wrong("a string")),
            _ => match text.parse::<i128>() {
                Ok(value) => return self.integer(value),
                Err(_) => return Err(self.wrong("a string")),
            },
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if !self.field.repeated || self.element {
            return Err(self.wrong("an array"));
        }
        let Self { field, out, .. } = self;
        while let Some(()) = seq.next_element_seed(ValueSeed { field, out, element: true })? {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.check_single("an object")?;
        let Kind::Message(message) = self.field.kind else { return Err(self.wrong("an object")) };
        put_varint(self.out, self.key(2));
        // The length goes before what is not written yet.
        let start = self.out.len();
        MessageVisitor { message, out: self.out }.visit_map(map)?;
        let mut prefix = Vec::with_capacity(10);
        put_varint(&mut prefix, (self.out.len() - start) as u64);
        self.out.splice(start..start, prefix);
        Ok(())
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8; 2]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// Base64 of either alphabet, with or without padding, as protobuf's JSON mapping asks readers to take.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if digits.len() % 4 == 1 || text.len() - digits.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let mut bits = 0_u32;
        for index in 0..4 {
            bits = bits << 6 | chunk.get(index).map_or(Some(0), |c| base64_digit(*c))?;
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(out)
}

fn base64_digit(c: u8) -> Option<u32> {
    Some(u32::from(match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests;
