//! The name and protocols that a TLS client asks for, read without being its server.
//!
//! A ClientHello is not encrypted (RFC 8446 section 4.1.2), so that a connection can be passed on, by the name it is
//! for, as it is. Where the client encrypts its own (ECH) this is the outer one, which names whoever decrypts it.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use weir_model::limits::{CLIENT_HELLO_BYTES, CLIENT_HELLO_PROTOCOLS};

/// What a ClientHello asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sni {
    /// The ClientHello goes on after these bytes.
    NeedMore,
    /// The bytes do not begin a ClientHello.
    NotTls,
    /// They begin one that no server takes, and why.
    Malformed(&'static str),
    /// A whole ClientHello.
    Found {
        /// A DNS name in lower case, without a dot at its end; `None` where the client says none, or an address.
        server_name: Option<Box<str>>,
        /// The protocols of ALPN, preferred ones first, the first [`CLIENT_HELLO_PROTOCOLS`] of them.
        alpn: Vec<Box<[u8]>>,
    },
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Content type, version and length of a record (RFC 8446 section 5.1).
const RECORD_HEAD: usize = 5;
/// Largest content of a record.
const RECORD_BYTES: usize = 1 << 14;
/// Type and length of a handshake message.
const MESSAGE_HEAD: usize = 4;
const RANDOM_BYTES: usize = 32;
const SESSION_ID_BYTES: usize = 32;
/// Numbers of extensions and of the kind of name.
const SERVER_NAME: usize = 0;
const ALPN: usize = 16;
const HOST_NAME: usize = 0;
/// Longest name and label (RFC 1035 section 2.3.4), the former as text without the dot of the root.
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// Whether the bytes begin a record of TLS with a ClientHello in it; `None` where they may. Six bytes tell.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    let fits = |at: usize, fit: &dyn Fn(u8) -> bool| bytes.get(at).is_none_or(|byte| fit(*byte));
    let length = bytes.get(3..RECORD_HEAD).map(big_endian);
    let plausible = fits(0, &|byte| byte == HANDSHAKE)
        // The other half of the version is for nothing (RFC 8446 section 5.1), and servers take any.
        && fits(1, &|byte| byte == 3)
        && fits(3, &|byte| usize::from(byte) <= RECORD_BYTES >> 8)
        && length.is_none_or(|length| (1..=RECORD_BYTES).contains(&length))
        && fits(RECORD_HEAD, &|byte| byte == CLIENT_HELLO);
    if plausible && bytes.len() <= RECORD_HEAD { None } else { Some(plausible) }
}

/// Reads the ClientHello that the bytes begin; it may be spread over records. Of the bytes [`CLIENT_HELLO_BYTES`] are
/// looked at, and with as many it is never [`Sni::NeedMore`].
pub(crate) fn sni(bytes: &[u8]) -> Sni {
    match begins(bytes) {
        None => return Sni::NeedMore,
        Some(false) => return Sni::NotTls,
        Some(true) => {}
    }
    let seen = &bytes[..bytes.len().min(CLIENT_HELLO_BYTES)];
    match message(seen) {
        Ok(Some(hello)) => asked(&hello).unwrap_or_else(Sni::Malformed),
        Ok(None) if seen.len() == CLIENT_HELLO_BYTES => Sni::Malformed(TOO_LONG),
        Ok(None) => Sni::NeedMore,
        Err(reason) => Sni::Malformed(reason),
    }
}

const TOO_LONG: &str = "longer than is read";
pub(crate) const UNKNOWN_NAME: &str = "a server name of a kind that is not defined";

/// The body of the first handshake message, put together from its records; `None` where it goes on.
fn message(mut seen: &[u8]) -> Result<Option<Cow<'_, [u8]>>, &'static str> {
    let mut message = Cow::Borrowed(&[][..]);
    while let Some((head, rest)) = seen.split_at_checked(RECORD_HEAD) {
        let length = big_endian(&head[3..]);
        if head[0] != HANDSHAKE || head[1] != 3 || !(1..=RECORD_BYTES).contains(&length) {
            return Err("a record that does not continue it");
        }
        let (content, rest) = rest.split_at(rest.len().min(length));
        seen = rest;
        if message.is_empty() {
            message = Cow::Borrowed(content);
        } else {
            message.to_mut().extend_from_slice(content);
        }
        let Some(head) = message.get(..MESSAGE_HEAD) else { continue };
        let end = MESSAGE_HEAD + big_endian(&head[1..]);
        if end > CLIENT_HELLO_BYTES {
            return Err(TOO_LONG);
        }
        if message.len() >= end {
            return Ok(Some(match message {
                Cow::Borrowed(whole) => Cow::Borrowed(&whole[MESSAGE_HEAD..end]),
                Cow::Owned(whole) => Cow::Owned(whole[MESSAGE_HEAD..end].to_vec()),
            }));
        }
    }
    Ok(None)
}

/// Reads a ClientHello (RFC 8446 section 4.1.2; RFC 5246 section 7.4.1.2, without extensions too).
fn asked(hello: &[u8]) -> Result<Sni, &'static str> {
    const CUT: &str = "ends too early";
    let mut hello = Fields(hello);
    hello.take(2 + RANDOM_BYTES).ok_or(CUT)?;
    if hello.list(1).ok_or(CUT)?.0.len() > SESSION_ID_BYTES {
        return Err("a session id of more than 32 bytes");
    }
    let suites = hello.list(2).ok_or(CUT)?.0.len();
    if suites == 0 || suites % 2 == 1 {
        return Err("a list of cipher suites that is none");
    }
    if hello.list(1).ok_or(CUT)?.0.is_empty() {
        return Err("no compression method");
    }
    let (mut server_name, mut alpn) = (None, None);
    if !hello.0.is_empty() {
        let mut extensions = hello.list(2).ok_or(CUT)?;
        if !hello.0.is_empty() {
            return Err("more after its extensions");
        }
        while !extensions.0.is_empty() {
            let kind = extensions.number(2).ok_or(CUT)?;
            let content = extensions.list(2).ok_or(CUT)?;
            let again = match kind {
                SERVER_NAME => server_name.replace(host_name(content)?).is_some(),
                ALPN => alpn.replace(protocols(content)?).is_some(),
                _ => false,
            };
            if again {
                return Err("an extension that is there twice");
            }
        }
    }
    Ok(Sni::Found { server_name: server_name.flatten(), alpn: alpn.unwrap_or_default() })
}

/// Reads an extension `server_name` (RFC 6066 section 3).
fn host_name(mut extension: Fields<'_>) -> Result<Option<Box<str>>, &'static str> {
    const NO_LIST: &str = "a list of server names that is none";
    let mut names = extension.list(2).ok_or(NO_LIST)?;
    if !extension.0.is_empty() || names.0.is_empty() {
        return Err(NO_LIST);
    }
    let mut host = None;
    while !names.0.is_empty() {
        // Servers pass over such a name, stop before it or refuse it, and differ in which name they find then.
        if names.number(1) != Some(HOST_NAME) {
            return Err(UNKNOWN_NAME);
        }
        if host.replace(names.list(2).ok_or(NO_LIST)?.0).is_some() {
            return Err("two host names");
        }
    }
    let Some(host) = host else { return Ok(None) };
    let name = dns_name(host).ok_or("a server name that is no name of the DNS")?;
    // An address is not permitted, but said by clients that have no name. One of six is no name either way.
    Ok(if name.parse::<Ipv4Addr>().is_ok() { None } else { Some(name) })
}

/// The name of a host in lower case. Underscores are let through, which names of services have.
fn dns_name(name: &[u8]) -> Option<Box<str>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let in_label = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &[u8]| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.iter().all(in_label)
            && !label.starts_with(b"-")
            && !label.ends_with(b"-")
    };
    if name.len() > NAME_BYTES || !name.split(|byte| *byte == b'.').all(is_label) {
        return None;
    }
    Some(std::str::from_utf8(name).ok()?.to_ascii_lowercase().into())
}

/// Reads an extension `application_layer_protocol_negotiation` (RFC 7301 section 3.1).
fn protocols(mut extension: Fields<'_>) -> Result<Vec<Box<[u8]>>, &'static str> {
    const NO_LIST: &str = "a list of protocols that is none";
    let mut list = extension.list(2).ok_or(NO_LIST)?;
    if !extension.0.is_empty() || list.0.is_empty() {
        return Err(NO_LIST);
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.list(1).filter(|protocol| !protocol.0.is_empty()).ok_or(NO_LIST)?;
        if protocols.len() < CLIENT_HELLO_PROTOCOLS {
            protocols.push(protocol.0.into());
        }
    }
    Ok(protocols)
}

/// What is left of a structure of TLS.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        self.take(bytes).map(big_endian)
    }

    /// A vector after its length, which is a number of so many bytes.
    fn list(&mut self, length_bytes: usize) -> Option<Self> {
        let length = self.number(length_bytes)?;
        self.take(length).map(Self)
    }
}

/// A number of three bytes at most.
fn big_endian(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests;
