//! Exemplars: which series each belongs to, and which are dropped.

use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, exemplar,
};
use weir_model::limits;

use super::*;

fn measured(second: u64, value: f64) -> Exemplar {
    Exemplar {
        time_unix_nano: second * SECOND + 1,
        value: Some(exemplar::Value::AsDouble(value)),
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        filtered_attributes: vec![text("user", "u1")],
    }
}

/// `name{labels} value` of each exemplar, in order.
fn exemplars(decoded: &Decoded) -> Vec<String> {
    let names = names(decoded);
    let show = |row: Row| {
        let name = &names[&row.long("series_id").expect("never null")];
        assert!(name.starts_with(&row.text("metric").expect("never null")));
        format!("{name} {}", row.double("value").expect("never null"))
    };
    table(decoded, Table::Exemplars).into_iter().map(show).collect()
}

fn of_gauge(exemplars: Vec<Exemplar>) -> Decoded {
    let point = NumberDataPoint { exemplars, ..point(9, 1.0) };
    Collector::default().take(&request(vec![], vec![metric("g", "", gauge(vec![point]))]))
}

#[test]
fn an_exemplar_says_when_what_and_in_which_trace() {
    let whole =
        Exemplar { value: Some(exemplar::Value::AsInt(i64::MAX)), trace_id: vec![0; 16], ..measured(5, 0.0) };
    let decoded = of_gauge(vec![measured(4, 0.25), whole]);
    let rows = table(&decoded, Table::Exemplars);
    assert_eq!(rows[0].moment("time"), 4 * SECOND + 1);
    assert_eq!((rows[0].double("value"), rows[0].long("value_long")), (Some(0.25), None));
    assert_eq!((rows[0].bytes("trace_id"), rows[0].bytes("span_id")), (Some(vec![7; 16]), Some(vec![8; 8])));
    assert_eq!(rows[0].attributes("attributes"), [text("user", "u1")]);
    assert_eq!(rows[1].long("value_long"), Some(i64::MAX));
    assert_eq!(rows[1].bytes("trace_id"), None, "an id of zeros is none");
    assert_eq!(exemplars(&decoded)[0], "g{job=\"unknown_service\"} 0.25");
}

#[test]
fn an_exemplar_of_a_histogram_belongs_to_the_bucket_of_its_value() {
    let values = [-1.0, 0.5, 0.6, 2.0, 2.1, f64::INFINITY, f64::NAN];
    let point = HistogramDataPoint {
        time_unix_nano: 9 * SECOND,
        count: 7,
        sum: Some(9.5),
        bucket_counts: vec![2, 2, 3, 0],
        explicit_bounds: vec![0.5, 2.0, f64::INFINITY],
        exemplars: values.map(|value| measured(5, value)).to_vec(),
        ..HistogramDataPoint::default()
    };
    for aggregation_temporality in [CUMULATIVE, DELTA] {
        let data = Data::Histogram(Histogram { data_points: vec![point.clone()], aggregation_temporality });
        let decoded = Collector::default().take(&request(vec![], vec![metric("h", "", data)]));
        let bucket =
            |le: &str, value: &str| format!("h_bucket{{job=\"unknown_service\",le=\"{le}\"}} {value}");
        let expected = [
            bucket("0.5", "-1"),
            bucket("0.5", "0.5"),
            bucket("2", "0.6"),
            bucket("2", "2"),
            bucket("+Inf", "2.1"),
            bucket("+Inf", "inf"),
            bucket("+Inf", "NaN"),
        ];
        assert_eq!(exemplars(&decoded), expected);
    }
}

#[test]
fn sums_and_exponential_histograms_have_exemplars() {
    let of_sum = NumberDataPoint { exemplars: vec![measured(5, 1.0)], ..point(9, 1.0) };
    let of_histogram = ExponentialHistogramDataPoint {
        time_unix_nano: 9 * SECOND,
        exemplars: vec![measured(5, 2.0)],
        ..ExponentialHistogramDataPoint::default()
    };
    let exponential = Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![of_histogram],
        aggregation_temporality: DELTA,
    });
    let metrics = vec![metric("c", "", sum(vec![of_sum], CUMULATIVE, true)), metric("e", "", exponential)];
    let decoded = Collector::default().take(&request(vec![], metrics));
    let job = "{job=\"unknown_service\"}";
    assert_eq!(exemplars(&decoded), [format!("c_total{job} 1"), format!("e{job} 2")]);
}

#[test]
fn bad_exemplars_are_dropped_with_their_reasons_and_their_point_is_kept() {
    let cases = [
        (Reason::NoTime, Exemplar { time_unix_nano: 0, ..measured(5, 1.0) }),
        (Reason::Future, Exemplar { time_unix_nano: u64::MAX, ..measured(5, 1.0) }),
        (Reason::NoValue, Exemplar { value: None, ..measured(5, 1.0) }),
        (Reason::TraceId, Exemplar { trace_id: vec![1; 15], ..measured(5, 1.0) }),
        (Reason::SpanId, Exemplar { span_id: vec![1], ..measured(5, 1.0) }),
    ];
    for (reason, bad) in cases {
        let decoded = of_gauge(vec![bad, measured(6, 2.0)]);
        assert_eq!(decoded.dropped_exemplars.iter().collect::<Vec<_>>(), [(reason, 1)]);
        assert_eq!((decoded.rejected.total(), decoded.accepted), (0, 1));
        assert_eq!(exemplars(&decoded), ["g{job=\"unknown_service\"} 2"], "{reason:?}");
    }
}

#[test]
fn the_exemplars_of_a_point_are_bounded() {
    let decoded = of_gauge(vec![measured(5, 1.0); limits::POINT_EXEMPLARS + 3]);
    assert_eq!(decoded.dropped_exemplars.iter().collect::<Vec<_>>(), [(Reason::ManyExemplars, 3)]);
    assert_eq!(exemplars(&decoded).len(), limits::POINT_EXEMPLARS);
    assert!(Reason::ManyExemplars.message().contains(&limits::POINT_EXEMPLARS.to_string()));
}

#[test]
fn the_exemplars_of_a_rejected_point_go_with_it() {
    let point = NumberDataPoint { exemplars: vec![measured(5, 1.0)], value: None, ..point(9, 1.0) };
    let decoded = Collector::default().take(&request(vec![], vec![metric("g", "", gauge(vec![point]))]));
    assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), [(Reason::NoValue, 1)]);
    assert!(decoded.parts.is_empty());
    assert_eq!(decoded.dropped_exemplars.total(), 0);
}
