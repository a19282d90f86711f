//! Metrics of the invented shop: one counter, cumulative, with a series per operation and status.

use fastrand::Rng;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, NumberDataPoint};
use prost::Message;
use weir_model::UnixNanos;

use super::batch::{Batch, Groups, RecordId};
use super::wire::{put_bytes, put_fixed64, put_uint};
use super::world::{World, number, text};

/// The name of the counter.
pub(super) const COUNTER: &str = "shop.requests";
/// The statuses that each operation counts apart.
const STATUSES: [i64; 4] = [200, 201, 404, 503];

/// One series and its state.
#[derive(Debug)]
struct Series {
    service: usize,
    /// Its attributes, encoded.
    attributes: Vec<u8>,
    total: f64,
}

/// Makes batches of data points, walking over all series in turn.
#[derive(Debug)]
pub(super) struct Metrics {
    rng: Rng,
    series: Vec<Series>,
    groups: Groups,
    next: usize,
    started: Option<UnixNanos>,
    last: u64,
    point: Vec<u8>,
}

impl Metrics {
    pub(super) fn new(world: World, seed: u64, worker: usize) -> Self {
        let series = (0..world.operations)
            .flat_map(|operation| STATUSES.map(|status| (operation, status)))
            .map(|(operation, status)| Series::new(&world, operation, status))
            .collect();
        Self {
            rng: super::rng(seed, worker),
            series,
            groups: Groups::new(&world, worker),
            next: 0,
            started: None,
            last: 0,
            point: Vec::new(),
        }
    }

    /// `count` data points. No two share a time, so that a series may come twice in one batch.
    pub(super) fn batch(&mut self, count: usize, now: UnixNanos) -> Batch {
        let started = *self.started.get_or_insert(now);
        self.last = self.last.max(now.0);
        let ids = (0..count).map(|_| self.push(started)).collect();
        let body = self.groups.take(wrap);
        Batch { body, records: count as u64, ids }
    }

    fn push(&mut self, started: UnixNanos) -> RecordId {
        let index = self.next;
        self.next = (self.next + 1) % self.series.len();
        self.last += 1;
        let series = &mut self.series[index];
        series.total += f64::from(self.rng.u32(..20));

        let point = &mut self.point;
        point.clear();
        put_fixed64(point, 2, started.0);
        put_fixed64(point, 3, self.last);
        put_fixed64(point, 4, series.total.to_bits());
        point.extend_from_slice(&series.attributes);
        put_bytes(self.groups.records_of(series.service), 1, point);
        RecordId::Sample { series: index as u64, time: self.last }
    }
}

impl Series {
    fn new(world: &World, operation: usize, status: i64) -> Self {
        let (method, route) = world.route(operation);
        let attributes = vec![
            text("http.request.method", method),
            text("http.route", &route),
            number("http.response.status_code", status),
        ];
        let point = NumberDataPoint { attributes, ..NumberDataPoint::default() };
        Self { service: world.service_of(operation), attributes: point.encode_to_vec(), total: 0.0 }
    }
}

/// Data points → `Sum` → `Metric` → the scope's field.
fn wrap(scope: &mut Vec<u8>, points: &[u8]) {
    let mut sum = points.to_vec();
    put_uint(&mut sum, 2, AggregationTemporality::Cumulative as u64);
    put_uint(&mut sum, 3, 1);
    let mut metric = Vec::with_capacity(sum.len() + 64);
    put_bytes(&mut metric, 1, COUNTER.as_bytes());
    put_bytes(&mut metric, 2, b"Requests that were answered");
    put_bytes(&mut metric, 3, b"{request}");
    put_bytes(&mut metric, 7, &sum);
    put_bytes(scope, 2, &metric);
}
