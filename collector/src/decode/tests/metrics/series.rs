//! The series that samples belong to: names, labels, the target, and how many there may be.

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;

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
fn target_info_is_there_from_the_first_point_to_the_last_and_absent_without_one() {
    let resource = || vec![text("service.name", "cart"), text("zone", "a")];
    let gauges = |points| vec![metric("g", "", gauge(points))];
    let info = |points| -> Vec<String> {
        let found = samples_of(&request(resource(), gauges(points)));
        let times =
            found.iter().filter_map(|sample| sample.strip_prefix("target_info{job=\"cart\",zone=\"a\"} 1 "));
        times.map(str::to_owned).collect()
    };
    assert_eq!(info(vec![point(5, 1.0)]), ["@5"]);
    assert_eq!(info(vec![point(1, 1.0), point(9, 1.0), point(5, 1.0)]), ["@1", "@9"]);
    assert_eq!(info(vec![point(400, 1.0), point(50, 1.0)]), ["@200", "@350", "@400", "@50"]);
    assert_eq!(info(vec![]), [] as [String; 0]);
}

/// The samples of `request` as `naming` names them.
fn named(naming: Otlp, request: &ExportMetricsServiceRequest) -> Vec<String> {
    let collector = Collector { naming, ..Collector::default() };
    samples(&collector.take(request))
}

#[test]
fn names_are_translated_as_configured() {
    use weir_model::prometheus::Translation;
    let bytes = NumberDataPoint { attributes: vec![text("net.dir", "in")], ..point(1, 1.0) };
    let request = request(vec![], vec![metric("net.io", "By", sum(vec![bytes], CUMULATIVE, true))]);
    let golden = [
        (
            Translation::UnderscoresWithSuffixes,
            "net_io_bytes_total{job=\"unknown_service\",net_dir=\"in\"} 1 @1",
        ),
        (Translation::UnderscoresWithoutSuffixes, "net_io{job=\"unknown_service\",net_dir=\"in\"} 1 @1"),
        (Translation::Utf8WithSuffixes, "net.io_bytes_total{job=\"unknown_service\",net.dir=\"in\"} 1 @1"),
        (Translation::None, "net.io{job=\"unknown_service\",net.dir=\"in\"} 1 @1"),
    ];
    for (translation, expected) in golden {
        assert_eq!(named(Otlp { translation, ..Otlp::default() }, &request), [expected]);
    }
}

#[test]
fn attributes_of_the_resource_are_promoted_as_configured() {
    let resource = vec![
        text("service.name", "cart"),
        text("service.instance.id", "cart-1"),
        text("k8s.pod.name", "pod"),
        text("zone", "a"),
    ];
    let request = one_gauge(resource, vec![text("zone", "of the point")]);
    let samples = |naming: Otlp| named(naming, &request)[0].clone();
    let identity = "instance=\"cart-1\",job=\"cart\"";
    let some =
        Otlp { promote: vec!["k8s.pod.name".into(), "zone".into(), "absent".into()], ..Otlp::default() };
    assert_eq!(samples(some), format!("g{{{identity},k8s_pod_name=\"pod\",zone=\"of the point\"}} 1 @1"));
    let all = Otlp { promote_all: true, ignore: vec!["k8s.pod.name".into()], ..Otlp::default() };
    let expected = format!(
        "g{{{identity},service_instance_id=\"cart-1\",service_name=\"cart\",zone=\"of the point\"}} 1 @1"
    );
    assert_eq!(samples(all), expected);
    let kept = Otlp { keep_identifying: true, ..Otlp::default() };
    let expected = format!(
        "target_info{{{identity},k8s_pod_name=\"pod\",service_instance_id=\"cart-1\",service_name=\"cart\",zone=\"a\"}} 1 @1"
    );
    assert_eq!(named(kept, &request)[1], expected);
}

#[test]
fn the_scope_becomes_labels_where_it_is_wanted() {
    let mut request = one_gauge(vec![], vec![text("otel.scope.name", "of the point")]);
    let scope_metrics = &mut request.resource_metrics[0].scope_metrics[0];
    scope_metrics.schema_url = "http://schema".into();
    scope_metrics.scope = Some(InstrumentationScope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: vec![text("a.b", "c")],
        ..InstrumentationScope::default()
    });
    let promoted = named(Otlp { promote_scope: true, ..Otlp::default() }, &request);
    let expected = "g{job=\"unknown_service\",otel_scope_a_b=\"c\",otel_scope_name=\"lib\",\
                    otel_scope_schema_url=\"http://schema\",otel_scope_version=\"1.2\"} 1 @1";
    assert_eq!(promoted, [expected]);
    let plain = named(Otlp::default(), &request);
    assert_eq!(plain, ["g{job=\"unknown_service\",otel_scope_name=\"of the point\"} 1 @1"]);
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
        let ask = Series { known: &answer, deltas: &DeltaState::default(), naming: &Otlp::default() };
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
    let ask = Series { known: &answer, deltas: &DeltaState::default(), naming: &Otlp::default() };
    let decoded = decode(Signal::Metrics, &bytes, NOW, &ask).unwrap();
    assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), [(Reason::Series, 1)]);
    assert!(decoded.parts.is_empty());
}
