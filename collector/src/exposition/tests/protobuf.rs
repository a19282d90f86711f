//! Prometheus' protobuf format, as its own schema encodes it.

use prost::Message;

use super::*;

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Measured {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<Measured>,
    #[prost(message, optional, tag = "3")]
    created: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Measured>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(double, tag = "4")]
    float_count: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "9")]
    negative_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "10")]
    negative_delta: Vec<i64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(double, repeated, tag = "14")]
    positive_count: Vec<f64>,
    #[prost(message, optional, tag = "15")]
    created: Option<Timestamp>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Measured>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Counter>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

fn family(name: &str, kind: i32, metric: Metric) -> MetricFamily {
    MetricFamily { name: name.into(), help: String::new(), kind, metric: vec![metric] }
}

fn read(families: &[MetricFamily], options: Options) -> Result<Vec<String>, String> {
    let body: Vec<u8> = families.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
    let mut sink = Lines::default();
    let read = parse(Protocol::Protobuf, &body, options, &mut sink);
    read.map(|()| sink.lines).map_err(|error| error.to_string())
}

fn measured(value: f64, seconds: Option<i64>) -> Measured {
    let label = vec![Label { name: "trace_id".into(), value: "abc".into() }];
    Measured { label, value, timestamp: seconds.map(|seconds| Timestamp { seconds, nanos: 500_000_000 }) }
}

#[test]
fn counters_gauges_and_summaries_are_read() {
    let counter = Counter {
        value: 5.0,
        exemplar: Some(measured(2.0, Some(7))),
        created: Some(Timestamp { seconds: 3, nanos: 250_000_000 }),
    };
    let label = vec![Label { name: "a".into(), value: "b\"".into() }];
    let quantile = vec![Quantile { quantile: 0.5, value: 1.5 }, Quantile { quantile: 1.0, value: 2.0 }];
    let families = [
        MetricFamily {
            help: "All of them.".into(),
            ..family(
                "c_total",
                0,
                Metric { label, counter: Some(counter), timestamp_ms: 9, ..Metric::default() },
            )
        },
        family(
            "g",
            1,
            Metric { gauge: Some(Counter { value: -1.0, ..Counter::default() }), ..Metric::default() },
        ),
        family(
            "s",
            2,
            Metric { summary: Some(Summary { count: 3, sum: 4.5, quantile }), ..Metric::default() },
        ),
    ];
    let expected = [
        "TYPE c_total counter",
        "HELP c_total \"All of them.\"",
        "c_total{a=\"b\\\"\"} 5.0 @9 from 3250 # trace_id=abc 2 Some(7500)",
        "TYPE g gauge",
        "g{} -1.0",
        "TYPE s summary",
        "s_count{} 3.0",
        "s_sum{} 4.5",
        "s{quantile=\"0.5\"} 1.5",
        "s{quantile=\"1.0\"} 2.0",
    ];
    assert_eq!(read(&families, Options::default()).unwrap(), expected);
}

fn both() -> Histogram {
    Histogram {
        count: 10,
        sum: 12.5,
        bucket: vec![Bucket { count: 4, bound: 1.0, exemplar: Some(measured(0.5, Some(1))) }],
        schema: 3,
        zero_threshold: 1e-3,
        zero_count: 2,
        positive_span: vec![Span { offset: -2, length: 2 }, Span { offset: 1, length: 1 }],
        positive_delta: vec![1, 2, -1],
        negative_span: vec![Span { offset: 4, length: 1 }],
        negative_delta: vec![2],
        created: Some(Timestamp { seconds: 1, nanos: 0 }),
        ..Histogram::default()
    }
}

fn of(histogram: Histogram) -> [MetricFamily; 1] {
    [family("h", 4, Metric { histogram: Some(histogram), ..Metric::default() })]
}

const NATIVE: &str = "h{} schema=3 count=10 zero=2 sum=12.5 +-2:[1, 3, 0, 2][] -4:[2][] from 1000 # trace_id=abc 0.5 Some(1500)";
const CLASSIC: [&str; 4] = [
    "h_count{} 10.0 from 1000",
    "h_sum{} 12.5 from 1000",
    "h_bucket{le=\"1.0\"} 4.0 from 1000 # trace_id=abc 0.5 Some(1500)",
    "h_bucket{le=\"+Inf\"} 10.0 from 1000",
];

#[test]
fn a_histogram_is_native_classic_or_both_as_asked() {
    let with = |native, classic_too| {
        read(&of(both()), Options { native, classic_too, custom: false }).unwrap()[1..].to_vec()
    };
    assert_eq!(with(false, false), CLASSIC);
    assert_eq!(with(true, false), [NATIVE]);
    assert_eq!(with(true, true), [[NATIVE].as_slice(), &CLASSIC].concat());
}

#[test]
fn histograms_of_floats_are_native_too() {
    let histogram = Histogram {
        float_count: 2.5,
        positive_span: vec![Span { offset: 1, length: 2 }],
        positive_count: vec![1.5, 1.0],
        ..Histogram::default()
    };
    let lines = read(&of(histogram), Options { native: true, ..Options::default() }).unwrap();
    assert_eq!(lines[1], "h{} schema=0 count=2.5 zero=0 sum=0 +1:[][1.5, 1.0] -0:[][]");
}

#[test]
fn what_is_no_histogram_is_refused() {
    let native = Options { native: true, ..Options::default() };
    let span = |offset, length| Span { offset, length };
    for (histogram, problem) in [
        (Histogram { schema: 9, ..both() }, "schema 9"),
        (Histogram { positive_delta: vec![1, -2, 1], ..both() }, "negative"),
        (Histogram { positive_delta: vec![1], ..both() }, "more buckets than there are"),
        (Histogram { positive_delta: vec![1, 2, 3, 4], ..both() }, "fewer buckets"),
        (Histogram { positive_span: vec![span(0, 2), span(-1, 1)], ..both() }, "overlap"),
        (Histogram { positive_span: vec![span(0, 2), span(i32::MAX, 1)], ..both() }, "too far apart"),
        (Histogram { positive_span: vec![span(0, u32::MAX)], ..both() }, "more buckets than there are"),
    ] {
        let error = read(&of(histogram), native).unwrap_err();
        assert!(error.starts_with("message 1: ") && error.contains(problem), "{error}");
    }
    let wrong = [family("x", 0, Metric::default())];
    assert!(read(&wrong, native).unwrap_err().contains("no value of the type of its family"));
    let body = [5, 1, 2];
    let error = parse(Protocol::Protobuf, &body, native, &mut Lines::default()).unwrap_err();
    assert!(error.to_string().contains("length goes beyond the end"), "{error}");
}
