//! Metrics: the series and values that PromQL should find for what OTLP says.

mod exemplars;
mod points;
mod round_trip;
mod series;

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::read::{Row, key_value, rows};
use super::*;

const SECOND: u64 = 1_000_000_000;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// A collector's memory of series, from request to request.
#[derive(Default)]
struct Collector {
    deltas: DeltaState,
    naming: Otlp,
}

impl Collector {
    fn take(&self, request: &ExportMetricsServiceRequest) -> Decoded {
        let known = |_: SeriesId, _: &Labels, _: i32| Known::New;
        let series = Series { known: &known, deltas: &self.deltas, naming: &self.naming };
        decode(Signal::Metrics, &request.encode_to_vec(), NOW, &series).expect("the message is well-formed")
    }
}

fn request(resource: Vec<KeyValue>, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, schema_url: String::new() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn text(key: &str, value: &str) -> KeyValue {
    key_value(key.to_owned(), Value::StringValue(value.to_owned()))
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Metric::default() }
}

/// A point at `second`.
fn point(second: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: second * SECOND,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn gauge(data_points: Vec<NumberDataPoint>) -> Data {
    Data::Gauge(Gauge { data_points })
}

fn sum(data_points: Vec<NumberDataPoint>, aggregation_temporality: i32, is_monotonic: bool) -> Data {
    Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
}

fn table(decoded: &Decoded, table: Table) -> Vec<Row> {
    decoded.parts.iter().filter(|(of, _)| *of == table).flat_map(|(_, batch)| rows(batch)).collect()
}

/// `name{label="value",…}` of each series, by id.
fn names(decoded: &Decoded) -> HashMap<i64, String> {
    let name = |row: Row| {
        let labels = row.texts("labels");
        let shown: Vec<_> =
            labels.iter().filter(|(name, _)| name != "__name__").map(|(n, v)| format!("{n}={v:?}")).collect();
        let metric = row.text("metric").expect("never null");
        assert!(labels.contains(&("__name__".into(), metric.clone())), "{labels:?}");
        (row.long("series_id").expect("never null"), format!("{metric}{{{}}}", shown.join(",")))
    };
    table(decoded, Table::Series).into_iter().map(name).collect()
}

/// `name{labels} value @seconds`, with ` from seconds` where there is a start, sorted.
fn samples(decoded: &Decoded) -> Vec<String> {
    let names = names(decoded);
    let show = |row: Row| {
        let name = &names[&row.long("series_id").expect("never null")];
        assert!(name.starts_with(&row.text("metric").expect("never null")));
        let value = row.double("value").expect("never null");
        let value = if value.to_bits() == 0x7ff0_0000_0000_0002 { "stale".into() } else { value.to_string() };
        let start = row.micros("start_time").map(|micros| format!(" from {}", micros as f64 / 1e6));
        format!("{name} {value} @{}{}", row.moment("time") as f64 / 1e9, start.unwrap_or_default())
    };
    let mut shown: Vec<_> = table(decoded, Table::Samples).into_iter().map(show).collect();
    shown.sort();
    shown
}

/// The samples of a request that nothing is wrong with.
fn samples_of(request: &ExportMetricsServiceRequest) -> Vec<String> {
    let decoded = Collector::default().take(request);
    assert_eq!(decoded.rejected.total(), 0, "{}", decoded.rejected.message());
    samples(&decoded)
}
