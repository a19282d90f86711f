//! Filters never miss a row, seldom point at a block in vain, and survive bytes that are none.

use std::fs;
use std::path::Path;

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, Int64Builder, MapBuilder, MapFieldNames, RecordBatch, StringArray,
    StringBuilder,
};
use proptest::prelude::*;

use super::*;
use crate::files::{Target, write};
use crate::schema::STRETCH_MICROS;
use crate::tests::{NOON, batch, samples, times};

/// Whenever a row is of.
const ALWAYS: RangeInclusive<i64> = i64::MIN..=i64::MAX;

fn names() -> Option<MapFieldNames> {
    Some(MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() })
}

/// Spans of traces of three, each with a user, an order and a path of its own.
fn rows(n: u64) -> RecordBatch {
    let mut users = MapBuilder::new(names(), StringBuilder::new(), StringBuilder::new());
    let mut orders = MapBuilder::new(names(), StringBuilder::new(), Int64Builder::new());
    for n in 0..n {
        users.keys().append_value("enduser.id");
        users.values().append_value(format!("user-{n}"));
        users.append(true).unwrap();
        orders.keys().append_value("order");
        orders.values().append_value(n as i64);
        orders.append(n % 2 == 0).unwrap();
    }
    let paths: Vec<Option<String>> = (0..n).map(|n| (n % 5 != 0).then(|| format!("/orders/{n}"))).collect();
    let ids: Vec<Vec<u8>> = (0..n).map(|n| trace(n).to_vec()).collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("trace_id", Arc::new(BinaryArray::from_iter_values(ids))),
        ("start_time", times((0..n).map(|n| NOON + n as i64 * 1_000).collect())),
        ("url_path", Arc::new(StringArray::from(paths))),
        ("attributes_str", Arc::new(users.finish())),
        ("attributes_long", Arc::new(orders.finish())),
    ];
    batch(Table::Spans, n as usize, &columns)
}

fn trace(n: u64) -> [u8; 16] {
    ((n / 3 + 1) as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
}

fn file_of(dir: &Path, rows: &RecordBatch) -> DataFile {
    fs::create_dir_all(dir.join("staging")).unwrap();
    let target = Target { root: dir.join("spans"), staging: dir.join("staging"), through: 1, epoch: 1 };
    write(Table::Spans, std::slice::from_ref(rows), &target).unwrap().remove(0)
}

#[test]
fn every_value_of_a_file_is_found_in_its_block_and_few_elsewhere() {
    const N: u64 = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), &rows(N));
    let filters = BlockFilters::read(Table::Spans, &file).unwrap().expect("spans have filters");
    assert_eq!(filters.ends.len() - 1, (N as usize).div_ceil(BLOCK_ROWS));
    assert!((filters.bytes.len() as u64) < 7 * N, "{} bytes", filters.bytes.len());

    let stored = crate::tests::read(&file.path);
    let stored = arrow::compute::concat_batches(&Table::Spans.schema(), &stored).unwrap();
    let users = stored.column_by_name("attributes_str").unwrap().as_map().values().as_string::<i32>();
    let (mut asked, mut blocks) = (0, 0);
    for row in (0..N as usize).step_by(7) {
        let n: u64 = users.value(row).strip_prefix("user-").unwrap().parse().unwrap();
        let mut wanted = vec![
            Needle::value("trace_id", &trace(n)),
            Needle::text("attributes_str", "enduser.id", users.value(row)),
        ];
        if n.is_multiple_of(2) {
            wanted.push(Needle::long("attributes_long", "order", n as i64));
        }
        if !n.is_multiple_of(5) {
            wanted.push(Needle::value("url_path", format!("/orders/{n}").as_bytes()));
        }
        for needle in wanted {
            let found = filters.rows(&[vec![needle]], &ALWAYS);
            assert!(found.iter().any(|rows| rows.contains(&row)), "row {row} is not found by {needle:?}");
            asked += 1;
            blocks += found.iter().map(|rows| rows.len() / BLOCK_ROWS).sum::<usize>();
        }
    }
    assert!(blocks < asked * 13 / 10, "{asked} values were looked for in {blocks} blocks");
    let absent = |n: u64| filters.rows(&[vec![Needle::value("trace_id", &n.to_be_bytes())]], &ALWAYS).len();
    let in_vain: usize = (0..1000).map(absent).sum();
    assert!(in_vain < 8 * 1000 / 100, "{in_vain} blocks of 8,000");
}

#[test]
fn blocks_go_on_behind_a_row_group() {
    const N: u64 = (128 << 10) + 5_000;
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), &rows(N));
    assert_eq!(file.rows, N);
    let filters = BlockFilters::read(Table::Spans, &file).unwrap().unwrap();
    assert_eq!(filters.ends.len() - 1, (N as usize).div_ceil(BLOCK_ROWS));
    let mut before = 0;
    for batch in crate::tests::read(&file.path) {
        let ids = batch.column_by_name("trace_id").unwrap().as_binary::<i32>();
        for row in (0..ids.len()).step_by(501) {
            let found = filters.rows(&[vec![Needle::value("trace_id", ids.value(row))]], &ALWAYS);
            assert!(found.iter().any(|rows| rows.contains(&(before + row))), "row {}", before + row);
        }
        before += ids.len();
    }
    assert_eq!(before as u64, N);
}

#[test]
fn all_conditions_hold_and_of_each_one_value() {
    let dir = tempfile::tempdir().unwrap();
    let filters = BlockFilters::read(Table::Spans, &file_of(dir.path(), &rows(30_000))).unwrap().unwrap();
    let user = |n: u64| Needle::text("attributes_str", "enduser.id", &format!("user-{n}"));
    let count = |wanted: &[Vec<Needle>]| {
        filters.rows(wanted, &ALWAYS).iter().map(|r| r.len()).sum::<usize>() / BLOCK_ROWS
    };
    assert_eq!(count(&[]), 8, "no condition leaves no block out");
    assert!(count(&[vec![user(3)], vec![Needle::key("attributes_str", "color")]]) == 0);
    let both = count(&[vec![user(3), user(29_999)]]);
    assert!((1..=3).contains(&both), "{both}");
    assert_eq!(count(&[vec![]]), 0, "nothing is none of no values");
}

#[test]
fn blocks_of_other_times_and_ids_are_left_out() {
    const N: usize = 5 * BLOCK_ROWS;
    // A block a stretch; in each, ids that go on where those of the one before ended.
    let micros = |n: usize| NOON + (n / BLOCK_ROWS) as i64 * STRETCH_MICROS;
    let id = |n: usize| (n as u128 * (u128::MAX / N as u128)).to_be_bytes();
    let columns: [(&str, ArrayRef); 3] = [
        ("service", Arc::new(StringArray::from(vec!["shop"; N]))),
        ("start_time", times((0..N).map(micros).collect())),
        ("trace_id", Arc::new(BinaryArray::from_iter_values((0..N).map(id)))),
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), &batch(Table::Spans, N, &columns));
    let filters = BlockFilters::read(Table::Spans, &file).unwrap().unwrap();
    assert_eq!(filters.pages.len(), 5);
    let found = |wanted: &[Vec<Needle>], times| {
        filters.rows(wanted, &times).into_iter().reduce(|all, next| all.start..next.end)
    };
    let within = |first, last| found(&[], micros(first * BLOCK_ROWS)..=micros(last * BLOCK_ROWS));
    assert_eq!(within(0, 4), Some(0..N));
    assert_eq!(within(1, 2), Some(BLOCK_ROWS..3 * BLOCK_ROWS));
    assert_eq!(found(&[], i64::MIN..=NOON - 1), None);
    // All ids that may be looked for are looked for where they would be: none in vain.
    let absent = |n: usize| (u128::from_be_bytes(id(n)) + 1).to_be_bytes();
    for n in 0..N {
        let block = n / BLOCK_ROWS * BLOCK_ROWS..(n / BLOCK_ROWS + 1) * BLOCK_ROWS;
        assert_eq!(found(&[vec![Needle::value(TRACE_ID, &id(n))]], ALWAYS), Some(block.clone()), "{n}");
        let in_vain = found(&[vec![Needle::value(TRACE_ID, &absent(n))]], ALWAYS);
        assert!(in_vain.is_none_or(|rows| rows == block), "{n}");
    }
}

#[test]
fn files_without_filters_say_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("staging")).unwrap();
    let target = Target {
        root: dir.path().join("samples"),
        staging: dir.path().join("staging"),
        through: 1,
        epoch: 1,
    };
    let file = write(Table::Samples, &[samples(0..10)], &target).unwrap().remove(0);
    assert!(BlockFilters::read(Table::Spans, &file).unwrap().is_none());
}

proptest! {
    #[test]
    fn bytes_that_are_no_filters_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), blocks in 0u32..6) {
        let mut likely = blocks.to_le_bytes().to_vec();
        likely.extend((0..blocks).flat_map(|_| 32u32.to_le_bytes()));
        likely.extend(&bytes);
        for bytes in [bytes, likely] {
            if let Some(filters) = BlockFilters::from_bytes(bytes) {
                filters.rows(&[vec![Needle::value("url_path", b"7")]], &ALWAYS);
            }
        }
    }
}

#[test]
fn an_empty_id_is_found_as_well() {
    let ids: ArrayRef = Arc::new(BinaryArray::from_iter_values([&b""[..], b"", b"id"]));
    let mut builder = Builder::of(Table::Spans).unwrap();
    builder.add("trace_id", &ids, 0);
    builder.end_blocks(3);
    let filters = BlockFilters::from_bytes(builder.finish().flatten().collect()).unwrap();
    for id in [&b""[..], b"id"] {
        assert!(!filters.rows(&[vec![Needle::value("trace_id", id)]], &ALWAYS).is_empty(), "{id:?}");
    }
}

#[test]
fn classes_of_durations_rise_by_quarters_of_a_doubling() {
    for (duration, class) in
        [(i64::MIN, 0), (0, 0), (1, 0), (2, 4), (3, 4), (4, 8), (5, 9), (6, 10), (7, 11), (8, 12)]
    {
        assert_eq!(duration_class(duration), class, "{duration}");
    }
    for power in 4..40 {
        for quarter in 0..4 {
            let (begin, class) = ((4 + quarter) << (power - 2), (4 * power + quarter) as u8);
            assert_eq!([begin - 1, begin].map(duration_class), [class - 1, class], "{begin}");
        }
    }
    assert_eq!([1 << 40, i64::MAX].map(duration_class), [160, 160]);
}

#[test]
fn slow_spans_of_a_service_are_found() {
    const N: usize = 3 * BLOCK_ROWS;
    // One slow span of each service, in blocks of their own, and slow ones of nobody's.
    let services = StringArray::from_iter_values((0..N).map(|n| if n % 2 == 0 { "shop" } else { "cart" }));
    let duration = |n: usize| match n {
        10 => 400_000_000,
        4_111 => 2_000_000_000,
        n => 1_100_000 + n as i64,
    };
    let durations = Int64Array::from_iter_values((0..N).map(duration));
    let columns: [(&str, ArrayRef); 3] = [
        ("service", Arc::new(services)),
        ("start_time", times((0..N).map(|n| NOON + n as i64).collect())),
        ("duration_ns", Arc::new(durations)),
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), &batch(Table::Spans, N, &columns));
    let filters = BlockFilters::read(Table::Spans, &file).unwrap().unwrap();
    let found = |service, duration| {
        let rows = filters.rows(&[vec![Needle::slow(service, duration).unwrap()]], &ALWAYS);
        rows.into_iter().reduce(|all, next| all.start..next.end)
    };
    assert_eq!(found("shop", 400_000_000), Some(0..BLOCK_ROWS));
    assert_eq!(found("cart", 400_000_000), Some(BLOCK_ROWS..2 * BLOCK_ROWS));
    assert_eq!(found("cart", 3_000_000_000), None);
    assert_eq!(found("shop", 1_050_000), Some(0..N));
    assert_eq!(found("nobody", 1_050_000), None);
    assert_eq!(Needle::slow("shop", 1_000_000), None, "not worth a look");
}
