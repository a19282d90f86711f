//! The generator makes valid OTLP, the same for a seed, and the ledger holds what was acknowledged.

use std::collections::HashSet;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use weir_model::UnixNanos;

use super::batch::RecordId;
use super::logs::Logs;
use super::metrics::{COUNTER, Metrics};
use super::scrapes::Scrapes;
use super::spans::Spans;
use super::world::World;

const WORLD: World = World { services: 20, operations: 200, users: 100_000, attributes: 11 };
const NOW: UnixNanos = UnixNanos(1_790_000_000_000_000_000);

fn spans_of(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let groups = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    groups.flat_map(|scope| scope.spans).collect()
}

#[test]
fn a_seed_makes_the_same_batches_and_another_seed_or_worker_others() {
    let first = |seed, worker| Spans::new(WORLD, seed, worker).batch(300, NOW).body;
    assert_eq!(first(7, 0), first(7, 0));
    assert_ne!(first(7, 0), first(8, 0));
    assert_ne!(first(7, 0), first(7, 1));
    let logs = |seed| Logs::new(WORLD, seed, 0).batch(300, NOW).body;
    assert_eq!(logs(7), logs(7));
    let metrics = |seed| Metrics::new(WORLD, seed, 0).batch(300, NOW).body;
    assert_eq!(metrics(7), metrics(7));
}

#[test]
fn spans_decode_with_their_ids_parents_and_attributes() {
    let mut generator = Spans::new(WORLD, 1, 0);
    let batch = generator.batch(2_000, NOW);
    let spans = spans_of(&batch.body);
    assert_eq!(batch.records, 2_000);
    let ids: HashSet<RecordId> = batch.ids.iter().copied().collect();
    assert_eq!(ids.len(), 2_000);
    let known: HashSet<(&[u8], &[u8])> = spans.iter().map(|s| (&s.trace_id[..], &s.span_id[..])).collect();
    let mut roots = 0;
    for span in &spans {
        let trace = weir_model::TraceId::from_slice(&span.trace_id).unwrap();
        let id = weir_model::SpanId::from_slice(&span.span_id).unwrap();
        assert!(ids.contains(&RecordId::Span(trace, id)));
        assert_eq!(span.attributes.len(), 11);
        assert!(span.start_time_unix_nano < span.end_time_unix_nano && span.end_time_unix_nano <= NOW.0);
        assert!(!span.name.is_empty() && span.kind > 1);
        if span.parent_span_id.is_empty() {
            roots += 1;
        } else {
            assert!(known.contains(&(&span.trace_id[..], &span.parent_span_id[..])));
        }
    }
    assert!((100..400).contains(&roots), "{roots} traces");
    let size = batch.body.len() / spans.len();
    assert!((540..=600).contains(&size), "{size} bytes a span");
    let next = generator.batch(100, NOW);
    assert!(next.ids.iter().all(|id| !ids.contains(id)));
}

#[test]
fn services_operations_users_and_attributes_have_their_cardinality() {
    let world = World { services: 3, operations: 9, users: 2, attributes: 40 };
    let body = Spans::new(world, 1, 0).batch(2_000, NOW).body;
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    assert_eq!(request.resource_spans.len(), 3);
    let spans = spans_of(&body);
    assert!(spans.iter().all(|span| span.attributes.len() == 40));
    let distinct = |key: &str| {
        let of = |span: &Span| span.attributes.iter().find(|a| a.key == key).map(|a| a.value.clone());
        spans.iter().map(|span| format!("{:?}", of(span))).collect::<HashSet<_>>().len()
    };
    assert_eq!(distinct("enduser.id"), 2);
    assert_eq!(distinct("server.address"), 3);
    let none = World { attributes: 0, ..world };
    let bare = Spans::new(none, 1, 0).batch(10, NOW).body;
    assert!(spans_of(&bare).iter().all(|span| span.attributes.is_empty()));
}

#[test]
fn logs_decode_with_ids_severity_and_body() {
    let batch = Logs::new(WORLD, 1, 0).batch(500, NOW);
    let request = ExportLogsServiceRequest::decode(&batch.body[..]).unwrap();
    let records: Vec<_> =
        request.resource_logs.iter().flat_map(|r| &r.scope_logs).flat_map(|s| &s.log_records).collect();
    assert_eq!(records.len(), 500);
    for record in records {
        let trace = weir_model::TraceId::from_slice(&record.trace_id).unwrap();
        let span = weir_model::SpanId::from_slice(&record.span_id).unwrap();
        assert!(batch.ids.contains(&RecordId::Span(trace, span)));
        assert!(record.body.is_some() && record.severity_number > 0);
        assert_eq!(record.observed_time_unix_nano, NOW.0);
        assert_eq!(record.attributes.len(), 11);
    }
}

#[test]
fn metrics_are_one_growing_counter_without_two_samples_of_one_time() {
    let world = World { services: 2, operations: 4, users: 1, attributes: 11 };
    let mut generator = Metrics::new(world, 1, 0);
    let mut last = std::collections::HashMap::new();
    for round in 0..3 {
        let batch = generator.batch(100, NOW);
        let request = ExportMetricsServiceRequest::decode(&batch.body[..]).unwrap();
        for resource in &request.resource_metrics {
            let service = format!("{:?}", resource.resource);
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                assert_eq!(metric.name, COUNTER);
                let Some(Data::Sum(sum)) = &metric.data else { panic!("no sum: {metric:?}") };
                assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                for point in &sum.data_points {
                    let key = format!("{service} {:?}", point.attributes);
                    let value = format!("{:?}", point.value);
                    let before = last.insert(key, (point.time_unix_nano, value));
                    assert!(before.is_none_or(|(time, _)| time < point.time_unix_nano));
                }
            }
        }
        assert_eq!(batch.ids.len(), 100, "round {round}");
    }
    assert_eq!(last.len(), 16);
}

#[test]
fn scrapes_are_every_series_of_every_target_every_fifteen_seconds() {
    let world = World { services: 5, operations: 5, users: 1, attributes: 11 };
    let mut generator = Scrapes::new(world, 1, 0, std::time::Duration::from_secs(150));
    let mut last: std::collections::HashMap<String, (u64, f64)> = std::collections::HashMap::new();
    let (mut scrapes, mut grown) = (0, 0);
    loop {
        let batch = generator.batch(NOW);
        if batch.records == 0 {
            break;
        }
        scrapes += 1;
        let request = ExportMetricsServiceRequest::decode(&batch.body[..]).unwrap();
        let resource = &request.resource_metrics[0];
        let mut points = 0;
        for metric in &resource.scope_metrics[0].metrics {
            let (of_metric, is_counter) = match &metric.data {
                Some(Data::Sum(sum)) => (&sum.data_points, true),
                Some(Data::Gauge(gauge)) => (&gauge.data_points, false),
                other => panic!("{other:?}"),
            };
            for point in of_metric {
                points += 1;
                let key = format!("{:?} {} {:?}", resource.resource, metric.name, point.attributes);
                let value = match point.value {
                    Some(Value::AsInt(value)) => value as f64,
                    Some(Value::AsDouble(value)) => value,
                    None => panic!("no value"),
                };
                let time = point.time_unix_nano;
                if let Some((before, was)) = last.insert(key, (time, value)) {
                    assert_eq!(time - before, 15_000_000_000);
                    assert!(value >= was || !is_counter, "{}: {was}, then {value}", metric.name);
                    grown += usize::from(value > was);
                }
            }
        }
        assert_eq!((points, batch.ids.len() as u64), (batch.records, batch.records));
    }
    assert_eq!((scrapes, last.len()), (50, 5 * 111));
    assert!((500..4_000).contains(&grown), "{grown} of {} samples grew", 9 * last.len());
}

#[test]
fn a_rate_is_cut_into_batches_that_do_not_wait() {
    use super::worker::pace;
    use std::time::Duration;
    assert_eq!(pace(0, 4, 512), (512, None));
    assert_eq!(pace(100, 1, 512), (10, Some(Duration::from_millis(100))));
    assert_eq!(pace(100_000, 1, 512), (512, Some(Duration::from_secs_f64(0.00512))));
    let (batch, every) = pace(1, 4, 512);
    assert_eq!((batch, every), (1, Some(Duration::from_secs(4))));
}

mod against_a_receiver;
