//! The edge metric: a latency sketch per client, server, endpoint and class, one data point a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::semconv::{EDGE_METRIC, edge};
use weir_model::sketch::SCALE;
use weir_model::{Sketch, UnixNanos, limits};

use super::wire::{Fields, put_varint, zigzag};
use crate::call::{Direction, Facts};
use crate::config::Protocol;

const DELTA: u64 = 1;

/// The labels of one data point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EdgeKey {
    pub(crate) client: Arc<str>,
    pub(crate) server: Arc<str>,
    pub(crate) endpoint: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) class: &'static str,
    pub(crate) direction: Direction,
    pub(crate) probe: bool,
}

impl EdgeKey {
    /// A call that a breaker or a hint refused.
    pub(super) fn refused(facts: &Facts) -> Self {
        Self::without_endpoint(facts, edge::REFUSED)
    }

    /// A call for which there was no endpoint.
    pub(super) fn unsent(facts: &Facts) -> Self {
        Self::without_endpoint(facts, facts.class())
    }

    fn without_endpoint(facts: &Facts, class: &'static str) -> Self {
        Self {
            client: Arc::clone(&facts.client.service),
            server: Arc::clone(&facts.server.service),
            endpoint: "".into(),
            protocol: facts.protocol,
            class,
            direction: facts.direction,
            probe: false,
        }
    }

    fn overflow(&self) -> Self {
        Self { client: "overflow".into(), endpoint: "".into(), ..self.clone() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Edges {
    sketches: HashMap<EdgeKey, Sketch>,
    /// End of the last point, which is the start of the next.
    since: UnixNanos,
}

impl Edges {
    /// Counts a call; true where there was no room for its labels.
    pub(super) fn record(&mut self, key: EdgeKey, took: Duration) -> bool {
        let full = self.sketches.len() >= limits::PROXY_METRIC_SETS && !self.sketches.contains_key(&key);
        let key = if full { key.overflow() } else { key };
        self.sketches.entry(key).or_default().record(took.as_secs_f64());
        full
    }

    /// Takes what was counted as one `Metric` field of a scope, with the number of its points. They
    /// cover the time from the last call to `end`; `None` where nothing was counted.
    pub(super) fn take(&mut self, end: UnixNanos) -> Option<(Vec<u8>, u64)> {
        let second = Duration::from_secs(1);
        let start = if self.since.0 == 0 || self.since >= end { end - second } else { self.since };
        self.since = end;
        if self.sketches.is_empty() {
            return None;
        }
        let points = self.sketches.len() as u64;
        let mut out = Vec::with_capacity(self.sketches.len() * 256);
        out.message(2, |metric| {
            metric.bytes(1, EDGE_METRIC.as_bytes());
            metric.bytes(3, b"s");
            metric.message(10, |histogram| {
                for (key, sketch) in self.sketches.drain() {
                    histogram.message(1, |point| encode(point, &key, &sketch, start, end));
                }
                histogram.varint(2, DELTA);
            });
        });
        Some((out, points))
    }
}

fn encode(point: &mut Vec<u8>, key: &EdgeKey, sketch: &Sketch, start: UnixNanos, end: UnixNanos) {
    let reporter = match key.direction {
        Direction::Outbound => "source",
        Direction::Inbound => "destination",
    };
    for (name, value) in [
        (edge::CLIENT, &*key.client),
        (edge::SERVER, &*key.server),
        (edge::ENDPOINT, &*key.endpoint),
        (edge::PROTOCOL, key.protocol.name()),
        (edge::CLASS, key.class),
        (edge::REPORTER, reporter),
        (edge::PROBE, if key.probe { "true" } else { "false" }),
    ] {
        point.text_attribute(1, name, value);
    }
    point.fixed64(2, start.0);
    point.fixed64(3, end.0);
    point.fixed64(4, sketch.count());
    point.double(5, sketch.sum());
    point.varint(6, zigzag(SCALE));
    point.fixed64(7, sketch.zero_count());
    if let Some((first, _)) = sketch.buckets().next() {
        point.message(8, |buckets| {
            buckets.varint(1, zigzag(first));
            buckets.message(2, |counts| {
                let mut next = first;
                for (index, count) in sketch.buckets() {
                    (next..index).for_each(|_| counts.push(0));
                    put_varint(counts, count);
                    next = index + 1;
                }
            });
        });
    }
}
