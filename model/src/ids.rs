//! Identifiers: fixed-size, compared as bytes, shown as lowercase hex.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: expected {expected} hex digits")]
pub struct BadId {
    /// What was given.
    pub text: String,
    /// How many hex digits an id of this kind has.
    pub expected: usize,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Whether every byte is zero, which the W3C and OTLP call invalid.
            pub fn is_zero(&self) -> bool {
                self.0 == [0; $len]
            }

            /// The id in `bytes`, if there are exactly as many as it takes and not all are zero.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                let id = Self(bytes.try_into().ok()?);
                (!id.is_zero()).then_some(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = || BadId { text: text.to_owned(), expected: 2 * $len };
                if text.len() != 2 * $len || !text.is_ascii() {
                    return Err(bad());
                }
                let mut id = [0; $len];
                for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let digit = |c: u8| char::from(c).to_digit(16).ok_or_else(bad);
                    *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
                }
                Ok(Self(id))
            }
        }
    };
}

hex_id!(
    /// A trace, as W3C trace context and OTLP number it.
    TraceId,
    16
);
hex_id!(
    /// A span within its trace.
    SpanId,
    8
);

/// A metric series: the hash of its labels, checked for collisions where series are interned.
///
/// Tables hold it as the `bigint` with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u64);

impl SeriesId {
    /// The id as tables hold it.
    pub fn to_column(self) -> i64 {
        self.0 as i64
    }

    /// The id from its column value.
    pub fn from_column(value: i64) -> Self {
        Self(value as u64)
    }
}

/// A tenant: one or more of `a-z A-Z 0-9 - _`, at most 64, because it names a folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant called `name`, or `None` where the name could escape its folder.
    pub fn new(name: &str) -> Option<Self> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (!name.is_empty() && name.len() <= 64 && name.bytes().all(safe)).then(|| Self(name.into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_bad_hex_is_named() {
        let id = TraceId(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse::<TraceId>(), Ok(id));
        let bad = "xyz".parse::<SpanId>().unwrap_err();
        assert_eq!(bad.to_string(), "`xyz` is not an id: expected 16 hex digits");
        assert!("zz00000000000000".parse::<SpanId>().is_err());
    }

    #[test]
    fn zero_ids_and_wrong_lengths_are_no_ids() {
        assert_eq!(SpanId::from_slice(&[0; 8]), None);
        assert_eq!(SpanId::from_slice(&[1; 7]), None);
        assert_eq!(SpanId::from_slice(&[1; 8]), Some(SpanId([1; 8])));
    }

    #[test]
    fn tenant_names_cannot_leave_their_folder() {
        assert!(TenantId::new("shop-1_A").is_some());
        for name in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(TenantId::new(name), None, "{name}");
        }
    }
}
