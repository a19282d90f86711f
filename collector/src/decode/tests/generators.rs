//! Requests of every shape that the generated OTLP types can express.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weir_model::limits;
use weir_storage::schema::PROMOTED;

use super::NOW;

/// Which doubles to generate: JSON as other programs write it has no NaN and no infinity in most places.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doubles {
    Any,
    Finite,
}

fn double(doubles: Doubles) -> BoxedStrategy<f64> {
    use proptest::num::f64;
    match doubles {
        Doubles::Any => f64::ANY.boxed(),
        Doubles::Finite => {
            let finite = f64::NORMAL | f64::SUBNORMAL | f64::ZERO | f64::NEGATIVE | f64::POSITIVE;
            // OTLP's own types leave a negative zero out of JSON as if it were zero.
            finite.prop_map(|double| if double == 0.0 { 0.0 } else { double }).boxed()
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z./]{1,12}", "\\PC{0,6}", any::<String>()]
}

/// A moment that is not too far ahead.
fn moment() -> impl Strategy<Value = u64> {
    let most = NOW.0 + limits::FUTURE_SKEW.as_nanos() as u64;
    prop_oneof![Just(0), Just(most), 0..=most, NOW.0 - 1_000_000_000..NOW.0]
}

fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), len).prop_map(|mut id| {
        id[0] |= 1;
        id
    })
}

/// An id, none, or one of zeros, which means none.
fn optional_id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![id(len), Just(vec![]), Just(vec![0; len])]
}

fn any_value(doubles: Doubles) -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        text().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|bool| Some(Value::BoolValue(bool))),
        any::<i64>().prop_map(|long| Some(Value::IntValue(long))),
        double(doubles).prop_map(|double| Some(Value::DoubleValue(double))),
        vec(any::<u8>(), 0..9).prop_map(|bytes| Some(Value::BytesValue(bytes))),
        Just(None),
    ];
    let leaf = leaf.prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 12, 3, |inner| {
        // OTLP's own types write an empty value of an entry into JSON as `null`, which is none.
        let some = inner.clone().prop_filter("not empty", |value| value.value.is_some());
        let entry = (text(), option::of(some));
        let entry = entry.prop_map(|(key, value)| KeyValue { key, value, ..KeyValue::default() });
        prop_oneof![
            vec(inner, 0..3).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(entry, 0..3).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

/// Attributes with distinct keys, many of which have a column of their own, of the right type or not.
fn attributes(doubles: Doubles) -> impl Strategy<Value = Vec<KeyValue>> {
    let promoted = (0..PROMOTED.len()).prop_map(|number| PROMOTED[number].key.to_owned());
    let key = prop_oneof![promoted, Just("service.name".to_owned()), text()];
    let pairs = vec((key, option::weighted(0.9, any_value(doubles))), 0..6);
    pairs.prop_map(|pairs| {
        let unique: BTreeMap<_, _> = pairs.into_iter().collect();
        unique.into_iter().map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }).collect()
    })
}

fn resource(doubles: Doubles) -> impl Strategy<Value = Option<Resource>> {
    let resource = (attributes(doubles), any::<u32>()).prop_map(|(attributes, dropped_attributes_count)| {
        Resource { attributes, dropped_attributes_count, ..Resource::default() }
    });
    option::weighted(0.9, resource)
}

fn scope(doubles: Doubles) -> impl Strategy<Value = Option<InstrumentationScope>> {
    let scope = (text(), text(), attributes(doubles), any::<u32>());
    option::weighted(
        0.8,
        scope.prop_map(|(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        }),
    )
}

fn event(doubles: Doubles) -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(doubles), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link(doubles: Doubles) -> impl Strategy<Value = Link> {
    let ids = (optional_id(16), optional_id(8), text());
    (ids, attributes(doubles), any::<u32>(), any::<u32>()).prop_map(
        |((trace_id, span_id, trace_state), attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn span(doubles: Doubles) -> impl Strategy<Value = Span> {
    let status = (text(), any::<i32>()).prop_map(|(message, code)| Status { message, code });
    let kept = (attributes(doubles), vec(event(doubles), 0..3), vec(link(doubles), 0..3));
    (
        (id(16), id(8), optional_id(8), text(), any::<u32>()),
        (text(), any::<i32>(), option::of(status), moment(), moment()),
        kept,
        any::<[u32; 3]>(),
    )
        .prop_map(|(ids, about, (attributes, events, links), dropped)| {
            let (trace_id, span_id, parent_span_id, trace_state, flags) = ids;
            let (name, kind, status, start_time_unix_nano, end_time_unix_nano) = about;
            Span {
                trace_id,
                span_id,
                parent_span_id,
                trace_state,
                flags,
                name,
                kind,
                status,
                start_time_unix_nano,
                end_time_unix_nano,
                attributes,
                events,
                links,
                dropped_attributes_count: dropped[0],
                dropped_events_count: dropped[1],
                dropped_links_count: dropped[2],
            }
        })
}

pub(crate) fn traces_request(doubles: Doubles) -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope_spans = (scope(doubles), vec(span(doubles), 0..3), text())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    let resource_spans = (resource(doubles), vec(scope_spans, 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn log_record(doubles: Doubles) -> impl Strategy<Value = LogRecord> {
    (
        (moment(), moment(), any::<i32>(), text(), text()),
        (option::of(any_value(doubles)), attributes(doubles)),
        (any::<u32>(), any::<u32>(), optional_id(16), optional_id(8)),
    )
        .prop_map(|(about, (body, attributes), (dropped_attributes_count, flags, trace_id, span_id))| {
            let (time_unix_nano, observed_time_unix_nano, severity_number, severity_text, event_name) = about;
            LogRecord {
                time_unix_nano,
                observed_time_unix_nano,
                severity_number,
                severity_text,
                event_name,
                body,
                attributes,
                dropped_attributes_count,
                flags,
                trace_id,
                span_id,
            }
        })
}

pub(crate) fn logs_request(doubles: Doubles) -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope_logs = (scope(doubles), vec(log_record(doubles), 0..4), text())
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url });
    let resource_logs = (resource(doubles), vec(scope_logs, 0..3), text())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url });
    vec(resource_logs, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

fn exemplar(doubles: Doubles) -> impl Strategy<Value = Exemplar> {
    use exemplar::Value;
    let value = prop_oneof![double(doubles).prop_map(Value::AsDouble), any::<i64>().prop_map(Value::AsInt)];
    (attributes(doubles), moment(), optional_id(8), optional_id(16), option::weighted(0.9, value)).prop_map(
        |(filtered_attributes, time_unix_nano, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        },
    )
}

fn number_point(doubles: Doubles) -> impl Strategy<Value = NumberDataPoint> {
    use number_data_point::Value;
    let value = prop_oneof![double(doubles).prop_map(Value::AsDouble), any::<i64>().prop_map(Value::AsInt)];
    (
        (attributes(doubles), any::<u64>(), moment(), 0_u32..4),
        vec(exemplar(doubles), 0..2),
        option::weighted(0.9, value),
    )
        .prop_map(|((attributes, start_time_unix_nano, time_unix_nano, flags), exemplars, value)| {
            NumberDataPoint { attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value }
        })
}

fn histogram_point(doubles: Doubles) -> impl Strategy<Value = HistogramDataPoint> {
    (
        (attributes(doubles), any::<u64>(), moment(), 0_u32..4),
        (any::<u64>(), any::<[bool; 3]>(), [double(doubles), double(doubles), double(doubles)]),
        (vec(any::<u64>(), 0..5), vec(double(doubles), 0..4)),
        vec(exemplar(doubles), 0..3),
    )
        .prop_map(|(key, (count, has, numbers), (bucket_counts, explicit_bounds), exemplars)| {
            let [sum, min, max] = [0, 1, 2].map(|at| has[at].then_some(numbers[at]));
            let (attributes, start_time_unix_nano, time_unix_nano, flags) = key;
            HistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count,
                sum,
                bucket_counts,
                explicit_bounds,
                exemplars,
                flags,
                min,
                max,
            }
        })
}

fn exponential_point(doubles: Doubles) -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let side = || {
        let buckets = (any::<i32>(), vec(any::<u64>(), 0..5));
        option::of(buckets.prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }))
    };
    (
        (attributes(doubles), any::<u64>(), moment(), 0_u32..4),
        (any::<u64>(), option::of(double(doubles)), -12_i32..23, any::<u64>(), double(doubles)),
        (side(), side(), option::of(double(doubles)), option::of(double(doubles))),
        vec(exemplar(doubles), 0..3),
    )
        .prop_map(|(key, about, (positive, negative, min, max), exemplars)| {
            let (count, sum, scale, zero_count, zero_threshold) = about;
            let (attributes, start_time_unix_nano, time_unix_nano, flags) = key;
            ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count,
                sum,
                scale,
                zero_count,
                positive,
                negative,
                flags,
                exemplars,
                min,
                max,
                zero_threshold,
            }
        })
}

fn summary_point(doubles: Doubles) -> impl Strategy<Value = SummaryDataPoint> {
    let quantile = (double(doubles), double(doubles));
    let quantile = quantile.prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (
        (attributes(doubles), any::<u64>(), moment(), 0_u32..4),
        (any::<u64>(), double(doubles), vec(quantile, 0..4)),
    )
        .prop_map(|(key, (count, sum, quantile_values))| {
            let (attributes, start_time_unix_nano, time_unix_nano, flags) = key;
            SummaryDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count,
                sum,
                quantile_values,
                flags,
            }
        })
}

fn metric(doubles: Doubles) -> impl Strategy<Value = Metric> {
    let data = prop_oneof![
        vec(number_point(doubles), 0..3).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (vec(number_point(doubles), 0..3), 0..4, any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic
            })
        ),
        (vec(histogram_point(doubles), 0..3), 0..4).prop_map(|(data_points, aggregation_temporality)| {
            Data::Histogram(Histogram { data_points, aggregation_temporality })
        }),
        (vec(exponential_point(doubles), 0..3), 0..4).prop_map(|(data_points, aggregation_temporality)| {
            Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
        }),
        vec(summary_point(doubles), 0..3).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ];
    let unit = prop_oneof![Just("s".to_owned()), Just("By/s".to_owned()), text()];
    (text(), text(), unit, attributes(doubles), option::weighted(0.95, data)).prop_map(
        |(name, description, unit, metadata, data)| Metric { name, description, unit, metadata, data },
    )
}

pub(crate) fn metrics_request(doubles: Doubles) -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let scope_metrics = (scope(doubles), vec(metric(doubles), 0..3), text())
        .prop_map(|(scope, metrics, schema_url)| ScopeMetrics { scope, metrics, schema_url });
    let resource_metrics = (resource(doubles), vec(scope_metrics, 0..3), text()).prop_map(
        |(resource, scope_metrics, schema_url)| ResourceMetrics { resource, scope_metrics, schema_url },
    );
    vec(resource_metrics, 0..3).prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}
