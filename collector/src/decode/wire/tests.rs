use proptest::prelude::*;

use super::*;

fn walk(bytes: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut numbers = vec![];
    while let Some(field) = reader.next()? {
        numbers.push(field.number);
    }
    Ok(numbers)
}

#[test]
fn unknown_groups_are_skipped() {
    // field 1 varint, group 5 { field 2 bytes, group 6 {} }, field 3 fixed32
    let bytes = [0x08, 0x01, 0x2b, 0x12, 0x01, 0xff, 0x33, 0x34, 0x2c, 0x1d, 1, 2, 3, 4];
    assert_eq!(walk(&bytes), Ok(vec![1, 5, 3]));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let cases: [(&[u8], usize, &str); 8] = [
        (&[0x08], 1, "number is cut short"),
        (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 1, "number is too long"),
        (&[0x08, 0x01, 0x12, 0x05, 0x00], 3, "length goes beyond the end"),
        (&[0x09, 0x00], 1, "fixed-size value is cut short"),
        (&[0x00, 0x00], 0, "field number out of range"),
        (&[0x0c], 0, "unknown or unexpected wire type"),
        (&[0x0b, 0x14], 1, "end of a group that was not begun"),
        (&[0x0b; 20], 8, "groups nested too deeply"),
    ];
    for (bytes, at, reason) in cases {
        assert_eq!(walk(bytes), Err(Malformed { at, reason }), "{bytes:x?}");
    }
}

#[test]
fn a_known_field_of_another_type_is_malformed() {
    let mut reader = Reader::new(&[0x08, 0x01]);
    let field = reader.next().unwrap().unwrap();
    assert!(field.bytes().is_err());
    assert!(field.fixed64().is_err());
    assert_eq!(field.varint(), Ok(1));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = walk(&bytes);
    }

    #[test]
    fn numbers_round_trip(value: u64, signed: i32) {
        let mut bytes = vec![];
        prost::encoding::uint64::encode(7, &value, &mut bytes);
        prost::encoding::sint32::encode(8, &signed, &mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.next().unwrap().unwrap().varint(), Ok(value));
        prop_assert_eq!(reader.next().unwrap().unwrap().sint32(), Ok(signed));
        prop_assert!(reader.next().unwrap().is_none());
    }
}
