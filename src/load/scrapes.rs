//! Scrapes of a mesh's standard metrics: each batch is what one proxy's metrics endpoint said at one moment of the
//! hours before now, every fifteen seconds, so that hours of history come as fast as they are acknowledged.
//!
//! Rates of calls lie between one in a hundred seconds and a hundred a second, evenly on a logarithmic scale: as in
//! a real mesh most counters stand still most of the time. Counts are drawn from Poisson distributions.

use std::f64::consts::TAU;
use std::time::Duration;

use fastrand::Rng;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use prost::Message;
use weir_model::UnixNanos;

use super::batch::{Batch, RecordId};
use super::spans::latency_nanos;
use super::world::{World, text};

/// Time between two scrapes of a target, Prometheus' usual one.
const STEP: Duration = Duration::from_secs(15);
/// Destinations that a target calls.
const DESTINATIONS: usize = 4;
/// Response codes, each with its share of the calls.
const CODES: [(&str, f64); 3] = [("200", 0.99), ("404", 0.009), ("503", 0.001)];
/// Upper bounds of the latency buckets, in milliseconds; Istio's, finer below five. The last one is infinite.
const BOUNDS: [f64; 20] = [
    0.5,
    1.0,
    2.0,
    3.0,
    4.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1e3,
    2.5e3,
    5e3,
    1e4,
    3e4,
    6e4,
    3e5,
    f64::INFINITY,
];

/// Metrics that a target has, each with whether it is a counter.
const METRICS: [(&str, bool); 9] = [
    ("istio_requests_total", true),
    ("istio_request_duration_milliseconds_bucket", true),
    ("istio_request_duration_milliseconds_sum", true),
    ("istio_request_duration_milliseconds_count", true),
    ("istio_request_bytes_sum", true),
    ("istio_response_bytes_sum", true),
    ("process_cpu_seconds_total", true),
    ("process_resident_memory_bytes", false),
    ("process_open_fds", false),
];

/// Makes batches of scrapes, target by target and step by step.
#[derive(Debug)]
pub(super) struct Scrapes {
    rng: Rng,
    history: Duration,
    targets: Vec<Target>,
    next: usize,
    /// When the first scrape was, and which one is under way.
    began: Option<UnixNanos>,
    step: u32,
}

/// A proxy whose metrics are scraped.
#[derive(Debug)]
struct Target {
    resource: opentelemetry_proto::tonic::resource::v1::Resource,
    calls: Vec<Calls>,
    cpu_seconds: f64,
    memory_pages: i64,
}

/// What a target has counted of its calls to one destination.
#[derive(Debug)]
struct Calls {
    labels: Vec<KeyValue>,
    per_second: f64,
    by_code: [i64; CODES.len()],
    by_bucket: [i64; BOUNDS.len()],
    millis: i64,
    request_bytes: i64,
    response_bytes: i64,
}

impl Scrapes {
    pub(super) fn new(world: World, seed: u64, worker: usize, history: Duration) -> Self {
        let mut rng = super::rng(seed, worker);
        let targets = (0..world.services).map(|index| Target::new(&world, index, worker, &mut rng)).collect();
        Self { rng, history, targets, next: 0, began: None, step: 0 }
    }

    /// The next target's scrape; nothing in it where the history has reached `now`.
    pub(super) fn batch(&mut self, now: UnixNanos) -> Batch {
        let began = *self.began.get_or_insert(now - self.history);
        let time = began + STEP * self.step;
        if time >= began + self.history {
            return Batch { body: bytes::Bytes::new(), records: 0, ids: Vec::new() };
        }
        let hours = (STEP * self.step).as_secs_f64() / 3600.0;
        let target = &mut self.targets[self.next];
        target.go_on(&mut self.rng, 1.0 + 0.3 * (hours * TAU).sin());
        let metrics = target.metrics(began, time);
        let records = metrics.iter().map(points).sum::<usize>() as u64;
        let first = self.next as u64 * records;
        let ids = (first..first + records).map(|series| RecordId::Sample { series, time: time.0 }).collect();
        let scopes = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource = ResourceMetrics {
            resource: Some(target.resource.clone()),
            scope_metrics: scopes,
            ..ResourceMetrics::default()
        };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![resource] };
        self.next += 1;
        if self.next == self.targets.len() {
            (self.next, self.step) = (0, self.step + 1);
        }
        Batch { body: request.encode_to_vec().into(), records, ids }
    }
}

impl Target {
    fn new(world: &World, index: usize, worker: usize, rng: &mut Rng) -> Self {
        let calls = (1..=DESTINATIONS)
            .map(|hop| Calls::new(&world.service(index), &world.service((index + hop) % world.services), rng))
            .collect();
        let memory_pages = 10_000 + rng.i64(0..2_000);
        Self { resource: world.resource(index, worker), calls, cpu_seconds: 0.0, memory_pages }
    }

    /// One step later, `busy` times as busy as usual.
    fn go_on(&mut self, rng: &mut Rng, busy: f64) {
        for calls in &mut self.calls {
            let made = calls.go_on(rng, busy);
            self.cpu_seconds += made as f64 * 1e-4;
        }
        self.cpu_seconds = ((self.cpu_seconds + 0.01) * 100.0).round() / 100.0; // in ticks
        if rng.u8(..4) == 0 {
            self.memory_pages += rng.i64(-40..=40);
        }
    }

    fn metrics(&self, began: UnixNanos, time: UnixNanos) -> Vec<Metric> {
        let mut points: [Vec<NumberDataPoint>; METRICS.len()] = Default::default();
        let point = |attributes: Vec<KeyValue>, value| NumberDataPoint {
            attributes,
            start_time_unix_nano: began.0,
            time_unix_nano: time.0,
            value: Some(value),
            ..NumberDataPoint::default()
        };
        for calls in &self.calls {
            let with = |name: &str, value: &str| [&calls.labels[..], &[text(name, value)]].concat();
            for ((code, _), count) in CODES.iter().zip(calls.by_code) {
                points[0].push(point(with("response_code", code), Value::AsInt(count)));
            }
            let mut below = 0;
            for (bound, count) in BOUNDS.iter().zip(calls.by_bucket) {
                below += count;
                let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                points[1].push(point(with("le", &bound), Value::AsInt(below)));
            }
            let sums = [calls.millis, below, calls.request_bytes, calls.response_bytes];
            for (points, sum) in points[2..6].iter_mut().zip(sums) {
                points.push(point(calls.labels.clone(), Value::AsInt(sum)));
            }
        }
        points[6].push(point(Vec::new(), Value::AsDouble(self.cpu_seconds)));
        points[7].push(point(Vec::new(), Value::AsInt(self.memory_pages * 4096)));
        points[8].push(point(Vec::new(), Value::AsInt(24 + self.memory_pages % 5)));
        METRICS
            .iter()
            .zip(points)
            .map(|((name, is_counter), data_points)| {
                let data = if *is_counter {
                    let aggregation_temporality = AggregationTemporality::Cumulative.into();
                    Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
                } else {
                    Data::Gauge(Gauge { data_points })
                };
                Metric { name: (*name).to_owned(), data: Some(data), ..Metric::default() }
            })
            .collect()
    }
}

impl Calls {
    fn new(client: &str, server: &str, rng: &mut Rng) -> Self {
        let labels = vec![
            text("reporter", "source"),
            text("source_workload", client),
            text("source_workload_namespace", "shop"),
            text("destination_service", &format!("{server}.shop.svc.cluster.local")),
            text("destination_workload", server),
            text("request_protocol", "http"),
            text("connection_security_policy", "mutual_tls"),
        ];
        Self {
            labels,
            per_second: 10f64.powf(rng.f64() * 4.0 - 2.0),
            by_code: [0; CODES.len()],
            by_bucket: [0; BOUNDS.len()],
            millis: 0,
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    /// Counts the calls of one step and says how many there were.
    fn go_on(&mut self, rng: &mut Rng, busy: f64) -> i64 {
        let expected = self.per_second * STEP.as_secs_f64() * busy;
        let mut made = 0;
        for ((_, share), count) in CODES.iter().zip(&mut self.by_code) {
            let drawn = poisson(rng, expected * share);
            *count += drawn;
            made += drawn;
        }
        for _ in 0..made {
            let millis = latency_nanos(rng) as f64 / 1e6;
            let bucket = BOUNDS.iter().position(|bound| millis <= *bound).unwrap_or(BOUNDS.len() - 1);
            self.by_bucket[bucket] += 1;
            self.millis += millis.round() as i64;
            self.request_bytes += 300 + rng.i64(0..200);
            self.response_bytes += 1_000 + rng.i64(0..4_000);
        }
        made
    }
}

fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        _ => 0,
    }
}

/// A number of independent events of which `expected` are expected (Knuth's method; beyond a few dozen, a normal
/// distribution in its place).
fn poisson(rng: &mut Rng, expected: f64) -> i64 {
    if expected > 30.0 {
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        return (expected + expected.sqrt() * normal).round().max(0.0) as i64;
    }
    let limit = (-expected).exp();
    let mut product = rng.f64();
    let mut count = 0;
    while product > limit {
        product *= rng.f64();
        count += 1;
    }
    count
}
