//! Sends telemetry: every second on the second, metrics since the start every five, and early when much
//! has come together. One gRPC connection, shared with the mesh stream; one request at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use weir_model::UnixNanos;

use super::edges::Edges;
use super::outbox::{Batch, Signal};
use super::{Tap, lock, unary, wire};
use crate::chance::Chance;

const SECOND_NS: u64 = 1_000_000_000;
/// Seconds between exports of the cumulative metrics.
const CUMULATIVE_EVERY: u64 = 5;
/// How long one export may take.
const DEADLINE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the last export may take when the proxy stops.
const FLUSH: Duration = Duration::from_secs(2);

/// What a collector connection needs to send telemetry.
#[derive(Debug, Clone)]
pub(crate) struct Exporter {
    pub(crate) tap: Arc<Tap>,
    pub(crate) channel: Channel,
    pub(crate) chance: Arc<Chance>,
}

/// Collects and sends until `stop`.
pub(crate) async fn run(exporter: Exporter, stop: CancellationToken) {
    let tap = Arc::clone(&exporter.tap);
    let collecting = async {
        loop {
            let now = tap.clock.now().0;
            let to_second = Duration::from_nanos(SECOND_NS - now % SECOND_NS);
            tokio::select! {
                () = sleep(to_second) => {
                    let second = tap.clock.now().0 / SECOND_NS;
                    tap.collect(UnixNanos(second * SECOND_NS), second.is_multiple_of(CUMULATIVE_EVERY));
                }
                () = tap.early.notified() => tap.collect_records(),
            }
        }
    };
    tokio::select! {
        () = collecting => {}
        () = send_all(&exporter, &stop) => {}
    }
}

/// Sends what is left, for as long as [`FLUSH`] allows.
pub(crate) async fn final_flush(exporter: Exporter) {
    let tap = &exporter.tap;
    tap.collect(tap.clock.now(), true);
    let flush = async {
        while let Some(batch) = tap.outbox.try_next() {
            let records = batch.records;
            if exporter.send(batch).await.is_err() {
                tap.dropped.collector_slow.fetch_add(records, Ordering::Relaxed);
                return;
            }
        }
    };
    if timeout(FLUSH, flush).await.is_err() {
        tracing::warn!("the collector did not take the last telemetry within 2 s");
    }
}

/// Sends until `stop`. A batch whose export that interrupts waits for the last flush.
async fn send_all(exporter: &Exporter, stop: &CancellationToken) {
    let tap = &exporter.tap;
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(batch) = stop.run_until_cancelled(tap.outbox.next()).await else { return };
        let records = batch.records;
        let Some(sent) = stop.run_until_cancelled(exporter.send(batch.clone())).await else {
            let given_up = tap.outbox.put_back(batch);
            tap.dropped.collector_slow.fetch_add(given_up, Ordering::Relaxed);
            return;
        };
        match sent {
            Ok(()) => pause = FIRST_PAUSE,
            Err(status) if may_repeat(status.code()) => {
                if pause == FIRST_PAUSE {
                    tracing::warn!(%status, "the collector does not take telemetry; trying again");
                }
                let given_up = tap.outbox.put_back(batch);
                tap.dropped.collector_slow.fetch_add(given_up, Ordering::Relaxed);
                let pausing = sleep(pause.mul_f64(0.5 + exporter.chance.f64() / 2.0));
                if stop.run_until_cancelled(pausing).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(status) => {
                tracing::warn!(%status, records, "the collector refused telemetry");
                tap.dropped.collector_refused.fetch_add(records, Ordering::Relaxed);
            }
        }
    }
}

/// The codes that OTLP calls retryable, and those of a connection that is gone.
fn may_repeat(code: Code) -> bool {
    !matches!(
        code,
        Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated
    )
}

impl Exporter {
    async fn send(&self, batch: Batch) -> Result<(), Status> {
        let call = unary::send(self.channel.clone(), batch);
        let answer = timeout(DEADLINE, call).await;
        answer.map_err(|_| Status::deadline_exceeded("no answer within 5 s"))?
    }
}

impl Tap {
    /// Moves what has come together to the outbox, as of `end`; with the metrics since the start where
    /// `cumulative`.
    pub(super) fn collect(&self, end: UnixNanos, cumulative: bool) {
        if let Some((body, points)) = self.take_edges(end) {
            self.enqueue(Signal::Metrics, vec![body], points);
        }
        if cumulative {
            self.fold();
            let (body, points) = lock(&self.totals).encode(self.started_at, end);
            self.enqueue(Signal::Metrics, vec![body], points);
        }
        self.collect_records();
    }

    /// What the shards counted of edges since the last time, as a `Metric`.
    pub(super) fn take_edges(&self, end: UnixNanos) -> Option<(Vec<u8>, u64)> {
        let mut all = Edges::default();
        for shard in &self.shards {
            let counted = std::mem::take(&mut lock(shard).edges);
            if all.is_empty() {
                all = counted;
            } else {
                self.dropped.sets_full.fetch_add(all.merge(counted), Ordering::Relaxed);
            }
        }
        let mut since = lock(&self.edges_since);
        let begun = std::mem::replace(&mut *since, end);
        drop(since);
        let start = if begun.0 == 0 || begun >= end { end - Duration::from_secs(1) } else { begun };
        all.encode(start, end)
    }

    fn collect_records(&self) {
        let (mut spans, mut logs) = (vec![], vec![]);
        let (mut span_count, mut log_count) = (0, 0);
        for shard in &self.shards {
            let (of_spans, of_logs) = {
                let mut shard = lock(shard);
                (shard.spans.take(&self.spare), shard.logs.take(&self.spare))
            };
            span_count += of_spans.count;
            log_count += of_logs.count;
            spans.push(of_spans.bytes);
            logs.push(of_logs.bytes);
        }
        self.waiting.fetch_sub(span_count + log_count, Ordering::Relaxed);
        self.enqueue(Signal::Traces, spans, span_count);
        self.enqueue(Signal::Logs, logs, log_count);
    }

    fn enqueue(&self, signal: Signal, mut body: Vec<Vec<u8>>, records: u64) {
        if records == 0 {
            return;
        }
        body.retain(|part| !part.is_empty());
        let beginning = wire::beginning(&self.resource, body.iter().map(Vec::len).sum());
        let body = body.into_iter().map(|part| self.spare.lend(part));
        let parts = std::iter::once(Bytes::from(beginning)).chain(body).collect();
        let given_up = self.outbox.push(Batch { signal, parts, records });
        self.dropped.collector_slow.fetch_add(given_up, Ordering::Relaxed);
    }
}
