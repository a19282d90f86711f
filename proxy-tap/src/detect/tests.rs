use proptest::prelude::*;

use super::Detected::{Http1, Http2, NeedMore, Opaque, Tls};
use super::*;
use crate::fuzzing;

/// What is told of the whole, and from how many bytes on.
fn told(bytes: &[u8]) -> (Detected, usize) {
    let whole = detect(bytes);
    let first = (0..=bytes.len()).find(|end| detect(&bytes[..*end]) != NeedMore);
    for end in first.unwrap_or(bytes.len())..=bytes.len() {
        assert_eq!(detect(&bytes[..end]), whole, "{end} bytes of {}", bytes.escape_ascii());
    }
    (whole, first.unwrap_or(bytes.len()))
}

#[test]
fn a_path_after_a_registered_method_is_enough() {
    assert_eq!(told(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"), (Http1, 5));
    assert_eq!(told(b"POST /cart?a=1 HTTP/1.1\r\n"), (Http1, 6));
    assert_eq!(told(b"PRI"), (NeedMore, 3));
    assert_eq!(told(b"PROPFIND /calendars HTTP/1.1\r\n"), (Http1, 10));
    assert_eq!(told(b"VERSION-CONTROL /x HTTP/1.1\r\n"), (Http1, 17));
    for method in METHODS {
        assert_eq!(told(&[method, b" /"].concat()), (Http1, method.len() + 2));
        assert!(method.len() <= METHOD_BYTES && method.iter().all(|byte| is_tchar(*byte)));
    }
}

#[test]
fn everything_else_needs_the_version() {
    for line in [
        "GET http://cart.shop/ HTTP/1.1",
        "CONNECT cart.shop:443 HTTP/1.1",
        "CONNECT [::1]:443 HTTP/1.1",
        "CONNECT 10.0.0.1:443 HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "PURGE /cached HTTP/1.1",
        "M-SEARCH * HTTP/1.1",
        "get / HTTP/1.1",
        "PRI / HTTP/1.1",
        "GET a\u{e4} HTTP/1.1",
    ] {
        assert_eq!(told(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()), (Http1, line.len() - 1), "{line}");
    }
}

#[test]
fn empty_lines_may_come_first() {
    assert_eq!(told(b"\r\nGET / HTTP/1.1\r\n"), (Http1, 7));
    assert_eq!(told(b"\r\n\n\r\nPURGE /a HTTP/1.1\r\n"), (Http1, 21));
    assert_eq!(told(b"\r\n\r\n"), (NeedMore, 4));
    assert_eq!(told(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c").0, Opaque, "a PROXY header");
    assert_eq!(told(b"\rGET / HTTP/1.1\r\n"), (Opaque, 2));
    assert_eq!(told(b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").0, Opaque, "a preface comes first");
}

#[test]
fn http2_shows_its_whole_preface() {
    assert_eq!(told(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04"), (Http2, 24));
    assert_eq!(told(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), (NeedMore, 23));
    assert_eq!(told(b"PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n"), (Opaque, 19));
    assert_eq!(told(b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"), (Opaque, 12));
}

#[test]
fn tls_shows_in_six_bytes() {
    assert_eq!(told(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]), (Tls, 6));
    assert_eq!(told(&[22, 3, 1, 2, 0]), (NeedMore, 5));
    assert_eq!(told(&[22, 3, 3, 2, 0, 2, 0, 1]), (Opaque, 6), "a ServerHello");
    assert_eq!(told(&[22, 3, 1, 0x40, 1, 1]), (Opaque, 5), "a record of more than 16 KiB");
    assert_eq!(told(&[22, 3, 1, 0x41, 0, 1]), (Opaque, 4), "one that needs no second byte to say so");
    assert_eq!(told(&[22, 3, 1, 0, 0, 1]), (Opaque, 5), "an empty record");
    assert_eq!(told(&[22, 2, 1, 0, 5, 1]), (Opaque, 2));
    assert_eq!(told(&[23, 3, 3, 0, 5, 1]), (Opaque, 1), "data");
    assert_eq!(told(&[0x80, 0x2e, 1, 3, 1]), (Opaque, 1), "SSL 2.0");
}

#[test]
fn protocols_of_others_are_opaque() {
    let opaque: [(&str, &[u8], usize); 29] = [
        ("Redis, inline", b"PING\r\n", 5),
        ("Redis, inline, a verb of HTTP", b"GET session:1\r\n", 14),
        ("Redis, inline, another", b"COPY a b\r\n", 8),
        ("Redis", b"*1\r\n$4\r\nPING\r\n", 3),
        ("SMTP", b"EHLO mail.shop\r\n", 15),
        ("SMTP, bare", b"QUIT\r\n", 5),
        ("PostgreSQL", b"\0\0\0\x08\x04\xd2\x16\x2f", 1),
        ("SSH", b"SSH-2.0-OpenSSH_9.6 Debian-2\r\n", 29),
        ("SSH without a comment", b"SSH-2.0-Go\r\n", 11),
        ("memcached", b"get key\r\n", 8),
        ("memcached, set", b"set k 0 0 5\r\nhello\r\n", 7),
        ("memcached, binary", b"\x80\0\0\x03", 1),
        ("MQTT", b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a", 1),
        ("Kafka", b"\0\0\0\x23\0\x12\0\x04", 1),
        ("AMQP", b"AMQP\0\0\x09\x01", 5),
        ("NATS", b"CONNECT {\"verbose\":false}\r\n", 9),
        ("NATS, bare", b"PING\r\n", 5),
        ("STOMP", b"CONNECT\naccept-version:1.2\n", 8),
        ("SIP", b"OPTIONS sip:a@shop SIP/2.0\r\n", 20),
        ("RTSP", b"OPTIONS * RTSP/1.0\r\n", 11),
        ("ICAP", b"REQMOD icap://a/b ICAP/1.0\r\n", 19),
        ("Icecast", b"SOURCE /live ICE/1.0\r\n", 14),
        ("IMAP", b"a1 SEARCH ALL\r\n", 11),
        ("FTP", b"USER anonymous\r\n", 15),
        ("LDAP", b"\x30\x0c\x02\x01\x01", 2),
        ("MongoDB", b"\x3f\0\0\0", 1),
        ("Gopher", b"/path\r\n", 1),
        ("PROXY, version 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", 12),
        ("a response", b"HTTP/1.1 200 OK\r\n", 5),
    ];
    for (what, bytes, from) in opaque {
        assert_eq!(told(bytes), (Opaque, from), "{what}");
    }
    assert_eq!(told(b""), (NeedMore, 0), "the client of MySQL waits");
    assert_eq!(told(b"ruok"), (NeedMore, 4), "ZooKeeper's word has no end");
}

#[test]
fn a_line_is_followed_so_far_and_no_further() {
    let word = |bytes| vec![b'x'; bytes];
    assert_eq!(told(&word(METHOD_BYTES)), (NeedMore, METHOD_BYTES));
    assert_eq!(told(&word(METHOD_BYTES + 1)), (Opaque, METHOD_BYTES + 1));
    assert_eq!(told(&[word(METHOD_BYTES), b" / HTTP/1.1".to_vec()].concat()).0, Http1);

    let line = |target: usize| [b"PURGE ".to_vec(), word(target), b" HTTP/1.".to_vec()].concat();
    let fits = DETECT_BYTES - line(0).len();
    assert_eq!(told(&line(fits)), (Http1, DETECT_BYTES));
    assert_eq!(told(&line(fits + 1)), (Opaque, DETECT_BYTES));
    assert_eq!(told(&b"\n".repeat(DETECT_BYTES + 9)), (Opaque, DETECT_BYTES));
}

/// Pieces of which first lines are made, good and bad.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        &b"\r\n"[..],
        b"\n",
        b"\r",
        b" ",
        b"/",
        b"*",
        b"[",
        b"GET",
        b"POST",
        b"PRI",
        b"PRI * HTTP/2.0\r\n",
        b"\r\nSM\r\n",
        b"\r\n",
        b"PURGE",
        b"http://a",
        b" HTTP/1.",
        b" HTTP/1",
        b"HTTP/",
        b"HTTP/2.0",
        b"1\r\n",
        b"\x16\x03\x01",
        b"\x01",
        b"\0\x05",
    ]);
    let piece =
        prop_oneof![4 => known.prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_first_bytes_keep_the_promises(bytes in pieces()) {
        fuzzing::TARGETS[0].1(&bytes);
    }
}
