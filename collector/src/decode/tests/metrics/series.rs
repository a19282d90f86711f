//! The series that samples belong to: names, labels, the target, and how many there may be.

use super::*;

fn one_gauge(resource: Vec<KeyValue>, attributes: Vec<KeyValue>) -> ExportMetricsServiceRequest {
    let point = NumberDataPoint { attributes, ..point(1, 1.0) };
    request(resource, vec![metric("g", "", gauge(vec![point]))])
}

#[test]
fn a_resource_becomes_job_and_instance_and_the_rest_target_info() {
    let resource = vec![
        text("service.name", "cart"),
        text("service.namespace", "shop"),
        text("service.instance.id", "cart-1"),
        text("service.version", "1.2"),
        key_value("host.cores".into(), Value::IntValue(8)),
    ];
    let expected = [
        "g{instance=\"cart-1\",job=\"shop/cart\"} 1 @1",
        "target_info{host_cores=\"8\",instance=\"cart-1\",job=\"shop/cart\",service_version=\"1.2\"} 1 @1",
    ];
    assert_eq!(samples_of(&one_gauge(resource, vec![])), expected);
}

#[test]
fn a_resource_that_says_no_more_than_who_it_is_has_no_target_info() {
    let resource = vec![text("service.name", "cart"), text("service.instance.id", "cart-1")];
    assert_eq!(samples_of(&one_gauge(resource, vec![])), ["g{instance=\"cart-1\",job=\"cart\"} 1 @1"]);
}

#[test]
fn target_info_is_as_late_as_the_latest_point_and_absent_without_one() {
    let resource = || vec![text("service.name", "cart"), text("zone", "a")];
    let gauges = |points| vec![metric("g", "", gauge(points))];
    let found = samples_of(&request(resource(), gauges(vec![point(1, 1.0), point(9, 1.0), point(5, 1.0)])));
    assert_eq!(found[3], "target_info{job=\"cart\",zone=\"a\"} 1 @9");
    assert_eq!(samples_of(&request(resource(), gauges(vec![]))), [] as [String; 0]);
}

#[test]
fn attributes_become_labels_of_any_type() {
    let attributes = vec![
        text("http.request.method", "GET"),
        key_value("bool".into(), Value::BoolValue(true)),
        key_value("double".into(), Value::DoubleValue(0.25)),
        key_value("bytes".into(), Value::BytesValue(b"abc".to_vec())),
        text("empty", ""),
        text("quote", "a\"b\\c\nd ü"),
        text("job", "the resource decides"),
        text("__name__", "the metric decides"),
    ];
    let expected = "g{bool=\"true\",bytes=\"\\\"YWJj\\\"\",double=\"0.25\",http_request_method=\"GET\",\
                    job=\"unknown_service\",quote=\"a\\\"b\\\\c\\nd ü\"} 1 @1";
    assert_eq!(samples_of(&one_gauge(vec![], attributes)), [expected]);
}

#[test]
fn labels_whose_names_become_the_same_are_joined() {
    let attributes = vec![text("a.b", "2"), text("a-b", "1"), text("a_b", "3")];
    assert_eq!(samples_of(&one_gauge(vec![], attributes)), ["g{a_b=\"1;2;3\",job=\"unknown_service\"} 1 @1"]);
}

#[test]
fn a_series_says_its_type_unit_and_help() {
    let described =
        Metric { description: "What was sent.".into(), ..metric("io", "By/s", gauge(vec![point(1, 1.0)])) };
    let metrics = vec![described, metric("calls", "{call}", sum(vec![point(1, 1.0)], CUMULATIVE, true))];
    let decoded = Collector::default().take(&request(vec![], metrics));
    let mut found: Vec<_> = table(&decoded, Table::Series)
        .iter()
        .map(|row| {
            (row.text("metric").unwrap(), row.text("type").unwrap(), row.text("unit"), row.text("help"))
        })
        .collect();
    found.sort();
    let text = |text: &str| text.to_owned();
    let expected = [
        (text("calls_total"), text("counter"), None, None),
        (
            text("io_bytes_per_second"),
            text("gauge"),
            Some(text("bytes_per_second")),
            Some(text("What was sent.")),
        ),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_row_of_a_series_is_written_once_a_day() {
    let day = 86_400;
    let points = vec![point(day + 9, 1.0), point(day + 5, 1.0), point(2 * day, 1.0)];
    let decoded = Collector::default().take(&request(vec![], vec![metric("g", "", gauge(points))]));
    let mut times: Vec<_> =
        table(&decoded, Table::Series).iter().map(|row| row.moment("time") / SECOND).collect();
    times.sort_unstable();
    assert_eq!(times, [day + 5, 2 * day], "the first that day");
}

#[test]
fn the_same_request_gives_the_same_rows_in_the_same_order() {
    let attributes = |n: usize| vec![text("n", &n.to_string())];
    let points = (0..50).map(|n| NumberDataPoint { attributes: attributes(n), ..point(1, 1.0) }).collect();
    let request = request(vec![], vec![metric("g", "", gauge(points))]);
    let parts = |decoded: Decoded| decoded.parts;
    assert_eq!(parts(Collector::default().take(&request)), parts(Collector::default().take(&request)));
}

#[test]
fn stored_series_are_not_written_again_and_others_are_rejected_with_their_reasons() {
    let cases = [
        (Known::Stored, 0, 1, vec![]),
        (Known::Collision, 0, 0, vec![(Reason::Collision, 1)]),
        (Known::TooMany, 0, 0, vec![(Reason::Series, 1)]),
    ];
    for (known, series, samples, expected) in cases {
        let answer = |_: SeriesId, _: &Labels, _: i32| known;
        let ask = Series { known: &answer, deltas: &DeltaState::default() };
        let bytes = one_gauge(vec![text("zone", "a")], vec![]).encode_to_vec();
        let decoded = decode(Signal::Metrics, &bytes, NOW, &ask).unwrap();
        assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), expected);
        assert_eq!(table(&decoded, Table::Series).len(), series);
        let of_sender = table(&decoded, Table::Samples);
        let of_sender = of_sender.iter().filter(|row| row.text("metric").as_deref() == Some("g"));
        assert_eq!(of_sender.count(), samples);
    }
}

#[test]
fn a_point_is_stored_with_all_of_its_series_or_with_none() {
    use opentelemetry_proto::tonic::metrics::v1::{Histogram, HistogramDataPoint};
    let point = HistogramDataPoint {
        time_unix_nano: SECOND,
        count: 1,
        bucket_counts: vec![1, 0],
        explicit_bounds: vec![1.0],
        ..HistogramDataPoint::default()
    };
    let data = Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality: DELTA });
    let bytes = request(vec![], vec![metric("h", "", data)]).encode_to_vec();
    let answer = |_: SeriesId, labels: &Labels, _: i32| {
        if labels.metric() == "h_count" { Known::TooMany } else { Known::New }
    };
    let ask = Series { known: &answer, deltas: &DeltaState::default() };
    let decoded = decode(Signal::Metrics, &bytes, NOW, &ask).unwrap();
    assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), [(Reason::Series, 1)]);
    assert!(decoded.parts.is_empty());
}
