//! One OTLP request as it goes on the wire, grouped by service, and the ids that the ledger notes.

use bytes::Bytes;
use weir_model::{SpanId, TraceId};

use super::wire::{put_bytes, put_message};
use super::world::{World, text};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use prost::Message;

/// An encoded export request.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The request message.
    pub(super) body: Bytes,
    /// Spans, log records or data points in it.
    pub(super) records: u64,
    /// One ledger line per record.
    pub(super) ids: Vec<RecordId>,
}

/// What names a record in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RecordId {
    /// A span, or a log record by the span it was written in.
    Span(TraceId, SpanId),
    /// A sample: its series within this generator, and its time in nanoseconds.
    Sample { series: u64, time: u64 },
}

/// Collects encoded records by service and wraps them in resource and scope.
#[derive(Debug)]
pub(super) struct Groups {
    /// Per service: the encoded `Resource…` head, and the records so far.
    services: Vec<(Vec<u8>, Vec<u8>)>,
    /// The encoded scope field.
    scope: Vec<u8>,
    scratch: Vec<u8>,
}

impl Groups {
    /// Groups for the services of `world` as worker `worker` plays them.
    pub(super) fn new(world: &World, worker: usize) -> Self {
        let head = |index| {
            let mut head = Vec::new();
            put_message(&mut head, 1, &world.resource(index, worker));
            (head, Vec::new())
        };
        let scope = InstrumentationScope {
            name: "weir-load".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            attributes: vec![text("weir.load.worker", &worker.to_string())],
            dropped_attributes_count: 0,
        };
        let mut encoded = Vec::new();
        put_bytes(&mut encoded, 1, &scope.encode_to_vec());
        Self { services: (0..world.services).map(head).collect(), scope: encoded, scratch: Vec::new() }
    }

    /// Where the records of `service` are appended, as fields of tag 2.
    pub(super) fn records_of(&mut self, service: usize) -> &mut Vec<u8> {
        &mut self.services[service].1
    }

    /// The whole request; the groups are empty afterwards. `wrap` puts the records of one service into
    /// what the scope holds (metrics have two more levels, the others none).
    pub(super) fn take(&mut self, wrap: impl Fn(&mut Vec<u8>, &[u8])) -> Bytes {
        let mut request =
            Vec::with_capacity(self.services.iter().map(|(_, records)| records.len() + 512).sum());
        let mut resource = Vec::new();
        for (head, records) in &mut self.services {
            if records.is_empty() {
                continue;
            }
            self.scratch.clear();
            self.scratch.extend_from_slice(&self.scope);
            wrap(&mut self.scratch, records);
            records.clear();
            resource.clear();
            resource.extend_from_slice(head);
            put_bytes(&mut resource, 2, &self.scratch);
            put_bytes(&mut request, 1, &resource);
        }
        request.into()
    }
}
