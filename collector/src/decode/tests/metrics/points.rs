//! Points of every kind become samples.

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Summary,
    SummaryDataPoint,
};
use proptest::prelude::*;

use super::*;

const NO_VALUE: u32 = 1;

fn histogram(data_points: Vec<HistogramDataPoint>, aggregation_temporality: i32) -> Data {
    Data::Histogram(Histogram { data_points, aggregation_temporality })
}

/// 6 values, 3 of them up to 0.5, 1 more up to 2.
fn buckets(second: u64) -> HistogramDataPoint {
    HistogramDataPoint {
        time_unix_nano: second * SECOND,
        count: 6,
        sum: Some(9.5),
        bucket_counts: vec![3, 1, 2],
        explicit_bounds: vec![0.5, 2.0],
        ..HistogramDataPoint::default()
    }
}

#[test]
fn a_gauge_is_what_it_says() {
    let mut whole = point(20, 0.0);
    whole.value = Some(number_data_point::Value::AsInt(-3));
    let found =
        samples_of(&request(vec![], vec![metric("room", "Cel", gauge(vec![point(10, 21.5), whole]))]));
    let expected =
        ["room_celsius{job=\"unknown_service\"} -3 @20", "room_celsius{job=\"unknown_service\"} 21.5 @10"];
    assert_eq!(found, expected);
}

#[test]
fn nan_and_infinities_are_values() {
    let points = vec![point(1, f64::NAN), point(2, f64::INFINITY), point(3, f64::NEG_INFINITY)];
    let found = samples_of(&request(vec![], vec![metric("g", "", gauge(points))]));
    let job = "g{job=\"unknown_service\"}";
    assert_eq!(found, [format!("{job} -inf @3"), format!("{job} NaN @1"), format!("{job} inf @2")]);
}

#[test]
fn a_cumulative_sum_keeps_its_start() {
    let point = NumberDataPoint { start_time_unix_nano: 5 * SECOND, ..point(10, 7.0) };
    let metrics = vec![
        metric("calls", "", sum(vec![point.clone()], CUMULATIVE, true)),
        metric("queue", "", sum(vec![point], CUMULATIVE, false)),
    ];
    let expected =
        ["calls_total{job=\"unknown_service\"} 7 @10 from 5", "queue{job=\"unknown_service\"} 7 @10 from 5"];
    assert_eq!(samples_of(&request(vec![], metrics)), expected);
}

#[test]
fn deltas_become_running_totals() {
    let collector = Collector::default();
    let send = |start: u64, end: u64, value: f64| {
        let point = NumberDataPoint { start_time_unix_nano: start * SECOND, ..point(end, value) };
        let taken =
            collector.take(&request(vec![], vec![metric("calls", "", sum(vec![point], DELTA, true))]));
        let rejected: Vec<_> = taken.rejected.iter().collect();
        samples(&taken).pop().ok_or(rejected)
    };
    let series = "calls_total{job=\"unknown_service\"}";
    assert_eq!(send(10, 20, 5.0), Ok(format!("{series} 5 @20 from 10")));
    assert_eq!(send(20, 30, 2.5), Ok(format!("{series} 7.5 @30 from 10")));
    assert_eq!(send(20, 30, 2.5), Ok(format!("{series} 7.5 @30 from 10")), "sent again after a lost answer");
    assert_eq!(send(10, 20, 5.0), Err(vec![(Reason::OutOfOrder, 1)]));
    assert_eq!(send(50, 60, 1.0), Ok(format!("{series} 8.5 @60 from 10")));
}

#[test]
fn of_two_deltas_of_one_moment_in_one_request_the_second_is_rejected() {
    let collector = Collector::default();
    let with = |value: f64, attributes| NumberDataPoint {
        start_time_unix_nano: 10 * SECOND,
        attributes,
        ..point(20, value)
    };
    // Two streams to OpenTelemetry, whose labels are the same here.
    let twins = vec![with(5.0, vec![text("a.b", "x")]), with(2.0, vec![text("a-b", "x")]), with(1.0, vec![])];
    let request = request(vec![], vec![metric("calls", "", sum(twins, DELTA, true))]);
    let expected = [
        "calls_total{a_b=\"x\",job=\"unknown_service\"} 5 @20 from 10",
        "calls_total{job=\"unknown_service\"} 1 @20 from 10",
    ];
    for time in ["first", "again"] {
        let decoded = collector.take(&request);
        assert_eq!(samples(&decoded), expected, "{time}");
        assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), [(Reason::OutOfOrder, 1)], "{time}");
    }
}

#[test]
fn buckets_count_up_to_their_bounds() {
    let found =
        samples_of(&request(vec![], vec![metric("latency", "s", histogram(vec![buckets(9)], CUMULATIVE))]));
    let expected = [
        "latency_seconds_bucket{job=\"unknown_service\",le=\"+Inf\"} 6 @9",
        "latency_seconds_bucket{job=\"unknown_service\",le=\"0.5\"} 3 @9",
        "latency_seconds_bucket{job=\"unknown_service\",le=\"2\"} 4 @9",
        "latency_seconds_count{job=\"unknown_service\"} 6 @9",
        "latency_seconds_sum{job=\"unknown_service\"} 9.5 @9",
    ];
    assert_eq!(found, expected);
}

#[test]
fn delta_buckets_become_running_totals() {
    let collector = Collector::default();
    let send = |second: u64| {
        let point = HistogramDataPoint { start_time_unix_nano: (second - 10) * SECOND, ..buckets(second) };
        samples(
            &collector.take(&request(vec![], vec![metric("latency", "s", histogram(vec![point], DELTA))])),
        )
    };
    send(20);
    let expected = [
        "latency_seconds_bucket{job=\"unknown_service\",le=\"+Inf\"} 12 @30 from 10",
        "latency_seconds_bucket{job=\"unknown_service\",le=\"0.5\"} 6 @30 from 10",
        "latency_seconds_bucket{job=\"unknown_service\",le=\"2\"} 8 @30 from 10",
        "latency_seconds_count{job=\"unknown_service\"} 12 @30 from 10",
        "latency_seconds_sum{job=\"unknown_service\"} 19 @30 from 10",
    ];
    assert_eq!(send(30), expected);
}

#[test]
fn a_histogram_becomes_a_native_one_with_custom_bounds_where_it_is_wanted() {
    let naming = Otlp { convert_histograms_to_nhcb: true, ..Otlp::default() };
    let collector = Collector { naming, ..Collector::default() };
    let decoded = collector
        .take(&request(vec![], vec![metric("latency", "s", histogram(vec![buckets(9)], CUMULATIVE))]));
    assert_eq!(decoded.rejected.total(), 0, "{}", decoded.rejected.message());
    assert_eq!(table(&decoded, Table::Samples).len(), 0);
    let rows = table(&decoded, Table::Histograms);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(row.text("metric").as_deref(), Some("latency_seconds"));
    assert_eq!((row.int("scale"), row.int("temporality")), (-53, CUMULATIVE));
    let point = buckets(9);
    assert_eq!(
        row.longs("positive_counts"),
        point.bucket_counts.iter().map(|n| *n as i64).collect::<Vec<_>>()
    );
    assert_eq!(row.doubles("custom_bounds"), point.explicit_bounds);
    assert_eq!((row.long("count"), row.double("sum")), (Some(point.count as i64), point.sum));
}

#[test]
fn a_histogram_without_buckets_or_sum_has_a_count() {
    let point = HistogramDataPoint { time_unix_nano: SECOND, count: 4, ..HistogramDataPoint::default() };
    let found = samples_of(&request(vec![], vec![metric("h", "", histogram(vec![point], CUMULATIVE))]));
    let expected =
        ["h_bucket{job=\"unknown_service\",le=\"+Inf\"} 4 @1", "h_count{job=\"unknown_service\"} 4 @1"];
    assert_eq!(found, expected);
}

#[test]
fn bounds_of_infinity_are_said_once() {
    let point = HistogramDataPoint { explicit_bounds: vec![0.5, f64::INFINITY], ..buckets(1) };
    let found = samples_of(&request(vec![], vec![metric("h", "", histogram(vec![point], CUMULATIVE))]));
    assert_eq!(found.iter().filter(|sample| sample.contains("le=\"+Inf\"")).count(), 1, "{found:#?}");
}

#[test]
fn a_summary_becomes_its_quantiles() {
    let quantiles = [(0.0, 1.0), (0.5, 2.0), (0.99, 9.0)];
    let quantile_values = quantiles.map(|(quantile, value)| ValueAtQuantile { quantile, value }).to_vec();
    let point = SummaryDataPoint {
        time_unix_nano: SECOND,
        count: 10,
        sum: 33.0,
        quantile_values,
        ..SummaryDataPoint::default()
    };
    let data = Data::Summary(Summary { data_points: vec![point] });
    let expected = [
        "rpc_seconds_count{job=\"unknown_service\"} 10 @1",
        "rpc_seconds_sum{job=\"unknown_service\"} 33 @1",
        "rpc_seconds{job=\"unknown_service\",quantile=\"0\"} 1 @1",
        "rpc_seconds{job=\"unknown_service\",quantile=\"0.5\"} 2 @1",
        "rpc_seconds{job=\"unknown_service\",quantile=\"0.99\"} 9 @1",
    ];
    assert_eq!(samples_of(&request(vec![], vec![metric("rpc", "s", data)])), expected);
}

#[test]
fn a_point_without_recorded_value_ends_its_series() {
    let number = NumberDataPoint { flags: NO_VALUE, value: None, ..point(1, 0.0) };
    let explicit = HistogramDataPoint { flags: NO_VALUE, ..buckets(1) };
    let metrics = vec![
        metric("g", "", gauge(vec![number.clone()])),
        metric("d", "", sum(vec![number], DELTA, true)),
        metric("h", "", histogram(vec![explicit], CUMULATIVE)),
    ];
    let found = samples_of(&request(vec![], metrics));
    assert_eq!(found.len(), 7, "{found:#?}");
    assert!(found.iter().all(|sample| sample.contains("} stale @1")), "{found:#?}");
    let exponential = ExponentialHistogramDataPoint {
        time_unix_nano: SECOND,
        flags: NO_VALUE,
        ..ExponentialHistogramDataPoint::default()
    };
    let row = exponential_row(exponential, CUMULATIVE);
    assert_eq!(row.double("sum").map(f64::to_bits), Some(0x7ff0_0000_0000_0002));
}

fn exponential_row(point: ExponentialHistogramDataPoint, aggregation_temporality: i32) -> Row {
    let data = Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![point],
        aggregation_temporality,
    });
    let decoded = Collector::default().take(&request(vec![], vec![metric("e", "s", data)]));
    assert_eq!(decoded.rejected.total(), 0, "{}", decoded.rejected.message());
    let row = table(&decoded, Table::Histograms).pop().expect("there is a row");
    assert_eq!(names(&decoded)[&row.long("series_id").unwrap()], "e_seconds{job=\"unknown_service\"}");
    row
}

proptest! {
    #[test]
    fn every_field_of_an_exponential_histogram_round_trips(
        scale in -10_i32..=20, count in 0..i64::MAX as u64, zero_count in 0..i64::MAX as u64,
        numbers: [Option<f64>; 3], zero_threshold: f64, start in 0..NOW.0, time in 1..NOW.0,
        positive in side(), negative in side(), temporality in 1..=2,
    ) {
        let [sum, min, max] = numbers;
        let point = ExponentialHistogramDataPoint {
            start_time_unix_nano: start,
            time_unix_nano: time,
            count,
            sum,
            scale,
            zero_count,
            positive: Some(positive.clone()),
            negative: Some(negative.clone()),
            min,
            max,
            zero_threshold,
            ..ExponentialHistogramDataPoint::default()
        };
        let row = exponential_row(point, temporality);
        prop_assert_eq!(row.int("temporality"), temporality);
        prop_assert_eq!(row.int("scale"), scale);
        prop_assert_eq!(row.long("count"), Some(count as i64));
        prop_assert_eq!(row.long("zero_count"), Some(zero_count as i64));
        prop_assert_eq!(row.double("sum"), sum);
        prop_assert_eq!(row.double("min"), min);
        prop_assert_eq!(row.double("max"), max);
        prop_assert_eq!(row.double("zero_threshold"), Some(zero_threshold));
        prop_assert_eq!(row.moment("time"), time);
        prop_assert_eq!(row.micros("start_time"), (start > 0).then_some((start / 1_000) as i64));
        for (name, side) in [("positive", positive), ("negative", negative)] {
            prop_assert_eq!(row.int(&format!("{name}_offset")), side.offset);
            let counts: Vec<_> = side.bucket_counts.iter().map(|count| *count as i64).collect();
            prop_assert_eq!(row.longs(&format!("{name}_counts")), counts);
        }
    }
}

fn side() -> impl Strategy<Value = Buckets> {
    let counts = prop::collection::vec(0..i64::MAX as u64, 0..6);
    (any::<i32>(), counts).prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts })
}

#[test]
fn bad_points_are_rejected_singly_with_their_reasons() {
    let bad_buckets = |point: HistogramDataPoint| histogram(vec![point], CUMULATIVE);
    let exponential = |point| {
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![point],
            aggregation_temporality: 2,
        })
    };
    let of_scale = |scale| ExponentialHistogramDataPoint {
        time_unix_nano: 1,
        scale,
        ..ExponentialHistogramDataPoint::default()
    };
    let many = Buckets { offset: 0, bucket_counts: vec![1; limits::EXPONENTIAL_BUCKETS + 1] };
    let attributes = (0..=limits::SERIES_LABELS).map(|n| text(&format!("k{n}"), "v")).collect();
    let cases = [
        (Reason::NoTime, gauge(vec![point(0, 1.0)])),
        (Reason::NoValue, gauge(vec![NumberDataPoint { value: None, ..point(1, 0.0) }])),
        (Reason::Future, gauge(vec![NumberDataPoint { time_unix_nano: u64::MAX, ..point(1, 0.0) }])),
        (Reason::Labels, gauge(vec![NumberDataPoint { attributes, ..point(1, 0.0) }])),
        (Reason::Temporality, sum(vec![point(1, 1.0)], 0, true)),
        (Reason::Temporality, histogram(vec![buckets(1)], 3)),
        (Reason::Buckets, bad_buckets(HistogramDataPoint { bucket_counts: vec![1, 2], ..buckets(1) })),
        (Reason::Buckets, bad_buckets(HistogramDataPoint { bucket_counts: vec![], ..buckets(1) })),
        (Reason::Buckets, bad_buckets(HistogramDataPoint { explicit_bounds: vec![2.0, 0.5], ..buckets(1) })),
        (Reason::Buckets, bad_buckets(HistogramDataPoint { explicit_bounds: vec![1.0, 1.0], ..buckets(1) })),
        (
            Reason::Buckets,
            bad_buckets(HistogramDataPoint { explicit_bounds: vec![0.0, f64::NAN], ..buckets(1) }),
        ),
        (Reason::Scale, exponential(of_scale(-53))),
        (Reason::Scale, exponential(of_scale(21))),
        (
            Reason::ManyBuckets,
            exponential(ExponentialHistogramDataPoint { positive: Some(many), ..of_scale(0) }),
        ),
    ];
    for (reason, data) in cases {
        let metrics = vec![metric("m", "", data), metric("good", "", gauge(vec![point(1, 1.0)]))];
        let decoded = Collector::default().take(&request(vec![], metrics));
        assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), [(reason, 1)]);
        assert_eq!(samples(&decoded), ["good{job=\"unknown_service\"} 1 @1"], "{reason:?}");
    }
}

#[test]
fn a_metric_without_name_or_data_is_rejected_with_all_of_its_points() {
    let metrics = vec![
        metric("", "", gauge(vec![point(1, 1.0), point(2, 1.0)])),
        Metric { name: "no_data".into(), ..Metric::default() },
    ];
    let decoded = Collector::default().take(&request(vec![], metrics));
    let counts = [(Reason::MetricName, 2), (Reason::NoData, 1)];
    assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), counts);
    assert_eq!(decoded.accepted, 0);
}

/// A metric whose message is these messages one after the other, which protobuf reads as one.
fn in_pieces(pieces: &[Metric]) -> Decoded {
    let field = |number: u8, payload: &[u8]| [&[number << 3 | 2, payload.len() as u8][..], payload].concat();
    let pieces: Vec<u8> = pieces.iter().flat_map(Message::encode_to_vec).collect();
    assert!(pieces.len() < 120, "each length is one byte");
    decoded(Signal::Metrics, &field(1, &field(2, &field(2, &pieces)))).unwrap()
}

#[test]
fn points_in_two_pieces_of_a_metric_are_all_taken() {
    let pieces = [metric("g", "", gauge(vec![point(1, 1.0)])), metric("", "", gauge(vec![point(2, 2.0)]))];
    let job = "g{job=\"unknown_service\"}";
    assert_eq!(samples(&in_pieces(&pieces)), [format!("{job} 1 @1"), format!("{job} 2 @2")]);
}

#[test]
fn what_one_piece_of_a_sum_says_holds_for_its_other_pieces() {
    let pieces = [
        metric("c", "", sum(vec![point(1, 1.0)], CUMULATIVE, true)),
        metric("", "", sum(vec![point(2, 2.0)], 0, false)),
    ];
    let decoded = in_pieces(&pieces);
    assert_eq!(decoded.rejected.total(), 0, "{}", decoded.rejected.message());
    let job = "c_total{job=\"unknown_service\"}";
    assert_eq!(samples(&decoded), [format!("{job} 1 @1"), format!("{job} 2 @2")]);
}

#[test]
fn of_two_kinds_of_data_the_last_one_counts_and_the_other_is_rejected() {
    let pieces =
        [metric("m", "", sum(vec![point(1, 1.0)], DELTA, true)), metric("", "", gauge(vec![point(2, 2.0)]))];
    let decoded = in_pieces(&pieces);
    assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), [(Reason::NoData, 1)]);
    assert_eq!(samples(&decoded), ["m{job=\"unknown_service\"} 2 @2"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every point of a request is accepted or rejected, and each row belongs to a series.
    #[test]
    fn no_point_is_lost(request in metrics_request(Doubles::Any)) {
        let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
        let points: usize = metrics.map(|metric| match &metric.data {
            Some(Data::Gauge(data)) => data.data_points.len(),
            Some(Data::Sum(data)) => match data.aggregation_temporality {
                DELTA | CUMULATIVE => data.data_points.len(),
                _ => data.data_points.len().max(1),
            },
            Some(Data::Histogram(data)) => data.data_points.len(),
            Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
            Some(Data::Summary(data)) => data.data_points.len(),
            None => 0,
        }).sum();
        let decoded = Collector::default().take(&request);
        let answered = decoded.accepted + decoded.rejected.total();
        prop_assert!(answered >= points as u64, "{answered} of {points}");
        let series = names(&decoded);
        for row in table(&decoded, Table::Samples).into_iter().chain(table(&decoded, Table::Histograms)) {
            prop_assert!(series.contains_key(&row.long("series_id").unwrap()));
        }
    }
}
