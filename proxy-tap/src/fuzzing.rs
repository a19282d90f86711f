//! What fuzzing calls: the first bytes of connections, with what must hold whatever they are.
//!
//! `tests/fuzz` makes the bytes up, as a program of its own outside the workspace; the tests here replay those that
//! are kept in `tests/fuzz/corpus`.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use regex::bytes::Regex;
use rustls::server::Acceptor;
use weir_model::limits::{
    CLIENT_HELLO_BYTES, CLIENT_HELLO_PROTOCOLS, DETECT_BYTES, METHOD_BYTES, PROXY_HEADER_TLVS,
    PROXY_HEADER_V1_BYTES, PROXY_HEADER_V2_BYTES,
};

use crate::detect::client_hello::{Sni, UNKNOWN_NAME, sni};
use crate::detect::proxy_header::{Malformed, Parsed, parse, write_v1, write_v2};
use crate::detect::{Detected, detect as detected};

/// Takes any bytes; panics where a promise is broken.
pub type Target = fn(&[u8]);

/// The targets by name, which is that of their folder in the corpus.
pub const TARGETS: [(&str, Target); 2] = [("detect", detect), ("proxy_header", proxy_header)];

/// Beginnings of so many bytes are looked at one by one, longer ones here and there.
const EACH: usize = 160;

/// What is told from a beginning is told from the whole: `told` is that of the whole, or nothing yet.
fn stays<T: Debug + PartialEq>(bytes: &[u8], open: &T, told: impl Fn(&[u8]) -> T) -> T {
    let whole = told(bytes);
    let step = bytes.len() / 16 + 1;
    for end in (0..bytes.len()).filter(|end| *end < EACH || end % step == 0 || end + 2 > bytes.len()) {
        let early = told(&bytes[..end]);
        assert!(early == *open || early == whole, "{early:?} from {end} bytes, then {whole:?}");
    }
    whole
}

/// The detector says HTTP/1 of what its definition, written once more as an expression, matches, and of each request
/// that the parser of HTTP takes; it says TLS of what has a ClientHello; and while it does not say, something may
/// follow that it knows.
fn detect(bytes: &[u8]) {
    static HTTP1: LazyLock<Regex> = LazyLock::new(|| {
        let registered = "ACL|BASELINE-CONTROL|BIND|CHECKIN|CHECKOUT|CONNECT|COPY|DELETE|GET|HEAD|LABEL|LINK|LOCK|\
            MERGE|MKACTIVITY|MKCALENDAR|MKCOL|MKREDIRECTREF|MKWORKSPACE|MOVE|OPTIONS|ORDERPATCH|PATCH|POST|PROPFIND|\
            PROPPATCH|PUT|REBIND|REPORT|SEARCH|TRACE|UNBIND|UNCHECKOUT|UNLINK|UNLOCK|UPDATE|UPDATEREDIRECTREF|\
            VERSION-CONTROL";
        let other = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} [/*\[0-9A-Za-z][^\x00-\x20\x7F]* HTTP/1\.";
        Regex::new(&format!(r"(?s-u)\A(?:\r?\n)*(?:(?:{registered}) /|{other})"))
            .expect("it is written above")
    });

    let told = stays(bytes, &Detected::NeedMore, detected);
    let seen = &bytes[..bytes.len().min(DETECT_BYTES)];
    assert_eq!(told == Detected::Http1, HTTP1.is_match(seen), "{told:?}");
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let taken = request.parse(seen).is_ok() && request.version.is_some();
    if taken
        && request.method.is_some_and(|method| method.len() <= METHOD_BYTES)
        && request.path.is_some_and(|path| path.starts_with(['/', '*', '[']) || starts_a_word(path))
    {
        assert_eq!(told, Detected::Http1, "a request of HTTP/1");
    }
    if told == Detected::NeedMore {
        let follow = |rest: &[u8]| detected(&[bytes, rest].concat()) != Detected::Opaque;
        assert!(bytes.len() < DETECT_BYTES);
        let hello = |length: u8| follow([22, 3, 1, 1, length, 1].get(bytes.len()..).unwrap_or_default());
        let request = b"\nGET / HTTP/1.1".as_slice();
        let fits = bytes.len() + request.len() <= DETECT_BYTES;
        let known = hello(0) || hello(1) || (0..request.len()).any(|from| follow(&request[from..]));
        assert!(known || !fits, "nothing can follow");
    }

    let asked = stays(bytes, &Sni::NeedMore, sni);
    assert_eq!(asked == Sni::NotTls, told != Detected::Tls && asked != Sni::NeedMore, "{asked:?}, {told:?}");
    assert!(bytes.len() < CLIENT_HELLO_BYTES || asked != Sni::NeedMore);
    let accepted = as_a_server(bytes);
    let Sni::Found { server_name, alpn } = &asked else {
        // Rustls takes the latter, without what follows.
        let beyond = bytes.len() > CLIENT_HELLO_BYTES || asked == Sni::Malformed(UNKNOWN_NAME);
        assert!(accepted.is_none() || beyond, "{asked:?}, and rustls {accepted:?}");
        return;
    };
    if let Some(name) = server_name {
        assert!(!name.is_empty() && !name.ends_with('.') && **name == *name.to_ascii_lowercase());
    }
    if let Some((name, protocols)) = accepted {
        assert_eq!(name.as_deref(), server_name.as_deref());
        assert_eq!(&protocols[..protocols.len().min(CLIENT_HELLO_PROTOCOLS)], alpn);
    }
    for size in [1, 5, 300] {
        let anew = in_records(&content(bytes), size);
        if anew.len() <= CLIENT_HELLO_BYTES {
            assert_eq!(sni(&anew), asked, "in records of {size}");
        }
    }
}

fn starts_a_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// What a client asks for: name and protocols.
type Asked = (Option<String>, Vec<Box<[u8]>>);

/// What a ClientHello asks for, by rustls.
fn as_a_server(mut bytes: &[u8]) -> Option<Asked> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let name = hello.server_name().map(|name| name.trim_end_matches('.').to_owned());
            return Some((name, hello.alpn().into_iter().flatten().map(Box::from).collect()));
        }
    }
    None
}

/// What whole records of a handshake hold.
fn content(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        content.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    content
}

/// A handshake in records of so many bytes.
pub(crate) fn in_records(content: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in content.chunks(size) {
        bytes.extend_from_slice(&[22, 3, 1]);
        bytes.extend_from_slice(&(piece.len() as u16).to_be_bytes());
        bytes.extend_from_slice(piece);
    }
    bytes
}

/// A header that is read is written and read again as the same, and so is one of addresses made of the bytes.
fn proxy_header(bytes: &[u8]) {
    let read = stays(bytes, &Ok(Parsed::NeedMore), parse);
    match &read {
        Ok(Parsed::NeedMore) => {
            let limit = if bytes.starts_with(b"P") { PROXY_HEADER_V1_BYTES } else { PROXY_HEADER_V2_BYTES };
            assert!(bytes.len() < limit);
        }
        Ok(Parsed::Absent) => {
            let signature = bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n");
            assert!(!bytes.is_empty() && !signature);
        }
        Ok(Parsed::Local { consumed }) => assert!((15..=bytes.len()).contains(consumed)),
        Ok(Parsed::Header { source, destination, consumed, tlvs }) => {
            assert!((22..=bytes.len()).contains(consumed));
            assert!(tlvs.iter().count() <= PROXY_HEADER_TLVS);
            assert!(tlvs.iter().map(|(_, value)| 3 + value.len()).sum::<usize>() <= *consumed);
            written(*source, *destination, (*source, *destination), bytes);
        }
        Err(Malformed::TooLong(limit)) => assert!(bytes.len() >= *limit || bytes[0] == b'\r'),
        Err(_) => {}
    }

    let Some((block, rest)) = bytes.split_first_chunk::<36>() else { return };
    let mut ips = [IpAddr::from([0; 16]); 2];
    let mut ports = [0; 2];
    for (i, half) in block.chunks(18).enumerate() {
        ports[i] = u16::from_be_bytes([half[0], half[1]]);
        ips[i] = match half[2..].first_chunk::<16>() {
            Some(ip) if ip[0] % 2 == 0 => IpAddr::from(*ip),
            _ => IpAddr::from([half[3], half[4], half[5], half[6]]),
        };
    }
    let [source, destination] = [0, 1].map(|i| SocketAddr::new(ips[i], ports[i]));
    let plain = [0, 1].map(|i| SocketAddr::new(ips[i].to_canonical(), ports[i]));
    written(source, destination, plain.into(), rest);
}

/// Both versions of a header of these addresses, with the bytes after it, are read as `expected`.
pub(crate) fn written(from: SocketAddr, to: SocketAddr, expected: (SocketAddr, SocketAddr), follow: &[u8]) {
    for write in [write_v1, write_v2] {
        let mut bytes = Vec::new();
        write(&mut bytes, from, to);
        let length = bytes.len();
        assert!(length <= PROXY_HEADER_V1_BYTES, "{length} bytes");
        bytes.extend_from_slice(follow);
        match parse(&bytes).expect("it was just written") {
            Parsed::Header { source, destination, consumed, tlvs } => {
                assert_eq!((source, destination), expected);
                assert_eq!((consumed, tlvs.iter().count()), (length, 0));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_corpus_keeps_every_promise() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
            let mut count = 0;
            for file in fs::read_dir(&folder).unwrap() {
                let path = file.unwrap().path();
                println!("{}", path.display());
                target(&fs::read(path).unwrap());
                count += 1;
            }
            assert!(count >= 3, "{count} files for {name}");
        }
    }
}
