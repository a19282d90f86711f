//! What a connection speaks, told from the first bytes that its client sends.
//!
//! [`detect`] is asked again with all bytes so far whenever some arrive. It decides as soon as nothing that may
//! follow could change its mind, so that a decision stays when it is asked once more with a longer input. Whoever
//! asks has to stop waiting some time: in protocols where the server speaks first the client sends nothing, and a
//! word without an end (ZooKeeper's `ruok`) may still become a method. Both are opaque then.
//!
//! Other protocols of words and lines share HTTP's verbs: Redis has `GET key`, SIP `OPTIONS sip:a SIP/2.0`, RTSP
//! `OPTIONS * RTSP/1.0`. A registered method is therefore enough only before a path; before anything else, and for
//! every other method, the line must go on to ` HTTP/1.`.

use weir_model::limits::{DETECT_BYTES, METHOD_BYTES};

pub(crate) mod client_hello;
pub(crate) mod proxy_header;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    /// Not told by these bytes.
    NeedMore,
    /// A request line of HTTP/1.0 or HTTP/1.1, perhaps after empty lines (RFC 9112 sections 2.2 and 3).
    Http1,
    /// HTTP/2 with prior knowledge: its whole preface (RFC 9113 section 3.4).
    Http2,
    /// A record that begins with a ClientHello.
    Tls,
    /// Anything else.
    Opaque,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const VERSION: &[u8] = b" HTTP/1.";

/// IANA's registry of methods without `*` and `PRI`, which are reserved so that nobody uses them.
const METHODS: [&[u8]; 38] = [
    b"ACL",
    b"BASELINE-CONTROL",
    b"BIND",
    b"CHECKIN",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LABEL",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MKREDIRECTREF",
    b"MKWORKSPACE",
    b"MOVE",
    b"OPTIONS",
    b"ORDERPATCH",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PUT",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"TRACE",
    b"UNBIND",
    b"UNCHECKOUT",
    b"UNLINK",
    b"UNLOCK",
    b"UPDATE",
    b"UPDATEREDIRECTREF",
    b"VERSION-CONTROL",
];

/// What the bytes, which are all that came, begin. Of them [`DETECT_BYTES`] are looked at, and with as many it is
/// never [`Detected::NeedMore`].
pub(crate) fn detect(bytes: &[u8]) -> Detected {
    let seen = &bytes[..bytes.len().min(DETECT_BYTES)];
    match begun(seen) {
        Detected::NeedMore if seen.len() == DETECT_BYTES => Detected::Opaque,
        detected => detected,
    }
}

fn begun(seen: &[u8]) -> Detected {
    if seen.starts_with(PREFACE) {
        return Detected::Http2;
    }
    if PREFACE.starts_with(seen) {
        return Detected::NeedMore;
    }
    match client_hello::begins(seen) {
        None => Detected::NeedMore,
        Some(true) => Detected::Tls,
        Some(false) => request_line(after_empty_lines(seen)),
    }
}

fn after_empty_lines(mut seen: &[u8]) -> &[u8] {
    while let Some(rest) = seen.strip_prefix(b"\r\n").or_else(|| seen.strip_prefix(b"\n")) {
        seen = rest;
    }
    seen
}

/// Told from a line of which more may follow.
fn request_line(line: &[u8]) -> Detected {
    if line.is_empty() || line == b"\r" {
        return Detected::NeedMore;
    }
    let (method, rest) = line.split_at(line.iter().position(|byte| !is_tchar(*byte)).unwrap_or(line.len()));
    if method.is_empty() || method.len() > METHOD_BYTES {
        return Detected::Opaque;
    }
    let target = match rest {
        [] | b" " => return Detected::NeedMore,
        [b' ', target @ ..] => target,
        _ => return Detected::Opaque,
    };
    match target[0] {
        b'/' if METHODS.contains(&method) => return Detected::Http1,
        // A path, `*`, a scheme or host, an address of six or four (RFC 9112 section 3.2).
        b'/' | b'*' | b'[' => {}
        byte if byte.is_ascii_alphanumeric() => {}
        _ => return Detected::Opaque,
    }
    let Some(end) = target.iter().position(|byte| *byte <= b' ' || *byte == 0x7f) else {
        return Detected::NeedMore;
    };
    let version = &target[end..];
    if version.starts_with(VERSION) {
        Detected::Http1
    } else if VERSION.starts_with(version) {
        Detected::NeedMore
    } else {
        Detected::Opaque
    }
}

/// A character of a token (RFC 9110 section 5.6.2).
const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests;
