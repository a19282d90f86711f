//! Who a connection comes from, told by a proxy in front in the header that it sends first.
//!
//! HAProxy's `proxy-protocol.txt`, versions 1 (a line of text) and 2 (binary). A listener that expects the header
//! refuses connections without one ([`Parsed::Absent`]): whoever may choose to leave it out may choose its content.
//! An IPv4 address that is mapped into IPv6 is the same as plain, in what is read and in what is written.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use thiserror::Error;
use weir_model::limits::{PROXY_HEADER_TLVS, PROXY_HEADER_UNIQUE_ID_BYTES};

mod v1;
mod v2;

pub(crate) use v1::write as write_v1;
pub(crate) use v2::write as write_v2;

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// They are the beginning of a header, or may be.
    NeedMore,
    /// They are no header.
    Absent,
    /// The connection is for somebody else, who used TCP.
    Header {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
        /// Bytes of the header; what the client sent follows.
        consumed: usize,
        /// What else is said of the connection.
        tlvs: Tlvs,
    },
    /// The connection's own addresses hold: it is the proxy's own, or the client's addresses are not known or not
    /// those of TCP.
    Local {
        /// Bytes of the header.
        consumed: usize,
    },
}

/// Bytes that begin as a header and are none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A line without an end, or a length beyond the limit.
    #[error("a PROXY header of more than {0} bytes")]
    TooLong(usize),
    /// A line that is not built as it should.
    #[error("a PROXY line without two addresses of its family and two ports")]
    Line,
    /// Neither 1 nor 2.
    #[error("version {0} of the PROXY protocol is not known")]
    Version(u8),
    /// Neither LOCAL nor PROXY.
    #[error("command {0} of the PROXY protocol is not known")]
    Command(u8),
    /// A family or transport without meaning.
    #[error("address family and transport {0:#04x} of the PROXY protocol are not known")]
    Family(u8),
    /// No room for the addresses of the family.
    #[error("a PROXY header that ends within its addresses")]
    Addresses,
    /// One reaches beyond the header, or has a length that its kind does not.
    #[error("a PROXY header with a TLV of a wrong length")]
    TlvLength,
    /// More than are kept.
    #[error("a PROXY header of more than {PROXY_HEADER_TLVS} TLVs")]
    Tlvs,
    /// The header was changed on its way.
    #[error("a PROXY header with a wrong checksum")]
    Checksum,
}

/// What a header of version 2 says beside addresses, in the order in which it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tlvs(Vec<(u8, Box<[u8]>)>);

#[cfg_attr(
    not(any(test, fuzzing)),
    expect(dead_code, reason = "what is said of a connection is not asked yet")
)]
impl Tlvs {
    /// Protocol that the client and the proxy agreed on, as in TLS.
    pub(crate) const ALPN: u8 = 0x01;
    /// Host name that the client asked for; UTF-8, says its specification.
    pub(crate) const AUTHORITY: u8 = 0x02;
    /// Name of the connection, of any bytes.
    pub(crate) const UNIQUE_ID: u8 = 0x05;
    /// Name of the network namespace; US-ASCII.
    pub(crate) const NETNS: u8 = 0x30;

    const CRC32C: u8 = 0x03;
    const NOOP: u8 = 0x04;

    /// The first value of a kind.
    pub(crate) fn get(&self, kind: u8) -> Option<&[u8]> {
        self.0.iter().find(|(other, _)| *other == kind).map(|(_, value)| &**value)
    }

    /// Kinds and values. The checksum, which has done its work, and padding are not among them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(kind, value)| (*kind, &**value))
    }

    fn push(&mut self, kind: u8, value: &[u8]) -> Result<(), Malformed> {
        if kind == Self::UNIQUE_ID && value.len() > PROXY_HEADER_UNIQUE_ID_BYTES {
            return Err(Malformed::TlvLength);
        }
        if self.0.len() == PROXY_HEADER_TLVS {
            return Err(Malformed::Tlvs);
        }
        self.0.push((kind, value.into()));
        Ok(())
    }
}

/// Reads the header that the bytes, which are all that came, begin with. A result other than [`Parsed::NeedMore`]
/// stays whatever follows. [`PROXY_HEADER_V1_BYTES`](weir_model::limits::PROXY_HEADER_V1_BYTES) or
/// [`PROXY_HEADER_V2_BYTES`](weir_model::limits::PROXY_HEADER_V2_BYTES) are enough for it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if bytes.starts_with(v1::PREFIX) {
        return v1::parse(bytes);
    }
    if bytes.starts_with(v2::SIGNATURE) {
        return v2::parse(bytes);
    }
    let begins = v1::PREFIX.starts_with(bytes) || v2::SIGNATURE.starts_with(bytes);
    Ok(if begins { Parsed::NeedMore } else { Parsed::Absent })
}

/// Two addresses of one family, as a header has them: where one of them is of six, the other is mapped.
enum Pair {
    V4([SocketAddrV4; 2]),
    V6([SocketAddrV6; 2]),
}

impl Pair {
    fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        match (canonical(source), canonical(destination)) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => Self::V4([source, destination]),
            (source, destination) => Self::V6([source, destination].map(|address| {
                let ip = match address.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                SocketAddrV6::new(ip, address.port(), 0, 0)
            })),
        }
    }
}

/// Neither mapped into IPv6 nor with a scope, which means nothing elsewhere.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
