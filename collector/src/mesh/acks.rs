//! The answers of proxies to hints, stored as rows of `hints`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::array::{Float64Array, Int16Array, Int64Array, TimestampMicrosecondArray};
use arrow::error::ArrowError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weir_model::hint::Ack;
use weir_model::{Clock, TenantId, UnixNanos, limits};
use weir_storage::{Table, WriteBatch, Writer};

use crate::counters::Counters;

/// An answer and who gave it.
#[derive(Debug)]
pub(crate) struct ProxyAck {
    pub(super) ack: Ack,
    pub(super) epoch: u64,
    pub(super) proxy: String,
    pub(super) proxy_service: String,
}

/// Stores answers, as many at once as are waiting.
#[derive(Debug)]
pub(crate) struct AckWriter {
    queue: mpsc::Receiver<ProxyAck>,
    writer: Writer,
    tenant: TenantId,
    clock: Clock,
    counters: Arc<Counters>,
}

impl AckWriter {
    pub(crate) fn new(
        queue: mpsc::Receiver<ProxyAck>,
        writer: Writer,
        tenant: &TenantId,
        clock: &Clock,
        counters: &Arc<Counters>,
    ) -> Self {
        let (tenant, clock, counters) = (tenant.clone(), clock.clone(), Arc::clone(counters));
        Self { queue, writer, tenant, clock, counters }
    }

    /// Runs until `stop`, and then until the queue is empty.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut acks = Vec::new();
        loop {
            let received = tokio::select! {
                received = self.queue.recv_many(&mut acks, limits::MESH_ACK_QUEUE) => received,
                () = stop.cancelled() => {
                    self.queue.close();
                    self.queue.recv_many(&mut acks, limits::MESH_ACK_QUEUE).await
                }
            };
            if received == 0 {
                return;
            }
            if let Err(error) = self.store(&acks).await {
                tracing::warn!(%error, count = acks.len(), "answers to hints were not stored");
                self.counters.acks_lost.fetch_add(acks.len() as u64, Ordering::Relaxed);
            }
            acks.clear();
        }
    }

    async fn store(&self, acks: &[ProxyAck]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let batch = rows(acks, self.clock.now())?;
        let batch = WriteBatch { tenant: self.tenant.clone(), parts: vec![(Table::Hints, batch)] };
        self.writer.write(batch).await?;
        Ok(())
    }
}

/// A row of `hints` per answer. Its time is that of arrival: proxies' clocks may differ.
fn rows(acks: &[ProxyAck], now: UnixNanos) -> Result<RecordBatch, ArrowError> {
    let (micros, nanos) = now.to_columns();
    let text = |pick: fn(&ProxyAck) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(acks.iter().map(pick)))
    };
    let long = |pick: fn(&ProxyAck) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(acks.iter().map(|ack| pick(ack) as i64)))
    };
    let share = |pick: fn(&ProxyAck) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(acks.iter().map(pick)))
    };
    let schema = Table::Hints.schema();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "time" => Arc::new(
            TimestampMicrosecondArray::from_iter_values(acks.iter().map(|_| micros)).with_timezone("UTC"),
        ),
        "time_nanos" => Arc::new(Int16Array::from_iter_values(acks.iter().map(|_| nanos))) as ArrayRef,
        "id" => text(|a| &a.ack.id),
        "revision" => long(|a| a.ack.revision),
        "epoch" => long(|a| a.epoch),
        "event" => text(|_| "ack"),
        "proxy" => text(|a| &a.proxy),
        "proxy_service" => text(|a| &a.proxy_service),
        "verdict" => text(|a| a.ack.verdict.name()),
        "reason" => text(|a| &a.ack.reason),
        "state" => text(|a| a.ack.state.name()),
        "success_rate_before" => share(|a| a.ack.success_rate_before),
        "success_rate_after" => share(|a| a.ack.success_rate_after),
        _ => new_null_array(field.data_type(), acks.len()),
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::hint::{BreakerState, Verdict};

    #[test]
    fn an_answer_becomes_a_row_of_the_table() {
        let ack = Ack {
            id: "h-1-2".into(),
            revision: 3,
            verdict: Verdict::Clamped,
            reason: "too few".into(),
            success_rate_before: 0.5,
            success_rate_after: 0.75,
            state: BreakerState::HalfOpen,
            at: UnixNanos(5),
        };
        let ack = ProxyAck { ack, epoch: 1, proxy: "web-1".into(), proxy_service: "web".into() };
        let batch = rows(&[ack], UnixNanos(1_700_000_000_123_456_789)).unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
        for part in ["h-1-2", "ack", "clamped", "half-open", "web-1", "2023-11-14T22:13:20.123456Z", "789"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
