//! The edge metric: a latency histogram per client, server, endpoint and class, one data point a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::semconv::{EDGE_METRIC, edge};
use weir_model::{UnixNanos, limits};

use super::buckets::Seconds;
use super::shard::{Hashing, packed};
use super::wire::Fields;
use crate::call::{Direction, Facts, Party, Security, Speaks};

const DELTA: u64 = 1;

/// What one data point is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeKey<'a> {
    pub(crate) client: &'a Arc<Party>,
    /// Its instance is the endpoint, empty where none was chosen.
    pub(crate) server: &'a Arc<Party>,
    pub(crate) speaks: Speaks,
    pub(crate) class: &'static str,
    pub(crate) direction: Direction,
    pub(crate) probe: bool,
}

impl<'a> EdgeKey<'a> {
    /// A call that ended before it had an endpoint.
    pub(super) fn of(facts: &'a Facts, class: &'static str) -> Self {
        Self {
            client: &facts.client,
            server: &facts.server,
            speaks: facts.protocol.into(),
            class,
            direction: facts.direction,
            probe: false,
        }
    }

    fn handle(&self) -> Handle {
        let class = match self.class {
            edge::OK => 0,
            edge::CLIENT_ERROR => 1,
            edge::ERROR => 2,
            _ => 3,
        };
        let how = packed(self.direction, self.speaks, Security::None);
        Handle {
            client: Arc::as_ptr(self.client).addr(),
            server: Arc::as_ptr(self.server).addr(),
            rest: how | class << 8 | u64::from(self.probe) << 16,
        }
    }

    fn labels(&self) -> Labels {
        Labels {
            client: Arc::clone(&self.client.service),
            server: Arc::clone(&self.server.service),
            endpoint: Arc::clone(&self.server.instance),
            speaks: self.speaks,
            class: self.class,
            direction: self.direction,
            probe: self.probe,
        }
    }
}

/// As [`super::shard::Handle`]: the parties by their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Handle {
    client: usize,
    server: usize,
    rest: u64,
}

/// The labels of one data point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels {
    client: Arc<str>,
    server: Arc<str>,
    endpoint: Arc<str>,
    speaks: Speaks,
    class: &'static str,
    direction: Direction,
    probe: bool,
}

impl Labels {
    fn overflow(&self) -> Self {
        Self { client: "overflow".into(), server: "overflow".into(), endpoint: "".into(), ..self.clone() }
    }
}

/// What was counted since it was last taken, of at most [`limits::PROXY_METRIC_SETS`] label sets and those
/// for the rest.
#[derive(Debug, Default)]
pub(super) struct Edges {
    known: HashMap<Handle, Known, Hashing>,
    places: HashMap<Labels, usize>,
    points: Vec<(Labels, Seconds)>,
}

#[derive(Debug)]
struct Known {
    index: usize,
    folded: bool,
    _parties: [Arc<Party>; 2],
}

impl Edges {
    /// Counts a call; true where there was no room for its labels.
    pub(super) fn record(&mut self, key: EdgeKey<'_>, took: Duration) -> bool {
        let handle = key.handle();
        let (index, folded) = match self.known.get(&handle) {
            Some(known) => (known.index, known.folded),
            None => {
                let (index, folded) = self.place(key.labels());
                if self.known.len() >= limits::PROXY_METRIC_HANDLES {
                    self.known.clear();
                }
                let parties = [Arc::clone(key.client), Arc::clone(key.server)];
                self.known.insert(handle, Known { index, folded, _parties: parties });
                (index, folded)
            }
        };
        self.points[index].1.record(took.as_secs_f64());
        folded
    }

    fn place(&mut self, labels: Labels) -> (usize, bool) {
        if let Some(index) = self.places.get(&labels) {
            return (*index, false);
        }
        let folded = self.points.len() >= limits::PROXY_METRIC_SETS;
        let labels = if folded { labels.overflow() } else { labels };
        let next = self.points.len();
        let index = *self.places.entry(labels.clone()).or_insert(next);
        if index == next {
            self.points.push((labels, Seconds::default()));
        }
        (index, folded)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Adds what others counted; returns of how many calls there was no room for the labels.
    pub(super) fn merge(&mut self, others: Self) -> u64 {
        let mut without_room = 0;
        for (labels, seconds) in others.points {
            let (index, folded) = self.place(labels);
            self.points[index].1.merge(&seconds);
            without_room += if folded { seconds.count() } else { 0 };
        }
        without_room
    }

    /// What was counted from `start` to `end` as one `Metric` field of a scope, with the number of its
    /// points; `None` where nothing was.
    pub(super) fn encode(&self, start: UnixNanos, end: UnixNanos) -> Option<(Vec<u8>, u64)> {
        if self.points.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(64 + self.points.len() * 256);
        out.message(2, |metric| {
            metric.bytes(1, EDGE_METRIC.as_bytes());
            metric.bytes(3, b"s");
            metric.message(10, |histogram| {
                for (labels, seconds) in &self.points {
                    histogram.message(1, |point| encode(point, labels, seconds, start, end));
                }
                histogram.varint(2, DELTA);
            });
        });
        Some((out, self.points.len() as u64))
    }
}

fn encode(point: &mut Vec<u8>, labels: &Labels, seconds: &Seconds, start: UnixNanos, end: UnixNanos) {
    for (name, value) in [
        (edge::CLIENT, &*labels.client),
        (edge::SERVER, &*labels.server),
        (edge::ENDPOINT, &*labels.endpoint),
        (edge::PROTOCOL, labels.speaks.name()),
        (edge::CLASS, labels.class),
        (edge::REPORTER, labels.direction.reporter()),
        (edge::PROBE, if labels.probe { "true" } else { "false" }),
    ] {
        point.text_attribute(1, name, value);
    }
    point.fixed64(2, start.0);
    point.fixed64(3, end.0);
    seconds.encode(point);
}
