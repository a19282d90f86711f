//! Spans: traces of one to fifteen calls over the services of the invented shop.
//!
//! What does not change between two spans of an operation is encoded once; a span is then two ids, a
//! parent, two times and a user written around it.

use fastrand::Rng;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind, status::StatusCode};
use prost::Message;
use weir_model::{SpanId, TraceId, UnixNanos};

use super::batch::{Batch, Groups, RecordId};
use super::wire::{put_bytes, put_fixed64};
use super::world::{UserAttribute, World};

/// Templates per operation: they differ in status, path, agent and client.
const VARIANTS: usize = 4;
/// Most spans in a trace.
const TRACE_SPANS: usize = 15;

/// What the spans of one operation share, encoded.
#[derive(Debug)]
struct Template {
    service: usize,
    /// Name and kind: what precedes the times.
    head: Vec<u8>,
    /// Attributes and status: what follows them.
    tail: Vec<u8>,
}

/// Makes batches of spans, the same ones for the same seed and times.
#[derive(Debug)]
pub(super) struct Spans {
    world: World,
    rng: Rng,
    user: UserAttribute,
    templates: Vec<Template>,
    groups: Groups,
    span: Vec<u8>,
    trace: Trace,
}

/// The trace that is being written.
#[derive(Debug, Default)]
struct Trace {
    id: TraceId,
    left: usize,
    spans: Vec<SpanId>,
}

impl Spans {
    pub(super) fn new(world: World, seed: u64, worker: usize) -> Self {
        let templates = (0..world.operations)
            .flat_map(|operation| (0..VARIANTS).map(move |variant| (operation, variant)))
            .map(|(operation, variant)| Template::new(&world, operation, variant))
            .collect();
        Self {
            rng: super::rng(seed, worker),
            user: UserAttribute::new(&world),
            templates,
            groups: Groups::new(&world, worker),
            world,
            span: Vec::new(),
            trace: Trace::default(),
        }
    }

    /// `count` spans that ended just before `now`.
    pub(super) fn batch(&mut self, count: usize, now: UnixNanos) -> Batch {
        let ids = (0..count).map(|_| self.push(now)).collect();
        let body = self.groups.take(|scope, spans| scope.extend_from_slice(spans));
        Batch { body, records: count as u64, ids }
    }

    fn push(&mut self, now: UnixNanos) -> RecordId {
        let id = SpanId(self.rng.u64(1..).to_be_bytes());
        let parent = self.trace.next(&mut self.rng, id);
        let template = &self.templates[self.rng.usize(..self.templates.len())];
        let duration = latency_nanos(&mut self.rng);
        let end = now.0.saturating_sub(self.rng.u64(..1_000_000));

        let span = &mut self.span;
        span.clear();
        put_bytes(span, 1, &self.trace.id.0);
        put_bytes(span, 2, &id.0);
        if let Some(parent) = parent {
            put_bytes(span, 4, &parent.0);
        }
        span.extend_from_slice(&template.head);
        put_fixed64(span, 7, end.saturating_sub(duration));
        put_fixed64(span, 8, end);
        if self.world.attributes > 0 {
            put_bytes(span, 9, self.user.draw(&mut self.rng));
        }
        span.extend_from_slice(&template.tail);
        put_bytes(self.groups.records_of(template.service), 2, span);
        RecordId::Span(self.trace.id, id)
    }
}

impl Trace {
    /// Adds span `id`, to a new trace where the last one is full; answers with its parent.
    fn next(&mut self, rng: &mut Rng, id: SpanId) -> Option<SpanId> {
        if self.left == 0 {
            self.id = TraceId((rng.u128(1..)).to_be_bytes());
            self.left = rng.usize(1..=TRACE_SPANS);
            self.spans.clear();
        }
        let parent = (!self.spans.is_empty()).then(|| self.spans[rng.usize(..self.spans.len())]);
        self.left -= 1;
        self.spans.push(id);
        parent
    }
}

impl Template {
    fn new(world: &World, operation: usize, variant: usize) -> Self {
        let (method, route) = world.route(operation);
        let code = status_of(operation, variant);
        let kind = if variant.is_multiple_of(2) { SpanKind::Server } else { SpanKind::Client };
        let head = Span { name: format!("{method} {route}"), kind: kind.into(), ..Span::default() };
        let status = (code >= 500)
            .then(|| Status { message: format!("upstream answered {code}"), code: StatusCode::Error.into() });
        let attributes = world.call_attributes(operation, code, variant);
        let tail = Span { attributes, status, flags: 1, ..Span::default() };
        Self { service: world.service_of(operation), head: head.encode_to_vec(), tail: tail.encode_to_vec() }
    }
}

/// The HTTP status of a template: one in fifty failed, one in twenty was the caller's mistake.
pub(super) fn status_of(operation: usize, variant: usize) -> i64 {
    match operation * VARIANTS + variant {
        n if n % 50 == 13 => 503,
        n if n % 20 == 7 => 404,
        n if n % 7 == 3 => 201,
        _ => 200,
    }
}

/// How long a call took: most a few milliseconds, some hundreds.
pub(super) fn latency_nanos(rng: &mut Rng) -> u64 {
    let tail = 1.0 / (1.0 - rng.f64() * 0.999);
    (2_000_000.0 * (0.5 + rng.f64()) * tail.powf(0.8)) as u64
}
