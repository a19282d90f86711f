//! Requests of both versions, right and wrong, and what becomes of them.

pub(crate) mod messages;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use messages::*;
use proptest::prelude::*;
use prost::Message;
use weir_storage::rows::STALE_BITS;
use weir_storage::{SeriesIndex, Table};

use super::*;
use crate::decode::Reason;
use crate::decode::tests::NOW;

const TIME: i64 = (NOW.0 / 1_000_000) as i64;
const X: [(&str, &str); 3] = [("__name__", "x"), ("instance", "a"), ("job", "shop")];

type Parts = Vec<(Table, RecordBatch)>;

fn taken_by(state: &RemoteWrite, index: &SeriesIndex, version: Version, bytes: &[u8]) -> (Taken, Parts) {
    let mut rows = MetricRows::new(index);
    let taken = take(version, bytes, NOW, state, &mut rows).expect("it is well-formed");
    if taken.described {
        state.described.describe(index, NOW, &mut rows);
    }
    (taken, rows.finish().expect("rows fit their tables"))
}

fn take_one(version: Version, bytes: &[u8]) -> (Taken, Parts) {
    taken_by(&RemoteWrite::default(), &SeriesIndex::default(), version, bytes)
}

fn of(parts: &Parts, table: Table) -> &RecordBatch {
    parts.iter().find(|(of, _)| *of == table).map(|(_, rows)| rows).unwrap_or_else(|| panic!("no {table:?}"))
}

fn text(rows: &RecordBatch, column: &str, row: usize) -> String {
    rows.column_by_name(column).expect("a column").as_string::<i32>().value(row).to_owned()
}

/// Label set, time, start and the bits of the value of each sample.
fn samples(parts: &Parts) -> Vec<(String, i64, Option<i64>, u64)> {
    let (series, rows) = (of(parts, Table::Series), of(parts, Table::Samples));
    let ids = |rows: &RecordBatch| {
        rows.column_by_name("series_id").unwrap().as_primitive::<Int64Type>().values().to_vec()
    };
    let labels = series.column_by_name("labels").unwrap().as_map();
    let of_id = |id: i64| {
        let row = ids(series).iter().position(|of| *of == id).expect("each sample has its series");
        let entries = labels.value(row);
        let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        let pairs: Vec<String> =
            (0..entries.len()).map(|at| format!("{}={}", names.value(at), values.value(at))).collect();
        pairs.join(",")
    };
    let times = rows.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let starts = rows.column_by_name("start_time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let values = rows.column_by_name("value").unwrap().as_primitive::<Float64Type>();
    let sample = |(row, id): (usize, i64)| {
        let start = starts.is_valid(row).then(|| starts.value(row) / 1000);
        (of_id(id), times.value(row).div_euclid(1000), start, values.value(row).to_bits())
    };
    ids(rows).into_iter().enumerate().map(sample).collect()
}

fn sample(value: f64, timestamp: i64) -> Sample {
    Sample { value, timestamp, start_timestamp: 0 }
}

fn first(labels: Vec<Label>, samples: Vec<Sample>) -> WriteRequest {
    let timeseries = vec![TimeSeries { labels, samples, ..TimeSeries::default() }];
    WriteRequest { timeseries, metadata: vec![] }
}

fn histogram() -> Histogram {
    Histogram {
        count_int: Some(14),
        sum: 18.5,
        schema: 3,
        zero_threshold: 0.001,
        zero_count_int: Some(2),
        negative_spans: vec![Span { offset: -2, length: 1 }],
        negative_deltas: vec![3],
        positive_spans: vec![Span { offset: 1, length: 2 }, Span { offset: 2, length: 1 }],
        positive_deltas: vec![1, 1, 4],
        timestamp: TIME,
        ..Histogram::default()
    }
}

/// What becomes of one histogram in a request of either version.
fn take_histogram(histogram: &Histogram) -> Result<Parts, String> {
    let series =
        TimeSeries { labels: labels(&X), histograms: vec![histogram.clone()], ..TimeSeries::default() };
    let request = WriteRequest { timeseries: vec![series], metadata: vec![] };
    let (taken, parts) = take_one(Version::First, &request.encode_to_vec());
    let mut second = Request::default();
    let labels_refs = second.refs(&X);
    second.timeseries =
        vec![Referring { labels_refs, histograms: vec![histogram.clone()], ..Referring::default() }];
    let (also, same) = take_one(Version::Second, &second.encode_to_vec());
    assert_eq!((taken.histograms, &taken.rejected), (also.histograms, &also.rejected));
    if taken.histograms == 0 {
        return Err(taken.rejected.message());
    }
    assert!(of(&parts, Table::Histograms) == of(&same, Table::Histograms));
    Ok(parts)
}

#[test]
fn samples_of_the_first_version_become_rows() {
    let values = [1.5, f64::from_bits(STALE_BITS), f64::NAN, f64::MIN, f64::INFINITY];
    let all = values.iter().zip(0..).map(|(value, at)| sample(*value, TIME - at * 15_000)).collect();
    let (taken, parts) = take_one(Version::First, &first(labels(&X), all).encode_to_vec());
    assert_eq!((taken.samples, taken.rejected.total()), (5, 0));
    let expected: Vec<_> = (values.iter().zip(0..))
        .map(|(value, at)| {
            ("__name__=x,instance=a,job=shop".to_owned(), TIME - at * 15_000, None, value.to_bits())
        })
        .collect();
    assert_eq!(samples(&parts), expected, "whichever order they come in");
}

#[test]
fn the_second_version_says_starts_and_metadata_with_the_series() {
    let mut request = Request::default();
    let labels_refs = request.refs(&X);
    let metadata =
        Metadata { kind: 1, help_ref: request.symbol("what it is"), unit_ref: request.symbol("s") };
    let sample = Sample { value: 7.0, timestamp: TIME, start_timestamp: TIME - 60_000 };
    let exemplar = ReferringExemplar {
        labels_refs: request.refs(&[("trace_id", "0af7651916cd43dd8448eb211c80319c")]),
        value: 0.5,
        timestamp: 0,
    };
    request.timeseries = vec![Referring {
        labels_refs,
        samples: vec![sample],
        exemplars: vec![exemplar],
        metadata: Some(metadata),
        ..Referring::default()
    }];
    let (taken, parts) = take_one(Version::Second, &request.encode_to_vec());
    assert_eq!((taken.samples, taken.exemplars, taken.rejected.total()), (1, 1, 0));
    assert_eq!(samples(&parts)[0].2, Some(TIME - 60_000));
    let series = of(&parts, Table::Series);
    let said = ["type", "unit", "help"].map(|column| text(series, column, 0));
    assert_eq!(said, ["counter", "s", "what it is"]);
    let exemplars = of(&parts, Table::Exemplars);
    let time = exemplars.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(time, TIME * 1000, "that of the sample");
    assert_eq!(exemplars.column_by_name("trace_id").unwrap().as_binary::<i32>().value(0)[0], 0x0a);
}

#[test]
fn a_series_is_known_by_its_bytes_and_new_metadata_is_stored_again() {
    let (state, index) = (RemoteWrite::default(), SeriesIndex::default());
    let request = first(labels(&X), vec![sample(1.0, TIME)]).encode_to_vec();
    let (_, parts) = taken_by(&state, &index, Version::First, &request);
    let stored = SeriesIndex::of_rows([of(&parts, Table::Series)]);
    for _ in 0..2 {
        let (taken, parts) = taken_by(&state, &stored, Version::First, &request);
        assert_eq!(taken.samples, 1);
        assert_eq!(parts.len(), 1, "no row of `series` is written again");
    }
    let about = |help: &str| {
        let metric = MetricMetadata {
            kind: 2,
            metric_family_name: "x".into(),
            help: help.into(),
            unit: String::new(),
        };
        WriteRequest { timeseries: vec![], metadata: vec![metric] }.encode_to_vec()
    };
    for (help, rows) in [("one", 1), ("one", 0), ("two", 1)] {
        let (taken, parts) = taken_by(&state, &stored, Version::First, &about(help));
        assert!(taken.described);
        assert_eq!(parts.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(), rows, "{help}");
        if let Some((_, series)) = parts.first() {
            assert_eq!((text(series, "type", 0).as_str(), text(series, "help", 0).as_str()), ("gauge", help));
        }
    }
    // A series that is new has what was said of its family.
    let bucket = [("__name__", "x_bucket"), ("le", "+Inf")];
    let request = first(labels(&bucket), vec![sample(1.0, TIME)]).encode_to_vec();
    let (_, parts) = taken_by(&state, &stored, Version::First, &request);
    assert_eq!(text(of(&parts, Table::Series), "help", 0), "two");
}

#[test]
fn labels_that_are_none_reject_their_samples_alone() {
    let good = first(labels(&X), vec![sample(1.0, TIME)]).timeseries;
    let many: Vec<(String, String)> =
        (0..limits::SERIES_LABELS + 1).map(|n| (format!("l{n:03}"), "v".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (pairs, reason) in [
        (&[][..], Reason::LabelNames),
        (&[("job", "shop")], Reason::LabelNames),
        (&[("__name__", "")], Reason::LabelNames),
        (&[("", "v"), ("__name__", "x")], Reason::LabelNames),
        (&[("__name__", "x"), ("a", "1"), ("a", "2")], Reason::LabelNames),
        (&many, Reason::Labels),
    ] {
        let bad = first(labels(pairs), vec![sample(1.0, TIME), sample(2.0, TIME + 1)]).timeseries;
        let request = WriteRequest { timeseries: [bad, good.clone()].concat(), metadata: vec![] };
        let (taken, parts) = take_one(Version::First, &request.encode_to_vec());
        assert_eq!(taken.rejected.iter().collect::<Vec<_>>(), [(reason, 2)], "{pairs:?}");
        assert_eq!((taken.samples, samples(&parts).len()), (1, 1));
        let mut request = Request::default();
        request.symbol("");
        let labels_refs = request.refs(pairs);
        let samples = vec![sample(1.0, TIME)];
        request.timeseries = vec![Referring { labels_refs, samples, ..Referring::default() }];
        let (taken, _) = take_one(Version::Second, &request.encode_to_vec());
        assert_eq!(taken.rejected.iter().collect::<Vec<_>>(), [(reason, 1)], "{pairs:?}");
    }
    // As Prometheus takes them: in any order, and without those that are empty.
    let (taken, parts) = take_one(
        Version::First,
        &first(labels(&[("z", "1"), ("empty", ""), ("__name__", "größe.x")]), vec![sample(1.0, TIME)])
            .encode_to_vec(),
    );
    assert_eq!((taken.samples, samples(&parts)[0].0.as_str()), (1, "__name__=größe.x,z=1"));
    // `ff` is no UTF-8.
    let bytes = first(labels(&[("__name__", "x"), ("a", "\u{7f}")]), vec![sample(1.0, TIME)]).encode_to_vec();
    let bytes: Vec<u8> = bytes.into_iter().map(|byte| if byte == 0x7f { 0xff } else { byte }).collect();
    let (taken, _) = take_one(Version::First, &bytes);
    assert_eq!(taken.rejected.iter().collect::<Vec<_>>(), [(Reason::InvalidUtf8, 1)]);
}

#[test]
fn labels_behind_samples_count_and_are_not_mistaken_for_others() {
    let (state, index) = (RemoteWrite::default(), SeriesIndex::default());
    let known = first(labels(&X), vec![sample(1.0, TIME)]);
    taken_by(&state, &index, Version::First, &known.encode_to_vec());
    // The same bytes, and behind the sample another label.
    let mut series = known.timeseries[0].encode_to_vec();
    series.extend(TimeSeries { labels: labels(&[("zone", "b")]), ..TimeSeries::default() }.encode_to_vec());
    let mut request = vec![0x0a, series.len() as u8];
    request.extend(series);
    for _ in 0..2 {
        let (_, parts) = taken_by(&state, &index, Version::First, &request);
        assert_eq!(samples(&parts)[0].0, "__name__=x,instance=a,job=shop,zone=b");
    }
}

#[test]
fn times_that_are_none_are_rejected_alone() {
    let ahead = TIME + limits::FUTURE_SKEW.as_millis() as i64;
    let times = [ahead, ahead + 1, 0, -5_000, -62_135_596_800_000, -62_135_596_800_001, i64::MIN, i64::MAX];
    let all = times.iter().map(|time| sample(1.0, *time)).collect();
    let (taken, parts) = take_one(Version::First, &first(labels(&X), all).encode_to_vec());
    assert_eq!(taken.rejected.iter().collect::<Vec<_>>(), [(Reason::Future, 2), (Reason::Past, 2)]);
    let stored: Vec<i64> = samples(&parts).into_iter().map(|(_, time, ..)| time).collect();
    assert_eq!(stored, [ahead, 0, -5_000, -62_135_596_800_000]);
}

#[test]
fn histograms_lose_nothing() {
    let parts = take_histogram(&histogram()).unwrap();
    let rows = of(&parts, Table::Histograms);
    let list = |name: &str| {
        let list = rows.column_by_name(name).unwrap().as_list::<i32>().value(0);
        list.as_primitive::<Int64Type>().values().to_vec()
    };
    let int = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Int32Type>().value(0);
    assert_eq!(list("positive_counts"), [1, 2, 0, 0, 6]);
    assert_eq!(list("negative_counts"), [3]);
    assert_eq!((int("positive_offset"), int("negative_offset"), int("scale")), (0, -3, 3));
    let float = Histogram {
        count_int: None,
        count_float: Some(3.5),
        zero_count_int: None,
        zero_count_float: Some(0.5),
        negative_spans: vec![],
        negative_deltas: vec![],
        positive_deltas: vec![],
        positive_counts: vec![0.5, 1.0, 1.5],
        reset_hint: 3,
        start_timestamp: TIME - 1,
        ..histogram()
    };
    let parts = take_histogram(&float).unwrap();
    let rows = of(&parts, Table::Histograms);
    let list = rows.column_by_name("positive_counts_float").unwrap().as_list::<i32>().value(0);
    assert_eq!(list.as_primitive::<Float64Type>().values().to_vec(), [0.5, 1.0, 0.0, 0.0, 1.5]);
    let hints = rows.column_by_name("reset_hint").unwrap().as_primitive::<Int32Type>();
    assert_eq!(hints.value(0), 3);
    let custom = Histogram {
        count_int: Some(3),
        schema: -53,
        zero_threshold: 0.0,
        zero_count_int: None,
        negative_spans: vec![],
        negative_deltas: vec![],
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_deltas: vec![1, 1],
        custom_values: vec![0.1, 1.0],
        ..histogram()
    };
    let parts = take_histogram(&custom).unwrap();
    let rows = of(&parts, Table::Histograms);
    let offsets = rows.column_by_name("positive_offset").unwrap().as_primitive::<Int32Type>();
    assert_eq!(offsets.value(0), 1);
    let stale = Histogram { sum: f64::from_bits(STALE_BITS), timestamp: TIME, ..Histogram::default() };
    let parts = take_histogram(&stale).unwrap();
    let sums = of(&parts, Table::Histograms).column_by_name("sum").unwrap().as_primitive::<Float64Type>();
    assert_eq!(sums.value(0).to_bits(), STALE_BITS);
}

#[test]
fn histograms_that_are_none_are_rejected_and_never_large() {
    let good = histogram();
    let span = |offset, length| vec![Span { offset, length }];
    for (name, bad) in [
        ("count", Histogram { count_int: Some(13), ..good.clone() }),
        ("negative bucket", Histogram { positive_deltas: vec![1, -2, 9], ..good.clone() }),
        ("too few deltas", Histogram { positive_deltas: vec![1, 1], ..good.clone() }),
        ("too many deltas", Histogram { positive_deltas: vec![1, 1, 4, 0], ..good.clone() }),
        ("overflow", Histogram { positive_deltas: vec![i64::MAX, 1, 0], ..good.clone() }),
        ("gap back", Histogram { positive_spans: [span(1, 2), span(-1, 1)].concat(), ..good.clone() }),
        ("far apart", Histogram { positive_spans: [span(1, 2), span(i32::MAX, 1)].concat(), ..good.clone() }),
        ("last index", Histogram { positive_spans: span(i32::MAX, 3), ..good.clone() }),
        ("schema", Histogram { schema: -5, ..good.clone() }),
        ("schema", Histogram { schema: 53, ..good.clone() }),
        ("bounds", Histogram { custom_values: vec![1.0], ..good.clone() }),
        ("both", Histogram { positive_counts: vec![1.0], ..good.clone() }),
        ("threshold", Histogram { zero_threshold: f64::NAN, ..good.clone() }),
        ("custom and negative", Histogram { schema: -53, custom_values: vec![1.0], ..good.clone() }),
        ("long span", Histogram { positive_spans: span(0, u32::MAX), ..good.clone() }),
        ("NaN count", Histogram { count_int: None, count_float: Some(f64::NAN), ..good.clone() }),
    ] {
        let refused = take_histogram(&bad);
        assert!(refused.is_err(), "{name}");
    }
    // What is no number is in no bucket.
    assert!(take_histogram(&Histogram { count_int: Some(15), sum: f64::NAN, ..good }).is_ok());
}

#[test]
fn symbols_that_there_are_not_make_the_request_malformed() {
    let request = |symbols: &[&str], labels_refs: Vec<u32>| {
        let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
        let samples = vec![sample(1.0, TIME)];
        let series = Referring { labels_refs, samples, ..Referring::default() };
        Request { symbols, timeseries: vec![series] }.encode_to_vec()
    };
    let index = SeriesIndex::default();
    let take = |bytes: &[u8]| {
        take(Version::Second, bytes, NOW, &RemoteWrite::default(), &mut MetricRows::new(&index))
    };
    assert!(take(&request(&["", "__name__", "x"], vec![1, 3])).is_err());
    assert!(take(&request(&["__name__", "x"], vec![0, 1])).is_err(), "the first is not empty");
    let odd = take(&request(&["", "__name__", "x"], vec![1, 2, 1])).unwrap();
    assert_eq!(odd.rejected.iter().collect::<Vec<_>>(), [(Reason::LabelNames, 1)]);
    // One version read as the other holds nothing, and is no fault: hence the content type.
    let as_first = take_one(Version::First, &request(&["", "__name__", "x"], vec![1, 2]));
    assert_eq!((as_first.0.samples, as_first.1.len()), (0, 0));
}

proptest! {
    #[test]
    fn both_versions_give_the_same_rows(
        sets in prop::collection::vec(
            (
                prop::collection::btree_map("[a-z_]{1,6}", "[a-zA-Z0-9ü]{1,12}", 0..6),
                prop::collection::vec((any::<u64>(), -1_000_000_000_000_i64..TIME), 0..6),
            ),
            0..8,
        )
    ) {
        let mut one = WriteRequest::default();
        let mut two = Request::default();
        for (set, samples) in &sets {
            let mut pairs: Vec<(&str, &str)> = vec![("__name__", "x")];
            pairs.extend(set.iter().filter(|(n, _)| *n != "__name__").map(|(n, v)| (n.as_str(), v.as_str())));
            pairs.sort_unstable();
            let samples: Vec<Sample> =
                samples.iter().map(|(bits, time)| sample(f64::from_bits(*bits), *time)).collect();
            one.timeseries.push(TimeSeries {
                labels: labels(&pairs),
                samples: samples.clone(),
                ..TimeSeries::default()
            });
            let labels_refs = two.refs(&pairs);
            two.timeseries.push(Referring { labels_refs, samples, ..Referring::default() });
        }
        let count: usize = sets.iter().map(|(_, samples)| samples.len()).sum();
        let (first, rows) = take_one(Version::First, &one.encode_to_vec());
        let (second, same) = take_one(Version::Second, &two.encode_to_vec());
        prop_assert_eq!((first.samples as usize, first.rejected.total()), (count, 0));
        prop_assert_eq!((second.samples as usize, second.rejected.total()), (count, 0));
        if count > 0 {
            prop_assert_eq!(samples(&rows), samples(&same));
            let sent: Vec<u64> = sets.iter().flat_map(|(_, samples)| samples.iter().map(|s| s.0)).collect();
            let stored: Vec<u64> = samples(&rows).into_iter().map(|(.., bits)| bits).collect();
            prop_assert_eq!(stored, sent);
        }
    }
}
