//! Istio's standard metrics with their full label set, cumulative since the proxy started.
//!
//! Names and labels: Envoy's `istio_stats`; label order as Istio documents it. Bounds: Envoy's default
//! histogram buckets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{UnixNanos, limits};

use super::wire::Fields;
use crate::call::{Direction, Facts, Party};
use crate::config::Protocol;

const CUMULATIVE: u64 = 2;
const BOUNDS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6,
    3.6e6,
];
const UNKNOWN: &str = "unknown";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    direction: Direction,
    peer_service: Arc<str>,
    peer_version: Arc<str>,
    protocol: Protocol,
    status: u16,
    grpc_status: Option<u16>,
    flags: &'static str,
}

#[derive(Debug, Clone, Default)]
struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

#[derive(Debug, Default)]
struct Set {
    duration_ms: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    requests: u64,
}

/// A metric as a Prometheus page shows it: name, labels, value.
pub(crate) type Row = (&'static str, String, f64);

#[derive(Debug, Default)]
pub(super) struct Sets(HashMap<Key, Set>);

impl Histogram {
    fn record(&mut self, value: f64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn encode(&self, point: &mut Vec<u8>) {
        point.fixed64(4, self.count());
        point.double(5, self.sum);
        point
            .message(6, |packed| self.counts.iter().for_each(|n| packed.extend_from_slice(&n.to_le_bytes())));
        point.message(7, |packed| BOUNDS.iter().for_each(|b| packed.extend_from_slice(&b.to_le_bytes())));
    }
}

impl Sets {
    /// Counts a call; true where there was no room for its labels.
    pub(super) fn record(&mut self, _own: &Party, facts: &Facts, took: Duration) -> bool {
        let peer = match facts.direction {
            Direction::Inbound => &facts.client,
            Direction::Outbound => &facts.server,
        };
        let mut key = Key {
            direction: facts.direction,
            peer_service: Arc::clone(&peer.service),
            peer_version: Arc::clone(&peer.version),
            protocol: facts.protocol,
            status: facts.status,
            grpc_status: facts.grpc_status.map(|code| code.min(17)),
            flags: facts.flags,
        };
        let full = self.0.len() >= limits::PROXY_METRIC_SETS && !self.0.contains_key(&key);
        if full {
            key.peer_service = "overflow".into();
            key.peer_version = "".into();
        }
        let set = self.0.entry(key).or_default();
        set.requests += 1;
        set.duration_ms.record(took.as_secs_f64() * 1e3);
        set.request_bytes.record(facts.request_bytes() as f64);
        set.response_bytes.record(facts.response_bytes as f64);
        full
    }

    /// All metrics as `Metric` fields of a scope, with the number of points.
    pub(super) fn encode(&self, own: &Party, start: UnixNanos, now: UnixNanos) -> Option<(Vec<u8>, u64)> {
        if self.0.is_empty() {
            return None;
        }
        let sets: Vec<_> = self.0.iter().map(|(key, set)| (labels(own, key), set)).collect();
        let mut out = Vec::with_capacity(sets.len() * 6_000);
        out.message(2, |metric| {
            metric.bytes(1, b"istio_requests_total");
            metric.message(7, |sum| {
                for (labels, set) in &sets {
                    sum.message(1, |point| {
                        point.fixed64(2, start.0);
                        point.fixed64(3, now.0);
                        point.fixed64(6, set.requests);
                        labels.iter().for_each(|(name, value)| point.text_attribute(7, name, value));
                    });
                }
                sum.varint(2, CUMULATIVE);
                sum.varint(3, 1);
            });
        });
        for (name, unit, of) in HISTOGRAMS {
            out.message(2, |metric| {
                metric.bytes(1, name.as_bytes());
                metric.bytes(3, unit.as_bytes());
                metric.message(9, |histogram| {
                    for (labels, set) in &sets {
                        histogram.message(1, |point| {
                            point.fixed64(2, start.0);
                            point.fixed64(3, now.0);
                            of(set).encode(point);
                            labels.iter().for_each(|(name, value)| point.text_attribute(9, name, value));
                        });
                    }
                    histogram.varint(2, CUMULATIVE);
                });
            });
        }
        Some((out, 4 * sets.len() as u64))
    }

    /// All metrics as rows of a Prometheus page, those of one metric after another.
    pub(super) fn rows(&self, own: &Party) -> Vec<Row> {
        let shown = |(name, value): &(&str, String)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        };
        let text = |key| labels(own, key).iter().map(shown).collect::<Vec<_>>().join(",");
        let sets: Vec<_> = self.0.iter().map(|(key, set)| (text(key), set)).collect();
        let counts =
            sets.iter().map(|(labels, set)| ("istio_requests_total", labels.clone(), set.requests as f64));
        let mut rows: Vec<Row> = counts.collect();
        for (name, _, of) in HISTOGRAMS {
            let Some([bucket, sum, count]) = ROW_NAMES.iter().find(|names| names[0].starts_with(name)) else {
                continue;
            };
            for (labels, set) in &sets {
                let histogram = of(set);
                let mut total = 0;
                for (i, n) in histogram.counts.iter().enumerate() {
                    total += n;
                    let bound = BOUNDS.get(i).map_or("+Inf".to_owned(), f64::to_string);
                    rows.push((bucket, format!("{labels},le=\"{bound}\""), total as f64));
                }
                rows.push((sum, labels.clone(), histogram.sum));
                rows.push((count, labels.clone(), histogram.count() as f64));
            }
        }
        rows
    }
}

const ROW_NAMES: [[&str; 3]; 3] = [
    [
        "istio_request_duration_milliseconds_bucket",
        "istio_request_duration_milliseconds_sum",
        "istio_request_duration_milliseconds_count",
    ],
    ["istio_request_bytes_bucket", "istio_request_bytes_sum", "istio_request_bytes_count"],
    ["istio_response_bytes_bucket", "istio_response_bytes_sum", "istio_response_bytes_count"],
];

type Of = fn(&Set) -> &Histogram;

const HISTOGRAMS: [(&str, &str, Of); 3] = [
    ("istio_request_duration_milliseconds", "ms", |set| &set.duration_ms),
    ("istio_request_bytes", "By", |set| &set.request_bytes),
    ("istio_response_bytes", "By", |set| &set.response_bytes),
];

/// Istio's labels in Istio's order. What is not known is `unknown`; an empty label is left out, which
/// PromQL does not tell from an empty one.
fn labels(own: &Party, key: &Key) -> Vec<(&'static str, String)> {
    let peer = Party {
        service: Arc::clone(&key.peer_service),
        version: Arc::clone(&key.peer_version),
        ..Party::default()
    };
    let (reporter, source, destination) = match key.direction {
        Direction::Inbound => ("destination", &peer, own),
        Direction::Outbound => ("source", own, &peer),
    };
    let known = |text: &str, absent: &str| if text.is_empty() { absent.to_owned() } else { text.to_owned() };
    let (from, to) = (known(&source.service, UNKNOWN), known(&destination.service, UNKNOWN));
    let unknown = || UNKNOWN.to_owned();
    vec![
        ("reporter", reporter.to_owned()),
        ("source_workload", from.clone()),
        ("source_canonical_service", from.clone()),
        ("source_canonical_revision", known(&source.version, "latest")),
        ("source_workload_namespace", unknown()),
        ("source_principal", unknown()),
        ("source_app", from),
        ("source_version", known(&source.version, UNKNOWN)),
        ("source_cluster", unknown()),
        ("destination_workload", to.clone()),
        ("destination_workload_namespace", unknown()),
        ("destination_principal", unknown()),
        ("destination_app", to.clone()),
        ("destination_version", known(&destination.version, UNKNOWN)),
        ("destination_service", to.clone()),
        ("destination_canonical_service", to.clone()),
        ("destination_canonical_revision", known(&destination.version, "latest")),
        ("destination_service_name", to),
        ("destination_service_namespace", unknown()),
        ("destination_cluster", unknown()),
        ("request_protocol", key.protocol.name().to_owned()),
        ("response_code", key.status.to_string()),
        ("grpc_response_status", key.grpc_status.map(|code| code.to_string()).unwrap_or_default()),
        ("response_flags", key.flags.to_owned()),
        // Only the receiving side knows how it was reached.
        ("connection_security_policy", known(if reporter == "source" { "" } else { "none" }, UNKNOWN)),
    ]
}
