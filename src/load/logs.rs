//! Log records of the invented shop, each written inside a span of its own id.

use fastrand::Rng;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use prost::Message;
use weir_model::{SpanId, TraceId, UnixNanos};

use super::batch::{Batch, Groups, RecordId};
use super::spans::status_of;
use super::wire::{put_bytes, put_fixed64};
use super::world::{UserAttribute, World};

/// Templates per operation.
const VARIANTS: usize = 4;

/// Makes batches of log records, the same ones for the same seed and times.
#[derive(Debug)]
pub(super) struct Logs {
    world: World,
    rng: Rng,
    user: UserAttribute,
    /// Service, and the record without times, ids and user.
    templates: Vec<(usize, Vec<u8>)>,
    groups: Groups,
    record: Vec<u8>,
}

impl Logs {
    pub(super) fn new(world: World, seed: u64, worker: usize) -> Self {
        let templates = (0..world.operations)
            .flat_map(|operation| (0..VARIANTS).map(move |variant| (operation, variant)))
            .map(|(operation, variant)| (world.service_of(operation), template(&world, operation, variant)))
            .collect();
        let groups = Groups::new(&world, worker);
        let (rng, user) = (super::rng(seed, worker), UserAttribute::new(&world));
        Self { world, rng, user, templates, groups, record: Vec::new() }
    }

    /// `count` records written just before `now`.
    pub(super) fn batch(&mut self, count: usize, now: UnixNanos) -> Batch {
        let ids = (0..count).map(|_| self.push(now)).collect();
        let body = self.groups.take(|scope, records| scope.extend_from_slice(records));
        Batch { body, records: count as u64, ids }
    }

    fn push(&mut self, now: UnixNanos) -> RecordId {
        let trace = TraceId(self.rng.u128(1..).to_be_bytes());
        let span = SpanId(self.rng.u64(1..).to_be_bytes());
        let (service, template) = &self.templates[self.rng.usize(..self.templates.len())];
        let time = now.0.saturating_sub(self.rng.u64(..1_000_000));

        let record = &mut self.record;
        record.clear();
        put_fixed64(record, 1, time);
        record.extend_from_slice(template);
        if self.world.attributes > 0 {
            put_bytes(record, 6, self.user.draw(&mut self.rng));
        }
        put_bytes(record, 9, &trace.0);
        put_bytes(record, 10, &span.0);
        put_fixed64(record, 11, now.0);
        put_bytes(self.groups.records_of(*service), 2, record);
        RecordId::Span(trace, span)
    }
}

/// Severity, body and attributes of a record.
fn template(world: &World, operation: usize, variant: usize) -> Vec<u8> {
    let code = status_of(operation, variant);
    let (method, route) = world.route(operation);
    let (severity, name) = match code {
        500.. => (SeverityNumber::Error, "ERROR"),
        400.. => (SeverityNumber::Warn, "WARN"),
        _ => (SeverityNumber::Info, "INFO"),
    };
    let line = format!("{method} {route} answered {code}");
    let record = LogRecord {
        severity_number: severity.into(),
        severity_text: name.to_owned(),
        body: Some(AnyValue { value: Some(any_value::Value::StringValue(line)) }),
        attributes: world.call_attributes(operation, code, variant),
        flags: 1,
        ..LogRecord::default()
    };
    record.encode_to_vec()
}
