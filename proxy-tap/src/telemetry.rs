//! What the proxy saw, on its way to the collector: spans, access logs, Istio's metrics, the edge metric.
//!
//! In: a finished call, attempt or connection. Out: OTLP requests, encoded here and sent by [`export`].
//! Everything is kept in memory that has a bound; what does not fit is dropped and counted. Nothing here
//! waits, so a collector that is slow, away or absent costs requests nothing.
//!
//! A request is reported into the [`Shard`] of its thread under one lock: its counters are found by the
//! address of the other end, its span and its log record are written straight to the bytes of the next
//! export. Each second the shards are emptied, and what they counted is added to the [`Totals`].

mod buckets;
mod edges;
mod export;
mod flow;
mod istio;
mod log;
pub mod measure;
mod messages;
mod outbox;
mod parties;
mod series;
mod shard;
mod span;
mod spare;
mod text;
pub(crate) mod unary;
mod wire;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use weir_model::semconv::edge;
use weir_model::{Clock, UnixNanos, limits};

use crate::call::{Facts, Party, flag};
use crate::trace::Share;
use flow::{Bytes, Flows};
use istio::Key;
use series::Totals;
use shard::Shard;
use spare::Spare;
use wire::Fields;

pub(crate) use edges::EdgeKey;
pub(crate) use export::{Exporter, final_flush, run};
pub(crate) use flow::{Flow, OpenFlow};
pub(crate) use messages::Messages;
pub(crate) use parties::{Encoded, Peers, written};
pub(crate) use series::Family;

/// Records after which an export does not wait for the next second.
const EARLY: u64 = limits::PROXY_TELEMETRY_QUEUE as u64 / 4;

/// How much is observed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observe {
    /// Whether there is a collector to send anything to.
    pub(crate) exporting: bool,
    /// The traces that begin here and are sampled.
    pub(crate) sampled: Share,
    /// The traces whose calls are logged; what went wrong always is.
    pub(crate) logged: Share,
}

/// Where calls and attempts are reported.
#[derive(Debug)]
pub(crate) struct Tap {
    clock: Clock,
    observe: Observe,
    started_at: UnixNanos,
    resource: Vec<u8>,
    shards: [Mutex<Shard>; limits::PROXY_TELEMETRY_SHARDS],
    /// Locked after a shard or the flows, never before.
    totals: Mutex<Totals>,
    flows: Mutex<Flows>,
    peers: Peers,
    /// End of the last point of the edge metric, which is the start of the next.
    edges_since: Mutex<UnixNanos>,
    /// Spans and log records in the shards.
    waiting: AtomicU64,
    spare: Arc<Spare>,
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
    /// Observes everything.
    #[cfg(test)]
    pub(crate) fn new(identity: Arc<Party>, clock: Clock, exporting: bool) -> Arc<Self> {
        Self::with(identity, clock, Observe { exporting, sampled: Share::ALL, logged: Share::ALL })
    }

    pub(crate) fn with(identity: Arc<Party>, clock: Clock, observe: Observe) -> Arc<Self> {
        Arc::new(Self {
            started_at: clock.now(),
            clock,
            observe,
            resource: resource(&identity),
            shards: Default::default(),
            totals: Mutex::new(Totals::new(identity)),
            flows: Mutex::default(),
            peers: Peers::default(),
            edges_since: Mutex::default(),
            waiting: AtomicU64::new(0),
            spare: Arc::default(),
            outbox: outbox::Outbox::default(),
            dropped: Drops::default(),
            early: Notify::new(),
        })
    }

    /// The traces that begin here and are sampled.
    pub(crate) fn sampled(&self) -> Share {
        self.observe.sampled
    }

    /// The callers that are known.
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// A call is over.
    pub(crate) fn call(&self, facts: &Facts, took: Duration) {
        let mut shard = self.shard();
        let place = shard.place(facts, || lock(&self.totals).place(Key::of(facts)));
        shard.requests(place.index).record(facts, took);
        if place.folded {
            self.dropped.sets_full.fetch_add(1, Ordering::Relaxed);
        }
        if !self.observe.exporting {
            return;
        }
        let class = facts.class();
        let is_refused = facts.refusal.is_some();
        if is_refused || (facts.address.is_none() && class == edge::ERROR) {
            self.count_edge(&mut shard, EdgeKey::of(facts, class), took);
        }
        let spans = facts.trace.sampled();
        let logs = self.logs(facts, class);
        let wanted = u64::from(spans) + u64::from(logs);
        if wanted > 0 && self.admit(wanted) {
            shard.encode(facts);
            let Shard { spans: to_spans, logs: to_logs, attributes, .. } = &mut *shard;
            if spans {
                span::encode(&mut to_spans.bytes, facts, took, attributes);
                to_spans.count += 1;
            }
            if logs {
                log::encode(&mut to_logs.bytes, facts, took, attributes);
                to_logs.count += 1;
            }
        }
    }

    /// An attempt is over, or there was none.
    pub(crate) fn edge(&self, key: EdgeKey<'_>, took: Duration) {
        if self.observe.exporting {
            self.count_edge(&mut self.shard(), key, took);
        }
    }

    fn count_edge(&self, shard: &mut Shard, key: EdgeKey<'_>, took: Duration) {
        if shard.edges.record(key, took) {
            self.dropped.sets_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a call is logged: the rest of a trace that is, and whatever went wrong.
    fn logs(&self, facts: &Facts, class: &str) -> bool {
        class != edge::OK || facts.flags != flag::NONE || self.observe.logged.takes(&facts.trace.trace)
    }

    fn log_flow(&self, flow: &Flow, carried: Bytes, took: Duration) {
        if self.observe.exporting && self.admit(1) {
            let mut shard = self.shard();
            log::encode_flow(&mut shard.logs.bytes, flow, carried, took);
            shard.logs.count += 1;
        }
    }

    /// Takes room for so many records; where there is none they are dropped and counted.
    fn admit(&self, wanted: u64) -> bool {
        let before = self.waiting.fetch_add(wanted, Ordering::Relaxed);
        if before + wanted > limits::PROXY_TELEMETRY_QUEUE as u64 {
            self.waiting.fetch_sub(wanted, Ordering::Relaxed);
            self.dropped.queue_full.fetch_add(wanted, Ordering::Relaxed);
            return false;
        }
        if before < EARLY && before + wanted >= EARLY {
            self.early.notify_one();
        }
        true
    }

    /// Records that wait for an export, and exports that wait to be sent.
    pub(crate) fn waiting(&self) -> (u64, usize) {
        (self.waiting.load(Ordering::Relaxed), self.outbox.len())
    }

    /// The metrics for a Prometheus page.
    pub(crate) fn metric_families(&self) -> Vec<Family> {
        self.fold();
        lock(&self.totals).families()
    }

    /// Adds to the totals what shards and open connections have counted.
    fn fold(&self) {
        for shard in &self.shards {
            let counted = std::mem::take(&mut lock(shard).requests);
            if !counted.is_empty() {
                lock(&self.totals).merge(counted);
            }
        }
        lock(&self.flows).fold(&mut lock(&self.totals));
    }

    /// The shard of this thread.
    fn shard(&self) -> MutexGuard<'_, Shard> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
        }
        let own = OWN.with(|own| {
            if own.get() == usize::MAX {
                own.set(NEXT.fetch_add(1, Ordering::Relaxed) % limits::PROXY_TELEMETRY_SHARDS);
            }
            own.get()
        });
        lock(&self.shards[own % limits::PROXY_TELEMETRY_SHARDS])
    }
}

/// The attributes of the resource that everything of this proxy is of.
fn resource(identity: &Party) -> Vec<u8> {
    let mut resource = Vec::new();
    resource.text_attribute(1, "service.name", &identity.service);
    resource.text_attribute(1, "service.namespace", &identity.namespace);
    resource.text_attribute(1, "service.instance.id", &identity.instance);
    resource.text_attribute(1, "service.version", &identity.version);
    resource.text_attribute(1, "cloud.region", &identity.region);
    resource.text_attribute(1, "cloud.availability_zone", &identity.zone);
    resource
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
