//! Parquet files: what is written is what comes back, in the order and within the bounds that are declared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    AsArray, BinaryArray, BinaryBuilder, Float64Array, Int16Array, Int64Array, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, UInt32Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

use super::writer::sorting_columns;
use super::{FileName, Kind, Target, date_of, date_text, remove_leftovers, write};
use crate::schema::SortBy;
use crate::tests::{batch, read, samples, spans, times};
use crate::{Bound, DataFile, FlushError, Table, order};

const DAY: i64 = 86_400_000_000;

fn target(dir: &Path) -> Target {
    fs::create_dir_all(dir.join("staging")).unwrap();
    Target { root: dir.join("table"), staging: dir.join("staging"), through: 9, epoch: 2 }
}

/// The files of some rows, and the rows in them.
fn written(table: Table, batches: &[RecordBatch]) -> Vec<(DataFile, RecordBatch)> {
    let dir = tempfile::tempdir().unwrap();
    let files = write(table, batches, &target(dir.path())).unwrap();
    let staged = fs::read_dir(dir.path().join("staging")).unwrap().count();
    assert_eq!(staged, 0, "nothing unfinished stays");
    let rows = |file: DataFile| {
        assert_eq!(file.size, fs::metadata(&file.path).unwrap().len());
        let rows = concat_batches(&table.schema(), &read(&file.path)).unwrap();
        assert_eq!(file.rows, rows.num_rows() as u64);
        (file, rows)
    };
    files.into_iter().map(rows).collect()
}

fn at(micros: &[i64]) -> RecordBatch {
    let values = Float64Array::from_iter_values((0..micros.len()).map(|n| n as f64));
    batch(Table::Samples, micros.len(), &[("time", times(micros.to_vec())), ("value", Arc::new(values))])
}

#[test]
fn rows_over_midnight_are_split_by_utc_day() {
    let files = written(Table::Samples, &[at(&[DAY, DAY - 1, -1]), at(&[0, -DAY - 1, 2 * DAY - 1, -DAY])]);
    let days: BTreeMap<i32, Vec<i64>> = files
        .iter()
        .map(|(file, rows)| {
            let times = rows.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
            (file.date, times.values().to_vec())
        })
        .collect();
    let expected =
        [(-2, vec![-DAY - 1]), (-1, vec![-DAY, -1]), (0, vec![0, DAY - 1]), (1, vec![DAY, 2 * DAY - 1])];
    assert_eq!(days, BTreeMap::from(expected));
    for (file, _) in &files {
        let folder = file.path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert_eq!(folder, format!("date={}", date_text(file.date)));
        let (low, high) = (i64::from(file.date) * DAY, (i64::from(file.date) + 1) * DAY - 1);
        let (min, max) = &file.bounds["time"];
        assert!(*min >= Bound::Micros(low) && *max <= Bound::Micros(high), "{min:?} {max:?}");
    }
    assert_eq!(["1969-12-30", "1970-01-02"].map(date_of), [Some(-2), Some(1)]);
}

#[test]
fn dates_round_trip_over_all_years_a_partition_can_have() {
    for day in (-719_162..2_932_897).step_by(61) {
        assert_eq!(date_of(&date_text(day)), Some(day));
    }
    assert_eq!(
        (date_text(-719_162), date_text(2_932_896)),
        ("0001-01-01".to_owned(), "9999-12-31".to_owned())
    );
    assert_eq!((date_of("yesterday"), date_of("2026-13-01")), (None, None));
}

/// What Parquet can say of the order of a table.
fn declarable(table: Table) -> Vec<&'static str> {
    let by_value = table.sort_order().iter().take_while(|by| matches!(by, SortBy::Value(_)));
    by_value.map(|by| by.column()).collect()
}

/// Rows as bytes that compare as the table's sort order does.
fn keys(table: Table, rows: &RecordBatch) -> Vec<Vec<u8>> {
    let columns = order::key_columns(table, rows).unwrap();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converted = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
    converted.iter().map(|row| row.as_ref().to_vec()).collect()
}

#[test]
fn files_are_in_the_order_they_declare() {
    for (table, rows) in [(Table::Spans, spans(0..500)), (Table::Samples, samples(0..500))] {
        let dir = tempfile::tempdir().unwrap();
        let reversed = UInt32Array::from_iter_values((0..500).rev());
        let rows = take_record_batch(&rows, &reversed).unwrap();
        let halves = [rows.slice(250, 250), rows.slice(0, 250)];
        for file in write(table, &halves, &target(dir.path())).unwrap() {
            let keys = keys(table, &concat_batches(&table.schema(), &read(&file.path)).unwrap());
            assert!(keys.is_sorted(), "{} is out of order", table.name());
            let reader = SerializedFileReader::new(fs::File::open(&file.path).unwrap()).unwrap();
            for group in reader.metadata().row_groups() {
                let declared = group.sorting_columns().map_or(&[][..], Vec::as_slice);
                let names: Vec<_> = declared
                    .iter()
                    .map(|c| group.column(c.column_idx as usize).column_path().string())
                    .collect();
                assert_eq!(names, declarable(table));
                assert!(declared.iter().all(|column| !column.descending));
            }
        }
    }
}

#[test]
fn sort_columns_are_found_among_nested_ones_in_every_table() {
    for table in Table::ALL {
        let dir = tempfile::tempdir().unwrap();
        let files = write(table, &[batch(table, 2, &[])], &target(dir.path())).unwrap();
        let reader = SerializedFileReader::new(fs::File::open(&files[0].path).unwrap()).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr();
        let sorted = sorting_columns(table, &table.schema());
        let names: Vec<_> =
            sorted.iter().map(|c| schema.column(c.column_idx as usize).path().string()).collect();
        assert_eq!(names, declarable(table), "{}", table.name());
    }
}

#[test]
fn rows_that_compare_equal_stay_in_the_order_they_came() {
    // The last sample of a series and moment wins: it must stay the last.
    let same = |values: &[f64]| {
        batch(Table::Samples, values.len(), &[("value", Arc::new(Float64Array::from(values.to_vec())))])
    };
    let files = written(Table::Samples, &[same(&[1.0, 2.0]), same(&[3.0]), same(&[4.0, 5.0])]);
    let values = files[0].1.column_by_name("value").unwrap().as_primitive::<arrow::datatypes::Float64Type>();
    assert_eq!(values.values(), &[1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn nanoseconds_nan_bits_maps_and_binary_come_back() {
    let bits = [f64::NAN.to_bits(), 0x7ff0_0000_0000_0002, (-0.0f64).to_bits()]; // the second marks staleness
    let rows = batch(
        Table::Samples,
        3,
        &[
            ("time_nanos", Arc::new(Int16Array::from(vec![0, 1, 999]))),
            ("series_id", Arc::new(Int64Array::from(vec![i64::MIN, -1, i64::MAX]))),
            ("value", Arc::new(Float64Array::from(bits.map(f64::from_bits).to_vec()))),
        ],
    );
    let files = written(Table::Samples, std::slice::from_ref(&rows));
    let back = &files[0].1;
    for name in ["time", "time_nanos", "series_id"] {
        assert_eq!(back.column_by_name(name), rows.column_by_name(name), "{name}");
    }
    let values = back.column_by_name("value").unwrap().as_primitive::<arrow::datatypes::Float64Type>();
    assert_eq!(values.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);

    let names =
        || Some(MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() });
    let mut texts = MapBuilder::new(names(), StringBuilder::new(), StringBuilder::new());
    let mut others = MapBuilder::new(names(), StringBuilder::new(), BinaryBuilder::new());
    for n in 0..4 {
        for key in 0..n {
            texts.keys().append_value(format!("k{key}"));
            texts.values().append_option((key != 1).then(|| format!("v{n}ü")));
            others.keys().append_value(format!("o{key}"));
            others.values().append_value([0, 0xff, n as u8]);
        }
        texts.append(n != 2).unwrap();
        others.append(true).unwrap();
    }
    let ids: Vec<Vec<u8>> = (0..4u8).map(|n| vec![0xf0 + n; 16]).collect();
    let rows = batch(
        Table::Spans,
        4,
        &[
            ("trace_id", Arc::new(BinaryArray::from_iter_values(&ids))),
            ("service", Arc::new(StringArray::from(vec!["a", "b", "c", "d"]))),
            ("attributes_str", Arc::new(texts.finish())),
            ("resource_other", Arc::new(others.finish())),
        ],
    );
    let files = written(Table::Spans, std::slice::from_ref(&rows));
    assert_eq!(files[0].1.columns(), rows.columns());
}

#[test]
fn bounds_cover_a_file_of_many_chunks() {
    let rows = samples(0..20_000);
    let files = written(Table::Samples, &[rows]);
    assert_eq!(files.len(), 1);
    let (file, back) = &files[0];
    let ids = back.column_by_name("series_id").unwrap().as_primitive::<Int64Type>();
    assert_eq!(file.bounds["series_id"], (Bound::Long(0), Bound::Long(6)));
    assert!(ids.values().iter().all(|id| (0..=6).contains(id)));
    assert_eq!(file.bounds["metric"], (Bound::Text("metric_0".into()), Bound::Text("metric_2".into())));
    let newest = crate::tests::NOON;
    assert_eq!(file.bounds["time"], (Bound::Micros(newest - 19_999_000), Bound::Micros(newest)));
}

#[test]
fn bloom_filters_tell_where_a_trace_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(Table::Spans, &[spans(0..300)], &target(dir.path())).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&files[0].path).unwrap()).unwrap();
    let column =
        builder.parquet_schema().columns().iter().position(|c| c.path().string() == "trace_id").unwrap();
    let filter = builder.get_row_group_column_bloom_filter(0, column).unwrap().unwrap();
    let id = |n: u64| (n + 1).to_be_bytes().repeat(2);
    assert!((0..300).all(|n| filter.check(id(n).as_slice())));
    let wrong = (1_000..2_000).filter(|n| filter.check(id(*n).as_slice())).count();
    assert!(wrong < 100, "{wrong} of 1000 absent ids seem to be there");
}

#[test]
fn a_flush_that_fails_half_way_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let target = target(dir.path());
    fs::create_dir_all(&target.root).unwrap();
    fs::write(target.root.join("date=1970-01-02"), "no folder").unwrap();
    let failed = write(Table::Samples, &[at(&[0, DAY])], &target).unwrap_err();
    assert!(matches!(failed, FlushError::File { table: Table::Samples, .. }), "{failed}");
    assert_eq!(fs::read_dir(target.root.join("date=1970-01-01")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&target.staging).unwrap().count(), 0);
}

#[test]
fn leftovers_are_told_from_committed_and_foreign_files() {
    let dir = tempfile::tempdir().unwrap();
    let day = dir.path().join("date=2026-11-18");
    let log = dir.path().join("_delta_log");
    for folder in [&day, &log] {
        fs::create_dir_all(folder).unwrap();
    }
    let keep = [
        day.join(FileName::flushed(7, 1)),
        day.join(FileName::flushed(3, 9)),
        day.join("part-1.parquet"),
        log.join(FileName::flushed(9, 1)),
    ];
    let remove = [day.join(FileName::flushed(8, 1)), day.join(FileName::flushed(u64::MAX, 3))];
    for path in keep.iter().chain(&remove) {
        fs::write(path, "x").unwrap();
    }
    remove_leftovers(dir.path(), 7).unwrap();
    assert!(keep.iter().all(|path| path.exists()) && !remove.iter().any(|path| path.exists()));
}

#[test]
fn a_name_says_writes_run_and_checksum() {
    let dir = Path::new("/t/date=2026-11-18");
    for name in [
        FileName { writes: (42, 42), kind: Kind::Flushed, epoch: 7, checksum: 0xab_cdef },
        FileName { writes: (3, u64::MAX), kind: Kind::Merged, epoch: 12, checksum: u32::MAX },
        FileName { writes: (0, 9), kind: Kind::Sampled, epoch: 12, checksum: 0 },
    ] {
        assert_eq!(FileName::of(&dir.join(name.to_string())), Some(name));
    }
    assert_eq!(FileName::flushed(42, 7), "wal-00000000000000000042-7-00000abc.parquet");
    let merged = "compacted-00000000000000000001-00000000000000000002-7-00000abc.parquet";
    assert_eq!(FileName::merged(1, 2, 7), merged);
    for name in [
        "wal-x-1-0.parquet",
        "wal-1.parquet",
        "wal-1-2.parquet",
        "wal-1-2-x.parquet",
        "wal-1-2-3-4.parquet",
        "wal-1-2-3.parquet.tmp",
        "1-2-3.parquet",
        "compacted-1-2-3.parquet",
    ] {
        assert_eq!(FileName::of(&dir.join(name)), None, "{name}");
    }
}

#[test]
fn the_checksum_in_the_name_is_that_of_the_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for file in write(Table::Samples, &[at(&[0, 5, DAY])], &target(dir.path())).unwrap() {
        let name = FileName::of(&file.path).unwrap();
        assert_eq!(name.checksum, crc32c::crc32c(&fs::read(&file.path).unwrap()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_row_is_lost_doubled_or_out_of_place(
        rows in prop::collection::vec((0..4u8, -3..3i64, -2 * DAY..2 * DAY), 1..60), cut in any::<prop::sample::Index>(),
    ) {
        let count = rows.len();
        let whole = batch(Table::Samples, count, &[
            ("metric", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| format!("m{}", row.0))))),
            ("series_id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)))),
            ("time", times(rows.iter().map(|row| row.2).collect())),
            ("value", Arc::new(Float64Array::from_iter_values((0..count).map(|n| n as f64)))),
        ]);
        let cut = cut.index(count + 1);
        let files = written(Table::Samples, &[whole.slice(0, cut), whole.slice(cut, count - cut)]);
        let mut seen = Vec::new();
        for (file, back) in &files {
            prop_assert!(keys(Table::Samples, back).is_sorted());
            let times = back.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
            prop_assert!(times.values().iter().all(|time| time.div_euclid(DAY) == i64::from(file.date)));
            seen.extend(crate::tests::values(std::slice::from_ref(back)));
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..count as u64).collect::<Vec<_>>());
    }
}
