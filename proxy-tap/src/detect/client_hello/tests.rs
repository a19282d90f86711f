use std::sync::Arc;

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

use super::*;
use crate::detect::{Detected, detect};
use crate::fuzzing::{self, in_records};

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

/// What rustls' client sends first.
fn rustls(
    name: &str,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
    fragment: Option<usize>,
) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config.max_fragment_size = fragment;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut sent = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut sent).unwrap();
    }
    sent
}

fn found(name: Option<&str>, alpn: &[&str]) -> Sni {
    let alpn = alpn.iter().map(|protocol| protocol.as_bytes().into()).collect();
    Sni::Found { server_name: name.map(Into::into), alpn }
}

/// From no beginning, from the whole, and from it with more behind.
fn from_its_end_on(bytes: &[u8], expected: &Sni) {
    for end in 0..bytes.len() {
        assert_eq!(sni(&bytes[..end]), Sni::NeedMore, "{end} of {} bytes", bytes.len());
    }
    assert_eq!(&sni(bytes), expected);
    assert_eq!(&sni(&[bytes, b"\x17\x03\x03early data"].concat()), expected);
    assert_eq!(detect(bytes), Detected::Tls);
}

#[test]
fn rustls_is_understood_in_one_record_and_in_many() {
    for versions in [BOTH, &[&version::TLS12], &[&version::TLS13]] {
        for fragment in [None, Some(32), Some(100)] {
            let hello = rustls("Cart.Shop.svc.cluster.local", &["h2", "http/1.1"], versions, fragment);
            from_its_end_on(&hello, &found(Some("cart.shop.svc.cluster.local"), &["h2", "http/1.1"]));
            assert_eq!(fragment.is_some(), hello.len() > RECORD_HEAD + big_endian(&hello[3..5]));
        }
    }
    assert_eq!(sni(&rustls("cart", &[], BOTH, None)), found(Some("cart"), &[]));
    assert_eq!(sni(&rustls("10.0.0.1", &["h2"], BOTH, None)), found(None, &["h2"]));
    assert_eq!(sni(&rustls("::1", &[], BOTH, None)), found(None, &[]));
}

fn list(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    [&content.len().to_be_bytes()[8 - length_bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &list(2, content)].concat()
}

fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> =
        names.iter().flat_map(|(kind, name)| [vec![*kind], list(2, name)].concat()).collect();
    extension(0, &list(2, &names))
}

fn offers(protocols: &[&[u8]]) -> Vec<u8> {
    let protocols: Vec<u8> = protocols.iter().flat_map(|protocol| list(1, protocol)).collect();
    extension(16, &list(2, &protocols))
}

/// Everything of a ClientHello before its extensions, as OpenSSL's for TLS 1.2 and below.
fn openssl() -> Vec<u8> {
    let suites = [0xc0, 0x2c, 0xc0, 0x30, 0, 0x9f, 0, 0xff];
    [&[3, 3][..], &[7; 32], &list(1, &[9; 32]), &list(2, &suites), &list(1, &[1, 0])].concat()
}

/// A ClientHello in a record, with these after OpenSSL's other extensions.
fn with(extensions: &[Vec<u8>]) -> Vec<u8> {
    let usual =
        [extension(0xff01, &[0]), extension(11, &[3, 0, 1, 2]), extension(35, &[]), extension(21, &[0; 90])];
    let all: Vec<u8> = usual.iter().chain(extensions).flatten().copied().collect();
    handshake(&[openssl(), list(2, &all)].concat())
}

fn handshake(hello: &[u8]) -> Vec<u8> {
    in_records(&[&[1][..], &list(3, hello)].concat(), RECORD_BYTES)
}

#[test]
fn openssl_is_understood() {
    from_its_end_on(
        &with(&[names(&[(0, b"cart.shop")]), offers(&[b"http/1.1", b"\x0a\x0a"])]),
        &found(Some("cart.shop"), &["http/1.1", "\n\n"]),
    );
    from_its_end_on(&with(&[]), &found(None, &[]));
    from_its_end_on(&handshake(&openssl()), &found(None, &[]));
}

#[test]
fn names_are_those_of_hosts() {
    let name = |name: &[u8]| match sni(&with(&[names(&[(0, name)])])) {
        Sni::Found { server_name, .. } => Ok(server_name.map(String::from)),
        Sni::Malformed(reason) => Err(reason),
        other => panic!("{other:?}"),
    };
    let is = |said: &[u8], meant: &str| assert_eq!(name(said), Ok(Some(meant.to_owned())));
    is(b"A-1.b_c.EXAMPLE", "a-1.b_c.example");
    is(b"cart.shop.", "cart.shop");
    is(b"xn--bcher-kva.example", "xn--bcher-kva.example");
    is(&[b'a'; 63], &"a".repeat(63));
    assert_eq!(name(b"10.0.0.1"), Ok(None));
    let long = [&b"a.".repeat(126)[..], b"a"].concat();
    is(&long, std::str::from_utf8(&long).unwrap());
    let longer = [&b"a.".repeat(126)[..], b"ab"].concat();
    let bad: [&[u8]; 12] = [
        b"",
        b".",
        b"a..b",
        b".a",
        b"a..",
        b"-a.b",
        b"a-.b",
        b"a b",
        b"a\0",
        b"b\xc3\xbccher",
        &[b'a'; 64],
        &longer,
    ];
    for bad in bad {
        assert!(name(bad).is_err(), "{}", bad.escape_ascii());
    }
    assert!(name(b"::1").is_err());
    assert!(name(b"*.shop").is_err());
}

#[test]
fn what_no_server_takes_is_refused() {
    let reason = |bytes: &[u8]| match sni(bytes) {
        Sni::Malformed(reason) => reason,
        other => panic!("{other:?}"),
    };
    let cart = names(&[(0, b"cart")]);
    assert_eq!(reason(&with(&[cart.clone(), cart.clone()])), "an extension that is there twice");
    assert_eq!(reason(&with(&[offers(&[b"h2"]), offers(&[b"h2"])])), "an extension that is there twice");
    assert_eq!(reason(&with(&[names(&[(0, b"a"), (0, b"b")])])), "two host names");
    assert_eq!(reason(&with(&[names(&[(7, b"\0"), (0, b"cart")])])), UNKNOWN_NAME);
    assert_eq!(reason(&with(&[names(&[(0, b"cart"), (7, b"\0")])])), UNKNOWN_NAME);
    assert_eq!(reason(&with(&[extension(0, &[])])), "a list of server names that is none");
    assert_eq!(reason(&with(&[extension(0, &[0, 0])])), "a list of server names that is none");
    assert_eq!(reason(&with(&[offers(&[b"h2", b""])])), "a list of protocols that is none");
    assert_eq!(reason(&with(&[offers(&[])])), "a list of protocols that is none");
    assert_eq!(reason(&with(&[vec![0, 0, 0, 9]])), "ends too early");
    assert_eq!(reason(&handshake(&[openssl(), vec![0, 0, 1]].concat())), "more after its extensions");
    assert_eq!(reason(&handshake(&openssl()[..30])), "ends too early");

    let mut suites = openssl();
    suites[2 + 32 + 33 + 1] = 7;
    assert_eq!(reason(&handshake(&suites)), "a list of cipher suites that is none");
    let alert = [&in_records(&[1, 0, 0, 90, 3, 3], 6)[..], &[21, 3, 1, 0, 2, 2, 40]].concat();
    assert_eq!(reason(&alert), "a record that does not continue it");
    assert_eq!(sni(b"GET / HTTP/1.1\r\n"), Sni::NotTls);
    assert_eq!(sni(&[22, 3, 3, 0, 90, 2]), Sni::NotTls);
}

#[test]
fn a_long_one_is_read_to_the_limit() {
    let padded = |bytes: usize| {
        let hello =
            [openssl(), list(2, &[names(&[(0, b"cart")]), extension(21, &vec![0; bytes])].concat())].concat();
        in_records(&[&[1][..], &list(3, &hello)].concat(), 8 << 10)
    };
    let fits = CLIENT_HELLO_BYTES - padded(0).len() - 3 * RECORD_HEAD;
    assert_eq!(padded(fits).len(), CLIENT_HELLO_BYTES);
    assert_eq!(sni(&padded(fits)), found(Some("cart"), &[]));
    assert_eq!(sni(&padded(fits)[..CLIENT_HELLO_BYTES - 1]), Sni::NeedMore);
    assert_eq!(sni(&padded(fits + 1)), Sni::Malformed(TOO_LONG));
    // One that says so is not waited for.
    assert_eq!(sni(&[22, 3, 1, 1, 0, 1, 1, 0, 0]), Sni::Malformed(TOO_LONG));
    assert_eq!(sni(&[22, 3, 1, 1, 0, 1, 0, 0x40, 0]), Sni::NeedMore);

    let protocols: Vec<_> = (0..=255).map(|n| [b'a', n]).collect();
    let protocols: Vec<_> = protocols.iter().map(<[u8; 2]>::as_slice).collect();
    let Sni::Found { alpn, .. } = sni(&with(&[offers(&protocols)])) else { panic!() };
    assert_eq!(
        alpn.iter().map(|protocol| &**protocol).collect::<Vec<_>>(),
        protocols[..CLIENT_HELLO_PROTOCOLS]
    );
}

#[test]
fn versions_of_the_record_do_not_matter() {
    for minor in [0, 1, 2, 3, 4, 9] {
        let mut hello = with(&[names(&[(0, b"cart")])]);
        hello[2] = minor;
        assert_eq!(sni(&hello), found(Some("cart"), &[]), "3.{minor}");
    }
}

proptest! {
    #[test]
    fn a_damaged_hello_keeps_the_promises(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        size in 1..400_usize,
    ) {
        let mut hello = with(&[names(&[(0, b"cart.shop")]), offers(&[b"h2", b"http/1.1"])]);
        for (at, byte) in damage {
            let at = at.index(hello.len());
            hello[at] = byte;
        }
        fuzzing::TARGETS[0].1(&hello);
        fuzzing::TARGETS[0].1(&in_records(&hello[RECORD_HEAD..], size));
    }
}
