//! Whatever the types, nulls and slices: what is written is read.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, StringArray, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Fields, Schema};
use proptest::prelude::*;

use super::*;
use crate::Table;
use crate::schema::{list_of, map_of, timestamp};

fn bytes_of(batch: &RecordBatch) -> Vec<u8> {
    let mut out = Pieces::default();
    write(batch, &mut out).unwrap();
    let len = out.len();
    let bytes: Vec<u8> = out.finish().iter().flat_map(|piece| piece.to_vec()).collect();
    assert_eq!(bytes.len(), len);
    bytes
}

fn entry() -> Fields {
    Fields::from(vec![Field::new("at", timestamp(), true), Field::new("tags", map_of(DataType::Utf8), true)])
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        Field::new("time", timestamp(), false),
        field("text", DataType::Utf8),
        field("blob", DataType::Binary),
        field("flag", DataType::Boolean),
        field("small", DataType::Int16),
        field("double", DataType::Float64),
        field("tags", map_of(DataType::Utf8)),
        field("counts", list_of(DataType::Int64)),
        field("events", list_of(DataType::Struct(entry()))),
    ]))
}

type Row =
    (i64, Option<String>, Option<Vec<u8>>, Option<bool>, Option<i16>, Option<f64>, Option<Vec<String>>);

fn lens(rows: &[Row]) -> (OffsetBuffer<i32>, Option<NullBuffer>, usize) {
    let lens: Vec<usize> = rows.iter().map(|row| row.6.as_ref().map_or(0, Vec::len)).collect();
    let valid = rows.iter().map(|row| row.6.is_some()).collect();
    (OffsetBuffer::from_lengths(lens.iter().copied()), Some(valid), lens.iter().sum())
}

fn batch(rows: &[Row]) -> RecordBatch {
    let schema = schema();
    let times = arrow::array::TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0));
    let (ends, valid, count) = lens(rows);
    let texts: Vec<String> = rows.iter().flat_map(|row| row.6.clone().unwrap_or_default()).collect();
    let tags = |ends: &OffsetBuffer<i32>, valid: &Option<NullBuffer>| {
        let DataType::Map(field, _) = map_of(DataType::Utf8) else { unreachable!() };
        let DataType::Struct(fields) = field.data_type().clone() else { unreachable!() };
        let keys: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        let entries = StructArray::new(fields, vec![Arc::clone(&keys), keys], None);
        MapArray::new(field, ends.clone(), entries, valid.clone(), false)
    };
    let list = |elements: ArrayRef| {
        let DataType::List(field) = list_of(elements.data_type().clone()) else { unreachable!() };
        Arc::new(ListArray::new(field, ends.clone(), elements, valid.clone()))
    };
    let inner = OffsetBuffer::from_lengths(std::iter::repeat_n(1, count));
    let events = StructArray::new(
        entry(),
        vec![new_null_array(&timestamp(), count), Arc::new(tags(&inner, &None))],
        None,
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.2.clone()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|row| row.3).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.4).collect::<arrow::array::Int16Array>()),
        Arc::new(rows.iter().map(|row| row.5).collect::<Float64Array>()),
        Arc::new(tags(&ends, &valid)),
        list(Arc::new((0..count as i64).collect::<Int64Array>())),
        list(Arc::new(events)),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

fn row() -> impl Strategy<Value = Row> {
    let texts = prop::option::of(prop::collection::vec("[a-zé]{0,9}", 0..4));
    let blob = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
    (
        any::<i64>(),
        any::<Option<String>>(),
        blob,
        any::<Option<bool>>(),
        any::<Option<i16>>(),
        any::<Option<f64>>(),
        texts,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::vec(row(), 1..20), from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let whole = batch(&rows);
        let (from, to) = (from.index(rows.len()), to.index(rows.len()));
        let slice = whole.slice(from.min(to), from.abs_diff(to) + 1);
        for batch in [whole, slice] {
            let bytes = bytes_of(&batch);
            prop_assert_eq!(read(&bytes, schema()).unwrap(), batch);
            for len in (0..bytes.len()).step_by(7) {
                prop_assert!(read(&bytes[..len], schema()).is_err());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        rows in 0u32..20, bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..2048),
    ) {
        let bytes = [&rows.to_le_bytes()[..], &bytes].concat();
        for table in Table::ALL {
            let _ = read(&bytes, table.schema());
        }
        let _ = read(&bytes, schema());
    }
}

#[test]
fn columns_without_a_value_take_a_bit() {
    let schema = Table::Spans.schema();
    let mostly = crate::tests::spans(0..1000);
    let absent =
        schema.fields().iter().zip(mostly.columns()).filter(|(_, column)| column.null_count() == 1000);
    assert!(absent.count() > 40);
    let values: usize =
        mostly.columns().iter().filter(|c| c.null_count() < 1000).map(|c| c.get_buffer_memory_size()).sum();
    assert!(bytes_of(&mostly).len() <= values + 1000);
}

#[test]
fn more_rows_than_there_are_bytes_for_are_refused() {
    let mut bytes = u32::MAX.to_le_bytes().to_vec();
    bytes.resize(4096, 0xff);
    assert_eq!(read(&bytes, schema()).unwrap_err(), "it has columns that its table has not");
    bytes[4..6].copy_from_slice(&[0xff, 0x01]);
    assert_eq!(read(&bytes, schema()).unwrap_err(), "it is too short for 4294967295 rows");
}
