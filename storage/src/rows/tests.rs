//! Rows fit their tables, keep every bit, and bring labels along where those are missing.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};

use super::*;
use crate::series::series_of;

const TIME: i64 = 1_795_000_000_123;
const DAY: i64 = 86_400_000;

fn series(name: &str) -> Series {
    Series::new(Labels::new([("__name__", name), ("job", "shop")]))
}

fn of(parts: &[(Table, RecordBatch)], table: Table) -> &RecordBatch {
    parts.iter().find(|(of, _)| *of == table).map(|(_, batch)| batch).expect("there are rows")
}

#[test]
fn samples_keep_their_bits_and_times() {
    let index = SeriesIndex::default();
    let mut rows = MetricRows::new(&index);
    let x = series("x");
    let values = [0.1, -0.0, f64::from_bits(STALE_BITS), f64::from_bits(0x7ff8_0000_0000_0001), f64::MIN];
    for (at, value) in values.iter().enumerate() {
        let start = (at == 1).then(|| At::from_nanos(1_794_000_000_000_000_789));
        rows.sample(&x, At::from_millis(TIME + at as i64), start, *value).unwrap();
    }
    let parts = rows.finish().unwrap();
    let samples = of(&parts, Table::Samples);
    let stored = samples.column_by_name("value").unwrap().as_primitive::<Float64Type>();
    let bits: Vec<u64> = stored.values().iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, values.map(f64::to_bits));
    let times = samples.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(4), (TIME + 4) * 1000);
    let starts = samples.column_by_name("start_time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let expected = [None, Some(1_794_000_000_000_000), None, None, None];
    assert_eq!(starts.iter().collect::<Vec<_>>(), expected);
    assert_eq!(samples.column_by_name("metric").unwrap().as_string::<i32>().value(4), "x");
}

#[test]
fn moments_before_1970_have_their_day() {
    assert_eq!([-1, 0, DAY - 1, DAY].map(|ms| At::from_millis(ms).day()), [-1, 0, 0, 1]);
}

#[test]
fn a_series_has_a_row_for_each_day_until_that_is_stored() {
    let index = SeriesIndex::default();
    let metadata = Metadata { kind: "counter".into(), unit: "seconds".into(), help: "what it is".into() };
    let x = Series::described(Labels::new([("__name__", "x")]), metadata);
    let write = |times: &[i64]| {
        let mut rows = MetricRows::new(&index);
        for time in times {
            rows.sample(&x, At::from_millis(*time), None, 1.0).unwrap();
        }
        let parts = rows.finish().unwrap();
        parts.iter().find(|(table, _)| *table == Table::Series).map(|(_, rows)| rows.clone())
    };
    let first = write(&[TIME, TIME + DAY, TIME - 5, TIME + 2 * DAY]).expect("it is new");
    let times = first.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let expected = [TIME - 5, TIME + DAY, TIME + 2 * DAY].map(|ms| ms * 1000);
    assert_eq!(times.values().to_vec(), expected, "when it was first seen that day");
    assert_eq!(first.column_by_name("help").unwrap().as_string::<i32>().value(2), "what it is");
    // Not acknowledged: whoever writes it next must say it again.
    assert_eq!(write(&[TIME]).expect("it is not stored yet").num_rows(), 1);
    index.add(series_of(&first));
    assert!(write(&[TIME, TIME + DAY, TIME + 2 * DAY, TIME]).is_none());
    assert_eq!(write(&[TIME, TIME + 3 * DAY]).expect("another day").num_rows(), 1);
    // What retention took away is written again.
    index.forget_before(i32::MAX);
    assert_eq!(write(&[TIME + 2 * DAY]).expect("it was forgotten").num_rows(), 1);
}

#[test]
fn what_the_index_refuses_has_no_row() {
    let index = SeriesIndex::with_limit(1);
    let mut rows = MetricRows::new(&index);
    rows.sample(&series("a"), At::from_millis(TIME), None, 1.0).unwrap();
    let refused = rows.sample(&series("b"), At::from_millis(TIME), None, 1.0);
    assert_eq!(refused, Err(Refused::TooManySeries));
    let taken = index.known(series("c").id(), &Labels::new([("other", "labels")]), 0);
    assert_eq!(taken, Known::TooMany);
    assert_eq!(of(&rows.finish().unwrap(), Table::Samples).num_rows(), 1);
}

#[test]
fn whole_and_float_histograms_are_in_columns_of_their_own() {
    let index = SeriesIndex::default();
    let mut rows = MetricRows::new(&index);
    let x = series("x");
    let whole = Native {
        schema: 3,
        zero_threshold: 0.001,
        sum: 18.4,
        counts: Counts::Whole {
            count: 12,
            zero: 2,
            positive: Side { offset: 0, counts: &[1, 0, 4] },
            negative: Side { offset: -3, counts: &[5] },
        },
        bounds: &[],
        hint: ResetHint::NotReset,
    };
    let custom = Native {
        schema: CUSTOM_BOUNDS,
        zero_threshold: 0.0,
        sum: 1.5,
        counts: Counts::Float {
            count: 1.25,
            zero: 0.0,
            positive: Side { offset: 1, counts: &[0.5, 0.75] },
            negative: Side::default(),
        },
        bounds: &[0.1, 1.0],
        hint: ResetHint::Gauge,
    };
    for (at, histogram) in [whole, custom, Native::stale()].iter().enumerate() {
        rows.histogram(&x, At::from_millis(TIME + at as i64), None, histogram).unwrap();
    }
    let parts = rows.finish().unwrap();
    let stored = of(&parts, Table::Histograms);
    assert_eq!(stored.num_rows(), 3);
    let long =
        |name: &str| stored.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
    let int = |name: &str| {
        stored.column_by_name(name).unwrap().as_primitive::<Int32Type>().iter().collect::<Vec<_>>()
    };
    let double = |name: &str| {
        stored.column_by_name(name).unwrap().as_primitive::<Float64Type>().iter().collect::<Vec<_>>()
    };
    let list = |name: &str, row: usize| {
        let lists = stored.column_by_name(name).unwrap().as_list::<i32>();
        lists.is_valid(row).then(|| format!("{:?}", lists.value(row).to_data().buffers()[0].as_slice().len()))
    };
    assert_eq!(long("count"), [12, 0, 0]);
    assert_eq!(long("zero_count"), [2, 0, 0]);
    assert_eq!(int("scale"), [Some(3), Some(-53), Some(0)]);
    assert_eq!(int("temporality"), [Some(2), Some(0), Some(2)]);
    assert_eq!(int("positive_offset"), [Some(-1), Some(1), Some(0)], "exponential ones by lower bound");
    assert_eq!(int("negative_offset"), [Some(-4), Some(0), Some(0)]);
    assert_eq!(int("reset_hint"), [Some(2), Some(3), None]);
    assert_eq!(double("count_float"), [None, Some(1.25), None]);
    assert_eq!(double("zero_count_float"), [None, Some(0.0), None]);
    assert_eq!(double("sum")[2].map(f64::to_bits), Some(STALE_BITS));
    assert_eq!(list("custom_bounds", 0), None);
    assert!(list("custom_bounds", 1).is_some() && list("positive_counts_float", 1).is_some());
    assert_eq!(list("positive_counts_float", 0), None);
    let counts = stored.column_by_name("positive_counts").unwrap().as_list::<i32>().value(0);
    assert_eq!(counts.as_primitive::<Int64Type>().values().to_vec(), [1, 0, 4]);
    let floats = stored.column_by_name("positive_counts_float").unwrap().as_list::<i32>().value(1);
    assert_eq!(floats.as_primitive::<Float64Type>().values().to_vec(), [0.5, 0.75]);
}

#[test]
fn ids_of_exemplars_are_ids_and_other_labels_texts() {
    let index = SeriesIndex::default();
    let mut rows = MetricRows::new(&index);
    let labels =
        [("trace_id", "0af7651916cd43dd8448eb211c80319c"), ("span_id", "b7ad6b7169203331"), ("user", "7")];
    rows.exemplar(&series("x"), At::from_millis(TIME), 0.25, labels).unwrap();
    // In a form that could not be given back: it stays as it came.
    let upper = [("trace_id", "0AF7651916CD43DD8448EB211C80319C"), ("span_id", "b7")];
    rows.exemplar(&series("x"), At::from_millis(TIME + 1), 0.5, upper).unwrap();
    let parts = rows.finish().unwrap();
    let stored = of(&parts, Table::Exemplars);
    let trace_ids = stored.column_by_name("trace_id").unwrap().as_binary::<i32>();
    assert_eq!((trace_ids.value(0)[0], trace_ids.is_null(1)), (0x0a, true));
    let span_ids = stored.column_by_name("span_id").unwrap().as_binary::<i32>();
    assert_eq!((span_ids.value(0)[0], span_ids.is_null(1)), (0xb7, true));
    let attributes = stored.column_by_name("attributes_str").unwrap().as_map();
    let keys = attributes.keys().as_string::<i32>();
    assert_eq!(keys.iter().flatten().collect::<Vec<_>>(), ["user", "trace_id", "span_id"]);
}
