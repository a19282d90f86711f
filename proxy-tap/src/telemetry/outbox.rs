//! Export requests on their way out: in order, few, the oldest given up first.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::Notify;
use weir_model::limits;

use super::lock;

/// An OTLP signal and the gRPC method that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

/// One encoded export request.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) signal: Signal,
    /// A gRPC message, length and all, in parts.
    pub(super) parts: Vec<Bytes>,
    /// Spans, records or points in it.
    pub(super) records: u64,
}

impl Batch {
    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    batches: Mutex<VecDeque<Batch>>,
    filled: Notify,
}

impl Outbox {
    /// Adds a batch; returns how many records were given up for it.
    pub(super) fn push(&self, batch: Batch) -> u64 {
        let mut batches = lock(&self.batches);
        let given_up = if batches.len() >= limits::PROXY_OUTBOX { batches.pop_front() } else { None };
        batches.push_back(batch);
        drop(batches);
        self.filled.notify_one();
        given_up.map_or(0, |batch| batch.records)
    }

    /// Puts a batch that could not be sent back to the front; returns how many records were given up.
    pub(super) fn put_back(&self, batch: Batch) -> u64 {
        let mut batches = lock(&self.batches);
        if batches.len() >= limits::PROXY_OUTBOX {
            return batch.records;
        }
        batches.push_front(batch);
        0
    }

    /// The oldest batch, when there is one.
    pub(super) async fn next(&self) -> Batch {
        loop {
            if let Some(batch) = self.try_next() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.batches).len()
    }

    pub(super) fn try_next(&self) -> Option<Batch> {
        lock(&self.batches).pop_front()
    }
}
