//! Every field of every kind of metric can be read back from the rows: the property test that FORMAT.md's
//! section on metrics promises.

use std::collections::HashSet;

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Summary,
    SummaryDataPoint, exemplar,
};
use proptest::prelude::*;

use super::super::read::{Placed, normal};
use super::*;

/// The attribute that tells one point from all others: generated ones may be the same.
const NUMBER: &str = "number";
/// Whole numbers up to this have exact doubles.
const EXACT: u64 = 1 << 53;
const NO_VALUE: u32 = 1;

/// The points of a request, each in a metric of its own, such that nothing is wrong with them.
fn good(request: ExportMetricsServiceRequest) -> Vec<Placed<Metric>> {
    let mut out = vec![];
    for of_resource in request.resource_metrics {
        let mut resource = of_resource.resource.unwrap_or_default();
        resource.attributes = normal(resource.attributes);
        for of_scope in of_resource.scope_metrics {
            let mut scope = of_scope.scope.unwrap_or_default();
            scope.attributes = normal(scope.attributes);
            for metric in of_scope.metrics {
                for record in single(metric) {
                    let number = text(NUMBER, &out.len().to_string());
                    out.push(Placed {
                        resource: resource.clone(),
                        resource_schema_url: of_resource.schema_url.clone(),
                        scope: scope.clone(),
                        scope_schema_url: of_scope.schema_url.clone(),
                        record: corrected(record, number),
                    });
                }
            }
        }
    }
    out
}

/// A metric for each point.
fn single(metric: Metric) -> Vec<Metric> {
    let with = |data| Metric { data: Some(data), ..metric.clone() };
    match metric.data.clone() {
        Some(Data::Gauge(of)) => of.data_points.into_iter().map(|p| with(gauge(vec![p]))).collect(),
        Some(Data::Sum(of)) => {
            let one =
                |p| with(sum(vec![p], of.aggregation_temporality.clamp(DELTA, CUMULATIVE), of.is_monotonic));
            of.data_points.into_iter().map(one).collect()
        }
        Some(Data::Histogram(of)) => {
            let aggregation_temporality = of.aggregation_temporality.clamp(DELTA, CUMULATIVE);
            let one = |p| with(Data::Histogram(Histogram { data_points: vec![p], aggregation_temporality }));
            of.data_points.into_iter().map(one).collect()
        }
        Some(Data::ExponentialHistogram(of)) => {
            let aggregation_temporality = of.aggregation_temporality.clamp(DELTA, CUMULATIVE);
            let one = |p| {
                let data_points = vec![p];
                with(Data::ExponentialHistogram(ExponentialHistogram {
                    data_points,
                    aggregation_temporality,
                }))
            };
            of.data_points.into_iter().map(one).collect()
        }
        Some(Data::Summary(of)) => {
            let one = |p| with(Data::Summary(Summary { data_points: vec![p] }));
            of.data_points.into_iter().map(one).collect()
        }
        None => vec![],
    }
}

/// The metric with what is wrong in it put right, and what is said in two ways said in one.
fn corrected(mut metric: Metric, number: KeyValue) -> Metric {
    metric.name.push('x');
    metric.metadata = normal(metric.metadata);
    let key = |attributes: &mut Vec<KeyValue>, time: &mut u64| {
        attributes.push(number.clone());
        *attributes = normal(std::mem::take(attributes));
        *time = (*time).max(1);
    };
    match metric.data.as_mut().expect("there is a point") {
        Data::Gauge(of) => {
            let point = &mut of.data_points[0];
            key(&mut point.attributes, &mut point.time_unix_nano);
            correct_number(point, false);
        }
        Data::Sum(of) => {
            let point = &mut of.data_points[0];
            key(&mut point.attributes, &mut point.time_unix_nano);
            correct_number(point, of.aggregation_temporality == DELTA);
        }
        Data::Histogram(of) => {
            let point = &mut of.data_points[0];
            key(&mut point.attributes, &mut point.time_unix_nano);
            correct_buckets(point, of.aggregation_temporality == DELTA);
        }
        Data::ExponentialHistogram(of) => {
            let point = &mut of.data_points[0];
            key(&mut point.attributes, &mut point.time_unix_nano);
            point.scale = point.scale.clamp(-10, 20);
            for side in [&mut point.positive, &mut point.negative] {
                let counts = &mut side.get_or_insert_default().bucket_counts;
                counts.iter_mut().for_each(|count| *count >>= 1);
            }
            point.count >>= 1;
            point.zero_count >>= 1;
            if point.flags & NO_VALUE != 0 {
                point.sum = None;
            }
            correct_exemplars(&mut point.exemplars);
        }
        Data::Summary(of) => {
            let point = &mut of.data_points[0];
            key(&mut point.attributes, &mut point.time_unix_nano);
            point.count %= EXACT;
            point.quantile_values.sort_by(|a, b| a.quantile.total_cmp(&b.quantile));
            point.quantile_values.dedup_by(|a, b| a.quantile == b.quantile);
            if point.flags & NO_VALUE != 0 {
                (point.count, point.sum) = (0, 0.0);
                point.quantile_values.clear();
            }
        }
    }
    metric
}

fn correct_number(point: &mut NumberDataPoint, delta: bool) {
    use number_data_point::Value;
    point.value = match point.value {
        _ if point.flags & NO_VALUE != 0 => None,
        None => Some(Value::AsInt(-7)),
        Some(Value::AsInt(long)) if delta => Some(Value::AsInt(long % EXACT as i64)),
        given => given,
    };
    start_of_total(&mut point.start_time_unix_nano, point.time_unix_nano, delta && point.value.is_some());
    correct_exemplars(&mut point.exemplars);
}

/// A running total without a start begins with its first point.
fn start_of_total(start: &mut u64, time: u64, is_total: bool) {
    if is_total && *start == 0 {
        *start = time;
    }
}

fn correct_buckets(point: &mut HistogramDataPoint, delta: bool) {
    point.explicit_bounds.sort_by(f64::total_cmp);
    point.explicit_bounds.dedup();
    point.bucket_counts.resize(point.explicit_bounds.len() + 1, 1);
    point.bucket_counts.iter_mut().for_each(|count| *count %= 1 << 40);
    point.count = point.bucket_counts.iter().sum();
    let ended = point.flags & NO_VALUE != 0;
    if ended {
        (point.count, point.sum) = (0, None);
        point.bucket_counts.clear();
        point.explicit_bounds.clear();
    }
    start_of_total(&mut point.start_time_unix_nano, point.time_unix_nano, delta && !ended);
    correct_exemplars(&mut point.exemplars);
}

fn correct_exemplars(exemplars: &mut [Exemplar]) {
    for exemplar in exemplars.iter_mut() {
        exemplar.filtered_attributes = normal(std::mem::take(&mut exemplar.filtered_attributes));
        exemplar.time_unix_nano = exemplar.time_unix_nano.max(1);
        exemplar.value.get_or_insert(exemplar::Value::AsInt(i64::MAX));
        for id in [&mut exemplar.trace_id, &mut exemplar.span_id] {
            if id.iter().all(|byte| *byte == 0) {
                id.clear();
            }
        }
    }
    in_order(exemplars);
}

fn in_order(exemplars: &mut [Exemplar]) {
    exemplars.sort_by_key(Message::encode_to_vec);
}

/// One request that holds all of these.
fn together(all: &[Placed<Metric>]) -> ExportMetricsServiceRequest {
    let of_resource = |placed: &Placed<Metric>| {
        let scope_metrics = vec![ScopeMetrics {
            scope: Some(placed.scope.clone()),
            metrics: vec![placed.record.clone()],
            schema_url: placed.scope_schema_url.clone(),
        }];
        let schema_url = placed.resource_schema_url.clone();
        ResourceMetrics { resource: Some(placed.resource.clone()), scope_metrics, schema_url }
    };
    ExportMetricsServiceRequest { resource_metrics: all.iter().map(of_resource).collect() }
}

/// The rows that the point with one number became.
struct Rows {
    /// With the name that each adds to the metric's own.
    series: Vec<(String, Row)>,
    samples: Vec<Row>,
    histograms: Vec<Row>,
    exemplars: Vec<Row>,
}

fn label(row: &Row, name: &str) -> Option<String> {
    row.texts("labels").into_iter().find(|(of, _)| of == name).map(|(_, value)| value)
}

impl Rows {
    fn of(decoded: &Decoded, number: usize) -> Self {
        let number = Some(number.to_string());
        let mut series: Vec<Row> = table(decoded, Table::Series);
        series.retain(|row| label(row, NUMBER) == number);
        let ids: HashSet<_> = series.iter().map(|row| row.long("series_id")).collect();
        let of = |name| {
            let mut rows = table(decoded, name);
            rows.retain(|row| ids.contains(&row.long("series_id")));
            rows
        };
        let shortest = series.iter().map(|row| row.text("metric").unwrap()).min_by_key(String::len).unwrap();
        let parts = ["_bucket", "_count", "_sum"];
        let base = parts.iter().find_map(|part| shortest.strip_suffix(part)).unwrap_or(&shortest).to_owned();
        let is_whole = series.len() == 1;
        let part = |row: Row| {
            let name = row.text("metric").unwrap();
            let part = if is_whole { "" } else { name.strip_prefix(&base).unwrap() };
            (part.to_owned(), row)
        };
        Self {
            series: series.into_iter().map(part).collect(),
            samples: of(Table::Samples),
            histograms: of(Table::Histograms),
            exemplars: of(Table::Exemplars),
        }
    }

    /// The row of `series` that says where the point comes from.
    fn sent(&self) -> &Row {
        let sent: Vec<_> = self.series.iter().filter(|(_, row)| row.text("service").is_some()).collect();
        assert_eq!(sent.len(), 1);
        &sent[0].1
    }

    fn sample(&self, of: &Row) -> &Row {
        self.samples.iter().find(|row| row.long("series_id") == of.long("series_id")).expect("there is one")
    }

    /// The values of the series with that part of the name; of those with labels called `extra`, by its value.
    fn values(&self, part: &str, extra: &str) -> Vec<(f64, f64)> {
        let of_part = self.series.iter().filter(|(of, row)| of == part && row.text("service").is_none());
        let value = |(_, row): &(String, Row)| {
            let by = label(row, extra).map_or(f64::NAN, |text| text.parse().unwrap());
            (by, self.sample(row).double("value").unwrap())
        };
        let mut values: Vec<_> = of_part.map(value).collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        values
    }

    fn only(&self, part: &str) -> Option<f64> {
        self.values(part, "none").first().map(|(_, value)| *value)
    }

    fn exemplars(&self) -> Vec<Exemplar> {
        let read = |row: &Row| {
            let double = row.double("value").unwrap();
            let value = row.long("value_long").map_or(exemplar::Value::AsDouble(double), |long| {
                assert_eq!(double, long as f64);
                exemplar::Value::AsInt(long)
            });
            Exemplar {
                filtered_attributes: normal(row.attributes("attributes")),
                time_unix_nano: row.moment("time"),
                span_id: row.bytes("span_id").unwrap_or_default(),
                trace_id: row.bytes("trace_id").unwrap_or_default(),
                value: Some(value),
            }
        };
        let mut all: Vec<_> = self.exemplars.iter().map(read).collect();
        in_order(&mut all);
        all
    }

    /// The metric, with its one point.
    fn metric(&self) -> Placed<Metric> {
        let about = self.sent();
        let temporality = || about.int("temporality");
        let data = match about.text("sent_kind").as_deref() {
            Some("gauge") => gauge(vec![self.number()]),
            Some("sum") => sum(vec![self.number()], temporality(), about.flag("monotonic").unwrap()),
            Some("histogram") => Data::Histogram(Histogram {
                data_points: vec![self.buckets()],
                aggregation_temporality: temporality(),
            }),
            Some("exponential_histogram") => Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![self.exponential()],
                aggregation_temporality: temporality(),
            }),
            Some("summary") => Data::Summary(Summary { data_points: vec![self.summary()] }),
            other => panic!("{other:?}"),
        };
        let metric = Metric {
            name: about.text("sent_name").unwrap(),
            description: about.text("help").unwrap_or_default(),
            unit: about.text("sent_unit").unwrap_or_default(),
            metadata: normal(about.attributes("metadata")),
            data: Some(data),
        };
        about.placed(false, metric)
    }

    /// Those that have no label of their name, and the labels that come from no other.
    fn attributes(&self) -> Vec<KeyValue> {
        let row = self.sent();
        let mut attributes = row.attributes("attributes");
        let elsewhere: HashSet<String> =
            attributes.iter().map(|attribute| as_label(&attribute.key)).collect();
        for (name, value) in row.texts("labels") {
            if !["__name__", "job", "instance"].contains(&name.as_str()) && !elsewhere.contains(&name) {
                attributes.push(text(&name, &value));
            }
        }
        normal(attributes)
    }

    fn number(&self) -> NumberDataPoint {
        use number_data_point::Value;
        let sample = self.sample(self.sent());
        let double = sample.double("value").unwrap();
        let whole = self.sent().flag("whole").unwrap();
        let exact = || rest(sample, "as_int").unwrap_or(double as i64);
        let value = if whole { Value::AsInt(exact()) } else { Value::AsDouble(double) };
        NumberDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: sample.optional_moment("start_time").unwrap_or_default(),
            time_unix_nano: sample.moment("time"),
            exemplars: self.exemplars(),
            flags: flags(sample, double),
            value: (!is_stale(double)).then_some(value),
        }
    }

    fn buckets(&self) -> HistogramDataPoint {
        let sample = self.sample(self.sent());
        let count = sample.double("value").unwrap();
        let mut point = HistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: sample.optional_moment("start_time").unwrap_or_default(),
            time_unix_nano: sample.moment("time"),
            exemplars: self.exemplars(),
            flags: flags(sample, count),
            min: rest(sample, "min"),
            max: rest(sample, "max"),
            ..HistogramDataPoint::default()
        };
        if is_stale(count) {
            return point;
        }
        point.count = count as u64;
        point.sum = self.only("_sum");
        let mut below = 0;
        for (bound, up_to) in self.values("_bucket", "le") {
            point.bucket_counts.push(up_to as u64 - below);
            below = up_to as u64;
            point.explicit_bounds.extend((bound < f64::INFINITY).then_some(bound));
        }
        point
    }

    fn summary(&self) -> SummaryDataPoint {
        let sample = self.sample(self.sent());
        let count = sample.double("value").unwrap();
        let mut point = SummaryDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: sample.optional_moment("start_time").unwrap_or_default(),
            time_unix_nano: sample.moment("time"),
            flags: flags(sample, count),
            ..SummaryDataPoint::default()
        };
        if !is_stale(count) {
            point.count = count as u64;
            point.sum = self.only("_sum").unwrap();
            let quantiles = self.values("", "quantile").into_iter();
            point.quantile_values =
                quantiles.map(|(quantile, value)| ValueAtQuantile { quantile, value }).collect();
        }
        point
    }

    fn exponential(&self) -> ExponentialHistogramDataPoint {
        let row = &self.histograms[0];
        assert_eq!(row.int("temporality"), self.sent().int("temporality"));
        let side = |name: &str| {
            let counts = row.longs(&format!("{name}_counts")).into_iter();
            Some(Buckets {
                offset: row.int(&format!("{name}_offset")),
                bucket_counts: counts.map(|count| count as u64).collect(),
            })
        };
        let count = |name: &str| row.long(name).unwrap() as u64;
        let sum = row.double("sum");
        ExponentialHistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: row.optional_moment("start_time").unwrap_or_default(),
            time_unix_nano: row.moment("time"),
            count: count("count"),
            sum: sum.filter(|sum| !is_stale(*sum)),
            scale: row.int("scale"),
            zero_count: count("zero_count"),
            positive: side("positive"),
            negative: side("negative"),
            flags: flags(row, sum.unwrap_or_default()),
            exemplars: self.exemplars(),
            min: row.double("min"),
            max: row.double("max"),
            zero_threshold: row.double("zero_threshold").unwrap(),
        }
    }
}

/// What the column `point` of a row says.
fn rest<T: std::str::FromStr>(row: &Row, name: &str) -> Option<T> {
    let value = row.texts("point").into_iter().find(|(of, _)| of == name)?.1;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
}

fn is_stale(value: f64) -> bool {
    value.to_bits() == 0x7ff0_0000_0000_0002
}

fn flags(row: &Row, value: f64) -> u32 {
    rest(row, "flags").unwrap_or(if is_stale(value) { NO_VALUE } else { 0 })
}

/// The label that an attribute becomes, as OpenTelemetry's rules have it.
fn as_label(key: &str) -> String {
    let clean: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    match clean.as_bytes() {
        [b'0'..=b'9', ..] => format!("key_{clean}"),
        [b'_', b'_', ..] => clean,
        [b'_', ..] => format!("key{clean}"),
        _ => clean,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_field_of_a_metric_round_trips(request in metrics_request(Doubles::Finite)) {
        let expected = good(request);
        let decoded = Collector::default().take(&together(&expected));
        prop_assert_eq!(decoded.rejected.total(), 0, "{}", decoded.rejected.message());
        prop_assert_eq!(decoded.dropped_exemplars.total(), 0, "{}", decoded.dropped_exemplars.message());
        prop_assert_eq!(decoded.accepted, expected.len() as u64);
        for (number, expected) in expected.iter().enumerate() {
            let found = Rows::of(&decoded, number).metric();
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            prop_assert_eq!(found.bytes(), expected.bytes());
        }
    }
}
