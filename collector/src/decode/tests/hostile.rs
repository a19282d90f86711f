//! Bytes that no honest sender sends: refused with a reason, or read as protobuf asks, but never a panic
//! and never more memory than the limits allow.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::spans::{good, request};
use super::*;

/// Field `number` with a message or bytes as its value.
fn field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

/// A request with one record of these bytes, for each signal.
fn around(record: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, record)))
}

/// A request of each signal that has everything.
fn full_requests() -> Vec<(Signal, Vec<u8>)> {
    let mut runner = TestRunner::deterministic();
    let longest = |signal, requests: Vec<Vec<u8>>| {
        let found = requests.into_iter().filter(|bytes| bytes.len() < 4_000).max_by_key(Vec::len);
        (signal, found.expect("there are requests"))
    };
    let mut of = |signal| {
        let mut one = || match signal {
            Signal::Traces => {
                traces_request(Doubles::Any).new_tree(&mut runner).unwrap().current().encode_to_vec()
            }
            Signal::Logs => {
                logs_request(Doubles::Any).new_tree(&mut runner).unwrap().current().encode_to_vec()
            }
            Signal::Metrics => {
                metrics_request(Doubles::Any).new_tree(&mut runner).unwrap().current().encode_to_vec()
            }
        };
        longest(signal, (0..40).map(|_| one()).collect())
    };
    Signal::ALL.into_iter().map(&mut of).collect()
}

#[test]
fn a_request_cut_short_anywhere_is_refused_with_the_place() {
    for (signal, whole) in full_requests() {
        let mut reader = wire::Reader::new(&whole);
        let mut ends = vec![0];
        while reader.next().unwrap().is_some() {
            ends.push(whole.len() - reader.bytes().len());
        }
        assert!(whole.len() > 500, "{signal:?} is tried with {} bytes", whole.len());
        for end in 0..whole.len() {
            match decoded(signal, &whole[..end]) {
                // Between two resources nothing is missing that a reader could know of.
                Ok(_) => assert!(ends.contains(&end), "{signal:?} cut at {end} passes"),
                Err(DecodeError::Malformed(malformed)) => {
                    assert!(malformed.at <= end && !malformed.reason.is_empty(), "{malformed}");
                }
                Err(other) => panic!("{signal:?} cut at {end}: {other}"),
            }
        }
    }
}

#[test]
fn a_record_cut_short_anywhere_never_panics() {
    let span = traces_request(Doubles::Any);
    let mut runner = TestRunner::deterministic();
    let spans = std::iter::repeat_with(|| span.new_tree(&mut runner).unwrap().current());
    let spans = spans.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
    let span = spans.flat_map(|scope| scope.spans).find(|span| span.encoded_len() > 400).unwrap();
    let whole = span.encode_to_vec();
    let refused =
        (0..whole.len()).filter(|end| decoded(Signal::Traces, &around(&whole[..*end])).is_err()).count();
    assert!(refused > whole.len() / 2, "{refused} of {}", whole.len());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for signal in Signal::ALL {
            let _ = decoded(signal, &bytes);
            let _ = decoded(signal, &around(&bytes));
            let _ = decoded(signal, &around(&field(5, &field(1, &bytes))));
        }
    }

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        thread_local! {
            static WHOLE: Vec<(Signal, Vec<u8>)> = full_requests();
        }
        WHOLE.with(|whole| for (signal, whole) in whole {
            let mut bytes = whole.clone();
            for (index, byte) in &changes {
                let at = index.index(bytes.len());
                bytes[at] = *byte;
            }
            // What is taken must also fit the tables: `decode` builds the batches.
            if let Err(error) = decoded(*signal, &bytes) {
                assert!(matches!(error, DecodeError::Malformed(_)), "{error}");
            }
        });
    }
}

/// The only span of a request whose span has `extra` bytes before and after its own.
fn with_extra(extra: &[u8]) -> Result<Decoded, DecodeError> {
    let span = good().encode_to_vec();
    decoded(Signal::Traces, &around(&[extra, &span, extra].concat()))
}

#[test]
fn unknown_fields_of_every_wire_type_are_skipped() {
    let unknown: [&[u8]; 6] = [
        &[0x98, 0x06, 0x2a],                               // 99: varint
        &[0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],             // 99: fixed64
        &[0x9a, 0x06, 2, 0xff, 0xfe],                      // 99: bytes
        &[0x9d, 0x06, 1, 2, 3, 4],                         // 99: fixed32
        &[0x9b, 0x06, 0x0b, 0x08, 0x01, 0x0c, 0x9c, 0x06], // 99: group { group 1 { varint } }
        &[0xf8, 0xff, 0xff, 0xff, 0x0f, 0x00],             // the highest field number
    ];
    let plain = only(with_extra(&[]).unwrap());
    for extra in unknown {
        assert_eq!(only(with_extra(extra).unwrap()), plain, "{extra:x?}");
    }
}

#[test]
fn overlong_numbers_are_read_and_endless_ones_refused() {
    let kind_3 = |number: &[u8]| [&good().encode_to_vec(), &[0x30][..], number].concat();
    let plain =
        only(decoded(Signal::Traces, &request(vec![Span { kind: 3, ..good() }]).encode_to_vec()).unwrap());
    let overlong = kind_3(&[0x83, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]);
    assert_eq!(only(decoded(Signal::Traces, &around(&overlong)).unwrap()), plain);
    let endless = kind_3(&[0x83, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]);
    let error = decoded(Signal::Traces, &around(&endless)).unwrap_err().to_string();
    assert!(error.ends_with("number is too long"), "{error}");
}

#[test]
fn a_field_in_two_pieces_is_one() {
    let mut whole = good();
    whole.status = Some(opentelemetry_proto::tonic::trace::v1::Status { message: "m".into(), code: 2 });
    let split = [&good().encode_to_vec()[..], &field(15, &field(2, b"m")), &field(15, &[0x18, 2])].concat();
    assert_eq!(
        only(decoded(Signal::Traces, &around(&split)).unwrap()),
        only(decoded(Signal::Traces, &request(vec![whole]).encode_to_vec()).unwrap())
    );
}

#[test]
fn invalid_utf8_anywhere_rejects_the_span() {
    let bad: &[u8] = &[0xff, 0xfe];
    let key_value = |key: &[u8], value: &[u8]| [field(1, key), field(2, &field(1, value))].concat();
    let list = |value: &[u8]| field(2, &field(5, &field(1, &field(1, value))));
    let map = |key: &[u8]| field(2, &field(6, &field(1, &field(1, key))));
    let places = [
        ("trace_state", field(3, bad)),
        ("name", field(5, bad)),
        ("attribute key", field(9, &key_value(bad, b"v"))),
        ("attribute value", field(9, &key_value(b"k", bad))),
        ("list element", field(9, &list(bad))),
        ("map key", field(9, &map(bad))),
        ("event name", field(11, &field(2, bad))),
        ("event attribute", field(11, &field(3, &key_value(b"k", bad)))),
        ("link trace_state", field(13, &field(3, bad))),
        ("link attribute", field(13, &field(4, &key_value(b"k", bad)))),
        ("status message", field(15, &field(2, bad))),
    ];
    for (place, extra) in places {
        let taken = with_extra(&extra).unwrap();
        assert_eq!(taken.rejected.iter().collect::<Vec<_>>(), [(Reason::InvalidUtf8, 1)], "{place}");
        assert_eq!(taken.accepted, 0, "{place}");
    }
}

fn nested(depth: usize, map: bool) -> AnyValue {
    let mut value = AnyValue { value: Some(Value::IntValue(1)) };
    for _ in 1..depth {
        let nesting = if map {
            let entry = KeyValue { key: "k".into(), value: Some(value), ..KeyValue::default() };
            Value::KvlistValue(KeyValueList { values: vec![entry] })
        } else {
            Value::ArrayValue(ArrayValue { values: vec![value] })
        };
        value = AnyValue { value: Some(nesting) };
    }
    value
}

#[test]
fn values_may_nest_to_the_limit_and_no_deeper() {
    for map in [false, true] {
        for (depth, expected) in [
            (limits::ANY_VALUE_DEPTH, vec![]),
            (limits::ANY_VALUE_DEPTH + 1, vec![(Reason::TooDeep, 1)]),
            (5_000, vec![(Reason::TooDeep, 1)]),
        ] {
            // Built from the inside out: dropping or encoding a deep value would overflow the stack.
            let value = if depth < 100 { nested(depth, map).encode_to_vec() } else { deep(depth, map) };
            let attribute = field(9, &[field(1, b"k"), field(2, &value)].concat());
            let taken = with_extra(&attribute).unwrap();
            assert_eq!(taken.rejected.iter().collect::<Vec<_>>(), expected, "{map} {depth}");
        }
    }
}

fn deep(depth: usize, map: bool) -> Vec<u8> {
    let mut value = vec![0x18, 0x01];
    for _ in 1..depth {
        value = if map { field(6, &field(1, &field(2, &value))) } else { field(5, &field(1, &value)) };
    }
    value
}

#[test]
fn groups_nest_to_a_limit() {
    let open: Vec<u8> = [0x9b, 0x06].repeat(100_000);
    let error = with_extra(&open).unwrap_err().to_string();
    assert!(error.ends_with("groups nested too deeply"), "{error}");
}

#[test]
fn a_record_of_too_many_parts_is_rejected_before_they_fill_memory() {
    let events = [0x5a, 0x00].repeat(limits::RECORD_PARTS + 1);
    let links = [0x6a, 0x00].repeat(limits::RECORD_PARTS + 1);
    let mut attributes = vec![];
    for number in 0..=limits::RECORD_PARTS as u32 {
        attributes.extend(field(9, &field(1, format!("{number:x}").as_bytes())));
    }
    let nested = field(11, &[0x1a, 0x00]).repeat(limits::RECORD_PARTS / 2 + 1);
    for (parts, extra) in
        [("events", events), ("links", links), ("attributes", attributes), ("nested", nested)]
    {
        let span = [good().encode_to_vec(), extra].concat();
        let taken = decoded(Signal::Traces, &around(&span)).unwrap();
        assert_eq!(taken.rejected.iter().collect::<Vec<_>>(), [(Reason::ManyParts, 1)], "{parts}");
    }
}

#[test]
fn a_resource_repeated_in_every_row_is_paid_for() {
    let value = AnyValue { value: Some(Value::StringValue("x".repeat(1 << 20))) };
    let attribute = KeyValue { key: "large".into(), value: Some(value), ..KeyValue::default() };
    let resource = field(1, &field(1, &attribute.encode_to_vec()));
    let spans = field(2, &field(2, &good().encode_to_vec()).repeat(1_000));
    let taken = decoded(Signal::Traces, &field(1, &[resource, spans].concat())).unwrap();
    let room = (limits::DECODED_BYTES >> 20) as u64;
    assert!((room - 2..room).contains(&taken.accepted), "{}", taken.accepted);
    assert_eq!(taken.rejected.iter().collect::<Vec<_>>(), [(Reason::TooLarge, 1_000 - taken.accepted)]);
}
