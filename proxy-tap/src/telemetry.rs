//! What the proxy saw, on its way to the collector: spans, access logs, Istio's metrics, the edge metric.
//!
//! In: a finished call or attempt. Out: OTLP requests, encoded here and sent by [`export`]. Everything is
//! kept in memory that has a bound; what does not fit is dropped and counted. Nothing here waits, so a
//! collector that is slow, away or absent costs requests nothing.

mod edges;
mod export;
mod log;
mod metrics;
mod outbox;
mod span;
pub(crate) mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use weir_model::semconv::edge;
use weir_model::{Clock, UnixNanos, limits};

use crate::call::{Facts, Party};
use wire::Fields;

pub(crate) use edges::EdgeKey;
pub(crate) use export::{Exporter, final_flush, run};
pub(crate) use metrics::Row;

/// Records after which an export does not wait for the next second.
const EARLY: u64 = 512;

/// Spans and log records, encoded, waiting for the next export.
#[derive(Debug, Default)]
struct Records {
    spans: Vec<u8>,
    span_count: u64,
    logs: Vec<u8>,
    log_count: u64,
}

/// Where calls and attempts are reported.
#[derive(Debug)]
pub(crate) struct Tap {
    identity: Arc<Party>,
    clock: Clock,
    /// Whether there is a collector to send anything to.
    exporting: bool,
    started_at: UnixNanos,
    resource: Vec<u8>,
    records: Mutex<Records>,
    edges: Mutex<edges::Edges>,
    sets: Mutex<metrics::Sets>,
    outbox: outbox::Outbox,
    pub(crate) dropped: Drops,
    /// Enough records have come together for an early export.
    early: Notify,
}

/// Telemetry that was lost, by reason.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    /// Spans and log records beyond the queue.
    pub(crate) queue_full: AtomicU64,
    /// Records and points that the collector did not take in time.
    pub(crate) collector_slow: AtomicU64,
    /// Records and points that the collector refused for good.
    pub(crate) collector_refused: AtomicU64,
    /// Calls folded into the overflow set of a metric.
    pub(crate) sets_full: AtomicU64,
}

impl Drops {
    /// The counts with their reasons.
    pub(crate) fn list(&self) -> [(&'static str, u64); 4] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("queue_full", get(&self.queue_full)),
            ("collector_slow", get(&self.collector_slow)),
            ("collector_refused", get(&self.collector_refused)),
            ("sets_full", get(&self.sets_full)),
        ]
    }
}

impl Tap {
    pub(crate) fn new(identity: Arc<Party>, clock: Clock, exporting: bool) -> Arc<Self> {
        let mut resource = Vec::new();
        resource.text_attribute(1, "service.name", &identity.service);
        resource.text_attribute(1, "service.instance.id", &identity.instance);
        resource.text_attribute(1, "service.version", &identity.version);
        Arc::new(Self {
            identity,
            started_at: clock.now(),
            clock,
            exporting,
            resource,
            records: Mutex::default(),
            edges: Mutex::default(),
            sets: Mutex::default(),
            outbox: outbox::Outbox::default(),
            dropped: Drops::default(),
            early: Notify::new(),
        })
    }

    /// A call is over.
    pub(crate) fn call(&self, facts: &Facts, took: Duration) {
        if lock(&self.sets).record(&self.identity, facts, took) {
            self.dropped.sets_full.fetch_add(1, Ordering::Relaxed);
        }
        if !self.exporting {
            return;
        }
        if facts.refusal.is_some() {
            self.edge(EdgeKey::refused(facts), took);
        } else if facts.address.is_none() && facts.class() == edge::ERROR {
            self.edge(EdgeKey::unsent(facts), took);
        }
        let mut records = lock(&self.records);
        let room = limits::PROXY_TELEMETRY_QUEUE as u64;
        let wanted = 1 + u64::from(facts.trace.sampled());
        if records.span_count + records.log_count + wanted > room {
            drop(records);
            self.dropped.queue_full.fetch_add(wanted, Ordering::Relaxed);
            return;
        }
        if facts.trace.sampled() {
            span::encode(&mut records.spans, facts, took);
            records.span_count += 1;
        }
        log::encode(&mut records.logs, facts, took);
        records.log_count += 1;
        let waiting = records.span_count + records.log_count;
        drop(records);
        if waiting >= EARLY {
            self.early.notify_one();
        }
    }

    /// An attempt is over, or there was none.
    pub(crate) fn edge(&self, key: EdgeKey, took: Duration) {
        if self.exporting && lock(&self.edges).record(key, took) {
            self.dropped.sets_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that wait for an export, and exports that wait to be sent.
    pub(crate) fn waiting(&self) -> (u64, usize) {
        let records = lock(&self.records);
        (records.span_count + records.log_count, self.outbox.len())
    }

    /// The metrics as rows of a Prometheus page.
    pub(crate) fn metric_rows(&self) -> Vec<Row> {
        lock(&self.sets).rows(&self.identity)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
