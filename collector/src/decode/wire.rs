//! Reads the protobuf wire format from a slice without copying and without ever panicking, so that
//! decoders walk a request in one pass (protobuf.dev, "Encoding").

use super::Reason;

/// Why bytes are not the protobuf message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message at byte {at}: {reason}")]
pub struct Malformed {
    /// Offset in the whole message.
    pub at: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// Why a record cannot be taken: the fault of the whole message, or of this record alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Malformed(Malformed),
    Record(Reason),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Record(reason)
    }
}

/// Walks the fields of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Where it ends in the whole message.
    end: usize,
}

/// One field: its number and its value as the wire types them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    at: usize,
    value: Value<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Reader<'a>),
    Group,
}

/// Deepest nesting of groups, which are skipped; nothing in OTLP has any.
const GROUP_DEPTH: usize = 8;

impl<'a> Reader<'a> {
    /// A reader of the whole message `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, end: bytes.len() }
    }

    /// Where in the whole message the next byte is.
    #[inline]
    fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    /// What has not been read.
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field, or `None` at the end.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let field = self.field()?;
        if matches!(field.value, Value::Group) {
            self.skip_group(field.number)?;
        }
        Ok(Some(field))
    }

    #[inline(always)]
    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let at = self.at();
        let key = self.varint()?;
        if !(1 << 3..1 << 32).contains(&key) {
            return Err(Malformed { at, reason: "field number out of range" });
        }
        let number = (key >> 3) as u32;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Value::Bytes(self.delimited()?),
            3 => Value::Group,
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Malformed { at, reason: "unknown or unexpected wire type" }),
        };
        Ok(Field { number, at, value })
    }

    /// Skips to behind the end of the group `number` whose start was just read.
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = [0; GROUP_DEPTH];
        let mut depth = 1;
        open[0] = number;
        while depth > 0 {
            let mut ahead = *self;
            let at = self.at();
            let key = ahead.varint()?;
            if key & 7 == 4 {
                if key >> 3 != u64::from(open[depth - 1]) {
                    return Err(Malformed { at, reason: "end of a group that was not begun" });
                }
                *self = ahead;
                depth -= 1;
                continue;
            }
            let field = self.field()?;
            if matches!(field.value, Value::Group) {
                let slot = open.get_mut(depth).ok_or(Malformed { at, reason: "groups nested too deeply" })?;
                *slot = field.number;
                depth += 1;
            }
        }
        Ok(())
    }

    /// The next base-128 number.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    break;
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        let reason = if self.rest.len() < 10 { "number is cut short" } else { "number is too long" };
        Err(Malformed { at: self.at(), reason })
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed { at: self.at(), reason: "fixed-size value is cut short" })?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline(always)]
    pub(crate) fn delimited(&mut self) -> Result<Self, Malformed> {
        let at = self.at();
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        let Some((payload, rest)) = self.rest.split_at_checked(len) else {
            return Err(Malformed { at, reason: "length goes beyond the end" });
        };
        self.rest = rest;
        Ok(Self { rest: payload, end: self.at() })
    }
}

impl<'a> Field<'a> {
    fn wrong_type<T>(&self) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, reason: "a known field has another wire type" })
    }

    /// The value of an integer, enum or bool field.
    #[inline]
    pub(crate) fn varint(&self) -> Result<u64, Malformed> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => self.wrong_type(),
        }
    }

    /// The value of an `int32` or enum field.
    #[inline]
    pub(crate) fn int32(&self) -> Result<i32, Malformed> {
        Ok(self.varint()? as i32)
    }

    /// The value of a `uint32` field.
    #[inline]
    pub(crate) fn uint32(&self) -> Result<u32, Malformed> {
        Ok(self.varint()? as u32)
    }

    /// The value of an `sint32` field.
    pub(crate) fn sint32(&self) -> Result<i32, Malformed> {
        let raw = self.varint()? as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// The value of a `fixed64` field.
    #[inline]
    pub(crate) fn fixed64(&self) -> Result<u64, Malformed> {
        match self.value {
            Value::Fixed64(value) => Ok(value),
            _ => self.wrong_type(),
        }
    }

    /// The value of a `double` field.
    #[inline]
    pub(crate) fn double(&self) -> Result<f64, Malformed> {
        self.fixed64().map(f64::from_bits)
    }

    /// The value of a `fixed32` field.
    #[inline]
    pub(crate) fn fixed32(&self) -> Result<u32, Malformed> {
        match self.value {
            Value::Fixed32(value) => Ok(value),
            _ => self.wrong_type(),
        }
    }

    /// The payload of a message field.
    #[inline]
    pub(crate) fn message(&self) -> Result<Reader<'a>, Malformed> {
        match self.value {
            Value::Bytes(payload) => Ok(payload),
            _ => self.wrong_type(),
        }
    }

    /// The payload of a `bytes` field.
    #[inline]
    pub(crate) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        self.message().map(|payload| payload.bytes())
    }

    /// The payload of a `string` field.
    #[inline]
    pub(crate) fn text(&self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::Record(Reason::InvalidUtf8))
    }

    /// Appends the value or values of a repeated 64-bit field, packed or not.
    pub(crate) fn repeated_fixed64(&self, out: &mut Vec<u64>) -> Result<(), Malformed> {
        match self.value {
            Value::Fixed64(value) => out.push(value),
            Value::Bytes(payload) => {
                let (values, rest) = payload.rest.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(Malformed { at: payload.at(), reason: "packed values are cut short" });
                }
                out.extend(values.iter().map(|bytes| u64::from_le_bytes(*bytes)));
            }
            _ => return self.wrong_type(),
        }
        Ok(())
    }

    /// Appends the value or values of a repeated integer field, packed or not. Where `out` would become
    /// longer than `most`, it stops there and says `false`: a byte on the wire is eight in memory.
    pub(crate) fn repeated_varint(&self, out: &mut Vec<u64>, most: usize) -> Result<bool, Malformed> {
        match self.value {
            Value::Varint(_) if out.len() >= most => return Ok(false),
            Value::Varint(value) => out.push(value),
            Value::Bytes(mut payload) => {
                while !payload.rest.is_empty() {
                    if out.len() >= most {
                        return Ok(false);
                    }
                    out.push(payload.varint()?);
                }
            }
            _ => return self.wrong_type(),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
