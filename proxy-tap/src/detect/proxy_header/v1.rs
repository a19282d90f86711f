//! Version 1 of the PROXY protocol: a line that people can read.

use std::fmt::Display;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use weir_model::limits::PROXY_HEADER_V1_BYTES;

use super::{Malformed, Pair, Parsed, Tlvs, canonical};

pub(super) const PREFIX: &[u8] = b"PROXY ";
const END: &[u8] = b"\r\n";

/// Reads bytes that begin with the prefix.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let seen = &bytes[..bytes.len().min(PROXY_HEADER_V1_BYTES)];
    let Some(end) = seen.windows(END.len()).position(|window| window == END) else {
        let full = seen.len() == PROXY_HEADER_V1_BYTES;
        return if full { Err(Malformed::TooLong(PROXY_HEADER_V1_BYTES)) } else { Ok(Parsed::NeedMore) };
    };
    let consumed = end + END.len();
    let said = &seen[PREFIX.len()..end];
    // What follows is to be ignored, whatever it is.
    if said == b"UNKNOWN" || said.starts_with(b"UNKNOWN ") {
        return Ok(Parsed::Local { consumed });
    }
    let (source, destination) = addresses(said).ok_or(Malformed::Line)?;
    Ok(Parsed::Header { source, destination, consumed, tlvs: Tlvs::default() })
}

fn addresses(said: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    fn ip<A: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
        text.parse::<A>().ok().map(Into::into)
    }
    let mut fields = std::str::from_utf8(said).ok()?.split(' ');
    let ip = match fields.next()? {
        "TCP4" => ip::<Ipv4Addr>,
        "TCP6" => ip::<Ipv6Addr>,
        _ => return None,
    };
    let (source, destination) = (ip(fields.next()?)?, ip(fields.next()?)?);
    let (from, to) = (port(fields.next()?)?, port(fields.next()?)?);
    let end = fields.next().is_none();
    end.then(|| (canonical(SocketAddr::new(source, from)), canonical(SocketAddr::new(destination, to))))
}

/// A port without a sign or zeros in front.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// Appends the header of a connection from `source` to `destination`.
pub(crate) fn write(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    fn line(out: &mut Vec<u8>, family: &str, ips: [impl Display; 2], ports: [u16; 2]) {
        let ([source, destination], [from, to]) = (ips, ports);
        // A vector takes whatever it is given.
        let _ = write!(out, "PROXY {family} {source} {destination} {from} {to}\r\n");
    }
    match Pair::new(source, destination) {
        Pair::V4(pair) => {
            line(out, "TCP4", pair.map(|address| *address.ip()), pair.map(|address| address.port()))
        }
        Pair::V6(pair) => {
            line(out, "TCP6", pair.map(|address| *address.ip()), pair.map(|address| address.port()))
        }
    }
}
