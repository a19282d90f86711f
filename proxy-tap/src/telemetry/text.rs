//! Numbers and addresses as text, written to a buffer without a formatter and without a string.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Most characters of a number or an address: an IPv6 address that ends in one of IPv4.
const SHORT: usize = 48;

/// A short text on the stack.
#[derive(Debug)]
pub(super) struct Short {
    bytes: [u8; SHORT],
    length: usize,
}

impl Short {
    /// The text; what was written to it is ASCII.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }

    pub(super) fn number(value: u64) -> Self {
        let mut text = Self { bytes: [0; SHORT], length: 0 };
        text.digits(value);
        text
    }

    pub(super) fn ip(address: IpAddr) -> Self {
        let mut text = Self { bytes: [0; SHORT], length: 0 };
        match address {
            IpAddr::V4(address) => text.v4(address),
            IpAddr::V6(address) => {
                let mut rest = &mut text.bytes[..];
                // There is room for the longest one.
                let _ = write!(rest, "{address}");
                text.length = SHORT - rest.len();
            }
        }
        text
    }

    fn v4(&mut self, address: Ipv4Addr) {
        for (i, octet) in address.octets().into_iter().enumerate() {
            if i > 0 {
                self.bytes[self.length] = b'.';
                self.length += 1;
            }
            self.digits(u64::from(octet));
        }
    }

    fn digits(&mut self, value: u64) {
        let mut digits = [0; 20];
        let from = digits_of(value, &mut digits);
        let text = &digits[from..];
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }
}

/// Puts the decimal digits of `value` at the end of `digits`; returns where they begin.
fn digits_of(mut value: u64, digits: &mut [u8; 20]) -> usize {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return at;
        }
    }
}

/// Appends a whole number.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let from = digits_of(value, &mut digits);
    out.extend_from_slice(&digits[from..]);
}

/// Appends milliseconds with two decimals.
pub(super) fn millis(out: &mut Vec<u8>, duration: Duration) {
    let hundredths = u64::try_from((duration.as_nanos() + 5_000) / 10_000).unwrap_or(u64::MAX);
    number(out, hundredths / 100);
    let rest = (hundredths % 100) as u8;
    out.extend_from_slice(&[b'.', b'0' + rest / 10, b'0' + rest % 10]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_read_as_the_standard_library_writes_them(value: u64, shift in 0..64, nanos in 0_u64..1 << 50) {
            let value = value >> shift;
            let short = Short::number(value);
            prop_assert_eq!(short.as_str(), value.to_string());
            let mut out = vec![];
            millis(&mut out, Duration::from_nanos(nanos));
            let shown: f64 = String::from_utf8(out).unwrap().parse().unwrap();
            prop_assert!((shown - nanos as f64 / 1e6).abs() <= 0.005_001, "{shown} for {nanos} ns");
        }

        #[test]
        fn addresses_read_as_the_standard_library_writes_them(v4: u32, v6: u128) {
            for address in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into()), IpAddr::V6((v6 | u128::MAX << 4).into())] {
                let short = Short::ip(address);
                prop_assert_eq!(short.as_str(), address.to_string());
            }
        }
    }
}
