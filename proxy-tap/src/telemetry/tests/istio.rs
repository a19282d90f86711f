//! Istio's standard metrics: names, types, labels and their order, both forms of the duration.

use super::*;
use crate::call::Security;

#[test]
fn a_call_counts_under_istios_full_label_set() {
    let tap = tap();
    tap.call(&facts(), TOOK);
    tap.collect(UnixNanos(START.0 + 5 * SECOND), true);
    let sent = Sent::of(&tap);
    let [point] = sent.requests() else { panic!("{:?}", sent.requests()) };
    assert_eq!((count(point), point.start_time_unix_nano), (1, START.0));
    let labels = texts(&point.attributes);
    let expected = [
        ("reporter", "source"),
        ("source_workload", "cart"),
        ("source_canonical_service", "cart"),
        ("source_canonical_revision", "v3"),
        ("source_workload_namespace", "unknown"),
        ("source_principal", "unknown"),
        ("source_app", "cart"),
        ("source_version", "v3"),
        ("source_cluster", "unknown"),
        ("destination_workload", "payments"),
        ("destination_workload_namespace", "unknown"),
        ("destination_principal", "unknown"),
        ("destination_app", "payments"),
        ("destination_version", "v2"),
        ("destination_service", "payments"),
        ("destination_canonical_service", "payments"),
        ("destination_canonical_revision", "v2"),
        ("destination_service_name", "payments"),
        ("destination_service_namespace", "unknown"),
        ("destination_cluster", "unknown"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("connection_security_policy", "unknown"),
    ];
    assert_has(&labels, &expected);
    // An empty label is none at all, and HTTP has no gRPC status.
    assert_eq!(labels.len(), expected.len(), "{labels:#?}");
    for (name, sum) in [
        ("istio_request_duration_milliseconds", 40.0),
        ("istio_request_bytes", 12.0),
        ("istio_response_bytes", 345.0),
    ] {
        let Data::Histogram(histogram) = sent.metric(name) else { panic!("{name}") };
        assert_eq!(histogram.aggregation_temporality, CUMULATIVE, "{name}");
        let [point] = &histogram.data_points[..] else { panic!("{name}") };
        assert_eq!((point.count, point.sum), (1, Some(sum)), "{name}");
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{name}");
        let bucket = point.bucket_counts.iter().position(|n| *n == 1).unwrap();
        let above = bucket == 0 || point.explicit_bounds[bucket - 1] < sum;
        assert!(above && sum <= point.explicit_bounds[bucket], "{name}: bucket {bucket}");
        assert_eq!(texts(&point.attributes), labels, "{name}");
    }
}

#[test]
fn the_receiving_side_reports_as_destination_and_knows_the_security() {
    let tap = tap();
    let inbound = Facts {
        direction: Direction::Inbound,
        client: party("web", "web-1", ""),
        server: party("cart", "cart-1", "v3"),
        protocol: Protocol::Grpc,
        grpc_status: Some(5),
        ..facts()
    };
    tap.call(&inbound, TOOK);
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let labels = texts(&sent.requests()[0].attributes);
    assert_has(
        &labels,
        &[
            ("reporter", "destination"),
            ("source_workload", "web"),
            ("source_version", "unknown"),
            ("source_canonical_revision", "latest"),
            ("destination_service_name", "cart"),
            ("request_protocol", "grpc"),
            ("grpc_response_status", "5"),
            ("connection_security_policy", "none"),
        ],
    );
}

/// What identifies a set, in the order in which it is sent.
fn in_order(attributes: &[KeyValue]) -> String {
    let all = texts(attributes);
    attributes.iter().map(|kv| format!("{}={}\n", kv.key, all[&kv.key])).collect()
}

/// A caller of whom everything is known, and whose certificate says who it is.
fn web() -> Arc<Party> {
    let named = |name: &str| name.into();
    Arc::new(Party {
        service: named("web"),
        instance: named("web-1"),
        version: named("v7"),
        namespace: named("shop"),
        cluster: named("main"),
        workload: named("web-deploy"),
        app: named("web-app"),
        canonical_service: named("web-canon"),
        canonical_revision: named("r7"),
        region: named("eu"),
        zone: named("eu-1"),
        principal: named("spiffe://mesh/web"),
        ..Party::default()
    })
}

#[test]
fn the_labels_are_istios_in_istios_order() {
    let tap = tap();
    let from_web = Facts {
        direction: Direction::Inbound,
        client: web(),
        server: party("cart", "cart-1", "v3"),
        protocol: Protocol::Grpc,
        grpc_status: Some(0),
        security: Security::MutualTls,
        ..facts()
    };
    tap.call(&from_web, TOOK);
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let expected = "\
        reporter=destination\nsource_workload=web-deploy\nsource_canonical_service=web-canon\n\
        source_canonical_revision=r7\nsource_workload_namespace=shop\nsource_principal=spiffe://mesh/web\n\
        source_app=web-app\nsource_version=v7\nsource_cluster=main\n\
        destination_workload=cart\ndestination_workload_namespace=unknown\ndestination_principal=unknown\n\
        destination_app=cart\ndestination_version=v3\ndestination_service=cart\n\
        destination_canonical_service=cart\ndestination_canonical_revision=v3\n\
        destination_service_name=cart\ndestination_service_namespace=unknown\ndestination_cluster=unknown\n\
        request_protocol=grpc\nresponse_code=200\ngrpc_response_status=0\nresponse_flags=-\n\
        connection_security_policy=mutual_tls\n";
    assert_eq!(in_order(&sent.requests()[0].attributes), expected);
    let families = tap.metric_families();
    let requests = families.iter().find(|family| family.name == "istio_requests_total").unwrap();
    let page = expected.trim_end().replace('=', "=\"").replace('\n', "\",") + "\"";
    assert_eq!(requests.samples[0].labels, page);
}

#[test]
fn callers_that_no_label_tells_apart_count_together() {
    let tap = tap();
    let calls = ["web-1", "web-2", "web-3"].map(|instance| Facts {
        direction: Direction::Inbound,
        client: party("web", instance, "v1"),
        ..facts()
    });
    for _ in 0..4 {
        calls.iter().for_each(|facts| tap.call(facts, TOOK));
    }
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let [point] = sent.requests() else { panic!("{:?}", sent.requests()) };
    assert_eq!(count(point), 12);
}

#[test]
fn what_threads_count_adds_up() {
    let tap = tap();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let facts = facts();
                for _ in 0..100 {
                    tap.call(&facts, TOOK);
                    tap.edge(edge_key(&facts), TOOK);
                }
            });
        }
    });
    tap.collect(START, true);
    tap.call(&facts(), TOOK);
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let totals = sent.metrics.iter().filter(|metric| metric.name == "istio_requests_total");
    let counts: Vec<_> = totals
        .map(|metric| match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => sum.data_points.iter().map(count).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [[500], [501]]);
    assert_eq!((sent.edge_points()[0].count, sent.spans.len(), sent.logs.len()), (500, 501, 501));
}

#[test]
fn the_duration_is_exported_in_both_forms_under_one_name() {
    let tap = tap();
    let durations = [0.04, 0.3, 0.7, 1.2, 2.5, 2.55, 40.0, 9_000.0];
    durations.iter().for_each(|millis| tap.call(&facts(), Duration::from_secs_f64(millis / 1e3)));
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let forms: Vec<_> = sent
        .metrics
        .iter()
        .filter(|metric| metric.name == "istio_request_duration_milliseconds")
        .map(|metric| (&*metric.unit, metric.data.as_ref().unwrap()))
        .collect();
    let [("ms", Data::Histogram(classic)), ("ms", Data::ExponentialHistogram(native))] = forms[..] else {
        panic!("{forms:?}")
    };
    assert_eq!((classic.aggregation_temporality, native.aggregation_temporality), (CUMULATIVE, CUMULATIVE));
    let (classic, native) = (&classic.data_points[0], &native.data_points[0]);
    assert_eq!((classic.count, native.count), (8, 8));
    assert_eq!(in_order(&classic.attributes), in_order(&native.attributes));
    assert!((classic.sum.unwrap() - durations.iter().sum::<f64>()).abs() < 1e-6);
    assert!((native.sum.unwrap() - classic.sum.unwrap()).abs() < 1e-6);
    assert_eq!((native.scale, native.zero_count), (3, 0));
    let positive = native.positive.as_ref().unwrap();
    let filled: Vec<_> = (positive.offset..).zip(&positive.bucket_counts).filter(|(_, n)| **n > 0).collect();
    let bucket = |millis: f64| (millis.log2() * 8.0).ceil() as i32 - 1;
    let expected = [(0.04, 1), (0.3, 1), (0.7, 1), (1.2, 1), (2.5, 2), (40.0, 1), (9_000.0, 1)];
    let expected: Vec<_> = expected.iter().map(|(millis, n)| (bucket(*millis), n)).collect();
    assert_eq!(filled, expected);
    // Below 5 ms the classic form tells all of these apart, but for the two of one native bucket.
    let in_classic = classic.bucket_counts.iter().filter(|n| **n > 0).count();
    assert_eq!(in_classic, 7);
}

#[test]
fn all_of_envoys_bounds_are_among_the_durations() {
    use super::super::istio::{DURATION_BOUNDS, SIZE_BOUNDS};
    assert!(SIZE_BOUNDS.iter().all(|bound| DURATION_BOUNDS.contains(bound)));
    for bounds in [&DURATION_BOUNDS[..], &SIZE_BOUNDS[..]] {
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
    }
    let fine = DURATION_BOUNDS.windows(2).filter(|pair| pair[0] >= 0.25 && pair[1] <= 10.0);
    assert!(fine.clone().count() > 8 && fine.clone().all(|pair| pair[1] <= 2.0 * pair[0]));
}

#[test]
fn messages_are_counted_of_grpc_alone() {
    let tap = tap();
    tap.call(&facts(), TOOK);
    tap.collect(START, true);
    assert!(Sent::of(&tap).metrics.iter().all(|metric| !metric.name.contains("messages")));
    let streaming = Facts {
        protocol: Protocol::Grpc,
        grpc_status: Some(0),
        request_messages: Some(Arc::new(AtomicU64::new(2))),
        response_messages: 30,
        ..facts()
    };
    (0..3).for_each(|_| tap.call(&streaming, TOOK));
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    for (name, expected) in [("istio_request_messages_total", 6), ("istio_response_messages_total", 90)] {
        let Data::Sum(sum) = sent.metric(name) else { panic!("{name}") };
        assert!(sum.is_monotonic);
        assert_eq!(sum.data_points.iter().map(count).collect::<Vec<_>>(), [expected], "{name}");
    }
}

#[test]
fn the_build_is_a_gauge() {
    let tap = tap();
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let Data::Gauge(gauge) = sent.metric("istio_build") else { panic!("{:?}", sent.metrics) };
    let [point] = &gauge.data_points[..] else { panic!("{gauge:?}") };
    assert_eq!(count(point), 1);
    assert_eq!(in_order(&point.attributes), format!("component=proxy\ntag={}\n", env!("CARGO_PKG_VERSION")));
}
