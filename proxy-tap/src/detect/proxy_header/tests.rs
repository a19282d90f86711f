use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use weir_model::limits::{PROXY_HEADER_V1_BYTES, PROXY_HEADER_V2_BYTES};

use super::*;
use crate::fuzzing;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn header(source: &str, destination: &str, consumed: usize) -> Parsed {
    Parsed::Header {
        source: address(source),
        destination: address(destination),
        consumed,
        tlvs: Tlvs::default(),
    }
}

/// What is read of the header with data behind; from its beginnings nothing is.
fn read(header: &[u8]) -> Result<Parsed, Malformed> {
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Ok(Parsed::NeedMore), "{end} bytes");
    }
    let read = parse(header);
    assert_eq!(parse(&[header, b"GET / HTTP/1.1\r\n\r\n"].concat()), read);
    read
}

#[test]
fn lines_are_read() {
    let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    assert_eq!(read(line), Ok(header("192.168.0.1:56324", "192.168.0.11:443", line.len())));
    let line = b"PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n";
    assert_eq!(read(line), Ok(header("[2001:db8::1]:0", "[::1]:65535", line.len())));
    let line = b"PROXY TCP6 ::ffff:10.0.0.1 ::1 1 2\r\n";
    assert_eq!(read(line), Ok(header("10.0.0.1:1", "[::1]:2", line.len())));
    for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff:f...f:ffff \n \xff 65535\r\n"] {
        assert_eq!(read(line), Ok(Parsed::Local { consumed: line.len() }));
    }
}

#[test]
fn a_line_has_its_form() {
    for line in [
        "PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 \r\n",
        "PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n",
        "PROXY TCP4 10.0.0.01 10.0.0.2 1 2\r\n",
        "PROXY TCP4 10.0.0 10.0.0.2 1 2\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 01 2\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 +1 2\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 1 65536\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2  2\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\n\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 10.0.0.1 ::1 1 2\r\n",
        "PROXY TCP6 ::1%eth0 ::1 1 2\r\n",
        "PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
        "PROXY tcp4 10.0.0.1 10.0.0.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(Malformed::Line), "{line:?}");
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(PROXY_HEADER_V1_BYTES - 16));
    assert_eq!(read(longest.as_bytes()), Ok(Parsed::Local { consumed: PROXY_HEADER_V1_BYTES }));
    let longer = longest.replace("\r", "x\r");
    assert_eq!(
        read(&longer.as_bytes()[..PROXY_HEADER_V1_BYTES]),
        Err(Malformed::TooLong(PROXY_HEADER_V1_BYTES))
    );
}

#[test]
fn other_protocols_have_no_header() {
    let others: [&[u8]; 6] =
        [b"GET / HTTP/1.1\r\n", b"POST", b"PROXX", b"\r\n\r\nGET", b"\x16\x03\x01", b"\r\n\r\n\0\r\nQUIX"];
    for bytes in others {
        assert_eq!(parse(bytes), Ok(Parsed::Absent), "{}", bytes.escape_ascii());
    }
}

/// Version 2: command, family, and what follows the length.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    [v2::SIGNATURE, &[command, family], &(block.len() as u16).to_be_bytes(), block].concat()
}

const TCP4: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x04, 0xd2, 0x01, 0xbb];

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn with_tlvs(tlvs: &[Vec<u8>]) -> Vec<u8> {
    binary(0x21, 0x11, &[&TCP4[..], &tlvs.concat()].concat())
}

#[test]
fn binary_addresses_are_read() {
    assert_eq!(read(&binary(0x21, 0x11, &TCP4)), Ok(header("10.0.0.1:1234", "10.0.0.2:443", 28)));
    let mut block = [0; 36];
    (block[0], block[15], block[26], block[27]) = (0x20, 1, 0xff, 0xff);
    block[28..].copy_from_slice(&[10, 0, 0, 2, 0, 1, 0, 2]);
    assert_eq!(read(&binary(0x21, 0x21, &block)), Ok(header("[2000::1]:1", "10.0.0.2:2", 52)));
}

#[test]
fn what_is_not_tcp_is_local() {
    let unix = [b'/'; 216];
    let blocks: [(u8, u8, &[u8]); 9] = [
        (0x20, 0, b""),
        (0x20, 0xff, b"to be ignored"),
        (0x21, 0, b""),
        (0x21, 0, b"\x03\0\x04 not for us"),
        (0x21, 0x10, b""),
        (0x21, 0x12, &TCP4),
        (0x21, 0x22, &[1; 36]),
        (0x21, 0x31, &unix),
        (0x21, 0x32, &unix),
    ];
    for (command, family, block) in blocks {
        let bytes = binary(command, family, block);
        assert_eq!(read(&bytes), Ok(Parsed::Local { consumed: bytes.len() }), "{command:#x} {family:#x}");
    }
}

#[test]
fn a_binary_header_has_its_form() {
    let refused = |bytes: &[u8], reason| assert_eq!(parse(bytes), Err(reason));
    refused(&binary(0x11, 0x11, &TCP4), Malformed::Version(1));
    refused(&binary(0x22, 0x11, &TCP4), Malformed::Command(2));
    refused(&binary(0x21, 0x41, &TCP4), Malformed::Family(0x41));
    refused(&binary(0x21, 0x13, &TCP4), Malformed::Family(0x13));
    refused(&binary(0x21, 0x11, &TCP4[1..]), Malformed::Addresses);
    refused(&binary(0x21, 0x21, &[0; 35]), Malformed::Addresses);
    refused(&binary(0x21, 0x31, &[0; 215]), Malformed::Addresses);
    // Neither is waited for.
    refused(
        &binary(0x21, 0x11, &vec![0; PROXY_HEADER_V2_BYTES])[..16],
        Malformed::TooLong(PROXY_HEADER_V2_BYTES),
    );
    refused(&binary(0x21, 0x21, &[0; 35])[..16], Malformed::Addresses);
    let largest = with_tlvs(&[tlv(0xe0, &vec![7; PROXY_HEADER_V2_BYTES - 31])]);
    assert_eq!(largest.len(), PROXY_HEADER_V2_BYTES);
    assert!(matches!(read(&largest), Ok(Parsed::Header { consumed: PROXY_HEADER_V2_BYTES, .. })));
}

#[test]
fn tlvs_are_kept_and_bounded() {
    let said = [
        tlv(Tlvs::AUTHORITY, b"cart.shop"),
        tlv(Tlvs::NOOP, b"\0\0\0"),
        tlv(Tlvs::ALPN, b"h2"),
        tlv(Tlvs::UNIQUE_ID, &[1; PROXY_HEADER_UNIQUE_ID_BYTES]),
        tlv(Tlvs::NETNS, b""),
        tlv(0xea, b"\x01vpce-1"),
        tlv(0xea, b"again"),
    ];
    let Ok(Parsed::Header { tlvs, consumed, .. }) = read(&with_tlvs(&said)) else { panic!() };
    assert_eq!(consumed, with_tlvs(&said).len());
    assert_eq!(tlvs.get(Tlvs::AUTHORITY), Some(&b"cart.shop"[..]));
    assert_eq!(tlvs.get(Tlvs::ALPN), Some(&b"h2"[..]));
    assert_eq!(tlvs.get(Tlvs::NETNS), Some(&b""[..]));
    assert_eq!(tlvs.get(0xea), Some(&b"\x01vpce-1"[..]));
    assert_eq!(tlvs.get(Tlvs::NOOP), None);
    let kinds: Vec<u8> = tlvs.iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [2, 1, 5, 0x30, 0xea, 0xea]);

    let many = |count| parse(&with_tlvs(&vec![tlv(0xe0, b""); count]));
    assert!(many(PROXY_HEADER_TLVS).is_ok());
    assert_eq!(many(PROXY_HEADER_TLVS + 1), Err(Malformed::Tlvs));
    let long = tlv(Tlvs::UNIQUE_ID, &[1; PROXY_HEADER_UNIQUE_ID_BYTES + 1]);
    for bad in [long, vec![1], vec![1, 0], vec![1, 0, 1], tlv(Tlvs::CRC32C, b"123")] {
        assert_eq!(parse(&with_tlvs(&[bad])), Err(Malformed::TlvLength));
    }
    // Those of addresses that do not matter are looked at as well.
    let unix = binary(0x21, 0x31, &[&[0; 216][..], &tlv(Tlvs::CRC32C, b"1234")].concat());
    assert_eq!(parse(&unix), Err(Malformed::Checksum));
}

#[test]
fn a_checksum_is_that_of_the_header() {
    let mut bytes = with_tlvs(&[tlv(1, b"h2"), tlv(Tlvs::CRC32C, &[0; 4]), tlv(2, b"cart")]);
    let at = 16 + 12 + 5 + 3;
    // CRC32C bit by bit (RFC 4960, appendix B), of the header with zeros in its place.
    let crc = !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    });
    bytes[at..at + 4].copy_from_slice(&crc.to_be_bytes());
    let Ok(Parsed::Header { tlvs, .. }) = read(&bytes) else { panic!() };
    assert_eq!(tlvs.iter().map(|(kind, _)| kind).collect::<Vec<_>>(), [1, 2]);
    for at in (16..28).chain(31..33).chain(at..at + 4).chain(at + 7..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert_eq!(parse(&damaged), Err(Malformed::Checksum), "byte {at}");
    }
}

#[test]
fn headers_are_written_as_the_specification_shows() {
    let (source, destination) = (address("10.0.0.1:1234"), address("10.0.0.2:443"));
    let mut line = Vec::new();
    write_v1(&mut line, source, destination);
    assert_eq!(line, b"PROXY TCP4 10.0.0.1 10.0.0.2 1234 443\r\n");
    let mut bytes = Vec::new();
    write_v2(&mut bytes, source, destination);
    assert_eq!(bytes, binary(0x21, 0x11, &TCP4));

    let longest = address("[1111:2222:3333:4444:5555:6666:7777:8888]:65535");
    line.clear();
    write_v1(&mut line, longest, source);
    assert_eq!(
        std::str::from_utf8(&line),
        Ok("PROXY TCP6 1111:2222:3333:4444:5555:6666:7777:8888 ::ffff:10.0.0.1 65535 1234\r\n")
    );
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<Ipv4Addr>().prop_map(IpAddr::from);
    let mapped = any::<Ipv4Addr>().prop_map(|ip| IpAddr::from(ip.to_ipv6_mapped()));
    let v6 = any::<Ipv6Addr>().prop_map(IpAddr::from);
    let sparse = any::<[bool; 16]>().prop_map(|bytes| IpAddr::from(bytes.map(u8::from)));
    (prop_oneof![v4, mapped, v6, sparse], any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        source in any_address(),
        destination in any_address(),
        follow in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        fuzzing::written(source, destination, (canonical(source), canonical(destination)), &follow);
    }

    #[test]
    fn a_damaged_header_keeps_the_promises(
        source in any_address(),
        destination in any_address(),
        tlvs in prop::collection::vec((0..6_u8, prop::collection::vec(any::<u8>(), 0..9)), 0..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        for write in [write_v1, write_v2] {
            let mut bytes = Vec::new();
            write(&mut bytes, source, destination);
            if bytes[0] == b'\r' {
                bytes.extend(tlvs.iter().flat_map(|(kind, value)| tlv(*kind, value)));
                let length = bytes.len() as u16 - 16;
                bytes[14..16].copy_from_slice(&length.to_be_bytes());
            }
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            fuzzing::TARGETS[1].1(&bytes);
        }
    }
}
