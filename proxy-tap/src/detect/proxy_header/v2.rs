//! Version 2 of the PROXY protocol: binary, with more than addresses.
//!
//! ```text
//! signature 12 | version, command 1 | family, transport 1 | length 2 | addresses 12, 36 or 216 | TLVs
//! TLV: kind 1 | length 2 | value
//! ```

use std::net::{IpAddr, SocketAddr};

use weir_model::limits::PROXY_HEADER_V2_BYTES;

use super::{Malformed, Pair, Parsed, Tlvs, canonical};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses; the length that is said counts those after.
const HEAD: usize = 16;
const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
/// TCP over each family.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// Two addresses and two ports …
const IPV4_BYTES: usize = 2 * 4 + 2 * 2;
const IPV6_BYTES: usize = 2 * 16 + 2 * 2;
/// … or two paths.
const UNIX_BYTES: usize = 2 * 108;

/// Reads bytes that begin with the signature.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let head = bytes.get(SIGNATURE.len()..).and_then(|rest| rest.first_chunk::<4>());
    let Some(&[command, family, length @ ..]) = head else { return Ok(Parsed::NeedMore) };
    let consumed = HEAD + usize::from(u16::from_be_bytes(length));
    if command >> 4 != VERSION {
        return Err(Malformed::Version(command >> 4));
    }
    let command = command & 0xf;
    if command > PROXY {
        return Err(Malformed::Command(command));
    }
    if consumed > PROXY_HEADER_V2_BYTES {
        return Err(Malformed::TooLong(PROXY_HEADER_V2_BYTES));
    }
    let tlvs_at = match family {
        // All that follows is to be ignored, the family included.
        _ if command == LOCAL => consumed,
        0x11 | 0x12 => HEAD + IPV4_BYTES,
        0x21 | 0x22 => HEAD + IPV6_BYTES,
        0x31 | 0x32 => HEAD + UNIX_BYTES,
        // Family or transport are not said, and how long addresses are neither.
        0x00..=0x02 | 0x10 | 0x20 | 0x30 => consumed,
        _ => return Err(Malformed::Family(family)),
    };
    if tlvs_at > consumed {
        return Err(Malformed::Addresses);
    }
    let Some(header) = bytes.get(..consumed) else { return Ok(Parsed::NeedMore) };
    let tlvs = tlvs(header, tlvs_at)?;
    let addresses = match family {
        _ if command == LOCAL => None,
        TCP4 => addresses::<4>(&header[HEAD..tlvs_at]),
        TCP6 => addresses::<16>(&header[HEAD..tlvs_at]),
        _ => None,
    };
    Ok(match addresses {
        Some((source, destination)) => Parsed::Header { source, destination, consumed, tlvs },
        None => Parsed::Local { consumed },
    })
}

/// Two addresses of `N` bytes, and their ports.
fn addresses<const N: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk()?;
    let to = rest.first_chunk()?;
    let address = |ip: &[u8; N], port: &[u8; 2]| {
        canonical(SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port)))
    };
    Some((address(source, from), address(destination, to)))
}

/// Reads what is in a whole header from `at` on. A checksum among it is that of the whole header.
fn tlvs(header: &[u8], mut at: usize) -> Result<Tlvs, Malformed> {
    let mut tlvs = Tlvs::default();
    let mut checked = false;
    while let Some(rest) = header.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((&[kind, length @ ..], rest)) = rest.split_first_chunk::<3>() else {
            return Err(Malformed::TlvLength);
        };
        let value = rest.get(..usize::from(u16::from_be_bytes(length))).ok_or(Malformed::TlvLength)?;
        let value_at = at + 3;
        at = value_at + value.len();
        match kind {
            Tlvs::NOOP => {}
            Tlvs::CRC32C => {
                let said = u32::from_be_bytes(value.try_into().map_err(|_| Malformed::TlvLength)?);
                if checked || said != checksum(header, value_at) {
                    return Err(Malformed::Checksum);
                }
                checked = true;
            }
            _ => tlvs.push(kind, value)?,
        }
    }
    Ok(tlvs)
}

/// CRC32C of a header, with the four bytes at `at`, which are its own, as zeros.
pub(super) fn checksum(header: &[u8], at: usize) -> u32 {
    let before = crc32c::crc32c(&header[..at]);
    crc32c::crc32c_append(crc32c::crc32c_append(before, &[0; 4]), &header[at + 4..])
}

/// Appends the header of a connection from `source` to `destination`.
pub(crate) fn write(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    let head = |out: &mut Vec<u8>, family: u8, length: usize| {
        out.extend_from_slice(SIGNATURE);
        out.extend_from_slice(&[VERSION << 4 | PROXY, family]);
        out.extend_from_slice(&(length as u16).to_be_bytes());
    };
    let ports = match Pair::new(source, destination) {
        Pair::V4(pair) => {
            head(out, TCP4, IPV4_BYTES);
            out.extend(pair.iter().flat_map(|address| address.ip().octets()));
            pair.map(|address| address.port())
        }
        Pair::V6(pair) => {
            head(out, TCP6, IPV6_BYTES);
            out.extend(pair.iter().flat_map(|address| address.ip().octets()));
            pair.map(|address| address.port())
        }
    };
    out.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
}
